//! Both sides of virtio-ring.

use std::error::Error;
use std::hint::black_box;

use virtio_ring::{
    ChainFault, ChainSink, Chains, DeviceRing, DriverRing, Element, GuestAddr, QueueState, SplitDevice, SplitDriver,
};

use crate::{Area, Arena, BUFFER_LEN, DeviceSide, DriverSide, Memory};

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

/// The device through `peek`.
#[derive(Debug)]
pub struct Peek {
    /// The ring.
    pub ring: SplitDevice<Area>,
    /// The memory.
    pub memory: Memory,
}

impl Peek {
    /// Begins at index 0.
    ///
    /// # Errors
    /// None that this arena can cause.
    pub fn new(arena: &Arena) -> Result<Self, Box<dyn Error>> {
        let memory = arena.memory.clone();
        Ok(Self { ring: SplitDevice::new(&memory, &arena.config, QueueState::default())?, memory })
    }
}

impl DeviceSide for Peek {
    #[inline]
    fn serve(&mut self, most: usize) -> usize {
        let mut sum = Sum::default();
        let mut count = 0;
        while count < most
            && let Ok(Some(peeked)) = self.ring.peek(&self.memory, &mut sum)
        {
            let token = peeked.accept();
            self.ring.complete(token, 0);
            count += 1;
        }
        black_box(sum.0);
        if count > 0 {
            let _ = black_box(self.ring.flush());
        }
        count
    }
}

/// The device through [`Chains`].
#[derive(Debug)]
pub struct Pool {
    /// The ring.
    pub ring: SplitDevice<Area>,
    /// What is translated ahead.
    pub chains: Chains<Memory>,
}

impl Pool {
    /// Begins at index 0; holds up to `depth` chains.
    ///
    /// # Errors
    /// None that this arena can cause.
    pub fn new(arena: &Arena, depth: usize) -> Result<Self, Box<dyn Error>> {
        let memory = arena.memory.clone();
        let ring = SplitDevice::new(&memory, &arena.config, QueueState::default())?;
        Ok(Self { ring, chains: Chains::new(memory, depth) })
    }
}

impl DeviceSide for Pool {
    #[inline]
    fn serve(&mut self, _most: usize) -> usize {
        let count = self.chains.fill(&mut self.ring).unwrap_or(0);
        let view = self.chains.view();
        let mut sum = 0_usize;
        for chain in view.chains() {
            for seg in view.writable(chain) {
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

/// The driver.
#[derive(Debug)]
pub struct Driver {
    /// The ring.
    pub ring: SplitDriver<Area>,
    next: u16,
    mask: u16,
}

impl Driver {
    /// Sets the ring up.
    ///
    /// # Errors
    /// None that this arena can cause.
    pub fn new(arena: &Arena) -> Result<Self, Box<dyn Error>> {
        let ring = SplitDriver::new(&arena.memory, &arena.config)?;
        Ok(Self { ring, next: 0, mask: arena.config.size - 1 })
    }

    /// The next buffer, in turn.
    #[inline]
    pub fn element(&mut self) -> Element {
        let addr: GuestAddr = Arena::buffer(self.next & self.mask);
        self.next = self.next.wrapping_add(1);
        Element { addr, len: BUFFER_LEN, writable: true }
    }
}

impl DriverSide for Driver {
    #[inline]
    fn post(&mut self, count: usize) {
        for _ in 0..count {
            let element = self.element();
            let _ = black_box(self.ring.add(&[element]));
        }
        let _ = black_box(self.ring.flush());
    }

    #[inline]
    fn reap(&mut self, most: usize) -> usize {
        let mut sum = 0_u32;
        let mut count = 0;
        while count < most
            && let Ok(Some(used)) = self.ring.poll_used()
        {
            sum = sum.wrapping_add(u32::from(used.handle.0) ^ used.len);
            count += 1;
        }
        black_box(sum);
        count
    }
}
