//! `VIRTIO_F_RING_RESET`: one queue is taken back in the middle of its traffic and begins anew, others go on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use common::guest::{RawPacked, RawRing, bytes};
use common::peers::Setup;
use virtio_ring::{
    AnyDevice, AnyDriver, Chains, DeviceRing, DriverRing, Element, Format, GuestAddr, GuestMemory, Handle, HeapBlock,
    HeapMemory, MappedArea, Notify, QueueConfig, RingError, Token, Used,
};

type Area = MappedArea<Arc<HeapBlock>>;

const TABLES: u64 = 0x4_0000;
const ENTRIES: u16 = 3;
const BUFFERS: u64 = 0x8_0000;
/// From the ring of one queue to that of the next.
const APART: u64 = 0x1_0000;

fn mem() -> HeapMemory {
    HeapMemory::zeroed(GuestAddr(0), 0x10_0000).unwrap()
}

/// One queue with both of its sides.
struct Queue {
    mem: HeapMemory,
    setup: Setup,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
    chains: Chains<HeapMemory>,
    out: VecDeque<Handle>,
    serial: u64,
}

impl Queue {
    fn new(mem: &HeapMemory, setup: Setup, number: u64) -> Self {
        let config = Self::config(setup, number);
        let mut driver = AnyDriver::new(mem, setup.format, &config).unwrap();
        if setup.indirect {
            driver = driver.with_indirect(mem, GuestAddr(TABLES + number * APART), ENTRIES).unwrap();
        }
        let device = AnyDevice::new(mem, setup.format, &config, setup.format.start()).unwrap();
        let chains = Chains::new(mem.clone(), 4);
        Self { mem: mem.clone(), setup, driver, device, chains, out: VecDeque::new(), serial: 0 }
    }

    fn config(setup: Setup, number: u64) -> QueueConfig {
        let (config, _) = setup.format.layout(GuestAddr(0x1000 + number * APART), setup.size);
        QueueConfig { event_idx: setup.event_idx, indirect: setup.indirect, in_order: setup.in_order, ..config }
    }

    /// A chain of one to three elements; false if the ring is full.
    fn add(&mut self) -> bool {
        let n = 1 + self.serial % u64::from(self.setup.size.min(3));
        let element = |i: u64| Element { addr: GuestAddr(BUFFERS + 64 * i), len: 10 + i as u32, writable: i > 0 };
        let elements: Vec<_> = (0..n).map(element).collect();
        let Ok(handle) = self.driver.add(&elements) else { return false };
        self.serial += 1;
        self.out.push_back(handle);
        true
    }

    fn complete(&mut self) {
        let written = self.chains.view().chains()[0].writable_len();
        let token = self.chains.pop().unwrap();
        self.device.complete(token, written);
    }

    fn reap(&mut self) {
        while let Some(Used { handle, .. }) = self.driver.poll_used().unwrap() {
            assert_eq!(Some(handle), self.out.pop_front());
        }
    }

    /// Some laps.
    fn traffic(&mut self) {
        for _ in 0..3 * u32::from(self.setup.size) {
            while self.add() {}
            assert_eq!(self.driver.flush(), Notify::Needed);
            assert!(!self.driver.flush().is_needed());
            while self.chains.fill(&mut self.device).unwrap() > 0 {
                self.complete();
            }
            assert!(self.device.arm());
            let _ = self.device.flush();
            self.reap();
            assert!(self.driver.arm());
            assert_eq!((self.out.len(), self.driver.free_slots()), (0, self.setup.size));
        }
    }

    /// Chains in every state in which a chain can be: used and not seen, used and not published, held, published, added.
    fn mid_flight(&mut self, amount: usize) {
        let add = |queue: &mut Self| {
            for _ in 0..amount {
                queue.add();
            }
        };
        add(self);
        let _ = self.driver.flush();
        self.chains.fill(&mut self.device).unwrap();
        if self.chains.len() > 1 {
            self.complete();
            let _ = self.device.flush();
        }
        if self.chains.len() > 1 {
            self.complete();
        }
        add(self);
        let _ = self.driver.flush();
        self.driver.disarm();
        self.device.disarm();
        add(self);
    }

