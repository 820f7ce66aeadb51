//! The device's side of a packed ring.

mod reset;

use super::layout::{Event, Layout, Owner, Tail, USED};
use super::place::{self, Place};
use crate::chain::{Descriptor, Front, INDIRECT, NEXT, WRITE, Walk};
use crate::cursor::Cursor;
use crate::error::{ChainFault, Fault, RingError};
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::notification::{HintError, NotificationData};
use crate::protocol::{self, Side, Unasked};
use crate::ring::{ChainSink, DeviceRing, Notify, QueueConfig, QueueState, Token};

/// A used entry that is not written yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    at: Place,
    tail: Tail,
}

impl Pending {
    #[inline]
    const fn new(at: Place, id: u16, written: u32) -> Self {
        let write = if written == 0 { 0 } else { WRITE };
        Self { at, tail: Tail::new(written, id, write).used(at) }
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

/// Writes an entry, or keeps it back if it is the first since the last publication.
#[inline]
fn emit<A: RingMem>(first: &mut Option<Pending>, entry: Pending, layout: &Layout<A>) {
    if first.is_none() {
        *first = Some(entry);
    } else {
        layout.set_tail(entry.at, entry.tail);
    }
}

/// virtio 1.3, 2.8.9: one entry with the last id gives back a run; what is skipped counts as used completely.
#[inline]
fn extend<A: RingMem>(first: &mut Option<Pending>, run: Option<Run>, chain: Run, layout: &Layout<A>) -> Run {
    match run {
        Some(run) if run.skippable => Run { at: run.at, ..chain },
        Some(run) => {
            emit(first, Pending::new(run.at, run.last, run.written), layout);
            chain
        }
        None => chain,
    }
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
    unasked: Unasked,
    /// Slots of chains that were accepted and not completed.
    held: Cursor,
    /// With so many slots in the device's hands nothing can be available, whatever the flags say: the size, or 0 once the
    /// ring is broken.
    limit: Cursor,
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
            if !layout.tail(at).is_avail(at) {
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
            unasked: Unasked::default(),
            held: Cursor::new(held as u16),
            limit: Cursor::new(size),
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
        front: Front,
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
            let tail = self.layout.tail(at);
            (id, words) = (tail.id(), tail.words(self.layout.addr(at)));
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

    /// Serves chains of one direct descriptor: see [`DeviceRing::singles`].
    ///
    /// The positions are locals: nothing here could change them behind the compiler's back.
    #[inline(always)]
    fn serve_singles<const IN_ORDER: bool, S: ChainSink>(
        &mut self,
        sink: &mut S,
        most: usize,
        done: &mut impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> (usize, Option<Front>) {
        let (layout, size) = (self.layout.view(), self.layout.size());
        let (mut at, mut to) = (self.next_avail, self.next_used);
        let (mut first, mut run) = (self.first, self.run);
        let most = most.min(self.limit.get().saturating_sub(self.held.get()).into());
        let (mut count, mut other) = (0, None);
        // What an earlier look missed is not what this one finds.
        self.chain_fault = None;
        'burst: while count < most {
            // Up to the next end of the ring there is nothing to wrap.
            let straight = most.min(count.wrapping_add(at.left(size).min(to.left(size)).into())); // far below 2^32
            while count < straight {
                let tail = layout.tail(at);
                if !tail.is_avail_single(at) {
                    if tail.is_avail(at) {
                        other = Some(Front { head: tail.id(), words: tail.words(layout.addr(at)) });
                    }
                    break 'burst;
                }
                let (id, element) = (tail.id(), tail.element(layout.addr(at)));
                let fault = sink.push(element).err();
                if let Some(fault) = fault {
                    self.chain_fault = Some(fault);
                    if fault.missing().is_some() {
                        break 'burst;
                    }
                }
                let written = done(sink, fault);
                if IN_ORDER {
                    let chain = Run { at: to, last: id, written, skippable: !element.writable };
                    run = Some(extend(&mut first, run, chain, &layout));
                } else {
                    emit(&mut first, Pending::new(to, id, written), &layout);
                }
                (at, to) = (at.ahead(), to.ahead());
                count = count.wrapping_add(1); // below `most`
            }
            (at, to) = (at.around(size), to.around(size));
        }
        (self.next_avail, self.next_used) = (at.around(size), to.around(size));
        (self.first, self.run) = (first, run);
        (count, other)
    }
}

/// True if no slot has been used since the ring was made.
///
/// On the first lap the driver leaves `USED` clear, and the device sets it in the first slot of what it gives back. Only
/// in that one: a slot inside of a chain, or of a run given back in order, may keep what it had, so no single slot tells.
fn is_unused<A: RingMem>(layout: &Layout<A>) -> bool {
    Place::all(layout.size()).all(|place| layout.tail(place).flags() & USED == 0)
}

impl<A: RingMem> DeviceRing for PackedDevice<A> {
    #[inline(always)]
    fn front(&mut self) -> Option<Front> {
        let tail = self.layout.tail(self.next_avail);
        if !tail.is_avail(self.next_avail) || self.held() >= self.limit.get() {
            self.chain_fault = None;
            return None;
        }
        Some(Front { head: tail.id(), words: tail.words(self.layout.addr(self.next_avail)) })
    }

    #[inline]
    fn idle(&mut self) -> Result<(), RingError> {
        match self.fault {
            Some(error) if core::mem::take(&mut self.unreported) => Err(error),
            _ => Ok(()),
        }
    }

    #[inline(never)]
    fn walk<M: GuestMemory, S: ChainSink>(
        &mut self,
        mem: &M,
        sink: &mut S,
        head: u16,
        words: (u64, u64),
    ) -> Option<(Token, bool)> {
        match self.steps(mem, &mut Walk::new(sink), Front { head, words }) {
            Ok((token, None)) => Some((token, false)),
            // A chain that misses something stays the driver's.
            Ok((token, Some(fault))) => self.note(fault).then_some((token, true)),
            Err(error) => {
                self.fault = Some(error);
                self.limit = Cursor::new(0);
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
        let mut first = self.first;
        if self.in_order {
            let chain = Run { at, last: token.id, written, skippable: !token.is_writable() };
            self.run = Some(extend(&mut first, self.run, chain, &self.layout));
        } else {
            emit(&mut first, Pending::new(at, token.id, written), &self.layout);
        }
        self.first = first;
    }

    #[inline(always)]
    fn singles<S: ChainSink>(
        &mut self,
        sink: &mut S,
        most: usize,
        done: &mut impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> (usize, Option<Front>) {
        if self.in_order {
            self.serve_singles::<true, S>(sink, most, done)
        } else {
            self.serve_singles::<false, S>(sink, most, done)
        }
    }

    #[inline]
    fn accept_singles<const WRITABLE: bool>(
        &mut self,
        most: usize,
        mut take: impl FnMut(Token, GuestAddr, u32) -> bool,
    ) -> (usize, Option<Front>) {
        let (layout, size) = (self.layout.view(), self.layout.size());
        let mut at = self.next_avail;
        let most = most.min(self.limit.get().saturating_sub(self.held.get()).into());
        let (mut count, mut other) = (0, None);
        // What an earlier look missed is not what this one finds.
        self.chain_fault = None;
        'burst: while count < most {
            // Up to the end of the ring there is nothing to wrap.
            let straight = most.min(count.wrapping_add(at.left(size).into())); // far below 2^32
            while count < straight {
                let tail = layout.tail(at);
                if !tail.is_avail_plain::<WRITABLE>(at) {
                    if tail.is_avail(at) {
                        other = Some(Front { head: tail.id(), words: tail.words(layout.addr(at)) });
                    }
                    break 'burst;
                }
                let addr = layout.addr(at);
                if !take(Token::new(tail.id(), 1, WRITABLE), GuestAddr(addr), tail.len()) {
                    other = Some(Front { head: tail.id(), words: tail.words(addr) });
                    break 'burst;
                }
                at = at.ahead();
                count = count.wrapping_add(1); // below `most`
            }
            at = at.around(size);
        }
        self.next_avail = at.around(size);
        self.held.add(count as u16); // at most the size
        (count, other)
    }

    #[inline]
    fn complete_each(&mut self, chains: impl Iterator<Item = (Token, u32)>) {
        let (layout, size, in_order) = (self.layout.view(), self.layout.size(), self.in_order);
        let (mut to, mut first, mut run, mut slots) = (self.next_used, self.first, self.run, 0_u16);
        for (token, written) in chains {
            if in_order {
                let chain = Run { at: to, last: token.id, written, skippable: !token.is_writable() };
                run = Some(extend(&mut first, run, chain, &layout));
            } else {
                emit(&mut first, Pending::new(to, token.id, written), &layout);
            }
            to = to.advance(token.count(), size);
            slots = slots.wrapping_add(token.count()); // of tokens that are held: at most the size
        }
        (self.next_used, self.first, self.run) = (to, first, run);
        self.held.sub(slots);
    }

    #[inline]
    fn publish(&mut self) {
        let mut first = self.first.take();
        if let Some(run) = self.run.take() {
            emit(&mut first, Pending::new(run.at, run.last, run.written), &self.layout);
        }
        let Some(first) = first else { return };
        // virtio 1.3, 2.8.6: the first entry's flags last. Partner: the acquire load in the driver's `poll_used`.
        self.layout.set_tail(first.at, first.tail);
        self.unasked.add(self.next_used.since(self.published, self.layout.size()) as u16); // at most the size
        self.published = self.next_used;
    }

    #[inline]
    fn notify(&mut self) -> Notify {
        let slots = self.unasked.take(self.layout.size());
        if slots == 0 {
            return Notify::Suppressed;
        }
        protocol::must_notify(self, self.published.retreat(slots, self.layout.size()), self.published)
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
        self.held() < self.limit.get() && self.layout.tail(self.next_avail).is_avail(self.next_avail)
    }
}
