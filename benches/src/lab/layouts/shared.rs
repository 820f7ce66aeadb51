//! What layouts of one's own have in common: words of the shared memory, and who wakes whom.
#![expect(unsafe_code, reason = "raw pointers into the arena: what a word costs is what is measured")]

use std::error::Error;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use virtio_ring::GuestAddr;

use crate::lab::Setup;
use crate::lab::report::{Lines, Writer};

/// Bytes of a cacheline.
pub const LINE: usize = 64;
/// Between what one side writes and what the other writes: the prefetcher fetches lines in pairs.
pub const APART: usize = 128;
/// Where the driver's event word is.
pub const DRIVER_EVENT: usize = 0;
/// Where the device's event word is.
pub const DEVICE_EVENT: usize = APART;
/// Where a layout's own areas begin.
pub const AREAS: usize = 2 * APART;

const BASE: GuestAddr = GuestAddr(0x1000);

/// Words that both sides reach, by their offset in bytes. A word is always used with the same width.
pub trait Words {
    /// Loads 16 bits.
    fn load16(&self, at: usize, order: Ordering) -> u16;
    /// Stores 16 bits.
    fn store16(&self, at: usize, value: u16, order: Ordering);
    /// Loads 32 bits.
    fn load32(&self, at: usize, order: Ordering) -> u32;
    /// Stores 32 bits.
    fn store32(&self, at: usize, value: u32, order: Ordering);
    /// Loads 64 bits.
    fn load64(&self, at: usize, order: Ordering) -> u64;
    /// Stores 64 bits.
    fn store64(&self, at: usize, value: u64, order: Ordering);
    /// A full fence.
    fn fence(&self);
    /// Waits a little, as a side does that would only be in the way of the other.
    #[inline(always)]
    fn wait(&self, _turns: u32) {}
    /// A hint: the line will be written soon.
    #[inline(always)]
    fn own(&self, _at: usize) {}
    /// A hint: the line will be read soon.
    #[inline(always)]
    fn want(&self, _at: usize) {}
}

/// The arena.
#[derive(Debug)]
pub struct Raw {
    base: *mut u8,
    _arena: crate::Arena,
}

// SAFETY: only an address and the owner of the mapping; what is behind the address is reached through atomics.
unsafe impl Send for Raw {}

impl Raw {
    /// `bytes` of the arena, zeroed, once for each side.
    pub fn pair(setup: &Setup<'_>, bytes: usize) -> Result<(Self, Self), Box<dyn Error>> {
        let base = setup.arena.host(BASE);
        let last = setup.arena.host(GuestAddr(BASE.0 + bytes as u64));
        if base.is_null() || last.is_null() || BASE.0 + bytes as u64 > crate::Arena::buffer(0).0 {
            return Err("the arena has no room for the ring".into());
        }
        let side = || Self { base, _arena: setup.arena.clone() };
        let raw = side();
        for at in (0..bytes).step_by(8) {
            raw.store64(at, 0, Ordering::Relaxed);
        }
        Ok((raw, side()))
    }
}

macro_rules! word {
    ($load:ident, $store:ident, $word:ty, $atomic:ident) => {
        #[inline(always)]
        fn $load(&self, at: usize, order: Ordering) -> $word {
            // SAFETY: layouts mask their offsets to the bytes that `pair` was asked for, which are mapped while the
            // arena lives; all access is atomic.
            unsafe { $atomic::from_ptr(self.base.wrapping_add(at).cast()) }.load(order)
        }
        #[inline(always)]
        fn $store(&self, at: usize, value: $word, order: Ordering) {
            // SAFETY: as in the load.
            unsafe { $atomic::from_ptr(self.base.wrapping_add(at).cast()) }.store(value, order);
        }
    };
}

impl Words for Raw {
    word!(load16, store16, u16, AtomicU16);
    word!(load32, store32, u32, AtomicU32);
    word!(load64, store64, u64, AtomicU64);

    #[inline(always)]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn wait(&self, turns: u32) {
        for _ in 0..turns {
            std::hint::spin_loop();
        }
    }

    #[inline(always)]
    fn want(&self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint about an address; it faults at none and changes nothing.
        unsafe {
            std::arch::asm!("prefetcht0 [{}]", in(reg) self.base.wrapping_add(at), options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }

    #[inline(always)]
    fn own(&self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint about an address; it faults at none and changes nothing.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) self.base.wrapping_add(at), options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }
}

