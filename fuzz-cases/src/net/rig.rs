//! A ring of either format in ordinary memory, with a driver that keeps to the rules: what is hostile here is in the buffers.

use net_filter::MacAddr;
use virtio_net_core::{Features, NetConfig, NetDevice};
use virtio_ring::{Access, AnyDevice, AnyDriver, DriverRing, Element, Format, GuestAddr, GuestMemory, HeapMemory};

use crate::input::Input;

type Area = <HeapMemory as GuestMemory>::Area;

pub(crate) const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
/// Where buffers are.
pub(crate) const BUFFERS: u64 = 0x8000;
/// Small, as every run clears it.
pub(crate) const MEMORY: usize = 0x6_0000;

pub(crate) struct Rig {
    pub(crate) mem: HeapMemory,
    pub(crate) driver: AnyDriver<Area>,
    pub(crate) device: AnyDevice<Area>,
    next: u64,
}

impl Rig {
    pub(crate) fn new(input: &mut Input<'_>) -> Self {
        let format = if input.u8() & 1 == 0 { Format::Split } else { Format::Packed };
        let mem = HeapMemory::zeroed(GuestAddr(0), MEMORY).unwrap();
        let (config, end) = format.layout(GuestAddr(0x1000), 64);
        assert!(end.0 < BUFFERS);
        let driver = AnyDriver::new(&mem, format, &config).unwrap();
        let device = AnyDevice::new(&mem, format, &config, format.start()).unwrap();
        Self { mem, driver, device, next: BUFFERS }
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.mem.translate(GuestAddr(at), bytes.len(), Access::Write).unwrap().write(bytes);
        }
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if len > 0 {
            self.mem.translate(GuestAddr(at), len, Access::Read).unwrap().read(&mut bytes);
        }
        bytes
    }

    /// Every buffer so far.
    pub(crate) fn buffers(&self) -> Vec<u8> {
        self.read(BUFFERS, (self.next - BUFFERS) as usize)
    }

    /// A place of its own for so many bytes, with room around it.
    pub(crate) fn place(&mut self, len: usize) -> u64 {
        let at = self.next;
        self.next += (len as u64 + 64).next_multiple_of(64);
        assert!(self.next < MEMORY as u64, "the script is bounded");
        at
    }

    /// Cuts a run of bytes into up to four elements, as the script has it.
    pub(crate) fn cut(input: &mut Input<'_>, at: u64, len: usize, writable: bool) -> Vec<Element> {
        let (mut elements, mut done) = (Vec::new(), 0);
        for _ in 0..input.below(4) {
            let n = input.below((len - done).min(200) + 1);
            elements.push(Element { addr: GuestAddr(at + done as u64), len: n as u32, writable });
            done += n;
        }
        elements.push(Element { addr: GuestAddr(at + done as u64), len: (len - done) as u32, writable });
        elements
    }

    /// Makes a chain available; false if the ring is full.
    pub(crate) fn offer(&mut self, elements: &[Element]) -> Option<u16> {
        self.driver.add(elements).ok().map(|handle| handle.0)
    }
}

/// A device with as many of these features as go together.
pub(crate) fn device(input: &mut Input<'_>, pairs: u16) -> NetDevice {
    let config = NetConfig { pairs, mtu: (input.u8() & 1 == 1).then_some(1500), ..NetConfig::new(OWN) };
    let mut device = NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap();
    // Mostly everything: what nobody acknowledged is soon refused.
    let fewer = if input.u8() & 3 == 0 { input.u64() } else { u64::MAX };
    let wanted = Features::from_bits_retain(u128::from(fewer) | 1 << 64);
    let mut acked = (wanted & device.offer().features) | Features::VERSION_1;
    while let Err(virtio_net_core::features::FeatureError::Dependency { feature, .. }) = device.acknowledge(acked) {
        acked.remove(feature);
    }
    device
}

/// A frame: a plausible beginning, changed as the script has it.
pub(crate) fn frame(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.u8();
    let len = [14, 60, 128, 129, 1514, 3000, 13, 200][usize::from(kind & 7)] + usize::from(kind >> 5);
    let mut frame = vec![0; len];
    for (i, byte) in frame.iter_mut().enumerate() {
        *byte = (i as u8).wrapping_mul(31);
    }
    let mut head = [&OWN.0[..], &OWN.0].concat();
    match kind >> 3 & 3 {
        0 => head.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 5, 10, 0, 0, 1]),
        1 => head.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 17, 64]),
        2 => head.extend([0x81, 0, 0, 7, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 5]),
        _ => head.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]),
    }
    frame.iter_mut().zip(&head).for_each(|(to, from)| *to = *from);
    for _ in 0..input.below(6) {
        let at = input.below(160);
        let byte = input.u8();
        if let Some(place) = frame.get_mut(at) {
            *place = byte;
        }
    }
    frame
}
