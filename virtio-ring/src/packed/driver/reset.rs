//! Taking everything back after a reset of the queue, and where the driver stands.

use super::{Note, PackedDriver};
use crate::cursor::Cursor;
use crate::free::FreeIds;
use crate::mem::RingMem;
use crate::packed::layout::{Event, Owner, Tail};
use crate::packed::place::Place;
use crate::protocol::Unasked;
use crate::ring::Handle;

impl<A: RingMem> PackedDriver<A> {
    /// Where the last publication ended.
    #[inline]
    pub(super) fn published(&self) -> Place {
        // What was added meanwhile is not visible yet.
        self.next_avail.retreat(self.added.get(), self.layout.size())
    }

    /// Chains that were added and not reaped.
    pub(super) fn outstanding_handles(&self) -> impl Iterator<Item = Handle> {
        (0..).zip(&self.notes).filter(|(_, note)| note.count != 0).map(|(id, _)| Handle(id))
    }

    /// Everything as in a new ring but for what was set up: place, features, tables.
    pub(super) fn begin_anew(&mut self) {
        let size = self.layout.size();
        for place in Place::all(size) {
            self.layout.set_addr(place, 0);
            self.layout.set_tail(place, Tail::new(0, 0, 0));
        }
        self.layout.set_event(Owner::Driver, Event::Always);
        self.layout.set_event(Owner::Device, Event::Always);
        self.notes.fill(Note::default());
        self.ids = FreeIds::new(size);
        self.free = Cursor::new(size);
        self.next_avail = Place::START;
        self.first = None;
        self.next_used = Place::START;
        self.added = Cursor::new(0);
        self.outstanding = Cursor::new(0);
        self.oldest = Cursor::new(0);
        self.unasked = Unasked::default();
        self.run = None;
        self.silent = false;
        self.fault = None;
        if let Some(tables) = &mut self.tables {
            tables.forget();
        }
    }
}
