//! The driver's side of a packed ring.

mod each;
mod repost;
mod reset;

use alloc::boxed::Box;

use super::layout::{Event, Layout, Owner, Tail};
use super::place::{self, Place};
use crate::any::Format;
use crate::chain::{INDIRECT, NEXT, WRITE};
use crate::cursor::Cursor;
use crate::error::RingError;
use crate::free::FreeIds;
use crate::indirect::{IndirectTables, TableFormat};
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::notification::NotificationData;
use crate::protocol::{self, Side, Unasked};
use crate::ring::{DriverRing, Element, Full, Handle, Notify, QueueConfig, Used};

/// What the driver remembers of a buffer id.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    /// Descriptors of the outstanding chain with this id; 0 if there is none.
    count: u32,
    /// Writable bytes of that chain.
    room: u32,
}

/// The driver's side of a packed ring.
#[derive(Debug)]
#[repr(align(128))]
pub struct PackedDriver<A> {
    layout: Layout<A>,
    notes: Box<[Note]>,
    /// Buffer ids: one for each descriptor.
    ids: FreeIds,
    /// Descriptors that are free.
    free: Cursor,
    /// The next slot to make available.
    next_avail: Place,
    /// The first descriptor since the last publication: its flags make all of them visible, so they are stored last.
    first: Option<(Place, Tail)>,
    /// The next slot that the device will use.
    next_used: Place,
    /// Descriptors that were added and not published.
    added: Cursor,
    /// Descriptors that were published and not reaped.
    outstanding: Cursor,
    unasked: Unasked,
    /// In order: where the id of the oldest outstanding chain was taken.
    oldest: Cursor,
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
        for place in Place::all(config.size) {
            layout.set_addr(place, 0);
            layout.set_tail(place, Tail::new(0, 0, 0));
        }
        layout.set_event(Owner::Driver, Event::Always);
        layout.set_event(Owner::Device, Event::Always);
        Ok(Self {
            layout,
            notes: (0..config.size).map(|_| Note::default()).collect(),
            ids: FreeIds::new(config.size),
            free: Cursor::new(config.size),
            next_avail: Place::START,
            first: None,
            next_used: Place::START,
            added: Cursor::new(0),
            outstanding: Cursor::new(0),
            unasked: Unasked::default(),
            oldest: Cursor::new(0),
            run: None,
            event_idx: config.event_idx,
            in_order: config.in_order,
            silent: false,
            tables: None,
            fault: None,
        })
    }

    /// Puts chains of 2 to `entries` elements into indirect tables at `addr`, one table for each descriptor:
    /// `size * entries * 16` bytes, aligned to 16, which nobody else may write to. The feature must have been negotiated.
    ///
    /// As many bytes of host memory remember what the tables say: a chain that was added before, under whichever id,
    /// finds its table written if no other chain needed that table since.
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
        // Nothing is used any more.
        self.outstanding = Cursor::new(0);
        error
    }

    /// Writes one descriptor at the end of the ring, or keeps its flags back if it is the first since the last
    /// publication.
    #[inline]
    fn push(&mut self, addr: u64, tail: Tail) {
        let at = self.next_avail;
        self.layout.set_addr(at, addr);
        let tail = tail.available(at);
        if self.first.is_none() {
            self.first = Some((at, tail));
        } else {
            self.layout.set_tail(at, tail);
        }
        self.next_avail = at.advance(1, self.layout.size());
    }

    /// The tail of the slot that is next, if the device used it.
    #[inline]
    fn next_is_used(&self) -> Option<Tail> {
        let tail = self.layout.tail(self.next_used);
        // Nothing can be used while every slot is the driver's, whatever the flags say.
        (tail.is_used(self.next_used) && self.outstanding.get() > 0).then_some(tail)
    }

    /// Takes back the chain with this id; `entry` says how much was written to it, all if there is none.
    #[inline]
    fn reap(&mut self, id: u16, entry: Option<Tail>) -> Result<Used, RingError> {
        let outstanding = u32::from(self.outstanding.get());
        let note = self.notes.get_mut(usize::from(id)).filter(|n| n.count.wrapping_sub(1) < outstanding);
        let Some(note) = note else { return Err(self.fail(RingError::UsedId { id: id.into() })) };
        let mut len = entry.map_or(note.room, Tail::len);
        if len > note.room {
            let room = note.room;
            // virtio 1.3, 2.8.4: without WRITE the length is reserved. DPDK leaves there what was. QEMU leaves WRITE
            // out, so a length that can be is one all the same.
            if entry.is_some_and(|e| e.flags() & WRITE != 0) {
                return Err(self.fail(RingError::UsedLen { id, room, len }));
            }
            len = 0;
        }
        let count = core::mem::take(&mut note.count) as u16; // at most what was outstanding
        self.oldest.add(1);
        self.ids.give(id);
        self.free.add(count);
        self.outstanding.sub(count);
        self.next_used = self.next_used.advance(count, self.layout.size());
        Ok(Used { handle: Handle(id), len })
    }

    #[inline]
    fn is_outstanding(&self, id: u16) -> bool {
        self.notes.get(usize::from(id)).is_some_and(|n| n.count != 0)
    }

    /// Takes back the chain that the next used entry gives back, or the first of its run.
    #[inline]
    fn reap_tail(&mut self, tail: Tail) -> Result<Used, RingError> {
        if !self.in_order {
            return self.reap(tail.id(), Some(tail));
        }
        if !self.is_outstanding(tail.id()) {
            return Err(self.fail(RingError::UsedId { id: tail.id().into() }));
        }
        self.reap_run(tail)
    }

    /// Goes on with a run of chains that one entry gave back.
    #[inline]
    fn reap_run(&mut self, run: Tail) -> Result<Used, RingError> {
        let id = self.ids.at(self.oldest);
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
        if needed > usize::from(self.free.get()) || needed == 0 {
            return Err(Full { free: self.free.get(), needed });
        }
        let id = self.ids.take();
        if fits {
            let notes = &self.notes;
            let is_free = |i: u16| notes.get(usize::from(i)).is_some_and(|n| n.count == 0);
            let table = self.tables.as_mut().and_then(|t| t.write(id, elements, TableFormat::Packed, is_free));
            let (addr, len) = table.unwrap_or_default();
            self.push(addr.0, Tail::new(len, id, INDIRECT));
        } else {
            let mut left = elements.len();
            for e in elements {
                left = left.wrapping_sub(1);
                let flags = if e.writable { WRITE } else { 0 } | if left == 0 { 0 } else { NEXT };
                self.push(e.addr.0, Tail::new(e.len, id, flags));
            }
        }
        self.free.sub(needed as u16); // at most what is free
        self.added.add(needed as u16);
        if let Some(note) = self.notes.get_mut(usize::from(id)) {
            note.count = needed as u32;
            note.room = elements.iter().filter(|e| e.writable).fold(0, |sum: u32, e| sum.saturating_add(e.len));
        }
        Ok(Handle(id))
    }

    #[inline]
    fn publish(&mut self) {
        let Some((at, tail)) = self.first.take() else { return };
        // virtio 1.3, 2.8.6: the first descriptor's flags last. Partner: the acquire load in the device's `peek`.
        self.layout.set_tail(at, tail);
        let added = core::mem::replace(&mut self.added, Cursor::new(0)).get();
        self.unasked.add(added);
        // Of a broken ring nothing is used any more.
        if self.fault.is_none() {
            self.outstanding.add(added);
        }
    }

    #[inline]
    fn notify(&mut self) -> Notify {
        let slots = self.unasked.take(self.layout.size());
        if slots == 0 {
            return Notify::Suppressed;
        }
        let new = self.published();
        protocol::must_notify(self, new.retreat(slots, self.layout.size()), new)
    }

    #[inline]
    fn poll_used(&mut self) -> Result<Option<Used>, RingError> {
        if let Some(run) = self.run {
            return self.reap_run(run).map(Some);
        }
        let Some(tail) = self.next_is_used() else { return Ok(None) };
        self.reap_tail(tail).map(Some)
    }

    #[inline]
    fn add_each(&mut self, elements: impl Iterator<Item = Element>, added: impl FnMut(Handle)) -> usize {
        self.add_singles(elements, added)
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
        NotificationData::new(queue, self.published().to_bits(), Format::Packed)
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
        self.run.is_some() || self.next_is_used().is_some()
    }
}
