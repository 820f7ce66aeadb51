//! What a burst of 32 frames may cost, counted: accesses to the ring, fences, translations, calls. One look at the driver's
//! index, one publication, one fence and one look at its event word, whatever the burst.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, dead_code, reason = "test")]

#[path = "../../virtio-ring/tests/common/counting.rs"]
mod counting;

use std::convert::Infallible;
use std::sync::Arc;

use counting::{Counts, Watched, WatchedArea};
use net_filter::{MacAddr, ReceiveFilter, SpoofCheck};
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::{RxFilter, RxPump, RxStop};
use virtio_net_core::tx::{TxPump, TxStop};
use virtio_net_core::{Features, NetHeader, rx_format, tx_format};
use virtio_ring::{
    Access, AnyDevice, AnyDriver, DriverRing, Element, Format, GuestAddr, GuestMemory, HeapBlock, HeapMemory,
    MappedArea, QueueConfig,
};

type Area = MappedArea<Arc<HeapBlock>>;

const BURST: u64 = 32;
const SIZE: u16 = 256;
const BUFFERS: u64 = 0x1_0000;
const STRIDE: u64 = 2176;
const HEADER: usize = 12;
const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    format: Format,
    in_order: bool,
    event_idx: bool,
    mergeable: bool,
}

fn rows() -> impl Iterator<Item = Row> {
    (0..16).map(|n| {
        let format = if n & 8 == 0 { Format::Split } else { Format::Packed };
        Row { format, in_order: n & 4 != 0, event_idx: n & 2 != 0, mergeable: n & 1 != 0 }
    })
}

impl Row {
    fn features(self) -> Features {
        if self.mergeable { Features::VERSION_1 | Features::MRG_RXBUF } else { Features::VERSION_1 }
    }
}

struct Queue {
    mem: HeapMemory,
    watched: Watched<HeapMemory>,
    driver: AnyDriver<Area>,
    device: AnyDevice<WatchedArea<Area>>,
}

impl Queue {
    fn new(row: Row) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x20_0000).unwrap();
        let watched = Watched::new(mem.clone());
        let (config, _) = row.format.layout(GuestAddr(0x1000), SIZE);
        let config = QueueConfig { in_order: row.in_order, event_idx: row.event_idx, ..config };
        let driver = AnyDriver::new(&mem, row.format, &config).unwrap();
        let device = AnyDevice::new(&watched, row.format, &config, row.format.start()).unwrap();
        Self { mem, watched, driver, device }
    }

    /// Makes a burst of buffers available, each with these bytes at its front.
    fn post(&mut self, len: usize, writable: bool, bytes: &[u8]) {
        let element = |i| Element { addr: GuestAddr(BUFFERS + i * STRIDE), len: len as u32, writable };
        for i in 0..BURST {
            self.mem.translate(element(i).addr, bytes.len(), Access::Write).unwrap().write(bytes);
        }
        assert_eq!(self.driver.add_each((0..BURST).map(element), |_| ()), BURST as usize);
        let _ = self.driver.flush();
    }

    fn reap(&mut self) {
        assert_eq!(self.driver.reap_each(BURST as usize, |_| ()), Ok(BURST as usize));
    }
}

/// What the device's side of a ring may do for a burst of chains of one buffer.
fn budget(row: Row, writable: bool) -> Counts {
    // In order, chains that nothing was written to share the entry of the last.
    let entries = if row.in_order && !writable { 1 } else { BURST };
    let common = Counts { fences: 1, load_relaxed: 1, translations: BURST, ..Counts::default() };
    match row.format {
        Format::Split => Counts {
            // An entry of the available ring and a descriptor of two words, each.
            reads: 3 * BURST,
            read_bytes: 18 * BURST,
            writes: 2 * entries,
            written_bytes: 8 * entries,
            // The indices.
            load_acquire: 1,
            store_release: 1,
            ..common
        },
        Format::Packed => Counts {
            reads: BURST,
            read_bytes: 8 * BURST,
            // Flags with length and id: of each descriptor, and of the one that is not available yet.
            load_acquire: BURST + 1,
            store_release: entries,
            ..common
        },
    }
}

