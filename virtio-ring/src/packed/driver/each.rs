//! Bursts of chains of one descriptor. Positions are locals: nothing here could change them behind the compiler's back.

use super::super::layout::Tail;
use super::{Note, PackedDriver};
use crate::chain::WRITE;
use crate::error::RingError;
use crate::mem::RingMem;
use crate::ring::{Element, Handle, Used};

impl<A: RingMem> PackedDriver<A> {
    #[inline(always)]
    pub(super) fn add_singles(
        &mut self,
        mut elements: impl Iterator<Item = Element>,
        mut added: impl FnMut(Handle),
    ) -> usize {
        let Self { layout, notes, ids, free, added: fresh, next_avail, first, .. } = self;
        let (layout, size, notes, list, mask) = (layout.view(), layout.size(), &mut **notes, &*ids.ids, ids.mask);
        let (mut at, mut taken, mut kept) = (*next_avail, ids.taken, *first);
        let room = usize::from(free.get());
        let mut count = 0;
        'burst: while count < room {
            // Up to the end of the ring there is nothing to wrap.
            let straight = room.min(count.wrapping_add(at.left(size).into())); // far below 2^32
            while count < straight {
                let Some(element) = elements.next() else { break 'burst };
                let id = list.get((taken.wide() & mask) as usize).copied().unwrap_or_default();
                let Some(note) = notes.get_mut(usize::from(id)) else { break 'burst };
                *note = Note { count: 1, room: if element.writable { element.len } else { 0 } };
                layout.set_addr(at, element.addr.0);
                let tail = Tail::new(element.len, id, if element.writable { WRITE } else { 0 }).available(at);
                if kept.is_none() {
                    kept = Some((at, tail));
                } else {
                    layout.set_tail(at, tail);
                }
                added(Handle(id));
                at = at.ahead();
                taken.add(1);
                count = count.wrapping_add(1); // below `room`
            }
            at = at.around(size);
        }
        (*next_avail, ids.taken, *first) = (at.around(size), taken, kept);
        free.sub(count as u16); // no more than are free
        fresh.add(count as u16);
        count
    }

    /// Takes back chains of one descriptor that have entries of their own; how many, and the entry that ended that, if one
    /// did.
    #[inline(always)]
    fn reap_singles<const IN_ORDER: bool>(
        &mut self,
        most: usize,
        each: &mut impl FnMut(Used),
    ) -> (usize, Option<Tail>) {
        let Self { layout, notes, ids, free, next_used, outstanding, oldest, .. } = self;
        let (layout, size, notes, list, mask) = (layout.view(), layout.size(), &mut **notes, &mut *ids.ids, ids.mask);
        let (mut at, mut given, mut from) = (*next_used, ids.given, *oldest);
        let most = most.min(outstanding.get().into());
        let (mut count, mut other) = (0, None);
        'burst: while count < most {
            // Up to the end of the ring there is nothing to wrap.
            let straight = most.min(count.wrapping_add(at.left(size).into())); // far below 2^32
            while count < straight {
                let tail = layout.tail(at);
                if !tail.is_used(at) {
                    break 'burst;
                }
                // In order, any other than the oldest chain is the end of a run.
                let is_its_turn = !IN_ORDER || list.get((from.wide() & mask) as usize) == Some(&tail.id());
                let note = notes.get_mut(usize::from(tail.id()));
                let note = note.filter(|n| n.count == 1 && tail.len() <= n.room && is_its_turn);
                let (Some(note), Some(place)) = (note, list.get_mut((given.wide() & mask) as usize)) else {
                    other = Some(tail);
                    break 'burst;
                };
                note.count = 0;
                *place = tail.id();
                each(Used { handle: Handle(tail.id()), len: tail.len() });
                at = at.ahead();
                given.add(1);
                from.add(1);
                count = count.wrapping_add(1); // below `most`
            }
            at = at.around(size);
        }
        (*next_used, ids.given) = (at.around(size), given);
        if IN_ORDER {
            *oldest = from;
        }
        free.add(count as u16); // no more than were outstanding
        outstanding.sub(count as u16);
        (count, other)
    }

    /// Takes back chains of one descriptor of the run that is under way, but the last; how many.
    #[inline(always)]
    fn reap_skipped(&mut self, most: usize, each: &mut impl FnMut(Used)) -> usize {
        let Some(run) = self.run else { return 0 };
        let Self { layout, notes, ids, free, next_used, outstanding, oldest, .. } = self;
        let (notes, list, mask) = (&mut **notes, &mut *ids.ids, ids.mask);
        let (mut from, mut given) = (*oldest, ids.given);
        let most = most.min(outstanding.get().into());
        let mut count = 0;
        while count < most {
            let id = list.get((from.wide() & mask) as usize).copied().unwrap_or_default();
            let note = notes.get_mut(usize::from(id)).filter(|n| n.count == 1 && run.id() != id);
            let (Some(note), Some(place)) = (note, list.get_mut((given.wide() & mask) as usize)) else { break };
            note.count = 0;
            *place = id;
            each(Used { handle: Handle(id), len: note.room });
            from.add(1);
            given.add(1);
            count = count.wrapping_add(1); // below `most`
        }
        (*oldest, ids.given) = (from, given);
        let count = count as u16; // no more than were outstanding
        *next_used = next_used.advance(count, layout.size());
        free.add(count);
        outstanding.sub(count);
        count.into()
    }

    #[inline(always)]
    pub(super) fn reap_burst(&mut self, most: usize, mut each: impl FnMut(Used)) -> Result<usize, RingError> {
        let mut count: usize = 0;
        while count < most {
            let left = most.wrapping_sub(count);
            if let Some(run) = self.run {
                count = count.wrapping_add(self.reap_skipped(left, &mut each)); // at most `most`
                if count == most {
                    break;
                }
                each(self.reap_run(run)?);
            } else {
                let (taken, other) = if self.in_order {
                    self.reap_singles::<true>(left, &mut each)
                } else {
                    self.reap_singles::<false>(left, &mut each)
                };
                count = count.wrapping_add(taken);
                let Some(tail) = other else { break };
                each(self.reap_tail(tail)?);
            }
            count = count.wrapping_add(1);
        }
        Ok(count)
    }
}
