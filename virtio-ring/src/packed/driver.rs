//! The driver's side of a packed ring.

mod reset;

use alloc::vec::Vec;

use super::layout::{Event, Layout, Owner, Tail, avail_flags};
use super::place::{self, Place};
use crate::any::Format;
use crate::chain::{INDIRECT, NEXT, WRITE};
use crate::error::RingError;
use crate::indirect::{IndirectTables, TableFormat};
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::notification::NotificationData;
use crate::protocol::{self, Side};
use crate::ring::{DriverRing, Element, Full, Handle, Notify, QueueConfig, Used};

/// What the driver remembers of a buffer id.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The next free id; in order: the id of the chain added next.
    next: u16,
    /// Descriptors of the outstanding chain with this id; 0 if there is none.
    count: u16,
    /// Writable bytes of that chain.
    room: u32,
}

/// The driver's side of a packed ring.
#[derive(Debug)]
#[repr(align(128))]
pub struct PackedDriver<A> {
    layout: Layout<A>,
    slots: Vec<Slot>,
    free_id: u16,
    /// Descriptors that are free.
    free: u16,
    /// The next slot to make available.
    next_avail: Place,
    /// Where the last publication ended.
    published: Place,
    /// The first descriptor since the last publication: its flags make all of them visible, so they are stored last.
    first: Option<(u16, Tail)>,
    /// The next slot that the device will use.
    next_used: Place,
    /// In order: id of the oldest and of the newest outstanding chain.
    oldest: u16,
    newest: u16,
    /// In order: a used entry that gives back all chains up to its id.
    run: Option<Tail>,
    event_idx: bool,
    in_order: bool,
    silent: bool,
    tables: Option<IndirectTables<A>>,
    fault: Option<RingError>,
}

