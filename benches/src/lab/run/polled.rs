//! Both sides poll, on two threads or one.

use std::sync::Barrier;
use std::time::Instant;

use super::load::{Buffers, Load, Reaping, Sample, Stop};
use super::touch::Touch;
use super::watch::{Idle, Watch};
use crate::cores;
use crate::lab::{DeviceSide, DriverSide, Poster};

/// Most pauses of a lazy driver between two looks.
const PAUSES: usize = 16;

/// Driver on one core, device on the other.
pub(super) fn two_threads(
    driver: &mut impl DriverSide,
    device: &mut impl DeviceSide,
    size: u16,
    load: &Load,
    (mine, yours): (impl Touch, impl Touch),
) -> Result<Sample, Stop> {
    let (start, watch) = (Barrier::new(2), Watch::default());
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            cores::pin_device();
            start.wait();
            serve(device, load, yours, &mut Idle::new(&watch))
        });
        cores::pin_driver();
        start.wait();
        let begin = Instant::now();
        let driven = drive(driver, Buffers::new(size, load.len()), load, mine, &mut Idle::new(&watch));
        let took = begin.elapsed();
        if driven.is_err() {
            watch.stop();
        }
        let served = served.join().unwrap_or(Err(Stop::Abandoned));
        both(driven, served)?;
        Ok(Sample { took, buffers: load.total(), ..Sample::default() })
    })
}

/// The reason of the side that has one of its own.
pub(super) fn both<A, B>(driven: Result<A, Stop>, served: Result<B, Stop>) -> Result<(A, B), Stop> {
    match (driven, served) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(Stop::Abandoned), Err(why)) | (Err(why), _) | (_, Err(why)) => Err(why),
    }
}

/// Adds one burst and publishes it; true if the device has to be woken.
#[inline(always)]
pub(super) fn post(
    driver: &mut impl DriverSide,
    buffers: &mut Buffers,
    touch: &mut impl Touch,
    burst: usize,
    under_way: u64,
) -> Result<bool, Stop> {
    let mut fill = || {
        let buffer = buffers.next();
        touch.fill(buffer);
        buffer
    };
    let added = if burst == 1 { driver.add(fill()).into() } else { driver.add_each((0..burst).map(|_| fill())) };
    if added < burst {
        return Err(Stop::Refused(under_way + added as u64));
    }
    Ok(driver.flush())
}

fn drive(
    driver: &mut impl DriverSide,
    mut buffers: Buffers,
    load: &Load,
    mut touch: impl Touch,
    idle: &mut Idle<'_>,
) -> Result<(), Stop> {
    let Load { burst, outstanding, reaping, .. } = *load;
    let (total, outstanding) = (load.total(), outstanding as u64);
    let (mut posted, mut reaped) = (0_u64, 0_u64);
    while reaped < total {
        while posted < total && posted - reaped + burst as u64 <= outstanding {
            let _ = post(driver, &mut buffers, &mut touch, burst, posted - reaped)?;
            posted += burst as u64;
            if reaping == Reaping::Greedy {
                reaped += driver.reap(usize::MAX) as u64;
            }
        }
        let goal = if posted == total {
            total
        } else {
            match reaping {
                // And at least until a burst fits again.
                Reaping::Lazy => posted - (outstanding / 2).min(outstanding - burst as u64),
                Reaping::Greedy => reaped + 1,
            }
        };
        while reaped < goal {
            let missing = (goal - reaped) as usize;
            let n = driver.reap(if reaping == Reaping::Lazy { missing } else { usize::MAX });
            if n > 0 {
                reaped += n as u64;
                idle.moved();
            } else {
                // A line that the device is still filling is not to be polled all the time.
                for _ in 1..(missing / 8).clamp(1, PAUSES) {
                    std::hint::spin_loop();
                }
                idle.wait(reaped, total)?;
            }
        }
    }
    Ok(())
}

fn serve(device: &mut impl DeviceSide, load: &Load, mut touch: impl Touch, idle: &mut Idle<'_>) -> Result<(), Stop> {
    let total = load.total();
    let mut served = 0;
    while served < total {
        let n = device.serve(load.take, |b| touch.look(b));
        if n > 0 {
            let _ = device.flush();
            served += n as u64;
            idle.moved();
        } else {
            // Nor is one that the driver is still filling.
            for _ in 1..(load.outstanding / 8).clamp(1, PAUSES) {
                std::hint::spin_loop();
            }
            idle.wait(served, total)?;
        }
    }
    Ok(())
}

/// One thread is driver and device in turn, a burst at a time.
pub(super) fn alternating(
    driver: &mut impl DriverSide,
    device: &mut impl DeviceSide,
    size: u16,
    load: &Load,
    (mut mine, mut yours): (impl Touch, impl Touch),
) -> Result<Sample, Stop> {
    let mut buffers = Buffers::new(size, load.len());
    let burst = load.burst;
    cores::pin_driver();
    let begin = Instant::now();
    for done in 0..load.bursts {
        let _ = post(driver, &mut buffers, &mut mine, burst, 0)?;
        let mut served = 0;
        while served < burst {
            match device.serve(burst - served, |b| yours.look(b)) {
                0 => return Err(Stop::Stalled(begin.elapsed(), done * burst as u64, load.total())),
                n => served += n,
            }
        }
        let _ = device.flush();
        let mut reaped = 0;
        while reaped < burst {
            match driver.reap(burst - reaped) {
                0 => return Err(Stop::Stalled(begin.elapsed(), done * burst as u64, load.total())),
                n => reaped += n,
            }
        }
    }
    Ok(Sample { took: begin.elapsed(), buffers: load.total(), ..Sample::default() })
}

/// One thread: the device's side alone, behind a poster.
pub(super) fn device_alone(
    device: &mut impl DeviceSide,
    poster: &mut Poster,
    load: &Load,
    mut touch: impl Touch,
) -> Result<Sample, Stop> {
    let burst = load.burst;
    cores::pin_driver();
    let begin = Instant::now();
    for done in 0..load.bursts {
        poster(burst as u16);
        let mut served = 0;
        while served < burst {
            match device.serve(burst - served, |b| touch.look(b)) {
                0 => return Err(Stop::Stalled(begin.elapsed(), done * burst as u64, load.total())),
                n => served += n,
            }
        }
        let _ = device.flush();
    }
    Ok(Sample { took: begin.elapsed(), buffers: load.total(), ..Sample::default() })
}
