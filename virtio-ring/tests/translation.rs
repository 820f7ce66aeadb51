//! `VIRTIO_F_ACCESS_PLATFORM`: translations that are not there yet. A chain that misses one stays where it is, whole, and
//! is taken once when all of it is known; nothing is lost, doubled or overtaken.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::collections::VecDeque;

use common::guest::{bytes, changed, memory, poke, snapshot};
use common::iotlb::{Iotlb, PAGE, Perm};
use common::peers::{List, Setup};
use proptest::prelude::*;
use virtio_ring::{
    Access, AnyDevice, AnyDriver, ChainFault, ChainSink, Chains, DeviceRing, DriverRing, Element, Fault, Format,
    GuestAddr, GuestMemory, GuestSlice, Handle, HeapMemory, MappedArea, QueueConfig, RingError, Used,
};

/// Rings are identity-mapped below this; so are tables, from `TABLES` on.
const RINGS: u64 = 0x1_0000;
const TABLES: u64 = 0x1_0000;
const TABLES_LEN: u64 = 0x1_0000;
/// Buffers by the device's addresses, and where they are.
const IOVA: u64 = 0x7_0000_0000;
const BUFFERS: u64 = 0x2_0000;
/// Pages of buffers.
const PAGES: u64 = 256;
/// Mapped without any permission.
const BARRED: u64 = 0x6_0000_0000;

/// Neighbours among the device's addresses are no neighbours in memory.
fn guest_page(page: u64) -> u64 {
    BUFFERS + (page ^ 0x2a) * PAGE
}

fn both_formats() -> impl Iterator<Item = Setup> {
    [Format::Split, Format::Packed].into_iter().flat_map(|format| Setup::with_features(format, 8))
}

/// Entries of an indirect table: two tables a page and a half apart, so that some lie over a border.
const ENTRIES: u16 = 5;

struct Pair {
    setup: Setup,
    plain: HeapMemory,
    tlb: Iotlb<HeapMemory>,
    driver: AnyDriver<MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>>,
    device: AnyDevice<MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>>,
}

impl Pair {
    /// Rings are known, buffers and tables are not.
    fn new(setup: Setup) -> Self {
        let plain = HeapMemory::zeroed(GuestAddr(0), (BUFFERS + PAGES * PAGE) as usize).unwrap();
        let tlb = Iotlb::new(plain.clone());
        assert!(tlb.update(0, RINGS, 0, Perm::Both));
        assert!(tlb.update(BARRED, PAGE, BUFFERS, Perm::None));
        // Table 1 lies over the border of two pages.
        let driver = setup.driver(&plain, (TABLES + PAGE - 16 * u64::from(ENTRIES) - 32, ENTRIES));
        let device = setup.fresh_device(&tlb);
        Self { setup, plain, tlb, driver, device }
    }

    fn map(&self, page: u64) {
        assert!(self.tlb.update(IOVA + page * PAGE, PAGE, guest_page(page), Perm::Both));
    }

    fn map_tables(&self) {
        assert!(self.tlb.update(TABLES, TABLES_LEN, TABLES, Perm::Read));
    }

    /// What a front end does with a miss.
    fn answer(&self, miss: Fault) {
        let page = miss.addr.0 / PAGE * PAGE;
        if page >= IOVA {
            self.map((page - IOVA) / PAGE);
        } else {
            assert!((TABLES..TABLES + TABLES_LEN).contains(&page), "{miss:?}");
            assert!(self.tlb.update(page, PAGE, page, Perm::Read));
        }
    }

    fn peek(&mut self) -> Option<Vec<Element>> {
        let mut list = Touch { mem: &self.tlb, list: List::default() };
        let peeked = self.device.peek(&self.tlb, &mut list).unwrap()?;
        assert_eq!(peeked.fault(), None);
        Some(list.list.0)
    }
}

/// Wants every byte of every element.
struct Touch<'m, M> {
    mem: &'m M,
    list: List,
}

impl<M: GuestMemory> ChainSink for Touch<'_, M> {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        let access = if e.writable { Access::Write } else { Access::Read };
        let (mut at, mut left) = (e.addr.0, e.len as usize);
        while left > 0 {
            let n = self.mem.translate(GuestAddr(at), left, access)?.len();
            at += n as u64;
            left -= n;
        }
        self.list.push(e)
    }
}

