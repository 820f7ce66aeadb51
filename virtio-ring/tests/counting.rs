//! Exactly what a burst does to the ring: loads, stores and fences of either side.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;

use common::counting::{Counts, Watched, WatchedArea};
use common::guest::{
    BUFFER, INDIRECT, Memory, NEXT, RawPacked, RawRing, TABLE, WRITE, config, descriptor, memory, poke,
};
use common::peers::{List, Setup};
use virtio_ring::{
    AnyDevice, AnyDriver, ChainFault, ChainSink, DeviceRing, DriverRing, Element, Format, GuestAddr, HeapMemory,
    MappedArea, QueueState, SplitDevice, SplitDriver,
};

type Area = WatchedArea<MappedArea<HeapMemory>>;

struct Pair {
    driver_mem: Watched<Memory>,
    driver: AnyDriver<Area>,
    device_mem: Watched<Memory>,
    device: AnyDevice<Area>,
}

impl Pair {
    fn new(setup: Setup) -> Self {
        let mem = memory();
        let (driver_mem, device_mem) = (Watched::new(mem.clone()), Watched::new(mem));
        let driver = setup.driver(&driver_mem, (TABLE, 4));
        let device = setup.fresh_device(&device_mem);
        Self { driver_mem, driver, device_mem, device }
    }
}

/// Rings of 256 entries with and without the event index.
fn rings(format: Format) -> [Setup; 2] {
    [false, true].map(|event_idx| Setup { event_idx, ..Setup::new(format, 256) })
}

const ONE: [Element; 1] = [Element { addr: GuestAddr(BUFFER), len: 64, writable: true }];

/// A burst of `n` through a fresh pair, twice, so that nothing of the start is in the counts: one chain at a time, and in
/// the loops over a burst, which have to cost the same.
fn burst(setup: Setup, n: u64, elements: &[Element]) -> [Counts; 3] {
    let counts = one_by_one(setup, n, elements);
    assert_eq!(in_loops(setup, n, elements), counts, "loops over a burst of {n}, {setup:?}");
    counts
}

fn in_loops(setup: Setup, n: u64, elements: &[Element]) -> [Counts; 3] {
    let written = u32::from(elements.iter().any(|e| e.writable)) * 64;
    let mut pair = Pair::new(setup);
    let mut counts = [Counts::default(); 3];
    for _ in 0..2 {
        pair.driver_mem.take();
        if let [element] = elements {
            assert_eq!(pair.driver.add_each((0..n).map(|_| *element), |_| ()), n as usize);
        } else {
            (0..n).for_each(|_| _ = pair.driver.add(elements).unwrap());
        }
        let _ = pair.driver.flush();
        counts[0] = pair.driver_mem.take();

        pair.device_mem.take();
        let served = pair.device.serve(&pair.device_mem, &mut List::default(), n as usize, |list, _| {
            assert_eq!(std::mem::take(&mut list.0), elements);
            written
        });
        assert_eq!(served, Ok(n as usize));
        let _ = pair.device.flush();
        counts[1] = pair.device_mem.take();

        assert_eq!(pair.driver.reap_each(n as usize, |_| ()), Ok(n as usize));
        counts[2] = pair.driver_mem.take();
    }
    counts
}

fn one_by_one(setup: Setup, n: u64, elements: &[Element]) -> [Counts; 3] {
    let written = u32::from(elements.iter().any(|e| e.writable)) * 64;
    let mut pair = Pair::new(setup);
    let mut counts = [Counts::default(); 3];
    for _ in 0..2 {
        pair.driver_mem.take();
        for _ in 0..n {
            pair.driver.add(elements).unwrap();
        }
        let _ = pair.driver.flush();
        counts[0] = pair.driver_mem.take();

        pair.device_mem.take();
        let mut list = List(Vec::with_capacity(elements.len()));
        for _ in 0..n {
            list.0.clear();
            let token = pair.device.peek(&pair.device_mem, &mut list).unwrap().unwrap().accept();
            assert_eq!(list.0, elements);
            pair.device.complete(token, written);
        }
        let _ = pair.device.flush();
        counts[1] = pair.device_mem.take();

        for _ in 0..n {
            pair.driver.poll_used().unwrap().unwrap();
        }
        counts[2] = pair.driver_mem.take();
    }
    counts
}

