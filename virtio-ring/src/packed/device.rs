//! The device's side of a packed ring.

mod reset;

use super::layout::{Event, Layout, Owner, Tail, USED, used_flags};
use super::place::{self, Place};
use crate::chain::{Descriptor, Front, INDIRECT, NEXT, WRITE, Walk};
use crate::cursor::Cursor;
use crate::error::{ChainFault, Fault, RingError};
use crate::mem::{GuestMemory, RingMem};
use crate::notification::{HintError, NotificationData};
use crate::protocol::{self, Side};
use crate::ring::{ChainSink, DeviceRing, Notify, QueueConfig, QueueState, Token};

/// A used entry that is not written yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    slot: u16,
    tail: Tail,
}

impl Pending {
    #[inline]
    const fn new(at: Place, id: u16, written: u32) -> Self {
        let write = if written == 0 { 0 } else { WRITE };
        Self { slot: at.index(), tail: Tail::new(written, id, used_flags(at.wrap()) | write) }
    }
}

/// In order: the used entry that goes on growing as long as its last chain may be skipped.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: Place,
    /// Id of the last chain.
    last: u16,
    written: u32,
    /// The last chain has nothing to write to.
    skippable: bool,
}

/// The device's side of a packed ring.
#[derive(Debug)]
#[repr(align(128))]
pub struct PackedDevice<A> {
    layout: Layout<A>,
    /// The next slot to peek at.
    next_avail: Place,
    /// The next slot to write a used entry to.
    next_used: Place,
    /// Where the last publication ended.
    published: Place,
    /// Slots of chains that were accepted and not completed.
    held: Cursor,
    /// The first entry since the last publication: its flags make all of them visible, so they are stored last.
    first: Option<Pending>,
    run: Option<Run>,
    event_idx: bool,
    indirect: bool,
    in_order: bool,
    /// The driver was told not to kick.
    silent: bool,
    /// The fault has not been returned to anybody yet.
    unreported: bool,
    fault: Option<RingError>,
    /// What is wrong with the chain that was peeked at last, if that was faulty, or what it waits for. An empty ring
    /// forgets it.
    chain_fault: Option<ChainFault>,
}

impl<A: RingMem> PackedDevice<A> {
    /// Starts a queue where `state` says.
    ///
    /// # Errors
    /// [`RingError`] if size, addresses or state cannot be.
    pub fn new<M: GuestMemory<Area = A>>(mem: &M, config: &QueueConfig, state: QueueState) -> Result<Self, RingError> {
        let layout = Layout::map(mem, config)?;
        let size = config.size;
        let (avail, used) = (state.0 as u16, (state.0 >> 16) as u16);
        let next_avail = Place::from_bits(avail, size).ok_or(RingError::PackedAvail { avail, size })?;
        let next_used = Place::from_bits(used, size).ok_or(RingError::PackedUsed { used, size })?;
        let held = next_avail.since(next_used, size);
        if held > size.into() {
            return Err(RingError::PackedOrder { avail, used, size });
        }
        // The used entries of what is held are not written yet, so every slot of it still is as the driver left it.
        let mut at = next_used;
        for _ in 0..held {
            if !layout.tail(at.index()).is_avail(at.wrap()) {
                return Err(RingError::PackedHeld { avail, used, slot: at.index() });
            }
            at = at.advance(1, size);
        }
        layout.set_event(Owner::Device, Event::Always);
        Ok(Self {
            layout,
            next_avail,
            next_used,
            published: next_used,
            held: Cursor::new(held as u16),
            first: None,
            run: None,
            event_idx: config.event_idx,
            indirect: config.indirect,
            in_order: config.in_order,
            silent: false,
            unreported: false,
            fault: None,
            chain_fault: None,
        })
    }

