//! Chains that are kept and posted again, beside a model; and the tables and addresses that need not be written again.
//!
//! The device checks what it finds: a chain that was posted again says exactly what it said when it was added.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::collections::{HashMap, VecDeque};

use common::guest::{BUFFER, TABLE};
use common::peers::{List, Setup, room};
use proptest::prelude::*;
use virtio_ring::{
    AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, Full, GuestAddr, Handle, HeapMemory, KeptError,
    MappedArea, Reposting, Token, Used,
};

type Area = MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;

/// Entries of each indirect table.
const ENTRIES: u16 = 4;

#[derive(Clone, Debug)]
enum Op {
    Add(Vec<Element>),
    /// The same as one of the chains before.
    Repeat(usize),
    Flush,
    Accept,
    /// Which of those held (in order: the oldest), and how much of its room was written (in 255ths).
    Complete(usize, u8),
    DeviceFlush,
    PollUsed,
    PollKept,
    Repost(usize),
    Release(usize),
    /// A handle that is probably not kept.
    Wrong(u16),
    /// The queue is reset, wherever it stands.
    Reset,
}

fn elements() -> impl Strategy<Value = Vec<Element>> {
    let one = (0..4_u64, 1..4_u32);
    (prop_oneof![3 => 1..=1_usize, 2 => 2..=6_usize], 0..=6_usize)
        .prop_flat_map(move |(n, readable)| (prop::collection::vec(one.clone(), n), Just(readable)))
        .prop_map(|(all, readable)| {
            let element = |(i, (at, len))| Element { addr: GuestAddr(BUFFER + 64 * at), len, writable: i >= readable };
            all.into_iter().enumerate().map(element).collect()
        })
}

fn op() -> impl Strategy<Value = Op> {
    let part = prop_oneof![1 => Just(0), 1 => Just(255), 2 => any::<u8>()];
    prop_oneof![
        6 => elements().prop_map(Op::Add),
        3 => any::<usize>().prop_map(Op::Repeat),
        6 => Just(Op::Flush),
        10 => Just(Op::Accept),
        9 => (any::<usize>(), part).prop_map(|(which, part)| Op::Complete(which, part)),
        6 => Just(Op::DeviceFlush),
        2 => Just(Op::PollUsed),
        9 => Just(Op::PollKept),
        // The oldest often, as drivers do.
        7 => prop_oneof![2 => Just(0), 1 => any::<usize>()].prop_map(Op::Repost),
        2 => any::<usize>().prop_map(Op::Release),
        1 => any::<u16>().prop_map(Op::Wrong),
        1 => Just(Op::Reset),
    ]
}

fn set_up() -> impl Strategy<Value = Setup> {
    let split = (0..=5_u32).prop_map(|shift| (Format::Split, 1_u16 << shift));
    let packed = (1..=33_u16).prop_map(|size| (Format::Packed, size));
    (prop_oneof![split, packed], any::<[bool; 2]>()).prop_map(|((format, size), [indirect, in_order])| Setup {
        indirect,
        in_order,
        ..Setup::new(format, size)
    })
}

#[derive(Clone, Debug)]
struct Chain {
    handle: Handle,
    elements: Vec<Element>,
    needed: u16,
}

struct Session {
    setup: Setup,
    mem: HeapMemory,
    driver: Reposting<AnyDriver<Area>>,
    device: AnyDevice<Area>,
    added: VecDeque<Chain>,
    visible: VecDeque<Chain>,
    held: VecDeque<(Token, Chain)>,
    completed: VecDeque<(Chain, u32)>,
    used: VecDeque<(Chain, u32)>,
    /// Oldest first.
    kept: Vec<Chain>,
    seen: Vec<Vec<Element>>,
}

impl Session {
    fn new(setup: Setup) -> Self {
        // Buffers are never touched here, so none are needed.
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        let driver = Reposting::new(setup.driver(&mem, (TABLE, ENTRIES)));
        let device = setup.fresh_device(&mem);
        let (added, visible, held) = Default::default();
        let (completed, used, kept, seen) = Default::default();
        Self { setup, mem, driver, device, added, visible, held, completed, used, kept, seen }
    }

    /// Descriptors that a chain takes.
    fn needed(&self, elements: &[Element]) -> u16 {
        let in_table = self.setup.indirect && (2..=usize::from(ENTRIES)).contains(&elements.len());
        if in_table { 1 } else { elements.len() as u16 }
    }

    /// Chains that have a descriptor, kept ones among them.
    fn taken(&self) -> u16 {
        let out = self.added.iter().chain(&self.visible).chain(self.held.iter().map(|(_, c)| c));
        let back = self.completed.iter().chain(&self.used).map(|(c, _)| c);
        out.chain(back).chain(&self.kept).map(|c| c.needed).sum()
    }

