//! The configurations that a driver sends (virtio 1.4, 5.1.6.5.6.4 and 5.1.6.5.7.1).

use alloc::vec::Vec;

use super::{FlowHash, HashTypes};

/// Longest key in bytes: what hashes of two IPv6 addresses and ports use.
pub const MAX_KEY: usize = 40;
/// Most entries of an indirection table.
pub const MAX_TABLE: u16 = 128;

/// What a configuration may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RssLimits {
    /// Queue pairs of the device.
    pub pairs: u16,
    /// Entries of an indirection table, at most.
    pub table: u16,
    /// Bytes of a key, at most.
    pub key: u8,
}

/// What is wrong with a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RssError {
    /// Bytes are missing, or too many.
    #[error("{found} bytes, expected {expected}")]
    Length {
        /// Bytes that came.
        found: usize,
        /// Bytes that its fields ask for.
        expected: usize,
    },
    /// Types that the device does not know.
    #[error("types {bits:#x}, expected those that the config space names")]
    Types {
        /// All that were asked for.
        bits: u32,
    },
    /// A table of a size that cannot be.
    #[error("indirection table of {entries} entries, expected a power of two of at most {max}")]
    Table {
        /// Entries.
        entries: u32,
        /// Entries at most.
        max: u16,
    },
    /// A receive queue that the device has not.
    #[error("receive queue {queue}, expected less than {pairs}")]
    Queue {
        /// The queue's number, from 0; with the reserved bit if that is set.
        queue: u16,
        /// Queue pairs.
        pairs: u16,
    },
    /// Transmit queues that the device has not.
    #[error("{queues} transmit queues, expected 1 to {pairs}")]
    TransmitQueues {
        /// How many.
        queues: u16,
        /// Queue pairs.
        pairs: u16,
    },
    /// A key that is too long.
    #[error("key of {len} bytes, expected at most {max}")]
    Key {
        /// Its bytes.
        len: u8,
        /// Bytes at most.
        max: u8,
    },
    /// A context's id that cannot be, is taken, or is not there.
    #[error("RSS context {id}, expected one of 1 to {max} that {}", if *exists { "is there" } else { "is not there yet" })]
    Context {
        /// The id.
        id: u16,
        /// The highest one.
        max: u16,
        /// Whether it has to be there already.
        exists: bool,
    },
}

/// Receive queues by hash: `struct virtio_net_rss_config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RssConfig {
    /// What is hashed.
    pub types: HashTypes,
    /// The pair whose receive queue takes what has no hash.
    pub unclassified: u16,
    /// The pairs whose receive queues take the others: a power of two of them.
    pub table: Vec<u16>,
    /// Transmit queues that the driver uses.
    pub max_tx_vq: u16,
    /// The key of the hash.
    pub key: Vec<u8>,
}

/// Hashes for reports: `struct virtio_net_hash_config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashConfig {
    /// What is hashed.
    pub types: HashTypes,
    /// The key of the hash.
    pub key: Vec<u8>,
}

impl RssConfig {
    /// Reads the data of `VIRTIO_NET_CTRL_MQ_RSS_CONFIG`.
    ///
    /// # Errors
    /// [`RssError`] names what is wrong with it.
    pub fn parse(data: &[u8], limits: &RssLimits) -> Result<Self, RssError> {
        let mut bytes = Bytes { all: data.len(), used: 0, rest: data };
        let types = types(bytes.take()?)?;
        let entries = u32::from(u16::from_le_bytes(bytes.take()?)).wrapping_add(1);
        if !entries.is_power_of_two() || entries > limits.table.into() {
            return Err(RssError::Table { entries, max: limits.table });
        }
        let unclassified = limits.queue(bytes.take()?)?;
        let mut table = Vec::with_capacity(entries as usize);
        for _ in 0..entries {
            table.push(limits.queue(bytes.take()?)?);
        }
        let max_tx_vq = u16::from_le_bytes(bytes.take()?);
        if !(1..=limits.pairs).contains(&max_tx_vq) {
            return Err(RssError::TransmitQueues { queues: max_tx_vq, pairs: limits.pairs });
        }
        Ok(Self { types, unclassified, table, max_tx_vq, key: bytes.key(limits)? })
    }

    /// The pair whose receive queue takes a frame with this hash.
    #[must_use]
    #[inline]
    pub fn queue(&self, hash: FlowHash) -> u16 {
        if hash.report == 0 {
            return self.unclassified;
        }
        let mask = self.table.len().wrapping_sub(1); // never empty
        self.table.get(hash.value as usize & mask).copied().unwrap_or(self.unclassified)
    }

    /// Queue pairs that are in use by it.
    #[must_use]
    pub fn pairs(&self) -> u16 {
        let last = self.table.iter().fold(self.unclassified, |last, queue| last.max(*queue));
        last.saturating_add(1).max(self.max_tx_vq)
    }

    /// As the driver sends it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.types.bits().to_le_bytes());
        let mask = self.table.len().wrapping_sub(1) as u16; // at most 65535
        for word in [mask, self.unclassified].iter().chain(&self.table).chain([&self.max_tx_vq]) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.push(self.key.len() as u8); // at most 255
        bytes.extend_from_slice(&self.key);
        bytes
    }
}

impl HashConfig {
    /// Reads the data of `VIRTIO_NET_CTRL_MQ_HASH_CONFIG`. What is reserved is not looked at.
    ///
    /// # Errors
    /// [`RssError`] names what is wrong with it.
    pub fn parse(data: &[u8], limits: &RssLimits) -> Result<Self, RssError> {
        let mut bytes = Bytes { all: data.len(), used: 0, rest: data };
        let types = types(bytes.take()?)?;
        let _reserved: [u8; 8] = bytes.take()?;
        Ok(Self { types, key: bytes.key(limits)? })
    }

    /// As the driver sends it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.types.bits().to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 8]);
        bytes.push(self.key.len() as u8); // at most 255
        bytes.extend_from_slice(&self.key);
        bytes
    }
}

impl RssLimits {
    /// The pair that a receive queue's id names: bits 1 to 16 of the virtqueue's index.
    fn queue(&self, id: [u8; 2]) -> Result<u16, RssError> {
        let queue = u16::from_le_bytes(id);
        if queue < self.pairs { Ok(queue) } else { Err(RssError::Queue { queue, pairs: self.pairs }) }
    }
}

fn types(bytes: [u8; 4]) -> Result<HashTypes, RssError> {
    let bits = u32::from_le_bytes(bytes);
    HashTypes::from_bits(bits).ok_or(RssError::Types { bits })
}

/// What is left of a command's data.
struct Bytes<'a> {
    all: usize,
    used: usize,
    rest: &'a [u8],
}

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RssError> {
        self.used = self.used.saturating_add(N);
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or(RssError::Length { found: self.all, expected: self.used })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The key, which is the last of every configuration.
    fn key(&mut self, limits: &RssLimits) -> Result<Vec<u8>, RssError> {
        let [len] = self.take()?;
        if len > limits.key {
            return Err(RssError::Key { len, max: limits.key });
        }
        if self.rest.len() != usize::from(len) {
            return Err(RssError::Length { found: self.all, expected: self.used.saturating_add(len.into()) });
        }
        Ok(self.rest.to_vec())
    }
}
