//! The cases of the instruction table: each does one operation `count` times, and nothing else depends on `count`.

use std::error::Error;
use std::hint::black_box;

use virtio_net_core::backend::{FrameSink, FrameSource, RxRoom, Supply, Taken, TxFrame};
use virtio_net_core::rx::{RxFilter, RxFormat, RxPump};
use virtio_net_core::tx::{TxFilter, TxFormat, TxPump};
use virtio_net_core::{Features, NetHeader, TxOffloads};
use virtio_ring::{Chains, DeviceRing, DriverRing, Token};

use crate::ours::Sum;
use crate::{Arena, DeviceSide, DriverSide, bare, ours, peer};

/// One row of the table.
#[derive(Debug)]
pub struct Case {
    /// What is done.
    pub name: &'static str,
    /// What one of it is.
    pub per: &'static str,
    /// How often it is done; the second run does it twice as often.
    pub count: u32,
    /// Does it that often.
    pub run: fn(u32) -> Outcome,
}

/// What a case returns.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Every case fits a ring of the largest size without reuse.
const SIZE: u16 = 32_768;
const HALF: u32 = 16_000;
const BURST: usize = 32;

const fn case(name: &'static str, per: &'static str, run: fn(u32) -> Outcome) -> Case {
    Case { name, per, count: HALF, run }
}

/// The table.
pub const CASES: [Case; 19] = [
    case("peek, dropped", "peek", peek),
    case("peek + accept", "buffer", |n| accept(n).map(drop)),
    case("complete", "buffer", complete),
    case("complete + flush", "buffer", complete_flush),
    case("device arm", "arm", arm),
    case("device, bursts of 32", "buffer", |n| serve(n, ours::Peek::new)),
    case("device through Chains, bursts of 32", "buffer", |n| serve(n, |a| ours::Pool::new(a, BURST))),
    case("virtio-queue pop, bursts of 32", "buffer", |n| serve(n, peer::Pop::new)),
    case("virtio-queue iter, bursts of 32", "buffer", |n| serve(n, peer::Iter::new)),
    case("bare device, bursts of 32", "buffer", |n| serve(n, |a| Ok(bare::Device::new(a)))),
    case("Chains::fill", "buffer", fill),
    case("add", "buffer", add),
    case("poll_used", "buffer", poll_used),
    case("driver, bursts of 32, with echo", "buffer", |n| drive(n, ours::Driver::new)),
    case("bare driver, bursts of 32, with echo", "buffer", |n| drive(n, |a| Ok(bare::Driver::new(a)))),
    case("echo", "buffer", echo),
    case("tx pump, 64 B frames", "frame", tx),
    case("rx pump, 64 B frames", "frame", |n| rx(n, 64)),
    case("rx pump, 1514 B frames", "frame", |n| rx(n, 1514)),
];

/// A ring with all of its buffers available, and its device.
fn full() -> Result<(bare::Poster, ours::Peek), Box<dyn Error>> {
    let arena = Arena::new(SIZE)?;
    let mut poster = bare::Poster::new(&arena);
    let device = ours::Peek::new(&arena)?;
    poster.post(SIZE);
    Ok((poster, device))
}

fn peek(count: u32) -> Outcome {
    let (_poster, mut d) = full()?;
    let mut sum = Sum::default();
    for _ in 0..count {
        black_box(d.ring.peek(&d.memory, &mut sum)?.is_some());
    }
    black_box(sum.0);
    Ok(())
}

/// Accepts `count` chains; the list has room for all of them whatever the count.
fn accept(count: u32) -> Result<(bare::Poster, ours::Peek, Vec<Token>), Box<dyn Error>> {
    let (poster, mut d) = full()?;
    let mut tokens = Vec::with_capacity(SIZE.into());
    take(&mut d, count, &mut tokens);
    Ok((poster, d, tokens))
}

fn take(d: &mut ours::Peek, count: u32, tokens: &mut Vec<Token>) {
    let mut sum = Sum::default();
    for _ in 0..count {
        if let Ok(Some(peeked)) = d.ring.peek(&d.memory, &mut sum) {
            // `extend` of a list with room, which does not call the allocator: three instructions.
            tokens.push(peeked.accept());
        }
    }
    black_box(sum.0);
}

fn complete(count: u32) -> Outcome {
    let (_poster, mut d, tokens) = accept(2 * HALF)?;
    for token in tokens.into_iter().take(count as usize) {
        d.ring.complete(token, 0);
    }
    black_box(&d);
    Ok(())
}

