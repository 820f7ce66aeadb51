//! The driver's side of a split ring.

mod each;
mod repost;
mod reset;

use alloc::boxed::Box;

use super::layout::{Layout, NO_NOTIFY};
use crate::any::Format;
use crate::chain::{Descriptor, INDIRECT, NEXT, WRITE};
use crate::cursor::Cursor;
use crate::error::RingError;
use crate::free::FreeIds;
use crate::indirect::{IndirectTables, TableFormat};
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::notification::NotificationData;
use crate::protocol::{self, Side, Unasked};
use crate::ring::{DriverRing, Element, Full, Handle, Notify, QueueConfig, Used};

/// What the driver remembers of a descriptor. The table in shared memory is only ever written: a device that changes
/// it changes nothing here.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    /// The next descriptor of the chain, if it has one.
    next: u16,
    /// Descriptors of the outstanding chain whose head this is; 0 for every other.
    count: u16,
    /// Writable bytes of that chain.
    room: u32,
}

/// In order: a used entry that gives back all chains up to `last`.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: u32,
    len: u32,
}

/// The driver's side of a split ring.
#[derive(Debug)]
#[repr(align(128))]
pub struct SplitDriver<A> {
    layout: Layout<A>,
    notes: Box<[Note]>,
    /// Descriptors. In order they are never given back but in the order of the table, which is that in which they are taken
    /// (virtio 1.3, 2.7.9).
    free: FreeIds,
    /// The next entry of the available ring to write.
    next_avail: Cursor,
    /// The index that the device sees.
    published: Cursor,
    unasked: Unasked,
    /// The next entry of the used ring to read.
    next_used: Cursor,
    /// The device's index, as last loaded.
    used_idx: Cursor,
    event_idx: bool,
    in_order: bool,
    /// In order: the oldest outstanding chain, whose head is in the low bits.
    oldest: Cursor,
    run: Option<Run>,
    /// Without event index: what `avail.flags` says.
    silent: bool,
    tables: Option<IndirectTables<A>>,
    fault: Option<RingError>,
}

impl<A: RingMem> SplitDriver<A> {
    /// Sets up an empty ring. Chains of several elements take several descriptors.
    ///
    /// # Errors
    /// [`RingError`] if size or addresses cannot be.
    pub fn new<M: GuestMemory<Area = A>>(mem: &M, config: &QueueConfig) -> Result<Self, RingError> {
        let layout = Layout::map(mem, config)?;
        layout.set_avail_flags(0);
        layout.set_avail_idx(0);
        layout.set_used_event(0);
        layout.set_used_flags(0);
        layout.set_used_idx(0);
        layout.set_avail_event(0);
        Ok(Self {
            layout,
            notes: (0..config.size).map(|_| Note::default()).collect(),
            free: FreeIds::new(config.size),
            next_avail: Cursor::new(0),
            published: Cursor::new(0),
            unasked: Unasked::default(),
            next_used: Cursor::new(0),
            used_idx: Cursor::new(0),
            event_idx: config.event_idx,
            in_order: config.in_order,
            oldest: Cursor::new(0),
            run: None,
            silent: false,
            tables: None,
            fault: None,
        })
    }

    /// Puts chains of 2 to `entries` elements into indirect tables at `addr`, one table for each descriptor:
    /// `size * entries * 16` bytes, aligned to 16, which nobody else may write to. The feature must have been negotiated.
    ///
    /// As many bytes of host memory remember what the tables say: a chain that was added before, to whichever
    /// descriptor, finds its table written if no other chain needed that table since.
    ///
    /// # Errors
    /// [`RingError`] if the tables are misaligned or not in memory.
    pub fn with_indirect<M: GuestMemory<Area = A>>(
        mut self,
        mem: &M,
        addr: GuestAddr,
        entries: u16,
    ) -> Result<Self, RingError> {
        self.tables = Some(IndirectTables::new(mem, addr, self.layout.size(), entries)?);
        Ok(self)
    }

    /// The violation that stopped this ring, if one did.
    #[must_use]
    pub const fn fault(&self) -> Option<RingError> {
        self.fault
    }

    #[cold]
    fn fail(&mut self, error: RingError) -> RingError {
        self.fault = Some(error);
        self.used_idx = self.next_used;
        error
    }