#[test]
fn a_burst_of_single_buffers_costs_one_publication() {
    for setup in rings(Format::Split) {
        let event_idx = setup.event_idx;
        for n in [1, 32, 256] {
            let [add, serve, reap] = burst(setup, n, &ONE);
            // Per buffer: a descriptor of two words, and an entry of the available ring. Per burst: the index, the
            // fence, the device's event word.
            let expected = Counts {
                writes: 3 * n,
                written_bytes: 18 * n,
                store_release: 1,
                fences: 1,
                load_relaxed: 1,
                ..Counts::default()
            };
            assert_eq!(add, expected, "add and flush, burst {n}, event index {event_idx}");
            // Per buffer: the entry, the descriptor, and a used entry of two words. Per burst: the driver's index,
            // this side's index, the fence, the driver's event word.
            let expected = Counts {
                reads: 3 * n,
                read_bytes: 18 * n,
                writes: 2 * n,
                written_bytes: 8 * n,
                load_acquire: 1,
                store_release: 1,
                fences: 1,
                load_relaxed: 1,
                ..Counts::default()
            };
            assert_eq!(serve, expected, "peek, complete and flush, burst {n}, event index {event_idx}");
            // Per buffer: a used entry of two words. Per burst: the device's index.
            let expected = Counts { reads: 2 * n, read_bytes: 8 * n, load_acquire: 1, ..Counts::default() };
            assert_eq!(reap, expected, "poll_used, burst {n}, event index {event_idx}");
        }
    }
}

#[test]
fn a_packed_burst_of_single_buffers_costs_one_fence() {
    for in_order in [false, true] {
        for setup in rings(Format::Packed) {
            let setup = Setup { in_order, ..setup };
            for n in [1, 32, 256] {
                let [add, serve, reap] = burst(setup, n, &ONE);
                // Per buffer: an address and a tail. Per burst: the fence, the device's event word.
                let publish = Counts { store_release: n, fences: 1, load_relaxed: 1, ..Counts::default() };
                let expected = Counts { writes: n, written_bytes: 8 * n, ..publish };
                assert_eq!(add, expected, "add and flush, burst {n}, {setup:?}");
                // Per buffer: a tail and an address; the used entry's tail. Per burst: the fence, the driver's event word.
                let expected = Counts { load_acquire: n, reads: n, read_bytes: 8 * n, ..publish };
                assert_eq!(serve, expected, "peek, complete and flush, burst {n}, {setup:?}");
                // Per buffer: the used entry's tail.
                let expected = Counts { load_acquire: n, ..Counts::default() };
                assert_eq!(reap, expected, "poll_used, burst {n}, {setup:?}");
            }
        }
    }
}

/// A side that makes each chain visible at once, and asks for all of them together, pays for one fence and one event word.
#[test]
fn chains_published_one_by_one_cost_one_fence_together() {
    for format in [Format::Split, Format::Packed] {
        for setup in rings(format) {
            let mut pair = Pair::new(setup);
            pair.driver_mem.take();
            for _ in 0..32 {
                pair.driver.add(&ONE).unwrap();
                pair.driver.publish();
            }
            let counts = pair.driver_mem.take();
            assert_eq!((counts.fences, counts.load_relaxed, counts.store_release), (0, 0, 32), "{setup:?}");
            assert!(pair.driver.notify().is_needed());
            assert_eq!(pair.driver_mem.take(), Counts { fences: 1, load_relaxed: 1, ..Counts::default() });
            assert!(!pair.driver.notify().is_needed());

            pair.device_mem.take();
            for _ in 0..32 {
                let token = pair.device.peek(&pair.device_mem, &mut List::default()).unwrap().unwrap().accept();
                pair.device.complete(token, 0);
                pair.device.publish();
            }
            let counts = pair.device_mem.take();
            assert_eq!((counts.fences, counts.load_relaxed, counts.store_release), (0, 0, 32), "{setup:?}");
            assert!(pair.device.notify().is_needed());
            assert_eq!(pair.device_mem.take(), Counts { fences: 1, load_relaxed: 1, ..Counts::default() });
            assert!(!pair.device.notify().is_needed());
            assert_eq!(pair.device_mem.take(), Counts::default(), "nothing new, nothing asked");
        }
    }
}

