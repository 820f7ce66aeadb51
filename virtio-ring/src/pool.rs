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
    /// First segment, counted from the start of the pool's segment list.
    first: u32,
    readable: u16,
    writable: u16,
    readable_len: u32,
    writable_len: u32,
    faulty: bool,
    token: Token,
}

impl Chain {
    /// Bytes that the device may read.
    #[must_use]
    #[inline]
    pub const fn readable_len(&self) -> u32 {
        self.readable_len
    }

    /// Bytes that the device may write.
    #[must_use]
    #[inline]
    pub const fn writable_len(&self) -> u32 {
        self.writable_len
    }

    /// True if the chain broke a rule or names memory that it may not: complete it with length 0.
    #[must_use]
    #[inline]
    pub const fn is_faulty(&self) -> bool {
        self.faulty
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
    last_fault: Option<ChainFault>,
}

impl<M: GuestMemory> Chains<M> {
    /// Room for `depth` chains (at least one).
    #[must_use]
    pub fn new(mem: M, depth: usize) -> Self {
        let depth = depth.max(1);
        Self {
            mem,
            segs: Vec::with_capacity(depth.saturating_mul(2).saturating_add(MAX_SEGMENTS)),
            chains: Vec::with_capacity(depth.saturating_mul(2)),
            head: 0,
            depth,
            last_fault: None,
        }
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

    /// Takes the fault of the last faulty chain, for a log.
    pub fn take_fault(&mut self) -> Option<ChainFault> {
        self.last_fault.take()
    }

    /// Accepts chains until `depth` are held, the ring is empty, or a translation is
    /// [missing](DeviceRing::missing); returns how many are held.
    ///
    /// # Errors
    /// [`RingError`] from the ring; what was held before stays held.
    #[inline]
    pub fn fill<R: DeviceRing>(&mut self, ring: &mut R) -> Result<usize, RingError> {
        self.make_room();
        for _ in self.len()..self.depth {
            if self.lacks_room() && !self.squeeze() {
                break;
            }
            let Some(front) = ring.front() else {
                ring.idle()?;
                break;
            };
            if front.single().is_some_and(|e| self.single(e, front.token())) {
                ring.accept(&front.token());
            } else if !self.walk(ring, front) {
                ring.idle()?;
                break;
            }
        }
        Ok(self.len())
    }

    /// Takes the chain of one element, if that is in one piece: all that most chains need.
    #[inline(always)]
    fn single(&mut self, e: Element, token: Token) -> bool {
        if e.len == 0 {
            return false;
        }
        let access = if e.writable { Access::Write } else { Access::Read };
        let seg = match self.mem.translate(e.addr, e.len as usize, access) {
            Ok(seg) if seg.len() == e.len as usize => seg,
            _ => return false,
        };
        let writable = u16::from(e.writable);
        let writable_len = if e.writable { e.len } else { 0 };
        self.chains.push(Chain {
            first: self.segs.len() as u32, // bounded by the capacity that `new` chose
            readable: writable ^ 1,
            writable,
            readable_len: e.len ^ writable_len,
            writable_len,
            faulty: false,
            token,
        });
        // SAFETY: kept beside `mem` and dropped with it or before it: `Chains::remap` clears the list first.
        self.segs.push(unsafe { seg.detach() });
        true
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
        if faulty {
            self.last_fault = ring.chain_fault();
        }
        ring.accept(&token);
        self.chains.push(Chain { first, readable, writable, readable_len, writable_len, faulty, token });
        true
    }

    /// Moves what is held to the start of the lists once the used-up part is as long.
    #[inline]
    fn make_room(&mut self) {
        if self.head == self.chains.len() {
            self.chains.clear();
            self.segs.clear();
            self.head = 0;
        } else if self.head >= self.depth {
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
        let base = self.chains.get(self.head).map_or(0, |c| c.first);
        self.segs.drain(..(base as usize).min(self.segs.len()));
        self.chains.drain(..self.head);
        for chain in &mut self.chains {
            chain.first = chain.first.saturating_sub(base);
        }
        self.head = 0;
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
        let chain = self.chains.get_mut(self.head)?;
        self.head = self.head.wrapping_add(1);
        Some(Token { ..chain.token })
    }

    /// Gives every chain held back to the ring.
    pub fn rewind<R: DeviceRing>(&mut self, ring: &mut R) {
        while self.chains.len() > self.head
            && let Some(chain) = self.chains.pop()
        {
            ring.rewind(chain.token);
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
#[derive(Clone, Copy, Debug)]
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
    pub fn readable(&self, chain: &Chain) -> &'a [GuestSlice<'a>] {
        let segs = self.segs.get(chain.first as usize..).unwrap_or_default();
        segs.get(..usize::from(chain.readable)).unwrap_or_default()
    }

    /// The segments of `chain` that the device may write.
    #[must_use]
    #[inline]
    pub fn writable(&self, chain: &Chain) -> &'a [GuestSlice<'a>] {
        let first = (chain.first as usize).wrapping_add(usize::from(chain.readable)); // u32 and u16
        let segs = self.segs.get(first..).unwrap_or_default();
        segs.get(..usize::from(chain.writable)).unwrap_or_default()
    }
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
