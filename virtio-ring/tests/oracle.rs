//! Random sessions of a driver and a device, step by step beside a model made of queues: one model for both formats.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::collections::VecDeque;

use common::guest::{BUFFER, TABLE};
use common::peers::{List, Setup, room};
use proptest::prelude::*;
use virtio_ring::{
    AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, HeapMemory, MappedArea, Notify,
    QueueState, Token, Used,
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
    /// Which of those held (in order: the oldest), and how much of its room was written (in 256ths).
    Complete(usize, u8),
    DeviceFlush,
    DeviceArm,
    DeviceDisarm,
    /// The device stops and starts again where it was.
    Restart,
}

fn elements() -> impl Strategy<Value = Vec<Element>> {
    let one = (0..0x1000_u64, prop_oneof![4 => 0..3000_u32, 1 => Just(u32::MAX / 8)]);
    (prop::collection::vec(one, 1..=6), 0..=6_usize).prop_map(|(all, readable)| {
        let element = |(i, (at, len))| Element { addr: GuestAddr(BUFFER + at), len, writable: i >= readable };
        all.into_iter().enumerate().map(element).collect()
    })
}

fn op() -> impl Strategy<Value = Op> {
    // Nothing and everything often enough: in order, those are what runs are made of.
    let part = prop_oneof![2 => Just(0), 1 => Just(255), 2 => any::<u8>()];
    prop_oneof![
        8 => elements().prop_map(Op::Add),
        4 => Just(Op::DriverFlush),
        8 => Just(Op::Poll),
        2 => Just(Op::DriverArm),
        1 => Just(Op::DriverDisarm),
        2 => Just(Op::Peek),
        8 => Just(Op::Accept),
        2 => Just(Op::Rewind),
        7 => (any::<usize>(), part).prop_map(|(which, part)| Op::Complete(which, part)),
        4 => Just(Op::DeviceFlush),
        2 => Just(Op::DeviceArm),
        1 => Just(Op::DeviceDisarm),
        1 => Just(Op::Restart),
    ]
}

/// A queue, and how many chains went around before: to where indices and laps wrap.
fn set_up(format: Format) -> impl Strategy<Value = (Setup, u32)> {
    let (size, start) = match format {
        Format::Split => {
            let size = (0..=6_u32).prop_map(|shift| 1 << shift);
            (size.boxed(), prop_oneof![60 => Just(0), 1 => 65_400..65_540_u32].boxed())
        }
        Format::Packed => ((1..=64_u16).boxed(), (0..130_u32).boxed()),
    };
    (size, any::<[bool; 3]>(), start).prop_map(move |(size, [event_idx, indirect, in_order], start)| {
        (Setup { format, size, event_idx, indirect, in_order }, start)
    })
}

#[derive(Clone, Debug)]
struct Chain {
    /// Counted from the beginning of the session.
    serial: usize,
    handle: Handle,
    elements: Vec<Element>,
    needed: u16,
}

/// One side's wish to be told, as the other side has to see it.
#[derive(Clone, Copy)]
enum Wish {
    Always,
    Never,
    /// At the publication of this position.
    At(u64),
}

/// The model. Positions count entries of the available or used ring (split) or slots (packed).
struct Oracle {
    added: VecDeque<Chain>,
    visible: VecDeque<Chain>,
    /// Accepted and not completed, with the position behind.
    held: Vec<(u64, Token, Chain)>,
    completed: VecDeque<(Chain, u32)>,
    used: VecDeque<(Chain, u32)>,
    available: u64,
    accepted: u64,
    finished: u64,
    returned: u64,
    reaped: u64,
    free: u16,
    device_wish: Wish,
    driver_wish: Wish,
}

impl Oracle {
    fn new(setup: Setup, start: u64) -> Self {
        // The event words of a split ring begin as 0.
        let wish = if setup.format == Format::Split && setup.event_idx { Wish::At(0) } else { Wish::Always };
        Self {
            added: VecDeque::new(),
            visible: VecDeque::new(),
            held: Vec::new(),
            completed: VecDeque::new(),
            used: VecDeque::new(),
            available: start,
            accepted: start,
            finished: start,
            returned: start,
            reaped: start,
            free: setup.size,
            device_wish: wish,
            driver_wish: wish,
        }
    }
}

/// What anybody can see of a session, whatever the format.
#[derive(PartialEq, Eq, Debug)]
enum Seen {
    Added(Option<usize>),
    Notify(Notify),
    Front(Option<usize>),
    Used(Option<(usize, u32)>),
    Asleep(bool),
    Free(u16),
}

struct Session {
    setup: Setup,
    mem: HeapMemory,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
    oracle: Oracle,
    serial: usize,
    seen: Vec<Seen>,
}