/// In order, a burst of buffers without room comes back with one used entry, in either format.
#[test]
fn a_run_in_order_costs_one_entry() {
    let tx = [Element { writable: false, ..ONE[0] }];
    for n in [1, 32, 256] {
        for setup in rings(Format::Split) {
            let [_, serve, reap] = burst(Setup { in_order: true, ..setup }, n, &tx);
            let expected = Counts {
                reads: 3 * n,
                read_bytes: 18 * n,
                writes: 2,
                written_bytes: 8,
                load_acquire: 1,
                store_release: 1,
                fences: 1,
                load_relaxed: 1,
                ..Counts::default()
            };
            assert_eq!(serve, expected, "split, burst {n}");
            assert_eq!(
                reap,
                Counts { reads: 2, read_bytes: 8, load_acquire: 1, ..Counts::default() },
                "split, burst {n}"
            );
        }
        for setup in rings(Format::Packed) {
            let [_, serve, reap] = burst(Setup { in_order: true, ..setup }, n, &tx);
            let expected = Counts {
                load_acquire: n,
                reads: n,
                read_bytes: 8 * n,
                store_release: 1,
                fences: 1,
                load_relaxed: 1,
                ..Counts::default()
            };
            assert_eq!(serve, expected, "packed, burst {n}");
            assert_eq!(reap, Counts { load_acquire: 1, ..Counts::default() }, "packed, burst {n}");
        }
        // What could have been written to has an entry of its own.
        for format in [Format::Split, Format::Packed] {
            let [_, serve, reap] = burst(Setup { in_order: true, ..Setup::new(format, 256) }, n, &ONE);
            assert_eq!((serve.writes, serve.store_release), if format == Format::Split { (2 * n, 1) } else { (0, n) });
            assert_eq!((reap.reads, reap.load_acquire), if format == Format::Split { (2 * n, 1) } else { (0, n) });
        }
    }
}

#[test]
fn chains_cost_two_words_an_element() {
    let four = [0, 1, 2, 3].map(|i| Element { addr: GuestAddr(BUFFER + i * 64), len: 64, writable: i > 1 });
    for n in [1, 32] {
        let [add, serve, reap] = burst(rings(Format::Split)[1], n, &four);
        assert_eq!((add.writes, add.written_bytes, add.reads), (9 * n, 66 * n, 0));
        assert_eq!((serve.reads, serve.read_bytes, serve.writes), (9 * n, 66 * n, 2 * n));
        assert_eq!((serve.load_acquire, serve.store_release, serve.fences, serve.load_relaxed), (1, 1, 1, 1));
        assert_eq!((serve.translations, reap.reads, reap.fences), (0, 2 * n, 0));

        let [add, serve, reap] = burst(rings(Format::Packed)[1], n, &four);
        assert_eq!((add.writes, add.written_bytes, add.store_release, add.reads), (4 * n, 32 * n, 4 * n, 0));
        assert_eq!((serve.load_acquire, serve.reads, serve.store_release, serve.writes), (4 * n, 4 * n, n, 0));
        assert_eq!((serve.fences, serve.load_relaxed, serve.translations), (1, 1, 0));
        assert_eq!(reap, Counts { load_acquire: n, ..Counts::default() });
    }
}

#[test]
fn an_indirect_chain_costs_one_translation() {
    for (format, entry) in [(Format::Split, 2), (Format::Packed, 0)] {
        let mut pair = Pair::new(Setup { event_idx: true, indirect: true, ..Setup::new(format, 256) });
        let four = [0, 1, 2, 3].map(|i| Element { addr: GuestAddr(BUFFER + i * 64), len: 64, writable: i > 1 });
        pair.driver_mem.take();
        for _ in 0..32 {
            pair.driver.add(&four).unwrap();
        }
        let counts = pair.driver_mem.take();
        let (bytes, release) = (counts.written_bytes + 8 * counts.store_release, counts.store_release);
        // Four table entries, one descriptor (packed: its tail is a sync word, and the first one waits for the flush), and
        // in the split format an entry of the available ring.
        let waiting = if format == Format::Packed { 8 } else { 0 };
        assert_eq!((bytes, release), ((80 + entry) * 32 - waiting, if waiting > 0 { 31 } else { 0 }));
        let _ = pair.driver.flush();
        pair.device_mem.take();
        for _ in 0..32 {
            let mut list = List::default();
            let token = pair.device.peek(&pair.device_mem, &mut list).unwrap().unwrap().accept();
            assert_eq!(list.0, four);
            pair.device.complete(token, 0);
        }
        let counts = pair.device_mem.take();
        let expected = if format == Format::Split { (3 * 32, 32, 1) } else { (32, 32, 32) };
        assert_eq!((counts.reads, counts.translations, counts.load_acquire), expected);
    }
}

