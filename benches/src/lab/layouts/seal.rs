//! Lines that are sealed: entries of 8 bytes, and a word that says how many of them are there.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::shared::{LINE, Words};

/// Bytes of an entry.
pub(super) const ENTRY: usize = 8;

/// A place in lines of `PER` entries each, which are written in turn, again and again.
#[derive(Debug)]
pub(super) struct Cursor<const PER: usize> {
    area: usize,
    end: usize,
    /// Offset of the next entry.
    place: usize,
    /// 1 in the first lap, then 0, and so on: the ring begins with zeros.
    lap: u32,
}

impl<const PER: usize> Cursor<PER> {
    const fn new(area: usize, lines: usize) -> Self {
        Self { area, end: area + LINE * lines, place: area, lap: 1 }
    }

    /// Offset of the line.
    #[inline(always)]
    pub(super) const fn line(&self) -> usize {
        self.place & !(LINE - 1)
    }

    /// Entry in the line.
    #[inline(always)]
    pub(super) const fn at(&self) -> usize {
        self.place % LINE / ENTRY
    }

    /// Offset of the next entry.
    #[inline(always)]
    pub(super) const fn place(&self) -> usize {
        self.place
    }

    /// Offset of the line that comes `by` lines later; there are more lines than that.
    #[inline(always)]
    pub(super) const fn ahead(&self, by: usize) -> usize {
        let place = self.place + by * LINE;
        if place < self.end { place } else { place - (self.end - self.area) }
    }

    #[inline(always)]
    const fn seal(&self) -> u32 {
        (self.at() as u32) << 1 | self.lap
    }

    /// The line is complete.
    #[inline(always)]
    const fn complete(&self) -> bool {
        self.place % LINE == PER * ENTRY
    }

    #[inline(always)]
    fn turn(&mut self) {
        self.place = self.line() + LINE;
        if self.place == self.end {
            self.place = self.area;
            self.lap ^= 1;
        }
    }
}

/// Fewest lines with which a line is written again only when all of its entries were taken back.
pub(super) const fn lines(size: u16, per: usize) -> usize {
    let lines = (size as usize + per - 1).div_ceil(per);
    // More than anybody looks ahead.
    if lines < 4 { 4 } else { lines }
}

/// Seals at `SEAL` in their lines. The first one of a burst is kept back until the burst is published, so that the
/// reader does not get past it.
#[derive(Debug)]
pub(super) struct Seals<const PER: usize, const SEAL: usize> {
    first: usize,
    held: u32,
}

impl<const PER: usize, const SEAL: usize> Seals<PER, SEAL> {
    pub(super) const fn new(area: usize) -> Self {
        Self { first: area, held: 0 }
    }

    /// Seals what was written of the line so far.
    #[inline(always)]
    pub(super) fn seal(&mut self, words: &impl Words, now: &Cursor<PER>) {
        if now.line() == self.first {
            self.held = now.seal();
        } else {
            // Ordered by the first seal: nobody looks at this one before.
            words.store32(now.line() + SEAL, now.seal(), Relaxed);
        }
    }

    /// Makes all entries before `now` visible, of which some are new.
    #[inline(always)]
    pub(super) fn publish(&mut self, words: &impl Words, now: &Cursor<PER>) {
        if now.at() > 0 {
            self.seal(words, now);
        }
        // Partner: the acquiring load in `look`.
        words.store32(self.first + SEAL, self.held, Release);
        self.first = now.line();
    }
}

/// Writes lines.
#[derive(Debug)]
pub(super) struct Sealer<const PER: usize, const SEAL: usize> {
    now: Cursor<PER>,
    seals: Seals<PER, SEAL>,
}

impl<const PER: usize, const SEAL: usize> Sealer<PER, SEAL> {
    pub(super) const fn new(area: usize, lines: usize) -> Self {
        Self { now: Cursor::new(area, lines), seals: Seals::new(area) }
    }

    /// Where the next entry goes.
    #[inline(always)]
    pub(super) const fn now(&self) -> &Cursor<PER> {
        &self.now
    }

    /// The entry was written. True if a line was begun.
    #[inline(always)]
    pub(super) fn written(&mut self, words: &impl Words) -> bool {
        self.now.place += ENTRY;
        let complete = self.now.complete();
        if complete {
            self.seals.seal(words, &self.now);
            self.now.turn();
        }
        complete
    }

    /// Makes all entries visible, of which some are new.
    #[inline(always)]
    pub(super) fn publish(&mut self, words: &impl Words) {
        self.seals.publish(words, &self.now);
    }
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Opener<const PER: usize, const SEAL: usize> {
    now: Cursor<PER>,
    /// Entries before this place are known to be there.
    known: usize,
}

impl<const PER: usize, const SEAL: usize> Opener<PER, SEAL> {
    pub(super) const fn new(area: usize, lines: usize) -> Self {
        Self { now: Cursor::new(area, lines), known: area }
    }

    /// Where the next entry is.
    #[inline(always)]
    pub(super) const fn now(&self) -> &Cursor<PER> {
        &self.now
    }

    /// How many are known to be there in a row, at most `most`; looks if none is. Waits before it looks again at a line
    /// of which a part was there.
    #[inline(always)]
    pub(super) fn ready(&mut self, words: &impl Words, most: usize, patience: u32) -> usize {
        if self.now.place == self.known && most > 0 {
            self.look(words, patience);
        }
        ((self.known - self.now.place) / ENTRY).min(most)
    }

    #[inline(always)]
    fn look(&mut self, words: &impl Words, patience: u32) {
        if self.now.at() > 0 {
            words.wait(patience);
        }
        // Partner: the releasing store in `publish`.
        let seal = words.load32(self.now.line() + SEAL, Acquire);
        if seal & 1 == self.now.lap {
            self.known = self.now.line() + (seal >> 1) as usize * ENTRY;
        }
    }

    /// `count` entries were read. True if the line is complete; `turn` is next.
    #[inline(always)]
    pub(super) fn read(&mut self, count: usize) -> bool {
        self.now.place += count * ENTRY;
        self.now.complete()
    }

    /// Goes on to the next line.
    #[inline(always)]
    pub(super) fn turn(&mut self) {
        self.now.turn();
        self.known = self.now.place;
    }
}
