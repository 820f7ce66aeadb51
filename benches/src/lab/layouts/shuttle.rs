//! Lines that come back: the completions ride in the lines of the buffers, and nothing else travels.
//!
//! # Idea
//! When the driver writes a line anew it has to take it away from the device anyway. So let the line bring the
//! completions along: seven buffers of one word each (as in [`super::compact`]) share a line with two seals. The driver's
//! says how many buffers are there; the device writes each length over its buffer, and its seal says how many are
//! done. There is no index and no used ring, and the peer's progress lies in the line that is needed next. A line is
//! fetched for writing at once by whoever is going to write it: one message instead of two.
//!
//! # Lines
//! ```text
//! driver -> device   | word | word | word | word | word | word | word | seal,      |   addr << 17 | len << 1
//! device -> driver   | len  | len  | len  | len  | len  | len  | len  |       seal |   seals: count << 1 | lap
//! ```
//! A line that is not full is sealed early, with the count so far. The first seal of a burst is stored last.
//!
//! # Count
//! A line of seven travels there and back: 2/7 = 0.29 lines a buffer whatever the burst, as long as both sides find
//! whole lines. That is what it pays for: with a driver that reaps eagerly and few buffers under way, both sides meet in
//! one line, and it travels for every buffer.

use std::error::Error;
use std::sync::atomic::Ordering::Relaxed;

use super::narrow::{WIDE, buffer, from_table, narrow};
use super::seal::{ENTRY, Opener, Sealer, Seals, lines};
use super::shared::{APART, AREAS, Bell, LINE, Pace, Raw, Words, area, patience};
use crate::lab::report::{Picture, Writer};
use crate::lab::{Buffer, DeviceSide, DriverSide, Layout, Setup};

/// Buffers a line.
const BUFFERS: usize = 7;
/// Where the driver's seal is.
const OUT: usize = 56;
/// Where the device's seal is.
const BACK: usize = 60;

/// How many lines ahead are fetched.
const AHEAD: usize = 2;

/// Where the table of wide buffers is.
fn wide(size: u16) -> usize {
    (AREAS + LINE * lines(size, BUFFERS)).next_multiple_of(APART) + APART
}

/// The driver's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Driver<M = Raw> {
    words: M,
    bell: Bell,
    out: Sealer<BUFFERS, OUT>,
    back: Opener<BUFFERS, BACK>,
    wide: usize,
    size: u32,
    free: u32,
    added: bool,
    bytes: u64,
}

/// The device's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Device<M = Raw> {
    words: M,
    bell: Bell,
    input: Opener<BUFFERS, OUT>,
    wide: usize,
    back: Seals<BUFFERS, BACK>,
    used: bool,
    pace: Pace,
}

/// Where in the table the buffer of the word at `place` is.
#[inline(always)]
const fn slot(wide: usize, place: usize) -> usize {
    wide + (place - AREAS) / ENTRY * WIDE
}

impl<M: Words> Driver<M> {
    pub(super) fn new(words: M, size: u16, sleeps: bool) -> Self {
        let n = lines(size, BUFFERS);
        let (out, back) = (Sealer::new(AREAS, n), Opener::new(AREAS, n));
        Self {
            words,
            bell: Bell::driver(sleeps),
            out,
            back,
            wide: wide(size),
            size: size.into(),
            free: size.into(),
            added: false,
            bytes: 0,
        }
    }

    /// How long to wait before another look at a line that the device is still working on: with much under way it is
    /// the line that counts, with little the latency.
    #[inline(always)]
    const fn patience(&self) -> u32 {
        if self.free < self.size / 2 { patience(self.size) } else { 0 }
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
        if self.free == 0 {
            return false;
        }
        self.free -= 1;
        self.added = true;
        let place = self.out.now().place();
        let word = narrow(&self.words, buffer, slot(self.wide, place));
        self.words.store64(place, word, Relaxed);
        // Only if that line is free: else it would be taken away from the device, which has yet to read it.
        if self.out.written(&self.words) && self.free > 3 * BUFFERS as u32 {
            self.words.own(self.out.now().ahead(AHEAD));
        }
        true
    }

