//! The pool on every ring, beside a device that only names buffers and lengths.

use std::vec::Vec;

use proptest::prelude::*;
use virtio_ring::{
    AnyDevice, AnyDriver, ChainFault, ChainSink, DeviceRing, DriverRing, Element, Format, GuestAddr, HeapBlock,
    HeapMemory, MappedArea, Peeked, QueueConfig, Token,
};

use super::{BufferSizes, Filled, Held, LONGEST, ReceivePool, enough};

type Area = MappedArea<std::sync::Arc<HeapBlock>>;

const BASE: GuestAddr = GuestAddr(0x10_0000);

struct Last(Option<Element>);
impl ChainSink for Last {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        assert!(e.writable && self.0.replace(e).is_none(), "one writable element");
        Ok(())
    }
}

struct Rig {
    mem: HeapMemory,
    pool: ReceivePool<AnyDriver<Area>>,
    device: AnyDevice<Area>,
    sizes: BufferSizes,
    len: u64,
    count: u16,
    posted: Vec<(Token, Element)>,
    filled: Vec<(Filled, Element, u32)>,
    held: Vec<(Held, Element)>,
}

impl Rig {
    fn new((format, size): (Format, u16), in_order: bool, count: u16, blocks: Option<u64>) -> Self {
        // The pool does not touch its buffers.
        let mem = HeapMemory::zeroed(GuestAddr(0), BASE.0 as usize).unwrap();
        let config = QueueConfig { in_order, event_idx: true, ..format.layout(GuestAddr(0x1000), size).0 };
        let ring = AnyDriver::new(&mem, format, &config).unwrap();
        let device = AnyDevice::new(&mem, format, &config, format.start()).unwrap();
        let sizes = BufferSizes::mergeable(12, count.min(size));
        let len = blocks.map_or_else(|| sizes.memory_len(count), |n| n * 513 * 64);
        let pool = ReceivePool::new(ring, BASE, len, count, sizes);
        let (posted, filled, held) = Default::default();
        Self { mem, pool, device, sizes, len, count: count.min(size), posted, filled, held }
    }

    /// The device takes all that is posted; nothing that is anybody's overlaps anything else.
    fn take(&mut self) {
        let _ = self.pool.flush();
        loop {
            let mut last = Last(None);
            let Some(token) = self.device.peek(&self.mem, &mut last).unwrap().map(Peeked::accept) else { break };
            self.posted.push((token, last.0.unwrap()));
        }
        let out = self.posted.iter().map(|(_, e)| e).chain(self.filled.iter().map(|(_, e, _)| e));
        let mut all: Vec<&Element> = out.chain(self.held.iter().map(|(_, e)| e)).collect();
        all.sort_unstable_by_key(|e| e.addr.0);
        for pair in all.windows(2) {
            assert!(pair[0].addr.0 + u64::from(pair[0].len) <= pair[1].addr.0, "{pair:?}");
        }
        for e in &all {
            assert!(e.addr >= BASE && e.addr.0 + u64::from(e.len) <= BASE.0 + self.len);
            assert!((self.sizes.shortest..=self.sizes.longest).contains(&e.len) && (e.len / 64) % 2 == 1);
        }
        assert!(self.posted.len() + self.filled.len() <= self.count.into());
    }

    /// The device uses the buffer with this number, and the pool gives it out.
    fn fill(&mut self, which: usize, len: u32) {
        if self.posted.is_empty() {
            return;
        }
        let (token, e) = self.posted.remove(which % self.posted.len());
        let len = len.min(e.len);
        self.device.complete(token, len);
        let _ = self.device.flush();
        let filled = self.pool.poll().unwrap().unwrap();
        assert_eq!((filled.addr(), filled.len()), (e.addr, len));
        self.filled.push((filled, e, len));
    }

    fn hold(&mut self, which: usize) {
        let (filled, e, len) = self.filled.remove(which);
        let held = self.pool.hold(filled).unwrap();
        assert_eq!((held.addr(), held.len()), (e.addr, len));
        self.held.push((held, e));
    }

