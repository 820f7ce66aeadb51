//! A set of MAC addresses in which every look-up costs the same.
//!
//! A hash chooses a line of the processor's cache. Its first word is a multiplier that gives each address of the line a place of
//! its own among the other seven, so a look-up is that line and one comparison: there is no entry to search, and nothing for a
//! compiler to make branches of. The multipliers are sought when the table is set. Where none is found, the whole table is made
//! anew, by another hash or larger; that never happens when a frame comes.

use alloc::vec;
use alloc::vec::Vec;

use crate::ADDR_MASK;
use crate::addr::MacAddr;

/// Words of a line.
const WIDTH: usize = 8;
/// Bits of a product that are a place in a line.
const PLACE_SHIFT: u32 = 61;
/// Hashes that are tried for one size.
const TRIES: u64 = 8;
/// Multipliers that are tried for one line: seven addresses need about 400, six 50, and a line seldom has more than four.
const LINE_TRIES: u64 = 512;
/// No address looks like this: it has bits above the 48th. Odd, so it is the multiplier of a line without addresses as well.
const FREE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u64; WIDTH]);

/// A set of addresses.
#[derive(Clone, Debug)]
pub(crate) struct MacTable {
    /// One at least.
    lines: Vec<Line>,
    /// Odd.
    multiplier: u64,
}

impl MacTable {
    /// Nothing is in it.
    pub(crate) fn empty() -> Self {
        Self { lines: vec![Line([FREE; WIDTH])], multiplier: FREE }
    }

    /// A table of these, each once. `None` if it cannot be built: only addresses that were made for that do so.
    pub(crate) fn build(words: &[u64], seed: u64) -> Option<Self> {
        let mut sorted = words.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        // One or two addresses a line, then half of that, and half again.
        let least = sorted.len().div_ceil(2).next_power_of_two();
        let sizes = [least, least.saturating_mul(2), least.saturating_mul(4)];
        sizes.into_iter().flat_map(|size| (0..TRIES).map(move |n| (size, n))).find_map(|(size, n)| {
            let hash = mix(seed ^ mix(n));
            Self::fill(&sorted, size, hash)
        })
    }

    fn fill(words: &[u64], size: usize, hash: u64) -> Option<Self> {
        let mut table = Self { lines: vec![Line([FREE; WIDTH]); size], multiplier: hash | 1 };
        let mut placed: Vec<_> = words.iter().map(|word| (table.line(*word), *word)).collect();
        placed.sort_unstable();
        for chunk in placed.chunk_by(|a, b| a.0 == b.0) {
            let at = chunk.first()?.0;
            *table.lines.get_mut(at)? = (0..LINE_TRIES).find_map(|n| Line::of(chunk, mix(hash ^ n)))?;
        }
        Some(table)
    }

    /// The hash's part of all hashes, of as many lines: the upper half of their product. Its high bits count, which is where
    /// every bit of the address has been added up.
    #[inline]
    fn line(&self, word: u64) -> usize {
        let hash = u128::from(word.wrapping_mul(self.multiplier));
        (hash.wrapping_mul(self.lines.len() as u128) >> 64) as usize // below the number of lines
    }

    /// True if the address is in it.
    #[inline]
    pub(crate) fn contains(&self, word: u64) -> bool {
        self.lines.get(self.line(word)).is_some_and(|line| line.at(word) == Some(&word))
    }

    /// The addresses, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MacAddr> + '_ {
        self.lines.iter().flat_map(|line| line.0).filter(|word| *word <= ADDR_MASK).map(MacAddr::from_word)
    }
}

impl Line {
    /// A line of these by one multiplier, if that gives each a place of its own. The first place is the multiplier's.
    fn of(placed: &[(usize, u64)], multiplier: u64) -> Option<Self> {
        let mut line = Self([FREE; WIDTH]);
        // Its highest bit makes it no address.
        *line.0.first_mut()? = multiplier | 1 | 1 << 63;
        for (_, word) in placed {
            let place = line.place(*word);
            let free = line.0.get_mut(place).filter(|at| **at == FREE && place != 0)?;
            *free = *word;
        }
        Some(line)
    }

