//! No frame reaches a driver with an offload that the driver did not acknowledge.
#![expect(clippy::unwrap_used, reason = "a test")]

use core::convert::Infallible;

use net_filter::{MacAddr, MacFilter};
use virtio_net_core::backend::{FrameSource, Placed, RxRoom, Supply};
use virtio_net_core::rx::RxPump;
use virtio_net_core::{
    DATA_VALID, Features, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader, rx_format,
};
use virtio_ring::{DriverRing, Element, GuestAddr, HeapMemory, QueueConfig, QueueState, SplitDevice, SplitDriver};

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// Offers one frame with this header.
struct One(NetHeader, Option<Placed>);

impl FrameSource for One {
    type Error = Infallible;

    fn receive(&mut self, room: &mut RxRoom<'_>) -> Result<Supply, Infallible> {
        let mut frame = [0; 200];
        for (to, from) in frame.iter_mut().zip(OWN.0) {
            *to = from;
        }
        self.1 = Some(room.put(&self.0, &frame));
        Ok(Supply::Dry)
    }
}

/// What becomes of a frame with this header.
fn place(acked: Features, header: NetHeader) -> Placed {
    let mem = HeapMemory::zeroed(GuestAddr(0), 0x1_0000).unwrap();
    let [desc, driver, device] = [0x1000, 0x2000, 0x3000].map(GuestAddr);
    let queue = QueueConfig { size: 1, desc, driver, device, ..QueueConfig::default() };
    let mut guest = SplitDriver::new(&mem, &queue).unwrap();
    guest.add(&[Element { addr: GuestAddr(0x8000), len: 2048, writable: true }]).unwrap();
    assert!(guest.flush().is_needed());
    let mut ring = SplitDevice::new(&mem, &queue, QueueState::default()).unwrap();
    let mut one = One(header, None);
    RxPump::new(mem, 1, rx_format(acked)).pump(&mut ring, &mut one, &mut MacFilter::new(OWN), 1).unwrap();
    let placed = one.1.unwrap();
    assert_eq!(guest.poll_used().unwrap().is_some(), placed == Placed::Delivered, "a rejected frame uses no buffer");
    placed
}

#[test]
fn n27_n28_n29_n30_n31_n34_n41_only_acknowledged_offloads_are_shown() {
    let bits = [
        Features::GUEST_CSUM,
        Features::GUEST_TSO4,
        Features::GUEST_TSO6,
        Features::GUEST_ECN,
        Features::GUEST_UFO,
        Features::GUEST_USO4,
        Features::GUEST_USO6,
    ];
    let uso = Features::GUEST_USO4 | Features::GUEST_USO6;
    // flags, type, what it needs
    let kinds = [
        (0, 0, Features::empty()),
        (NEEDS_CSUM, 0, Features::GUEST_CSUM),
        (DATA_VALID, 0, Features::GUEST_CSUM),
        (NEEDS_CSUM, GSO_TCPV4, Features::GUEST_CSUM | Features::GUEST_TSO4),
        (NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, Features::GUEST_CSUM | Features::GUEST_TSO4 | Features::GUEST_ECN),
        (NEEDS_CSUM, GSO_TCPV6, Features::GUEST_CSUM | Features::GUEST_TSO6),
        (NEEDS_CSUM, GSO_TCPV6 | GSO_ECN, Features::GUEST_CSUM | Features::GUEST_TSO6 | Features::GUEST_ECN),
        (NEEDS_CSUM, GSO_UDP, Features::GUEST_CSUM | Features::GUEST_UFO),
        (NEEDS_CSUM, GSO_UDP_L4, Features::GUEST_CSUM | uso),
    ];
    let mut delivered = 0_u32;
    for n in 0..1_u32 << bits.len() {
        let subset: Features = bits.iter().enumerate().filter(|(i, _)| n >> i & 1 == 1).map(|(_, f)| *f).collect();
        let acked = subset | Features::VERSION_1;
        for (flags, gso_type, needs) in kinds {
            let header = NetHeader { flags, gso_type, hdr_len: 54, gso_size: 64, csum_start: 34, csum_offset: 16 };
            let expected = if acked.contains(needs) { Placed::Delivered } else { Placed::Dropped };
            assert_eq!(place(acked, header), expected, "flags {flags}, type {gso_type:#x} with {acked}");
            delivered += u32::from(expected == Placed::Delivered);
        }
    }
    assert!(delivered > 128);
}

#[test]
fn n32_n33_n43_n46_n49_what_is_not_implemented_is_never_shown() {
    let acked = Features::SUPPORTED;
    for flag in [4, 8, 16, 32, 64, 128] {
        let header = NetHeader { flags: flag, ..NetHeader::NONE };
        assert_eq!(place(acked, header), Placed::Dropped, "flag {flag}");
    }
    for gso_type in [2, 6, 7, 8, 0x20, 0x21, 0x40, 0x44, 0x60] {
        let header =
            NetHeader { flags: NEEDS_CSUM, gso_type, hdr_len: 54, gso_size: 64, csum_start: 34, csum_offset: 16 };
        assert_eq!(place(acked, header), Placed::Dropped, "type {gso_type:#x}");
    }
}
