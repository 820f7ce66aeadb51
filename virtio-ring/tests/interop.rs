//! The interop matrix: every driver with every device, with every combination of event index, indirect descriptors and
//! in order, on rings of every kind of size, through one list of scenarios.
//!
//! What the exact bytes are is in `golden.rs`; rust-vmm's queue on the other side is in `rust_vmm.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::peers::{List, Setup, room};
use virtio_ring::{
    AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, HeapMemory, Notify, PackedDevice,
    SplitDevice, Token, Used,
};

const TABLES: u64 = 0x20_0000;
/// Entries of an indirect table.
const ENTRIES: u16 = 3;
const BUFFERS: u64 = 0x40_0000;

/// A chain on its way.
struct Sent {
    handle: Handle,
    elements: Vec<Element>,
}

/// One driver and one device, and all chains on their way between them.
struct Lab<'m, D, V> {
    mem: &'m HeapMemory,
    setup: Setup,
    driver: D,
    device: V,
    sent: VecDeque<Sent>,
    serial: u64,
}

impl<D: DriverRing, V: DeviceRing> Lab<'_, D, V> {
    /// A chain of `n` buffers that no other chain has.
    fn chain(&mut self, n: usize, readable: usize) -> Vec<Element> {
        self.serial += 1;
        let at = BUFFERS + self.serial % 0x1_0000 * 0x1000;
        let element = |i: usize| Element {
            addr: GuestAddr(at + 0x100 * i as u64),
            len: 1 + (self.serial % 200) as u32 + i as u32,
            writable: i >= readable,
        };
        (0..n).map(element).collect()
    }

    /// Adds a chain; false if the ring is full.
    fn add(&mut self, n: usize, readable: usize) -> bool {
        let elements = self.chain(n, readable);
        let free = self.driver.free_slots();
        let in_table = self.setup.indirect && (2..=usize::from(ENTRIES)).contains(&n);
        let needed = if in_table { 1 } else { n };
        match self.driver.add(&elements) {
            Ok(handle) => {
                assert_eq!(self.driver.free_slots(), free - needed as u16);
                self.sent.push_back(Sent { handle, elements });
                true
            }
            Err(full) => {
                assert_eq!((full.free, full.needed), (free, needed));
                assert!(needed > usize::from(free));
                false
            }
        }
    }

    /// The device takes the next chain, which is the one that was sent behind `ahead` others.
    fn take(&mut self, ahead: usize) -> Token {
        let mut list = List::default();
        let peeked = self.device.peek(self.mem, &mut list).unwrap().unwrap();
        assert_eq!(peeked.fault(), None);
        let token = peeked.accept();
        assert_eq!(list.0, self.sent[ahead].elements);
        token
    }

    fn device_sees_nothing(&mut self) {
        assert!(self.device.peek(self.mem, &mut List::default()).unwrap().is_none());
    }

    /// What is written to a chain: nothing, a part, or all of it, in turn.
    fn written(&self, ahead: usize) -> u32 {
        let room = room(&self.sent[ahead].elements);
        [0, room / 2, room][self.sent[ahead].handle.0 as usize % 3]
    }

    /// The driver gets back what was sent, in this order, and then nothing.
    fn reap(&mut self, lens: &[(usize, u32)]) {
        for &(ahead, len) in lens {
            let handle = self.sent[ahead].handle;
            assert_eq!(self.driver.poll_used(), Ok(Some(Used { handle, len })));
        }
        assert_eq!(self.driver.poll_used(), Ok(None));
        assert_eq!(lens.len(), self.sent.len());
        self.sent.clear();
        assert_eq!(self.driver.free_slots(), self.setup.size);
    }

    /// All that was added goes to the device and back, in order.
    fn around(&mut self) {
        self.device_sees_nothing();
        assert_eq!(self.driver.flush(), Notify::Needed);
        let mut lens = Vec::new();
        for i in 0..self.sent.len() {
            let token = self.take(i);
            lens.push((i, self.written(i)));
            self.device.complete(token, lens[i].1);
        }
        self.device_sees_nothing();
        assert_eq!(self.driver.poll_used(), Ok(None), "not before the flush");
        assert_eq!(self.device.flush(), Notify::Needed);
        self.reap(&lens);
        // For event words that are places: each side wants to know of the next chain.
        assert!(self.device.arm() && self.driver.arm());
    }

    /// Most descriptors that one direct chain of this lab takes.
    fn longest(&self) -> usize {
        usize::from(self.setup.size).min(7)
    }
}

