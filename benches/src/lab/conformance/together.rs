//! Both sides on threads of their own.

use std::sync::mpsc;
use std::time::Duration;

use super::{Chance, Finder, Maker, open};
use crate::lab::run::sleep::Bells;
use crate::lab::{Buffer, DeviceSide, DriverSide, Layout};
use crate::{Arena, lab};

/// Buffers that move: small rings change threads for every one or two of them.
fn buffers(size: u16) -> u64 {
    if size > 4 { 10_000 } else { 600 }
}

pub(super) fn polled<L: Layout>(size: u16, patience: Duration) -> Result<(), String> {
    both::<L>(size, false, patience)
}

pub(super) fn asleep<L: Layout>(size: u16, patience: Duration) -> Result<(), String> {
    both::<L>(size, true, patience)
}

/// The buffers that the driver's maker makes, made again on the device's side.
struct Expected {
    size: u16,
    next: u64,
    chance: Chance,
}

impl Expected {
    fn buffer(&mut self) -> Buffer {
        let slot = (self.next % u64::from(self.size)) as u16;
        self.next += 1;
        Buffer { addr: Arena::buffer(slot).0, len: 1 + self.chance.below(2048) as u32 }
    }
}

fn both<L: Layout>(size: u16, sleeps: bool, patience: Duration) -> Result<(), String> {
    let total = buffers(size);
    let (arena, mut driver, mut device) = open::<L>(size, sleeps)?;
    let bells = Bells::new().map_err(|e| e.to_string())?;
    let (running, done) = mpsc::channel();
    std::thread::scope(|scope| {
        let (bells, arena) = (&bells, &arena);
        scope.spawn(move || bells.guard(&done, patience));
        let served = scope.spawn(move || {
            let served = serve(&mut device, arena, sleeps, total, bells);
            served.inspect_err(|_| bells.give_up())
        });
        let driven = drive(&mut driver, arena, sleeps, total, bells).inspect_err(|_| bells.give_up());
        let served = served.join().unwrap_or_else(|_| Err("the device's side panicked".to_owned()));
        drop(running);
        match (driven, served) {
            (Ok(()), served) => served,
            (Err(why), Err(other)) if why == ABANDONED => Err(other),
            (Err(why), _) => Err(why),
        }
    })
}

/// What the side says that is not to blame.
const ABANDONED: &str = "the other side gave up";

/// Leaves a moment that is different each time, in which the other side may do what it likes.
fn dawdle(chance: &mut Chance) {
    // Seldom long enough for a sleeper on the other core to wake up and fill or empty the ring.
    let most = if chance.below(64) == 0 { 4000 } else { 40 };
    for _ in 0..chance.below(most) {
        std::hint::spin_loop();
    }
}

/// Waits a moment, or sleeps.
fn rest(sleeps: bool, arm: impl FnOnce() -> bool, bell: &lab::run::sleep::Bell) -> Result<bool, String> {
    if !sleeps {
        std::thread::yield_now();
        return Ok(false);
    }
    if arm() {
        bell.wait().map_err(|e| e.to_string())?;
    }
    Ok(true)
}

fn drive(driver: &mut impl DriverSide, arena: &Arena, sleeps: bool, total: u64, bells: &Bells) -> Result<(), String> {
    let size = u64::from(arena.config.size);
    let (mut maker, mut chance) = (Maker::new(arena), Chance::new(11));
    let (mut added, mut reaped) = (0_u64, 0_u64);
    while reaped < total {
        let room = (size - (added - reaped)).min(total - added);
        for _ in 0..chance.below(room + 1).max(room.min(1)) {
            if !driver.add(maker.buffer()?) {
                return Err(format!("the ring refuses a buffer with only {} under way", added - reaped));
            }
            added += 1;
        }
        if driver.flush() && sleeps {
            bells.kick.ring().map_err(|e| e.to_string())?;
        }
        dawdle(&mut chance);
        let n = driver.reap(1 + chance.below(size) as usize) as u64;
        reaped += n;
        if n > 0 {
            bells.moved();
        }
        if reaped > added {
            return Err(format!("{reaped} buffers came back of {added}"));
        }
        if n == 0 && added - reaped == size.min(total - reaped) {
            if rest(sleeps, || driver.arm(), &bells.call)? {
                driver.disarm();
            }
            if bells.watch.stopped() {
                return Err(ABANDONED.to_owned());
            }
        }
    }
    Ok(())
}

fn serve(device: &mut impl DeviceSide, arena: &Arena, sleeps: bool, total: u64, bells: &Bells) -> Result<(), String> {
    let size = arena.config.size;
    let mut expected = Expected { size, next: 0, chance: Chance::new(u64::from(size)) };
    let (mut finder, mut chance) = (Finder::new(arena), Chance::new(13));
    let mut served = 0;
    while served < total {
        let most = 1 + chance.below(size.into()) as usize;
        let n = device.serve(most, |b| finder.see(b, Some(expected.buffer())));
        finder.verdict()?;
        served += n as u64;
        dawdle(&mut chance);
        if n > 0 {
            bells.moved();
            if device.flush() && sleeps {
                bells.call.ring().map_err(|e| e.to_string())?;
            }
            continue;
        }
        if rest(sleeps, || device.arm(), &bells.kick)? {
            device.disarm();
        }
        if bells.watch.stopped() {
            return Err(format!("nothing moves any more: {served} of {total} buffers served"));
        }
    }
    Ok(())
}
