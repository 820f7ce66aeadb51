//! Chains that a device has accepted and not completed yet, translated ahead.
#![expect(unsafe_code, reason = "keeps translated slices beside the memory handle that keeps them mapped")]

use alloc::vec::Vec;

use crate::chain::Front;
use crate::error::{ChainFault, RingError};
use crate::mem::{Access, GuestMemory, GuestSlice};
use crate::ring::{ChainSink, DeviceRing, Element, Token};

/// Most segments of one chain: what one `readv` or `writev` can take.
pub const MAX_SEGMENTS: usize = 1024;

/// One chain of a [`Chains`].
#[derive(Debug)]
pub struct Chain {
    token: Token,
    kind: Kind,
}

/// Most chains are one segment, which is held in place.
#[derive(Debug)]
enum Kind {
    /// In the direction that is usual in the pool.
    One(GuestSlice<'static>),
    Many {
        /// First segment, counted from the start of the pool's segment list.
        first: u32,
        readable: u16,
        writable: u16,
        readable_len: u32,
        writable_len: u32,
    },
    Faulty,
}

impl Chain {
    /// Bytes that the device may read.
    #[must_use]
    #[inline]
    pub const fn readable_len(&self) -> u32 {
        match &self.kind {
            // A segment of a descriptor is no longer than that says, in 32 bits.
            Kind::One(seg) if !self.token.is_writable() => seg.len() as u32,
            Kind::Many { readable_len, .. } => *readable_len,
            Kind::One(_) | Kind::Faulty => 0,
        }
    }

    /// Bytes that the device may write.
    #[must_use]
    #[inline]
    pub const fn writable_len(&self) -> u32 {
        match &self.kind {
            Kind::One(seg) if self.token.is_writable() => seg.len() as u32,
            Kind::Many { writable_len, .. } => *writable_len,
            Kind::One(_) | Kind::Faulty => 0,
        }
    }

    /// True if the chain broke a rule or names memory that it may not: complete it with length 0.
    #[must_use]
    #[inline]
    pub const fn is_faulty(&self) -> bool {
        matches!(self.kind, Kind::Faulty)
    }

    /// The chain's only segment, of the direction that is [usual](Chains::new) in its pool; `None` for chains of any other
    /// shape.
    #[must_use]
    #[inline]
    pub const fn usual(&self) -> Option<GuestSlice<'_>> {
        match &self.kind {
            Kind::One(seg) => Some(*seg),
            Kind::Many { .. } | Kind::Faulty => None,
        }
    }

    #[inline]
    const fn token(&self) -> Token {
        Token { id: self.token.id, shape: self.token.shape }
    }
}

/// Chains at the front of a ring, accepted and translated ahead, in ring order.
///
/// What a back end does not use stays here without touching the ring; [`rewind`](Self::rewind) puts it back before the
/// queue stops or the memory map changes, and before it is confirmed that a translation is not used any more.
#[derive(Debug)]
pub struct Chains<M> {
    /// Keeps mapped what `segs` points to: see [`GuestMemory`]'s contract.
    mem: M,
    segs: Vec<GuestSlice<'static>>,
    chains: Vec<Chain>,
    /// Chains before this one are used up.
    head: usize,
    depth: usize,
    /// Chains are to be written to, as a rule.
    writable: bool,
    /// The last look at the ring ended at a chain that waits for a translation.
    waiting: bool,
    last_fault: Option<ChainFault>,
}

impl<M: GuestMemory> Chains<M> {
    /// Room for `depth` chains (at least one), which the device is to read, as a rule: those of one buffer in one piece are
    /// then taken in one loop. Any others are as good, and take longer.
    #[must_use]
    pub fn new(mem: M, depth: usize) -> Self {
        let depth = depth.max(1);
        Self {
            writable: false,
            waiting: false,
            mem,
            segs: Vec::with_capacity(depth.saturating_mul(2).saturating_add(MAX_SEGMENTS)),
            chains: Vec::with_capacity(depth.saturating_mul(2)),
            head: 0,
            depth,
            last_fault: None,
        }
    }