impl Session {
    fn new((setup, start): (Setup, u32)) -> Self {
        // Buffers are never touched here, so none are needed.
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        assert!(setup.end() < TABLE);
        let driver = setup.driver(&mem, (TABLE, ENTRIES));
        let device = setup.fresh_device(&mem);
        let oracle = Oracle::new(setup, start.into());
        let mut session = Self { setup, mem, driver, device, oracle, serial: 0, seen: Vec::new() };
        session.go_around(start);
        session
    }

    /// Brings all indices to `start`, one chain at a time.
    fn go_around(&mut self, start: u32) {
        let one = [Element { addr: GuestAddr(BUFFER), len: 1, writable: true }];
        for _ in 0..start {
            self.driver.add(&one).unwrap();
            let _ = self.driver.flush();
            let token = self.device.peek(&self.mem, &mut List::default()).unwrap().unwrap().accept();
            self.device.complete(token, 1);
            let _ = self.device.flush();
            self.driver.poll_used().unwrap().unwrap();
        }
    }

    /// Positions that a chain takes.
    fn length(&self, chain: &Chain) -> u64 {
        if self.setup.format == Format::Split { 1 } else { chain.needed.into() }
    }

    /// A position as an event word or the state names it.
    fn bits(&self, position: u64) -> u16 {
        match self.setup.format {
            Format::Split => position as u16,
            Format::Packed => {
                let size = u64::from(self.setup.size);
                (position % size) as u16 | if (position / size).is_multiple_of(2) { 0x8000 } else { 0 }
            }
        }
    }

    fn state(&self) -> QueueState {
        let used = if self.setup.format == Format::Split { 0 } else { self.bits(self.oracle.finished) };
        QueueState(u32::from(used) << 16 | u32::from(self.bits(self.oracle.accepted)))
    }

    /// Publication of the positions `old..new`.
    fn expected(&self, wish: Wish, old: u64, new: u64) -> Notify {
        let wanted = match wish {
            Wish::Always => old != new,
            Wish::Never => false,
            Wish::At(event) => (old..new).any(|i| self.bits(i) == self.bits(event)),
        };
        if wanted { Notify::Needed } else { Notify::Suppressed }
    }

    fn armed(&self, position: u64) -> Wish {
        if self.setup.event_idx { Wish::At(position) } else { Wish::Always }
    }

