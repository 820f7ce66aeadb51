//! Bursts of chains of one descriptor. Positions are locals: nothing here could change them behind the compiler's back.

use super::{Note, Run, SplitDriver, describe};
use crate::error::RingError;
use crate::mem::RingMem;
use crate::ring::{Element, Handle, Used};

impl<A: RingMem> SplitDriver<A> {
    #[inline(always)]
    pub(super) fn add_singles<const IN_ORDER: bool>(
        &mut self,
        mut elements: impl Iterator<Item = Element>,
        mut added: impl FnMut(Handle),
    ) -> usize {
        let Self { layout, notes, free, next_avail, .. } = self;
        let (layout, notes) = (layout.view(), &mut **notes);
        let (room, ids, mask) = (usize::from(free.len()), &*free.ids, free.mask);
        let (mut at, mut taken) = (*next_avail, free.taken);
        let mut count = 0;
        while count < room
            && let Some(element) = elements.next()
        {
            // In order the ids stand in the order of the table, so the position says as much.
            let entry = (taken.wide() & mask) as usize;
            let id = if IN_ORDER { entry as u16 } else { ids.get(entry).copied().unwrap_or_default() };
            let (Some(slot), Some(note)) = (layout.slot(id), notes.get_mut(usize::from(id))) else { break };
            layout.set_descriptor(slot, describe(&element, 0, 0));
            *note = Note { next: 0, count: 1, room: if element.writable { element.len } else { 0 } };
            layout.set_avail_entry(layout.at(at), id);
            added(Handle(id));
            at.add(1);
            taken.add(1);
            count = count.wrapping_add(1); // below `room`
        }
        (*next_avail, free.taken) = (at, taken);
        count
    }

    /// Takes back chains of one descriptor that are known to be used and have entries of their own; how many, and the entry
    /// that ended that, if one did.
    #[inline(always)]
    fn reap_singles<const IN_ORDER: bool>(
        &mut self,
        most: usize,
        each: &mut impl FnMut(Used),
    ) -> (usize, Option<(u32, u32)>) {
        let Self { layout, notes, free, next_used, used_idx, oldest, .. } = self;
        let (layout, notes, ids) = (layout.view(), &mut **notes, &mut *free.ids);
        let (mut at, mut given, mut head, mask) = (*next_used, free.given, *oldest, free.mask);
        let most = most.min(used_idx.get().wrapping_sub(at.get()).into());
        let (mut count, mut other) = (0, None);
        while count < most {
            let (id, len) = layout.used_entry(layout.at(at));
            // In order, any other than the oldest chain is the end of a run.
            let is_its_turn = !IN_ORDER || id == head.wide() & mask;
            let note = notes.get_mut(id as usize).filter(|n| n.count == 1 && len <= n.room && is_its_turn);
            let (Some(note), Some(place)) = (note, ids.get_mut((given.wide() & mask) as usize)) else {
                other = Some((id, len));
                break;
            };
            note.count = 0;
            *place = id as u16; // below the queue size
            each(Used { handle: Handle(id as u16), len });
            at.add(1);
            given.add(1);
            head.add(1);
            count = count.wrapping_add(1); // below `most`
        }
        (*next_used, free.given) = (at, given);
        if IN_ORDER {
            *oldest = head;
        }
        (count, other)
    }

    /// Takes back chains of one descriptor of the run that is under way, but the last; how many.
    #[inline(always)]
    fn reap_skipped(&mut self, most: usize, each: &mut impl FnMut(Used)) -> usize {
        let Some(run) = self.run else { return 0 };
        let Self { notes, free, next_used, used_idx, oldest, .. } = self;
        let notes = &mut **notes;
        let (mut at, mut id, mask) = (*next_used, *oldest, free.mask);
        // The index has to reach beyond the last chain of a run.
        let known = usize::from(used_idx.get().wrapping_sub(at.get()));
        let most = most.min(known.saturating_sub(1));
        let mut count = 0;
        while count < most {
            let head = id.wide() & mask;
            let note = notes.get_mut(head as usize).filter(|n| n.count == 1 && run.last != head);
            let Some(note) = note else { break };
            note.count = 0;
            each(Used { handle: Handle(head as u16), len: note.room });
            id.add(1);
            at.add(1);
            count = count.wrapping_add(1); // below `most`
        }
        (*next_used, *oldest) = (at, id);
        free.give_in_order(count as u16); // no more than are known
        count
    }

    #[inline(always)]
    pub(super) fn reap_burst(&mut self, most: usize, mut each: impl FnMut(Used)) -> Result<usize, RingError> {
        if most == 0 || (self.next_used.get() == self.used_idx.get() && !self.reload()?) {
            return Ok(0);
        }
        let mut count: usize = 0;
        loop {
            let left = most.wrapping_sub(count);
            if self.run.is_some() {
                count = count.wrapping_add(self.reap_skipped(left, &mut each)); // at most `most`
                if count == most {
                    return Ok(count);
                }
                each(self.reap_in_order()?);
            } else if self.in_order {
                let (taken, other) = self.reap_singles::<true>(left, &mut each);
                count = count.wrapping_add(taken);
                let Some((last, len)) = other else { return Ok(count) };
                self.run = Some(Run { last, len });
                each(self.reap_in_order()?);
            } else {
                let (taken, other) = self.reap_singles::<false>(left, &mut each);
                count = count.wrapping_add(taken);
                let Some(entry) = other else { return Ok(count) };
                each(self.reap_entry(entry)?);
            }
            count = count.wrapping_add(1);
        }
    }
}
