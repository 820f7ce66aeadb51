//! What every row of hostile drivers runs through, in either format.

use virtio_ring::{
    AnyDevice, AnyDriver, ChainFault, Chains, DeviceRing, DriverRing, Element, Format, GuestAddr, GuestSlice, Notify,
    QueueConfig, RingError, Used,
};

use crate::Area;
use crate::common::guest::*;

/// A driver's side that is written without any rule.
pub(crate) trait Raw: Sized {
    const FORMAT: Format;
    /// Where the next used entry is going to be, and what it has to say.
    type Mark;

    fn new(config: QueueConfig) -> Self;
    fn config(&self) -> QueueConfig;
    /// Offers a chain of two good buffers, 100 bytes to read and 200 to write.
    fn offer_good(rig: &mut Rig<Self>);
    /// To be called before what is held is completed.
    fn mark(rig: &Rig<Self>) -> Self::Mark;
    /// Checks the used entries of `held` chains, to the last of which `len` bytes were written.
    fn check_used(rig: &mut Rig<Self>, mark: Self::Mark, held: usize, len: u32);
    /// True if the device may write this byte.
    fn may_write(&self, addr: u64) -> bool;
    /// The driver takes back what broke the ring.
    fn repair(rig: &mut Rig<Self>);
}

/// A device and a driver that only has memory.
pub(crate) struct Rig<R> {
    pub(crate) mem: Memory,
    pub(crate) raw: R,
    pub(crate) device: AnyDevice<Area>,
    pub(crate) chains: Chains<Memory>,
    /// Split: the next available index.
    pub(crate) avail: u16,
}

impl<R: Raw> Rig<R> {
    pub(crate) fn new(config: QueueConfig) -> Self {
        Self::on(memory(), config)
    }

    pub(crate) fn on(mem: Memory, config: QueueConfig) -> Self {
        let device = AnyDevice::new(&mem, R::FORMAT, &config, R::FORMAT.start()).unwrap();
        Self { chains: Chains::new(mem.clone(), 64), mem, raw: R::new(config), device, avail: 0 }
    }

    pub(crate) fn table(&self, entries: &[(u64, u32, u16, u16)]) {
        self.table_at(TABLE, entries);
    }

    pub(crate) fn table_at(&self, at: u64, entries: &[(u64, u32, u16, u16)]) {
        let all: Vec<u8> = entries.iter().flat_map(|&(a, l, f, n)| descriptor(a, l, f, n)).collect();
        poke(&self.mem, at, &all);
    }

    /// One direct chain of two good buffers goes through.
    pub(crate) fn good_chain(&mut self) {
        let mark = R::mark(self);
        R::offer_good(self);
        assert_eq!(self.chains.fill(&mut self.device), Ok(1));
        let chain = &self.chains.view().chains()[0];
        assert!(!chain.is_faulty());
        assert_eq!((chain.readable_len(), chain.writable_len()), (100, 200));
        let token = self.chains.pop().unwrap();
        self.device.complete(token, 7);
        let _ = self.device.flush();
        R::check_used(self, mark, 1, 7);
    }

    /// Completes all that is held and looks at what the driver finds.
    pub(crate) fn finish(&mut self, legal: Option<(u32, u32)>) {
        let held = self.chains.len();
        assert!(held > 0);
        let mark = R::mark(self);
        for _ in 0..held {
            let chain = &self.chains.view().chains()[0];
            assert_eq!(chain.is_faulty(), legal.is_none());
            if let Some(expected) = legal {
                assert_eq!((chain.readable_len(), chain.writable_len()), expected);
                let sum = |segs: &[GuestSlice<'_>]| segs.iter().map(|s| s.len() as u32).sum::<u32>();
                let view = self.chains.view();
                assert_eq!((sum(view.readable(chain)), sum(view.writable(chain))), expected);
            }
            let token = self.chains.pop().unwrap();
            self.device.complete(token, 0);
        }
        let _ = self.device.flush();
        R::check_used(self, mark, held, 0);
        assert!(self.chains.is_empty());
        assert!(self.device.arm(), "nothing is left");
    }

    fn changed_where_it_may_not(&self, before: &[(u64, Vec<u8>)]) -> Vec<u64> {
        changed(before, &snapshot(&self.mem)).into_iter().filter(|a| !self.raw.may_write(*a)).collect()
    }
}

/// What is safe.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// Bytes that the device may read and write.
    Legal(u32, u32),
    /// A chain-level fault: L.
    Chain(fn(ChainFault) -> bool),
    /// A ring-level fault: R.
    Ring(fn(RingError) -> bool),
}

pub(crate) struct Row<R> {
    pub(crate) id: &'static str,
    pub(crate) source: &'static str,
    pub(crate) what: &'static str,
    pub(crate) size: u16,
    pub(crate) set_up: fn(&mut Rig<R>),
    pub(crate) outcome: Outcome,
}

