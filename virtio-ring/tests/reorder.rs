//! A back end that finishes in any order on a ring that is in order: the driver never notices.
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
    AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, HeapMemory, MappedArea, Reorder,
    Ticket, Token, Used,
};

type Area = MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;

#[derive(Clone, Debug)]
enum Op {
    Add(Vec<Element>),
    /// Accepts what there is, at most so many.
    Accept(usize),
    /// Which of those held, and how much of its room was written (in 255ths).
    Complete(usize, u8),
    /// The newest goes back to the ring.
    Undo,
    Flush,
    Poll,
}

fn op() -> impl Strategy<Value = Op> {
    let elements = (prop::collection::vec(1..2000_u32, 1..=3), 0..=3_usize).prop_map(|(lens, readable)| {
        let element = |(i, len)| Element { addr: GuestAddr(BUFFER), len, writable: i >= readable };
        lens.into_iter().enumerate().map(element).collect()
    });
    let part = prop_oneof![1 => Just(0), 1 => Just(255), 2 => any::<u8>()];
    prop_oneof![
        6 => elements.prop_map(Op::Add),
        4 => (1..6_usize).prop_map(Op::Accept),
        8 => (any::<usize>(), part).prop_map(|(which, part)| Op::Complete(which, part)),
        1 => Just(Op::Undo),
        4 => Just(Op::Flush),
        6 => Just(Op::Poll),
    ]
}

struct Chain {
    handle: Handle,
    room: u32,
}

struct Session {
    mem: HeapMemory,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
    order: Reorder,
    available: VecDeque<Chain>,
    /// Accepted: the ticket while it is not done, and how much was written once it is.
    accepted: VecDeque<(Chain, Option<Ticket>, u32)>,
    completed: VecDeque<Used>,
    used: VecDeque<Used>,
}

impl Session {
    fn new(setup: Setup) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        let driver = setup.driver(&mem, (TABLE, 2));
        let device = setup.fresh_device(&mem);
        let order = Reorder::new(device.size());
        let (available, accepted, completed, used) = Default::default();
        Self { mem, driver, device, order, available, accepted, completed, used }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Add(elements) => {
                if let Ok(handle) = self.driver.add(elements) {
                    self.available.push_back(Chain { handle, room: room(elements) });
                }
                let _ = self.driver.flush();
            }
            Op::Accept(most) => (0..*most).for_each(|_| self.accept()),
            Op::Complete(which, part) => self.complete(*which, *part),
            Op::Undo => self.undo(),
            Op::Flush => {
                let _ = self.device.flush();
                self.used.append(&mut self.completed);
            }
            Op::Poll => assert_eq!(self.driver.poll_used(), Ok(self.used.pop_front())),
        }
        assert_eq!(self.order.len(), self.accepted.len());
        assert_eq!((self.driver.fault(), self.device.fault()), (None, None));
    }

    fn accept(&mut self) {
        let peeked = self.device.peek(&self.mem, &mut List::default()).unwrap();
        assert_eq!(peeked.is_some(), !self.available.is_empty());
        let Some(token) = peeked.map(virtio_ring::Peeked::accept) else { return };
        let ticket = self.order.accept(token).unwrap();
        self.accepted.push_back((self.available.pop_front().unwrap(), Some(ticket), 0));
    }

    fn complete(&mut self, which: usize, part: u8) {
        let waiting: Vec<usize> = (0..self.accepted.len()).filter(|i| self.accepted[*i].1.is_some()).collect();
        if waiting.is_empty() {
            return;
        }
        let (chain, ticket, written) = &mut self.accepted[waiting[which % waiting.len()]];
        *written = (u64::from(chain.room) * u64::from(part) / 255) as u32;
        let completed = self.order.complete(&mut self.device, ticket.take().unwrap(), *written).unwrap();
        let mut expected = 0;
        while self.accepted.front().is_some_and(|(_, ticket, _)| ticket.is_none()) {
            let (Chain { handle, .. }, _, len) = self.accepted.pop_front().unwrap();
            self.completed.push_back(Used { handle, len });
            expected += 1;
        }
        assert_eq!(completed, expected, "as far as it goes");
    }

    fn undo(&mut self) {
        let Some((_, ticket, _)) = self.accepted.back_mut() else { return };
        let Some(ticket) = ticket.take() else { return };
        self.device.rewind(self.order.undo(ticket).unwrap());
        let (chain, ..) = self.accepted.pop_back().unwrap();
        self.available.push_front(chain);
    }

    fn finish(&mut self) {
        while !self.available.is_empty() || !self.accepted.is_empty() {
            self.step(&Op::Accept(1));
            self.step(&Op::Complete(usize::MAX, 255));
        }
        self.step(&Op::Flush);
        while !self.used.is_empty() {
            self.step(&Op::Poll);
        }
        assert_eq!(self.driver.free_slots(), self.driver.size());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn g12_used_order_is_available_order(
        (packed, shift, size) in (any::<bool>(), 0..=6_u32, 1..=40_u16),
        [event_idx, indirect, in_order] in any::<[bool; 3]>(),
        ops in prop::collection::vec(op(), 0..300),
    ) {
        let (format, size) = if packed { (Format::Packed, size) } else { (Format::Split, 1 << shift) };
        let mut session = Session::new(Setup { format, size, event_idx, indirect, in_order });
        for op in &ops {
            session.step(op);
        }
        session.finish();
    }
}

