//! The packed ring (2.8).

use super::super::guest::{Guest, plus};
use super::super::outcome::{Check, Stop, want};
use super::{Calls, NEXT, Piece, Place, Used, WRITE, word};
use std::collections::{HashMap, VecDeque};
use virtio_ring::GuestAddr;

/// Flags that say whose a descriptor is.
pub(in super::super) const AVAILABLE: u16 = 1 << 7;
pub(in super::super) const USED: u16 = 1 << 15;

/// A place in the ring, and the lap.
#[derive(Clone, Copy)]
struct Cursor {
    slot: u16,
    wrap: bool,
}

impl Cursor {
    const START: Self = Self { slot: 0, wrap: true };

    fn forward(self, by: u16, size: u16) -> Self {
        let slot = self.slot.wrapping_add(by);
        if slot >= size { Self { slot: slot.wrapping_sub(size), wrap: !self.wrap } } else { Self { slot, ..self } }
    }

    const fn bits(self) -> u16 {
        self.slot | if self.wrap { 1 << 15 } else { 0 }
    }
}

/// A chain that the device side has.
#[derive(Clone, Copy)]
struct Chain {
    id: u16,
    len: u16,
}

/// The driver's side.
pub(in super::super) struct Packed {
    pub(in super::super) place: Place,
    next: Cursor,
    seen: Cursor,
    room: u16,
    ids: Vec<u16>,
    chains: HashMap<u16, u16>,
    order: VecDeque<Chain>,
    /// First words that are still to be stored.
    heads: Vec<(GuestAddr, u64)>,
}

impl Packed {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            next: Cursor::START,
            seen: Cursor::START,
            room: place.size,
            ids: (0..place.size).rev().collect(),
            chains: HashMap::new(),
            order: VecDeque::new(),
            heads: Vec::new(),
        }
    }

    /// Flags that make a descriptor at the next place available.
    pub(in super::super) const fn owner(&self) -> u16 {
        if self.next.wrap { AVAILABLE } else { USED }
    }

    /// The next place to make available.
    pub(in super::super) const fn slot(&self) -> u16 {
        self.next.slot
    }

    /// Writes a chain; the device side does not see it yet. Only its last descriptor has its id.
    pub(super) fn post(&mut self, guest: &Guest, pieces: &[Piece]) -> Check<u16> {
        let full = || Stop::NotApplicable(format!("a chain of {} does not fit in the ring", pieces.len()));
        let len = u16::try_from(pieces.len()).ok().filter(|len| *len > 0 && *len <= self.room).ok_or_else(full)?;
        let id = self.ids.pop().ok_or_else(full)?;
        for (i, piece) in pieces.iter().enumerate() {
            let last = i.saturating_add(1) == pieces.len();
            let flags = piece.flags | self.owner() | if last { 0 } else { NEXT };
            let at = self.place.descriptor(self.next.slot);
            let second = word(piece.len, if last { id } else { !id }, flags).to_le();
            guest.store64(at, piece.addr.0.to_le());
            if i == 0 {
                self.heads.push((plus(at, 8), second));
            } else {
                guest.store64(plus(at, 8), second);
            }
            self.next = self.next.forward(1, self.place.size);
        }
        self.room = self.room.saturating_sub(len);
        self.chains.insert(id, len);
        self.order.push_back(Chain { id, len });
        Ok(id)
    }

    pub(super) fn publish(&mut self, guest: &Guest) {
        // The first one last: the device side stops at what it does not see yet.
        for (at, word) in self.heads.drain(..).rev() {
            guest.store64(at, word);
        }
        guest.fence();
    }

    /// Id and length of the next used descriptor.
    fn fresh(&self, guest: &Guest) -> Option<Used> {
        let word = u64::from_le(guest.load64(plus(self.place.descriptor(self.seen.slot), 8)));
        let flags = (word >> 48) as u16;
        let expected = if self.seen.wrap { AVAILABLE | USED } else { 0 };
        let used = flags & (AVAILABLE | USED) == expected && self.room < self.place.size;
        // The length is reserved in a used descriptor without that flag (2.8.5).
        let len = if flags & WRITE != 0 { word as u32 } else { 0 };
        used.then_some(Used { id: (word >> 32) as u16, len })
    }

    fn pass(&mut self, chain: Chain) {
        self.seen = self.seen.forward(chain.len, self.place.size);
        self.room = self.room.saturating_add(chain.len);
        self.ids.push(chain.id);
    }

    pub(super) fn used(&mut self, guest: &Guest) -> Check<Option<Used>> {
        let Some(used) = self.fresh(guest) else { return Ok(None) };
        let Some(len) = self.chains.remove(&used.id) else {
            return Err(Stop::Fail(format!("place {} is used with id {}, which is not out", self.seen.slot, used.id)));
        };
        self.order.retain(|chain| chain.id != used.id);
        self.pass(Chain { id: used.id, len });
        Ok(Some(used))
    }

    /// With `IN_ORDER`: one used descriptor may stand for a batch, and has the last one's id.
    pub(super) fn used_in_order(&mut self, guest: &Guest) -> Check<Vec<u16>> {
        let mut ids = Vec::new();
        while let Some(used) = self.fresh(guest) {
            want!(self.chains.contains_key(&used.id), "place {}: id {} is not out", self.seen.slot, used.id);
            while let Some(chain) = self.order.pop_front() {
                self.chains.remove(&chain.id);
                self.pass(chain);
                ids.push(chain.id);
                if chain.id == used.id {
                    break;
                }
            }
        }
        Ok(ids)
    }

    pub(super) fn calls(&self, guest: &Guest, when: Calls) {
        let (place, flags) = match when {
            Calls::Always => (0, 0),
            Calls::Never => (0, 1),
            Calls::Behind(more) => (self.seen.forward(more, self.place.size).bits(), 2),
        };
        self.events(guest, place, flags);
    }

    /// The driver's event suppression structure.
    pub(in super::super) fn events(&self, guest: &Guest, place: u16, flags: u16) {
        guest.store16(self.place.driver, u16::to_le(place));
        guest.store16(plus(self.place.driver, 2), u16::to_le(flags));
        guest.fence();
    }

    pub(super) fn base(&self) -> u32 {
        let half = u32::from(self.next.bits());
        half << 16 | half
    }
}
