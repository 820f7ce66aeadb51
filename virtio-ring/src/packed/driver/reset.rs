//! Taking everything back after a reset of the queue.

use alloc::vec::Vec;

use super::{PackedDriver, Slot};
use crate::mem::RingMem;
use crate::packed::layout::{Event, Owner, Tail};
use crate::packed::place::Place;
use crate::ring::Handle;

impl<A: RingMem> PackedDriver<A> {
    /// Every id free.
    pub(super) fn free_list(size: u16) -> Vec<Slot> {
        (0..size).map(|i| Slot { next: i.wrapping_add(1), count: 0, room: 0 }).collect()
    }

    /// Chains that were added and not reaped.
    pub(super) fn outstanding_handles(&self) -> impl Iterator<Item = Handle> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.count != 0).map(|(id, _)| Handle(id))
    }

    /// Everything as in a new ring but for what was set up: place, features, tables.
    pub(super) fn begin_anew(&mut self) {
        let size = self.layout.size();
        for slot in 0..size {
            self.layout.set_addr(slot, 0);
            self.layout.set_tail(slot, Tail::new(0, 0, 0));
        }
        self.layout.set_event(Owner::Driver, Event::Always);
        self.layout.set_event(Owner::Device, Event::Always);
        self.slots = Self::free_list(size);
        self.free_id = 0;
        self.free = size;
        self.next_avail = Place::START;
        self.published = Place::START;
        self.first = None;
        self.next_used = Place::START;
        self.oldest = 0;
        self.newest = 0;
        self.run = None;
        self.silent = false;
        self.fault = None;
    }
}