/// `n` tokens of a ring of `n` entries.
fn tokens(format: Format, n: u16) -> (HeapMemory, AnyDriver<Area>, AnyDevice<Area>, Vec<Token>) {
    let setup = Setup { in_order: true, ..Setup::new(format, n) };
    let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
    let (mut driver, mut device) = (setup.driver(&mem, (0, 0)), setup.fresh_device(&mem));
    for _ in 0..n {
        driver.add(&[Element { addr: GuestAddr(BUFFER), len: 64, writable: true }]).unwrap();
    }
    let _ = driver.flush();
    let tokens = (0..n).map(|_| device.peek(&mem, &mut List::default()).unwrap().unwrap().accept()).collect();
    (mem, driver, device, tokens)
}

#[test]
fn a_ticket_of_another_ring_changes_nothing() {
    for format in [Format::Split, Format::Packed] {
        let (_mem, mut driver, mut device, tokens) = tokens(format, 4);
        let (_, _, _, others) = self::tokens(format, 8);
        let (mut order, mut other) = (Reorder::new(4), Reorder::new(8));
        let mut tickets: Vec<_> = tokens.into_iter().map(|t| order.accept(t).unwrap()).collect();
        let mut foreign: Vec<_> = others.into_iter().map(|t| other.accept(t).unwrap()).collect();
        // Never accepted here.
        let stray = foreign.pop().unwrap();
        let stray = order.complete(&mut device, stray, 64).unwrap_err();
        let _ = order.undo(stray).unwrap_err();
        // Completed already: the other's third ticket looks like ours, whose chain is done.
        let third = tickets.remove(2);
        assert_eq!(order.complete(&mut device, third, 3), Ok(0));
        let twice = order.complete(&mut device, foreign.remove(2), 64).unwrap_err();
        assert!(order.undo(twice).is_err());
        // Gone already.
        assert_eq!(order.complete(&mut device, tickets.remove(0), 1), Ok(1));
        assert!(order.complete(&mut device, foreign.remove(0), 64).is_err());
        assert_eq!(order.complete(&mut device, tickets.remove(0), 2), Ok(2));
        assert_eq!(order.complete(&mut device, tickets.remove(0), 4), Ok(1));
        assert!(order.is_empty());
        let _ = device.flush();
        let lens: Vec<_> = core::iter::from_fn(|| driver.poll_used().unwrap()).map(|u| u.len).collect();
        assert_eq!(lens, [1, 2, 3, 4]);
    }
}

#[test]
fn there_is_room_for_a_whole_ring_and_no_more() {
    let (_mem, _driver, mut device, tokens) = tokens(Format::Packed, 5);
    let mut order = Reorder::new(4);
    let mut results: Vec<_> = tokens.into_iter().map(|token| order.accept(token)).collect();
    let token = results.pop().unwrap().unwrap_err();
    assert!(results.iter().all(Result::is_ok));
    device.rewind(token);
    assert_eq!(order.len(), 4);
    // Newest first, as the ring wants it.
    let tickets: Vec<Ticket> = results.into_iter().map(Result::unwrap).collect();
    for ticket in tickets.into_iter().rev() {
        device.rewind(order.undo(ticket).unwrap());
    }
    assert_eq!(device.state(), Format::Packed.start());
    assert_eq!(size_of::<Ticket>(), size_of::<Token>());
}