struct Wire {
    frames: u64,
    offers: u64,
}
impl FrameSink for Wire {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        self.frames += burst.iter().filter(|frame| frame.len() == 64 && frame.header == NetHeader::NONE).count() as u64;
        self.offers += 1;
        Taken { count: burst.len(), failed: 0 }
    }
}

#[test]
fn a_burst_from_the_guest() {
    for row in rows() {
        let mut queue = Queue::new(row);
        let mut pump = TxPump::new(queue.watched.clone(), tx_format(row.features()));
        let mut frame = vec![0; HEADER + 64];
        frame[HEADER + 6..HEADER + 12].copy_from_slice(&GUEST.0);
        let mut wire = Wire { frames: 0, offers: 0 };
        for round in 1..=20 {
            queue.post(frame.len(), false, &frame);
            queue.watched.take();
            let outcome = pump.pump(&mut queue.device, &mut wire, &mut SpoofCheck::new(GUEST), u64::MAX).unwrap();
            assert_eq!(queue.watched.take(), budget(row, false), "{row:?}, burst {round}");
            assert_eq!((outcome.chains, outcome.stop), (BURST, TxStop::Empty));
            assert_eq!((wire.frames, wire.offers), (round * BURST, round), "the whole burst at once");
            assert_eq!((pump.stats().bursts, pump.stats().calls <= round), (round, true), "at most one call");
            queue.reap();
        }
    }
}

/// Has a burst, and then nothing.
struct Inbox(u64);
impl FrameSource for Inbox {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        let mut frame = [7; 64];
        frame[..6].copy_from_slice(&GUEST.0);
        while self.0 > 0 {
            if room.put(&NetHeader::NONE, &frame) != Placed::Delivered {
                return Ok(Supply::More);
            }
            self.0 -= 1;
        }
        Ok(Supply::Dry)
    }
}

#[test]
fn a_burst_to_the_guest() {
    for row in rows() {
        let mut queue = Queue::new(row);
        let mut pump = RxPump::new(queue.watched.clone(), SIZE, rx_format(row.features()));
        for round in 1..=20 {
            queue.post(2048, true, &[]);
            queue.watched.take();
            let outcome =
                pump.pump(&mut queue.device, &mut Inbox(BURST), &mut ReceiveFilter::for_station(GUEST), 64).unwrap();
            assert_eq!(queue.watched.take(), budget(row, true), "{row:?}, burst {round}");
            assert_eq!((outcome.frames, outcome.stop), (BURST, RxStop::Dry));
            assert_eq!((pump.stats().bursts, pump.stats().calls <= round), (round, true), "at most one call");
            queue.reap();
        }
    }
}

/// Buffers are taken ahead, and what is not used stays: a source that has nothing costs the ring nothing, nor does a frame
/// that the filter rejects.
#[test]
fn nothing_to_deliver_costs_nothing() {
    for row in rows() {
        let mut queue = Queue::new(row);
        let mut pump = RxPump::new(queue.watched.clone(), SIZE, rx_format(row.features()));
        queue.post(2048, true, &[]);
        queue.post(2048, true, &[]);
        let mut filter = ReceiveFilter::for_station(GUEST);
        pump.pump(&mut queue.device, &mut Inbox(0), &mut filter, 64).unwrap();
        queue.watched.take();
        for _ in 0..10 {
            pump.pump(&mut queue.device, &mut Inbox(0), &mut filter, 64).unwrap();
        }
        let mut other = ReceiveFilter::for_station(MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(pump.pump(&mut queue.device, &mut Inbox(0), &mut other, 64).unwrap().frames, 0);
        let mut rejected = Rejected(BURST);
        assert_eq!(pump.pump(&mut queue.device, &mut rejected, &mut other, 64).unwrap().frames, 0);
        assert_eq!((rejected.0, pump.stats().filtered), (0, BURST));
        assert_eq!(queue.watched.take(), Counts::default(), "{row:?}");
    }
}

/// Has frames that nobody wants.
struct Rejected(u64);
impl FrameSource for Rejected {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        let mut frame = [0; 64];
        frame[..6].copy_from_slice(&GUEST.0);
        while self.0 > 0 {
            assert_eq!(room.put(&NetHeader::NONE, &frame), Placed::Filtered);
            self.0 -= 1;
        }
        Ok(Supply::Dry)
    }
}