const fn element(page: u64, offset: u64, len: u32, writable: bool) -> Element {
    Element { addr: GuestAddr(IOVA + page * PAGE + offset), len, writable }
}

/// Two elements within a page, one over a border, each in pages of its own.
const CHAIN: [Element; 3] = [element(0, 8, 100, false), element(2, 4000, 200, false), element(5, 0, 60, true)];

/// Every page of a chain is missed once, whichever it is, and the chain stays as it is until the last one is there.
#[test]
fn a_chain_that_misses_stays_at_the_front() {
    for setup in both_formats() {
        let mut pair = Pair::new(setup);
        for lap in 0..20 {
            let handle = pair.driver.add(&CHAIN).unwrap();
            let _ = pair.driver.flush();
            let state = pair.device.state();
            let before = bytes(&pair.plain, 0, RINGS as usize);
            let mut misses = Vec::new();
            let seen = loop {
                if let Some(seen) = pair.peek() {
                    break seen;
                }
                let miss = pair.device.missing().unwrap();
                assert_eq!(pair.tlb.misses().last(), Some(&miss));
                assert_eq!(pair.peek(), None, "and it misses the same again");
                assert_eq!(pair.device.missing(), Some(miss));
                assert!(!pair.device.arm(), "there is a chain");
                pair.device.disarm();
                assert_eq!((pair.device.state(), pair.device.fault()), (state, None));
                assert!(!pair.device.flush().is_needed());
                misses.push(miss);
                pair.answer(miss);
            };
            assert_eq!(seen, CHAIN);
            if lap == 0 && !setup.indirect {
                let expected = [(0, 8, 100, Access::Read), (2, 4000, 200, Access::Read)];
                let at =
                    |(page, offset, len, access)| Fault::missing(GuestAddr(IOVA + page * PAGE + offset), len, access);
                let rest = [(3, 0, 104, Access::Read), (5, 0, 60, Access::Write)];
                assert_eq!(misses, expected.into_iter().chain(rest).map(at).collect::<Vec<_>>());
            }
            assert!(misses.len() >= 4, "{misses:?}");
            let event = pair.setup.config().device.0 as usize;
            let same = |(i, (a, b)): (usize, (&u8, &u8))| a == b || (event..event + 80).contains(&i);
            let after = bytes(&pair.plain, 0, RINGS as usize);
            assert!(before.iter().zip(&after).enumerate().all(same), "the device wrote only what it wants to be told");
            let mut list = List::default();
            let token = pair.device.peek(&pair.tlb, &mut list).unwrap().unwrap().accept();
            pair.device.complete(token, 60);
            assert_eq!(pair.peek(), None);
            assert_eq!(pair.device.missing(), None, "empty is not missing");
            let _ = pair.device.flush();
            assert!(pair.device.arm());
            assert_eq!(pair.driver.poll_used(), Ok(Some(Used { handle, len: 60 })));
            pair.tlb.invalidate(IOVA, PAGES * PAGE);
            pair.tlb.invalidate(TABLES, TABLES_LEN);
        }
    }
}

