//! Split-ring loops over cached pointers that check nothing: the floor under every implementation.
#![expect(unsafe_code, reason = "raw pointers are what is measured here")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::{Arena, BUFFER_LEN, DeviceSide, DriverSide};

/// The three areas, as addresses in this process.
#[derive(Debug, Clone, Copy)]
struct Rings {
    desc: *mut u8,
    avail: *mut u8,
    used: *mut u8,
    mask: u16,
}

// SAFETY: only addresses; what they point to is reached through atomics.
unsafe impl Send for Rings {}

macro_rules! word {
    ($load:ident, $store:ident, $word:ty, $atomic:ident) => {
        #[inline(always)]
        fn $load(at: *mut u8, off: usize, order: Ordering) -> $word {
            // SAFETY: offsets are masked by the ring's size, and the arena is mapped while the owner lives.
            unsafe { $atomic::from_ptr(at.wrapping_add(off).cast()) }.load(order)
        }
        #[inline(always)]
        fn $store(at: *mut u8, off: usize, value: $word, order: Ordering) {
            // SAFETY: as in the load.
            unsafe { $atomic::from_ptr(at.wrapping_add(off).cast()) }.store(value, order);
        }
    };
}
word!(load16, store16, u16, AtomicU16);
word!(load32, store32, u32, AtomicU32);
word!(load64, store64, u64, AtomicU64);

use Ordering::{Acquire, Relaxed, Release};

impl Rings {
    fn new(arena: &Arena) -> Self {
        let c = &arena.config;
        let [desc, avail, used] = [c.desc, c.driver, c.device].map(|a| arena.host(a));
        Self { desc, avail, used, mask: c.size - 1 }
    }
    #[inline(always)]
    fn slot(&self, index: u16) -> usize {
        usize::from(index & self.mask)
    }
    #[inline(always)]
    fn head(&self, index: u16) -> u16 {
        load16(self.avail, 4 + 2 * self.slot(index), Relaxed)
    }
    #[inline(always)]
    fn set_used(&self, index: u16, id: u16) {
        let at = 4 + 8 * self.slot(index);
        store32(self.used, at, id.into(), Relaxed);
        store32(self.used, at + 4, 0, Relaxed);
    }
    #[inline(always)]
    fn set_descriptor(&self, slot: u16, len: u32, writable: bool) {
        let at = 16 * usize::from(slot);
        store64(self.desc, at, Arena::buffer(slot).0, Relaxed);
        store64(self.desc, at + 8, u64::from(len) | u64::from(writable) << 33, Relaxed);
    }
}

/// Makes buffers available with one store: the descriptors and the entries of the available ring, which never
/// change, are written once by `new`. What is left on the clock is the device.
#[derive(Debug)]
#[repr(align(128))]
pub struct Poster {
    rings: Rings,
    index: u16,
    _arena: Arena,
}

impl Poster {
    /// Fills table and available ring of `arena` in order.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        Self::with_buffers(arena, BUFFER_LEN, true)
    }

    /// The same with buffers of `len` bytes, which the device may write to or read from.
    #[must_use]
    pub fn with_buffers(arena: &Arena, len: u32, writable: bool) -> Self {
        let rings = Rings::new(arena);
        for slot in 0..=rings.mask {
            rings.set_descriptor(slot, len, writable);
            store16(rings.avail, 4 + 2 * usize::from(slot), slot, Relaxed);
        }
        Self { rings, index: 0, _arena: arena.clone() }
    }

    /// Makes `count` more buffers available.
    #[inline]
    pub fn post(&mut self, count: u16) {
        self.index = self.index.wrapping_add(count);
        store16(self.rings.avail, 2, self.index, Release);
    }
}

/// Uses what is available without looking at the descriptors: what is left on the clock is the driver.
#[derive(Debug)]
#[repr(align(128))]
pub struct Echo {
    rings: Rings,
    index: u16,
    _arena: Arena,
}

impl Echo {
    /// Begins at index 0.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        Self { rings: Rings::new(arena), index: 0, _arena: arena.clone() }
    }

    /// Uses `count` buffers, which the caller knows to be available.
    #[inline]
    pub fn echo(&mut self, count: usize) {
        for _ in 0..count {
            self.rings.set_used(self.index, self.rings.head(self.index));
            self.index = self.index.wrapping_add(1);
        }
        store16(self.rings.used, 2, self.index, Release);
    }
}

/// The floor of the device's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Device {
    rings: Rings,
    index: u16,
    _arena: Arena,
}

impl Device {
    /// Begins at index 0.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        Self { rings: Rings::new(arena), index: 0, _arena: arena.clone() }
    }
}

impl DeviceSide for Device {
    #[inline]
    fn serve(&mut self, most: usize) -> usize {
        let rings = self.rings;
        let ready = load16(rings.avail, 2, Acquire).wrapping_sub(self.index);
        let count = usize::from(ready).min(most);
        let mut sum = 0_u64;
        for _ in 0..count {
            let head = rings.head(self.index);
            let at = 16 * rings.slot(head);
            let addr = load64(rings.desc, at, Relaxed);
            let rest = load64(rings.desc, at + 8, Relaxed);
            sum = sum.wrapping_add(addr ^ rest);
            rings.set_used(self.index, head);
            self.index = self.index.wrapping_add(1);
        }
        black_box(sum);
        if count > 0 {
            store16(rings.used, 2, self.index, Release);
        }
        count
    }
}

/// The floor of the driver's side: slots in turn, no free list.
#[derive(Debug)]
#[repr(align(128))]
pub struct Driver {
    rings: Rings,
    index: u16,
    used: u16,
    _arena: Arena,
}

impl Driver {
    /// Begins at index 0.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        Self { rings: Rings::new(arena), index: 0, used: 0, _arena: arena.clone() }
    }
}

impl DriverSide for Driver {
    #[inline]
    fn post(&mut self, count: usize) {
        let rings = self.rings;
        for _ in 0..count {
            let slot = self.index & rings.mask;
            rings.set_descriptor(slot, BUFFER_LEN, true);
            store16(rings.avail, 4 + 2 * usize::from(slot), slot, Relaxed);
            self.index = self.index.wrapping_add(1);
        }
        store16(rings.avail, 2, self.index, Release);
    }

    #[inline]
    fn reap(&mut self, most: usize) -> usize {
        let rings = self.rings;
        let ready = load16(rings.used, 2, Acquire).wrapping_sub(self.used);
        let count = usize::from(ready).min(most);
        let mut sum = 0_u32;
        for _ in 0..count {
            let at = 4 + 8 * rings.slot(self.used);
            sum = sum.wrapping_add(load32(rings.used, at, Relaxed) ^ load32(rings.used, at + 4, Relaxed));
            self.used = self.used.wrapping_add(1);
        }
        black_box(sum);
        count
    }
}
