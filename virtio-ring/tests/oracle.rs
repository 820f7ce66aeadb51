//! Random sessions of a driver and a device, step by step beside a model made of queues.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::collections::VecDeque;

use common::guest::{BUFFER, RING, TABLE, config};
use proptest::prelude::*;
use virtio_ring::{
    ChainFault, ChainSink, DeviceRing, DriverRing, Element, GuestAddr, Handle, HeapMemory, MappedArea, Notify,
    QueueState, SplitDevice, SplitDriver, Used,
};

type Area = MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;

/// Entries of each indirect table.
const ENTRIES: u16 = 4;

#[derive(Clone, Debug)]
enum Op {
    Add(Vec<Element>),
    DriverFlush,
    Poll,
    DriverArm,
    DriverDisarm,
    Peek,
    Accept,
    Rewind,
    /// Which of those held, and how much of its room was written (in 256ths).
    Complete(usize, u8),
    DeviceFlush,
    DeviceArm,
    DeviceDisarm,
    /// The device stops and starts again where it was.
    Restart,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    size: u16,
    event_idx: bool,
    indirect: bool,
    /// Chains that went around before.
    start: u32,
}

fn elements() -> impl Strategy<Value = Vec<Element>> {
    let one = (0..0x1000_u64, prop_oneof![4 => 0..3000_u32, 1 => Just(u32::MAX / 8)]);
    (prop::collection::vec(one, 1..=6), 0..=6_usize).prop_map(|(all, readable)| {
        let element = |(i, (at, len))| Element { addr: GuestAddr(BUFFER + at), len, writable: i >= readable };
        all.into_iter().enumerate().map(element).collect()
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => elements().prop_map(Op::Add),
        4 => Just(Op::DriverFlush),
        8 => Just(Op::Poll),
        2 => Just(Op::DriverArm),
        1 => Just(Op::DriverDisarm),
        2 => Just(Op::Peek),
        8 => Just(Op::Accept),
        2 => Just(Op::Rewind),
        7 => (any::<usize>(), any::<u8>()).prop_map(|(which, part)| Op::Complete(which, part)),
        4 => Just(Op::DeviceFlush),
        2 => Just(Op::DeviceArm),
        1 => Just(Op::DeviceDisarm),
        1 => Just(Op::Restart),
    ]
}

fn set_up() -> impl Strategy<Value = Setup> {
    let start = prop_oneof![19 => Just(0), 1 => 65_400..65_540_u32];
    (0..=6_u32, any::<bool>(), any::<bool>(), start).prop_map(|(shift, event_idx, indirect, start)| Setup {
        size: 1 << shift,
        event_idx,
        indirect,
        start,
    })
}

#[derive(Clone, Debug)]
struct Chain {
    handle: Handle,
    elements: Vec<Element>,
    needed: u16,
}

impl Chain {
    fn room(&self) -> u32 {
        self.elements.iter().filter(|e| e.writable).map(|e| e.len).sum()
    }
}

/// One side's wish to be told, as the other side has to see it.
#[derive(Default)]
struct Wish {
    silent: bool,
    event: u16,
}

impl Wish {
    /// Publication of the entries `old..new`, counted from the beginning of time.
    fn expected(&self, event_idx: bool, old: u64, new: u64) -> Notify {
        let wanted = if event_idx { (old..new).any(|i| i as u16 == self.event) } else { !self.silent };
        if wanted && old != new { Notify::Needed } else { Notify::Suppressed }
    }
}

/// The model.
#[derive(Default)]
struct Oracle {
    added: VecDeque<Chain>,
    visible: VecDeque<Chain>,
    /// Accepted and not completed, with the position in the available ring.
    held: Vec<(u64, virtio_ring::Token, Chain)>,
    completed: VecDeque<(Chain, u32)>,
    used: VecDeque<(Chain, u32)>,
    /// Entries published, accepted, published as used, reaped.
    available: u64,
    accepted: u64,
    returned: u64,
    reaped: u64,
    free: u16,
    device_wish: Wish,
    driver_wish: Wish,
}

struct List(Vec<Element>);
impl ChainSink for List {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        self.0.push(e);
        Ok(())
    }
}