/// One side's half of the protocol of sleeping: flags only, and nothing at all when both sides poll.
#[derive(Debug)]
pub struct Bell {
    mine: usize,
    peers: usize,
    sleeps: bool,
}

impl Bell {
    /// The driver's.
    pub const fn driver(sleeps: bool) -> Self {
        Self { mine: DRIVER_EVENT, peers: DEVICE_EVENT, sleeps }
    }

    /// The device's.
    pub const fn device(sleeps: bool) -> Self {
        Self { mine: DEVICE_EVENT, peers: DRIVER_EVENT, sleeps }
    }

    /// After something was published: has the peer to be woken? It is told once: the flag is taken down, and the
    /// caller's kick comes after that.
    #[inline(always)]
    pub fn must_wake(&self, words: &impl Words) -> bool {
        if !self.sleeps {
            return false;
        }
        // Partner: the fence in `ask`.
        words.fence();
        let wake = words.load32(self.peers, Ordering::Relaxed) != 0;
        if wake {
            words.store32(self.peers, 0, Ordering::Relaxed);
        }
        wake
    }

    /// Before sleeping; the caller looks for work after it.
    pub fn ask(&self, words: &impl Words) {
        words.store32(self.mine, 1, Ordering::Relaxed);
        // Partner: the fence in `must_wake`.
        words.fence();
    }

    /// After sleeping, or instead of it.
    pub fn hush(&self, words: &impl Words) {
        words.store32(self.mine, 0, Ordering::Relaxed);
    }
}

/// Turns of waiting, on the machines at hand 15 to 20 ns each, before a side looks again at a line that its peer is
/// probably filling, so that the line travels when it is full. Less for small rings: meanwhile they must not run dry.
#[inline(always)]
#[must_use]
pub const fn patience(size: u32) -> u32 {
    if size < 192 { size / 16 } else { 12 }
}

/// An area of a picture; `lines` are the entries a line, and the lines.
#[must_use]
pub fn area(name: &str, entry: &str, lines: (f64, usize), writer: Writer, when: &str) -> Lines {
    let (per_line, lines) = lines;
    Lines { area: name.into(), entry: entry.into(), per_line, lines, writer, when: when.into() }
}

/// Reads how many buffers were used, at `index`. `reaped` were taken back and `posted` made available so far.
#[inline(always)]
pub fn look(words: &impl Words, index: usize, (reaped, posted): (u32, u32), size: u32) -> u32 {
    let used = words.load32(index, Ordering::Acquire);
    // Much is under way and little has come: the device is busy, and every look costs it the line.
    if used.wrapping_sub(reaped) < size / 8 && posted.wrapping_sub(used) >= size / 2 {
        words.wait(patience(size));
        return words.load32(index, Ordering::Acquire);
    }
    used
}

/// How the device's side has fared lately: whether it is behind, and what lies ahead can be fetched, or at the driver's
/// heels, where every line that it looks at early is taken away from the driver.
#[derive(Debug)]
pub struct Pace {
    /// Turns to wait in a stream.
    patience: u32,
    /// Looks since the last buffer.
    dry: u32,
    /// Buffers since the last look that found nothing.
    run: u32,
    /// Buffers since [`Pace::IDLE`] looks in a row found nothing.
    stream: u32,
}

impl Pace {
    /// So many looks for nothing are more than a driver in a hurry leaves time for. One that waits for each of its
    /// buffers to come back leaves time for many.
    const IDLE: u32 = 4;

    /// Of a ring of `size` entries.
    #[must_use]
    pub const fn new(size: u16) -> Self {
        Self { patience: patience(size as u32), dry: 0, run: 0, stream: 0 }
    }

    /// More than two of the usual bursts in a row: the device is behind.
    #[inline(always)]
    #[must_use]
    pub const fn behind(&self) -> bool {
        self.run > 64
    }

    /// How long to wait before another look at a line that the driver is probably filling. If buffers do not come in a
    /// stream it is latency that counts, and nothing is waited for.
    #[inline(always)]
    #[must_use]
    pub const fn patience(&self) -> u32 {
        if self.stream >= 8 { self.patience } else { 0 }
    }

    /// `count` buffers were found.
    #[inline(always)]
    pub fn found(&mut self, words: &impl Words, count: u32) {
        if count > 0 {
            self.dry = 0;
            self.run = self.run.saturating_add(count);
            self.stream = self.stream.saturating_add(count);
            return;
        }
        self.dry += 1;
        self.run = 0;
        if self.dry >= Self::IDLE {
            (self.dry, self.stream) = (0, 0);
        }
        words.wait(self.patience());
    }
}