    #[inline(always)]
    fn flush(&mut self) -> bool {
        if !self.added {
            return false;
        }
        self.added = false;
        self.out.publish(&self.words);
        self.bell.must_wake(&self.words)
    }

    #[inline(always)]
    fn reap(&mut self, most: usize) -> usize {
        let (patience, mut count, mut bytes) = (self.patience(), 0, 0_u64);
        loop {
            let ready = self.back.ready(&self.words, most - count, patience);
            if ready == 0 {
                break;
            }
            let place = self.back.now().place();
            for i in 0..ready {
                bytes = bytes.wrapping_add(self.words.load64(place + i * ENTRY, Relaxed));
            }
            if self.back.read(ready) {
                self.back.turn();
                // Read now and written soon after: one message instead of two.
                self.words.own(self.back.now().ahead(AHEAD));
            }
            count += ready;
        }
        self.bytes = self.bytes.wrapping_add(bytes);
        if count == 0 {
            self.words.wait(patience);
        }
        self.free += count as u32;
        count
    }

    fn arm(&mut self) -> bool {
        self.bell.ask(&self.words);
        let idle = self.back.ready(&self.words, 1, 0) == 0;
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
        let n = lines(size, BUFFERS);
        let (input, back) = (Opener::new(AREAS, n), Seals::new(AREAS));
        Self { words, bell: Bell::device(sleeps), input, back, wide: wide(size), used: false, pace: Pace::new(size) }
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
            let place = self.input.now().place();
            for i in 0..ready {
                let place = place + i * ENTRY;
                let found = buffer(self.words.load64(place, Relaxed));
                let buffer = found.unwrap_or_else(|| from_table(&self.words, slot(self.wide, place)));
                visit(buffer);
                self.words.store64(place, buffer.len.into(), Relaxed);
            }
            if self.input.read(ready) {
                self.back.seal(&self.words, self.input.now());
                self.input.turn();
                if self.pace.behind() {
                    self.words.own(self.input.now().ahead(AHEAD));
                }
            }
            count += ready;
        }
        self.used |= count > 0;
        self.pace.found(&self.words, count as u32);
        count
    }

    #[inline(always)]
    fn flush(&mut self) -> bool {
        if !self.used {
            return false;
        }
        self.used = false;
        self.back.publish(&self.words, self.input.now());
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
pub struct Shuttle;

impl Layout for Shuttle {
    const NAME: &'static str = "shuttle";
    const IDEA: &'static str =
        "Seven buffers a line, which comes back with the lengths written over them: nothing else travels";
    type Driver = Driver;
    type Device = Device;

    fn open(setup: &Setup<'_>) -> Result<(Driver, Device), Box<dyn Error>> {
        let bytes = slot(wide(setup.size), AREAS + LINE * lines(setup.size, BUFFERS));
        let (driver, device) = Raw::pair(setup, bytes)?;
        Ok((Driver::new(driver, setup.size, setup.sleeps), Device::new(device, setup.size, setup.sleeps)))
    }

    fn picture(size: u16) -> Picture {
        let (n, per_line) = (lines(size, BUFFERS), BUFFERS as f64);
        Picture {
            layout: Self::NAME.into(),
            idea: Self::IDEA.into(),
            areas: vec![
                area("event words", "flag, 4 B", (1.0, 2), Writer::Both, "before sleeping"),
                area("buffers", "address, length: 8 B; then length", (per_line, n), Writer::Both, "once a buffer each"),
                area("table", "wide address and length, 16 B", (4.0, 2 * n), Writer::Driver, "seldom"),
            ],
            transfers_burst_1: 2.0 / 7.0,
            transfers_burst_32: 2.0 / 7.0,
            count: "A line of 7 buffers travels there and back, and nothing else does; in a stream that is so with \
                    bursts of 1 as well"
                .into(),
        }
    }
}
