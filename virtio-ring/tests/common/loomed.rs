//! A ring's memory made of loom's types, and versions of it that are wrong on purpose.
//!
//! Sync words are loom atomics; payload words are loom cells, so a read that is not ordered behind the write is found
//! as a race. The kernel's `eventfd` is a counter whose *read clears it*: a kick that stays would hide a missing fence.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use virtio_ring::{Access, Fault, Format, GuestAddr, GuestMemory, GuestSlice, QueueConfig, RingMem, SplitSizes};

/// What is wrong with one side's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// Nothing.
    Sound,
    /// Publishing stores are relaxed.
    NoRelease,
    /// Loads of what the peer publishes are relaxed.
    NoAcquire,
    /// The full fence is none.
    NoFence,
    /// The fence of `arm` comes before the event store instead of behind it.
    FenceBeforeEvent,
    /// Packed: of two descriptors or entries in a batch the first is stored before the second. For batches of two.
    FirstNotLast,
}

/// One area: a sync word or a payload word at each offset that can have one, with its width.
struct Words {
    sync: Vec<(usize, usize, AtomicU64)>,
    /// Written before each access of a 64-bit sync word, and never read. Both sides load *and* store those, and loom,
    /// which remembers only the last access of a word, then takes a side's store for independent of the other side's
    /// load before it and never runs them the other way round. A store depends on every store.
    turns: Vec<AtomicU64>,
    payload: Vec<(usize, usize, UnsafeCell<u64>)>,
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
    /// Offsets and widths in bytes of both kinds of words.
    fn new(
        len: usize,
        sync: impl IntoIterator<Item = (usize, usize)>,
        payload: impl IntoIterator<Item = (usize, usize)>,
    ) -> Arc<Self> {
        let sync: Vec<_> = sync.into_iter().map(|(at, width)| (at, width, AtomicU64::new(0))).collect();
        let turns = sync.iter().map(|_| AtomicU64::new(0)).collect();
        let payload = payload.into_iter().map(|(at, width)| (at, width, UnsafeCell::new(0))).collect();
        Arc::new(Self { sync, turns, payload, len })
    }

    fn sync(&self, off: usize, width: usize) -> &AtomicU64 {
        let index = self.sync.iter().position(|w| (w.0, w.1) == (off, width)).expect("a sync word");
        if width == 8 {
            self.turns[index].store(0, Ordering::Relaxed);
        }
        &self.sync[index].2
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
        &self.payload.iter().find(|w| (w.0, w.1) == (off, width)).expect("a payload word").2
    }
}

/// The three areas of one ring.
pub(crate) struct Rings {
    config: QueueConfig,
    format: Format,
    areas: [Arc<Words>; 3],
}

impl Rings {
    pub(crate) fn new(format: Format, config: QueueConfig) -> Self {
        let size = usize::from(config.size);
        let areas = match format {
            Format::Split => {
                let sizes = SplitSizes::new(config.size);
                // Flags, index and event word around the entries.
                let ring = |len: usize, width: usize| {
                    let entries = (4..len - 2).step_by(width).map(move |at| (at, width));
                    Words::new(len, [0, 2, len - 2].map(|at| (at, 2)), entries)
                };
                let table = Words::new(sizes.desc, [], (0..2 * size).map(|i| (8 * i, 8)));
                [table, ring(sizes.driver, 2), ring(sizes.device, 4)]
            }
            Format::Packed => {
                let word = |at: usize| (0..size).map(move |i| (16 * i + at, 8));
                let event = || Words::new(4, [(0, 4)], []);
                [Words::new(16 * size, word(8), word(0)), event(), event()]
            }
        };
        Self { config, format, areas }
    }

    /// One side's view.
    pub(crate) fn side(&self, mutant: Mutant) -> LoomMemory {
        let quirks = Rc::new(Quirks { mutant, format: self.format, fenced: Cell::default(), kept: RefCell::default() });
        let area = |words: &Arc<Words>| LoomArea { words: Arc::clone(words), quirks: Rc::clone(&quirks) };
        let [desc, driver, device] = &self.areas;
        LoomMemory { config: self.config, areas: [area(desc), area(driver), area(device)] }
    }
}

/// One side's guest memory.
pub(crate) struct LoomMemory {
    config: QueueConfig,
    areas: [LoomArea; 3],
}

