//! A set of MAC addresses in which every look-up costs the same.
//!
//! An address has one bucket of eight, which is one cache line: a look-up reads that line, compares all eight words and
//! branches on nothing. What does not fit its bucket makes the whole table be built anew, by another hash or larger; that
//! happens when the table is set, never when a frame comes.

use alloc::vec;
use alloc::vec::Vec;

use crate::addr::MacAddr;

/// Addresses of a bucket: a cache line.
const WIDTH: usize = 8;
/// Hashes that are tried for one size.
const TRIES: u64 = 8;
/// No address looks like this: it has bits above the 48th.
const FREE: u64 = u64::MAX;
/// An odd number without a pattern (2^64 divided by the golden ratio).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket([u64; WIDTH]);

/// A set of addresses.
#[derive(Clone, Debug)]
pub(crate) struct MacTable {
    /// A power of two of them; one at least.
    buckets: Vec<Bucket>,
    /// Odd.
    multiplier: u64,
    /// Bits that a hash is shifted right by to become a bucket's number.
    shift: u32,
}

impl MacTable {
    /// Nothing is in it.
    pub(crate) fn empty() -> Self {
        Self { buckets: vec![Bucket([FREE; WIDTH])], multiplier: MULTIPLIER, shift: 63 }
    }

    /// A table of these, each once. `None` if it cannot be built: only addresses that were made for that do so.
    pub(crate) fn build(words: &[u64], seed: u64) -> Option<Self> {
        let mut sorted = words.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        // A quarter of the places used, then an eighth, and a sixteenth.
        let least = sorted.len().div_ceil(WIDTH / 4).next_power_of_two();
        for size in [least, least.saturating_mul(2), least.saturating_mul(4)] {
            for n in 1..=TRIES {
                let multiplier = MULTIPLIER.wrapping_mul(seed.wrapping_mul(TRIES).wrapping_add(n)) | 1;
                if let Some(table) = Self::fill(&sorted, size, multiplier) {
                    return Some(table);
                }
            }
        }
        None
    }

    fn fill(words: &[u64], size: usize, multiplier: u64) -> Option<Self> {
        // One bucket has no bits: the hash is shifted twice, by one bit less than that and by one.
        let shift = 63_u32.wrapping_sub(size.trailing_zeros()); // a table has far fewer than 2^63
        let buckets = vec![Bucket([FREE; WIDTH]); size];
        let mut table = Self { buckets, multiplier, shift };
        for word in words {
            let at = table.bucket(*word);
            let place = table.buckets.get_mut(at)?.0.iter_mut().find(|place| **place == FREE)?;
            *place = *word;
        }
        Some(table)
    }

    #[inline]
    fn bucket(&self, word: u64) -> usize {
        (word.wrapping_mul(self.multiplier).wrapping_shr(self.shift) >> 1) as usize // below the number of buckets
    }

    /// True if the address is in it.
    #[inline]
    pub(crate) fn contains(&self, word: u64) -> bool {
        let Some(bucket) = self.buckets.get(self.bucket(word)) else { return false };
        bucket.0.iter().fold(false, |found, entry| found | (*entry == word))
    }

    /// The addresses, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MacAddr> + '_ {
        self.buckets.iter().flat_map(|b| b.0).filter(|word| *word != FREE).map(MacAddr::from_word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nine addresses for one bucket of eight: another hash or a larger table has to help, and if nothing does, there is
    /// no table.
    #[test]
    fn a_bucket_that_overflows_is_no_table() {
        let words: Vec<u64> = (0..9).collect();
        assert!(MacTable::fill(&words, 1, MULTIPLIER).is_none());
        assert!(MacTable::fill(&words[..8], 1, MULTIPLIER).is_some());
        let table = MacTable::build(&words, 0).unwrap();
        assert!(words.iter().all(|w| table.contains(*w)) && !table.contains(9));
    }

    #[test]
    fn every_address_has_a_bucket_whatever_the_size() {
        for bits in 0..20 {
            let table = MacTable::fill(&[], 1 << bits, MULTIPLIER).unwrap();
            assert!((0..1000).all(|n| table.bucket(n * 0x00ff_ffff) < 1 << bits), "2^{bits}");
        }
    }
}