    /// No two chains have the same name.
    fn check(&self) {
        let free = self.driver.free_slots();
        let most = self.setup.size - self.taken();
        // In a circle, what was given back behind a chain that is kept is not free yet.
        let waits = self.setup.format == Format::Split && self.setup.in_order && !self.kept.is_empty();
        assert!(free == most || waits && free < most, "{free} of {most} are free");
        assert_eq!(usize::from(self.driver.kept()), self.kept.len());
        assert_eq!((self.driver.ring().fault(), self.device.fault()), (None, None));
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Add(elements) => self.add(elements.clone()),
            Op::Repeat(which) if !self.seen.is_empty() => self.add(self.seen[which % self.seen.len()].clone()),
            Op::Repeat(_) => {}
            Op::Flush => {
                let _ = self.driver.flush();
                self.visible.append(&mut self.added);
            }
            Op::Accept => self.accept(),
            Op::Complete(which, part) => self.complete(*which, *part),
            Op::DeviceFlush => {
                let _ = self.device.flush();
                self.used.append(&mut self.completed);
            }
            Op::PollUsed => _ = self.poll(false),
            Op::PollKept => _ = self.poll(true),
            Op::Repost(which) if !self.kept.is_empty() => self.repost(which % self.kept.len()),
            Op::Release(which) if !self.kept.is_empty() => {
                let chain = self.kept.remove(which % self.kept.len());
                assert_eq!(self.driver.release(chain.handle), Ok(()));
                let error = Err(KeptError::NotKept { handle: chain.handle });
                assert_eq!(self.driver.release(chain.handle), error, "once is enough");
            }
            Op::Repost(_) | Op::Release(_) => {}
            Op::Reset => self.reset(),
            Op::Wrong(handle) => {
                let handle = Handle(*handle);
                if self.kept.iter().all(|c| c.handle != handle) {
                    assert_eq!(self.driver.repost(handle), Err(KeptError::NotKept { handle }));
                    assert_eq!(self.driver.release(handle), Err(KeptError::NotKept { handle }));
                }
            }
        }
        self.check();
    }

    /// What the device had comes back by name; what was kept is the driver's already.
    fn reset(&mut self) {
        self.device.reset();
        let held = self.held.drain(..).map(|(_, chain)| chain);
        let done = self.completed.drain(..).chain(self.used.drain(..)).map(|(chain, _)| chain);
        let out = self.added.drain(..).chain(self.visible.drain(..)).chain(held).chain(done);
        let mut wanted: Vec<u16> = out.map(|chain| chain.handle.0).collect();
        let mut taken = Vec::new();
        self.driver.reset(|handle| taken.push(handle.0));
        wanted.sort_unstable();
        taken.sort_unstable();
        assert_eq!(taken, wanted);
        for chain in self.kept.drain(..) {
            let error = Err(KeptError::NotKept { handle: chain.handle });
            assert_eq!(self.driver.release(chain.handle), error, "kept before the reset");
        }
    }

    fn add(&mut self, elements: Vec<Element>) {
        let (needed, free) = (self.needed(&elements), self.driver.free_slots());
        match self.driver.add(&elements) {
            Ok(handle) => {
                assert!(needed <= free);
                self.seen.push(elements.clone());
                self.added.push_back(Chain { handle, elements, needed });
            }
            Err(full) => {
                assert!(needed > free);
                assert_eq!(full, Full { free, needed: needed.into() });
            }
        }
    }

    fn accept(&mut self) {
        let mut list = List::default();
        let token = self.device.peek(&self.mem, &mut list).unwrap().map(virtio_ring::Peeked::accept);
        let chain = self.visible.pop_front();
        assert_eq!(list.0, chain.as_ref().map(|c| c.elements.clone()).unwrap_or_default());
        self.held.extend(token.zip(chain));
    }

    fn complete(&mut self, which: usize, part: u8) {
        if self.held.is_empty() {
            return;
        }
        let which = if self.setup.in_order { 0 } else { which % self.held.len() };
        let (token, chain) = self.held.remove(which).unwrap();
        let written = (u64::from(room(&chain.elements)) * u64::from(part) / 255) as u32;
        self.device.complete(token, written);
        self.completed.push_back((chain, written));
    }

    fn poll(&mut self, keep: bool) -> bool {
        let used = if keep { self.driver.poll_kept() } else { self.driver.poll_used() };
        let expected = self.used.pop_front();
        assert_eq!(used, Ok(expected.as_ref().map(|(c, len)| Used { handle: c.handle, len: *len })));
        let more = expected.is_some();
        self.kept.extend(expected.filter(|_| keep).map(|(chain, _)| chain));
        more
    }

    fn repost(&mut self, which: usize) {
        let chain = self.kept[which].clone();
        let free = self.driver.free_slots();
        match self.driver.repost(chain.handle) {
            Ok(handle) => {
                self.kept.remove(which);
                let circle = self.setup.format == Format::Split && self.setup.in_order;
                assert!(handle == chain.handle || circle && free > 0, "a new place only where there is one");
                self.added.push_back(Chain { handle, ..chain });
            }
            Err(error) => {
                let before = self.kept[0].handle;
                assert!(which > 0 && free < chain.needed);
                assert_eq!(error, KeptError::OutOfTurn { handle: chain.handle, before });
            }
        }
    }

    /// Everything comes to an end, and nothing was lost.
    fn finish(&mut self) {
        while !self.kept.is_empty() {
            self.step(&Op::Repost(0));
        }
        self.step(&Op::Flush);
        while !self.visible.is_empty() {
            self.step(&Op::Accept);
        }
        while !self.held.is_empty() {
            self.step(&Op::Complete(usize::MAX, 255));
        }
        self.step(&Op::DeviceFlush);
        while self.poll(false) {}
        self.check();
        assert_eq!(self.driver.free_slots(), self.setup.size);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_with_kept_chains_follow_the_model(setup in set_up(), ops in prop::collection::vec(op(), 0..300)) {
        let mut session = Session::new(setup);
        for op in &ops {
            session.step(op);
        }
        session.finish();
    }
}

