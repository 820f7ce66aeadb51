//! A set of VLAN ids.

/// Ids that there are: twelve bits.
pub const VLANS: u16 = 4096;

const WORDS: usize = VLANS as usize / 64;

/// A set of VLAN ids: one bit for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VlanSet([u64; WORDS]);

impl VlanSet {
    /// None of them.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Takes an id in or out. False: there is no such id, and nothing has changed.
    pub fn set(&mut self, id: u16, on: bool) -> bool {
        let Some(word) = self.0.get_mut(usize::from(id) / 64) else { return false };
        let bit = 1_u64.wrapping_shl(id.into()); // modulo 64
        *word = if on { *word | bit } else { *word & !bit };
        true
    }

    /// True if the id is in the set; never for what is no id.
    #[must_use]
    #[inline]
    pub fn contains(&self, id: u16) -> bool {
        let word = self.0.get(usize::from(id) / 64).copied().unwrap_or(0);
        word.wrapping_shr(id.into()) & 1 == 1
    }

    /// Its 512 bytes: the bits of ids 0 to 7 in the first one, the lowest id lowest.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; VLANS as usize / 8] {
        let mut bytes = [0; VLANS as usize / 8];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&self.0) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    /// The set with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; VLANS as usize / 8]) -> Self {
        let mut words = [0; WORDS];
        for (word, from) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*from);
        }
        Self(words)
    }

    /// The ids, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..VLANS).filter(|id| self.contains(*id))
    }
}
