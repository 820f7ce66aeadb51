//! `VIRTIO_F_ORDER_PLATFORM`: which fences are used, how often, and that traffic goes through them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::cell::Cell;

use common::counting::{Counts, Watched};
use common::peers::{List, Setup};
use virtio_ring::{
    Access, Chains, DeviceRing, DriverRing, Element, Fences, Format, GuestAddr, GuestMemory, HeapMemory, MappedArea,
    Ordered, OrderedArea, PlatformFences, PlatformOrdered,
};

const BUFFERS: u64 = 0x4_0000;
const TABLES: u64 = 0x2_0000;

thread_local! {
    static SEEN: Cell<Seen> = const { Cell::new(Seen { loads: 0, stores: 0, full: 0 }) };
}

/// Fences by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Seen {
    loads: u64,
    stores: u64,
    full: u64,
}

/// The platform's fences, counted.
struct Counted;

fn count(change: impl FnOnce(&mut Seen)) {
    let mut seen = SEEN.get();
    change(&mut seen);
    SEEN.set(seen);
}

impl Fences for Counted {
    fn after_load() {
        count(|s| s.loads += 1);
        PlatformFences::after_load();
    }
    fn before_store() {
        count(|s| s.stores += 1);
        PlatformFences::before_store();
    }
    fn full() {
        count(|s| s.full += 1);
        PlatformFences::full();
    }
}

fn setups() -> impl Iterator<Item = Setup> {
    [Format::Split, Format::Packed].into_iter().flat_map(|format| Setup::with_features(format, 32))
}

const CHAIN: [Element; 2] = [
    Element { addr: GuestAddr(BUFFERS), len: 8, writable: false },
    Element { addr: GuestAddr(BUFFERS + 64), len: 8, writable: true },
];

/// Three bursts of eight chains, with both sides going to sleep between them; what each side did.
fn session<M: GuestMemory>(setup: Setup, driver_mem: &M, device_mem: &M, mut look: impl FnMut(&str)) {
    let mut driver = setup.driver(driver_mem, (TABLES, 2));
    let mut device = setup.fresh_device(device_mem);
    look("set-up");
    for _ in 0..3 {
        assert!(driver.arm());
        for _ in 0..8 {
            driver.add(&CHAIN).unwrap();
        }
        let _ = driver.flush();
        look("driver");
        device.disarm();
        while let Some(peeked) = device.peek(device_mem, &mut List::default()).unwrap() {
            let token = peeked.accept();
            device.complete(token, 8);
        }
        let _ = device.flush();
        assert!(device.arm());
        look("device");
        while driver.poll_used().unwrap().is_some() {}
        look("driver");
    }
}

/// One fence for each ordered access, at its place; the memory below is asked for none of its own.
#[test]
fn every_ordered_access_has_its_fence() {
    for setup in setups() {
        let mem = || Watched::new(HeapMemory::zeroed(GuestAddr(0), 0x8_0000).unwrap());
        let plain = mem();
        let mut expected = Vec::new();
        session(setup, &plain, &plain, |_| expected.push(plain.take()));

        let below = mem();
        let ordered = Ordered::<_, Counted>::new(below.clone());
        let mut found = Vec::new();
        SEEN.take();
        session(setup, &ordered, &ordered, |who| found.push((who.to_owned(), below.take(), SEEN.take())));

        assert_eq!(found.len(), expected.len());
        for ((who, below, seen), plain) in found.into_iter().zip(expected) {
            assert_eq!(below, Counts { fences: 0, ..plain }, "{setup:?}, {who}: the same accesses");
            let fences = Seen { loads: plain.load_acquire, stores: plain.store_release, full: plain.fences };
            assert_eq!(seen, fences, "{setup:?}, {who}");
            assert!(
                who == "set-up" || seen.loads > 0 && (seen.full > 0 || who == "driver"),
                "{setup:?}, {who}: {seen:?}"
            );
        }
    }
}

/// Two fences are there for each burst of each side, at the least: the one of `flush` and the one of `arm`.
#[test]
fn the_full_fences_are_the_platforms() {
    for setup in setups() {
        let heap = HeapMemory::zeroed(GuestAddr(0), 0x8_0000).unwrap();
        let ordered = Ordered::<_, Counted>::new(heap);
        SEEN.take();
        session(setup, &ordered, &ordered, |_| {});
        assert_eq!(SEEN.take().full, 3 * 4, "{setup:?}");
    }
}

/// The wrapper adds nothing to a ring: no byte, no access.
#[test]
fn the_wrapper_has_no_size() {
    type Area = MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;
    assert_eq!(size_of::<OrderedArea<Area, PlatformFences>>(), size_of::<Area>());
    assert_eq!(size_of::<PlatformOrdered<HeapMemory>>(), size_of::<HeapMemory>());
}

/// Two threads, one of each side, on memory that has the platform's fences: what was written is what is read.
#[test]
fn traffic_between_two_threads() {
    const CHAINS: u64 = if cfg!(miri) { 100 } else { 20_000 };
    for setup in setups() {
        let mem = PlatformOrdered::new(HeapMemory::zeroed(GuestAddr(0), 0x8_0000).unwrap());
        let mut driver = setup.driver(&mem, (TABLES, 2));
        let device = setup.fresh_device(&mem);
        let slot = |n: u64| BUFFERS + n % 64 * 128;
        let device_mem = mem.clone();
        let thread = std::thread::spawn(move || {
            let mut device = device;
            let mut chains = Chains::new(device_mem, 8);
            let mut next = 0_u64;
            while next < CHAINS {
                if chains.fill(&mut device).unwrap() == 0 {
                    std::thread::yield_now();
                }
                while !chains.is_empty() {
                    let view = chains.view();
                    let chain = &view.chains()[0];
                    let mut word = [0; 8];
                    view.readable(chain)[0].read(&mut word);
                    assert_eq!(u64::from_le_bytes(word), next);
                    view.writable(chain)[0].write(&(!next).to_le_bytes());
                    device.complete(chains.pop().unwrap(), 8);
                    next += 1;
                }
                let _ = device.flush();
            }
        });
        let (mut sent, mut reaped) = (0, 0);
        while reaped < CHAINS {
            while sent < CHAINS && sent - reaped < 64 {
                let chain = CHAIN.map(|e| Element { addr: GuestAddr(slot(sent) + e.addr.0 - BUFFERS), ..e });
                if driver.free_slots() < 2 {
                    break;
                }
                mem.translate(GuestAddr(slot(sent)), 8, Access::Write).unwrap().write(&sent.to_le_bytes());
                driver.add(&chain).unwrap();
                sent += 1;
            }
            let _ = driver.flush();
            while let Some(used) = driver.poll_used().unwrap() {
                let mut word = [0; 8];
                mem.translate(GuestAddr(slot(reaped) + 64), 8, Access::Read).unwrap().read(&mut word);
                assert_eq!((used.len, u64::from_le_bytes(word)), (8, !reaped), "{setup:?}");
                reaped += 1;
            }
            std::thread::yield_now();
        }
        thread.join().unwrap();
    }
}
