//! Both sides of virtio-ring, either format.

use std::error::Error;
use std::hint::black_box;

use virtio_ring::{
    ChainFault, ChainSink, Chains, DeviceRing, DriverRing, Element, Format, GuestAddr, PackedDevice, PackedDriver,
    QueueConfig, QueueState, SplitDevice, SplitDriver,
};

use crate::lab::{Buffer, DeviceSide, DriverSide};
use crate::{Area, Arena, BUFFER_LEN, Memory};

/// Sums elements up: every word of the descriptor is used, nothing is kept.
#[derive(Debug, Default)]
pub struct Sum(pub u64);

impl ChainSink for Sum {
    #[inline]
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        self.0 = self.0.wrapping_add(e.addr.0 ^ u64::from(e.len));
        Ok(())
    }
}

/// Shows every element to somebody.
struct Show<F>(F);

impl<F: FnMut(Buffer)> ChainSink for Show<F> {
    #[inline]
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        (self.0)(Buffer { addr: e.addr.0, len: e.len });
        Ok(())
    }
}

/// The split ring's two sides.
pub type Split = (Driver<SplitDriver<Area>>, Device<SplitDevice<Area>>);
/// The packed ring's two sides.
pub type Packed = (Driver<PackedDriver<Area>>, Device<PackedDevice<Area>>);

/// Both sides of an empty split ring.
///
/// # Errors
/// None that the configurations of an arena can cause.
pub fn split(arena: &Arena, config: &QueueConfig) -> Result<Split, Box<dyn Error>> {
    let memory = arena.memory.clone();
    let driver = SplitDriver::new(&memory, config)?;
    let device = SplitDevice::new(&memory, config, QueueState::SPLIT)?;
    Ok((Driver { ring: driver, asks: true }, Device { ring: device, memory, asks: true }))
}

/// Both sides of an empty packed ring.
///
/// # Errors
/// None that the configurations of an arena can cause.
pub fn packed(arena: &Arena, config: &QueueConfig) -> Result<Packed, Box<dyn Error>> {
    let memory = arena.memory.clone();
    let driver = PackedDriver::new(&memory, config)?;
    let device = PackedDevice::new(&memory, config, Format::Packed.start())?;
    Ok((Driver { ring: driver, asks: true }, Device { ring: device, memory, asks: true }))
}

/// The device through `peek`.
#[derive(Debug)]
#[repr(align(128))]
pub struct Device<R> {
    /// The ring.
    pub ring: R,
    /// The memory.
    pub memory: Memory,
    /// Whether it asks, with each publication, if the driver wants a call. A driver that is known to poll never does.
    pub asks: bool,
}

impl<R: DeviceRing + Send> DeviceSide for Device<R> {
    #[inline]
    fn serve(&mut self, most: usize, visit: impl FnMut(Buffer)) -> usize {
        let mut show = Show(visit);
        if most == 1 {
            let Ok(Some(peeked)) = self.ring.peek(&self.memory, &mut show) else { return 0 };
            let token = peeked.accept();
            self.ring.complete(token, 0);
            return 1;
        }
        self.ring.serve(&self.memory, &mut show, most, |_, _| 0).unwrap_or(0)
    }

    #[inline]
    fn flush(&mut self) -> bool {
        self.ring.publish();
        self.asks && self.ring.notify().is_needed()
    }

    fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    fn disarm(&mut self) {
        self.ring.disarm();
    }
}

/// The device through [`Chains`].
#[derive(Debug)]
pub struct Pool<R> {
    /// The ring.
    pub ring: R,
    /// What is translated ahead.
    pub chains: Chains<Memory>,
}

impl<R: DeviceRing> Pool<R> {
    /// Holds up to `depth` chains of `device`.
    #[must_use]
    pub fn new(device: Device<R>, depth: usize) -> Self {
        Self { ring: device.ring, chains: Chains::new(device.memory, depth) }
    }

    /// Takes what there is, sums the segments up, completes and publishes it; returns how many chains there were.
    #[inline]
    pub fn serve(&mut self) -> usize {
        let count = self.chains.fill(&mut self.ring).unwrap_or(0);
        let view = self.chains.view();
        let mut sum = 0_usize;
        for chain in view.chains() {
            for seg in view.readable(chain) {
                sum = sum.wrapping_add(seg.as_ptr().addr() ^ seg.len());
            }
        }
        black_box(sum);
        while let Some(token) = self.chains.pop() {
            self.ring.complete(token, 0);
        }
        if count > 0 {
            let _ = black_box(self.ring.flush());
        }
        count
    }
}

/// The driver. Its buffers are for the device to read.
#[derive(Debug)]
#[repr(align(128))]
pub struct Driver<R> {
    /// The ring.
    pub ring: R,
    /// Whether it asks, with each publication, if the device wants a kick. A device that is known to poll never does.
    pub asks: bool,
}

impl<R: DriverRing> Driver<R> {
    /// The buffer that a benchmark posts as its `index`-th.
    #[inline]
    #[must_use]
    pub const fn element(index: u16) -> Element {
        Element { addr: Arena::buffer(index), len: BUFFER_LEN, writable: false }
    }
}

impl<R: DriverRing + Send> DriverSide for Driver<R> {
    #[inline]
    fn add(&mut self, buffer: Buffer) -> bool {
        let element = Element { addr: GuestAddr(buffer.addr), len: buffer.len, writable: false };
        self.ring.add(&[element]).is_ok()
    }

    #[inline]
    fn add_each(&mut self, buffers: impl Iterator<Item = Buffer>) -> usize {
        let elements = buffers.map(|b| Element { addr: GuestAddr(b.addr), len: b.len, writable: false });
        self.ring.add_each(elements, |_| ())
    }

    #[inline]
    fn flush(&mut self) -> bool {
        self.ring.publish();
        self.asks && self.ring.notify().is_needed()
    }

    #[inline]
    fn reap(&mut self, most: usize) -> usize {
        let mut sum = 0_u32;
        let count = self.ring.reap_each(most, |used| sum = sum.wrapping_add(u32::from(used.handle.0) ^ used.len));
        black_box(sum);
        count.unwrap_or(0)
    }

    fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    fn disarm(&mut self) {
        self.ring.disarm();
    }
}
