//! The loops over a burst (`add_each`, `serve`, `reap_each`) beside the calls that they stand for, one chain at a time:
//! two rings get the same work, and after each step their memory is the same to the byte.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use common::guest::{RING, bytes};
use common::peers::{List, Setup};
use proptest::prelude::*;
use virtio_ring::{
    AnyDevice, AnyDriver, ChainFault, ChainSink, DeviceRing, DriverRing, Element, Format, GuestAddr, HeapBlock,
    HeapMemory, MappedArea, Notify, Used,
};

type Area = MappedArea<std::sync::Arc<HeapBlock>>;

const TABLES: u64 = 0x8_0000;
/// Longer than the tables: such a chain takes several descriptors.
const ENTRIES: u16 = 3;
/// The sink does not like this length.
const BAD: u32 = 13;

/// What the ring that flushes heard since the other, which only publishes, asked.
#[derive(Default)]
struct Unasked {
    needed: bool,
    slots: u32,
}

struct Twin {
    mem: HeapMemory,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
}

impl Twin {
    fn new(setup: &Setup) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x10_0000).unwrap();
        Self { driver: setup.driver(&mem, (TABLES, ENTRIES)), device: setup.fresh_device(&mem), mem }
    }
}

/// What a device sees: elements, and what was wrong with each chain.
#[derive(Default)]
struct Seen {
    list: List,
    chains: Vec<(Vec<Element>, Option<ChainFault>)>,
}

impl ChainSink for Seen {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        if e.len == BAD {
            return Err(ChainFault::TooManyBytes);
        }
        self.list.push(e)
    }
}

impl Seen {
    /// The chain is seen; says how much is written to it.
    fn done(&mut self, fault: Option<ChainFault>) -> u32 {
        let elements = std::mem::take(&mut self.list.0);
        let room: u32 = elements.iter().filter(|e| e.writable).map(|e| e.len).sum();
        let written = if fault.is_some() { 0 } else { room / (1 + self.chains.len() as u32 % 3) };
        self.chains.push((elements, fault));
        written
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<Element>),
    AddEach(Vec<Element>),
    /// One ring flushes, the other publishes: driver, device.
    PublishDriver,
    PublishDevice,
    /// The other asks at last.
    NotifyDriver,
    NotifyDevice,
    Serve(usize),
    Reap(usize),
    /// Driver or device, asks for notifications or does without.
    Arm(bool, bool),
}

fn element() -> impl Strategy<Value = Element> {
    (0..64_u64, prop_oneof![8 => 14..2000_u32, 1 => Just(BAD), 1 => Just(0)], any::<bool>())
        .prop_map(|(at, len, writable)| Element { addr: GuestAddr(0xA_0000 + at * 2176), len, writable })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // Chains that break a rule as well: a readable element behind a writable one.
        2 => prop::collection::vec(element(), 1..6).prop_map(Step::Add),
        4 => prop::collection::vec(element(), 0..12).prop_map(Step::AddEach),
        3 => Just(Step::PublishDriver),
        3 => Just(Step::PublishDevice),
        1 => Just(Step::NotifyDriver),
        1 => Just(Step::NotifyDevice),
        4 => (0..20_usize).prop_map(Step::Serve),
        4 => (0..20_usize).prop_map(Step::Reap),
        1 => any::<(bool, bool)>().prop_map(|(driver, arm)| Step::Arm(driver, arm)),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let split = prop::sample::select(vec![1_u16, 2, 4, 8, 16]).prop_map(|size| (Format::Split, size));
    let packed = (1..18_u16).prop_map(|size| (Format::Packed, size));
    (prop_oneof![split, packed], any::<(bool, bool, bool)>()).prop_map(|((format, size), features)| Setup {
        event_idx: features.0,
        indirect: features.1,
        in_order: features.2,
        ..Setup::new(format, size)
    })
}

/// Serves a burst on `all`, and as many chains one at a time on `one`.
fn serve(one: &mut Twin, all: &mut Twin, most: usize) {
    let (mut seen, mut wanted) = (Seen::default(), Seen::default());
    let count = match &mut all.device {
        // As embedders do: the enum is matched once, the loop is the ring's own.
        AnyDevice::Split(ring) => ring.serve(&all.mem, &mut seen, most, Seen::done),
        AnyDevice::Packed(ring) => ring.serve(&all.mem, &mut seen, most, Seen::done),
    }
    .unwrap();
    assert!(count <= most);
    for _ in 0..count {
        let peeked = one.device.peek(&one.mem, &mut wanted).unwrap().unwrap();
        let fault = peeked.fault();
        let token = peeked.accept();
        let written = wanted.done(fault);
        one.device.complete(token, written);
    }
    assert_eq!(seen.chains, wanted.chains);
    if count == 0 && most > 0 {
        assert!(one.device.peek(&one.mem, &mut wanted).unwrap().is_none(), "served nothing, but there is a chain");
    }
}

