//! Random frames through the device's own pump into the driver, copied or held, byte for byte.
#![allow(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::vec::Vec;

use proptest::prelude::*;
use virtio_ring::{
    Access, AnyDevice, AnyDriver, DeviceRing, Format, GuestAddr, GuestMemory, HeapBlock, HeapMemory, MappedArea,
    QueueConfig,
};

use super::super::pool::Held;
use super::super::{BufferPlan, NetDriver, read};
use super::Received;
use crate::backend::{FrameSource, MAX_FRAME, Placed, RxRoom, Supply};
use crate::rx::{RxFilter, RxFormat, RxPump};
use crate::{Features, NetHeader};

type Area = MappedArea<std::sync::Arc<HeapBlock>>;

struct All;
impl RxFilter for All {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}

#[derive(Default)]
struct Source {
    waiting: VecDeque<Vec<u8>>,
    delivered: VecDeque<Vec<u8>>,
}
impl FrameSource for Source {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while let Some(frame) = self.waiting.pop_front() {
            match room.put(&NetHeader::NONE, &frame) {
                Placed::Delivered => self.delivered.push_back(frame),
                Placed::NoRoom => {
                    self.waiting.push_front(frame);
                    return Ok(Supply::More);
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(Supply::Dry)
    }
}

struct Rig {
    mem: HeapMemory,
    driver: NetDriver<AnyDriver<Area>, HeapMemory>,
    device: AnyDevice<Area>,
    pump: RxPump<HeapMemory>,
    source: Source,
}

impl Rig {
    fn new((format, size): (Format, u16), in_order: bool) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 4 << 20).unwrap();
        let (rx, end) = format.layout(GuestAddr(0), size);
        let (tx, base) = format.layout(end, 1);
        let [rx, tx] = [rx, tx].map(|queue| QueueConfig { in_order, event_idx: true, ..queue });
        let ring = |queue| AnyDriver::new(&mem, format, queue).unwrap();
        let acked = Features::VERSION_1 | Features::MRG_RXBUF;
        let plan = BufferPlan { base, rx: size, tx: 1, tx_frame: 64 };
        let driver = NetDriver::new(mem.clone(), ring(&rx), ring(&tx), &plan, acked).unwrap();
        assert!(base.0 as usize + NetDriver::<AnyDriver<Area>, HeapMemory>::memory_len(&plan, acked) <= 4 << 20);
        let device = AnyDevice::new(&mem, format, &rx, format.start()).unwrap();
        let rules =
            RxFormat { header_len: 12, mergeable: true, flags: 0, gso_types: 0, ecn: false, mtu: None, steered: false };
        let pump = RxPump::new(mem.clone(), size, rules);
        Self { mem, driver, device, pump, source: Source::default() }
    }

    fn pump(&mut self) {
        let _ = self.driver.flush();
        self.pump.pump(&mut self.device, &mut self.source, &mut All, 1000).unwrap();
    }

    fn bytes(&self, parts: &[Held]) -> Vec<u8> {
        let mut all = Vec::new();
        for part in parts {
            let at = all.len();
            all.resize(at + part.len() as usize, 0);
            read(&self.mem, part.addr(), &mut all[at..]).unwrap();
        }
        all
    }
}

