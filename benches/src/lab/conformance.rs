//! What every layout keeps to, checked on any layout: see [`check`].

mod alone;
mod paper;
mod together;

use std::collections::VecDeque;
use std::time::Duration;

use virtio_ring::{Access, GuestAddr, GuestMemory};

use super::run::watch::PATIENCE;
use super::{Buffer, Layout, Setup};
use crate::{Arena, Memory};

/// How strict to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Everything.
    All,
    /// For other people's implementations: buffers may become visible before they are flushed.
    Lenient,
}

/// What was left out, or what is wrong.
pub type Verdict = Result<Vec<String>, String>;

/// Sizes that are tried. A layout may refuse those below the largest.
const SIZES: [u16; 3] = [2, 4, 256];

/// Checks a layout. With nobody else there: an empty ring gives nothing, a full one refuses, buffers come out once, in
/// order and with their bytes, over many laps, and not before they are flushed. Between two threads the same, polling,
/// and sleeping with eventfds: no wake-up is lost. And the picture adds up.
///
/// # Errors
/// What is wrong, in a line.
pub fn check<L: Layout>(rules: Rules) -> Verdict {
    check_within::<L>(rules, PATIENCE)
}

/// The same with another patience: how long nothing may move between two threads before that counts as hanging.
fn check_within<L: Layout>(rules: Rules, patience: Duration) -> Verdict {
    paper::check::<L>()?;
    let mut skipped = Vec::new();
    for size in SIZES {
        let largest = SIZES.iter().all(|s| *s <= size);
        match open::<L>(size, false) {
            Ok(_) => {
                alone::check::<L>(size, rules).map_err(|e| format!("size {size}: {e}"))?;
                together::polled::<L>(size, patience).map_err(|e| format!("size {size}, two threads: {e}"))?;
            }
            Err(why) if largest => return Err(format!("does not open with {size} entries: {why}")),
            Err(why) => skipped.push(format!("size {size}: {why}")),
        }
        match open::<L>(size, true) {
            Ok(_) => alone::sleepers::<L>(size, rules)
                .and_then(|()| together::asleep::<L>(size, patience))
                .map_err(|e| format!("size {size}, asleep: {e}"))?,
            Err(why) => skipped.push(format!("size {size}, asleep: {why}")),
        }
    }
    Ok(skipped)
}

fn open<L: Layout>(size: u16, sleeps: bool) -> Result<(Arena, L::Driver, L::Device), String> {
    let arena = Arena::new(size).map_err(|e| e.to_string())?;
    let (driver, device) = L::open(&Setup { arena: &arena, size, sleeps }).map_err(|e| e.to_string())?;
    Ok((arena, driver, device))
}

/// Most bytes of a buffer that are written and compared: more would only take longer.
const BYTES: usize = 24;

/// The buffers that a driver adds: slots in turn, lengths by chance, bytes that say which buffer it is.
struct Maker {
    memory: Memory,
    size: u16,
    next: u64,
    chance: Chance,
}

impl Maker {
    fn new(arena: &Arena) -> Self {
        let size = arena.config.size;
        Self { memory: arena.memory.clone(), size, next: 0, chance: Chance::new(u64::from(size)) }
    }

    fn buffer(&mut self) -> Result<Buffer, String> {
        let slot = (self.next % u64::from(self.size)) as u16;
        let buffer = Buffer { addr: Arena::buffer(slot).0, len: 1 + self.chance.below(2048) as u32 };
        let slice = self.memory.translate(GuestAddr(buffer.addr), buffer.len as usize, Access::Write);
        slice.map_err(|e| e.to_string())?.write(&bytes_of(self.next));
        self.next += 1;
        Ok(buffer)
    }
}

/// Bytes of the `index`-th buffer.
fn bytes_of(index: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (word, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&(index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word as u64).to_le_bytes());
    }
    bytes
}

/// The buffers as a device should find them: made again by the same rule, or queued by a driver on the same thread.
struct Finder {
    memory: Memory,
    seen: u64,
    wrong: Option<String>,
}

impl Finder {
    fn new(arena: &Arena) -> Self {
        Self { memory: arena.memory.clone(), seen: 0, wrong: None }
    }

    /// Looks at a buffer that the device was shown; the first thing that is wrong is kept.
    fn see(&mut self, buffer: Buffer, expected: Option<Buffer>) {
        let index = self.seen;
        self.seen += 1;
        if self.wrong.is_some() {
            return;
        }
        match expected {
            Some(e) if e != buffer => {
                self.wrong = Some(format!("buffer {index} should be {e:?}, the device saw {buffer:?}"));
                return;
            }
            Some(_) => {}
            None => {
                self.wrong = Some(format!("the device saw {buffer:?}, but all {index} buffers had been used"));
                return;
            }
        }
        let n = BYTES.min(buffer.len as usize);
        let (mut found, mut own) = ([0; BYTES], [0; BYTES]);
        match self.memory.translate(GuestAddr(buffer.addr), n, Access::Read) {
            Ok(slice) => slice.read(&mut found),
            Err(e) => return self.wrong = Some(format!("buffer {index}: {e}")),
        };
        own.iter_mut().zip(bytes_of(index)).take(n).for_each(|(to, from)| *to = from);
        if found != own {
            self.wrong = Some(format!("buffer {index} has the bytes {found:x?}, not its own"));
        }
    }

    fn verdict(&mut self) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)
    }
}

/// Buffers on their way.
type Queue = VecDeque<Buffer>;

/// A small generator of pseudo-random numbers (xorshift): the same ones each time.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    /// From 0 to `end - 1`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}

#[cfg(test)]
mod tests;
