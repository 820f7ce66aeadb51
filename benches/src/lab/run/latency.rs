//! Latency with one outstanding buffer.
//!
//! A pass measures the round trip on the driver's side alone, or the way to the device with one reading on each side:
//! never both, so that a reading on the way is not part of the round trip.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::Clock;
use super::load::{Buffers, Stop};
use super::polled::both;
use super::watch::{Idle, Watch};
use crate::lab::{DeviceSide, DriverSide};
use crate::{BUFFER_LEN, cores};

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From before the driver adds the buffer until the device looks at it.
    There,
    /// Until the driver has reaped it.
    AndBack,
}

impl Way {
    /// As in the report.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::There => "one_way",
            Self::AndBack => "round_trip",
        }
    }
}

/// Buffers before the first that counts.
const WARM_UP: usize = 200;

pub(super) fn of_layout(
    driver: &mut impl DriverSide,
    device: &mut impl DeviceSide,
    size: u16,
    way: Way,
    count: usize,
) -> Result<Vec<f64>, Stop> {
    let mut buffers = Buffers::new(size, BUFFER_LEN);
    let send = |idle: &mut Idle<'_>, done: u64| {
        if !driver.add(buffers.next()) {
            return Err(Stop::Refused(0));
        }
        let _ = driver.flush();
        while driver.reap(1) == 0 {
            idle.wait(done, count as u64)?;
        }
        idle.moved();
        Ok(())
    };
    let answer = |idle: &mut Idle<'_>, seen: &mut dyn FnMut()| {
        while device.serve(1, |_| seen()) == 0 {
            idle.wait(0, count as u64)?;
        }
        idle.moved();
        let _ = device.flush();
        Ok(())
    };
    measure(way, count, send, answer)
}

/// One cacheline there and back: what no layout can beat.
pub(super) fn of_a_line(way: Way, count: usize) -> Result<Vec<f64>, Stop> {
    #[repr(align(128))]
    struct Line(AtomicU64);
    let line = Line(AtomicU64::new(0));
    let (mut sent, mut answered) = (0, 0);
    let send = |idle: &mut Idle<'_>, done: u64| {
        sent += 2;
        line.0.store(sent - 1, Ordering::Release);
        while line.0.load(Ordering::Acquire) != sent {
            idle.wait(done, count as u64)?;
        }
        idle.moved();
        Ok(())
    };
    let answer = |idle: &mut Idle<'_>, seen: &mut dyn FnMut()| {
        answered += 2;
        while line.0.load(Ordering::Acquire) != answered - 1 {
            idle.wait(0, count as u64)?;
        }
        idle.moved();
        seen();
        line.0.store(answered, Ordering::Release);
        Ok(())
    };
    measure(way, count, send, answer)
}

/// Runs `send` on the driver's core and `answer` on the device's, once for each buffer.
fn measure(
    way: Way,
    count: usize,
    mut send: impl FnMut(&mut Idle<'_>, u64) -> Result<(), Stop>,
    mut answer: impl FnMut(&mut Idle<'_>, &mut dyn FnMut()) -> Result<(), Stop> + Send,
) -> Result<Vec<f64>, Stop> {
    let clock = Clock::new();
    let all = count + WARM_UP;
    let (start, watch) = (Barrier::new(2), Watch::default());
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            cores::pin_device();
            let mut seen = Vec::with_capacity(all);
            let mut idle = Idle::new(&watch);
            start.wait();
            for _ in 0..all {
                match way {
                    Way::There => answer(&mut idle, &mut || seen.push(clock.now()))?,
                    Way::AndBack => answer(&mut idle, &mut || {})?,
                }
            }
            Ok(seen)
        });
        cores::pin_driver();
        let (mut begun, mut ended) = (Vec::with_capacity(all), Vec::with_capacity(all));
        let mut idle = Idle::new(&watch);
        start.wait();
        let sent = (0..all as u64).try_for_each(|i| {
            begun.push(clock.now());
            send(&mut idle, i)?;
            if way == Way::AndBack {
                ended.push(clock.now());
            }
            Ok(())
        });
        if sent.is_err() {
            watch.stop();
        }
        let answered = answering.join().unwrap_or(Err(Stop::Abandoned));
        let ((), seen) = both(sent, answered)?;
        let ends = if way == Way::There { seen } else { ended };
        let pairs = begun.iter().zip(&ends).skip(WARM_UP);
        Ok(pairs.map(|(from, to)| clock.between(*from, *to)).collect())
    })
}