    /// The same for chains which the device is to write to, as a rule.
    #[must_use]
    pub fn to_write(mem: M, depth: usize) -> Self {
        Self { writable: true, ..Self::new(mem, depth) }
    }

    /// The memory that the chains are translated with.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.mem
    }

    /// Chains held.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.chains.len().wrapping_sub(self.head) // `head` never passes the end
    }

    /// True if no chain is held.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if [`fill`](Self::fill) stopped because no more can be held: by number, or because of their many segments.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() >= self.depth || self.lacks_room()
    }

    /// True if the last [`fill`](Self::fill) ended at a chain that waits for a translation: see [`DeviceRing::missing`].
    #[must_use]
    #[inline]
    pub const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Takes the fault of the last faulty chain, for a log.
    pub fn take_fault(&mut self) -> Option<ChainFault> {
        self.last_fault.take()
    }

    /// Accepts chains until `depth` are held, nothing more is known to be available, or a translation is
    /// [missing](DeviceRing::missing); returns how many are held.
    ///
    /// The driver's index is read only if nothing is known to be available: once a call, or not at all.
    ///
    /// # Errors
    /// [`RingError`] from the ring; what was held before stays held.
    #[inline]
    pub fn fill<R: DeviceRing>(&mut self, ring: &mut R) -> Result<usize, RingError> {
        self.fill_to(ring, self.depth)
    }

    /// The same until `most` are held, or `depth` if that is less.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    #[inline]
    pub fn fill_to<R: DeviceRing>(&mut self, ring: &mut R, most: usize) -> Result<usize, RingError> {
        self.make_room();
        self.waiting = false;
        let most = most.min(self.depth);
        while self.len() < most {
            let left = most.wrapping_sub(self.len());
            let (count, other) = if self.writable {
                self.fill_usual::<R, true>(ring, left)
            } else {
                self.fill_usual::<R, false>(ring, left)
            };
            let Some(front) = other else {
                if count < left {
                    ring.idle()?;
                }
                break;
            };
            if self.lacks_room() && !self.squeeze() {
                break;
            }
            if !self.walk(ring, front) {
                ring.idle()?;
                self.waiting = true;
                break;
            }
        }
        Ok(self.len())
    }

    /// Takes up to `most` chains of one element that is in one piece, which is what most chains are; how many, and the
    /// one that is not.
    #[inline]
    fn fill_usual<R: DeviceRing, const WRITABLE: bool>(&mut self, ring: &mut R, most: usize) -> (usize, Option<Front>) {
        let mut places = self.chains.spare_capacity_mut().iter_mut();
        let (mem, before) = (&self.mem, places.len());
        let access = if WRITABLE { Access::Write } else { Access::Read };
        let (count, other) = ring.accept_singles::<WRITABLE>(most, |token, addr, len| {
            let seg = match mem.translate(addr, len as usize, access) {
                Ok(seg) if seg.len() == len as usize => seg,
                _ => return false,
            };
            let Some(place) = places.next() else { return false };
            // The first bytes of a buffer are what is needed first, and of many buffers at once.
            if WRITABLE {
                seg.prefetch_write();
            } else {
                seg.prefetch();
            }
            // SAFETY: kept beside `mem` and dropped with it or before it: `Chains::remap` clears the list first.
            let seg = unsafe { seg.detach() };
            place.write(Chain { token, kind: Kind::One(seg) });
            true
        });
        // As many were written; a ring says the same, but that is no promise to rely on here.
        let count = count.min(before.wrapping_sub(places.len()));
        // SAFETY: so many places behind the end were written above, in order.
        unsafe { self.chains.set_len(self.chains.len().wrapping_add(count)) };
        (count, other)
    }

    /// Accepts a chain of any shape; false if the driver broke the ring, or if a translation is missing.
    #[inline(never)]
    fn walk<R: DeviceRing>(&mut self, ring: &mut R, front: Front) -> bool {
        let first = self.segs.len() as u32; // bounded by the capacity that `new` chose
        let mut sink = Translate {
            mem: &self.mem,
            segs: &mut self.segs,
            readable: 0,
            writable: 0,
            readable_len: 0,
            writable_len: 0,
        };
        let walked = ring.walk(&self.mem, &mut sink, front.head, front.words);
        let Translate { readable, writable, readable_len, writable_len, .. } = sink;
        let Some((token, faulty)) = walked else {
            self.segs.truncate(first as usize);
            return false;
        };
        ring.accept(&token);
        let kind = if faulty {
            self.last_fault = ring.chain_fault();
            self.segs.truncate(first as usize);
            Kind::Faulty
        } else {
            Kind::Many { first, readable, writable, readable_len, writable_len }
        };
        self.chains.push(Chain { token, kind });
        true
    }

    /// Moves what is held to the start of the lists once the used-up part is as long.
    #[inline]
    fn make_room(&mut self) {
        if self.head == self.chains.len() {
            self.chains.clear();
            self.segs.clear();
            self.head = 0;
        } else if self.head >= self.depth || (self.head > 0 && self.lacks_room()) {
            self.compact();
        }
    }

    /// True if the longest chain does not fit the list of segments.
    #[inline]
    fn lacks_room(&self) -> bool {
        // `new` chose a capacity of more than that.
        self.segs.len() > self.segs.capacity().wrapping_sub(MAX_SEGMENTS)
    }

    /// Makes room of what is used up, if chains of many segments filled the list early; false if that is not enough.
    #[cold]
    fn squeeze(&mut self) -> bool {
        if self.head > 0 {
            self.compact();
        }
        !self.lacks_room()
    }

    #[cold]
    fn compact(&mut self) {
        self.chains.drain(..self.head);
        self.head = 0;
        let all = self.segs.len();
        let base =
            self.chains.iter().find_map(|c| if let Kind::Many { first, .. } = c.kind { Some(first) } else { None });
        self.segs.drain(..base.map_or(all, |base| (base as usize).min(all)));
        for chain in &mut self.chains {
            if let Kind::Many { first, .. } = &mut chain.kind {
                *first = first.saturating_sub(base.unwrap_or(0));
            }
        }
    }

    /// The chains held, oldest first, with their segments.
    #[must_use]
    #[inline]
    pub fn view(&self) -> View<'_> {
        View { segs: &self.segs, chains: self.chains.get(self.head..).unwrap_or_default() }
    }

    /// Takes the oldest chain out, to be completed.
    #[inline]
    pub fn pop(&mut self) -> Option<Token> {
        let token = self.chains.get(self.head)?.token();
        self.head = self.head.wrapping_add(1);
        Some(token)
    }

    /// Takes the oldest chains out and completes them, each with as many bytes written as `written` says of it:
    /// [`pop`](Self::pop) and [`complete`](DeviceRing::complete) in one loop. Returns how many: less than `written` says only
    /// if no more are held.
    #[inline]
    pub fn complete<R: DeviceRing>(&mut self, ring: &mut R, written: &[u32]) -> usize {
        let held = self.chains.get(self.head..).unwrap_or_default();
        ring.complete_each(held.iter().map(Chain::token).zip(written.iter().copied()));
        let count = held.len().min(written.len());
        self.head = self.head.wrapping_add(count); // not past the end
        count
    }

    /// The same for up to `count` chains that nothing was written to.
    #[inline]
    pub fn complete_unwritten<R: DeviceRing>(&mut self, ring: &mut R, count: usize) -> usize {
        let held = self.chains.get(self.head..).unwrap_or_default();
        let held = held.get(..count).unwrap_or(held);
        ring.complete_each(held.iter().map(|chain| (chain.token(), 0)));
        self.head = self.head.wrapping_add(held.len()); // not past the end
        held.len()
    }

    /// Gives every chain held back to the ring.
    pub fn rewind<R: DeviceRing>(&mut self, ring: &mut R) {
        while self.chains.len() > self.head
            && let Some(chain) = self.chains.pop()
        {
            ring.rewind(chain.token());
        }
        self.chains.clear();
        self.segs.clear();
        self.head = 0;
    }

    /// Drops every chain held without completing it and lets the ring [begin anew](DeviceRing::reset).
    pub fn reset<R: DeviceRing>(&mut self, ring: &mut R) {
        self.chains.clear();
        self.segs.clear();
        self.head = 0;
        self.last_fault = None;
        ring.reset();
    }

    /// Gives every chain back to the ring and goes on with another memory map.
    pub fn remap<R: DeviceRing>(&mut self, ring: &mut R, mem: M) {
        self.rewind(ring);
        self.mem = mem;
    }
}

