//! Eight buffers a line: a buffer is one word, and comes back as 16 bits of length behind an index.
//!
//! # Idea
//! A packed descriptor has 16 bytes because it carries an id, flags and 64 bits of address. In order there is no need
//! of an id, a chain of one needs no flag but the lap, and hardly a guest has addresses beyond 2^47: address, length
//! and lap fit one word, which one store publishes. What does not fit goes through a table beside the ring, and only
//! those buffers pay for it. The device never writes to the driver's lines. What it has used it says by an index, which
//! the driver reads only when it has run out of credit, and by lengths of 16 bits, 32 a line.
//!
//! # Lines
//! ```text
//! driver -> device   | word | word | word | word | word | word | word | word |   addr << 17 | len << 1 | lap
//! device -> driver   | len, len, len ... 32 of them                         |   16 bits each
//! device -> driver   | index |                                                  in a line of its own
//! ```
//! The first word of a burst is stored last, so that the rest of the burst is not seen before it.
//!
//! # Count
//! Bursts of 32: 4 lines of words, 1 of lengths, 1 of the index: 6/32 = 0.19 lines a buffer. Packed in order moves 8
//! lines of descriptors, and the one with the used descriptor back: 9/32 = 0.28; packed 16/32 = 0.5. Bursts of 1 in a
//! stream: the same lines, since neither side looks at a line that the other is filling if it can help it, and the
//! index at worst once a buffer.
//!
//! # Pace
//! A line that is looked at while its writer is at it is fetched once more. So the device waits a little when it is at
//! the driver's heels in a stream, and the driver does when there is much under way and little to reap ([`Pace`],
//! [`look`]). Lines are fetched two ahead, for reading if the device is known to be behind, for writing if they are
//! known to be free: fetched any earlier they would be taken away from the peer.

use std::error::Error;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::narrow::{LONG, WIDE, buffer, from_table, narrow};
use super::shared::{APART, AREAS, Bell, LINE, Pace, Raw, Words, area, look};
use crate::lab::report::{Picture, Writer};
use crate::lab::{Buffer, DeviceSide, DriverSide, Layout, Setup};

/// Words a line.
const WORDS: u32 = 8;
/// Lengths a line.
const LENGTHS: u32 = 32;

/// Where the areas are.
#[derive(Clone, Copy, Debug)]
struct Place {
    mask: u32,
    lengths: usize,
    index: usize,
    /// Descriptors that do not fit a word.
    wide: usize,
}

impl Place {
    fn new(size: u16) -> Self {
        let n = usize::from(size);
        let after = |at: usize, bytes: usize| (at + bytes).next_multiple_of(APART) + APART;
        let lengths = after(AREAS, 8 * n);
        let index = after(lengths, 2 * n);
        let wide = after(index, LINE);
        Self { mask: u32::from(size) - 1, lengths, index, wide }
    }
    const fn bytes(&self) -> usize {
        self.wide + WIDE * (self.mask as usize + 1)
    }
    const fn wide(&self, at: u32) -> usize {
        self.wide + WIDE * self.slot(at)
    }
    #[inline(always)]
    const fn slot(&self, at: u32) -> usize {
        (at & self.mask) as usize
    }
    #[inline(always)]
    const fn word(&self, at: u32) -> usize {
        AREAS + 8 * self.slot(at)
    }
    #[inline(always)]
    const fn length(&self, at: u32) -> usize {
        self.lengths + 2 * self.slot(at)
    }
    /// Bit 0 of the words of this lap; the first lap's is 1, since the ring begins with zeros.
    #[inline(always)]
    const fn lap(&self, at: u32) -> u64 {
        (at & (self.mask + 1) == 0) as u64
    }
}

/// The driver's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Driver<M = Raw> {
    words: M,
    place: Place,
    bell: Bell,
    /// Next word to be written.
    next: u32,
    /// Words before this one can be seen by the device.
    visible: u32,
    /// The word at `visible`, if `next` is past it.
    first: u64,
    /// Buffers taken back.
    reaped: u32,
    /// Buffers that are known to be used.
    used: u32,
    /// Sum of the lengths that came back.
    bytes: u64,
}

/// The device's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Device<M = Raw> {
    words: M,
    place: Place,
    bell: Bell,
    next: u32,
    visible: u32,
    pace: Pace,
}

impl<M: Words> Driver<M> {
    pub(super) fn new(words: M, size: u16, sleeps: bool) -> Self {
        let (place, bell) = (Place::new(size), Bell::driver(sleeps));
        Self { words, place, bell, next: 0, visible: 0, first: 0, reaped: 0, used: 0, bytes: 0 }
    }

    /// Sum of the lengths of all buffers that were reaped.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<M: Words + Send> DriverSide for Driver<M> {
    #[inline(always)]
    fn add(&mut self, buffer: Buffer) -> bool {
        let at = self.next;
        if at.wrapping_sub(self.reaped) > self.place.mask {
            return false;
        }
        let word = narrow(&self.words, buffer, self.place.wide(at)) | self.place.lap(at);
        if at == self.visible {
            self.first = word;
        } else {
            self.words.store64(self.place.word(at), word, Relaxed);
        }
        // Only if that line is free: else it would be taken away from the device, which has yet to read it.
        if at.is_multiple_of(WORDS) && at.wrapping_sub(self.reaped) + 3 * WORDS <= self.place.mask {
            self.words.own(self.place.word(at.wrapping_add(2 * WORDS)));
        }
        self.next = at.wrapping_add(1);
        true
    }

