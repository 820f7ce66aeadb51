//! The packed ring, sizes that are powers of two, buffer ids that are slots.

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::words::Words;
use crate::lab::layouts::packed;
use crate::lab::report::Picture;
use crate::lab::{self, Buffer, DeviceSide, DriverSide, Layout, Setup};
use crate::{Arena, BUFFER_LEN};

const AVAIL: u64 = 1 << (48 + 7);
const USED: u64 = 1 << (48 + 15);

/// The ring of descriptors. Indices count on and on; the slot is their low part, the wrap counter the bit above.
#[derive(Debug)]
struct Ring {
    words: Words,
    mask: u32,
    lap: u32,
}

impl Ring {
    fn new(arena: &Arena) -> Self {
        let size = u32::from(arena.config.size);
        Self { words: Words::new(arena, arena.packed().desc), mask: size - 1, lap: size.trailing_zeros() }
    }
    #[inline(always)]
    fn at(&self, index: u32) -> usize {
        16 * (index & self.mask) as usize
    }
    /// True on the laps whose wrap counter is 1: every other one, beginning with the first.
    #[inline(always)]
    fn wrap(&self, index: u32) -> bool {
        index >> self.lap & 1 == 0
    }
    #[inline(always)]
    fn avail(&self, index: u32) -> u64 {
        if self.wrap(index) { AVAIL } else { USED }
    }
    #[inline(always)]
    fn used(&self, index: u32) -> u64 {
        if self.wrap(index) { AVAIL | USED } else { 0 }
    }
    #[inline(always)]
    fn tail(&self, index: u32) -> u64 {
        self.words.load64(self.at(index) + 8, Acquire)
    }
    #[inline(always)]
    fn set_tail(&self, index: u32, tail: u64) {
        self.words.store64(self.at(index) + 8, tail, Release);
    }
    /// Length, id and flags of an available descriptor.
    #[inline(always)]
    fn offer(&self, index: u32, len: u32) -> u64 {
        u64::from(len) | u64::from(index & self.mask) << 32 | self.avail(index)
    }
}

/// Makes buffers available with one store each, for a device that is measured alone: their addresses are written once.
#[derive(Debug)]
#[repr(align(128))]
pub struct PackedPoster {
    ring: Ring,
    index: u32,
}

impl PackedPoster {
    /// Writes the addresses of all buffers, which the device may read.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        let ring = Ring::new(arena);
        for slot in 0..arena.config.size {
            ring.words.store64(ring.at(slot.into()), Arena::buffer(slot).0, Relaxed);
        }
        Self { ring, index: 0 }
    }

    /// Makes `count` more buffers available.
    #[inline]
    pub fn post(&mut self, count: u16) {
        for _ in 0..count {
            self.ring.set_tail(self.index, self.ring.offer(self.index, BUFFER_LEN));
            self.index = self.index.wrapping_add(1);
        }
    }
}

/// The floor of the device's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct PackedDevice<const IN_ORDER: bool> {
    ring: Ring,
    index: u32,
    published: u32,
    /// Id of the first buffer since the last publication; in order: of the last.
    id: u64,
}

const ID: u64 = 0xffff << 32;

impl<const IN_ORDER: bool> PackedDevice<IN_ORDER> {
    /// Begins at slot 0.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        Self { ring: Ring::new(arena), index: 0, published: 0, id: 0 }
    }
}

impl<const IN_ORDER: bool> DeviceSide for PackedDevice<IN_ORDER> {
    #[inline]
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let ring = &self.ring;
        let mut count = 0;
        while count < most {
            let tail = ring.tail(self.index);
            if tail & (AVAIL | USED) != ring.avail(self.index) {
                break;
            }
            visit(Buffer { addr: ring.words.load64(ring.at(self.index), Relaxed), len: tail as u32 });
            if IN_ORDER || self.index == self.published {
                self.id = tail & ID;
            } else {
                ring.set_tail(self.index, tail & ID | ring.used(self.index));
            }
            self.index = self.index.wrapping_add(1);
            count += 1;
        }
        count
    }

    #[inline]
    fn flush(&mut self) -> bool {
        if self.published != self.index {
            self.ring.set_tail(self.published, self.id | self.ring.used(self.published));
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
pub struct PackedDriver<const IN_ORDER: bool> {
    ring: Ring,
    index: u32,
    published: u32,
    /// Length, id and flags of the first descriptor since the last publication.
    first: u64,
    reaped: u32,
    /// In order: where the last used entry's run ends.
    used: u32,
}

impl<const IN_ORDER: bool> PackedDriver<IN_ORDER> {
    /// Begins at slot 0.
    #[must_use]
    pub fn new(arena: &Arena) -> Self {
        let ring = Ring::new(arena);
        for slot in 0..=ring.mask {
            ring.set_tail(slot, 0);
        }
        Self { ring, index: 0, published: 0, first: 0, reaped: 0, used: 0 }
    }

    /// In order: the next run, if the last one is reaped.
    #[inline]
    fn next_run(&mut self) {
        let tail = self.ring.tail(self.reaped);
        if self.published != self.reaped && tail & (AVAIL | USED) == self.ring.used(self.reaped) {
            let id = (tail >> 32) as u32 & 0xffff;
            let count = (id.wrapping_sub(self.reaped) & self.ring.mask) + 1;
            self.used = self.reaped.wrapping_add(count);
        }
    }
}

impl<const IN_ORDER: bool> DriverSide for PackedDriver<IN_ORDER> {
    #[inline]
    fn add(&mut self, buffer: Buffer) -> bool {
        if self.index.wrapping_sub(self.reaped) > self.ring.mask {
            return false;
        }
        self.ring.words.store64(self.ring.at(self.index), buffer.addr, Relaxed);
        let tail = self.ring.offer(self.index, buffer.len);
        if self.index == self.published {
            self.first = tail;
        } else {
            self.ring.set_tail(self.index, tail);
        }
        self.index = self.index.wrapping_add(1);
        true
    }

    #[inline]
    fn flush(&mut self) -> bool {
        if self.published != self.index {
            self.ring.set_tail(self.published, self.first);
            self.published = self.index;
        }
        false
    }

    #[inline]
    fn reap(&mut self, most: usize) -> usize {
        if IN_ORDER {
            if self.used == self.reaped {
                self.next_run();
            }
            let count = (self.used.wrapping_sub(self.reaped) as usize).min(most);
            self.reaped = self.reaped.wrapping_add(count as u32);
            return count;
        }
        let (mut count, mut sum) = (0, 0_u64);
        while count < most && self.reaped != self.published {
            let tail = self.ring.tail(self.reaped);
            if tail & (AVAIL | USED) != self.ring.used(self.reaped) {
                break;
            }
            sum = sum.wrapping_add(tail);
            self.reaped = self.reaped.wrapping_add(1);
            count += 1;
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
    let mut poster = PackedPoster::new(setup.arena);
    Some(Box::new(move |count| poster.post(count)))
}

layout! {
    /// The floor of the packed ring.
    Packed = "bare-packed", "the packed ring over cached pointers, nothing checked",
    PackedDriver<false>, PackedDevice<false>, as packed::Packed
}

layout! {
    /// The floor of the packed ring in order: one used descriptor a publication.
    PackedInOrder = "bare-packed-in-order", "the packed ring in order over cached pointers, nothing checked",
    PackedDriver<true>, PackedDevice<true>, as packed::PackedInOrder
}