    fn disarmed(&self, was: Wish) -> Wish {
        if self.setup.format == Format::Split && self.setup.event_idx { was } else { Wish::Never }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Add(elements) => self.add(elements),
            Op::DriverFlush => self.driver_flush(),
            Op::Poll => self.poll(),
            Op::DriverArm => {
                let asleep = self.driver.arm();
                assert_eq!(asleep, self.oracle.used.is_empty());
                self.oracle.driver_wish = self.armed(self.oracle.reaped);
                self.seen.push(Seen::Asleep(asleep));
            }
            Op::DriverDisarm => {
                self.driver.disarm();
                self.oracle.driver_wish = self.disarmed(self.oracle.driver_wish);
            }
            Op::Peek => drop(self.peek()),
            Op::Accept => self.accept(),
            Op::Rewind => _ = self.rewind(),
            Op::Complete(which, part) => self.complete(*which, *part),
            Op::DeviceFlush => self.device_flush(),
            Op::DeviceArm => {
                let asleep = self.device.arm();
                assert_eq!(asleep, self.oracle.visible.is_empty());
                self.oracle.device_wish = self.armed(self.oracle.accepted);
                self.seen.push(Seen::Asleep(asleep));
            }
            Op::DeviceDisarm => {
                self.device.disarm();
                self.oracle.device_wish = self.disarmed(self.oracle.device_wish);
            }
            Op::Restart => self.restart(),
        }
        assert_eq!(self.driver.free_slots(), self.oracle.free);
        assert_eq!(self.device.state(), self.state());
        assert_eq!((self.device.fault(), self.driver.fault()), (None, None));
        self.seen.push(Seen::Free(self.oracle.free));
    }

    fn add(&mut self, elements: &[Element]) {
        let in_table = self.setup.indirect && (2..=usize::from(ENTRIES)).contains(&elements.len());
        let needed = if in_table { 1 } else { elements.len() as u16 };
        let serial = match self.driver.add(elements) {
            Ok(handle) => {
                assert!(needed <= self.oracle.free);
                self.oracle.free -= needed;
                self.serial += 1;
                let chain = Chain { serial: self.serial, handle, elements: elements.to_vec(), needed };
                self.oracle.added.push_back(chain);
                Some(self.serial)
            }
            Err(full) => {
                assert!(needed > self.oracle.free);
                assert_eq!((full.free, full.needed), (self.oracle.free, usize::from(needed)));
                None
            }
        };
        self.seen.push(Seen::Added(serial));
    }

    fn driver_flush(&mut self) {
        let old = self.oracle.available;
        self.oracle.available += self.oracle.added.iter().map(|c| self.length(c)).sum::<u64>();
        self.oracle.visible.append(&mut self.oracle.added);
        let notify = self.driver.flush();
        assert_eq!(notify, self.expected(self.oracle.device_wish, old, self.oracle.available));
        self.seen.push(Seen::Notify(notify));
    }

    fn poll(&mut self) {
        let expected = self.oracle.used.pop_front();
        let used = self.driver.poll_used().unwrap();
        assert_eq!(used, expected.as_ref().map(|(chain, len)| Used { handle: chain.handle, len: *len }));
        if let Some((chain, _)) = &expected {
            self.oracle.free += chain.needed;
            self.oracle.reaped += self.length(chain);
        }
        self.seen.push(Seen::Used(expected.map(|(chain, len)| (chain.serial, len))));
    }

    /// The next chain, checked against the model.
    fn peek(&mut self) -> Option<virtio_ring::Peeked<'_, AnyDevice<Area>>> {
        let mut list = List::default();
        let peeked = self.device.peek(&self.mem, &mut list).unwrap();
        assert_eq!(peeked.as_ref().and_then(virtio_ring::Peeked::fault), None);
        assert_eq!(peeked.is_some(), !self.oracle.visible.is_empty());
        assert_eq!(list.0, self.oracle.visible.front().map(|c| c.elements.clone()).unwrap_or_default());
        self.seen.push(Seen::Front(self.oracle.visible.front().map(|c| c.serial)));
        peeked
    }

    fn accept(&mut self) {
        let Some(token) = self.peek().map(virtio_ring::Peeked::accept) else { return };
        let chain = self.oracle.visible.pop_front().unwrap();
        self.oracle.accepted += self.length(&chain);
        self.oracle.held.push((self.oracle.accepted, token, chain));
    }

    /// Gives back what was accepted last, unless that is completed already.
    fn rewind(&mut self) -> bool {
        let last = self.oracle.accepted;
        let Some((_, token, chain)) = self.oracle.held.pop_if(|(at, ..)| *at == last) else { return false };
        self.device.rewind(token);
        self.oracle.accepted -= self.length(&chain);
        self.oracle.visible.push_front(chain);
        true
    }

    fn complete(&mut self, which: usize, part: u8) {
        if self.oracle.held.is_empty() {
            return;
        }
        let which = if self.setup.in_order { 0 } else { which % self.oracle.held.len() };
        let (_, token, chain) = self.oracle.held.remove(which);
        let written = (u64::from(room(&chain.elements)) * u64::from(part) / 255) as u32;
        self.device.complete(token, written);
        self.oracle.finished += self.length(&chain);
        self.oracle.completed.push_back((chain, written));
    }

    fn device_flush(&mut self) {
        let old = self.oracle.returned;
        self.oracle.returned = self.oracle.finished;
        self.oracle.used.append(&mut self.oracle.completed);
        let notify = self.device.flush();
        assert_eq!(notify, self.expected(self.oracle.driver_wish, old, self.oracle.returned));
        self.seen.push(Seen::Notify(notify));
    }

    /// Orderly: what is held is given back or finished first, as for vhost's `GET_VRING_BASE`.
    fn restart(&mut self) {
        while self.rewind() {}
        while !self.oracle.held.is_empty() {
            self.complete(0, 0);
        }
        self.device_flush();
        let state = self.device.state();
        self.device = self.setup.device(&self.mem, state);
        if !(self.setup.format == Format::Split && self.setup.event_idx) {
            self.oracle.device_wish = Wish::Always;
        }
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

    /// A whole session; what was seen of it.
    fn run(setup: (Setup, u32), ops: &[Op]) -> Vec<Seen> {
        let mut session = Self::new(setup);
        for op in ops {
            session.step(op);
        }
        session.finish();
        session.seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn split_sessions_follow_the_model(setup in set_up(Format::Split), ops in prop::collection::vec(op(), 0..250)) {
        Session::run(setup, &ops);
    }

    #[test]
    fn packed_sessions_follow_the_model(setup in set_up(Format::Packed), ops in prop::collection::vec(op(), 0..250)) {
        Session::run(setup, &ops);
    }

    /// The same operations on both formats: the same chains, lengths, free descriptors and, where the two have the same
    /// wishes (flags only), the same notifications.
    #[test]
    fn split_and_packed_look_the_same(setup in set_up(Format::Split), ops in prop::collection::vec(op(), 0..250)) {
        let setup = setup.0;
        let mut both = [Format::Split, Format::Packed].map(|format| Session::run((Setup { format, ..setup }, 0), &ops));
        if setup.event_idx {
            for seen in &mut both {
                seen.retain(|s| !matches!(s, Seen::Notify(_)));
            }
        }
        let [split, packed] = both;
        prop_assert_eq!(split, packed);
    }
}
