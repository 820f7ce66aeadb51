//! The Toeplitz hash (Microsoft, "RSS hashing functions").

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::config::MAX_KEY;

/// Longest input in bytes: two IPv6 addresses and two ports.
const MAX_INPUT: usize = 36;
/// Half bytes of it.
const NIBBLES: usize = MAX_INPUT * 2;

/// The hash by one key, with what each half byte at each place adds: 4.6 KB made once, two loads for each byte then.
#[derive(Clone, PartialEq, Eq)]
pub struct Toeplitz {
    key: Vec<u8>,
    tables: Box<[[u32; 16]; NIBBLES]>,
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Toeplitz").field(&self.key).finish()
    }
}

impl Default for Toeplitz {
    /// By no key: every hash is 0.
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Toeplitz {
    /// By this key, as if there were zeros behind it; what is behind [`MAX_KEY`] bytes does not count.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let key = key.get(..MAX_KEY).unwrap_or(key).to_vec();
        // 32 bits of the key from each bit on.
        let window = |bit: usize| {
            let mut bytes = [0; 8];
            let from = key.get(bit / 8..).unwrap_or_default();
            bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            (u64::from_be_bytes(bytes).wrapping_shl(bit as u32 % 8) >> 32) as u32 // the upper half
        };
        let mut tables = Box::new([[0; 16]; NIBBLES]);
        for (place, table) in tables.iter_mut().enumerate() {
            let windows = [0, 1, 2, 3].map(|bit| window(place.wrapping_mul(4).wrapping_add(bit)));
            for (nibble, entry) in table.iter_mut().enumerate() {
                // The highest bit comes first.
                let bits = windows.iter().enumerate().filter(|(i, _)| nibble & (8 >> i) != 0);
                *entry = bits.fold(0, |hash, (_, window)| hash ^ window);
            }
        }
        Self { key, tables }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The hash of up to 36 bytes.
    #[must_use]
    #[inline]
    pub fn hash(&self, input: &[u8]) -> u32 {
        let (pairs, _) = self.tables.as_chunks::<2>();
        input.iter().zip(pairs).fold(0, |hash, (byte, [high, low])| {
            let at = |table: &[u32; 16], nibble: u8| table.get(usize::from(nibble)).copied().unwrap_or(0);
            hash ^ at(high, byte >> 4) ^ at(low, byte & 15)
        })
    }
}
