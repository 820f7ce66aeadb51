//! Indirect tables on the driver's side.
#![expect(unsafe_code, reason = "calls the unsafe accessors of the memory seam")]

mod shapes;

use alloc::vec::Vec;

use crate::chain::{DESC_LEN, NEXT, WRITE};
use crate::error::{Fault, RingError};
use crate::mem::{Access, GuestAddr, GuestMemory, RingMem};
use crate::ring::Element;
use crate::split::describe;
use shapes::Shapes;

/// How the entries of a table look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableFormat {
    /// Linked by `next` (virtio 1.3, 2.7.5).
    Split,
    /// One behind the other (virtio 1.3, 2.8.7).
    Packed,
}

impl TableFormat {
    /// The two words of entry `index` of a table that says `elements`.
    #[inline]
    fn words(self, elements: &[Element], index: usize, e: &Element) -> Words {
        let next = index.wrapping_add(1) as u16; // at most the entries of a table
        let more = if usize::from(next) == elements.len() { 0 } else { NEXT };
        let d = describe(e, more, if more == 0 { 0 } else { next });
        let (addr, rest) = match self {
            Self::Split => d.into_words(),
            Self::Packed => (d.addr, u64::from(d.len) | u64::from(d.flags & WRITE) << 48),
        };
        Words { addr, rest }
    }
}

/// An entry of a table, in the host's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Words {
    addr: u64,
    rest: u64,
}

impl Words {
    /// What no table ever says, as its flags have `INDIRECT`: memory that nothing is known of.
    const UNKNOWN: Self = Self { addr: u64::MAX, rest: u64::MAX };
}

/// One table of `entries` descriptors for each descriptor of a ring, allocated once.
///
/// What was written to each is remembered in as many bytes on the host, so that nothing is written for a chain whose
/// table says it already, whichever of the tables that is: the tables change hands until the chain has its own back. The
/// tables in shared memory are never read: a device that changes them confuses nobody but itself.
#[derive(Debug)]
pub(crate) struct IndirectTables<A> {
    area: A,
    addr: GuestAddr,
    entries: u16,
    /// What the tables say, one behind the other.
    notes: Vec<Words>,
    /// Entries that count, of each table.
    lens: Vec<u16>,
    /// Of each descriptor: the table that it has.
    table_of: Vec<u16>,
    /// Of each table: the descriptor that has it.
    owner: Vec<u16>,
    /// Tables that stay with their descriptor although no chain is outstanding there.
    pinned: Vec<bool>,
    shapes: Shapes,
}

#[expect(clippy::arithmetic_side_effects, reason = "u16 * u16 * 16 fits a u64, and what `new` found mapped a usize")]
impl<A: RingMem> IndirectTables<A> {
    pub(crate) fn new<M: GuestMemory<Area = A>>(
        mem: &M,
        addr: GuestAddr,
        tables: u16,
        entries: u16,
    ) -> Result<Self, RingError> {
        let bytes = u64::from(tables) * u64::from(entries) * DESC_LEN as u64;
        // More than a machine of 32 bits can address is not mapped there.
        let expected = usize::try_from(bytes).map_err(|_| Fault::forbidden(addr, bytes, Access::Write))?;
        let area = mem.ring_area(addr, expected)?;
        if area.len() < expected {
            return Err(RingError::AreaTooShort { len: area.len(), expected });
        }
        if !addr.0.is_multiple_of(16) || !area.is_aligned(16) {
            return Err(RingError::Misaligned { addr, align: 16 });
        }
        Ok(Self {
            area,
            addr,
            entries,
            notes: alloc::vec![Words::UNKNOWN; expected / DESC_LEN],
            lens: alloc::vec![0; tables.into()],
            table_of: (0..tables).collect(),
            owner: (0..tables).collect(),
            pinned: alloc::vec![false; tables.into()],
            shapes: Shapes::new(tables),
        })
    }

    #[inline]
    pub(crate) fn fits(&self, elements: usize) -> bool {
        elements <= usize::from(self.entries)
    }