    fn reload(&mut self) -> Result<bool, RingError> {
        if self.fault.is_some() {
            return Ok(false);
        }
        let idx = self.layout.used_idx_acquire();
        let ahead = idx.wrapping_sub(self.next_used.get());
        let outstanding = self.published.get().wrapping_sub(self.next_used.get());
        if ahead > outstanding {
            return Err(self.fail(RingError::UsedIndex { idx, ahead, outstanding }));
        }
        self.used_idx = Cursor::new(idx);
        Ok(ahead != 0)
    }

    /// Gives the descriptors of the chain at `head` back.
    #[inline]
    fn release(&mut self, head: u16, count: u16) {
        self.free.give(head);
        if count > 1 {
            self.release_rest(head, count);
        }
    }

    fn release_rest(&mut self, head: u16, count: u16) {
        let mut id = head;
        for _ in 1..count {
            id = self.notes.get(usize::from(id)).map_or(0, |n| n.next);
            self.free.give(id);
        }
    }

    /// Takes back the chain at `head`, of which `len` bytes were written, all if that is `None`; returns how many
    /// descriptors it took.
    #[inline]
    fn reap(&mut self, head: u32, len: Option<u32>) -> Result<(Used, u16), RingError> {
        let note = self.notes.get_mut(head as usize).filter(|n| n.count != 0);
        let Some(note) = note else { return Err(self.fail(RingError::UsedId { id: head })) };
        let id = head as u16; // below the queue size
        let len = len.unwrap_or(note.room);
        if len > note.room {
            let room = note.room;
            return Err(self.fail(RingError::UsedLen { id, room, len }));
        }
        let count = core::mem::take(&mut note.count);
        self.next_used.add(1);
        Ok((Used { handle: Handle(id), len }, count))
    }

    /// Takes back the chain that the next entry names, with the length in it.
    #[inline]
    fn reap_entry(&mut self, (id, len): (u32, u32)) -> Result<Used, RingError> {
        let (used, count) = self.reap(id, Some(len))?;
        self.release(used.handle.0, count);
        Ok(used)
    }

    /// Takes back the oldest chain, of the run that is under way or of a new one.
    fn reap_in_order(&mut self) -> Result<Used, RingError> {
        let run = self.run.unwrap_or_else(|| {
            let (last, len) = self.layout.used_entry(self.layout.at(self.next_used));
            Run { last, len }
        });
        let head = self.oldest.get() & self.layout.size().wrapping_sub(1);
        let last = run.last == u32::from(head);
        if !last && self.next_used.get().wrapping_add(1) == self.used_idx.get() {
            // The index ends before the chain that the entry names.
            return Err(self.fail(RingError::UsedId { id: run.last }));
        }
        // virtio 1.3, 2.7.9: what a run skips was used completely.
        let (used, count) = self.reap(head.into(), last.then_some(run.len))?;
        self.free.give_in_order(count);
        self.oldest.add(count);
        self.run = (!last).then_some(run);
        Ok(used)
    }

    /// Writes a chain of direct descriptors; returns its head.
    #[inline]
    fn write_direct(&mut self, elements: &[Element]) -> u16 {
        let head = self.free.next();
        let mut left = elements.len();
        for e in elements {
            let index = self.free.take();
            left = left.wrapping_sub(1);
            let (next, more) = if left == 0 { (0, 0) } else { (self.free.next(), NEXT) };
            if more != 0
                && let Some(note) = self.notes.get_mut(usize::from(index))
            {
                note.next = next;
            }
            self.describe(index, describe(e, more, next));
        }
        head
    }

    fn write_indirect(&mut self, elements: &[Element]) -> Option<u16> {
        let notes = &self.notes;
        let is_free = |i: u16| notes.get(usize::from(i)).is_some_and(|n| n.count == 0);
        let (addr, len) = self.tables.as_mut()?.write(self.free.next(), elements, TableFormat::Split, is_free)?;
        let head = self.free.take();
        self.describe(head, Descriptor { addr: addr.0, len, flags: INDIRECT, next: 0 });
        Some(head)
    }

    #[inline]
    fn describe(&self, index: u16, descriptor: Descriptor) {
        // What is free is below the queue size.
        if let Some(slot) = self.layout.slot(index) {
            self.layout.set_descriptor(slot, descriptor);
        }
    }
}

