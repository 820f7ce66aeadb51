//! A memory that counts what is done to the ring, and one that gives another value at every second read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use virtio_ring::{Access, Fault, GuestAddr, GuestMemory, GuestSlice, RingMem};

/// Accesses by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) load_relaxed: u64,
    pub(crate) load_acquire: u64,
    pub(crate) store_relaxed: u64,
    pub(crate) store_release: u64,
    pub(crate) reads: u64,
    pub(crate) read_bytes: u64,
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) fences: u64,
    pub(crate) translations: u64,
}

#[derive(Default)]
struct Seen {
    counts: Counts,
    /// Reads by guest address: of payload words, and of the 64-bit sync words, which carry payload.
    reads: BTreeMap<u64, u64>,
    evil: bool,
}

/// One side's view of other memory, watched.
#[derive(Clone)]
pub(crate) struct Watched<M> {
    inner: M,
    seen: Rc<RefCell<Seen>>,
}

impl<M> Watched<M> {
    pub(crate) fn new(inner: M) -> Self {
        Self { inner, seen: Rc::default() }
    }

    /// From now on every word but the first time it is read is garbage.
    pub(crate) fn evil(self) -> Self {
        self.seen.borrow_mut().evil = true;
        self
    }

    /// The counts since the last call.
    pub(crate) fn take(&self) -> Counts {
        let mut seen = self.seen.borrow_mut();
        seen.reads.clear();
        std::mem::take(&mut seen.counts)
    }

    /// Words that were read since the last `take`, and how often.
    pub(crate) fn reads(&self) -> BTreeMap<u64, u64> {
        self.seen.borrow().reads.clone()
    }
}

#[expect(unsafe_code, reason = "implements the seam")]
// SAFETY: whatever `inner` guarantees.
unsafe impl<M: GuestMemory> GuestMemory for Watched<M> {
    type Area = WatchedArea<M::Area>;

    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        self.seen.borrow_mut().counts.translations += 1;
        self.inner.translate(addr, len, access)
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<Self::Area, Fault> {
        let inner = self.inner.ring_area(addr, len)?;
        Ok(WatchedArea { inner, at: addr.0, seen: Rc::clone(&self.seen) })
    }
}

/// A watched ring area.
pub(crate) struct WatchedArea<A> {
    inner: A,
    at: u64,
    seen: Rc<RefCell<Seen>>,
}

impl<A> WatchedArea<A> {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.seen.borrow_mut().counts);
    }

    /// Counts a payload read; true if it is to give garbage.
    fn read(&self, off: usize, bytes: u64) -> bool {
        self.count(|c| {
            c.reads += 1;
            c.read_bytes += bytes;
        });
        self.note(off)
    }

    /// Notes that a word was read; true if it is to give garbage.
    fn note(&self, off: usize) -> bool {
        let mut seen = self.seen.borrow_mut();
        let times = seen.reads.entry(self.at + off as u64).or_default();
        *times += 1;
        *times > 1 && seen.evil
    }

    fn write(&self, bytes: u64) {
        self.count(|c| {
            c.writes += 1;
            c.written_bytes += bytes;
        });
    }
}

#[expect(unsafe_code, reason = "implements the seam")]
// SAFETY: every access is `inner`'s, with the same arguments.
unsafe impl<A: RingMem> RingMem for WatchedArea<A> {
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
    unsafe fn load_relaxed(&self, off: usize) -> u16 {
        self.count(|c| c.load_relaxed += 1);
        // SAFETY: the caller's contract.
        unsafe { self.inner.load_relaxed(off) }
    }
    unsafe fn load_acquire(&self, off: usize) -> u16 {
        self.count(|c| c.load_acquire += 1);
        // SAFETY: the caller's contract.
        unsafe { self.inner.load_acquire(off) }
    }
    unsafe fn store_relaxed(&self, off: usize, value: u16) {
        self.count(|c| c.store_relaxed += 1);
        // SAFETY: the caller's contract.
        unsafe { self.inner.store_relaxed(off, value) }
    }
    unsafe fn store_release(&self, off: usize, value: u16) {
        self.count(|c| c.store_release += 1);
        // SAFETY: the caller's contract.
        unsafe { self.inner.store_release(off, value) }
    }
    unsafe fn load32_relaxed(&self, off: usize) -> u32 {
        self.count(|c| c.load_relaxed += 1);
        // SAFETY: the caller's contract.
        unsafe { self.inner.load32_relaxed(off) }
    }
    unsafe fn store32_relaxed(&self, off: usize, value: u32) {
        self.count(|c| c.store_relaxed += 1);
        // SAFETY: the caller's contract.
        unsafe { self.inner.store32_relaxed(off, value) }
    }
    unsafe fn load64_acquire(&self, off: usize) -> u64 {
        self.count(|c| c.load_acquire += 1);
        // SAFETY: the caller's contract.
        let value = unsafe { self.inner.load64_acquire(off) };
        if self.note(off) { !value } else { value }
    }
    unsafe fn store64_release(&self, off: usize, value: u64) {
        self.count(|c| c.store_release += 1);
        // SAFETY: the caller's contract.
        unsafe { self.inner.store64_release(off, value) }
    }
    unsafe fn read16(&self, off: usize) -> u16 {
        // SAFETY: the caller's contract.
        let value = unsafe { self.inner.read16(off) };
        if self.read(off, 2) { !value } else { value }
    }
    unsafe fn read32(&self, off: usize) -> u32 {
        // SAFETY: the caller's contract.
        let value = unsafe { self.inner.read32(off) };
        if self.read(off, 4) { !value } else { value }
    }
    unsafe fn read64(&self, off: usize) -> u64 {
        // SAFETY: the caller's contract.
        let value = unsafe { self.inner.read64(off) };
        if self.read(off, 8) { !value } else { value }
    }
    unsafe fn write16(&self, off: usize, value: u16) {
        self.write(2);
        // SAFETY: the caller's contract.
        unsafe { self.inner.write16(off, value) }
    }
    unsafe fn write32(&self, off: usize, value: u32) {
        self.write(4);
        // SAFETY: the caller's contract.
        unsafe { self.inner.write32(off, value) }
    }
    unsafe fn write64(&self, off: usize, value: u64) {
        self.write(8);
        // SAFETY: the caller's contract.
        unsafe { self.inner.write64(off, value) }
    }
    fn full_fence(&self) {
        self.count(|c| c.fences += 1);
        self.inner.full_fence();
    }
}