/// A look at the chains of a [`Chains`].
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    segs: &'a [GuestSlice<'a>],
    chains: &'a [Chain],
}

impl<'a> View<'a> {
    /// The chains, oldest first.
    #[must_use]
    #[inline]
    pub const fn chains(&self) -> &'a [Chain] {
        self.chains
    }

    /// The segments of `chain` that the device may read.
    #[must_use]
    #[inline]
    pub fn readable(&self, chain: &'a Chain) -> &'a [GuestSlice<'a>] {
        match &chain.kind {
            Kind::One(seg) if !chain.token.is_writable() => one(seg),
            Kind::Many { first, readable, .. } => self.run(*first, *readable),
            Kind::One(_) | Kind::Faulty => &[],
        }
    }

    /// The segments of `chain` that the device may write.
    #[must_use]
    #[inline]
    pub fn writable(&self, chain: &'a Chain) -> &'a [GuestSlice<'a>] {
        match &chain.kind {
            Kind::One(seg) if chain.token.is_writable() => one(seg),
            Kind::Many { first, readable, writable, .. } => {
                self.run(first.wrapping_add((*readable).into()), *writable) // within the list, which is far shorter than 2^32
            }
            Kind::One(_) | Kind::Faulty => &[],
        }
    }

    fn run(&self, first: u32, count: u16) -> &'a [GuestSlice<'a>] {
        let segs = self.segs.get(first as usize..).unwrap_or_default();
        segs.get(..usize::from(count)).unwrap_or_default()
    }
}