    /// Everything comes back, and all buffers are posted.
    fn finish(&mut self) {
        while !self.filled.is_empty() {
            let (filled, ..) = self.filled.remove(0);
            self.pool.repost(filled).unwrap();
        }
        for (held, _) in self.held.drain(..) {
            self.pool.give_back(held).unwrap();
        }
        self.take();
    }
}

#[derive(Clone, Debug)]
enum Op {
    Take,
    Fill(usize, u32),
    Repost(usize),
    Hold(usize),
    GiveBack(usize),
    /// So many frames of this length pass.
    Learn(u8, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let oldest = || prop_oneof![3 => Just(0), 1 => any::<usize>()];
    prop_oneof![
        4 => Just(Op::Take),
        8 => (oldest(), 0..5000_u32).prop_map(|(which, len)| Op::Fill(which, len)),
        6 => oldest().prop_map(Op::Repost),
        3 => any::<usize>().prop_map(Op::Hold),
        3 => any::<usize>().prop_map(Op::GiveBack),
        1 => (any::<u8>(), 0..70_000_u32).prop_map(|(n, len)| Op::Learn(n, len)),
    ]
}

fn ring() -> impl Strategy<Value = (Format, u16)> {
    let split = (0..=6_u32).prop_map(|shift| (Format::Split, 1_u16 << shift));
    prop_oneof![split, (1..=70_u16).prop_map(|size| (Format::Packed, size))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn buffers_are_apart_and_none_is_lost(
        ring in ring(),
        in_order in any::<bool>(),
        count in 1..80_u16,
        blocks in prop_oneof![2 => Just(None), 1 => (1..6_u64).prop_map(Some)],
        ops in prop::collection::vec(op(), 0..300),
    ) {
        let mut rig = Rig::new(ring, in_order, count, blocks);
        rig.take();
        for op in ops {
            match op {
                Op::Take => rig.take(),
                Op::Fill(which, len) => rig.fill(if in_order { 0 } else { which }, len),
                Op::Repost(which) if !rig.filled.is_empty() => {
                    let (filled, ..) = rig.filled.remove(which % rig.filled.len());
                    rig.pool.repost(filled).unwrap();
                    rig.take();
                }
                Op::Hold(which) if !rig.filled.is_empty() => rig.hold(which % rig.filled.len()),
                Op::GiveBack(which) if !rig.held.is_empty() => {
                    let (held, _) = rig.held.remove(which % rig.held.len());
                    rig.pool.give_back(held).unwrap();
                }
                Op::Learn(n, len) => (0..n).for_each(|_| rig.pool.learn(len as usize)),
                _ => {}
            }
        }
        rig.finish();
        if blocks.is_none() {
            let posted = rig.posted.len();
            prop_assert!(posted >= usize::from(enough(rig.count)), "{posted}: the memory that was asked for is enough");
            let bytes: u32 = rig.posted.iter().map(|(_, e)| e.len).sum();
            prop_assert!(bytes >= 65_589 + 12 || rig.count < 22, "and the longest frame finds room: {bytes}");
        }
        // Nothing leaked: without any buffer out, there is as much to cut as at first.
        while !rig.posted.is_empty() {
            rig.fill(0, 0);
        }
        let size = usize::from(rig.pool.ring().size());
        rig.pool.count = 0;
        rig.finish_without_posting();
        prop_assert_eq!(usize::from(rig.pool.ring().free_slots()), size);
        let longest = rig.sizes.longest;
        let all = core::iter::from_fn(|| rig.pool.cutter.cut(longest)).count() as u64;
        let block = u64::from(longest).max(513 * 64);
        prop_assert_eq!(all, rig.len / block * (block / u64::from(longest)));
    }

    #[test]
    fn sizes_follow_the_average(
        ring in ring(),
        in_order in any::<bool>(),
        lens in prop::collection::vec(14..66_000_usize, 1..4),
    ) {
        let mut rig = Rig::new(ring, in_order, 64, None);
        rig.take();
        for len in lens {
            for _ in 0..1000 {
                rig.pool.learn(len);
            }
            let wanted = rig.pool.wanted();
            let suit = (len as u32 + 12).clamp(rig.sizes.shortest, rig.sizes.longest);
            prop_assert!((suit.saturating_sub(1)..suit + 128).contains(&wanted), "{} for {}", wanted, len);
            // Two laps: what came back late made room late.
            for _ in 0..2 * rig.count {
                rig.fill(0, 60);
                let (filled, ..) = rig.filled.remove(0);
                rig.pool.repost(filled).unwrap();
                rig.take();
            }
            prop_assert_eq!(rig.posted.len(), usize::from(rig.count));
            for (_, e) in &rig.posted {
                prop_assert!(e.len.abs_diff(wanted) <= wanted / 8, "{} is not {}", e.len, wanted);
            }
        }
    }
}

impl Rig {
    fn finish_without_posting(&mut self) {
        while !self.filled.is_empty() {
            self.hold(0);
        }
        for (held, _) in self.held.drain(..) {
            self.pool.give_back(held).unwrap();
        }
    }
}

#[test]
fn a_buffer_that_is_reposted_costs_no_new_one() {
    for in_order in [false, true] {
        for format in [Format::Split, Format::Packed] {
            let mut rig = Rig::new((format, 16), in_order, 16, None);
            rig.take();
            let first: Vec<Element> = rig.posted.iter().map(|(_, e)| *e).collect();
            for _ in 0..50 {
                rig.fill(0, 60);
                let (filled, ..) = rig.filled.remove(0);
                rig.pool.repost(filled).unwrap();
                rig.take();
            }
            let mut last: Vec<Element> = rig.posted.iter().map(|(_, e)| *e).collect();
            last.sort_unstable_by_key(|e| e.addr.0);
            assert_eq!(first, last);
        }
    }
}

#[test]
fn buffers_of_another_pool_are_refused() {
    let mut rig = Rig::new((Format::Split, 4), false, 4, None);
    let mut other = Rig::new((Format::Packed, 4), false, 4, None);
    other.pool = {
        let config = QueueConfig { event_idx: true, ..Format::Packed.layout(GuestAddr(0x1000), 4).0 };
        let ring = AnyDriver::new(&other.mem, Format::Packed, &config).unwrap();
        ReceivePool::new(ring, GuestAddr(0x90_0000), other.len, 4, other.sizes)
    };
    for r in [&mut rig, &mut other] {
        let _ = r.pool.flush();
        for _ in 0..2 {
            let mut last = Last(None);
            let token = r.device.peek(&r.mem, &mut last).unwrap().unwrap().accept();
            r.posted.push((token, last.0.unwrap()));
        }
        r.fill(0, 1);
        r.fill(0, 1);
    }
    let (stray, ..) = other.filled.remove(0);
    let stray = rig.pool.repost(stray).unwrap_err();
    let stray = rig.pool.hold(stray).unwrap_err();
    let held = other.pool.hold(stray).unwrap();
    let held = rig.pool.give_back(held).unwrap_err();
    other.pool.give_back(held).unwrap();
    let held = rig.pool.hold(rig.filled.remove(0).0).unwrap();
    rig.pool.give_back(held).unwrap();
}

#[test]
fn bounds_are_what_the_longest_frame_needs() {
    for count in [1, 2, 16, 21, 22, 23, 24, 64, 255, 256, 32_768] {
        let sizes = BufferSizes::mergeable(12, count);
        let fits = u64::from(sizes.shortest) * u64::from(enough(count)) >= 65_589 + 12;
        assert_eq!(fits, count >= 22, "{count} of {}", sizes.shortest);
        assert!(sizes.shortest >= 1530 && sizes.longest == LONGEST && sizes.shortest <= LONGEST);
    }
    assert_eq!(BufferSizes::mergeable(12, 256), BufferSizes { header: 12, shortest: 1600, longest: 4032 });
    assert_eq!(BufferSizes::fixed(2176), BufferSizes { header: 0, shortest: 2240, longest: 2240 });
}