    /// What both sides do once the driver asked for a reset.
    fn reset(&mut self) {
        self.chains.reset(&mut self.device);
        assert_eq!(self.device.state(), self.setup.format.start());
        assert!(self.chains.is_empty());
        let mut back = Vec::new();
        self.driver.reset(|handle| back.push(handle));
        let once: BTreeSet<u16> = back.iter().map(|h| h.0).collect();
        assert_eq!(once.len(), back.len(), "every chain once");
        assert_eq!(once, self.out.drain(..).map(|h| h.0).collect(), "and every chain");
        assert_eq!(self.driver.free_slots(), self.setup.size);
        assert_eq!(self.driver.poll_used(), Ok(None));
        self.driver.reset(|handle| panic!("{handle:?} again"));
        self.serial = 0;
    }
}

fn setups() -> impl Iterator<Item = Setup> {
    let sizes = [1, 2, 3, 7, 8, 64].into_iter();
    let all = sizes.flat_map(|size| [Format::Split, Format::Packed].map(|format| (format, size)));
    let legal = all.filter(|(format, size)| *format == Format::Packed || u16::is_power_of_two(*size));
    legal.flat_map(|(format, size)| Setup::with_features(format, size))
}

#[test]
fn g9_a_queue_begins_anew_in_the_middle_of_its_traffic() {
    for setup in setups() {
        let mem = mem();
        let mut queue = Queue::new(&mem, setup, 0);
        let mut other = Queue::new(&mem, Setup { size: 8, ..setup }, 1);
        for amount in [0, 1, 2, 5, 100] {
            queue.traffic();
            queue.mid_flight(amount);
            other.mid_flight(2);
            let held = other.chains.len();
            queue.reset();
            // The other queue does not know of it.
            assert_eq!(other.chains.len(), held);
            let _ = other.driver.flush();
            while other.chains.fill(&mut other.device).unwrap() > 0 {
                other.complete();
            }
            let _ = other.device.flush();
            other.reap();
            assert!(other.out.is_empty() && other.device.arm() && other.driver.arm());
            other.traffic();
        }
        queue.traffic();
    }
}

/// Byte for byte the ring of a new driver on memory that nobody used, and the same handles in the same order from then on.
#[test]
fn after_a_reset_the_ring_is_that_of_a_new_driver() {
    for setup in setups() {
        let (used, fresh) = (mem(), mem());
        let mut queue = Queue::new(&used, setup, 0);
        queue.traffic();
        queue.mid_flight(5);
        queue.reset();
        let mut new = Queue::new(&fresh, setup, 0);
        let ring = |mem: &HeapMemory| bytes(mem, 0, APART as usize);
        assert!(ring(&used) == ring(&fresh), "{setup:?}");
        for _ in 0..3 {
            for queue in [&mut queue, &mut new] {
                while queue.add() {}
                let _ = queue.driver.flush();
            }
            assert_eq!(queue.out, new.out, "{setup:?}");
            for queue in [&mut queue, &mut new] {
                while queue.chains.fill(&mut queue.device).unwrap() > 0 {
                    queue.complete();
                }
                let _ = queue.device.flush();
                queue.reap();
            }
            assert!(ring(&used) == ring(&fresh), "{setup:?}");
        }
    }
}

/// The device's part reads and writes nothing: the driver may have freed the ring already.
#[test]
fn g9_a_device_that_is_reset_leaves_the_memory_alone() {
    for setup in setups() {
        let mem = mem();
        let mut queue = Queue::new(&mem, setup, 0);
        queue.traffic();
        queue.mid_flight(3);
        let before = bytes(&mem, 0, APART as usize);
        queue.chains.reset(&mut queue.device);
        assert!(bytes(&mem, 0, APART as usize) == before);
    }
}

