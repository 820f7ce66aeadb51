//! Taking everything back after a reset of the queue.

use super::{Note, SplitDriver};
use crate::chain::Descriptor;
use crate::cursor::Cursor;
use crate::free::FreeIds;
use crate::mem::RingMem;
use crate::protocol::Unasked;
use crate::ring::Handle;

impl<A: RingMem> SplitDriver<A> {
    /// Chains that were added and not reaped.
    pub(super) fn outstanding_handles(&self) -> impl Iterator<Item = Handle> {
        (0..).zip(&self.notes).filter(|(_, note)| note.count != 0).map(|(index, _)| Handle(index))
    }

    /// Everything as in a new ring but for what was set up: place, features, tables.
    pub(super) fn begin_anew(&mut self) {
        let size = self.layout.size();
        for slot in (0..size).filter_map(|index| self.layout.slot(index)) {
            self.layout.set_descriptor(slot, Descriptor { addr: 0, len: 0, flags: 0, next: 0 });
            self.layout.set_avail_entry(slot, 0);
            self.layout.set_used_entry(slot, 0, 0);
        }
        self.layout.set_avail_flags(0);
        self.layout.set_avail_idx(0);
        self.layout.set_used_event(0);
        self.layout.set_used_flags(0);
        self.layout.set_used_idx(0);
        self.layout.set_avail_event(0);
        self.notes.fill(Note::default());
        self.free = FreeIds::new(size);
        self.next_avail = Cursor::new(0);
        self.published = Cursor::new(0);
        self.unasked = Unasked::default();
        self.next_used = Cursor::new(0);
        self.used_idx = Cursor::new(0);
        self.oldest = Cursor::new(0);
        self.run = None;
        self.silent = false;
        self.fault = None;
        if let Some(tables) = &mut self.tables {
            tables.forget();
        }
    }
}
