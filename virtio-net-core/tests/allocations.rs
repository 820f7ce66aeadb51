//! A driver that receives, copies, holds and gives back allocates nothing after its set-up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

#[path = "../../virtio-ring/tests/common/heap.rs"]
mod heap;

use std::convert::Infallible;

use virtio_net_core::backend::{FrameSource, Placed, RxRoom, Supply};
use virtio_net_core::driver::{BufferPlan, NetDriver, Received};
use virtio_net_core::rx::{RxFilter, RxFormat, RxPump};
use virtio_net_core::{Features, NetHeader};
use virtio_ring::{AnyDevice, AnyDriver, Format, GuestAddr, HeapMemory, QueueConfig};

struct All;
impl RxFilter for All {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}

/// Frames of these lengths, from one buffer.
struct Lengths {
    bytes: Vec<u8>,
    next: usize,
    left: usize,
}
const LENGTHS: [usize; 7] = [60, 1514, 64, 9000, 65_000, 60, 3000];
impl FrameSource for Lengths {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while self.left > 0 {
            match room.put(&NetHeader::NONE, &self.bytes[..LENGTHS[self.next % LENGTHS.len()]]) {
                Placed::Delivered => (self.next, self.left) = (self.next + 1, self.left - 1),
                _ => return Ok(Supply::More),
            }
        }
        Ok(Supply::Dry)
    }
}

#[test]
fn receiving_allocates_nothing() {
    for format in [Format::Split, Format::Packed] {
        for in_order in [false, true] {
            let mem = HeapMemory::zeroed(GuestAddr(0), 4 << 20).unwrap();
            let (rx, end) = format.layout(GuestAddr(0), 256);
            let (tx, base) = format.layout(end, 1);
            let [rx, tx] = [rx, tx].map(|queue| QueueConfig { in_order, ..queue });
            let ring = |queue| AnyDriver::new(&mem, format, queue).unwrap();
            let plan = BufferPlan { base, rx: 256, tx: 1, tx_frame: 64 };
            let acked = Features::VERSION_1 | Features::MRG_RXBUF;
            let mut driver = NetDriver::new(mem.clone(), ring(&rx), ring(&tx), &plan, acked).unwrap();
            let mut device = AnyDevice::new(&mem, format, &rx, format.start()).unwrap();
            let rules = RxFormat {
                header_len: 12,
                mergeable: true,
                flags: 0,
                gso_types: 0,
                ecn: false,
                mtu: None,
                steered: false,
            };
            let mut pump = RxPump::new(mem.clone(), 256, rules);
            let mut source = Lengths { bytes: vec![7; 65_589], next: 0, left: 0 };
            let mut held = Vec::with_capacity(256);
            let before = heap::COUNT.get();
            let (mut frames, mut copied) = (0, 0);
            for round in 0..300 {
                source.left = 3;
                while source.left > 0 {
                    let _ = driver.flush();
                    pump.pump(&mut device, &mut source, &mut All, 100).unwrap();
                    if round % 3 == 0 {
                        while driver.receive().unwrap().is_some() {
                            frames += 1;
                        }
                    }
                    while let Some((_, frame)) = driver.receive_held(128, &mut held).unwrap() {
                        frames += 1;
                        copied += usize::from(matches!(frame, Received::Copied(_)));
                    }
                    for part in held.drain(..) {
                        driver.give_back(part).unwrap();
                    }
                }
            }
            assert_eq!(heap::COUNT.get() - before, 0, "{format:?}, in order {in_order}");
            assert!(frames == 900 && copied > 200, "{frames} frames, {copied} copied");
        }
    }
}