    #[inline(always)]
    fn flush(&mut self) -> bool {
        if self.next == self.visible {
            return false;
        }
        self.words.store64(self.place.word(self.visible), self.first, Release);
        self.visible = self.next;
        self.bell.must_wake(&self.words)
    }

    #[inline(always)]
    fn reap(&mut self, most: usize) -> usize {
        let mut at = self.reaped;
        let most = most.min(self.place.mask as usize + 1) as u32;
        if self.used.wrapping_sub(at) < most {
            let so_far = (at, self.visible);
            self.used = look(&self.words, self.place.index, so_far, self.place.mask + 1);
        }
        let count = self.used.wrapping_sub(at).min(most);
        let (place, mut bytes) = (self.place, 0_u64);
        for _ in 0..count {
            let mut len = self.words.load16(place.length(at), Relaxed).into();
            if len == LONG {
                // What the device used of it, in place of what the driver offered.
                len = from_table(&self.words, place.wide(at)).len;
            }
            bytes += u64::from(len);
            at = at.wrapping_add(1);
        }
        self.bytes = self.bytes.wrapping_add(bytes);
        self.reaped = at;
        count as usize
    }

    fn arm(&mut self) -> bool {
        self.bell.ask(&self.words);
        self.used = self.words.load32(self.place.index, Acquire);
        let idle = self.used == self.reaped;
        if !idle {
            self.bell.hush(&self.words);
        }
        idle
    }

    fn disarm(&mut self) {
        self.bell.hush(&self.words);
    }
}

impl<M: Words> Device<M> {
    pub(super) fn new(words: M, size: u16, sleeps: bool) -> Self {
        let (place, bell) = (Place::new(size), Bell::device(sleeps));
        Self { words, place, bell, next: 0, visible: 0, pace: Pace::new(size) }
    }
}

impl<M: Words + Send> DeviceSide for Device<M> {
    #[inline(always)]
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let (place, begin) = (self.place, self.next);
        let end = begin.wrapping_add(most.min(place.mask as usize + 1) as u32);
        let mut at = begin;
        while at != end {
            let word = self.words.load64(place.word(at), Acquire);
            if word & 1 != place.lap(at) {
                break;
            }
            if at.is_multiple_of(WORDS) && self.pace.behind() {
                self.words.want(place.word(at.wrapping_add(2 * WORDS)));
            }
            if at.is_multiple_of(LENGTHS) {
                self.words.own(place.length(at.wrapping_add(2 * LENGTHS)));
            }
            let mut len = LONG;
            if let Some(buffer) = buffer(word) {
                len = buffer.len;
                visit(buffer);
            } else {
                // Its length, too, is in the table: the device leaves it there.
                visit(from_table(&self.words, place.wide(at)));
            }
            self.words.store16(place.length(at), len as u16, Relaxed);
            at = at.wrapping_add(1);
        }
        self.next = at;
        let count = at.wrapping_sub(begin);
        self.pace.found(&self.words, count);
        count as usize
    }

    #[inline(always)]
    fn flush(&mut self) -> bool {
        if self.next == self.visible {
            return false;
        }
        self.words.store32(self.place.index, self.next, Release);
        self.visible = self.next;
        self.bell.must_wake(&self.words)
    }

    fn arm(&mut self) -> bool {
        self.bell.ask(&self.words);
        let idle = self.words.load64(self.place.word(self.next), Acquire) & 1 != self.place.lap(self.next);
        if !idle {
            self.bell.hush(&self.words);
        }
        idle
    }

    fn disarm(&mut self) {
        self.bell.hush(&self.words);
    }
}

/// The layout.
#[derive(Debug)]
pub struct Compact;

impl Layout for Compact {
    const NAME: &'static str = "compact";
    const IDEA: &'static str =
        "A buffer is one word, eight a line; the device answers with 16-bit lengths and an index, in lines of its own";
    type Driver = Driver;
    type Device = Device;

    fn open(setup: &Setup<'_>) -> Result<(Driver, Device), Box<dyn Error>> {
        let (driver, device) = Raw::pair(setup, Place::new(setup.size).bytes())?;
        Ok((Driver::new(driver, setup.size, setup.sleeps), Device::new(device, setup.size, setup.sleeps)))
    }

    fn picture(size: u16) -> Picture {
        let n = usize::from(size);
        Picture {
            layout: Self::NAME.into(),
            idea: Self::IDEA.into(),
            areas: vec![
                area("event words", "flag, 4 B", (1.0, 2), Writer::Both, "before sleeping"),
                area("buffers", "address, length, lap: 8 B", (8.0, n.div_ceil(8)), Writer::Driver, "once a buffer"),
                area("lengths", "length, 2 B", (32.0, n.div_ceil(32)), Writer::Device, "once a buffer"),
                area("index", "used buffers, 4 B", (1.0, 1), Writer::Device, "once a burst; read when credit is out"),
                area("table", "wide address and length, 16 B", (4.0, n.div_ceil(4)), Writer::Driver, "seldom"),
            ],
            transfers_burst_1: 1.0 / 8.0 + 1.0 / 32.0 + 1.0,
            transfers_burst_32: (4.0 + 1.0 + 1.0) / 32.0,
            count:
                "1/8 of a line of buffers and 1/32 of lengths, and the index once a burst (at bursts of 1 at worst: \
                    a driver that is behind reads it once for many)"
                    .into(),
        }
    }
}