fn single<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    for readable in [0, 1, 0] {
        assert!(lab.add(1, readable));
        lab.around();
    }
}

fn chains<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    for n in 1..=lab.longest() {
        for readable in 0..=n {
            assert!(lab.add(n, readable));
            lab.around();
        }
    }
    // With tables, chains longer than the ring as well.
    if lab.setup.indirect {
        assert!(lab.add(3, 1));
        lab.around();
    }
    assert_eq!(lab.driver.add(&[]).map_err(|full| full.needed), Err(0));
}

fn full_ring<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    for n in [1, lab.longest()] {
        while lab.add(n, 1) {}
        assert!(!lab.sent.is_empty());
        assert!(usize::from(lab.driver.free_slots()) < n);
        lab.around();
    }
}

/// Newest first, and from the middle; rings of one have no other order.
fn out_of_order<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    if lab.setup.in_order {
        return in_order_only(lab);
    }
    for turn in 0..3 {
        let mut n = 1;
        while lab.sent.len() < 100 && lab.add(n, 0) {
            n = n % lab.longest().min(3) + 1;
        }
        assert_eq!(lab.driver.flush(), Notify::Needed);
        let mut held: VecDeque<(usize, Token)> = (0..lab.sent.len()).map(|i| (i, lab.take(i))).collect();
        let mut lens = Vec::new();
        while let Some((i, token)) = if held.len() % 3 == turn { held.pop_front() } else { held.pop_back() } {
            lens.push((i, lab.written(i)));
            lab.device.complete(token, lens[lens.len() - 1].1);
        }
        assert_eq!(lab.device.flush(), Notify::Needed);
        lab.reap(&lens);
        assert!(lab.device.arm() && lab.driver.arm());
    }
}

/// Tokens that are held back do not keep others from being taken, and those given back come again.
fn in_order_only<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    while lab.sent.len() < 100 && lab.add(1, 0) {}
    assert_eq!(lab.driver.flush(), Notify::Needed);
    let half = lab.sent.len() / 2;
    let mut held: VecDeque<Token> = (0..lab.sent.len()).map(|i| lab.take(i)).collect();
    while held.len() > half {
        lab.device.rewind(held.pop_back().unwrap());
    }
    held.extend((half..lab.sent.len()).map(|i| lab.take(i)));
    let mut lens = Vec::new();
    for (i, token) in held.into_iter().enumerate() {
        lens.push((i, lab.written(i)));
        lab.device.complete(token, lens[i].1);
    }
    assert_eq!(lab.device.flush(), Notify::Needed);
    lab.reap(&lens);
    assert!(lab.device.arm() && lab.driver.arm());
}

/// Bursts of chains with nothing to write to: in order, each is one used entry.
fn runs<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    for pattern in [&[1][..], &[1, 1, 0], &[0, 1], &[1, 1, 1, 1, 0, 0]] {
        for readable in pattern.iter().cycle().take(usize::from(lab.setup.size).min(50)) {
            assert!(lab.add(1, *readable));
        }
        lab.around();
    }
}

/// Three laps and a bit, in bursts that do not divide the ring.
fn laps<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    let size = usize::from(lab.setup.size);
    let burst = size * 2 / 3 + 1;
    let mut done = 0;
    while done < 3 * size + 1 {
        for i in 0..burst.min(size) {
            let n = if size > 2 && i % 5 == 4 { 2 } else { 1 };
            if !lab.add(n, i % 2) {
                break;
            }
            done += n;
        }
        lab.around();
    }
}

