//! Lines with a seal: the unit that travels is a line, and a word in it says how many buffers are there.
//!
//! # Idea
//! A flag in every descriptor costs its bits in every descriptor, and an index costs a line of its own. Here five
//! buffers, with all of 64 bits of address and 32 of length, share a line with one seal (count and lap): a device that
//! reads a line knows everything about it. Completions are lengths behind an index, as in [`super::compact`].
//!
//! # Lines
//! ```text
//! driver -> device   | addr | addr | addr | addr | addr | len, len, len, len, len, seal |   seal: count << 1 | lap
//! device -> driver   | len, len, len ... 16 of them                                    |   32 bits each
//! device -> driver   | index |                                                             in a line of its own
//! ```
//! A line that is not full is sealed early, with the count so far, and sealed again when there is more. The first seal
//! of a burst is stored last, so that the rest of the burst is not seen before it.
//!
//! # Count
//! Bursts of 32: 6.4 lines of buffers, 2 of lengths, 1 of the index: 9.4/32 = 0.29 lines a buffer. Bursts of 1 in a
//! stream: the same lines, and the index at worst once a buffer.

use std::error::Error;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::seal::{ENTRY, Opener, Sealer, lines};
use super::shared::{APART, AREAS, Bell, LINE, Pace, Raw, Words, area, look};
use crate::lab::report::{Picture, Writer};
use crate::lab::{Buffer, DeviceSide, DriverSide, Layout, Setup};

/// Buffers a line: 64 bits of address, 32 of length.
const BUFFERS: usize = 5;
/// Where the lengths are in a line.
const LEN: usize = 8 * BUFFERS;
/// Where the seal is in a line.
const SEAL: usize = 60;
/// Lengths a line, on the way back.
const LENGTHS: u32 = 16;
/// How many lines ahead are fetched.
const AHEAD: usize = 2;

/// Where the areas are.
#[derive(Clone, Copy, Debug)]
struct Place {
    mask: u32,
    lengths: usize,
    index: usize,
}

impl Place {
    fn new(size: u16) -> Self {
        let lengths = (AREAS + LINE * lines(size, BUFFERS)).next_multiple_of(APART) + APART;
        let index = (lengths + 4 * usize::from(size)).next_multiple_of(APART) + APART;
        Self { mask: u32::from(size) - 1, lengths, index }
    }
    #[inline(always)]
    const fn length(&self, at: u32) -> usize {
        self.lengths + 4 * (at & self.mask) as usize
    }
}

/// The driver's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Driver<M = Raw> {
    words: M,
    place: Place,
    bell: Bell,
    out: Sealer<BUFFERS, SEAL>,
    /// Buffers added.
    next: u32,
    /// Of which the device can see these.
    visible: u32,
    /// Buffers taken back.
    reaped: u32,
    /// Buffers that are known to be used.
    used: u32,
    bytes: u64,
}

/// The device's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Device<M = Raw> {
    words: M,
    place: Place,
    bell: Bell,
    input: Opener<BUFFERS, SEAL>,
    next: u32,
    visible: u32,
    pace: Pace,
}

impl<M: Words> Driver<M> {
    pub(super) fn new(words: M, size: u16, sleeps: bool) -> Self {
        let (place, bell) = (Place::new(size), Bell::driver(sleeps));
        let out = Sealer::new(AREAS, lines(size, BUFFERS));
        Self { words, place, bell, out, next: 0, visible: 0, reaped: 0, used: 0, bytes: 0 }
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
        let under_way = self.next.wrapping_sub(self.reaped);
        if under_way > self.place.mask {
            return false;
        }
        self.next = self.next.wrapping_add(1);
        let now = self.out.now();
        self.words.store64(now.place(), buffer.addr, Relaxed);
        self.words.store32(now.line() + LEN + 4 * now.at(), buffer.len, Relaxed);
        // Only if that line is free: else it would be taken away from the device, which has yet to read it.
        if self.out.written(&self.words) && under_way + 4 * BUFFERS as u32 <= self.place.mask {
            self.words.own(self.out.now().ahead(AHEAD));
        }
        true
    }