struct Session {
    setup: Setup,
    mem: HeapMemory,
    driver: SplitDriver<Area>,
    device: SplitDevice<Area>,
    oracle: Oracle,
}

impl Session {
    fn new(setup: Setup) -> Self {
        // Buffers are never touched here, so none are needed.
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        let config = config(setup.size, setup.event_idx, setup.indirect);
        assert!(config.device.0 > RING && config.device.0 < TABLE);
        let mut driver = SplitDriver::new(&mem, &config).unwrap();
        if setup.indirect {
            driver = driver.with_indirect(&mem, GuestAddr(TABLE), ENTRIES).unwrap();
        }
        let device = SplitDevice::new(&mem, &config, QueueState::default()).unwrap();
        let oracle = Oracle { free: setup.size, ..Oracle::default() };
        let mut session = Self { setup, mem, driver, device, oracle };
        session.go_around(setup.start);
        session
    }

    /// Brings all indices to `start`, one chain at a time.
    fn go_around(&mut self, start: u32) {
        let one = [Element { addr: GuestAddr(BUFFER), len: 1, writable: true }];
        for _ in 0..start {
            self.driver.add(&one).unwrap();
            let _ = self.driver.flush();
            let token = self.device.peek(&self.mem, &mut List(Vec::new())).unwrap().unwrap().accept();
            self.device.complete(token, 1);
            let _ = self.device.flush();
            self.driver.poll_used().unwrap().unwrap();
        }
        let start = start.into();
        self.oracle = Oracle {
            available: start,
            accepted: start,
            returned: start,
            reaped: start,
            free: self.setup.size,
            ..Oracle::default()
        };
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Add(elements) => self.add(elements),
            Op::DriverFlush => self.driver_flush(),
            Op::Poll => self.poll(),
            Op::DriverArm => {
                assert_eq!(self.driver.arm(), self.oracle.used.is_empty());
                self.oracle.driver_wish = Wish { silent: false, event: self.oracle.reaped as u16 };
            }
            Op::DriverDisarm => {
                self.driver.disarm();
                self.oracle.driver_wish.silent = true;
            }
            Op::Peek => drop(self.peek()),
            Op::Accept => self.accept(),
            Op::Rewind => self.rewind(),
            Op::Complete(which, part) => self.complete(*which, *part),
            Op::DeviceFlush => self.device_flush(),
            Op::DeviceArm => {
                assert_eq!(self.device.arm(), self.oracle.visible.is_empty());
                self.oracle.device_wish = Wish { silent: false, event: self.oracle.accepted as u16 };
            }
            Op::DeviceDisarm => {
                self.device.disarm();
                self.oracle.device_wish.silent = true;
            }
            Op::Restart => self.restart(),
        }
        assert_eq!(self.driver.free_slots(), self.oracle.free);
        assert_eq!(self.device.state(), QueueState(u32::from(self.oracle.accepted as u16)));
        assert_eq!((self.device.fault(), self.driver.fault()), (None, None));
    }

    fn add(&mut self, elements: &[Element]) {
        let in_table = self.setup.indirect && (2..=usize::from(ENTRIES)).contains(&elements.len());
        let needed = if in_table { 1 } else { elements.len() as u16 };
        match self.driver.add(elements) {
            Ok(handle) => {
                assert!(needed <= self.oracle.free);
                self.oracle.free -= needed;
                self.oracle.added.push_back(Chain { handle, elements: elements.to_vec(), needed });
            }
            Err(full) => {
                assert!(needed > self.oracle.free);
                assert_eq!((full.free, full.needed), (self.oracle.free, usize::from(needed)));
            }
        }
    }

    fn driver_flush(&mut self) {
        let old = self.oracle.available;
        self.oracle.available += self.oracle.added.len() as u64;
        self.oracle.visible.append(&mut self.oracle.added);
        let expected = self.oracle.device_wish.expected(self.setup.event_idx, old, self.oracle.available);
        assert_eq!(self.driver.flush(), expected);
    }

    fn poll(&mut self) {
        let expected = self.oracle.used.pop_front();
        let used = self.driver.poll_used().unwrap();
        assert_eq!(used, expected.as_ref().map(|(chain, len)| Used { handle: chain.handle, len: *len }));
        if let Some((chain, _)) = expected {
            self.oracle.free += chain.needed;
            self.oracle.reaped += 1;
        }
    }

    /// The next chain, checked against the model.
    fn peek(&mut self) -> Option<virtio_ring::Peeked<'_, SplitDevice<Area>>> {
        let mut list = List(Vec::new());
        let peeked = self.device.peek(&self.mem, &mut list).unwrap();
        assert_eq!(peeked.as_ref().and_then(virtio_ring::Peeked::fault), None);
        assert_eq!(peeked.is_some(), !self.oracle.visible.is_empty());
        assert_eq!(list.0, self.oracle.visible.front().map(|c| c.elements.clone()).unwrap_or_default());
        peeked
    }

    fn accept(&mut self) {
        let Some(token) = self.peek().map(virtio_ring::Peeked::accept) else { return };
        let chain = self.oracle.visible.pop_front().unwrap();
        self.oracle.held.push((self.oracle.accepted, token, chain));
        self.oracle.accepted += 1;
    }

    /// Gives back what was accepted last, unless that is completed already.
    fn rewind(&mut self) {
        let last = self.oracle.accepted.wrapping_sub(1);
        if let Some((_, token, chain)) = self.oracle.held.pop_if(|(at, ..)| *at == last) {
            self.device.rewind(token);
            self.oracle.visible.push_front(chain);
            self.oracle.accepted -= 1;
        }
    }

    fn complete(&mut self, which: usize, part: u8) {
        if self.oracle.held.is_empty() {
            return;
        }
        let (_, token, chain) = self.oracle.held.remove(which % self.oracle.held.len());
        let written = (u64::from(chain.room()) * u64::from(part) / 255) as u32;
        self.device.complete(token, written);
        self.oracle.completed.push_back((chain, written));
    }

    fn device_flush(&mut self) {
        let old = self.oracle.returned;
        self.oracle.returned += self.oracle.completed.len() as u64;
        self.oracle.used.append(&mut self.oracle.completed);
        let expected = self.oracle.driver_wish.expected(self.setup.event_idx, old, self.oracle.returned);
        assert_eq!(self.device.flush(), expected);
    }

    /// Orderly: everything held is finished first, as for vhost's `GET_VRING_BASE`.
    fn restart(&mut self) {
        while !self.oracle.held.is_empty() {
            self.complete(0, 0);
        }
        self.device_flush();
        let config = config(self.setup.size, self.setup.event_idx, self.setup.indirect);
        let state = self.device.state();
        self.device = SplitDevice::new(&self.mem, &config, state).unwrap();
        self.oracle.device_wish.silent = false;
    }

    /// Everything comes to an end, and nothing was lost.
    fn finish(&mut self) {
        self.driver_flush();
        while !self.oracle.visible.is_empty() {
            self.accept();
        }
        while !self.oracle.held.is_empty() {
            self.complete(usize::MAX, 255);
        }
        self.device_flush();
        while !self.oracle.used.is_empty() {
            self.poll();
        }
        self.step(&Op::Poll);
        self.step(&Op::Accept);
        assert_eq!(self.oracle.free, self.setup.size);
        assert!(self.driver.arm() && self.device.arm());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_follow_the_model(setup in set_up(), ops in prop::collection::vec(op(), 0..250)) {
        let mut session = Session::new(setup);
        for op in &ops {
            session.step(op);
        }
        session.finish();
    }
}
