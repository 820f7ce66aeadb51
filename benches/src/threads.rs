//! Two sides on two pinned threads.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{DeviceSide, DriverSide};

/// Pins the calling thread to one core; false if the machine has no such core or does not allow it.
pub fn pin(core: usize) -> bool {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).is_ok()
}

/// Moves `bursts` times `burst` buffers through the ring and back: the driver on core 0 keeps up to `outstanding` of
/// them posted, `burst` a publication, the device on core 1 serves as many at once. Both poll. Returns the time from
/// the first post to the last buffer reaped.
pub fn two_threads(
    driver: &mut impl DriverSide,
    device: &mut (impl DeviceSide + Send),
    burst: usize,
    outstanding: usize,
    bursts: u64,
) -> Duration {
    let total = bursts.saturating_mul(burst as u64);
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            start.wait();
            let mut served = 0;
            while served < total {
                let n = device.serve(burst);
                if n == 0 {
                    std::hint::spin_loop();
                }
                served += n as u64;
            }
        });
        pin(0);
        start.wait();
        let begin = Instant::now();
        let (mut posted, mut reaped) = (0, 0);
        while reaped < total {
            while posted < total && (posted - reaped) as usize + burst <= outstanding {
                driver.post(burst);
                posted += burst as u64;
            }
            let n = driver.reap(burst);
            if n == 0 {
                std::hint::spin_loop();
            }
            reaped += n as u64;
        }
        begin.elapsed()
    })
}