    /// Starts a queue where a front end says that knows only the split ring's format, and so gives less than there is to
    /// know. DPDK leaves the used half zero: it is then where the available half is. User Mode Linux starts every ring at
    /// zero, which is a place on the second lap: it is meant so if anybody has been through the first.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn resume<M: GuestMemory<Area = A>>(
        mem: &M,
        config: &QueueConfig,
        state: QueueState,
    ) -> Result<Self, RingError> {
        let (avail, used) = (state.0 & 0xffff, state.0 >> 16);
        let state = match (avail, used) {
            (0, 0) if is_unused(&Layout::map(mem, config)?) => QueueState::PACKED,
            (_, 0) => QueueState(avail | avail << 16),
            _ => state,
        };
        Self::new(mem, config, state)
    }

    #[inline]
    const fn held(&self) -> u16 {
        self.held.get()
    }

    /// Walks a chain to its end even if an element is bad, as only the end has the id that gives it back. `front` is its
    /// first descriptor.
    fn steps<M: GuestMemory, S: ChainSink>(
        &self,
        mem: &M,
        walk: &mut Walk<'_, S>,
        front: &Front,
    ) -> Result<(Token, Option<ChainFault>), RingError> {
        let size = self.layout.size();
        let most = size.wrapping_sub(self.held());
        let mut at = self.next_avail;
        let (mut id, mut words) = (front.head, front.words);
        let mut fault = None;
        for count in 1..=most {
            let d = Descriptor::from_words(words);
            if fault.is_none() {
                fault = self.descriptor(mem, walk, d).err();
            }
            if d.flags & NEXT == 0 {
                // What is behind a fault is not known.
                return Ok((Token::new(id, count, fault.is_some() || walk.is_writable()), fault));
            }
            at = at.advance(1, size);
            let tail = self.layout.tail(at.index());
            (id, words) = (tail.id(), tail.words(self.layout.addr(at.index())));
        }
        Err(RingError::PackedChain { slot: self.next_avail.index(), most })
    }

    fn descriptor<M: GuestMemory, S: ChainSink>(
        &self,
        mem: &M,
        walk: &mut Walk<'_, S>,
        d: Descriptor,
    ) -> Result<(), ChainFault> {
        if d.flags & INDIRECT == 0 {
            return walk.element(d);
        }
        // virtio 1.3, 2.8.19: INDIRECT and NEXT exclude each other.
        if !self.indirect || d.flags & NEXT != 0 {
            return Err(ChainFault::Indirect);
        }
        walk.packed_table(mem, d)
    }

    /// Writes an entry, or keeps it back if it is the first since the last publication.
    #[inline]
    fn emit(&mut self, entry: Pending) {
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.layout.set_tail(entry.slot, entry.tail);
        }
    }

    /// virtio 1.3, 2.8.9: one entry with the last id gives back a run; what is skipped counts as used completely.
    #[inline]
    fn extend(&mut self, chain: Run) {
        self.run = Some(match self.run {
            Some(run) if run.skippable => Run { at: run.at, ..chain },
            Some(run) => {
                self.emit(Pending::new(run.at, run.last, run.written));
                chain
            }
            None => chain,
        });
    }
}

/// True if no slot has been used since the ring was made.
///
/// On the first lap the driver leaves `USED` clear, and the device sets it in the first slot of what it gives back. Only
/// in that one: a slot inside of a chain, or of a run given back in order, may keep what it had, so no single slot tells.
fn is_unused<A: RingMem>(layout: &Layout<A>) -> bool {
    (0..layout.size()).all(|slot| layout.tail(slot).flags() & USED == 0)
}

impl<A: RingMem> DeviceRing for PackedDevice<A> {
    #[inline(always)]
    fn front(&mut self) -> Option<Front> {
        let slot = self.next_avail.index();
        let tail = self.layout.tail(slot);
        // With every slot in the device's hands nothing can be available, whatever the flags say.
        if !tail.is_avail(self.next_avail.wrap()) || self.held() >= self.layout.size() || self.fault.is_some() {
            self.chain_fault = None;
            return None;
        }
        Some(Front { head: tail.id(), words: tail.words(self.layout.addr(slot)) })
    }

    #[inline]
    fn idle(&mut self) -> Result<(), RingError> {
        match self.fault {
            Some(error) if core::mem::take(&mut self.unreported) => Err(error),
            _ => Ok(()),
        }
    }

