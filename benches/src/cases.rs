//! The cases of the instruction table: each does one operation `count` times, and nothing else depends on `count`.

use std::error::Error;
use std::hint::black_box;

use virtio_ring::{Chains, DeviceRing, DriverRing, Token};

use crate::lab::layouts::{packed, split};
use crate::lab::{Buffer, DeviceSide, DriverSide, Layout, Poster, Setup};
use crate::ours::{self, Sum};
use crate::{Arena, BUFFER_LEN, bare, filters, peer, pumps};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is done.
    pub name: &'static str,
    /// What one of it is.
    pub per: &'static str,
    /// How often it is done; the second run does it twice as often.
    pub count: u32,
    /// Does it that often.
    pub run: fn(u32) -> Outcome,
    /// The functions to count, as callgrind names them; everything if `None`.
    pub within: Option<&'static str>,
}

/// What a case returns.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Every case fits a ring of the largest size without reuse.
const SIZE: u16 = 32_768;
const HALF: u32 = 16_000;
const BURST: usize = 32;

const fn case(name: &'static str, per: &'static str, run: fn(u32) -> Outcome) -> Case {
    Case { name, per, count: HALF, run, within: None }
}

/// The operations of a ring, both sides; `$floor` is the bare device that uses what the driver added.
macro_rules! operations {
    ($ring:literal, $layout:ty, $floor:ty) => {
        [
            case(concat!($ring, ": peek, dropped"), "peek", peek::<$layout, _, _>),
            case(concat!($ring, ": peek + accept"), "buffer", |n| accept::<$layout, _, _>(n).map(drop)),
            case(concat!($ring, ": complete"), "buffer", complete::<$layout, _, _>),
            case(concat!($ring, ": complete + flush"), "buffer", complete_flush::<$layout, _, _>),
            case(concat!($ring, ": device arm"), "arm", arm::<$layout, _, _>),
            case(concat!($ring, ": device, bursts of 32"), "buffer", serve::<$layout>),
            case(concat!($ring, ": device through Chains, bursts of 32"), "buffer", chains::<$layout, _, _>),
            case(concat!($ring, ": Chains::fill"), "buffer", fill::<$layout, _, _>),
            case(concat!($ring, ": add"), "buffer", add::<$layout, _, _>),
            case(concat!($ring, ": poll_used"), "buffer", poll_used::<$layout, $floor, _, _>),
            case(concat!($ring, ": driver and bare device, bursts of 32"), "buffer", drive::<$layout, $floor>),
            case(concat!($ring, ": bare device, bursts of 32"), "buffer", serve::<$floor>),
            case(concat!($ring, ": bare driver and device, bursts of 32"), "buffer", drive::<$floor, $floor>),
        ]
    };
}

const RINGS: [[Case; 13]; 4] = [
    operations!("split", split::Split, bare::Split),
    operations!("split in order", split::SplitInOrder, bare::SplitInOrder),
    operations!("packed", packed::Packed, bare::Packed),
    operations!("packed in order", packed::PackedInOrder, bare::PackedInOrder),
];

const OTHERS: [Case; 2] = [
    case("virtio-queue pop, bursts of 32", "buffer", serve::<peer::Pop>),
    case("virtio-queue iter, bursts of 32", "buffer", serve::<peer::Iter>),
];

/// The table.
pub fn cases() -> impl Iterator<Item = Case> {
    RINGS.into_iter().flatten().chain(OTHERS).chain(filters::cases()).chain(pumps::cases())
}

/// Driver, device, poster.
type Opened<L> = Result<(<L as Layout>::Driver, <L as Layout>::Device, Poster), Box<dyn Error>>;

/// Both sides of a layout that polls, and who stands in for its driver.
fn open<L: Layout>(arena: &Arena) -> Opened<L> {
    let setup = Setup { arena, size: arena.config.size, sleeps: false };
    let (driver, device) = L::open(&setup)?;
    let poster = L::poster(&setup).ok_or("a ring without a poster")?;
    Ok((driver, device, poster))
}

/// A layout that our crate makes.
trait Ours<R, D>: Layout<Device = ours::Device<R>, Driver = ours::Driver<D>> {}
impl<R, D, L: Layout<Device = ours::Device<R>, Driver = ours::Driver<D>>> Ours<R, D> for L {}

/// A ring with all of its buffers available, and its device.
fn full<L: Ours<R, D>, R: DeviceRing + Send, D>() -> Result<ours::Device<R>, Box<dyn Error>> {
    let (_driver, device, mut poster) = open::<L>(&Arena::new(SIZE)?)?;
    poster(SIZE);
    Ok(device)
}

fn peek<L: Ours<R, D>, R: DeviceRing + Send, D>(count: u32) -> Outcome {
    let mut d = full::<L, R, D>()?;
    let mut sum = Sum::default();
    for _ in 0..count {
        black_box(d.ring.peek(&d.memory, &mut sum)?.is_some());
    }
    black_box(sum.0);
    Ok(())
}

