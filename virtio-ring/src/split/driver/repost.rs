//! Split: chains that are reaped and posted again.

use super::SplitDriver;
use crate::chain::{Descriptor, INDIRECT};
use crate::error::RingError;
use crate::mem::RingMem;
use crate::repost::{Again, KeepRing, Keeping};
use crate::ring::{Handle, Used};

impl<A: RingMem> SplitDriver<A> {
    /// Makes the chain at `head` available, whose descriptors are written and whose room is known.
    fn enter(&mut self, head: u16, count: u16) {
        if let Some(note) = self.notes.get_mut(usize::from(head)) {
            note.count = count;
        }
        self.pin(head, false);
        self.layout.set_avail_entry(self.layout.at(self.next_avail), head);
        self.next_avail.add(1);
    }

    fn pin(&mut self, head: u16, pinned: bool) {
        if let Some(tables) = &mut self.tables {
            tables.pin(head, pinned);
        }
    }
}

impl<A: RingMem> KeepRing for SplitDriver<A> {
    fn keeping(&self) -> Keeping {
        if self.in_order { Keeping::Circle } else { Keeping::Nothing }
    }

    fn reap_kept(&mut self) -> Result<Option<(Used, u16)>, RingError> {
        if self.next_used.get() == self.used_idx.get() && !self.reload()? {
            return Ok(None);
        }
        let (used, count) = if self.in_order {
            let given = self.free.given;
            let used = self.reap_in_order();
            let count = core::mem::replace(&mut self.free.given, given).get().wrapping_sub(given.get());
            (used?, count)
        } else {
            let (id, len) = self.layout.used_entry(self.layout.at(self.next_used));
            self.reap(id, Some(len))?
        };
        self.pin(used.handle.0, true);
        Ok(Some((used, count)))
    }

    fn release_kept(&mut self, handle: Handle, count: u16) {
        self.pin(handle.0, false);
        if self.in_order {
            // Behind those that are free already: the caller goes around the circle.
            self.free.give_in_order(count);
        } else {
            self.release(handle.0, count);
        }
    }

    fn repost_kept(&mut self, chain: Again<'_>) {
        if self.in_order {
            // Nothing is free, and the chain's descriptors are the next in the circle.
            self.free.give_in_order(chain.count);
            self.free.taken.add(chain.count);
        }
        self.enter(chain.handle.0, chain.count);
    }

    fn repost_elsewhere(&mut self, chain: Again<'_>) -> Handle {
        let old = chain.handle.0;
        let room = self.notes.get(usize::from(old)).map_or(0, |n| n.room);
        let head = if chain.elements.is_empty() {
            let head = self.free.take();
            if let Some(tables) = &mut self.tables {
                tables.pin(old, false);
                tables.exchange(head, old);
                let (addr, len) = tables.place(head).unwrap_or_default();
                self.describe(head, Descriptor { addr: addr.0, len, flags: INDIRECT, next: 0 });
            }
            head
        } else {
            self.write_direct(chain.elements)
        };
        if let Some(note) = self.notes.get_mut(usize::from(head)) {
            note.room = room;
        }
        self.enter(head, chain.count);
        Handle(head)
    }
}
