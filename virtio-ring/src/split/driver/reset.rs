//! Taking everything back after a reset of the queue.

use alloc::vec::Vec;

use super::{Slot, SplitDriver};
use crate::chain::Descriptor;
use crate::cursor::Cursor;
use crate::mem::RingMem;
use crate::ring::Handle;

impl<A: RingMem> SplitDriver<A> {
    /// A circle: in order it stays one, else it becomes the list of what is free, which `free` ends.
    pub(super) fn free_list(size: u16) -> Vec<Slot> {
        let last = size.wrapping_sub(1);
        let next = |i: u16| if i == last { 0 } else { i.wrapping_add(1) };
        (0..size).map(|i| Slot { next: next(i), count: 0, room: 0 }).collect()
    }

    /// Chains that were added and not reaped.
    pub(super) fn outstanding_handles(&self) -> impl Iterator<Item = Handle> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.count != 0).map(|(index, _)| Handle(index))
    }

    /// Everything as in a new ring but for what was set up: place, features, tables.
    pub(super) fn begin_anew(&mut self) {
        let size = self.layout.size();
        for index in 0..size {
            self.layout.set_descriptor(index, Descriptor { addr: 0, len: 0, flags: 0, next: 0 });
            self.layout.set_avail_entry(index, 0);
            self.layout.set_used_entry(index, 0, 0);
        }
        self.layout.set_avail_flags(0);
        self.layout.set_avail_idx(0);
        self.layout.set_used_event(0);
        self.layout.set_used_flags(0);
        self.layout.set_used_idx(0);
        self.layout.set_avail_event(0);
        self.slots = Self::free_list(size);
        self.free_head = Cursor::new(0);
        self.free_tail = Cursor::new(size.wrapping_sub(1));
        self.free = Cursor::new(size);
        self.next_avail = Cursor::new(0);
        self.published = Cursor::new(0);
        self.next_used = Cursor::new(0);
        self.used_idx = Cursor::new(0);
        self.outstanding = Cursor::new(0);
        self.oldest = Cursor::new(0);
        self.run = None;
        self.silent = false;
        self.fault = None;
    }
}
