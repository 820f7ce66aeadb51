//! A ring's memory made of loom's types, and versions of it that are wrong on purpose.
//!
//! Sync words are loom atomics; payload words are loom cells, so a read that is not ordered behind the write is found
//! as a race. The kernel's `eventfd` is a counter whose *read clears it*: a kick that stays would hide a missing fence.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU16, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use virtio_ring::{Access, Fault, GuestAddr, GuestMemory, GuestSlice, QueueConfig, RingMem, SplitSizes};

/// What is wrong with one side's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// Nothing.
    Sound,
    /// Publishing stores are relaxed.
    NoRelease,
    /// Loads of the peer's index are relaxed.
    NoAcquire,
    /// The full fence is none.
    NoFence,
    /// The fence of `arm` comes before the event store instead of behind it.
    FenceBeforeEvent,
}

/// One area: a sync word or a payload word at each offset that can have one.
struct Words {
    sync: Vec<(usize, AtomicU16)>,
    payload: Vec<UnsafeCell<u64>>,
    /// Offset of the first payload word, and bytes of each.
    first: usize,
    width: usize,
    len: usize,
}

// Loom checks the cells.
#[expect(unsafe_code, reason = "loom's cells are shared between model threads, which is what loom checks")]
// SAFETY: loom runs one model thread at a time and reports every unordered access to a cell.
unsafe impl Sync for Words {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as for `Sync`.
unsafe impl Send for Words {}

impl Words {
    fn new(len: usize, sync: &[usize], first: usize, width: usize) -> Self {
        let payload = (first..=len - width).step_by(width).map(|_| UnsafeCell::new(0)).collect();
        Self { sync: sync.iter().map(|&at| (at, AtomicU16::new(0))).collect(), payload, first, width, len }
    }

    fn sync(&self, off: usize) -> &AtomicU16 {
        &self.sync.iter().find(|(at, _)| *at == off).expect("a sync word").1
    }

    #[expect(unsafe_code, reason = "loom hands out raw pointers")]
    fn read(&self, off: usize, width: usize) -> u64 {
        // SAFETY: loom has checked that no write is concurrent.
        self.cell(off, width).with(|p| unsafe { *p })
    }

    #[expect(unsafe_code, reason = "loom hands out raw pointers")]
    fn write(&self, off: usize, width: usize, value: u64) {
        // SAFETY: loom has checked that no access is concurrent.
        self.cell(off, width).with_mut(|p| unsafe { *p = value });
    }

    fn cell(&self, off: usize, width: usize) -> &UnsafeCell<u64> {
        assert_eq!((width, (off - self.first) % width), (self.width, 0), "payload words have one size");
        &self.payload[(off - self.first) / width]
    }
}

/// The three areas of one split ring.
pub(crate) struct Rings {
    config: QueueConfig,
    desc: Arc<Words>,
    avail: Arc<Words>,
    used: Arc<Words>,
}

impl Rings {
    pub(crate) fn new(config: QueueConfig) -> Self {
        let sizes = SplitSizes::new(config.size);
        let words = |len: usize, width| Arc::new(Words::new(len, &[0, 2, len - 2], 4, width));
        Self {
            config,
            desc: Arc::new(Words::new(sizes.desc, &[], 0, 8)),
            avail: words(sizes.driver, 2),
            used: words(sizes.device, 4),
        }
    }

