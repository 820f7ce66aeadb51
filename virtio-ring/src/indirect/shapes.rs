//! Which tables have which shape: a hash table of lists through the tables themselves, allocated once.

use alloc::vec::Vec;

use crate::ring::Element;

/// Tables looked at for one chain: those of equal shape are all as good, others rarely share a list.
const LOOKS: usize = 8;

/// No table: rings have at most 32768.
const NONE: u16 = u16::MAX;

/// One number for the elements of a chain; the same elements have the same.
///
/// The elements are the driver's own, so nobody has a reason to make them collide.
pub(super) fn key(elements: &[Element]) -> u32 {
    /// 2^64 over the golden ratio, as in Fibonacci hashing.
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |key: u64, word: u64| (key.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let key = elements.iter().fold(0, |key, e| mix(mix(key, e.addr.0), u64::from(e.len) << 1 | u64::from(e.writable)));
    (key >> 32) as u32
}

/// Where a table is.
#[derive(Clone, Copy, Debug)]
struct Link {
    key: u32,
    before: u16,
    behind: u16,
    listed: bool,
}

/// Tables by the key of their shape.
#[derive(Debug)]
pub(super) struct Shapes {
    /// The first table of each list; a power of two of them.
    lists: Vec<u16>,
    links: Vec<Link>,
}

impl Shapes {
    pub(super) fn new(tables: u16) -> Self {
        let lists = usize::from(tables).saturating_mul(2).next_power_of_two();
        let link = Link { key: 0, before: NONE, behind: NONE, listed: false };
        Self { lists: alloc::vec![NONE; lists], links: alloc::vec![link; tables.into()] }
    }

    /// Tables whose key is `key`, at most a few.
    pub(super) fn with(&self, key: u32) -> impl Iterator<Item = u16> {
        let mut next = self.lists.get(self.list(key)).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            let (table, link) = (next, self.links.get(usize::from(next))?);
            next = link.behind;
            Some((table, link.key))
        })
        .take(LOOKS)
        .filter(move |(_, k)| *k == key)
        .map(|(table, _)| table)
    }

    /// From now on `table` has this key.
    pub(super) fn put(&mut self, table: u16, key: u32) {
        self.unlist(table);
        let list = self.list(key);
        let Some(first) = self.lists.get_mut(list) else { return };
        let behind = core::mem::replace(first, table);
        if let Some(link) = self.links.get_mut(usize::from(behind)) {
            link.before = table;
        }
        if let Some(link) = self.links.get_mut(usize::from(table)) {
            *link = Link { key, before: NONE, behind, listed: true };
        }
    }

    fn unlist(&mut self, table: u16) {
        let Some(link) = self.links.get(usize::from(table)).copied().filter(|l| l.listed) else { return };
        if let Some(behind) = self.links.get_mut(usize::from(link.behind)) {
            behind.before = link.before;
        }
        if let Some(before) = self.links.get_mut(usize::from(link.before)) {
            before.behind = link.behind;
        } else {
            let list = self.list(link.key);
            if let Some(first) = self.lists.get_mut(list) {
                *first = link.behind;
            }
        }
    }

    /// `key` cut to the number of lists.
    const fn list(&self, key: u32) -> usize {
        key as usize & self.lists.len().wrapping_sub(1)
    }
}