/// A pool keeps what it has, stops at the chain that misses, and goes on there.
#[test]
fn a_pool_keeps_what_is_before_a_miss() {
    for setup in both_formats() {
        let mut pair = Pair::new(setup);
        pair.map_tables();
        let mut chains = Chains::new(pair.tlb.clone(), 8);
        let one = |page: u64| [element(page, 0, 300, false)];
        let two = |page: u64| [element(page, 4095, 2, false), element(page + 8, 0, 5, true)];
        pair.map(1);
        for page in [10, 11, 18] {
            pair.map(page);
        }
        let sent =
            [pair.driver.add(&one(1)), pair.driver.add(&two(10)), pair.driver.add(&two(20)), pair.driver.add(&one(1))];
        let _ = pair.driver.flush();
        for _ in 0..3 {
            assert_eq!(chains.fill(&mut pair.device), Ok(2));
            assert_eq!(
                pair.device.missing(),
                Some(Fault::missing(GuestAddr(IOVA + 20 * PAGE + 4095), 2, Access::Read))
            );
        }
        pair.map(20);
        assert_eq!(chains.fill(&mut pair.device), Ok(2));
        assert_eq!(pair.device.missing(), Some(Fault::missing(GuestAddr(IOVA + 21 * PAGE), 1, Access::Read)));
        // What is held is given back, looked at again, and still held up by the same.
        chains.rewind(&mut pair.device);
        assert_eq!(chains.fill(&mut pair.device), Ok(2));
        for page in [21, 28] {
            pair.map(page);
        }
        assert_eq!(chains.fill(&mut pair.device), Ok(4));
        let view = chains.view();
        let lens = |segs: &[GuestSlice<'_>]| segs.iter().map(GuestSlice::len).collect::<Vec<_>>();
        let shapes: Vec<_> = view.chains().iter().map(|c| (lens(view.readable(c)), lens(view.writable(c)))).collect();
        let of_two = (vec![1, 1], vec![5]);
        assert_eq!(shapes, [(vec![300], vec![]), of_two.clone(), of_two, (vec![300], vec![])]);
        for handle in sent {
            let written = if chains.view().chains()[0].writable_len() > 0 { 5 } else { 0 };
            pair.device.complete(chains.pop().unwrap(), written);
            let _ = pair.device.flush();
            assert_eq!(pair.driver.poll_used(), Ok(Some(Used { handle: handle.unwrap(), len: written })));
        }
    }
}

/// The loop over a burst ends before a chain that misses something, single or not, and goes on there.
#[test]
fn a_burst_ends_before_a_miss() {
    for setup in both_formats() {
        let mut pair = Pair::new(setup);
        pair.map_tables();
        pair.map(0);
        let chains =
            [vec![element(0, 0, 1, true)], vec![element(2, 0, 2, true)], CHAIN.to_vec(), vec![element(0, 0, 3, true)]];
        for chain in &chains {
            pair.driver.add(chain).unwrap();
        }
        let _ = pair.driver.flush();
        let (mut served, mut looks) = (Vec::new(), 0);
        while served.len() < chains.len() {
            looks += 1;
            let mut sink = Touch { mem: &pair.tlb, list: List::default() };
            let count = pair.device.serve(&pair.tlb, &mut sink, 10, |sink, fault| {
                assert_eq!(fault, None);
                served.push(std::mem::take(&mut sink.list.0));
                0
            });
            let _ = pair.device.flush();
            if count == Ok(0) {
                let miss = pair.device.missing().unwrap();
                assert!(!pair.device.arm());
                pair.answer(miss);
            }
        }
        assert_eq!(served, chains, "{setup:?}");
        // Three pages were missing, and before each of the first two something was served.
        assert_eq!(looks, 6, "{setup:?}");
        let mut sink = List::default();
        assert_eq!(pair.device.serve(&pair.tlb, &mut sink, 10, |_, _| 0), Ok(0));
        assert_eq!(pair.device.missing(), None);
        assert_eq!(std::iter::from_fn(|| pair.driver.poll_used().unwrap()).count(), 4);
        assert!(pair.device.arm());
    }
}

#[test]
fn what_is_forbidden_is_not_missing() {
    for setup in both_formats() {
        let mut pair = Pair::new(setup);
        pair.map_tables();
        let mut chains = Chains::new(pair.tlb.clone(), 8);
        let barred = Element { addr: GuestAddr(BARRED), len: 10, writable: false };
        pair.driver.add(&[element(0, 0, 10, false), barred]).unwrap();
        let _ = pair.driver.flush();
        assert_eq!(chains.fill(&mut pair.device), Ok(0), "the first element comes first");
        assert!(pair.device.missing().is_some());
        pair.map(0);
        assert_eq!(chains.fill(&mut pair.device), Ok(1));
        assert_eq!(pair.device.missing(), None);
        let fault = Fault::forbidden(GuestAddr(BARRED), 10, Access::Read);
        assert_eq!(chains.take_fault(), Some(ChainFault::Unmapped(fault)));
        assert!(chains.view().chains()[0].is_faulty());
    }
}

/// Every area, from both sides: nothing is written before all three are there.
#[test]
fn ring_areas_that_are_missing_are_named() {
    for setup in both_formats() {
        let plain = memory();
        let tlb = Iotlb::new(plain.clone());
        // Far from each other, and two pages each.
        let at = |n: u64| GuestAddr(IOVA + n * 0x10_0000);
        let guest = |n: u64| 0x2000 + n * 0x1_0000;
        let config = QueueConfig { desc: at(0), driver: at(1), device: at(2), size: 512, ..setup.config() };
        let used_ring: &[u64] = if setup.format == Format::Split { &[2, 2] } else { &[2] };
        for &n in [0, 0, 1].iter().chain(used_ring) {
            let before = snapshot(&plain);
            let missing = |error: Option<RingError>| error.and_then(RingError::missing).unwrap();
            let from_device = missing(AnyDevice::new(&tlb, setup.format, &config, setup.format.start()).err());
            let from_driver = missing(AnyDriver::new(&tlb, setup.format, &config).err());
            assert_eq!((from_device, from_device.missing), (from_driver, true));
            assert!(changed(&before, &snapshot(&plain)).is_empty());
            assert!((at(n)..=GuestAddr(at(n).0 + PAGE)).contains(&from_device.addr), "{n}: {from_device}");
            // A page at a time.
            let page = from_device.addr.0 - at(n).0;
            assert!(tlb.update(at(n).0 + page, PAGE, guest(n) + page, Perm::Both));
        }
        let mut driver = AnyDriver::new(&tlb, setup.format, &config).unwrap();
        let mut device = AnyDevice::resume(&tlb, setup.format, &config, setup.format.start()).unwrap();
        // Tables of the driver as well.
        let error = AnyDriver::new(&tlb, setup.format, &config).unwrap().with_indirect(&tlb, at(3), 4).err();
        assert_eq!(error.and_then(RingError::missing).map(|f| f.addr), Some(at(3)));
        assert!(tlb.update(at(4).0, PAGE, guest(4), Perm::Both));
        let handle = driver.add(&[Element { addr: at(4), len: 7, writable: true }]).unwrap();
        let _ = driver.flush();
        let token = device.peek(&tlb, &mut List::default()).unwrap().unwrap().accept();
        device.complete(token, 7);
        let _ = device.flush();
        assert_eq!(driver.poll_used(), Ok(Some(Used { handle, len: 7 })));
    }
}

#[test]
fn what_is_missing_is_said_in_words() {
    let miss = Fault::missing(GuestAddr(0x1000), 5, Access::Write);
    assert_eq!(miss.to_string(), "guest memory 0x1000 (+5 bytes) is not translated yet for Write");
    let forbidden = Fault::forbidden(GuestAddr(0x1000), 5, Access::Read);
    assert_eq!(forbidden.to_string(), "guest memory 0x1000 (+5 bytes) is not accessible for Read");
    assert_eq!((RingError::from(miss).missing(), RingError::from(forbidden).missing()), (Some(miss), None));
    assert_eq!((ChainFault::from(miss).missing(), ChainFault::from(forbidden).missing()), (Some(miss), None));
    assert_eq!((ChainFault::Indirect.missing(), RingError::Size { size: 3 }.missing()), (None, None));
}

/// What happens in a session. Pages are those of buffers, and behind them those of tables.
#[derive(Clone, Debug)]
enum Op {
    /// Offset, length and kind of each element: each has two pages.
    Add(Vec<(u64, u32)>, usize),
    /// A chain with an element that nobody may read.
    AddBarred,
    DriverFlush,
    Poll,
    Peek,
    Fill,
    Complete(usize),
    DeviceFlush,
    /// The front end answers the miss.
    Answer,
    Map(u64),
    /// The front end takes translations away: this many pages.
    Invalidate(u64, u64),
    Rewind,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let element = (0..PAGE, 1..=PAGE as u32);
    prop_oneof![
        8 => (prop::collection::vec(element, 1..=4), 0..=4_usize).prop_map(|(e, readable)| Op::Add(e, readable)),
        1 => Just(Op::AddBarred),
        5 => Just(Op::DriverFlush),
        6 => Just(Op::Poll),
        4 => Just(Op::Peek),
        8 => Just(Op::Fill),
        6 => (0..4_usize).prop_map(Op::Complete),
        4 => Just(Op::DeviceFlush),
        12 => Just(Op::Answer),
        6 => (0..PAGES + 16).prop_map(Op::Map),
        2 => (0..PAGES + 16, prop_oneof![3 => 0..4_u64, 1 => Just(PAGES)]).prop_map(|(page, n)| Op::Invalidate(page, n)),
        1 => Just(Op::Rewind),
        1 => Just(Op::Restart),
    ]
}

struct Sent {
    serial: u64,
    handle: Handle,
    elements: Vec<Element>,
    barred: bool,
}

/// One session beside the only thing that has to be true of it: chains go through in the order in which they came.
struct Session {
    pair: Pair,
    chains: Chains<Iotlb<HeapMemory>>,
    /// Added and not reaped; the first `taken` of them were completed.
    sent: VecDeque<Sent>,
    taken: usize,
    serial: u64,
    reaped: u64,
}

fn pattern(serial: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (serial.wrapping_mul(31) as usize).wrapping_add(i) as u8).collect()
}