impl<A: RingMem> PackedDriver<A> {
    /// Sets up an empty ring. Chains of several elements take several descriptors.
    ///
    /// # Errors
    /// [`RingError`] if size or addresses cannot be.
    pub fn new<M: GuestMemory<Area = A>>(mem: &M, config: &QueueConfig) -> Result<Self, RingError> {
        let layout = Layout::map(mem, config)?;
        for slot in 0..config.size {
            layout.set_addr(slot, 0);
            layout.set_tail(slot, Tail::new(0, 0, 0));
        }
        layout.set_event(Owner::Driver, Event::Always);
        layout.set_event(Owner::Device, Event::Always);
        let slots = Self::free_list(config.size);
        Ok(Self {
            layout,
            slots,
            free_id: 0,
            free: config.size,
            next_avail: Place::START,
            published: Place::START,
            first: None,
            next_used: Place::START,
            oldest: 0,
            newest: 0,
            run: None,
            event_idx: config.event_idx,
            in_order: config.in_order,
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
        self.run = None;
        error
    }

    #[inline]
    fn slot(&self, id: u16) -> Slot {
        self.slots.get(usize::from(id)).copied().unwrap_or_default()
    }

    /// Takes an id off the free list: there is one for each free descriptor.
    #[inline]
    fn take_id(&mut self) -> u16 {
        let id = self.free_id;
        self.free_id = self.slot(id).next;
        id
    }

    /// Writes one descriptor at the end of the ring, or keeps its flags back if it is the first since the last
    /// publication.
    #[inline]
    fn push(&mut self, addr: u64, len: u32, id: u16, flags: u16) {
        let at = self.next_avail;
        self.layout.set_addr(at.index(), addr);
        let tail = Tail::new(len, id, flags | avail_flags(at.wrap()));
        if self.first.is_none() {
            self.first = Some((at.index(), tail));
        } else {
            self.layout.set_tail(at.index(), tail);
        }
        self.next_avail = at.advance(1, self.layout.size());
    }

    /// True if the device used the slot that is next.
    #[inline]
    fn next_is_used(&self) -> Option<Tail> {
        let tail = self.layout.tail(self.next_used.index());
        // Nothing can be used while every slot is the driver's, whatever the flags say.
        let outstanding = self.published.since(self.next_used, self.layout.size());
        (tail.is_used(self.next_used.wrap()) && outstanding > 0).then_some(tail)
    }

    /// Takes back the chain with this id; `entry` says how much was written to it, all if there is none.
    #[inline]
    fn reap(&mut self, id: u16, entry: Option<Tail>) -> Result<Used, RingError> {
        let size = self.layout.size();
        let outstanding = self.published.since(self.next_used, size);
        let free_id = self.free_id;
        let slot = self.slots.get_mut(usize::from(id)).filter(|s| s.count != 0 && u32::from(s.count) <= outstanding);
        let Some(slot) = slot else { return Err(self.fail(RingError::UsedId { id: id.into() })) };
        let mut len = entry.map_or(slot.room, Tail::len);
        if len > slot.room {
            let room = slot.room;
            // virtio 1.3, 2.8.4: without WRITE the length is reserved. DPDK leaves there what was. QEMU leaves WRITE
            // out, so a length that can be is one all the same.
            if entry.is_some_and(|e| e.flags() & WRITE != 0) {
                return Err(self.fail(RingError::UsedLen { id, room, len }));
            }
            len = 0;
        }
        let count = core::mem::take(&mut slot.count);
        self.oldest = slot.next;
        slot.next = free_id;
        self.free_id = id;
        self.free = self.free.wrapping_add(count);
        self.next_used = self.next_used.advance(count, size);
        Ok(Used { handle: Handle(id), len })
    }

    /// Goes on with a run of chains that one entry gave back.
    #[inline]
    fn reap_run(&mut self, run: Tail) -> Result<Used, RingError> {
        let id = self.oldest;
        let last = id == run.id();
        self.run = if last { None } else { Some(run) };
        // virtio 1.3, 2.8.9: what a run skips was used completely.
        self.reap(id, last.then_some(run))
    }
}

impl<A: RingMem> DriverRing for PackedDriver<A> {
    #[inline]
    fn add(&mut self, elements: &[Element]) -> Result<Handle, Full> {
        let fits = self.tables.as_ref().is_some_and(|t| elements.len() > 1 && t.fits(elements.len()));
        let needed = if fits { 1 } else { elements.len() };
        if needed > usize::from(self.free) || needed == 0 {
            return Err(Full { free: self.free, needed });
        }
        let id = self.take_id();
        if fits {
            let table = self.tables.as_ref().and_then(|t| t.write(id, elements, TableFormat::Packed));
            let (addr, len) = table.unwrap_or_default();
            self.push(addr.0, len, id, INDIRECT);
        } else {
            let mut left = elements.len();
            for e in elements {
                left = left.wrapping_sub(1);
                let flags = if e.writable { WRITE } else { 0 } | if left == 0 { 0 } else { NEXT };
                self.push(e.addr.0, e.len, id, flags);
            }
        }
        let count = needed as u16; // at most `free`
        if self.free == self.layout.size() {
            self.oldest = id;
        } else if let Some(newest) = self.slots.get_mut(usize::from(self.newest)).filter(|_| self.in_order) {
            newest.next = id;
        }
        self.newest = id;
        self.free = self.free.wrapping_sub(count);
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            slot.count = count;
            slot.room = elements.iter().filter(|e| e.writable).fold(0, |sum: u32, e| sum.saturating_add(e.len));
        }
        Ok(Handle(id))
    }

    #[inline]
    fn flush(&mut self) -> Notify {
        let Some((slot, tail)) = self.first.take() else { return Notify::Suppressed };
        // virtio 1.3, 2.8.6: the first descriptor's flags last. Partner: the acquire load in the device's `peek`.
        self.layout.set_tail(slot, tail);
        let (old, new) = (self.published, self.next_avail);
        self.published = new;
        protocol::must_notify(self, old, new)
    }

    #[inline]
    fn poll_used(&mut self) -> Result<Option<Used>, RingError> {
        if let Some(run) = self.run {
            return self.reap_run(run).map(Some);
        }
        let Some(tail) = self.next_is_used().filter(|_| self.fault.is_none()) else { return Ok(None) };
        if !self.in_order {
            return self.reap(tail.id(), Some(tail)).map(Some);
        }
        if self.slot(tail.id()).count == 0 {
            return Err(self.fail(RingError::UsedId { id: tail.id().into() }));
        }
        self.reap_run(tail).map(Some)
    }

    #[inline]
    fn arm(&mut self) -> bool {
        protocol::arm(self)
    }

    #[inline]
    fn disarm(&mut self) {
        if !self.silent {
            self.silent = true;
            self.layout.set_event(Owner::Driver, Event::Never);
        }
    }

    fn reset(&mut self, taken: impl FnMut(Handle)) {
        self.outstanding_handles().for_each(taken);
        self.begin_anew();
    }

    fn notification_data(&self, queue: u16) -> NotificationData {
        NotificationData::new(queue, self.published.to_bits(), Format::Packed)
    }

    #[inline]
    fn free_slots(&self) -> u16 {
        self.free
    }

    #[inline]
    fn size(&self) -> u16 {
        self.layout.size()
    }
}

impl<A: RingMem> Side for PackedDriver<A> {
    type Place = Place;

    #[inline]
    fn fence(&self) {
        self.layout.full_fence();
    }

    #[inline]
    fn peer_wants(&self, old: Place, new: Place) -> bool {
        match self.layout.event(Owner::Device) {
            Event::Always => true,
            Event::Never => false,
            Event::At(event) => place::passed(event, old, new, self.layout.size()),
        }
    }

    #[inline]
    fn ask(&mut self) {
        self.silent = false;
        let event = if self.event_idx { Event::At(self.next_used) } else { Event::Always };
        self.layout.set_event(Owner::Driver, event);
    }

    #[inline]
    fn has_work(&mut self) -> bool {
        self.run.is_some() || (self.fault.is_none() && self.next_is_used().is_some())
    }
}
