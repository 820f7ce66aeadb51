//! The pool of accepted chains beside a model: nothing is lost, nothing comes twice, every segment is where its
//! element says, and the pool takes all that it has room for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;

use std::collections::VecDeque;

use common::guest::{ADJACENT, HIGH, Memory, TABLE, memory};
use common::peers::Setup;
use proptest::prelude::*;
use virtio_ring::{
    Access, AnyDevice, AnyDriver, Chain, Chains, DeviceRing, DriverRing, Element, Format, GuestAddr, GuestMemory,
    GuestSlice, HeapMemory, MAX_SEGMENTS, MappedArea, View,
};

const SIZE: u16 = 32;
/// Entries of an indirect table: chains of more segments than a pool plans for.
const ENTRIES: u16 = 40;

#[derive(Clone, Debug)]
enum Op {
    Add(Vec<Element>),
    Fill,
    Pop(usize),
    Rewind,
    Remap,
}

fn op() -> impl Strategy<Value = Op> {
    // Around the border of two regions, and now and then in a hole.
    let addr = prop_oneof![20 => ADJACENT.0 - 4000..ADJACENT.0 + 4000, 1 => HIGH.0 - 300..HIGH.0];
    let one = (addr, prop_oneof![1 => Just(0), 6 => 1..2000_u32]);
    let few = prop_oneof![3 => 1..=1_usize, 2 => 2..=4_usize, 1 => 30..=usize::from(ENTRIES)];
    let chain = few.prop_flat_map(move |n| (prop::collection::vec(one.clone(), n), 0..=n));
    let chain = chain.prop_map(|(all, readable)| {
        let element = |(i, (at, len))| Element { addr: GuestAddr(at), len, writable: i >= readable };
        all.into_iter().enumerate().map(element).collect()
    });
    prop_oneof![
        8 => chain.prop_map(Op::Add),
        4 => Just(Op::Fill),
        4 => (0..8_usize).prop_map(Op::Pop),
        1 => Just(Op::Rewind),
        1 => Just(Op::Remap),
    ]
}

/// Host address and length of every piece of the elements, or `None` if one is not there.
fn pieces(mem: &Memory, elements: &[Element], writable: bool) -> Option<Vec<(usize, usize)>> {
    let mut all = Vec::new();
    for e in elements.iter().filter(|e| e.writable == writable) {
        let (mut at, mut left) = (e.addr, e.len as usize);
        while left > 0 {
            let seg = mem.translate(at, left, Access::Write).ok()?;
            all.push((seg.as_ptr().addr(), seg.len()));
            at = at.checked_add(seg.len() as u64)?;
            left -= seg.len();
        }
    }
    Some(all)
}

fn found(segs: &[GuestSlice<'_>]) -> Vec<(usize, usize)> {
    segs.iter().map(|s| (s.as_ptr().addr(), s.len())).collect()
}

/// One chain of the view against its elements; returns its segments.
fn check(mem: &Memory, view: &View<'_>, chain: &Chain, elements: &[Element]) -> usize {
    let (readable, writable) = (pieces(mem, elements, false), pieces(mem, elements, true));
    assert_eq!(chain.is_faulty(), readable.is_none() || writable.is_none());
    if let (Some(readable), Some(writable)) = (readable, writable) {
        assert_eq!((found(view.readable(chain)), found(view.writable(chain))), (readable, writable));
        let sum = |w| elements.iter().filter(|e| e.writable == w).map(|e| e.len).sum::<u32>();
        assert_eq!((chain.readable_len(), chain.writable_len()), (sum(false), sum(true)));
    }
    view.readable(chain).len() + view.writable(chain).len()
}

struct Session {
    mem: Memory,
    driver: AnyDriver<MappedArea<HeapMemory>>,
    device: AnyDevice<MappedArea<HeapMemory>>,
    chains: Chains<Memory>,
    depth: usize,
    available: VecDeque<Vec<Element>>,
    held: VecDeque<Vec<Element>>,
}

impl Session {
    fn step(&mut self, op: &Op) {
        match op {
            Op::Add(elements) => {
                if self.driver.add(elements).is_ok() {
                    self.available.push_back(elements.clone());
                }
                let _ = self.driver.flush();
            }
            Op::Fill => self.fill(),
            Op::Pop(n) => (0..*n).for_each(|_| self.pop()),
            Op::Rewind => {
                self.chains.rewind(&mut self.device);
                self.give_back();
            }
            Op::Remap => {
                self.chains.remap(&mut self.device, self.mem.clone());
                self.give_back();
            }
        }
        self.look();
    }

    fn give_back(&mut self) {
        while let Some(elements) = self.held.pop_back() {
            self.available.push_front(elements);
        }
        assert!(self.chains.is_empty());
    }

    fn fill(&mut self) {
        // Each time it takes what it knows of, and looks for more only if that is nothing.
        let mut held = self.chains.len();
        loop {
            let now = self.chains.fill(&mut self.device).unwrap();
            assert!((held..=self.depth).contains(&now));
            if std::mem::replace(&mut held, now) == now {
                break;
            }
        }
        while self.held.len() < held {
            self.held.push_back(self.available.pop_front().unwrap());
        }
        if held < self.depth && !self.available.is_empty() {
            assert!(self.chains.is_full(), "it stopped for a reason");
            assert!(self.look() > 2 * self.depth, "and that is many segments held, not many used up");
        }
    }

    fn pop(&mut self) {
        let token = self.chains.pop();
        assert_eq!(token.is_some(), self.held.pop_front().is_some());
        let Some(token) = token else { return };
        self.device.complete(token, 0);
        let _ = self.device.flush();
        self.driver.poll_used().unwrap().unwrap();
    }

    /// All that is held against the model; returns the segments.
    fn look(&self) -> usize {
        let view = self.chains.view();
        assert_eq!((view.chains().len(), self.chains.len()), (self.held.len(), self.held.len()));
        view.chains().iter().zip(&self.held).map(|(c, e)| check(&self.mem, &view, c, e)).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_follows_the_model(
        depth in 1..40_usize,
        [packed, in_order] in any::<[bool; 2]>(),
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let format = if packed { Format::Packed } else { Format::Split };
        let setup = Setup { event_idx: true, indirect: true, in_order, ..Setup::new(format, SIZE) };
        let mem = memory();
        let driver = setup.driver(&mem, (TABLE, ENTRIES));
        let device = setup.fresh_device(&mem);
        let chains = Chains::new(mem.clone(), depth);
        let (available, held) = (VecDeque::new(), VecDeque::new());
        let mut session = Session { mem, driver, device, chains, depth, available, held };
        for op in &ops {
            session.step(op);
        }
        while !(session.available.is_empty() && session.held.is_empty()) {
            session.step(&Op::Fill);
            session.step(&Op::Pop(MAX_SEGMENTS));
        }
        prop_assert_eq!(session.driver.free_slots(), SIZE);
    }
}