/// The queue comes back with another size, at another place, with other features.
#[test]
fn g10_a_queue_comes_back_with_another_geometry() {
    for format in [Format::Split, Format::Packed] {
        let mem = mem();
        let mut queue = Queue::new(&mem, Setup::new(format, 16), 0);
        for (number, size) in [(1, 64), (0, 4), (0, 128), (2, 1)] {
            queue.traffic();
            queue.mid_flight(3);
            queue.reset();
            let other = Setup { event_idx: number == 1, in_order: number == 2, ..Setup::new(format, size) };
            queue = Queue::new(&mem, other, number);
        }
        queue.traffic();
    }
}

/// What broke either side is forgotten with the rest.
#[test]
fn a_reset_mends_what_was_broken() {
    for setup in setups().filter(|s| s.size >= 2) {
        let mem = mem();
        let mut queue = Queue::new(&mem, setup, 0);
        let config = Queue::config(setup, 0);
        queue.traffic();
        queue.mid_flight(1);
        let _ = queue.driver.flush();
        // The driver's ring and the device's, each broken by the other side.
        match setup.format {
            Format::Split => {
                let raw = RawRing(config);
                raw.set_used_idx(&mem, raw.used_idx(&mem).wrapping_add(setup.size + 1));
                raw.set_avail_idx(&mem, raw.avail_idx(&mem).wrapping_sub(3 * setup.size));
            }
            Format::Packed => break_packed(&mem, &mut queue, RawPacked(config)),
        }
        let driver: Vec<_> = std::iter::from_fn(|| queue.driver.poll_used().transpose()).collect();
        assert!(queue.driver.fault().is_some(), "{setup:?}: {driver:?}");
        while queue.chains.pop().is_some() {}
        let device = std::iter::from_fn(|| match queue.chains.fill(&mut queue.device) {
            Ok(0) => None,
            Ok(_) => queue.chains.pop().map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        });
        let broken: Vec<RingError> = device.filter_map(Result::err).collect();
        assert_eq!((broken.len(), queue.device.fault()), (1, broken.first().copied()), "{setup:?}");
        // What the driver reaped before it broke is not out any more.
        for used in driver.iter().flatten() {
            queue.out.retain(|handle| *handle != used.handle);
        }
        queue.reset();
        assert_eq!((queue.driver.fault(), queue.device.fault()), (None, None));
        queue.traffic();
    }
}

/// Ids that nobody gave in every slot that looks used, and chains without an end in all others.
fn break_packed(mem: &HeapMemory, queue: &mut Queue, raw: RawPacked) {
    // Everything back first, so that it is known which slot comes next: both sides are there.
    while queue.chains.fill(&mut queue.device).unwrap() > 0 {
        queue.complete();
    }
    let _ = queue.device.flush();
    queue.reap();
    while queue.add() {}
    let _ = queue.driver.flush();
    let next = queue.device.state().0 as u16;
    let (slot, wrap) = (next & 0x7fff, next & 0x8000 != 0);
    let used = if wrap { RawPacked::AVAIL | RawPacked::USED } else { 0 };
    raw.set_tail(mem, slot, (0, 0x7fff, used));
    let error = queue.driver.poll_used();
    assert_eq!(error, Err(RingError::UsedId { id: 0x7fff }));
    for i in 0..queue.setup.size {
        let lap = wrap == (slot + i < queue.setup.size);
        let avail = if lap { RawPacked::AVAIL } else { RawPacked::USED };
        raw.set_tail(mem, (slot + i) % queue.setup.size, (1, 0, avail | 1));
    }
}

/// A token of before is dropped with everything else: a back end that works on several chains forgets them.
#[test]
fn what_a_device_holds_by_itself_is_forgotten() {
    for setup in setups().filter(|s| s.size >= 4 && !s.in_order) {
        let mem = mem();
        let mut queue = Queue::new(&mem, setup, 0);
        queue.mid_flight(0);
        assert!(queue.add() && queue.add());
        let _ = queue.driver.flush();
        queue.chains.fill(&mut queue.device).unwrap();
        let held: Vec<Token> = std::iter::from_fn(|| queue.chains.pop()).collect();
        assert_eq!(held.len(), 2);
        queue.reset();
        drop(held);
        queue.traffic();
        assert!(queue.mem.translate(GuestAddr(0), 1, virtio_ring::Access::Read).is_ok());
    }
}
