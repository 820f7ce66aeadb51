//! The device's side of a split ring.

mod reset;

use super::layout::{Layout, NO_NOTIFY};
use crate::chain::{Descriptor, Front, INDIRECT, NEXT, Walk};
use crate::cursor::Cursor;
use crate::error::{ChainFault, Fault, RingError};
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::notification::{HintError, NotificationData};
use crate::protocol::{self, Side, Unasked};
use crate::ring::{ChainSink, DeviceRing, Notify, QueueConfig, QueueState, Token};

/// In order: the used entry that goes on growing as long as its last chain may be skipped.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The entry.
    at: Cursor,
    /// Head of the last chain.
    last: u16,
    written: u32,
    /// The last chain has nothing to write to.
    skippable: bool,
}

impl Run {
    /// virtio 1.3, 2.7.9: one entry with the last head gives back a run; what is skipped counts as used completely.
    #[inline]
    fn extend<A: RingMem>(run: Option<Self>, chain: Self, layout: &Layout<A>) -> Self {
        match run {
            Some(run) if run.skippable => Self { at: run.at, ..chain },
            Some(run) => {
                run.write(layout);
                chain
            }
            None => chain,
        }
    }

    #[inline]
    fn write<A: RingMem>(self, layout: &Layout<A>) {
        layout.set_used_entry(layout.at(self.at), self.last.into(), self.written);
    }
}

/// The device's side of a split ring.
///
/// Aligned so that the private state of two neighbours never shares a pair of cachelines; what every buffer needs comes
/// first, what only faults need last.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct SplitDevice<A> {
    layout: Layout<A>,
    /// The next entry of the available ring to peek at.
    next_avail: Cursor,
    /// The driver's index, as last loaded.
    avail_idx: Cursor,
    /// The next entry of the used ring to write.
    next_used: Cursor,
    /// The index that the driver sees.
    published: Cursor,
    unasked: Unasked,
    event_idx: bool,
    indirect: bool,
    in_order: bool,
    /// Without event index: what `used.flags` says.
    silent: bool,
    /// The fault has not been returned to anybody yet.
    unreported: bool,
    run: Option<Run>,
    fault: Option<RingError>,
    /// What is wrong with the chain that was peeked at last, if that was faulty, or what it waits for. An empty ring
    /// forgets it.
    chain_fault: Option<ChainFault>,
}

impl<A: RingMem> SplitDevice<A> {
    /// Starts a queue where `state` says.
    ///
    /// # Errors
    /// [`RingError`] if size, addresses or state cannot be.
    pub fn new<M: GuestMemory<Area = A>>(mem: &M, config: &QueueConfig, state: QueueState) -> Result<Self, RingError> {
        let layout = Layout::map(mem, config)?;
        let next_avail = state.0 as u16;
        // The used index lives in the ring: whoever served the queue before left it there.
        let used = layout.used_idx_acquire();
        if next_avail.wrapping_sub(used) > config.size {
            return Err(RingError::State { avail: next_avail, used, size: config.size });
        }
        // Whoever served it may have stopped while it polled, and left the driver silenced.
        layout.set_used_flags(0);
        Ok(Self {
            layout,
            next_avail: Cursor::new(next_avail),
            avail_idx: Cursor::new(next_avail),
            next_used: Cursor::new(used),
            published: Cursor::new(used),
            unasked: Unasked::default(),
            event_idx: config.event_idx,
            indirect: config.indirect,
            in_order: config.in_order,
            silent: false,
            unreported: false,
            run: None,
            fault: None,
            chain_fault: None,
        })
    }

    /// Reads the driver's index; true if there is something new.
    #[inline]
    fn reload(&mut self) -> bool {
        self.chain_fault = None;
        if self.fault.is_some() {
            return false;
        }
        let idx = self.layout.avail_idx_acquire();
        let size = self.layout.size();
        // Chains that the driver has not got back cannot be made available again.
        if idx.wrapping_sub(self.published.get()) > size || idx.wrapping_sub(self.next_avail.get()) > size {
            self.fail(RingError::AvailIndex { idx, used: self.published.get(), size });
            return false;
        }
        self.avail_idx = Cursor::new(idx);
        idx != self.next_avail.get()
    }

    /// Stops the ring; the next `idle` says why.
    #[cold]
    fn fail(&mut self, error: RingError) {
        self.fault = Some(error);
        self.unreported = true;
        self.chain_fault = None;
        self.avail_idx = self.next_avail;
    }

