//! Indirect tables on the driver's side.
#![expect(unsafe_code, reason = "calls the unsafe accessors of the memory seam")]

use crate::chain::{DESC_LEN, NEXT, WRITE};
use crate::error::{Fault, RingError};
use crate::mem::{Access, GuestAddr, GuestMemory, RingMem};
use crate::ring::Element;
use crate::split::describe;

/// How the entries of a table look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableFormat {
    /// Linked by `next` (virtio 1.3, 2.7.5).
    Split,
    /// One behind the other (virtio 1.3, 2.8.7).
    Packed,
}

/// One table of `entries` descriptors for each descriptor of a ring, allocated once.
#[derive(Debug)]
pub(crate) struct IndirectTables<A> {
    area: A,
    addr: GuestAddr,
    tables: u16,
    entries: u16,
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
        Ok(Self { area, addr, tables, entries })
    }

    #[inline]
    pub(crate) fn fits(&self, elements: usize) -> bool {
        elements <= usize::from(self.entries)
    }

    /// Writes `elements` to the table of descriptor `index`; returns the table's address and its length in bytes.
    pub(crate) fn write(&self, index: u16, elements: &[Element], format: TableFormat) -> Option<(GuestAddr, u32)> {
        if index >= self.tables || !self.fits(elements.len()) {
            return None;
        }
        let start = usize::from(index) * usize::from(self.entries) * DESC_LEN;
        let mut at = start;
        for (next, e) in (1_u16..).zip(elements) {
            let more = if usize::from(next) == elements.len() { 0 } else { NEXT };
            let d = describe(e, more, if more == 0 { 0 } else { next });
            let (addr, rest) = match format {
                TableFormat::Split => d.into_words(),
                TableFormat::Packed => (d.addr, u64::from(d.len) | u64::from(d.flags & WRITE) << 48),
            };
            // SAFETY: `index < tables` and at most `entries` elements: inside of the area that `new` translated, measured
            // and found aligned to 16.
            unsafe { self.area.write64(at, addr.to_le()) };
            // SAFETY: as above.
            unsafe { self.area.write64(at + 8, rest.to_le()) };
            at += DESC_LEN;
        }
        Some((self.addr.checked_add(start as u64)?, (at - start) as u32))
    }
}

#[cfg(test)]
mod tests;