#[inline]
pub(crate) const fn describe(e: &Element, more: u16, next: u16) -> Descriptor {
    let write = if e.writable { WRITE } else { 0 };
    Descriptor { addr: e.addr.0, len: e.len, flags: write | more, next }
}

impl<A: RingMem> DriverRing for SplitDriver<A> {
    #[inline]
    fn add(&mut self, elements: &[Element]) -> Result<Handle, Full> {
        let fits = self.tables.as_ref().is_some_and(|t| elements.len() > 1 && t.fits(elements.len()));
        let needed = if fits { 1 } else { elements.len() };
        if needed > usize::from(self.free.len()) || needed == 0 {
            return Err(Full { free: self.free.len(), needed });
        }
        let head = if fits { self.write_indirect(elements) } else { Some(self.write_direct(elements)) };
        let head = head.ok_or(Full { free: self.free.len(), needed })?;
        if let Some(note) = self.notes.get_mut(usize::from(head)) {
            note.count = needed as u16; // at most what is free
            note.room = elements.iter().filter(|e| e.writable).fold(0, |sum: u32, e| sum.saturating_add(e.len));
        }
        self.layout.set_avail_entry(self.layout.at(self.next_avail), head);
        self.next_avail.add(1);
        Ok(Handle(head))
    }

    #[inline]
    fn publish(&mut self) {
        let (old, new) = (self.published.get(), self.next_avail.get());
        if old == new {
            return;
        }
        // virtio 1.3, 2.7.13.3.1: idx after entries and descriptors. Partner: the acquire load in the device's `peek`.
        self.layout.set_avail_idx(new);
        self.published = self.next_avail;
        self.unasked.add(new.wrapping_sub(old));
    }

    #[inline]
    fn notify(&mut self) -> Notify {
        let entries = self.unasked.take(self.layout.size());
        if entries == 0 {
            return Notify::Suppressed;
        }
        let new = self.published.get();
        protocol::must_notify(self, new.wrapping_sub(entries), new)
    }

    #[inline]
    fn poll_used(&mut self) -> Result<Option<Used>, RingError> {
        if self.next_used.get() == self.used_idx.get() && !self.reload()? {
            return Ok(None);
        }
        if self.in_order {
            return self.reap_in_order().map(Some);
        }
        self.reap_entry(self.layout.used_entry(self.layout.at(self.next_used))).map(Some)
    }

    #[inline]
    fn add_each(&mut self, elements: impl Iterator<Item = Element>, added: impl FnMut(Handle)) -> usize {
        if self.in_order {
            self.add_singles::<true>(elements, added)
        } else {
            self.add_singles::<false>(elements, added)
        }
    }

    #[inline]
    fn reap_each(&mut self, most: usize, each: impl FnMut(Used)) -> Result<usize, RingError> {
        self.reap_burst(most, each)
    }

    #[inline]
    fn arm(&mut self) -> bool {
        protocol::arm(self)
    }

    #[inline]
    fn disarm(&mut self) {
        if !self.event_idx && !self.silent {
            self.silent = true;
            self.layout.set_avail_flags(NO_NOTIFY);
        }
    }

    fn reset(&mut self, taken: impl FnMut(Handle)) {
        self.outstanding_handles().for_each(taken);
        self.begin_anew();
    }

    fn notification_data(&self, queue: u16) -> NotificationData {
        NotificationData::new(queue, self.published.get(), Format::Split)
    }

    #[inline]
    fn free_slots(&self) -> u16 {
        self.free.len()
    }

    #[inline]
    fn size(&self) -> u16 {
        self.layout.size()
    }
}

impl<A: RingMem> Side for SplitDriver<A> {
    type Place = u16;

    #[inline]
    fn fence(&self) {
        self.layout.full_fence();
    }

    #[inline]
    fn peer_wants(&self, old: u16, new: u16) -> bool {
        if self.event_idx {
            protocol::passed(self.layout.avail_event(), old, new)
        } else {
            self.layout.used_flags() & NO_NOTIFY == 0
        }
    }

    #[inline]
    fn ask(&mut self) {
        if self.event_idx {
            self.layout.set_used_event(self.next_used.get());
        } else if self.silent {
            self.silent = false;
            self.layout.set_avail_flags(0);
        }
    }

    #[inline]
    fn has_work(&mut self) -> bool {
        self.fault.is_none() && self.layout.used_idx_acquire() != self.next_used.get()
    }
}