fn complete_flush(count: u32) -> Outcome {
    let (_poster, mut d, tokens) = accept(2 * HALF)?;
    for token in tokens.into_iter().take(count as usize) {
        d.ring.complete(token, 0);
        let _ = black_box(d.ring.flush());
    }
    Ok(())
}

fn arm(count: u32) -> Outcome {
    let (_poster, mut d) = full()?;
    for _ in 0..count {
        black_box(d.ring.arm());
    }
    Ok(())
}

fn serve<D: DeviceSide>(count: u32, new: fn(&Arena) -> Result<D, Box<dyn Error>>) -> Outcome {
    let arena = Arena::new(256)?;
    let mut poster = bare::Poster::new(&arena);
    let mut device = new(&arena)?;
    for _ in 0..count / BURST as u32 {
        poster.post(BURST as u16);
        black_box(device.serve(BURST));
    }
    Ok(())
}

fn fill(count: u32) -> Outcome {
    let (_poster, mut d) = full()?;
    let mut chains = Chains::new(d.memory, count as usize);
    black_box(chains.fill(&mut d.ring)?);
    Ok(())
}

fn add(count: u32) -> Outcome {
    let mut driver = ours::Driver::new(&Arena::new(SIZE)?)?;
    for _ in 0..count {
        let element = driver.element();
        black_box(driver.ring.add(&[element])?);
    }
    Ok(())
}

fn poll_used(count: u32) -> Outcome {
    let arena = Arena::new(SIZE)?;
    let mut driver = ours::Driver::new(&arena)?;
    driver.post(2 * HALF as usize);
    bare::Echo::new(&arena).echo(2 * HALF as usize);
    for _ in 0..count {
        black_box(driver.ring.poll_used()?);
    }
    Ok(())
}

fn drive<D: DriverSide>(count: u32, new: fn(&Arena) -> Result<D, Box<dyn Error>>) -> Outcome {
    let arena = Arena::new(256)?;
    let mut driver = new(&arena)?;
    let mut echo = bare::Echo::new(&arena);
    for _ in 0..count / BURST as u32 {
        driver.post(BURST);
        echo.echo(BURST);
        black_box(driver.reap(BURST));
    }
    Ok(())
}

fn echo(count: u32) -> Outcome {
    let mut echo = bare::Echo::new(&Arena::new(256)?);
    for _ in 0..count / BURST as u32 {
        echo.echo(BURST);
    }
    Ok(())
}

struct Null;
impl FrameSink for Null {
    fn submit(&mut self, burst: &[TxFrame<'_>]) -> Taken {
        Taken { count: burst.len(), failed: 0 }
    }
}
impl TxFilter for Null {
    fn permits(&mut self, _head: &[u8]) -> bool {
        true
    }
}
impl RxFilter for Null {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}

/// The ring's descriptors are 2048 bytes long: shortened to header and frame, readable, by the arena.
fn tx(count: u32) -> Outcome {
    let arena = Arena::new(SIZE)?;
    let mut poster = bare::Poster::with_buffers(&arena, 12 + 64, false);
    let mut device = ours::Peek::new(&arena)?;
    let format = TxFormat { header_len: 12, offloads: TxOffloads::new(Features::empty()) };
    let mut pump = TxPump::new(device.memory, format);
    poster.post(count as u16);
    let outcome = pump.pump(&mut device.ring, &mut Null, &mut Null, u64::MAX).map_err(|(e, _)| e)?;
    assert_eq!((outcome.chains, pump.stats().frames), (count.into(), count.into()));
    Ok(())
}

/// Has as many frames of one length as it is told.
struct Frames {
    left: u32,
    len: usize,
    bytes: [u8; 1514],
}
impl FrameSource for Frames {
    type Error = ();
    fn receive(&mut self, room: &mut RxRoom<'_>) -> Result<Supply, ()> {
        let frame = self.bytes.get(..self.len).unwrap_or_default();
        while self.left > 0 {
            if room.is_full() {
                return Ok(Supply::More);
            }
            black_box(room.put(&NetHeader::NONE, frame));
            self.left -= 1;
        }
        Ok(Supply::Dry)
    }
}

fn rx(count: u32, len: usize) -> Outcome {
    let (_poster, mut device) = full()?;
    let format = RxFormat { header_len: 12, mergeable: true, flags: 0, gso_types: 0, ecn: false, mtu: None };
    let mut pump = RxPump::new(device.memory, SIZE, format);
    let mut source = Frames { left: count, len, bytes: [7; 1514] };
    let outcome = pump.pump(&mut device.ring, &mut source, &mut Null, u64::MAX).map_err(|(e, _)| e)?;
    assert_eq!(outcome.frames, u64::from(count));
    Ok(())
}