#[test]
fn an_empty_look_costs_one_load_and_an_empty_flush_nothing() {
    for setup in [rings(Format::Split), rings(Format::Packed)].concat() {
        let mut pair = Pair::new(setup);
        pair.device_mem.take();
        pair.driver_mem.take();
        let look = Counts { load_acquire: 1, ..Counts::default() };
        assert!(pair.device.peek(&pair.device_mem, &mut List::default()).unwrap().is_none());
        assert_eq!(pair.device_mem.take(), look);
        assert_eq!(pair.driver.poll_used(), Ok(None));
        assert_eq!(pair.driver_mem.take(), look);
        assert!(!pair.device.flush().is_needed());
        assert!(!pair.driver.flush().is_needed());
        assert_eq!((pair.device_mem.take(), pair.driver_mem.take()), Default::default());
    }
}

#[test]
fn going_to_sleep_costs_one_fence() {
    for setup in [rings(Format::Split), rings(Format::Packed)].concat() {
        let mut pair = Pair::new(setup);
        pair.device.disarm();
        pair.driver.disarm();
        pair.device_mem.take();
        pair.driver_mem.take();
        let sleep = Counts { store_relaxed: 1, fences: 1, load_acquire: 1, ..Counts::default() };
        assert!(pair.device.arm());
        assert!(pair.driver.arm());
        assert_eq!((pair.device_mem.take(), pair.driver_mem.take()), (sleep, sleep), "{setup:?}");
        // Waking up costs the event word only where there is a flag to set, and that once.
        let flag = setup.format == Format::Packed || !setup.event_idx;
        let wake = Counts { store_relaxed: u64::from(flag), ..Counts::default() };
        for _ in 0..2 {
            pair.device.disarm();
            pair.driver.disarm();
        }
        assert_eq!((pair.device_mem.take(), pair.driver_mem.take()), (wake, wake), "{setup:?}");
    }
}

/// V120 (FreeBSD-SA-24:17, double fetch): every second read of a word gives garbage, and nobody notices.
#[test]
fn every_word_of_a_chain_is_read_once() {
    for event_idx in [false, true] {
        let config = config(8, event_idx, true);
        let mem = Watched::new(memory()).evil();
        let raw = RawRing(config);
        let entries = [descriptor(BUFFER, 1, NEXT, 1), descriptor(BUFFER, 2, WRITE, 0)].concat();
        poke(&mem, TABLE, &entries);
        raw.desc(&mem, 0, (BUFFER, 10, NEXT, 5));
        raw.desc(&mem, 5, (BUFFER, 20, NEXT, 2));
        raw.desc(&mem, 2, (TABLE, 32, INDIRECT, 0));
        raw.desc(&mem, 1, (BUFFER, 40, WRITE, 0));
        raw.avail_entry(&mem, 0, 0);
        raw.avail_entry(&mem, 1, 1);
        raw.set_avail_idx(&mem, 2);
        let mut device = SplitDevice::new(&mem, &config, QueueState::default()).unwrap();
        mem.take();
        let mut list = List::default();
        for _ in 0..2 {
            let peeked = device.peek(&mem, &mut list).unwrap().unwrap();
            assert_eq!(peeked.fault(), None);
            let token = peeked.accept();
            device.complete(token, 0);
        }
        let _ = device.flush();
        let lens: Vec<u32> = list.0.iter().map(|e| e.len).collect();
        assert_eq!(lens, [10, 20, 1, 2, 40]);
        let reads = mem.reads();
        assert_eq!(reads.len(), 10, "two entries, four descriptors of two words");
        assert!(reads.values().all(|n| *n == 1), "{reads:?}");
        assert_eq!(mem.take().load_acquire, 1);
    }
}