impl Session {
    fn new(setup: Setup) -> Self {
        let pair = Pair::new(setup);
        let chains = Chains::new(pair.tlb.clone(), 4);
        Self { pair, chains, sent: VecDeque::new(), taken: 0, serial: 0, reaped: 0 }
    }

    /// The bytes of elements as the driver sees them.
    fn spots(elements: &[Element], writable: bool) -> impl Iterator<Item = u64> {
        let all = elements.iter().filter(move |e| e.writable == writable && e.addr.0 >= IOVA);
        all.flat_map(|e| (0..u64::from(e.len)).map(move |i| e.addr.0 - IOVA + i))
            .map(|at| guest_page(at / PAGE) + at % PAGE)
    }

    fn add(&mut self, elements: Vec<Element>, barred: bool) {
        let readable: Vec<u64> = Self::spots(&elements, false).collect();
        for (at, byte) in readable.iter().zip(pattern(self.serial, readable.len())) {
            poke(&self.pair.plain, *at, &[byte]);
        }
        if let Ok(handle) = self.pair.driver.add(&elements) {
            self.sent.push_back(Sent { serial: self.serial, handle, elements, barred });
            self.serial += 1;
        }
    }

    /// A chain of its own pages, eight of them.
    fn chain(&self, shape: &[(u64, u32)], readable: usize) -> Vec<Element> {
        let first = self.serial % 32 * 8;
        let element_of =
            |(i, &(offset, len)): (usize, &(u64, u32))| element(first + 2 * i as u64, offset, len, i >= readable);
        shape.iter().enumerate().map(element_of).collect()
    }