    /// One side's view.
    pub(crate) fn side(&self, mutant: Mutant) -> LoomMemory {
        let area = |words: &Arc<Words>, ask| LoomArea {
            words: Arc::clone(words),
            mutant,
            event: (ask, words.len - 2),
            fenced: Rc::new(Cell::new(false)),
        };
        LoomMemory {
            config: self.config,
            desc: area(&self.desc, false),
            avail: area(&self.avail, true),
            used: area(&self.used, true),
        }
    }
}

/// One side's guest memory.
pub(crate) struct LoomMemory {
    config: QueueConfig,
    desc: LoomArea,
    avail: LoomArea,
    used: LoomArea,
}

/// One side's view of an area.
#[derive(Clone)]
pub(crate) struct LoomArea {
    words: Arc<Words>,
    mutant: Mutant,
    event: (bool, usize),
    /// For `FenceBeforeEvent`: the next fence was done early. Shared by the areas of a side.
    fenced: Rc<Cell<bool>>,
}

#[expect(unsafe_code, reason = "moved to the model thread of its side")]
// SAFETY: `fenced` is shared only between the areas of one side, all of which move together.
unsafe impl Send for LoomMemory {}
#[expect(unsafe_code, reason = "moved to the model thread of its side")]
// SAFETY: as for `LoomMemory`.
unsafe impl Send for LoomArea {}

#[expect(unsafe_code, reason = "implements the seam")]
// SAFETY: nothing is ever translated to a host address; areas own their words.
unsafe impl GuestMemory for LoomMemory {
    type Area = LoomArea;

    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        Err(Fault { addr, len: len as u64, access })
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<LoomArea, Fault> {
        let area = match addr {
            a if a == self.config.desc => &self.desc,
            a if a == self.config.driver => &self.avail,
            _ => &self.used,
        };
        assert!(len <= area.words.len);
        let mut area = area.clone();
        area.fenced = Rc::clone(&self.used.fenced);
        Ok(area)
    }
}

#[expect(unsafe_code, reason = "implements the seam")]
// SAFETY: every accessor looks its word up; loom checks the rest.
unsafe impl RingMem for LoomArea {
    fn len(&self) -> usize {
        self.words.len
    }
    fn is_aligned(&self, _align: usize) -> bool {
        true
    }
    unsafe fn load_relaxed(&self, off: usize) -> u16 {
        self.words.sync(off).load(Ordering::Relaxed)
    }
    unsafe fn load_acquire(&self, off: usize) -> u16 {
        let order = if self.mutant == Mutant::NoAcquire { Ordering::Relaxed } else { Ordering::Acquire };
        self.words.sync(off).load(order)
    }
    unsafe fn store_relaxed(&self, off: usize, value: u16) {
        let is_event = self.event.0 && (off == 0 || off == self.event.1);
        if is_event && self.mutant == Mutant::FenceBeforeEvent {
            fence(Ordering::SeqCst);
            self.fenced.set(true);
        }
        self.words.sync(off).store(value, Ordering::Relaxed);
    }
    unsafe fn store_release(&self, off: usize, value: u16) {
        // An index store begins a publication, whose fence is its own.
        self.fenced.set(false);
        let order = if self.mutant == Mutant::NoRelease { Ordering::Relaxed } else { Ordering::Release };
        self.words.sync(off).store(value, order);
    }
    unsafe fn load32_relaxed(&self, off: usize) -> u32 {
        unreachable!("no 32-bit sync word at {off} in a split ring")
    }
    unsafe fn store32_relaxed(&self, off: usize, _value: u32) {
        unreachable!("no 32-bit sync word at {off} in a split ring")
    }
    unsafe fn load64_acquire(&self, off: usize) -> u64 {
        unreachable!("no 64-bit sync word at {off} in a split ring")
    }
    unsafe fn store64_release(&self, off: usize, _value: u64) {
        unreachable!("no 64-bit sync word at {off} in a split ring")
    }
    unsafe fn read16(&self, off: usize) -> u16 {
        self.words.read(off, 2) as u16
    }
    unsafe fn read32(&self, off: usize) -> u32 {
        self.words.read(off, 4) as u32
    }
    unsafe fn read64(&self, off: usize) -> u64 {
        self.words.read(off, 8)
    }
    unsafe fn write16(&self, off: usize, value: u16) {
        self.words.write(off, 2, value.into());
    }
    unsafe fn write32(&self, off: usize, value: u32) {
        self.words.write(off, 4, value.into());
    }
    unsafe fn write64(&self, off: usize, value: u64) {
        self.words.write(off, 8, value);
    }
    fn full_fence(&self) {
        match self.mutant {
            Mutant::NoFence => {}
            Mutant::FenceBeforeEvent if self.fenced.take() => {}
            _ => fence(Ordering::SeqCst),
        }
    }
}

/// An eventfd: writing adds, reading waits for something and takes all of it.
#[derive(Clone)]
pub(crate) struct Event(Arc<(Mutex<u64>, Condvar)>);

impl Event {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::new(0), Condvar::new())))
    }

    pub(crate) fn signal(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_one();
    }

    pub(crate) fn wait(&self) {
        let mut count = self.0.0.lock().unwrap();
        while *count == 0 {
            count = self.0.1.wait(count).unwrap();
        }
        *count = 0;
    }
}

/// What the buffers of a model hold: one cell each, race-checked.
#[derive(Clone)]
pub(crate) struct Buffers(Arc<Vec<UnsafeCell<u64>>>);

#[expect(unsafe_code, reason = "as for `Words`")]
// SAFETY: loom checks every access.
unsafe impl Send for Buffers {}

impl Buffers {
    pub(crate) fn new(n: usize) -> Self {
        Self(Arc::new((0..n).map(|_| UnsafeCell::new(0)).collect()))
    }

    #[expect(unsafe_code, reason = "loom hands out raw pointers")]
    pub(crate) fn read(&self, i: u64) -> u64 {
        // SAFETY: loom has checked that no write is concurrent.
        self.0[i as usize].with(|p| unsafe { *p })
    }

    #[expect(unsafe_code, reason = "loom hands out raw pointers")]
    pub(crate) fn write(&self, i: u64, value: u64) {
        // SAFETY: loom has checked that no access is concurrent.
        self.0[i as usize].with_mut(|p| unsafe { *p = value });
    }
}
