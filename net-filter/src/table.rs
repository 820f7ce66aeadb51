//! A set of MAC addresses in which every look-up costs the same.
//!
//! An address has one bucket of eight, which is one cache line: a look-up reads that line, compares all eight at once and
//! branches on none of them. What does not fit its bucket makes the whole table be built anew, by another hash or larger;
//! that happens when the table is set, never when a frame comes.

use alloc::vec;
use alloc::vec::Vec;

use crate::addr::MacAddr;

/// Addresses of a bucket: a cache line.
const WIDTH: usize = 8;
/// Hashes that are tried for one size.
const TRIES: u64 = 8;
/// The upper half of a place without an address: no address has bits above the 48th.
const FREE: u32 = u32::MAX;
/// An odd number without a pattern (2^64 divided by the golden ratio).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Places for addresses, the halves of each apart: so compilers compare four at a time, on processors that cannot do so with
/// 64 bits as well.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket {
    low: [u32; WIDTH],
    high: [u32; WIDTH],
}

/// The halves of an address.
#[inline]
const fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

impl Bucket {
    const EMPTY: Self = Self { low: [FREE; WIDTH], high: [FREE; WIDTH] };

    /// Puts an address into the first free place; `None` if there is none.
    fn insert(&mut self, word: u64) -> Option<()> {
        let (low, high) = self.low.iter_mut().zip(&mut self.high).find(|(_, high)| **high == FREE)?;
        (*low, *high) = halves(word);
        Some(())
    }

    #[inline]
    fn contains(&self, word: u64) -> bool {
        let (low, high) = halves(word);
        // Taken apart as a copy, which costs nothing: behind a reference compilers forget that the halves are aligned.
        let Self { low: lows, high: highs } = *self;
        lows.iter().zip(&highs).fold(0, |found, (l, h)| found | u32::from((l ^ low) | (h ^ high) == 0)) != 0
    }

    fn iter(self) -> impl Iterator<Item = u64> {
        let places = self.low.into_iter().zip(self.high);
        places.filter(|(_, high)| *high != FREE).map(|(low, high)| u64::from(high) << 32 | u64::from(low))
    }
}

/// A set of addresses.
#[derive(Clone, Debug)]
pub(crate) struct MacTable {
    /// A power of two of them; one at least.
    buckets: Vec<Bucket>,
    /// One less than that.
    mask: usize,
    /// Odd.
    multiplier: u64,
}

impl MacTable {
    /// Nothing is in it.
    pub(crate) fn empty() -> Self {
        Self { buckets: vec![Bucket::EMPTY], mask: 0, multiplier: MULTIPLIER }
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

    /// A table with `size` buckets, a power of two. `None`: a bucket overflows.
    fn fill(words: &[u64], size: usize, multiplier: u64) -> Option<Self> {
        let mut table = Self { buckets: vec![Bucket::EMPTY; size], mask: size.wrapping_sub(1), multiplier };
        for word in words {
            let at = table.bucket(*word);
            table.buckets.get_mut(at)?.insert(*word)?;
        }
        Some(table)
    }

    /// The bucket of an address: bits of a product that all bits of the address bear on. They are enough for 65,536 buckets;
    /// of a larger table the rest stays empty.
    #[inline]
    const fn bucket(&self, word: u64) -> usize {
        (word.wrapping_mul(self.multiplier) >> 48) as usize & self.mask
    }

    /// True if the address is in it.
    #[inline]
    pub(crate) fn contains(&self, word: u64) -> bool {
        self.buckets.get(self.bucket(word)).is_some_and(|bucket| bucket.contains(word))
    }

    /// The addresses, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MacAddr> + '_ {
        self.buckets.iter().flat_map(|bucket| bucket.iter()).map(MacAddr::from_word)
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

    /// Addresses one after the other in any two of their bytes, as makers, hypervisors and multicast protocols hand them out:
    /// each is found, its neighbours are not, and there is room without many buckets.
    #[test]
    fn n57_addresses_that_differ_in_any_two_bytes_fit() {
        for (high, low) in (0..6).flat_map(|a| (0..6).filter(move |b| *b != a).map(move |b| (a, b))) {
            let word = |n: u64| 0x0056_3412_0054_5202 ^ (n >> 8) << (8 * high) ^ (n & 0xff) << (8 * low);
            let words: Vec<u64> = (0..1024).map(word).collect();
            for seed in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
                let table = MacTable::build(&words, seed).unwrap();
                assert!(table.buckets.len() <= 1024, "{high} {low} {seed}: {} buckets", table.buckets.len());
                assert!(words.iter().all(|word| table.contains(*word)));
                assert!((1024..4096).all(|n| !table.contains(word(n))));
                assert_eq!(table.iter().count(), 1024);
            }
        }
    }

    /// An address whose halves are those of two others in the same bucket is not in it, nor is what a free place looks like.
    #[test]
    fn n59_only_whole_addresses_are_found() {
        let table = MacTable::fill(&[0x1111_2222_2222, 0x3333_4444_4444], 1, MULTIPLIER).unwrap();
        for other in [0x1111_4444_4444, 0x3333_2222_2222, 0, 0xffff_ffff_ffff, 0x0000_2222_2222, 0x1111_0000_0000] {
            assert!(!table.contains(other), "{other:#x}");
        }
        assert!(!MacTable::empty().contains(0xffff_ffff_ffff) && MacTable::empty().iter().count() == 0);
    }
}