/// Accepts `count` chains; the list has room for all of them whatever the count.
fn accept<L: Ours<R, D>, R: DeviceRing + Send, D>(count: u32) -> Result<(ours::Device<R>, Vec<Token>), Box<dyn Error>> {
    let mut d = full::<L, R, D>()?;
    let mut tokens = Vec::with_capacity(SIZE.into());
    take(&mut d, count, &mut tokens);
    Ok((d, tokens))
}

fn take<R: DeviceRing>(d: &mut ours::Device<R>, count: u32, tokens: &mut Vec<Token>) {
    let mut sum = Sum::default();
    for _ in 0..count {
        if let Ok(Some(peeked)) = d.ring.peek(&d.memory, &mut sum) {
            // `extend` of a list with room, which does not call the allocator: three instructions.
            tokens.push(peeked.accept());
        }
    }
    black_box(sum.0);
}

fn complete<L: Ours<R, D>, R: DeviceRing + Send, D>(count: u32) -> Outcome {
    let (mut d, tokens) = accept::<L, R, D>(2 * HALF)?;
    for token in tokens.into_iter().take(count as usize) {
        d.ring.complete(token, 0);
    }
    black_box(&mut d.ring);
    Ok(())
}

fn complete_flush<L: Ours<R, D>, R: DeviceRing + Send, D>(count: u32) -> Outcome {
    let (mut d, tokens) = accept::<L, R, D>(2 * HALF)?;
    for token in tokens.into_iter().take(count as usize) {
        d.ring.complete(token, 0);
        let _ = black_box(d.ring.flush());
    }
    Ok(())
}

fn arm<L: Ours<R, D>, R: DeviceRing + Send, D>(count: u32) -> Outcome {
    let mut d = full::<L, R, D>()?;
    for _ in 0..count {
        black_box(d.ring.arm());
    }
    Ok(())
}

fn serve<L: Layout>(count: u32) -> Outcome {
    let (_driver, mut device, mut poster) = open::<L>(&Arena::new(256)?)?;
    for _ in 0..count / BURST as u32 {
        poster(BURST as u16);
        use_burst(&mut device);
    }
    Ok(())
}

#[inline]
fn use_burst(device: &mut impl DeviceSide) {
    let mut sum = 0_u64;
    black_box(device.serve(BURST, |b| sum = sum.wrapping_add(b.addr ^ u64::from(b.len))));
    black_box(sum);
    black_box(device.flush());
}

fn chains<L: Ours<R, D>, R: DeviceRing + Send, D>(count: u32) -> Outcome {
    let (_driver, device, mut poster) = open::<L>(&Arena::new(256)?)?;
    let mut pool = ours::Pool::new(device, BURST);
    for _ in 0..count / BURST as u32 {
        poster(BURST as u16);
        black_box(pool.serve());
    }
    Ok(())
}

fn fill<L: Ours<R, D>, R: DeviceRing + Send, D>(count: u32) -> Outcome {
    let mut d = full::<L, R, D>()?;
    let mut chains = Chains::new(d.memory, count as usize);
    black_box(chains.fill(&mut d.ring)?);
    Ok(())
}

fn add<L: Ours<R, D>, R: DeviceRing + Send, D: DriverRing + Send>(count: u32) -> Outcome {
    let (mut driver, _device, _poster) = open::<L>(&Arena::new(SIZE)?)?;
    for i in 0..count {
        black_box(driver.ring.add(&[ours::Driver::<D>::element(i as u16)])?);
    }
    Ok(())
}

fn poll_used<L: Ours<R, D>, F: Layout, R: DeviceRing + Send, D: DriverRing + Send>(count: u32) -> Outcome {
    let arena = Arena::new(SIZE)?;
    // The bare device looks at the ring that our driver set up after it.
    let (_, mut device, _) = open::<F>(&arena)?;
    let setup = Setup { arena: &arena, size: SIZE, sleeps: false };
    let (mut driver, _) = L::open(&setup)?;
    for i in 0..2 * HALF {
        driver.ring.add(&[ours::Driver::<D>::element(i as u16)])?;
    }
    let _ = driver.ring.flush();
    device.serve(2 * HALF as usize, |_| {});
    device.flush();
    for _ in 0..count {
        black_box(driver.ring.poll_used()?);
    }
    Ok(())
}

fn drive<L: Layout, F: Layout>(count: u32) -> Outcome {
    let arena = Arena::new(256)?;
    let (_, mut device, _) = open::<F>(&arena)?;
    let setup = Setup { arena: &arena, size: 256, sleeps: false };
    let (mut driver, _) = L::open(&setup)?;
    for i in 0..count / BURST as u32 {
        for j in 0..BURST as u32 {
            let addr = Arena::buffer((i * BURST as u32 + j) as u16 & 255).0;
            black_box(driver.add(Buffer { addr, len: BUFFER_LEN }));
        }
        black_box(driver.flush());
        use_burst(&mut device);
        black_box(driver.reap(BURST));
    }
    Ok(())
}
