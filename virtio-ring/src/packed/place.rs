//! A place in a packed ring: a slot, and the lap it belongs to.

use super::layout::{AVAIL, USED};
use crate::chain::DESC_LEN;

/// A slot and its wrap counter. The counter is 1 on the first lap, 0 on the second, and so on (virtio 1.3, 2.8.1).
///
/// The counter is kept as the flags of a descriptor that it stands for, so that looking at a slot needs no branch. The slot is below the size of the ring that the place was made for: accesses by slot rely on it. It has
/// 32 bits: see [`Cursor`](crate::cursor::Cursor) for why not less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    slot: u32,
    /// The two flags of a descriptor that is available on this lap.
    lap: u32,
}

const WRAP: u16 = 1 << 15;
/// The two flags that say whose a slot is.
const LAP: u32 = (AVAIL | USED) as u32;
const EVEN: u32 = AVAIL as u32;
const ODD: u32 = USED as u32;

impl Place {
    pub(super) const START: Self = Self { slot: 0, lap: EVEN };

    /// The slots of a ring, on its first lap.
    pub(super) fn all(size: u16) -> impl Iterator<Item = Self> {
        (0..size.into()).map(|slot| Self { slot, lap: EVEN })
    }

    #[inline]
    pub(super) const fn index(self) -> u16 {
        self.slot as u16
    }

    /// Offset of the slot's descriptor in the ring.
    #[inline]
    pub(super) const fn offset(self) -> usize {
        (self.slot as usize).wrapping_mul(DESC_LEN) // below 2^19
    }

    #[inline]
    pub(super) const fn wrap(self) -> bool {
        self.lap == EVEN
    }

    /// The flags of a slot that is available here.
    #[inline]
    pub(super) const fn avail_flags(self) -> u16 {
        self.lap as u16
    }

    /// The flags of a slot that is used here: both as the counter, where an available one has them apart.
    #[inline]
    pub(super) const fn used_flags(self) -> u16 {
        (self.lap ^ ODD) as u16
    }

    /// True if these are the flags of a slot that is available here.
    #[inline]
    pub(super) const fn is_avail(self, flags: u16) -> bool {
        flags as u32 & LAP == self.lap
    }

    /// True if these are the flags of a slot that is used here.
    #[inline]
    pub(super) const fn is_used(self, flags: u16) -> bool {
        flags as u32 & LAP == self.lap ^ ODD
    }

    /// `count <= size` slots further on.
    #[inline]
    pub(super) const fn advance(self, count: u16, size: u16) -> Self {
        let slot = self.slot.wrapping_add(count as u32);
        if slot < size as u32 { Self { slot, lap: self.lap } } else { self.wrapped(slot, size) }
    }

    #[cold]
    const fn wrapped(self, slot: u32, size: u16) -> Self {
        let slot = slot.wrapping_sub(size as u32);
        // More than a lap is no chain of this ring: whoever asks for it gets a slot all the same.
        Self { slot: if slot < size as u32 { slot } else { 0 }, lap: self.lap ^ LAP }
    }

    /// Slots from here to the end of the ring.
    #[inline]
    pub(super) const fn left(self, size: u16) -> u16 {
        size.wrapping_sub(self.slot as u16)
    }

    /// The next slot, which may be the one behind the end: [`around`](Self::around) has to follow before it is accessed.
    #[inline]
    pub(super) const fn ahead(self) -> Self {
        Self { slot: self.slot.wrapping_add(1), lap: self.lap }
    }

    /// This place, or the beginning of the next lap if it is the one behind the end.
    #[inline]
    pub(super) const fn around(self, size: u16) -> Self {
        self.advance(0, size)
    }

    /// `count <= size` slots back.
    #[inline]
    pub(super) const fn retreat(self, count: u16, size: u16) -> Self {
        if self.slot >= count as u32 {
            Self { slot: self.slot.wrapping_sub(count as u32), lap: self.lap }
        } else {
            let slot = self.slot.wrapping_add(size as u32).wrapping_sub(count as u32);
            Self { slot: if slot < size as u32 { slot } else { 0 }, lap: self.lap ^ LAP }
        }
    }

    /// The slot in the ring laid out twice, first the laps with counter 1, then those with 0: below `2 * size`.
    #[inline]
    const fn position(self, size: u16) -> u32 {
        if self.wrap() { self.slot } else { self.slot.wrapping_add(size as u32) }
    }

    /// Slots from `earlier` to `self`, in the ring laid out twice: below `2 * size`.
    #[inline]
    pub(super) const fn since(self, earlier: Self, size: u16) -> u32 {
        let (to, from) = (self.position(size), earlier.position(size));
        let distance = to.wrapping_sub(from);
        if to >= from { distance } else { distance.wrapping_add(2_u32.wrapping_mul(size as u32)) }
    }

    /// Offset in the low 15 bits, wrap counter above: the format of the event words and of vhost's queue state.
    #[inline]
    pub(super) const fn to_bits(self) -> u16 {
        self.index() | if self.wrap() { WRAP } else { 0 }
    }

    /// `None` if the offset is not a slot.
    #[inline]
    pub(super) const fn from_bits(bits: u16, size: u16) -> Option<Self> {
        let slot = (bits & !WRAP) as u32;
        let lap = if bits & WRAP != 0 { EVEN } else { ODD };
        if slot < size as u32 { Some(Self { slot, lap }) } else { None }
    }
}

/// True if the slots from `old` up to, not including, `new` contain `event` (virtio 1.3, 2.8.10).
///
/// The event may lie inside of a chain, whose end is what moves: so it is a distance that is compared, not a place. A
/// full lap has `new` where `old` was with the other counter, `size` slots on.
#[inline]
pub(super) const fn passed(event: Place, old: Place, new: Place, size: u16) -> bool {
    event.since(old, size) < new.since(old, size)
}

#[cfg(test)]
mod tests;
