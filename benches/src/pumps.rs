//! Cases of the instruction table: frames through the pumps, in bursts of 32, with the filters that a device has.

use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;

use net_filter::{MacAddr, ReceiveFilter, SpoofCheck};
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::{RxFilter, RxFormat, RxPump};
use virtio_net_core::tx::{TxFormat, TxPump};
use virtio_net_core::{Features, NetHeader, rx_format, tx_format};
use virtio_ring::{AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, QueueConfig};

use crate::cases::{Case, Outcome};
use crate::{Area, Arena, BUFFER_LEN, Memory};

const BURST: u32 = 32;
const HEADER: usize = 12;
const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const ACKED: Features = Features::VERSION_1.union(Features::MRG_RXBUF);

macro_rules! pumps {
    ($($name:literal, $packed:literal, $in_order:literal;)*) => {
        [$(
            case(concat!($name, ": tx pump, bursts of 32, 64 B"), |n| tx(&Queue::new($packed, $in_order)?, n, 64)),
            case(concat!($name, ": tx pump, bursts of 32, 1514 B"), |n| tx(&Queue::new($packed, $in_order)?, n, 1514)),
            case(concat!($name, ": rx pump, bursts of 32, 64 B"), |n| rx(&Queue::new($packed, $in_order)?, n, 64)),
            case(concat!($name, ": rx pump, bursts of 32, 1514 B"), |n| rx(&Queue::new($packed, $in_order)?, n, 1514)),
        )*]
    };
}

/// The table's rows.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    pumps! {
        "split", false, false;
        "split in order", false, true;
        "packed", true, false;
        "packed in order", true, true;
    }
    .into_iter()
}

const fn case(name: &'static str, run: fn(u32) -> Outcome) -> Case {
    Case { name, per: "frame", count: 3200, run, within: Some("*counted*") }
}

/// One queue, not opened yet.
struct Queue {
    arena: Arena,
    format: Format,
    config: QueueConfig,
}

impl Queue {
    fn new(packed: bool, in_order: bool) -> Result<Self, Box<dyn Error>> {
        let arena = Arena::new(256)?;
        let (format, config) = if packed { (Format::Packed, arena.packed()) } else { (Format::Split, arena.config) };
        Ok(Self { arena, format, config: QueueConfig { in_order, ..config } })
    }

    fn driver(&self) -> Result<AnyDriver<Area>, Box<dyn Error>> {
        Ok(AnyDriver::new(&self.arena.memory, self.format, &self.config)?)
    }

    fn device(&self) -> Result<AnyDevice<Area>, Box<dyn Error>> {
        Ok(AnyDevice::new(&self.arena.memory, self.format, &self.config, self.format.start())?)
    }
}

/// Takes everything.
struct Null;
impl FrameSink for Null {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        Taken { count: black_box(burst.len()), failed: 0 }
    }
}

#[inline(never)]
fn counted_tx<R: DeviceRing>(pump: &mut TxPump<Memory>, ring: &mut R, filter: &mut SpoofCheck) -> u64 {
    pump.pump(ring, &mut Null, filter, u64::MAX).map_or(0, |outcome| black_box(outcome).chains)
}

fn tx(queue: &Queue, count: u32, len: usize) -> Outcome {
    let mut frame = vec![0_u8; HEADER + len];
    frame.get_mut(HEADER + 6..HEADER + 12).ok_or("a short frame")?.copy_from_slice(&GUEST.0);
    let (mut driver, mut device) = (queue.driver()?, queue.device()?);
    let element = |i: u32| Element { addr: Arena::buffer((i % 256) as u16), len: frame.len() as u32, writable: false };
    for i in 0..256 {
        queue.arena.fill(element(i).addr, &frame)?;
    }
    let format: TxFormat = tx_format(ACKED);
    let mut pump = TxPump::new(queue.arena.memory.clone(), format);
    let mut filter = SpoofCheck::new(GUEST);
    let mut next = 0..;
    for _ in 0..count / BURST {
        driver.add_each(next.by_ref().take(BURST as usize).map(element), |_| ());
        let _ = driver.flush();
        let sent = match &mut device {
            AnyDevice::Split(ring) => counted_tx(&mut pump, ring, &mut filter),
            AnyDevice::Packed(ring) => counted_tx(&mut pump, ring, &mut filter),
        };
        driver.reap_each(BURST as usize, |_| ())?;
        assert_eq!(sent, u64::from(BURST));
    }
    assert_eq!(pump.stats().frames, u64::from(count));
    Ok(())
}

/// Has a burst of one frame.
struct Frames<'a> {
    left: u32,
    frame: &'a [u8],
}
impl FrameSource for Frames<'_> {
    type Error = Infallible;
    #[inline]
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while self.left > 0 {
            if room.put(&NetHeader::NONE, self.frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.left -= 1;
        }
        Ok(Supply::Dry)
    }
}

#[inline(never)]
fn counted_rx<R: DeviceRing>(
    pump: &mut RxPump<Memory>,
    ring: &mut R,
    source: &mut Frames<'_>,
    filter: &mut ReceiveFilter,
) -> u64 {
    pump.pump(ring, source, filter, u64::MAX).map_or(0, |outcome| black_box(outcome).frames)
}

fn rx(queue: &Queue, count: u32, len: usize) -> Outcome {
    let mut frame = vec![0_u8; len];
    frame.get_mut(..6).ok_or("a short frame")?.copy_from_slice(&GUEST.0);
    let (mut driver, mut device) = (queue.driver()?, queue.device()?);
    let element = |i: u32| Element { addr: Arena::buffer((i % 256) as u16), len: BUFFER_LEN, writable: true };
    let format: RxFormat = rx_format(ACKED);
    let mut pump = RxPump::new(queue.arena.memory.clone(), 256, format);
    let mut filter = ReceiveFilter::for_station(GUEST);
    let mut next = 0..;
    driver.add_each(next.by_ref().take(256).map(element), |_| ());
    let _ = driver.flush();
    for _ in 0..count / BURST {
        let mut source = Frames { left: BURST, frame: &frame };
        let frames = match &mut device {
            AnyDevice::Split(ring) => counted_rx(&mut pump, ring, &mut source, &mut filter),
            AnyDevice::Packed(ring) => counted_rx(&mut pump, ring, &mut source, &mut filter),
        };
        assert_eq!(frames, u64::from(BURST));
        driver.reap_each(BURST as usize, |_| ())?;
        driver.add_each(next.by_ref().take(BURST as usize).map(element), |_| ());
        let _ = driver.flush();
    }
    Ok(())
}
