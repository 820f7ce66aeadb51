//! What a driver has free: descriptors of a split ring, buffer ids of a packed one.

use alloc::boxed::Box;

use crate::cursor::Cursor;

/// A queue of free ids: taken in the order in which they were given back.
///
/// In that order the table is written and read a line after the other; and as long as the device uses chains in order,
/// an id comes round again exactly when all others have, whatever the number of outstanding chains.
///
/// The fields are for loops over a burst, which keep the positions in registers.
#[derive(Debug)]
pub(crate) struct FreeIds {
    pub(crate) ids: Box<[u16]>,
    pub(crate) mask: u32,
    /// Where the next id is taken. Never ahead of `given`.
    pub(crate) taken: Cursor,
    /// Where the next id goes. Never more than the number of ids ahead of `taken`.
    pub(crate) given: Cursor,
}

impl FreeIds {
    /// The ids below `count`, all free, in order.
    pub(crate) fn new(count: u16) -> Self {
        let room = u32::from(count).next_power_of_two();
        Self {
            ids: (0..room).map(|id| id as u16).collect(),
            mask: room.wrapping_sub(1),
            taken: Cursor::new(0),
            given: Cursor::new(count),
        }
    }

    /// How many are free.
    #[inline]
    pub(crate) const fn len(&self) -> u16 {
        self.given.get().wrapping_sub(self.taken.get())
    }

    /// The next id that will be taken.
    #[inline]
    pub(crate) fn next(&self) -> u16 {
        self.at(self.taken)
    }

    /// Takes an id. The caller has checked that there is one.
    #[inline]
    pub(crate) fn take(&mut self) -> u16 {
        let id = self.at(self.taken);
        self.taken.add(1);
        id
    }

    /// Gives an id back.
    #[inline]
    pub(crate) fn give(&mut self, id: u16) {
        if let Some(place) = self.ids.get_mut((self.given.wide() & self.mask) as usize) {
            *place = id;
        }
        self.given.add(1);
    }

    /// Gives back the `count` ids that were taken longest ago, in the order in which they were taken, of a number of ids
    /// that is a power of two.
    #[inline]
    pub(crate) const fn give_in_order(&mut self, count: u16) {
        // They stand where they go, a lap on.
        self.given.add(count);
    }

    /// The one of `count` ids that was taken longest ago, if they are given back in the order in which they are taken.
    #[inline]
    pub(crate) fn oldest(&self, count: u16) -> u16 {
        let mut cursor = self.given;
        cursor.sub(count);
        self.at(cursor)
    }

    #[inline]
    fn at(&self, cursor: Cursor) -> u16 {
        self.ids.get((cursor.wide() & self.mask) as usize).copied().unwrap_or_default()
    }
}