/// Silenced peers are not told; peers that asked are, for what they asked for.
fn suppression<D: DriverRing, V: DeviceRing>(lab: &mut Lab<'_, D, V>) {
    let size = usize::from(lab.setup.size);
    lab.device.disarm();
    lab.driver.disarm();
    // Where the event index of a split ring is: behind, as both were armed before and told.
    let one = |lab: &mut Lab<'_, D, V>| {
        assert!(lab.add(1, 0));
        let kick = lab.driver.flush();
        let token = lab.take(0);
        lab.device.complete(token, 0);
        let call = lab.device.flush();
        lab.reap(&[(0, 0)]);
        (kick.is_needed(), call.is_needed())
    };
    one(lab);
    for _ in 0..2 * size.min(10) {
        assert_eq!(one(lab), (false, false), "silenced");
    }
    assert!(lab.device.arm());
    assert_eq!(one(lab), (true, false), "the device only");
    lab.device.disarm();
    assert!(lab.driver.arm());
    assert_eq!(one(lab), (false, true), "the driver only");
    // An arm that finds work says so.
    lab.driver.disarm();
    assert!(lab.add(1, 0));
    let _ = lab.driver.flush();
    assert!(!lab.device.arm());
    let token = lab.take(0);
    lab.device.complete(token, 0);
    assert!(lab.driver.arm(), "not visible yet");
    assert!(lab.device.flush().is_needed(), "so the driver is told");
    assert!(!lab.driver.arm());
    lab.reap(&[(0, 0)]);
    assert!(lab.device.arm() && lab.driver.arm());
    // With the event index, what was asked for once is told once.
    assert_eq!(one(lab), (true, true));
    if size > 1 {
        assert_eq!(one(lab), (!lab.setup.event_idx, !lab.setup.event_idx));
    }
    assert!(lab.device.arm() && lab.driver.arm());
}

/// A name and what it does.
type Scenario<'m, D, V> = (&'static str, fn(&mut Lab<'m, D, V>));

/// The list, once; and once more on the ring that it left.
fn run<D: DriverRing, V: DeviceRing>(mem: &HeapMemory, setup: Setup, driver: D, device: V) {
    let list: [Scenario<'_, D, V>; 7] = [
        ("single", single),
        ("chains", chains),
        ("full ring", full_ring),
        ("out of order", out_of_order),
        ("runs", runs),
        ("laps", laps),
        ("suppression", suppression),
    ];
    let mut lab = Lab { mem, setup, driver, device, sent: VecDeque::new(), serial: 0 };
    assert!(lab.device.arm() && lab.driver.arm());
    for (name, scenario) in list.iter().chain(&list[..if setup.size > 1000 { 0 } else { list.len() }]) {
        let end = catch_unwind(AssertUnwindSafe(|| scenario(&mut lab)));
        let pair = (core::any::type_name::<D>(), core::any::type_name::<V>());
        assert!(end.is_ok(), "{name}: {setup:?}, {pair:?}");
    }
}

/// Both kinds of driver with both kinds of device of one format, on rings of these sizes.
macro_rules! matrix {
    ($format:ident, $device:ident, $sizes:expr) => {
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFERS as usize).unwrap();
        for setup in $sizes.into_iter().flat_map(|size| Setup::with_features(Format::$format, size)) {
            let config = setup.config();
            let driver = || match setup.driver(&mem, (TABLES, ENTRIES)) {
                AnyDriver::$format(ring) => ring,
                other => panic!("{other:?}"),
            };
            let device = || $device::new(&mem, &config, Format::$format.start()).unwrap();
            run(&mem, setup, AnyDriver::$format(driver()), AnyDevice::$format(device()));
            if setup.size < 1000 {
                run(&mem, setup, driver(), device());
                run(&mem, setup, driver(), AnyDevice::$format(device()));
                run(&mem, setup, AnyDriver::$format(driver()), device());
            }
        }
    };
}

#[test]
fn split_drivers_and_devices_understand_each_other() {
    matrix!(Split, SplitDevice, [1, 2, 8, 256, 32_768]);
}

#[test]
fn p7_packed_drivers_and_devices_understand_each_other() {
    matrix!(Packed, PackedDevice, [1, 2, 3, 7, 8, 255, 256, 32_768]);
}
