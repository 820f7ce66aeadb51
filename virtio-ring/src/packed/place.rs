//! A place in a packed ring: a slot, and the lap it belongs to.

/// A slot and its wrap counter. The counter is 1 on the first lap, 0 on the second, and so on (virtio 1.3, 2.8.1).
///
/// Held in the format of the event words and of vhost's queue state, the offset in the low 15 bits and the counter above,
/// in one 32-bit word: see [`Cursor`](crate::cursor::Cursor) for why not in less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u32);

const WRAP: u32 = 1 << 15;

impl Place {
    pub(super) const START: Self = Self(WRAP);

    #[inline]
    pub(super) const fn index(self) -> u16 {
        (self.0 & !WRAP) as u16
    }

    #[inline]
    pub(super) const fn wrap(self) -> bool {
        self.0 & WRAP != 0
    }

    /// `count <= size` slots further on.
    #[inline]
    pub(super) const fn advance(self, count: u16, size: u16) -> Self {
        let index = (self.0 & !WRAP).wrapping_add(count as u32);
        if index >= size as u32 {
            Self(index.wrapping_sub(size as u32) | (self.0 & WRAP ^ WRAP))
        } else {
            Self(index | self.0 & WRAP)
        }
    }

    /// `count <= size` slots back.
    #[inline]
    pub(super) const fn retreat(self, count: u16, size: u16) -> Self {
        let index = self.0 & !WRAP;
        if index >= count as u32 {
            Self(index.wrapping_sub(count as u32) | self.0 & WRAP)
        } else {
            Self(index.wrapping_add(size as u32).wrapping_sub(count as u32) | (self.0 & WRAP ^ WRAP))
        }
    }

    /// The slot in the ring laid out twice, first the laps with counter 1, then those with 0: below `2 * size`.
    #[inline]
    const fn position(self, size: u16) -> u32 {
        if self.wrap() { self.0 & !WRAP } else { self.0.wrapping_add(size as u32) }
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
        self.0 as u16
    }

    /// `None` if the offset is not a slot.
    #[inline]
    pub(super) const fn from_bits(bits: u16, size: u16) -> Option<Self> {
        let place = Self(bits as u32);
        if place.index() < size { Some(place) } else { None }
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