/// What is wrong with a side, shared by its areas.
struct Quirks {
    mutant: Mutant,
    format: Format,
    /// `FenceBeforeEvent`: the next fence was done early.
    fenced: Cell<bool>,
    /// `FirstNotLast`: a store that waits for the next one.
    kept: RefCell<Option<(usize, u64)>>,
}

/// One side's view of an area.
#[derive(Clone)]
pub(crate) struct LoomArea {
    words: Arc<Words>,
    quirks: Rc<Quirks>,
}

#[expect(unsafe_code, reason = "moved to the model thread of its side")]
// SAFETY: `quirks` is shared only between the areas of one side, all of which move together.
unsafe impl Send for LoomMemory {}
#[expect(unsafe_code, reason = "moved to the model thread of its side")]
// SAFETY: as for `LoomMemory`.
unsafe impl Send for LoomArea {}

#[expect(unsafe_code, reason = "implements the seam")]
// SAFETY: nothing is ever translated to a host address; areas own their words.
unsafe impl GuestMemory for LoomMemory {
    type Area = LoomArea;

    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        Err(Fault::forbidden(addr, len as u64, access))
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<LoomArea, Fault> {
        let addrs = [self.config.desc, self.config.driver, self.config.device];
        let area = &self.areas[addrs.iter().position(|a| *a == addr).expect("an area of the ring")];
        assert!(len <= area.words.len);
        Ok(area.clone())
    }
}

impl LoomArea {
    fn load(&self, off: usize, width: usize, order: Ordering) -> u64 {
        let relaxed = order == Ordering::Acquire && self.quirks.mutant == Mutant::NoAcquire;
        self.words.sync(off, width).load(if relaxed { Ordering::Relaxed } else { order })
    }

    /// Flags and event words.
    fn store_event(&self, off: usize, width: usize, value: u64) {
        if self.quirks.mutant == Mutant::FenceBeforeEvent {
            fence(Ordering::SeqCst);
            self.quirks.fenced.set(true);
        }
        self.words.sync(off, width).store(value, Ordering::Relaxed);
    }

    /// Indices and tails.
    fn publish(&self, off: usize, width: usize, value: u64) {
        // Such a store begins a publication, whose fence is its own.
        self.quirks.fenced.set(false);
        let order = if self.quirks.mutant == Mutant::NoRelease { Ordering::Relaxed } else { Ordering::Release };
        if self.quirks.mutant == Mutant::FirstNotLast && self.quirks.format == Format::Packed {
            let Some((at, kept)) = self.quirks.kept.borrow_mut().take() else {
                *self.quirks.kept.borrow_mut() = Some((off, value));
                return;
            };
            self.words.sync(off, width).store(value, order);
            self.words.sync(at, width).store(kept, order);
        } else {
            self.words.sync(off, width).store(value, order);
        }
    }
}

#[expect(unsafe_code, reason = "implements the seam")]
// SAFETY: every accessor looks its word up; loom checks the rest.
unsafe impl RingMem for LoomArea {
    type View<'a>
        = &'a Self
    where
        Self: 'a;

    fn view(&self) -> Self::View<'_> {
        self
    }

    fn len(&self) -> usize {
        self.words.len
    }
    fn is_aligned(&self, _align: usize) -> bool {
        true
    }
    unsafe fn load_relaxed(&self, off: usize) -> u16 {
        self.load(off, 2, Ordering::Relaxed) as u16
    }
    unsafe fn load_acquire(&self, off: usize) -> u16 {
        self.load(off, 2, Ordering::Acquire) as u16
    }
    unsafe fn store_relaxed(&self, off: usize, value: u16) {
        self.store_event(off, 2, value.into());
    }
    unsafe fn store_release(&self, off: usize, value: u16) {
        self.publish(off, 2, value.into());
    }
    unsafe fn load32_relaxed(&self, off: usize) -> u32 {
        self.load(off, 4, Ordering::Relaxed) as u32
    }
    unsafe fn store32_relaxed(&self, off: usize, value: u32) {
        self.store_event(off, 4, value.into());
    }
    unsafe fn load64_acquire(&self, off: usize) -> u64 {
        self.load(off, 8, Ordering::Acquire)
    }
    unsafe fn store64_release(&self, off: usize, value: u64) {
        self.publish(off, 8, value);
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
        match self.quirks.mutant {
            Mutant::NoFence => {}
            Mutant::FenceBeforeEvent if self.quirks.fenced.take() => {}
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