    #[inline(never)]
    fn walk<M: GuestMemory, S: ChainSink>(&mut self, mem: &M, sink: &mut S, front: &Front) -> Option<(Token, bool)> {
        match self.steps(mem, &mut Walk::new(sink), front) {
            Ok((token, None)) => Some((token, false)),
            // A chain that misses something stays the driver's.
            Ok((token, Some(fault))) => self.note(fault).then_some((token, true)),
            Err(error) => {
                self.fault = Some(error);
                self.unreported = true;
                self.chain_fault = None;
                None
            }
        }
    }

    #[cold]
    fn note(&mut self, fault: ChainFault) -> bool {
        self.chain_fault = Some(fault);
        fault.missing().is_none()
    }

    #[inline]
    fn accept(&mut self, token: &Token) {
        self.next_avail = self.next_avail.advance(token.count(), self.layout.size());
        self.held.add(token.count());
    }

    #[inline]
    fn rewind(&mut self, token: Token) {
        self.next_avail = self.next_avail.retreat(token.count(), self.layout.size());
        self.held.sub(token.count());
    }

    #[inline]
    fn complete(&mut self, token: Token, written: u32) {
        let at = self.next_used;
        self.next_used = at.advance(token.count(), self.layout.size());
        self.held.sub(token.count());
        if self.in_order {
            self.extend(Run { at, last: token.id, written, skippable: !token.is_writable() });
        } else {
            self.emit(Pending::new(at, token.id, written));
        }
    }

    #[inline]
    fn flush(&mut self) -> Notify {
        if let Some(run) = self.run.take() {
            self.emit(Pending::new(run.at, run.last, run.written));
        }
        let Some(first) = self.first.take() else { return Notify::Suppressed };
        // virtio 1.3, 2.8.6: the first entry's flags last. Partner: the acquire load in the driver's `poll_used`.
        self.layout.set_tail(first.slot, first.tail);
        let (old, new) = (self.published, self.next_used);
        self.published = new;
        protocol::must_notify(self, old, new)
    }

    #[inline]
    fn arm(&mut self) -> bool {
        protocol::arm(self)
    }

    #[inline]
    fn disarm(&mut self) {
        if !self.silent {
            self.silent = true;
            self.layout.set_event(Owner::Device, Event::Never);
        }
    }

    fn missing(&self) -> Option<Fault> {
        self.chain_fault.and_then(ChainFault::missing)
    }

    fn reset(&mut self) {
        self.begin_anew();
    }

    fn hint(&self, data: NotificationData) -> Result<u16, HintError> {
        self.judge(data)
    }

    fn state(&self) -> QueueState {
        QueueState(u32::from(self.next_avail.to_bits()) | u32::from(self.next_used.to_bits()) << 16)
    }

    #[inline]
    fn size(&self) -> u16 {
        self.layout.size()
    }

    fn fault(&self) -> Option<RingError> {
        self.fault
    }

    fn chain_fault(&self) -> Option<ChainFault> {
        self.chain_fault
    }
}

impl<A: RingMem> Side for PackedDevice<A> {
    type Place = Place;

    #[inline]
    fn fence(&self) {
        self.layout.full_fence();
    }

    #[inline]
    fn peer_wants(&self, old: Place, new: Place) -> bool {
        match self.layout.event(Owner::Driver) {
            Event::Always => true,
            Event::Never => false,
            Event::At(event) => place::passed(event, old, new, self.layout.size()),
        }
    }

    #[inline]
    fn ask(&mut self) {
        self.silent = false;
        let event = if self.event_idx { Event::At(self.next_avail) } else { Event::Always };
        self.layout.set_event(Owner::Device, event);
    }

    #[inline]
    fn has_work(&mut self) -> bool {
        let tail = self.layout.tail(self.next_avail.index());
        self.fault.is_none() && self.held() < self.layout.size() && tail.is_avail(self.next_avail.wrap())
    }
}