/// Takes a burst back on `all`, and as many chains one at a time on `one`.
fn reap(one: &mut Twin, all: &mut Twin, most: usize) {
    let mut taken: Vec<Used> = Vec::new();
    let count = all.driver.reap_each(most, |used| taken.push(used)).unwrap();
    assert_eq!(count, taken.len());
    let wanted: Vec<Used> = (0..count).map(|_| one.driver.poll_used().unwrap().unwrap()).collect();
    assert_eq!(taken, wanted);
    if count == 0 && most > 0 {
        assert_eq!(one.driver.poll_used(), Ok(None), "took nothing back, but a chain is used");
    }
}

impl Unasked {
    /// One ring has flushed, the other published as much: no more than so many slots.
    fn add(&mut self, heard: Notify, slots: u16) {
        self.needed |= heard.is_needed();
        self.slots += u32::from(slots);
    }

    /// An event that lies in one of several stretches lies in all of them together. One that is more than a lap old is
    /// nobody's who waits.
    fn check(&mut self, asked: Notify, size: u16) {
        let Self { needed, slots } = std::mem::take(self);
        if slots <= size.into() {
            assert_eq!(asked.is_needed(), needed);
        } else {
            assert!(needed || !asked.is_needed());
        }
    }
}

fn run(setup: &Setup, steps: &[Step]) {
    let (mut one, mut all) = (Twin::new(setup), Twin::new(setup));
    let (mut kicks, mut calls) = (Unasked::default(), Unasked::default());
    let mut visible = 0;
    for step in steps {
        // What somebody says who goes to sleep is for what becomes visible from then on.
        match step {
            Step::Arm(true, _) => calls.check(all.device.notify(), setup.size),
            Step::Arm(false, _) => kicks.check(all.driver.notify(), setup.size),
            _ => {}
        }
        match step {
            Step::Add(elements) => assert_eq!(one.driver.add(elements), all.driver.add(elements)),
            Step::AddEach(elements) => {
                let mut left = elements.iter().copied();
                let mut handles = Vec::new();
                let count = all.driver.add_each(&mut left, |handle| handles.push(handle));
                assert_eq!((count, left.len()), (handles.len(), elements.len() - count), "no element is lost");
                let wanted: Vec<_> = elements.iter().map_while(|e| one.driver.add(&[*e]).ok()).collect();
                assert_eq!(handles, wanted);
            }
            Step::PublishDriver => {
                all.driver.publish();
                kicks.add(one.driver.flush(), setup.size - all.driver.free_slots() - visible);
                visible = setup.size - all.driver.free_slots();
            }
            Step::PublishDevice => {
                all.device.publish();
                calls.add(one.device.flush(), setup.size); // at most
            }
            Step::NotifyDriver => kicks.check(all.driver.notify(), setup.size),
            Step::NotifyDevice => calls.check(all.device.notify(), setup.size),
            Step::Serve(most) => serve(&mut one, &mut all, *most),
            Step::Reap(most) => {
                let free = all.driver.free_slots();
                reap(&mut one, &mut all, *most);
                visible -= all.driver.free_slots() - free;
            }
            Step::Arm(true, true) => assert_eq!(one.driver.arm(), all.driver.arm()),
            Step::Arm(false, true) => assert_eq!(one.device.arm(), all.device.arm()),
            Step::Arm(true, false) => [&mut one, &mut all].map(|t| t.driver.disarm()).into_iter().collect(),
            Step::Arm(false, false) => [&mut one, &mut all].map(|t| t.device.disarm()).into_iter().collect(),
        }
        assert_eq!(one.driver.free_slots(), all.driver.free_slots());
        assert_eq!(one.device.state(), all.device.state());
        for (from, to) in [(RING, setup.end()), (TABLES, TABLES + u64::from(setup.size * ENTRIES) * 16)] {
            let len = (to - from) as usize;
            assert!(bytes(&one.mem, from, len) == bytes(&all.mem, from, len), "memory differs after {step:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_burst_does_what_its_chains_do_one_at_a_time(
        setup in setup(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(&setup, &steps);
    }
}

/// Many laps of the ring in bursts of every length, all of the features: what random steps reach rarely.
#[test]
fn bursts_go_round_and_round() {
    for setup in [(Format::Split, 8), (Format::Packed, 8), (Format::Packed, 7)]
        .into_iter()
        .flat_map(|(format, size)| Setup::with_features(format, size))
    {
        let one =
            |i: u16| Element { addr: GuestAddr(0xA_0000), len: 100 + u32::from(i), writable: i.is_multiple_of(3) };
        let steps: Vec<Step> = (0..40_u16)
            .flat_map(|i| {
                let burst = 1 + usize::from(i % setup.size);
                let elements = (0..setup.size).map(one).take(burst).collect();
                let serve = [Step::Serve(burst), Step::PublishDevice];
                [Step::AddEach(elements), Step::PublishDriver].into_iter().chain(serve).chain([Step::Reap(burst)])
            })
            .collect();
        run(&setup, &steps);
    }
}