/// V123: the same in a packed ring, whose tails are sync words: read once all the same.
#[test]
fn every_word_of_a_packed_chain_is_read_once() {
    for in_order in [false, true] {
        let setup = Setup { event_idx: true, indirect: true, in_order, ..Setup::new(Format::Packed, 5) };
        let mem = Watched::new(memory()).evil();
        let raw = RawPacked(setup.config());
        poke(&mem, TABLE, &[descriptor(BUFFER, 1, 0, 0), descriptor(BUFFER, 2, 0, WRITE)].concat());
        raw.desc(&mem, 0, (BUFFER, 10, 7, NEXT | RawPacked::AVAIL));
        raw.desc(&mem, 1, (BUFFER, 20, 8, NEXT | RawPacked::AVAIL));
        raw.desc(&mem, 2, (TABLE, 32, 9, INDIRECT | RawPacked::AVAIL));
        raw.desc(&mem, 3, (BUFFER, 40, 3, WRITE | RawPacked::AVAIL));
        let mut device = setup.fresh_device(&mem);
        mem.take();
        let mut list = List::default();
        for _ in 0..2 {
            let peeked = device.peek(&mem, &mut list).unwrap().unwrap();
            assert_eq!(peeked.fault(), None);
            let token = peeked.accept();
            device.complete(token, 0);
        }
        let _ = device.flush();
        let lens: Vec<u32> = list.0.iter().map(|e| e.len).collect();
        assert_eq!(lens, [10, 20, 1, 2, 40]);
        let reads = mem.reads();
        assert_eq!(reads.len(), 8, "four descriptors of two words");
        assert!(reads.values().all(|n| *n == 1), "{reads:?}");
        assert_eq!((raw.tail(&mem, 0), raw.tail(&mem, 3)), ((0, 9, 0x8080), (0, 3, 0x8080)));

        // And the driver reads every used entry once.
        let mem = Watched::new(memory()).evil();
        let mut driver = setup.driver(&mem, (TABLE, 4));
        for _ in 0..3 {
            driver.add(&ONE).unwrap();
        }
        let _ = driver.flush();
        for slot in 0..3 {
            raw.set_tail(&mem, slot, (slot.into(), slot, 0x8082));
        }
        mem.take();
        for id in 0..3_u16 {
            let used = driver.poll_used().unwrap().unwrap();
            assert_eq!((used.handle.0, used.len), (id, id.into()));
        }
        assert!(mem.reads().values().all(|n| *n == 1));
        assert_eq!((mem.reads().len(), mem.take()), (3, Counts { load_acquire: 3, ..Counts::default() }));
    }
}

/// V121: the driver reads every used entry once.
#[test]
fn every_used_entry_is_read_once() {
    for event_idx in [false, true] {
        let config = config(8, event_idx, true);
        let mem = Watched::new(memory()).evil();
        let raw = RawRing(config);
        let mut driver = SplitDriver::new(&mem, &config).unwrap();
        for _ in 0..3 {
            driver.add(&ONE).unwrap();
        }
        let _ = driver.flush();
        for (i, id) in [2, 0, 1].into_iter().enumerate() {
            raw.set_used_entry(&mem, i as u16, id, id);
        }
        raw.set_used_idx(&mem, 3);
        mem.take();
        for id in [2, 0, 1_u16] {
            let used = driver.poll_used().unwrap().unwrap();
            assert_eq!((used.handle.0, used.len), (id, id.into()));
        }
        assert!(mem.reads().values().all(|n| *n == 1));
        assert_eq!((mem.reads().len(), mem.take().load_acquire), (6, 1));
    }
}

/// V122: the entries of an indirect table change as soon as they are read: to a loop, to nonsense.
#[test]
fn a_table_that_changes_under_the_walk_is_walked_as_read() {
    struct Rewrites<'a> {
        mem: &'a Memory,
        seen: Vec<u32>,
    }
    impl ChainSink for Rewrites<'_> {
        fn push(&mut self, e: Element) -> Result<(), ChainFault> {
            let at = TABLE + 16 * self.seen.len() as u64;
            poke(self.mem, at, &descriptor(u64::MAX, u32::MAX, 0xFFFF, 0));
            self.seen.push(e.len);
            Ok(())
        }
    }
    for format in [Format::Split, Format::Packed] {
        let setup = Setup { event_idx: true, indirect: true, ..Setup::new(format, 8) };
        let mem = memory();
        if format == Format::Split {
            let raw = RawRing(setup.config());
            let (one, two) = (descriptor(BUFFER, 1, NEXT, 1), descriptor(BUFFER, 2, NEXT, 2));
            poke(&mem, TABLE, &[one, two, descriptor(BUFFER, 3, WRITE, 0)].concat());
            raw.desc(&mem, 0, (TABLE, 48, INDIRECT, 0));
            raw.set_avail_idx(&mem, 1);
        } else {
            let (one, two) = (descriptor(BUFFER, 1, 0, 0), descriptor(BUFFER, 2, 0, 0));
            poke(&mem, TABLE, &[one, two, descriptor(BUFFER, 3, 0, WRITE)].concat());
            RawPacked(setup.config()).desc(&mem, 0, (TABLE, 48, 0, INDIRECT | RawPacked::AVAIL));
        }
        let mut device = setup.fresh_device(&mem);
        let mut sink = Rewrites { mem: &mem, seen: Vec::new() };
        let peeked = device.peek(&mem, &mut sink).unwrap().unwrap();
        assert_eq!(peeked.fault(), None);
        let token = peeked.accept();
        device.complete(token, 0);
        assert_eq!(sink.seen, [1, 2, 3]);
    }
}
