//! No frame reaches a driver with an offload that the driver did not acknowledge.
#![expect(clippy::unwrap_used, reason = "a test")]

use core::convert::Infallible;

use net_filter::{MacAddr, ReceiveFilter};
use virtio_net_core::backend::{FrameSource, Placed, RxRoom, Supply};
use virtio_net_core::rx::{RxFilter, RxFormat, RxPump};
use virtio_net_core::{
    DATA_VALID, Features, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader, rx_format,
};
use virtio_ring::{DriverRing, Element, GuestAddr, HeapMemory, QueueConfig, QueueState, SplitDevice, SplitDriver};

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// Offers one frame with this header.
struct One<'f>(NetHeader, &'f [u8], Option<Placed>);

impl FrameSource for One<'_> {
    type Error = Infallible;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        self.2 = Some(room.put(&self.0, self.1));
        Ok(Supply::Dry)
    }
}

/// What becomes of a frame with this header.
fn place(acked: Features, header: NetHeader) -> Placed {
    let mut frame = [0; 200];
    frame[..6].copy_from_slice(&OWN.0);
    place_frame(rx_format(acked), header, &frame)
}

/// What becomes of this frame.
fn place_frame(format: RxFormat, header: NetHeader, frame: &[u8]) -> Placed {
    let mem = HeapMemory::zeroed(GuestAddr(0), 0x1_0000).unwrap();
    let [desc, driver, device] = [0x1000, 0x2000, 0x3000].map(GuestAddr);
    let queue = QueueConfig { size: 1, desc, driver, device, ..QueueConfig::default() };
    let mut guest = SplitDriver::new(&mem, &queue).unwrap();
    guest.add(&[Element { addr: GuestAddr(0x8000), len: 2048, writable: true }]).unwrap();
    assert!(guest.flush().is_needed());
    let mut ring = SplitDevice::new(&mem, &queue, QueueState::default()).unwrap();
    let mut one = One(header, frame, None);
    RxPump::new(mem, 1, format).pump(&mut ring, &mut one, &mut ReceiveFilter::for_station(OWN), 1).unwrap();
    let placed = one.2.unwrap();
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
        // Completed by the device, or complete, if the driver is not to be told.
        (NEEDS_CSUM, 0, Features::empty()),
        (DATA_VALID, 0, Features::empty()),
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

#[test]
fn n42_a_large_frame_has_a_size_and_lacks_its_checksum() {
    let acked = Features::VERSION_1 | Features::GUEST_CSUM | Features::GUEST_TSO4 | Features::GUEST_ECN;
    let good = NetHeader { flags: NEEDS_CSUM, gso_type: GSO_TCPV4, gso_size: 1000, csum_start: 34, ..NetHeader::NONE };
    assert_eq!(place(acked, good), Placed::Delivered);
    for bad in [
        NetHeader { gso_size: 0, ..good },
        NetHeader { flags: 0, ..good },
        NetHeader { flags: DATA_VALID, ..good },
        NetHeader { gso_type: GSO_ECN, ..good },
    ] {
        assert_eq!(place(acked, bad), Placed::Dropped, "{bad:?}");
    }
}

#[test]
fn n4_no_frame_beyond_the_mtu_unless_it_is_to_be_segmented() {
    let tagged = [[0x81, 0, 0, 5], [0x88, 0xa8, 0, 5]];
    for (mtu, tags, len, wanted) in [
        (None, 0, 186 + 15, Placed::Delivered),
        (Some(186), 0, 200, Placed::Delivered),
        (Some(185), 0, 200, Placed::Dropped),
        (Some(182), 1, 200, Placed::Delivered),
        (Some(181), 1, 200, Placed::Dropped),
        (Some(178), 2, 200, Placed::Delivered),
        (Some(177), 2, 200, Placed::Dropped),
    ] {
        let mut frame = vec![0; len];
        frame[..6].copy_from_slice(&OWN.0);
        for (i, tag) in tagged.iter().take(tags).rev().enumerate() {
            frame[12 + 4 * i..16 + 4 * i].copy_from_slice(tag);
        }
        let format = RxFormat { mtu, ..rx_format(Features::VERSION_1) };
        assert_eq!(place_frame(format, NetHeader::NONE, &frame), wanted, "MTU {mtu:?}, {tags} tags, {len} bytes");
    }
}