fn frame(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed * 7) as u8).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Frame(usize),
    Pump,
    Receive,
    ReceiveHeld(usize),
    GiveBack(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 14..200_usize, 3 => 200..1600_usize, 2 => 1600..9000_usize, 1 => 9000..=MAX_FRAME];
    prop_oneof![
        5 => len.prop_map(Op::Frame),
        4 => Just(Op::Pump),
        4 => Just(Op::Receive),
        6 => prop_oneof![Just(0), Just(128), Just(2000)].prop_map(Op::ReceiveHeld),
        3 => any::<usize>().prop_map(Op::GiveBack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_are_what_was_sent_copied_or_held(
        packed in any::<bool>(),
        in_order in any::<bool>(),
        size in prop_oneof![Just(32_u16), Just(64), Just(256)],
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let format = if packed { Format::Packed } else { Format::Split };
        let mut rig = Rig::new((format, size), in_order);
        let mut held: Vec<(Vec<Held>, Vec<u8>)> = Vec::new();
        let (mut seed, mut frames) = (0, 0);
        for op in ops {
            match op {
                Op::Frame(len) => {
                    seed += 1;
                    rig.source.waiting.push_back(frame(len, seed));
                }
                Op::Pump => rig.pump(),
                Op::Receive => {
                    let got = rig.driver.receive().unwrap().map(|(_, frame)| frame.to_vec());
                    frames += u64::from(got.is_some());
                    prop_assert!(got == rig.source.delivered.pop_front());
                }
                Op::ReceiveHeld(copy) => {
                    let mut parts = Vec::new();
                    let got = rig.driver.receive_held(copy, &mut parts).unwrap().map(|(_, got)| match got {
                        Received::Copied(bytes) => (bytes.to_vec(), bytes.len()),
                        Received::Held(len) => (Vec::new(), len),
                    });
                    let expected = rig.source.delivered.pop_front();
                    frames += u64::from(got.is_some());
                    if let (Some((bytes, len)), Some(expected)) = (&got, &expected) {
                        prop_assert_eq!(*len, expected.len());
                        prop_assert!(parts.is_empty() == (*len <= copy) || parts.len() > 1, "long, or in several");
                        prop_assert!(bytes == expected || bytes.is_empty() && !parts.is_empty());
                    }
                    prop_assert_eq!(got.is_some(), expected.is_some());
                    if !parts.is_empty() {
                        held.push((parts, expected.unwrap_or_default()));
                    }
                }
                Op::GiveBack(which) if !held.is_empty() => {
                    let (parts, _) = held.remove(which % held.len());
                    for part in parts {
                        rig.driver.give_back(part).unwrap();
                    }
                }
                Op::GiveBack(_) => {}
            }
            // However long they are held, nobody writes to them.
            for (parts, expected) in &held {
                prop_assert!(rig.bytes(parts) == *expected);
            }
        }
        for (parts, _) in held {
            for part in parts {
                rig.driver.give_back(part).unwrap();
            }
        }
        // All of the ring is there again, for the longest frame.
        while let Some((_, got)) = rig.driver.receive().unwrap() {
            frames += 1;
            prop_assert!(rig.source.delivered.pop_front().unwrap() == got);
        }
        rig.source.waiting.push_back(frame(MAX_FRAME, 1));
        while !rig.source.waiting.is_empty() {
            rig.pump();
            let before = rig.source.delivered.len();
            while let Some((_, got)) = rig.driver.receive().unwrap() {
                frames += 1;
                prop_assert!(rig.source.delivered.pop_front().unwrap() == got);
            }
            prop_assert!(before > 0, "the pump goes on");
        }
        prop_assert_eq!((rig.driver.stats().received, rig.driver.stats().malformed), (frames, 0));
    }
}

/// A device that lies about what it wrote: nothing is held of such a frame, and the next one comes.
#[test]
fn frames_that_contradict_themselves_leave_their_buffers_with_the_driver() {
    for format in [Format::Split, Format::Packed] {
        for in_order in [false, true] {
            let mut rig = Rig::new((format, 64), in_order);
            let lie = |rig: &mut Rig, num_buffers: u16, lens: &[u32]| {
                let _ = rig.driver.flush();
                for (i, len) in lens.iter().enumerate() {
                    let mut at = At(None);
                    let token = rig.device.peek(&rig.mem, &mut at).unwrap().unwrap().accept();
                    if i == 0 {
                        let to = rig.mem.translate(at.0.unwrap(), 12, Access::Write).unwrap();
                        to.write(&NetHeader::NONE.to_bytes(num_buffers));
                    }
                    rig.device.complete(token, *len);
                }
                let _ = rig.device.flush();
            };
            let rows: [(u16, &[u32]); 6] =
                [(0, &[600]), (2, &[600]), (65_535, &[600, 600, 600]), (1, &[11]), (1, &[0]), (1, &[5])];
            // Often enough that a buffer lost each time would be missed.
            for (n, (num_buffers, lens)) in core::iter::repeat_n(rows, 40).flatten().enumerate() {
                lie(&mut rig, num_buffers, lens);
                let mut held = Vec::new();
                assert_eq!(rig.driver.receive_held(100, &mut held), Ok(None), "{num_buffers}, {lens:?}");
                assert_eq!((held.len(), rig.driver.stats().malformed), (0, n as u64 + 1));
                // As many buffers as ever.
                rig.source.waiting.push_back(frame(MAX_FRAME, n));
                rig.pump();
                assert_eq!(rig.driver.receive().unwrap().map(|(_, f)| f == frame(MAX_FRAME, n)), Some(true));
                rig.source.delivered.clear();
                rig.pump.chains().rewind(&mut rig.device);
            }
        }
    }
}

struct At(Option<GuestAddr>);
impl virtio_ring::ChainSink for At {
    fn push(&mut self, e: virtio_ring::Element) -> Result<(), virtio_ring::ChainFault> {
        self.0 = Some(e.addr);
        Ok(())
    }
}