    fn fill(&mut self) {
        let before = self.chains.len();
        let held = self.chains.fill(&mut self.pair.device).unwrap();
        assert!(held >= before);
    }

    fn complete_one(&mut self) -> bool {
        let view = self.chains.view();
        let Some(chain) = view.chains().first() else { return false };
        let sent = &self.sent[self.taken];
        assert_eq!(chain.is_faulty(), sent.barred, "chain {}", sent.serial);
        let mut written = 0;
        if !sent.barred {
            let mut data = vec![0; chain.readable_len() as usize];
            let mut at = 0;
            for seg in view.readable(chain) {
                at += seg.read(&mut data[at..]);
            }
            assert_eq!(data, pattern(sent.serial, data.len()), "chain {}", sent.serial);
            let reply = pattern(!sent.serial, chain.writable_len() as usize);
            for seg in view.writable(chain) {
                written += seg.write(&reply[written..]);
            }
            assert_eq!(written, reply.len());
        }
        let token = self.chains.pop().unwrap();
        self.pair.device.complete(token, written as u32);
        self.taken += 1;
        true
    }

    fn poll(&mut self) -> bool {
        let Some(used) = self.pair.driver.poll_used().unwrap() else { return false };
        assert!(self.taken > 0, "nothing was completed");
        let sent = self.sent.pop_front().unwrap();
        self.taken -= 1;
        assert_eq!(used.handle, sent.handle);
        let room = sent.elements.iter().filter(|e| e.writable).map(|e| e.len).sum::<u32>();
        assert_eq!(used.len, if sent.barred { 0 } else { room });
        if !sent.barred {
            let spots = Self::spots(&sent.elements, true);
            let found: Vec<u8> = spots.map(|at| bytes(&self.pair.plain, at, 1)[0]).collect();
            assert_eq!(found, pattern(!sent.serial, found.len()), "chain {}", sent.serial);
        }
        self.reaped += 1;
        true
    }