    /// Finds or writes a table that says `elements` and gives it to descriptor `index`, which is free; returns the
    /// table's address and its length in bytes. `is_free` says whether no chain is outstanding at a descriptor.
    pub(crate) fn write(
        &mut self,
        index: u16,
        elements: &[Element],
        format: TableFormat,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<(GuestAddr, u32)> {
        if !self.fits(elements.len()) {
            return None;
        }
        let own = *self.table_of.get(usize::from(index))?;
        if !self.says(own, elements, format) {
            let key = shapes::key(elements);
            match self.find(key, elements, format, is_free) {
                Some(found) => self.swap(index, own, found),
                None => self.rewrite(own, key, elements, format)?,
            }
        }
        self.place(index)
    }

    /// Address and length in bytes of the table that descriptor `index` has.
    pub(crate) fn place(&self, index: u16) -> Option<(GuestAddr, u32)> {
        let table = *self.table_of.get(usize::from(index))?;
        let len = u32::from(*self.lens.get(usize::from(table))?) * DESC_LEN as u32;
        Some((self.addr.checked_add((self.first(table) * DESC_LEN) as u64)?, len))
    }

    /// Whether the table of descriptor `index` stays with it although no chain is outstanding there.
    pub(crate) fn pin(&mut self, index: u16, pinned: bool) {
        let table = self.table_of.get(usize::from(index)).copied().unwrap_or_default();
        if let Some(pin) = self.pinned.get_mut(usize::from(table)) {
            *pin = pinned;
        }
    }

    /// Nothing is known of any table, and each descriptor has its own.
    pub(crate) fn forget(&mut self) {
        let tables = self.lens.len() as u16; // as many as `new` was given
        self.notes.fill(Words::UNKNOWN);
        self.lens.fill(0);
        self.table_of = (0..tables).collect();
        self.owner = (0..tables).collect();
        self.pinned.fill(false);
        self.shapes = Shapes::new(tables);
    }

    /// The first entry of a table.
    #[inline]
    fn first(&self, table: u16) -> usize {
        usize::from(table) * usize::from(self.entries)
    }

    /// True if `table` says `elements` already.
    #[inline]
    fn says(&self, table: u16, elements: &[Element], format: TableFormat) -> bool {
        let first = self.first(table);
        let Some(notes) = self.notes.get(first..first + elements.len()) else { return false };
        self.lens.get(usize::from(table)).is_some_and(|len| usize::from(*len) == elements.len())
            && elements.iter().zip(notes).enumerate().all(|(i, (e, note))| format.words(elements, i, e) == *note)
    }

    /// A table that says `elements` and is free.
    fn find(&self, key: u32, elements: &[Element], format: TableFormat, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        self.shapes.with(key).find(|table| {
            let at = usize::from(*table);
            self.pinned.get(at) == Some(&false)
                && self.owner.get(at).is_some_and(|owner| is_free(*owner))
                && self.says(*table, elements, format)
        })
    }

    /// Two descriptors at which no chain is outstanding exchange their tables.
    pub(crate) fn exchange(&mut self, index: u16, other: u16) {
        let own = self.table_of.get(usize::from(index)).copied();
        let found = self.table_of.get(usize::from(other)).copied();
        if let (Some(own), Some(found)) = (own, found) {
            self.swap(index, own, found);
        }
    }

    /// Descriptor `index` exchanges its `own` table for one that it `found`.
    fn swap(&mut self, index: u16, own: u16, found: u16) {
        let other = self.owner.get(usize::from(found)).copied().unwrap_or_default();
        for (descriptor, table) in [(index, found), (other, own)] {
            if let Some(of) = self.table_of.get_mut(usize::from(descriptor)) {
                *of = table;
            }
            if let Some(owner) = self.owner.get_mut(usize::from(table)) {
                *owner = descriptor;
            }
        }
    }

    /// Writes what `table` does not say yet of `elements`.
    fn rewrite(&mut self, table: u16, key: u32, elements: &[Element], format: TableFormat) -> Option<()> {
        let first = self.first(table);
        let notes = self.notes.get_mut(first..first + elements.len())?;
        for (i, (e, note)) in elements.iter().zip(notes).enumerate() {
            let words = format.words(elements, i, e);
            let at = (first + i) * DESC_LEN;
            if note.addr != words.addr || *note == Words::UNKNOWN {
                // SAFETY: `notes` has an entry for each of the area, which `new` measured and found aligned to 16, and
                // this entry is one of them.
                unsafe { self.area.write64(at, words.addr.to_le()) };
            }
            if note.rest != words.rest {
                // SAFETY: as above.
                unsafe { self.area.write64(at + 8, words.rest.to_le()) };
            }
            *note = words;
        }
        *self.lens.get_mut(usize::from(table))? = elements.len() as u16; // at most `entries`
        self.shapes.put(table, key);
        Some(())
    }
}

#[cfg(test)]
mod tests;
