//! RSS contexts (virtio 1.4, 5.1.6.5.8): configurations besides the default one. Only flow filters can name them, and there
//! are none here: contexts are kept, checked, and bear on nothing.

use alloc::collections::BTreeMap;

use super::{RssConfig, RssError, RssLimits};

/// Contexts that there can be: ids 1 to this.
pub const MAX_CONTEXTS: u16 = 16;

/// The contexts of a device by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contexts(BTreeMap<u16, RssConfig>);

impl Contexts {
    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ids and configurations, lowest id first.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &RssConfig)> {
        self.0.iter().map(|(id, rss)| (*id, rss))
    }

    /// One that was checked elsewhere.
    pub(crate) fn insert(&mut self, id: u16, rss: RssConfig) {
        self.0.insert(id, rss);
    }

    /// A new one (`VIRTNET_RSS_CTX_CTRL_ADD`).
    ///
    /// # Errors
    /// [`RssError`]: the configuration cannot be, or the id, or it is there already.
    pub fn add(&mut self, data: &[u8], limits: &RssLimits) -> Result<(), RssError> {
        self.put(data, limits, false)
    }

    /// One that is there, anew (`VIRTNET_RSS_CTX_CTRL_MOD`).
    ///
    /// # Errors
    /// [`RssError`]: the configuration cannot be, or there is none with this id.
    pub fn modify(&mut self, data: &[u8], limits: &RssLimits) -> Result<(), RssError> {
        self.put(data, limits, true)
    }

    /// One that is there, no more (`VIRTNET_RSS_CTX_CTRL_DEL`).
    ///
    /// # Errors
    /// [`RssError`]: there is none with this id.
    pub fn delete(&mut self, data: &[u8]) -> Result<(), RssError> {
        let bytes = data.try_into().map_err(|_| RssError::Length { found: data.len(), expected: 2 })?;
        let id = u16::from_le_bytes(bytes);
        self.0.remove(&id).map(drop).ok_or(RssError::Context { id, max: MAX_CONTEXTS, exists: true })
    }

    fn put(&mut self, data: &[u8], limits: &RssLimits, exists: bool) -> Result<(), RssError> {
        // The reserved bytes are ignored.
        let ([i0, i1, ..], rest) =
            data.split_first_chunk::<8>().ok_or(RssError::Length { found: data.len(), expected: 8 })?;
        let id = u16::from_le_bytes([*i0, *i1]);
        if !(1..=MAX_CONTEXTS).contains(&id) || self.0.contains_key(&id) != exists {
            return Err(RssError::Context { id, max: MAX_CONTEXTS, exists });
        }
        self.0.insert(id, RssConfig::parse(rest, limits)?);
        Ok(())
    }
}