    /// Answers what the ring misses; false if it misses nothing.
    fn answer(&mut self) -> bool {
        let Some(miss) = self.pair.device.missing() else { return false };
        assert!(miss.missing);
        self.pair.answer(miss);
        true
    }

    /// A page of the buffers or of the tables.
    fn page(n: u64) -> u64 {
        if n < PAGES { IOVA + n * PAGE } else { TABLES + (n - PAGES) * PAGE }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Add(shape, readable) => self.add(self.chain(shape, *readable), false),
            Op::AddBarred => {
                let barred = Element { addr: GuestAddr(BARRED), len: 9, writable: true };
                let first = self.chain(&[(100, 50)], 1);
                self.add([first, vec![barred]].concat(), true);
            }
            Op::DriverFlush => {
                let _ = self.pair.driver.flush();
            }
            Op::Poll => {
                self.poll();
            }
            Op::Peek => {
                // With nothing held the front is what comes next; a chain is seen whole or not at all.
                let expected = self.sent.get(self.taken + self.chains.len()).map(|sent| sent.elements.clone());
                let mut list = Touch { mem: &self.pair.tlb, list: List::default() };
                if let Some(peeked) = self.pair.device.peek(&self.pair.tlb, &mut list).unwrap()
                    && !peeked.is_faulty()
                {
                    assert_eq!(Some(list.list.0), expected);
                }
            }
            Op::Fill => self.fill(),
            Op::Complete(n) => {
                for _ in 0..=*n {
                    self.complete_one();
                }
            }
            Op::DeviceFlush => {
                let _ = self.pair.device.flush();
            }
            Op::Answer => {
                self.answer();
            }
            Op::Map(n) => {
                let page = Self::page(*n);
                self.pair.answer(Fault::missing(GuestAddr(page), 1, Access::Read));
            }
            Op::Invalidate(n, pages) => {
                // What was translated is given back before it is confirmed.
                self.chains.rewind(&mut self.pair.device);
                self.pair.tlb.invalidate(Self::page(*n), pages * PAGE);
            }
            Op::Rewind => self.chains.rewind(&mut self.pair.device),
            Op::Restart => {
                self.chains.rewind(&mut self.pair.device);
                let _ = self.pair.device.flush();
                self.pair.device = self.pair.setup.device(&self.pair.tlb, self.pair.device.state());
            }
        }
    }

    /// Everything goes through, with one answer to each miss.
    fn drain(&mut self) {
        let _ = self.pair.driver.flush();
        // A chain of four elements over two pages each, in a table over two.
        let mut budget = 12 * self.sent.len();
        while !self.sent.is_empty() {
            self.fill();
            // A pool that holds something may be too full to look for more.
            let idle = self.chains.is_empty();
            while self.complete_one() {}
            let _ = self.pair.device.flush();
            while self.poll() {}
            if idle && self.answer() {
                assert!(budget > 0, "more misses than there is to miss");
                budget -= 1;
                assert!(!self.pair.device.arm(), "a chain is there");
            }
        }
        assert_eq!(self.reaped, self.serial);
        self.fill();
        assert!(self.chains.is_empty() && self.pair.device.missing().is_none() && self.pair.device.arm());
    }
}

fn set_up(format: Format) -> impl Strategy<Value = Setup> {
    let size = match format {
        Format::Split => (0..=4_u32).prop_map(|shift| 1 << shift).boxed(),
        Format::Packed => (1..=16_u16).boxed(),
    };
    (size, any::<[bool; 3]>()).prop_map(move |(size, [event_idx, indirect, in_order])| Setup {
        format,
        size,
        event_idx,
        indirect,
        in_order,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_chain_is_lost_doubled_or_overtaken(
        setup in prop_oneof![set_up(Format::Split), set_up(Format::Packed)],
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut session = Session::new(setup);
        for op in &ops {
            session.step(op);
        }
        session.drain();
    }
}