    #[inline]
    const fn place(&self, word: u64) -> usize {
        let [multiplier, ..] = self.0;
        // All bits turned: the product of an address of zeros would always be the first place.
        ((!word).wrapping_mul(multiplier) >> PLACE_SHIFT) as usize // three bits
    }

    /// What is at the word's place.
    #[inline]
    fn at(&self, word: u64) -> Option<&u64> {
        self.0.get(self.place(word))
    }
}

/// A permutation of the words without a pattern (the finalizer of `SplitMix64`): one hash says nothing of the next.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line has seven places: another hash or a larger table has to help with an eighth address, and if nothing does, there
    /// is no table.
    #[test]
    fn a_line_that_overflows_is_no_table() {
        let words: Vec<u64> = (0..8).collect();
        assert!((0..64).all(|n| MacTable::fill(&words, 1, mix(n)).is_none()));
        assert!((0..64).any(|n| MacTable::fill(&words[..7], 1, mix(n)).is_some()), "a full line");
        let table = MacTable::build(&words, 0).unwrap();
        assert!(words.iter().all(|w| table.contains(*w)) && !table.contains(8));
    }

    /// A multiplier that happens to be the one of no address, or an address that hashes to the multiplier's place.
    #[test]
    fn what_is_no_address_is_never_found() {
        let table = MacTable::build(&[0, ADDR_MASK], 7).unwrap();
        assert!(table.contains(0) && table.contains(ADDR_MASK));
        assert_eq!(table.iter().count(), 2);
        let misses = (1..100_000).filter(|w| table.contains(*w)).count();
        assert_eq!(misses, 0);
        assert!((0..1000).all(|w| !MacTable::empty().contains(w)));
    }

    /// The addresses that guests have: numbered ones, groups made of IP addresses, ones that differ in one byte only.
    #[test]
    fn ordinary_tables_are_built_whatever_the_seed() {
        let tables: [fn(u64) -> u64; 5] = [
            |i| i,
            |i| (i & 0xff) << 40 | (i >> 8) << 32 | 0x5254,
            |i| (i & 0xff) << 40 | (i >> 8) << 32 | 0x005e_0001,
            |i| i << 24,
            |i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & ADDR_MASK,
        ];
        for of in tables {
            for seed in (0..32).map(mix) {
                for n in [1, 2, 7, 64, 2048, 4096] {
                    let words: Vec<u64> = (0..n).map(of).collect();
                    let table = MacTable::build(&words, seed).unwrap();
                    assert!(words.iter().all(|w| table.contains(*w)), "{n} with {seed:#x}");
                    assert_eq!(table.iter().count() as u64, n);
                    assert!(table.lines.len() as u64 <= n.next_power_of_two().max(2) * 2, "{n}: {}", table.lines.len());
                }
            }
        }
    }

    #[test]
    fn every_address_has_a_line_whatever_the_size() {
        for size in (1..100).chain((7..20).map(|bits| 1 << bits)) {
            let table = MacTable::fill(&[], size, mix(size as u64)).unwrap();
            let used: std::collections::BTreeSet<_> = (0..1000).map(|n| table.line(n * 0x00ff_ffff)).collect();
            assert!(used.last().is_some_and(|line| *line < size), "{size}");
            assert!(used.len() >= size.min(100) / 2, "{size}: {} are used", used.len());
        }
    }

    proptest! {
        #[test]
        fn a_table_is_the_set_of_its_words(words in prop::collection::vec(0..=ADDR_MASK, 0..300), others in prop::collection::vec(0..=ADDR_MASK, 50), seed: u64) {
            let table = MacTable::build(&words, seed).unwrap();
            for word in words.iter().chain(&others) {
                prop_assert_eq!(table.contains(*word), words.contains(word));
            }
        }
    }
}