/// The eight rings, of four entries.
fn rings() -> impl Iterator<Item = Setup> {
    [Format::Split, Format::Packed].into_iter().flat_map(|format| Setup::with_features(format, 4))
}

const ONE: [Element; 1] = [Element { addr: GuestAddr(BUFFER), len: 64, writable: true }];

#[test]
fn a_ring_that_was_used_before_says_so() {
    for setup in rings() {
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        let mut ring = setup.driver(&mem, (TABLE, ENTRIES));
        let mut device = setup.fresh_device(&mem);
        let handle = ring.add(&ONE).unwrap();
        let _ = ring.flush();
        let mut driver = Reposting::new(ring);
        let token = device.peek(&mem, &mut List::default()).unwrap().unwrap().accept();
        device.complete(token, 0);
        let _ = device.flush();
        assert_eq!(driver.poll_kept(), Ok(Some(Used { handle, len: 0 })));
        // A split ring needs to know nothing of the chain.
        if setup.format == Format::Packed || setup.in_order {
            assert_eq!(driver.repost(handle), Err(KeptError::Unknown { handle }));
            assert_eq!((driver.kept(), driver.free_slots()), (1, 3));
            assert_eq!(driver.release(handle), Ok(()));
            assert_eq!(driver.free_slots(), 4);
        } else {
            assert_eq!(driver.repost(handle), Ok(handle));
        }
    }
}

#[test]
fn ids_stay_apart_when_the_newest_chain_is_freed_while_an_older_one_is_kept() {
    for setup in rings() {
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        let mut driver = Reposting::new(setup.driver(&mem, (TABLE, ENTRIES)));
        let mut device = setup.fresh_device(&mem);
        let handles = [0, 1, 2].map(|_| driver.add(&ONE).unwrap());
        let _ = driver.flush();
        for _ in 0..3 {
            let token = device.peek(&mem, &mut List::default()).unwrap().unwrap().accept();
            device.complete(token, 0);
        }
        let _ = device.flush();
        assert_eq!(handles.map(|_| driver.poll_kept().unwrap().unwrap().handle), handles);
        // The device has nothing, one chain is kept, and the one added last is not the next to be taken.
        for handle in [handles[2], handles[1]] {
            assert_eq!(driver.release(handle), Ok(()));
        }
        let mut names: Vec<u16> = core::iter::from_fn(|| driver.add(&ONE).ok()).map(|h| h.0).collect();
        names.push(handles[0].0);
        names.sort_unstable();
        let taken = names.len();
        names.dedup();
        assert_eq!(names.len(), taken, "{setup:?}: {names:?}");
        let circle = setup.format == Format::Split && setup.in_order;
        assert_eq!(taken, if circle { 2 } else { 4 });
    }
}

#[test]
fn a_table_finds_its_chain_again_while_others_are_out() {
    // Two shapes; the descriptors under them change all the time, and every table still says what the device reads.
    for setup in rings().filter(|s| s.indirect) {
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        let mut driver = setup.driver(&mem, (TABLE, ENTRIES));
        let mut device = setup.fresh_device(&mem);
        let shape =
            |n: u64| [0, 1, 2].map(|i| Element { addr: GuestAddr(BUFFER + 64 * (n + i)), len: 8, writable: i > 0 });
        let mut expected = HashMap::new();
        for round in 0..40_u64 {
            for n in 0..=round % 4 {
                let elements = shape((round / 3 + n) % 5);
                expected.insert(driver.add(&elements).unwrap(), elements);
            }
            let _ = driver.flush();
            let mut list = List::default();
            while let Some(peeked) = device.peek(&mem, &mut list).unwrap() {
                let token = peeked.accept();
                device.complete(token, 16);
            }
            let _ = device.flush();
            let mut lists = list.0.chunks(3);
            while let Some(used) = driver.poll_used().unwrap() {
                assert_eq!(expected.remove(&used.handle).unwrap(), *lists.next().unwrap());
            }
            assert!(expected.is_empty());
        }
    }
}
