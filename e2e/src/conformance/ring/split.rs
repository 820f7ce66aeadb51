//! The split ring (2.7).

use super::super::guest::{Guest, plus};
use super::super::outcome::{Check, Stop, want};
use super::{Calls, NEXT, Piece, Place, Used, word};
use std::collections::{HashMap, VecDeque};
use virtio_ring::GuestAddr;

/// The driver's side.
pub(in super::super) struct Split {
    pub(in super::super) place: Place,
    free: Vec<u16>,
    /// Descriptors of the chains that the device side has, by their head.
    chains: HashMap<u16, Vec<u16>>,
    /// Heads in the order in which they were made available.
    order: VecDeque<u16>,
    /// Next index to make available, and to be used.
    pub(in super::super) available: u16,
    seen: u16,
}

impl Split {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            free: (0..place.size).rev().collect(),
            chains: HashMap::new(),
            order: VecDeque::new(),
            available: 0,
            seen: 0,
        }
    }

    /// Writes a chain; the device side does not see it yet.
    pub(super) fn post(&mut self, guest: &Guest, pieces: &[Piece]) -> Check<u16> {
        let full = || Stop::NotApplicable(format!("a chain of {} does not fit in the ring", pieces.len()));
        let rest = self.free.len().checked_sub(pieces.len()).ok_or_else(full)?;
        let mut slots = self.free.split_off(rest);
        slots.reverse();
        for (i, (slot, piece)) in slots.iter().zip(pieces).enumerate() {
            let next = slots.get(i.saturating_add(1));
            let flags = piece.flags | if next.is_some() { NEXT } else { 0 };
            let at = self.place.descriptor(*slot);
            guest.store64(at, piece.addr.0.to_le());
            guest.store64(plus(at, 8), word(piece.len, flags, next.copied().unwrap_or(0)).to_le());
        }
        let head = *slots.first().ok_or_else(full)?;
        self.offer(guest, head);
        self.order.push_back(head);
        self.chains.insert(head, slots);
        Ok(head)
    }

    /// Puts a head into the available ring, whatever it is.
    pub(in super::super) fn offer(&mut self, guest: &Guest, head: u16) {
        guest.store16(self.entry(self.available), head.to_le());
        self.available = self.available.wrapping_add(1);
    }

    fn entry(&self, index: u16) -> GuestAddr {
        let slot = index.checked_rem(self.place.size).unwrap_or(0);
        plus(self.place.driver, u64::from(slot).wrapping_mul(2).wrapping_add(4))
    }

    /// The used element of this index.
    pub(in super::super) fn element(&self, index: u16) -> GuestAddr {
        let slot = index.checked_rem(self.place.size).unwrap_or(0);
        plus(self.place.device, u64::from(slot).wrapping_mul(8).wrapping_add(4))
    }

    pub(super) fn publish(&mut self, guest: &Guest) {
        guest.store16(plus(self.place.driver, 2), self.available.to_le());
        guest.fence();
    }

    /// How many were used and not looked at.
    fn fresh(&self, guest: &Guest) -> Check<u16> {
        let index = u16::from_le(guest.load16(plus(self.place.device, 2)));
        let fresh = index.wrapping_sub(self.seen);
        let out = self.available.wrapping_sub(self.seen);
        want!(fresh <= out, "used index {index} with {out} buffers out from {} on", self.seen);
        Ok(fresh)
    }

    pub(super) fn used(&mut self, guest: &Guest) -> Check<Option<Used>> {
        if self.fresh(guest)? == 0 {
            return Ok(None);
        }
        let at = self.element(self.seen);
        let (id, len) = (u32::from_le(guest.load32(at)), u32::from_le(guest.load32(plus(at, 4))));
        let chain = u16::try_from(id).ok().and_then(|id| self.chains.remove(&id));
        let Some(slots) = chain else {
            return Err(Stop::Fail(format!("used element {} has id {id:#x}, which is not out", self.seen)));
        };
        self.free.extend(slots.iter().rev());
        self.order.retain(|head| u32::from(*head) != id);
        self.seen = self.seen.wrapping_add(1);
        Ok(Some(Used { id: id as u16, len }))
    }

    /// With `IN_ORDER`: one element may stand for a batch, whose last one it names (2.7.9); what it skips is not written.
    pub(super) fn used_in_order(&mut self, guest: &Guest) -> Check<Vec<u16>> {
        let mut left = self.fresh(guest)?;
        let mut heads = Vec::new();
        while left > 0 {
            let id = u32::from_le(guest.load32(self.element(self.seen)));
            let batch = self.order.iter().position(|head| u32::from(*head) == id).map(|i| i.saturating_add(1));
            let batch = batch.and_then(|n| u16::try_from(n).ok()).filter(|n| *n <= left);
            let Some(batch) = batch else {
                return Err(Stop::Fail(format!("used element {} has id {id}, {left} were used", self.seen)));
            };
            for head in self.order.drain(..usize::from(batch)) {
                self.free.extend(self.chains.remove(&head).unwrap_or_default().iter().rev());
                heads.push(head);
            }
            self.seen = self.seen.wrapping_add(batch);
            left = left.saturating_sub(batch);
        }
        Ok(heads)
    }

    /// Overwrites the used elements, so that it shows which are written.
    pub(in super::super) fn blank(&self, guest: &Guest) {
        for index in 0..self.place.size {
            let at = self.element(index);
            guest.store32(at, u32::MAX);
            guest.store32(plus(at, 4), u32::MAX);
        }
    }

    pub(super) fn calls(&self, guest: &Guest, when: Calls) {
        let flags = u16::from(when == Calls::Never);
        guest.store16(self.place.driver, flags.to_le());
        if let Calls::Behind(more) = when {
            self.used_event(guest, self.seen.wrapping_add(more));
        }
        guest.fence();
    }

    pub(in super::super) fn used_event(&self, guest: &Guest, value: u16) {
        let at = plus(self.place.driver, u64::from(self.place.size).wrapping_mul(2).wrapping_add(4));
        guest.store16(at, value.to_le());
    }

    /// Index of the next one to be used.
    pub(in super::super) const fn seen(&self) -> u16 {
        self.seen
    }

    /// What the device side asks of kicks.
    pub(in super::super) fn device_flags(&self, guest: &Guest) -> u16 {
        u16::from_le(guest.load16(self.place.device))
    }

    pub(super) fn base(&self) -> u32 {
        self.available.into()
    }
}