/// A segment as a list, without the empty one: lists have none of those.
#[inline]
const fn one<'a>(seg: &'a GuestSlice<'static>) -> &'a [GuestSlice<'a>] {
    if seg.is_empty() { &[] } else { core::slice::from_ref(seg) }
}

/// Translates elements into segments, an element over two regions into two.
struct Translate<'a, M> {
    mem: &'a M,
    segs: &'a mut Vec<GuestSlice<'static>>,
    readable: u16,
    writable: u16,
    readable_len: u32,
    writable_len: u32,
}

impl<M: GuestMemory> ChainSink for Translate<'_, M> {
    #[inline]
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        let access = if e.writable { Access::Write } else { Access::Read };
        let (mut addr, mut left) = (e.addr, e.len as usize);
        // An element of no bytes has no address that matters.
        while left > 0 {
            let seg = self.mem.translate(addr, left, access)?;
            let n = seg.len().min(left);
            if usize::from(self.readable.saturating_add(self.writable)) >= MAX_SEGMENTS {
                return Err(ChainFault::TooLong { max: MAX_SEGMENTS as u16 });
            }
            // SAFETY: kept beside `mem` and dropped with it or before it: `Chains::remap` clears the list first.
            let seg = unsafe { seg.detach() };
            self.segs.push(seg);
            let count = if e.writable { &mut self.writable } else { &mut self.readable };
            *count = count.saturating_add(1);
            left = left.saturating_sub(n);
            if left > 0 {
                addr = addr.checked_add(n as u64).ok_or(ChainFault::TooManyBytes)?;
            }
        }
        let bytes = if e.writable { &mut self.writable_len } else { &mut self.readable_len };
        *bytes = bytes.saturating_add(e.len);
        Ok(())
    }
}
