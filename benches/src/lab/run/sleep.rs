//! Each side sleeps in a read of its eventfd when it has nothing to do: it asks to be woken, looks again, and reads.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::load::{Buffers, Load, Sample, Stop};
use super::polled::{both, post};
use super::touch::Touch;
use super::watch::{PATIENCE, Watch};
use crate::cores;
use crate::lab::{DeviceSide, DriverSide};

/// One side's eventfd.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    /// Wakes whoever waits, or whoever is going to.
    pub(crate) fn ring(&self) -> io::Result<()> {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    /// Sleeps until it was rung.
    pub(crate) fn wait(&self) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut [0; 8]))?;
        Ok(())
    }
}

/// What both sides of a run share.
#[derive(Debug)]
pub(crate) struct Bells {
    /// For the device.
    pub(crate) kick: Bell,
    /// For the driver.
    pub(crate) call: Bell,
    /// Set if nothing moved for too long; both are woken then.
    pub(crate) watch: Watch,
    moves: AtomicU64,
}

impl Bells {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { kick: Bell::new()?, call: Bell::new()?, watch: Watch::default(), moves: AtomicU64::new(0) })
    }

    /// Something moved, or a sleeper woke up.
    pub(crate) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Until somebody hangs up on `done`: ends the run if nothing moves for so long. Then a wake-up was lost.
    pub(crate) fn guard(&self, done: &mpsc::Receiver<()>, patience: Duration) {
        let mut before = self.moves.load(Ordering::Relaxed);
        while done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            let now = self.moves.load(Ordering::Relaxed);
            if now == before {
                return self.give_up();
            }
            before = now;
        }
    }

    /// Wakes both sides for good.
    pub(crate) fn give_up(&self) {
        self.watch.stop();
        // If even that fails there is nothing left to try.
        let _ = (self.kick.ring(), self.call.ring());
    }
}

/// Driver on one core, device on the other.
pub(super) fn two_threads(
    driver: &mut impl DriverSide,
    device: &mut impl DeviceSide,
    size: u16,
    load: &Load,
    (mine, yours): (impl Touch, impl Touch),
) -> Result<Sample, Stop> {
    let (start, bells) = (Barrier::new(2), Bells::new()?);
    let (running, done) = mpsc::channel();
    std::thread::scope(|scope| {
        let (start, bells) = (&start, &bells);
        let served = scope.spawn(move || {
            cores::pin_device();
            start.wait();
            let served = serve(device, load, yours, bells);
            served.inspect_err(|_| bells.give_up())
        });
        scope.spawn(move || bells.guard(&done, PATIENCE));
        cores::pin_driver();
        start.wait();
        let begin = Instant::now();
        let driven = drive(driver, Buffers::new(size, load.len()), load, mine, bells);
        let took = begin.elapsed();
        let driven = driven.inspect_err(|_| bells.give_up());
        let served = served.join().unwrap_or(Err(Stop::Abandoned));
        drop(running);
        let (kicks, calls) = both(driven, served)?;
        Ok(Sample { took, buffers: load.total(), kicks, calls })
    })
}

/// Returns the number of kicks.
fn drive(
    driver: &mut impl DriverSide,
    mut buffers: Buffers,
    load: &Load,
    mut touch: impl Touch,
    bells: &Bells,
) -> Result<u64, Stop> {
    let (total, burst, outstanding) = (load.total(), load.burst as u64, load.outstanding as u64);
    let (mut posted, mut reaped, mut kicks) = (0, 0, 0);
    while reaped < total {
        while posted < total && posted - reaped + burst <= outstanding {
            if post(driver, &mut buffers, &mut touch, load.burst, posted - reaped)? {
                bells.kick.ring()?;
                kicks += 1;
            }
            posted += burst;
        }
        let n = driver.reap(usize::MAX);
        reaped += n as u64;
        if n == 0 {
            if driver.arm() {
                bells.call.wait()?;
                bells.moved();
            }
            driver.disarm();
            if bells.watch.stopped() {
                return Err(Stop::Stalled(PATIENCE, reaped, total));
            }
        }
    }
    Ok(kicks)
}

/// Returns the number of calls.
fn serve(device: &mut impl DeviceSide, load: &Load, mut touch: impl Touch, bells: &Bells) -> Result<u64, Stop> {
    let total = load.total();
    let (mut served, mut calls) = (0, 0);
    while served < total {
        let n = device.serve(load.take, |b| touch.look(b));
        served += n as u64;
        if n > 0 {
            if device.flush() {
                bells.call.ring()?;
                calls += 1;
            }
        } else {
            if device.arm() {
                bells.kick.wait()?;
                bells.moved();
            }
            device.disarm();
            if bells.watch.stopped() {
                return Err(Stop::Abandoned);
            }
        }
    }
    Ok(calls)
}
