//! A buffer in one word, and a table for those that do not fit.
//!
//! `addr << 17 | len << 1 | lap`: addresses of 47 bits, lengths of 16. A word with length 0 means that address and
//! length are in the table, at the place of the word.

use std::sync::atomic::Ordering::Relaxed;

use super::shared::Words;
use crate::lab::Buffer;

const ADDR_BITS: u32 = 47;
/// A length that does not fit: it is in the table.
pub(super) const LONG: u32 = 0xffff;
/// Bytes of the table for each buffer.
pub(super) const WIDE: usize = 16;

/// The word for `buffer` without its lap; false if it is in the table, at `wide`.
#[inline(always)]
pub(super) fn narrow(words: &impl Words, buffer: Buffer, wide: usize) -> u64 {
    if buffer.addr >> ADDR_BITS != 0 || buffer.len.wrapping_sub(1) >= LONG - 1 {
        return widen(words, buffer, wide);
    }
    buffer.addr << 17 | u64::from(buffer.len) << 1
}

#[cold]
#[inline(never)]
fn widen(words: &impl Words, buffer: Buffer, wide: usize) -> u64 {
    words.store64(wide, buffer.addr, Relaxed);
    words.store64(wide + 8, buffer.len.into(), Relaxed);
    0
}

/// The buffer of a word; none if it is in the table.
#[inline(always)]
pub(super) const fn buffer(word: u64) -> Option<Buffer> {
    let len = (word >> 1) as u16;
    if len == 0 { None } else { Some(Buffer { addr: word >> 17, len: len as u32 }) }
}

/// The buffer in the table at `wide`.
#[cold]
#[inline(never)]
pub(super) fn from_table(words: &impl Words, wide: usize) -> Buffer {
    Buffer { addr: words.load64(wide, Relaxed), len: words.load64(wide + 8, Relaxed) as u32 }
}
