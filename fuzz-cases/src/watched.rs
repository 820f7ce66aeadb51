//! Guest memory that notes what one side reads of its ring, and, if it is evil, gives another value at each read.
#![expect(unsafe_code, reason = "implements the memory seam")]

use std::cell::RefCell;
use std::rc::Rc;

use virtio_ring::{Access, Fault, GuestAddr, GuestMemory, GuestSlice, HeapMemory, MappedArea, RingMem};

use crate::arena::Arena;

/// Accesses of one call before it is taken for endless. The longest walk is 64 chains of some 2300 table entries, each of
/// which may take five translations.
const ENDLESS: usize = 1 << 21;
/// Longest range that an evil memory cuts or changes while it translates it: an entry of an indirect table.
const ENTRY: usize = 16;

/// What the side saw, and what else it will see.
#[derive(Default)]
struct Seen {
    /// Guest address and value of each word read; `None` once it is accounted for.
    log: Vec<Option<(u64, u64)>>,
    /// Entries of the log before this one are accounted for.
    done: usize,
    steps: usize,
    /// A byte for each read, last first.
    tricks: Vec<u8>,
}

/// One side's view of the arena.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) arena: Rc<Arena>,
    seen: Rc<RefCell<Seen>>,
}

impl Watched {
    /// Memory that plays these tricks, one at each read.
    pub(crate) fn new(arena: Rc<Arena>, tricks: &[u8]) -> Self {
        let tricks = tricks.iter().rev().copied().collect();
        Self { arena, seen: Rc::new(RefCell::new(Seen { tricks, ..Seen::default() })) }
    }

    /// Forgets what was read: a call to the ring begins.
    pub(crate) fn begin(&self) {
        let mut seen = self.seen.borrow_mut();
        seen.log.clear();
        (seen.done, seen.steps) = (0, 0);
    }

    /// What the side read at `addr`, accounted for.
    pub(crate) fn take(&self, addr: u64) -> u64 {
        let mut seen = self.seen.borrow_mut();
        while seen.log.get(seen.done).is_some_and(Option::is_none) {
            seen.done += 1;
        }
        let done = seen.done;
        let found = seen.log[done..].iter_mut().find(|e| e.is_some_and(|(a, _)| a == addr));
        let (_, value) = found.and_then(Option::take).unwrap_or_else(|| panic!("oracle: {addr:#x} was not read"));
        value
    }

    /// What the side read last at `addr`, if it did.
    pub(crate) fn last(&self, addr: u64) -> Option<u64> {
        let seen = self.seen.borrow();
        seen.log.iter().rev().flatten().find(|(a, _)| *a == addr).map(|(_, value)| *value)
    }

    pub(crate) fn is_unaccounted(&self) -> bool {
        self.seen.borrow().log.iter().any(Option::is_some)
    }

    /// All that was read is accounted for: no word was read twice.
    pub(crate) fn end(&self) {
        let seen = self.seen.borrow();
        if let Some((addr, _)) = seen.log.iter().flatten().next() {
            panic!("oracle: {addr:#x} was read once more than it is used");
        }
    }

    fn step(&self) {
        let mut seen = self.seen.borrow_mut();
        seen.steps += 1;
        assert!(seen.steps < ENDLESS, "oracle: too many steps");
    }

    /// A word of `bits` was read: what the side gets to see of it.
    fn read(&self, addr: u64, truth: u64, bits: u32) -> u64 {
        self.step();
        let mut seen = self.seen.borrow_mut();
        let value = twisted(truth, seen.tricks.pop().unwrap_or_default(), bits);
        seen.log.push(Some((addr, value)));
        value
    }
}

/// Most tricks are none, or no session would get anywhere.
fn twisted(truth: u64, trick: u8, bits: u32) -> u64 {
    let low = u64::from(trick & 15);
    let value = match trick >> 4 {
        0x8 => truth.wrapping_add(low).wrapping_sub(7),
        0x9 => truth ^ 1 << low,
        0xA => truth ^ 1 << 16 << low,
        0xB => truth ^ 1 << 32 << low,
        0xC => truth ^ 1 << 48 << low,
        0xD => low,
        0xE => !truth,
        0xF => low << 12 | low << 28 | low << 44 | low << 60,
        _ => truth,
    };
    value & (u64::MAX >> (64 - bits))
}

// SAFETY: slices and areas are those of the arena's memory, a handle of which every clone shares.
unsafe impl GuestMemory for Watched {
    type Area = WatchedArea;

    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        self.step();
        let trick = if len <= ENTRY { self.seen.borrow_mut().tricks.pop().unwrap_or_default() } else { 0 };
        if trick >= 0xC0 && access == Access::Read {
            self.arena.poke(addr.0, &[trick]);
        }
        // A prefix, if not the longest: who cannot go on behind one cannot go over two regions either.
        let len = if trick & 0x80 != 0 { len.div_ceil(2) } else { len };
        self.arena.mem.translate(addr, len, access)
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<WatchedArea, Fault> {
        self.step();
        Ok(WatchedArea { inner: self.arena.mem.ring_area(addr, len)?, at: addr.0, mem: self.clone() })
    }
}

/// A ring area of it.
pub(crate) struct WatchedArea {
    inner: MappedArea<HeapMemory>,
    at: u64,
    mem: Watched,
}

macro_rules! read {
    ($($name:ident $word:ident;)*) => {$(
        unsafe fn $name(&self, off: usize) -> $word {
            // SAFETY: the caller's contract.
            let truth = unsafe { self.inner.$name(off) };
            self.mem.read(self.at + off as u64, truth.into(), $word::BITS) as $word
        }
    )*};
}

macro_rules! write {
    ($($name:ident $word:ident;)*) => {$(
        unsafe fn $name(&self, off: usize, value: $word) {
            self.mem.step();
            // SAFETY: the caller's contract.
            unsafe { self.inner.$name(off, value) }
        }
    )*};
}

// SAFETY: every access is `inner`'s, with the same arguments; a read may give what a peer could have written.
unsafe impl RingMem for WatchedArea {
    type View<'a>
        = &'a Self
    where
        Self: 'a;

    fn view(&self) -> Self::View<'_> {
        self
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn is_aligned(&self, align: usize) -> bool {
        self.inner.is_aligned(align)
    }

    read! {
        load_relaxed u16;
        load_acquire u16;
        load32_relaxed u32;
        load64_acquire u64;
        read16 u16;
        read32 u32;
        read64 u64;
    }

    write! {
        store_relaxed u16;
        store_release u16;
        store32_relaxed u32;
        store64_release u64;
        write16 u16;
        write32 u32;
        write64 u64;
    }

    fn full_fence(&self) {
        self.inner.full_fence();
    }
}