    /// Serves up to `most` chains that are known to be available, as long as each is one direct descriptor; how many, and
    /// the one that is not.
    ///
    /// The positions are locals: nothing here could change them behind the compiler's back.
    #[inline(always)]
    fn serve_known<const IN_ORDER: bool, S: ChainSink>(
        &mut self,
        sink: &mut S,
        most: usize,
        done: &mut impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> (usize, Option<Front>) {
        let layout = self.layout.view();
        let (mut at, mut to, mut run) = (self.next_avail, self.next_used, self.run);
        let most = most.min(self.avail_idx.get().wrapping_sub(at.get()).into());
        let (mut count, mut other, mut broken) = (0, None, None);
        while count < most {
            let head = layout.avail_entry(layout.at(at));
            let Some(slot) = layout.slot(head) else {
                broken = Some(RingError::Head { head, size: layout.size() });
                break;
            };
            let front = Front { head, words: layout.descriptor_words(slot) };
            let Some(element) = front.single() else {
                other = Some(front);
                break;
            };
            let fault = sink.push(element).err();
            if let Some(fault) = fault {
                self.chain_fault = Some(fault);
                if fault.missing().is_some() {
                    break;
                }
            }
            let written = done(sink, fault);
            if IN_ORDER {
                let skippable = !element.writable;
                run = Some(Run::extend(run, Run { at: to, last: head, written, skippable }, &layout));
            } else {
                layout.set_used_entry(layout.at(to), head.into(), written);
            }
            at.add(1);
            to.add(1);
            count = count.wrapping_add(1); // below `most`
        }
        (self.next_avail, self.next_used, self.run) = (at, to, run);
        drop(layout);
        if let Some(error) = broken {
            self.fail(error);
        }
        (count, other)
    }

    /// Accepts chains of one direct descriptor that are known to be available: see [`DeviceRing::accept_singles`].
    #[inline(always)]
    fn accept_known<const WRITABLE: bool>(
        &mut self,
        most: usize,
        mut take: impl FnMut(Token, GuestAddr, u32) -> bool,
    ) -> (usize, Option<Front>) {
        let layout = self.layout.view();
        let from = self.next_avail;
        let most = most.min(self.avail_idx.get().wrapping_sub(from.get()).into()) as u16;
        let (mut count, mut other, mut broken) = (0_u32, None, None);
        while count < u32::from(most) {
            let head = layout.avail_entry(layout.at(from.ahead(count)));
            let Some(slot) = layout.slot(head) else {
                broken = Some(RingError::Head { head, size: layout.size() });
                break;
            };
            let front = Front { head, words: layout.descriptor_words(slot) };
            let taken =
                front.plain::<WRITABLE>().is_some_and(|(addr, len)| take(Token::new(head, 1, WRITABLE), addr, len));
            if !taken {
                other = Some(front);
                break;
            }
            count = count.wrapping_add(1); // below `most`
        }
        self.next_avail = from.ahead(count);
        drop(layout);
        if let Some(error) = broken {
            self.fail(error);
        }
        (count as usize, other)
    }

    /// Every step of a chain that begins with `d`.
    #[inline]
    fn steps<M: GuestMemory, S: ChainSink>(
        &self,
        mem: &M,
        walk: &mut Walk<'_, S>,
        mut d: Descriptor,
    ) -> Result<(), ChainFault> {
        let size = self.layout.size();
        // As many steps as there are descriptors are enough for every chain without a loop.
        for _ in 0..size {
            if d.flags & INDIRECT != 0 {
                if !self.indirect || d.flags & NEXT != 0 {
                    return Err(ChainFault::Indirect);
                }
                return walk.indirect(mem, d);
            }
            walk.element(d)?;
            if d.flags & NEXT == 0 {
                return Ok(());
            }
            let slot = self.layout.slot(d.next).ok_or(ChainFault::Next { next: d.next, size })?;
            d = Descriptor::from_words(self.layout.descriptor_words(slot));
        }
        Err(ChainFault::TooLong { max: size })
    }
}

impl<A: RingMem> DeviceRing for SplitDevice<A> {
    #[inline(always)]
    fn front(&mut self) -> Option<Front> {
        if self.next_avail.get() == self.avail_idx.get() && !self.reload() {
            return None;
        }
        let head = self.layout.avail_entry(self.layout.at(self.next_avail));
        let Some(slot) = self.layout.slot(head) else {
            self.fail(RingError::Head { head, size: self.layout.size() });
            return None;
        };
        Some(Front { head, words: self.layout.descriptor_words(slot) })
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
        let mut walk = Walk::new(sink);
        let faulty = match self.steps(mem, &mut walk, Descriptor::from_words(words)) {
            Ok(()) => false,
            Err(fault) if self.note(fault) => true,
            // What came before the miss stays nobody's, and the chain the driver's.
            Err(_) => return None,
        };
        // What is behind a fault is not known.
        Some((Token::new(head, 1, faulty || walk.is_writable()), faulty))
    }

