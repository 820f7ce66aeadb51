//! Driver, rings, pumps and a back end that reflects, in one thread.
#![allow(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::vec::Vec;

use virtio_ring::{GuestAddr, HeapMemory, MappedArea, QueueConfig, QueueState, SplitDevice, SplitDriver};

use super::{BufferPlan, NetDriver};
use crate::backend::{FrameSink, FrameSource, HEAD_LEN, MAX_FRAME, Placed, RxRoom, Supply, Taken, TxBurst};
use crate::rx::{RxFilter, RxFormat, RxPump, RxStop};
use crate::tx::{TxFilter, TxFormat, TxPump, TxStop};
use crate::{Features, NetHeader, TxOffloads};

type Area = MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;

struct All;
impl RxFilter for All {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}
impl TxFilter for All {
    fn permits(&mut self, _head: &[u8]) -> bool {
        true
    }
}

/// Gives back every frame, at most `limit` of them at a time.
struct Mirror {
    frames: VecDeque<Vec<u8>>,
    limit: usize,
}
impl FrameSink for Mirror {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let count = burst.len().min(self.limit.saturating_sub(self.frames.len()));
        for frame in burst.iter().take(count) {
            let mut bytes = std::vec![0; frame.len()];
            assert_eq!(frame.copy_to(&mut bytes), frame.len());
            assert_eq!(frame.head(), &bytes[..frame.len().min(HEAD_LEN)]);
            self.frames.push_back(bytes);
        }
        Taken { count, failed: 0 }
    }
}
impl FrameSource for Mirror {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while let Some(frame) = self.frames.pop_front() {
            match room.put(&NetHeader::NONE, &frame) {
                Placed::Delivered => {}
                Placed::NoRoom => {
                    self.frames.push_front(frame);
                    return Ok(Supply::More);
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(Supply::Dry)
    }
}

struct Guest {
    driver: NetDriver<SplitDriver<Area>, HeapMemory>,
    rx: SplitDevice<Area>,
    tx: SplitDevice<Area>,
    rx_pump: RxPump<HeapMemory>,
    tx_pump: TxPump<HeapMemory>,
}

fn queue(size: u16, base: u64) -> QueueConfig {
    QueueConfig { event_idx: true, ..QueueConfig::split(GuestAddr(base), size).0 }
}

fn guest(size: u16, acked: Features) -> Guest {
    let mem = HeapMemory::zeroed(GuestAddr(0), 64 << 20).unwrap();
    let (rx, tx) = (queue(size, 0), queue(size, 0x10_0000));
    let plan = BufferPlan { base: GuestAddr(0x20_0000), rx: size, tx: size, tx_frame: MAX_FRAME };
    let rx_driver = SplitDriver::new(&mem, &rx).unwrap();
    let tx_driver = SplitDriver::new(&mem, &tx).unwrap();
    let header_len = acked.header_len();
    let format = RxFormat {
        header_len,
        mergeable: acked.contains(Features::MRG_RXBUF),
        flags: 0,
        gso_types: 0,
        ecn: false,
        mtu: None,
        steered: false,
    };
    Guest {
        driver: NetDriver::new(mem.clone(), rx_driver, tx_driver, &plan, acked).unwrap(),
        rx: SplitDevice::new(&mem, &rx, QueueState::default()).unwrap(),
        tx: SplitDevice::new(&mem, &tx, QueueState::default()).unwrap(),
        rx_pump: RxPump::new(mem.clone(), size, format),
        tx_pump: TxPump::new(mem, TxFormat { header_len, offloads: TxOffloads::new(acked) }),
    }
}

fn frame(len: usize, seed: u8) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame
}

#[test]
fn frames_of_every_length_come_back_whole_and_in_order() {
    let base = Features::VERSION_1;
    for acked in [
        Features::empty(),
        base,
        base | Features::MRG_RXBUF,
        base | Features::GUEST_CSUM | Features::GUEST_TSO4,
        base | Features::MRG_RXBUF | Features::HASH_REPORT,
    ] {
        let merging = acked.intersects(Features::MRG_RXBUF | Features::GUEST_TSO4);
        let lengths = [14, 60, 127, 128, 129, 1514, 1518, 2164, 2165, 9000, 65_535, MAX_FRAME];
        for size in [64, 256] {
            let mut g = guest(size, acked);
            let mut mirror = Mirror { frames: VecDeque::new(), limit: 40 };
            let mut expected = VecDeque::new();
            for round in 0..200_u32 {
                for i in 0..=round % 7 {
                    let len = lengths[(round + i) as usize % lengths.len()];
                    let len = if merging { len } else { len.min(2000) };
                    let bytes = frame(len, round as u8);
                    if g.driver.send(&NetHeader::NONE, &bytes).unwrap() {
                        expected.push_back(bytes);
                    }
                }
                let _ = g.driver.flush();
                g.tx_pump.pump(&mut g.tx, &mut mirror, &mut All, 1000).unwrap();
                g.rx_pump.pump(&mut g.rx, &mut mirror, &mut All, 1000).unwrap();
                while let Some((header, bytes)) = g.driver.receive().unwrap() {
                    assert_eq!(header, NetHeader::NONE);
                    let wanted = expected.pop_front().unwrap();
                    assert_eq!(bytes.len(), wanted.len());
                    assert!(bytes == wanted, "content of {} bytes", wanted.len());
                }
            }
            assert!(expected.len() <= 64, "{} frames left", expected.len());
            assert_eq!(g.driver.stats().malformed, 0);
            assert_eq!(g.tx_pump.stats().bad_frames, 0);
            assert!(g.driver.stats().received > 200);
        }
    }
}

#[test]
fn a_busy_back_end_leaves_frames_in_the_ring() {
    let mut g = guest(256, Features::VERSION_1 | Features::MRG_RXBUF);
    let mut mirror = Mirror { frames: VecDeque::new(), limit: 3 };
    for i in 0..10 {
        assert!(g.driver.send(&NetHeader::NONE, &frame(100, i)).unwrap());
    }
    let _ = g.driver.flush();
    let mut seen = 0;
    for round in 0..4 {
        let out = g.tx_pump.pump(&mut g.tx, &mut mirror, &mut All, 1000).unwrap();
        assert_eq!(out.stop, if round < 3 { TxStop::Busy } else { TxStop::Empty });
        let out = g.rx_pump.pump(&mut g.rx, &mut mirror, &mut All, 1000).unwrap();
        assert_eq!(out.stop, RxStop::Dry);
        while let Some((_, bytes)) = g.driver.receive().unwrap() {
            assert!(bytes == frame(100, seen));
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
}
