//! Packed: chains that are reaped and posted again.

use super::PackedDriver;
use crate::chain::{INDIRECT, NEXT, WRITE};
use crate::error::RingError;
use crate::mem::RingMem;
use crate::packed::layout::Tail;
use crate::repost::{Again, KeepRing, Keeping};
use crate::ring::{DriverRing, Handle, Used};

impl<A: RingMem> PackedDriver<A> {
    fn pin(&mut self, id: u16, pinned: bool) {
        if let Some(tables) = &mut self.tables {
            tables.pin(id, pinned);
        }
    }
}

impl<A: RingMem> KeepRing for PackedDriver<A> {
    fn keeping(&self) -> Keeping {
        Keeping::Slots
    }

    fn reap_kept(&mut self) -> Result<Option<(Used, u16)>, RingError> {
        // What `poll_used` gives back is taken off again.
        let (given, free) = (self.ids.given, self.free);
        let Some(used) = self.poll_used()? else { return Ok(None) };
        self.ids.given = given;
        let count = core::mem::replace(&mut self.free, free).get().wrapping_sub(free.get());
        self.pin(used.handle.0, true);
        Ok(Some((used, count)))
    }

    fn release_kept(&mut self, handle: Handle, count: u16) {
        self.pin(handle.0, false);
        self.ids.give(handle.0);
        self.free.add(count);
    }

    fn repost_kept(&mut self, chain: Again<'_>) {
        let id = chain.handle.0;
        if self.in_order {
            self.ids.retake(id);
        }
        self.added.add(chain.count);
        if chain.elements.is_empty() {
            let (addr, len) = self.tables.as_ref().and_then(|t| t.place(id)).unwrap_or_default();
            self.push(addr.0, Tail::new(len, id, INDIRECT));
        }
        let mut left = chain.elements.len();
        for e in chain.elements {
            left = left.wrapping_sub(1);
            let flags = if e.writable { WRITE } else { 0 } | if left == 0 { 0 } else { NEXT };
            self.push(e.addr.0, Tail::new(e.len, id, flags));
        }
        self.pin(id, false);
        if let Some(note) = self.notes.get_mut(usize::from(id)) {
            note.count = chain.count.into();
        }
    }

    fn repost_elsewhere(&mut self, chain: Again<'_>) -> Handle {
        // Only circles of descriptors ask for it.
        chain.handle
    }
}