    #[cold]
    fn note(&mut self, fault: ChainFault) -> bool {
        self.chain_fault = Some(fault);
        fault.missing().is_none()
    }

    #[inline]
    fn accept(&mut self, _token: &Token) {
        self.next_avail.add(1);
    }

    #[inline]
    fn rewind(&mut self, _token: Token) {
        self.next_avail.sub(1);
        if self.fault.is_some() {
            // A broken ring looks empty, what is given back to it included.
            self.avail_idx = self.next_avail;
        }
    }

    #[inline]
    fn complete(&mut self, token: Token, written: u32) {
        let at = self.next_used;
        self.next_used.add(1);
        if self.in_order {
            let chain = Run { at, last: token.id, written, skippable: !token.is_writable() };
            self.run = Some(Run::extend(self.run, chain, &self.layout));
        } else {
            self.layout.set_used_entry(self.layout.at(at), token.id.into(), written);
        }
    }

    #[inline(always)]
    fn singles<S: ChainSink>(
        &mut self,
        sink: &mut S,
        most: usize,
        done: &mut impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> (usize, Option<Front>) {
        if self.next_avail.get() == self.avail_idx.get() && !self.reload() {
            return (0, None);
        }
        if self.in_order {
            self.serve_known::<true, S>(sink, most, done)
        } else {
            self.serve_known::<false, S>(sink, most, done)
        }
    }

    #[inline]
    fn accept_singles<const WRITABLE: bool>(
        &mut self,
        most: usize,
        take: impl FnMut(Token, GuestAddr, u32) -> bool,
    ) -> (usize, Option<Front>) {
        if self.next_avail.get() == self.avail_idx.get() && !self.reload() {
            return (0, None);
        }
        self.accept_known::<WRITABLE>(most, take)
    }

    #[inline]
    fn complete_each(&mut self, chains: impl Iterator<Item = (Token, u32)>) {
        let (layout, in_order) = (self.layout.view(), self.in_order);
        let (mut to, mut run) = (self.next_used, self.run);
        for (token, written) in chains {
            if in_order {
                let chain = Run { at: to, last: token.id, written, skippable: !token.is_writable() };
                run = Some(Run::extend(run, chain, &layout));
            } else {
                layout.set_used_entry(layout.at(to), token.id.into(), written);
            }
            to.add(1);
        }
        (self.next_used, self.run) = (to, run);
    }

    #[inline]
    fn publish(&mut self) {
        let (old, new) = (self.published.get(), self.next_used.get());
        if old == new {
            return;
        }
        if let Some(run) = self.run.take() {
            run.write(&self.layout);
        }
        // virtio 1.3, 2.7.8.2: idx after the entries. Partner: the acquire load in the driver's `poll_used`.
        self.layout.set_used_idx(new);
        self.published = self.next_used;
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
    fn arm(&mut self) -> bool {
        protocol::arm(self)
    }

    #[inline]
    fn disarm(&mut self) {
        // With event index nothing needs doing: `avail_event` stays behind, and the driver is silent until it wraps.
        if !self.event_idx && !self.silent {
            self.silent = true;
            self.layout.set_used_flags(NO_NOTIFY);
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
        QueueState(self.next_avail.get().into())
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

impl<A: RingMem> Side for SplitDevice<A> {
    type Place = u16;

    #[inline]
    fn fence(&self) {
        self.layout.full_fence();
    }

    #[inline]
    fn peer_wants(&self, old: u16, new: u16) -> bool {
        if self.event_idx {
            protocol::passed(self.layout.used_event(), old, new)
        } else {
            self.layout.avail_flags() & NO_NOTIFY == 0
        }
    }

    #[inline]
    fn ask(&mut self) {
        if self.event_idx {
            self.layout.set_avail_event(self.next_avail.get());
        } else if self.silent {
            self.silent = false;
            self.layout.set_used_flags(0);
        }
    }

    #[inline]
    fn has_work(&mut self) -> bool {
        // An index that cannot be is work as well: the next peek reports it.
        self.fault.is_none() && self.layout.avail_idx_acquire() != self.next_avail.get()
    }
}