    #[inline(always)]
    fn flush(&mut self) -> bool {
        if self.next == self.visible {
            return false;
        }
        self.out.publish(&self.words);
        self.visible = self.next;
        self.bell.must_wake(&self.words)
    }

    #[inline(always)]
    fn reap(&mut self, most: usize) -> usize {
        let most = most.min(self.place.mask as usize + 1) as u32;
        let (place, mut at, mut bytes) = (self.place, self.reaped, 0_u64);
        if self.used.wrapping_sub(at) < most {
            self.used = look(&self.words, place.index, (at, self.visible), place.mask + 1);
        }
        let count = self.used.wrapping_sub(at).min(most);
        for _ in 0..count {
            bytes += u64::from(self.words.load32(place.length(at), Relaxed));
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
        let input = Opener::new(AREAS, lines(size, BUFFERS));
        Self { words, place, bell, input, next: 0, visible: 0, pace: Pace::new(size) }
    }
}

impl<M: Words + Send> DeviceSide for Device<M> {
    #[inline(always)]
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let (patience, mut count) = (self.pace.patience(), 0);
        loop {
            let ready = self.input.ready(&self.words, most - count, patience);
            if ready == 0 {
                break;
            }
            let now = self.input.now();
            let (from, lens) = (now.place(), now.line() + LEN + 4 * now.at());
            for i in 0..ready {
                let addr = self.words.load64(from + i * ENTRY, Relaxed);
                let len = self.words.load32(lens + i * 4, Relaxed);
                visit(Buffer { addr, len });
                self.words.store32(self.place.length(self.next.wrapping_add(i as u32)), len, Relaxed);
            }
            self.next = self.next.wrapping_add(ready as u32);
            if self.input.read(ready) {
                self.input.turn();
                if self.pace.behind() {
                    self.words.want(self.input.now().ahead(AHEAD));
                }
                self.words.own(self.place.length(self.next.wrapping_add(2 * LENGTHS)));
            }
            count += ready;
        }
        self.pace.found(&self.words, count as u32);
        count
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
        let idle = self.input.ready(&self.words, 1, 0) == 0;
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
pub struct Sealed;

impl Layout for Sealed {
    const NAME: &'static str = "sealed";
    const IDEA: &'static str =
        "Five whole buffers a line with one seal that says how many are there; lengths and an index come back";
    type Driver = Driver;
    type Device = Device;

    fn open(setup: &Setup<'_>) -> Result<(Driver, Device), Box<dyn Error>> {
        let (driver, device) = Raw::pair(setup, Place::new(setup.size).index + LINE)?;
        Ok((Driver::new(driver, setup.size, setup.sleeps), Device::new(device, setup.size, setup.sleeps)))
    }

    fn picture(size: u16) -> Picture {
        let n = usize::from(size);
        let buffers = (BUFFERS as f64, lines(size, BUFFERS));
        Picture {
            layout: Self::NAME.into(),
            idea: Self::IDEA.into(),
            areas: vec![
                area("event words", "flag, 4 B", (1.0, 2), Writer::Both, "before sleeping"),
                area(
                    "buffers",
                    "address and length, 12 B",
                    buffers,
                    Writer::Driver,
                    "once a buffer; seal once a burst",
                ),
                area("lengths", "length, 4 B", (16.0, n.div_ceil(16)), Writer::Device, "once a buffer"),
                area("index", "used buffers, 4 B", (1.0, 1), Writer::Device, "once a burst; read when credit is out"),
            ],
            transfers_burst_1: 1.0 / 5.0 + 1.0 / 16.0 + 1.0,
            transfers_burst_32: (6.4 + 2.0 + 1.0) / 32.0,
            count:
                "1/5 of a line of buffers and 1/16 of lengths, and the index once a burst (at bursts of 1 at worst: \
                    a driver that is behind reads it once for many)"
                    .into(),
        }
    }
}
