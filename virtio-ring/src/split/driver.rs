//! The driver's side of a split ring.

mod reset;

use alloc::vec::Vec;

use super::layout::{Layout, NO_NOTIFY};
use crate::any::Format;
use crate::chain::{Descriptor, INDIRECT, NEXT, WRITE};
use crate::cursor::Cursor;
use crate::error::RingError;
use crate::indirect::{IndirectTables, TableFormat};
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::notification::NotificationData;
use crate::protocol::{self, Side};
use crate::ring::{DriverRing, Element, Full, Handle, Notify, QueueConfig, Used};

/// What the driver remembers of a descriptor. The table in shared memory is only ever written: a device that changes
/// it changes nothing here.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The next free descriptor, or the next of the chain.
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
    slots: Vec<Slot>,
    free_head: Cursor,
    free_tail: Cursor,
    free: Cursor,
    /// The next entry of the available ring to write.
    next_avail: Cursor,
    /// The index that the device sees.
    published: Cursor,
    /// The next entry of the used ring to read.
    next_used: Cursor,
    /// The device's index, as last loaded.
    used_idx: Cursor,
    /// Chains that were published and not reaped.
    outstanding: Cursor,
    event_idx: bool,
    /// Descriptors are taken and used in the order of the table (virtio 1.3, 2.7.9).
    in_order: bool,
    /// In order: head of the oldest outstanding chain.
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
        let slots = Self::free_list(config.size);
        Ok(Self {
            layout,
            slots,
            free_head: Cursor::new(0),
            free_tail: Cursor::new(config.size.wrapping_sub(1)),
            free: Cursor::new(config.size),
            next_avail: Cursor::new(0),
            published: Cursor::new(0),
            next_used: Cursor::new(0),
            used_idx: Cursor::new(0),
            outstanding: Cursor::new(0),
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
    /// `size * entries * 16` bytes, aligned to 16. The feature must have been negotiated.
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
        if ahead > self.outstanding.get() {
            return Err(self.fail(RingError::UsedIndex { idx, ahead, outstanding: self.outstanding.get() }));
        }
        self.used_idx = Cursor::new(idx);
        Ok(ahead != 0)
    }

    /// Takes a descriptor off the free list. The caller has checked that there is one.
    #[inline]
    fn take(&mut self) -> u16 {
        let index = self.free_head.get();
        self.free_head = Cursor::new(self.slots.get(usize::from(index)).map_or(0, |s| s.next));
        self.free.sub(1);
        index
    }

    /// Puts the descriptors of the chain at `head` at the end of the free list: the table is then written and read in
    /// its order, a line after the other.
    #[inline]
    fn release(&mut self, head: u16, count: u16) {
        let mut last = head;
        for _ in 1..count {
            last = self.slots.get(usize::from(last)).map_or(0, |s| s.next);
        }
        let end = core::mem::replace(&mut self.free_tail, Cursor::new(last)).get();
        if self.free.get() == 0 {
            self.free_head = Cursor::new(head);
        } else if let Some(slot) = self.slots.get_mut(usize::from(end)) {
            slot.next = head;
        }
        self.free.add(count);
    }

    /// Takes back the chain at `head`, of which `len` bytes were written, all if that is `None`; returns how many
    /// descriptors it took.
    #[inline]
    fn reap(&mut self, head: u32, len: Option<u32>) -> Result<(Used, u16), RingError> {
        let slot = usize::try_from(head).ok().and_then(|i| self.slots.get_mut(i)).filter(|s| s.count != 0);
        let Some(slot) = slot else { return Err(self.fail(RingError::UsedId { id: head })) };
        let id = head as u16; // below the queue size
        let len = len.unwrap_or(slot.room);
        if len > slot.room {
            let room = slot.room;
            return Err(self.fail(RingError::UsedLen { id, room, len }));
        }
        let count = core::mem::take(&mut slot.count);
        self.next_used.add(1);
        self.outstanding.sub(1);
        Ok((Used { handle: Handle(id), len }, count))
    }

    /// Takes back the oldest chain, of the run that is under way or of a new one.
    fn reap_in_order(&mut self) -> Result<Used, RingError> {
        let run = self.run.unwrap_or_else(|| {
            let (last, len) = self.layout.used_entry(self.next_used.get());
            Run { last, len }
        });
        let head = self.oldest.get();
        let last = run.last == u32::from(head);
        // virtio 1.3, 2.7.9: what a run skips was used completely.
        let (used, count) = self.reap(head.into(), last.then_some(run.len))?;
        self.free.add(count);
        self.oldest = Cursor::new(head.wrapping_add(count) & self.layout.size().wrapping_sub(1));
        self.run = (!last).then_some(run);
        if !last && self.next_used.get() == self.used_idx.get() {
            // The index ended before the chain that the entry names.
            return Err(self.fail(RingError::UsedId { id: run.last }));
        }
        Ok(used)
    }

    /// Writes a chain of direct descriptors; returns its head.
    #[inline]
    fn write_direct(&mut self, elements: &[Element]) -> u16 {
        let head = self.free_head.get();
        let mut left = elements.len();
        for e in elements {
            let index = self.take();
            left = left.wrapping_sub(1);
            let (next, more) = if left == 0 { (0, 0) } else { (self.free_head.get(), NEXT) };
            self.layout.set_descriptor(index, describe(e, more, next));
        }
        head
    }

    fn write_indirect(&mut self, elements: &[Element]) -> Option<u16> {
        let (addr, len) = self.tables.as_ref()?.write(self.free_head.get(), elements, TableFormat::Split)?;
        let head = self.take();
        self.layout.set_descriptor(head, Descriptor { addr: addr.0, len, flags: INDIRECT, next: 0 });
        Some(head)
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
        if needed > usize::from(self.free.get()) || needed == 0 {
            return Err(Full { free: self.free.get(), needed });
        }
        let head = if fits { self.write_indirect(elements) } else { Some(self.write_direct(elements)) };
        let head = head.ok_or(Full { free: self.free.get(), needed })?;
        if let Some(slot) = self.slots.get_mut(usize::from(head)) {
            slot.count = needed as u16; // at most `free`
            slot.room = elements.iter().filter(|e| e.writable).fold(0, |sum: u32, e| sum.saturating_add(e.len));
        }
        self.layout.set_avail_entry(self.next_avail.get(), head);
        self.next_avail.add(1);
        Ok(Handle(head))
    }

    #[inline]
    fn flush(&mut self) -> Notify {
        let (old, new) = (self.published.get(), self.next_avail.get());
        if old == new {
            return Notify::Suppressed;
        }
        // virtio 1.3, 2.7.13.3.1: idx after entries and descriptors. Partner: the acquire load in the device's `peek`.
        self.layout.set_avail_idx(new);
        self.published = Cursor::new(new);
        self.outstanding.add(new.wrapping_sub(old));
        protocol::must_notify(self, old, new)
    }

    #[inline]
    fn poll_used(&mut self) -> Result<Option<Used>, RingError> {
        if self.next_used.get() == self.used_idx.get() && !self.reload()? {
            return Ok(None);
        }
        if self.in_order {
            return self.reap_in_order().map(Some);
        }
        let (id, len) = self.layout.used_entry(self.next_used.get());
        let (used, count) = self.reap(id, Some(len))?;
        self.release(used.handle.0, count);
        Ok(Some(used))
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
        self.free.get()
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
