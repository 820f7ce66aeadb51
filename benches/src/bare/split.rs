//! The split ring.

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::words::Words;
use crate::lab::layouts::split;
use crate::lab::report::Picture;
use crate::lab::{self, Buffer, DeviceSide, DriverSide, Layout, Setup};
use crate::{Arena, BUFFER_LEN};

/// The three areas.
#[derive(Debug)]
struct Rings {
    desc: Words,
    avail: Words,
    used: Words,
    mask: u16,
}

impl Rings {
    fn new(arena: &Arena) -> Self {
        let c = &arena.config;
        let [desc, avail, used] = [c.desc, c.driver, c.device].map(|a| Words::new(arena, a));
        Self { desc, avail, used, mask: c.size - 1 }
    }
    #[inline(always)]
    fn slot(&self, index: u16) -> usize {
        usize::from(index & self.mask)
    }
    #[inline(always)]
    fn head(&self, index: u16) -> u16 {
        self.avail.load16(4 + 2 * self.slot(index), Relaxed)
    }
    #[inline(always)]
    fn set_head(&self, index: u16, head: u16) {
        self.avail.store16(4 + 2 * self.slot(index), head, Relaxed);
    }
    #[inline(always)]
    fn used(&self, index: u16) -> u32 {
        let at = 4 + 8 * self.slot(index);
        self.used.load32(at, Relaxed) ^ self.used.load32(at + 4, Relaxed)
    }
    #[inline(always)]
    fn set_used(&self, index: u16, id: u16) {
        let at = 4 + 8 * self.slot(index);
        self.used.store32(at, id.into(), Relaxed);
        self.used.store32(at + 4, 0, Relaxed);
    }
    #[inline(always)]
    fn set_descriptor(&self, slot: u16, buffer: Buffer, writable: bool) {
        let at = 16 * self.slot(slot);
        self.desc.store64(at, buffer.addr, Relaxed);
        self.desc.store64(at + 8, u64::from(buffer.len) | u64::from(writable) << 33, Relaxed);
    }
}

/// Makes buffers available with one store: the descriptors and the entries of the available ring, which never
/// change, are written once by `new`. What is left on the clock is the device.
#[derive(Debug)]
#[repr(align(128))]
pub struct Poster {
    rings: Rings,
    index: u16,
}

impl Poster {
    /// Fills table and available ring of `arena` in order, with buffers for the device to read.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        Self::with_buffers(arena, BUFFER_LEN, false)
    }

    /// The same with buffers of `len` bytes, which the device may write to or read from.
    #[must_use]
    pub fn with_buffers(arena: &Arena, len: u32, writable: bool) -> Self {
        let rings = Rings::new(arena);
        for slot in 0..=rings.mask {
            rings.set_descriptor(slot, Buffer { addr: Arena::buffer(slot).0, len }, writable);
            rings.set_head(slot, slot);
        }
        Self { rings, index: 0 }
    }

    /// Makes `count` more buffers available.
    #[inline]
    pub fn post(&mut self, count: u16) {
        self.index = self.index.wrapping_add(count);
        self.rings.avail.store16(2, self.index, Release);
    }
}

/// The floor of the device's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct SplitDevice<const IN_ORDER: bool> {
    rings: Rings,
    index: u16,
    /// The driver's index, as last loaded.
    avail: u16,
    published: u16,
    last: u16,
}

impl<const IN_ORDER: bool> SplitDevice<IN_ORDER> {
    /// Begins at index 0.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        Self { rings: Rings::new(arena), index: 0, avail: 0, published: 0, last: 0 }
    }
}

impl<const IN_ORDER: bool> DeviceSide for SplitDevice<IN_ORDER> {
    #[inline]
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let rings = &self.rings;
        if self.avail == self.index {
            self.avail = rings.avail.load16(2, Acquire);
        }
        let count = usize::from(self.avail.wrapping_sub(self.index)).min(most);
        let mut index = self.index;
        let mut last = self.last;
        for _ in 0..count {
            let head = rings.head(index);
            let at = 16 * rings.slot(head);
            let addr = rings.desc.load64(at, Relaxed);
            visit(Buffer { addr, len: rings.desc.load64(at + 8, Relaxed) as u32 });
            if IN_ORDER {
                last = head;
            } else {
                rings.set_used(index, head);
            }
            index = index.wrapping_add(1);
        }
        (self.index, self.last) = (index, last);
        count
    }

    #[inline]
    fn flush(&mut self) -> bool {
        if self.published != self.index {
            if IN_ORDER {
                self.rings.set_used(self.published, self.last);
            }
            self.rings.used.store16(2, self.index, Release);
            self.published = self.index;
        }
        false
    }

    fn arm(&mut self) -> bool {
        false
    }

    fn disarm(&mut self) {}
}

/// The floor of the driver's side: slots in turn, no free list.
#[derive(Debug)]
#[repr(align(128))]
pub struct SplitDriver<const IN_ORDER: bool> {
    rings: Rings,
    index: u16,
    published: u16,
    reaped: u16,
    /// The device's index, as last loaded.
    used: u16,
}

impl<const IN_ORDER: bool> SplitDriver<IN_ORDER> {
    /// Begins at index 0.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        let rings = Rings::new(arena);
        rings.avail.store32(0, 0, Relaxed);
        rings.used.store32(0, 0, Relaxed);
        Self { rings, index: 0, published: 0, reaped: 0, used: 0 }
    }
}

impl<const IN_ORDER: bool> DriverSide for SplitDriver<IN_ORDER> {
    #[inline]
    fn add(&mut self, buffer: Buffer) -> bool {
        if self.index.wrapping_sub(self.reaped) > self.rings.mask {
            return false;
        }
        let slot = self.index & self.rings.mask;
        self.rings.set_descriptor(slot, buffer, false);
        self.rings.set_head(self.index, slot);
        self.index = self.index.wrapping_add(1);
        true
    }

    #[inline]
    fn flush(&mut self) -> bool {
        if self.published != self.index {
            self.rings.avail.store16(2, self.index, Release);
            self.published = self.index;
        }
        false
    }

    #[inline]
    fn reap(&mut self, most: usize) -> usize {
        let mut sum = 0;
        if self.used == self.reaped {
            self.used = self.rings.used.load16(2, Acquire);
            if IN_ORDER && self.used != self.reaped {
                sum = self.rings.used(self.reaped);
            }
        }
        let count = usize::from(self.used.wrapping_sub(self.reaped)).min(most);
        if !IN_ORDER {
            for _ in 0..count {
                sum = sum.wrapping_add(self.rings.used(self.reaped));
                self.reaped = self.reaped.wrapping_add(1);
            }
        } else {
            self.reaped = self.reaped.wrapping_add(count as u16);
        }
        black_box(sum);
        count
    }

    fn arm(&mut self) -> bool {
        false
    }

    fn disarm(&mut self) {}
}

pub(crate) fn poster(setup: &Setup<'_>) -> Option<lab::Poster> {
    let mut poster = Poster::new(setup.arena);
    Some(Box::new(move |count| poster.post(count)))
}

layout! {
    /// The floor of the split ring.
    Split = "bare-split", "the split ring over cached pointers, nothing checked",
    SplitDriver<false>, SplitDevice<false>, as split::Split
}

layout! {
    /// The floor of the split ring in order: one used entry a publication.
    SplitInOrder = "bare-split-in-order", "the split ring in order over cached pointers, nothing checked",
    SplitDriver<true>, SplitDevice<true>, as split::SplitInOrder
}