/// Rows: id, source, what, size, set-up, outcome.
#[macro_export]
macro_rules! rows {
    ($($id:literal $source:literal $what:literal $size:literal $set_up:expr => $outcome:expr;)*) => {
        [$($crate::rig::Row {
            id: $id, source: $source, what: $what, size: $size, set_up: $set_up, outcome: $outcome
        }),*]
    };
}

/// Every row, on rings that `new` makes of its size.
pub(crate) fn run_all<R: Raw>(rows: &[Row<R>], rigs: impl Fn(u16) -> Vec<(String, Rig<R>)>) {
    assert!(rows.iter().map(|r| r.id).is_sorted(), "ids are in order and not repeated");
    for row in rows {
        for (on, rig) in rigs(row.size) {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(row, rig)));
            assert!(caught.is_ok(), "{} ({}) {}, {on}", row.id, row.source, row.what);
        }
    }
}

fn run<R: Raw>(row: &Row<R>, mut rig: Rig<R>) {
    (row.set_up)(&mut rig);
    let before = snapshot(&rig.mem);
    match row.outcome {
        Outcome::Ring(expected) => {
            ring_is_dead(&mut rig, expected);
            assert_eq!(rig.changed_where_it_may_not(&before), Vec::<u64>::new());
            repaired_it_still_looks_empty(&mut rig);
        }
        Outcome::Chain(expected) => {
            rig.chains.fill(&mut rig.device).unwrap();
            let fault = rig.chains.take_fault().unwrap();
            assert!(expected(fault), "{fault:?}");
            rig.finish(None);
        }
        Outcome::Legal(readable, writable) => {
            rig.chains.fill(&mut rig.device).unwrap();
            assert_eq!(rig.chains.take_fault(), None);
            rig.finish(Some((readable, writable)));
        }
    }
    if rig.device.fault().is_none() {
        assert_eq!(rig.changed_where_it_may_not(&before), Vec::<u64>::new(), "bytes written where none may be");
    }
    assert_eq!(rig.device.fault().is_some(), matches!(row.outcome, Outcome::Ring(_)));
    if rig.device.fault().is_none() && row.size > 1 {
        rig.good_chain();
    }
    other_queue_works(&rig);
    after_reset(rig);
}

fn ring_is_dead<R: Raw>(rig: &mut Rig<R>, expected: fn(RingError) -> bool) {
    let held = rig.chains.len();
    let error = rig.chains.fill(&mut rig.device).unwrap_err();
    assert!(expected(error), "{error:?}");
    assert_eq!(rig.device.fault(), Some(error));
    assert_eq!(rig.chains.len(), held, "what was held stays held");
    assert!(rig.device.arm(), "a broken ring does not keep its device awake");
    assert_eq!(rig.device.flush(), Notify::Suppressed);
}

/// Only a reset helps.
fn repaired_it_still_looks_empty<R: Raw>(rig: &mut Rig<R>) {
    rig.chains.rewind(&mut rig.device);
    R::repair(rig);
    assert_eq!(rig.chains.fill(&mut rig.device), Ok(0));
    assert!(rig.device.arm(), "a broken ring does not keep its device awake");
    assert_eq!(rig.device.flush(), Notify::Suppressed);
}

/// A second queue in the same memory.
fn other_queue_works<R: Raw>(rig: &Rig<R>) {
    let at = |area: GuestAddr| GuestAddr(area.0 + 0x2_0000);
    let was = rig.raw.config();
    let config = QueueConfig { size: 4, desc: at(was.desc), driver: at(was.driver), device: at(was.device), ..was };
    Rig::<R>::on(rig.mem.clone(), config).good_chain();
}

/// The driver resets the queue and sets it up again at the same place.
fn after_reset<R: Raw>(rig: Rig<R>) {
    let config = rig.raw.config();
    let device = || AnyDevice::new(&rig.mem, R::FORMAT, &config, R::FORMAT.start()).unwrap();
    let mut driver = AnyDriver::new(&rig.mem, R::FORMAT, &config).unwrap();
    let mut chains = rig.chains;
    // What the pool still holds goes back to a ring that is forgotten.
    chains.rewind(&mut device());
    let mut device = device();
    let handle = driver.add(&[Element { addr: GuestAddr(BUFFER), len: 10, writable: true }]).unwrap();
    assert_eq!(driver.flush(), Notify::Needed);
    assert_eq!(chains.fill(&mut device), Ok(1));
    device.complete(chains.pop().unwrap(), 10);
    assert_eq!(device.flush(), Notify::Needed);
    assert_eq!(driver.poll_used(), Ok(Some(Used { handle, len: 10 })));
}
