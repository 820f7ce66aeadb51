//! A clock that costs little, and whose cost is known.
//!
//! The time-stamp counter where it ticks at one rate on all cores, else the system's monotonic clock. The cost of a
//! reading is the median distance of two readings with nothing between them; every interval has one such cost in it,
//! which is taken off.
#![expect(unsafe_code, reason = "reads the time-stamp counter")]

use std::time::{Duration, Instant};

/// How the counter is compared with the system's clock.
const COMPARED: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base: Instant,
    /// Nanoseconds a tick; none if there is no counter to trust.
    tick: Option<f64>,
    /// Ticks between two readings with nothing between them.
    cost: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let mut clock = Self { base: Instant::now(), tick: None, cost: 0 };
        if counter_is_steady() {
            let (begin, from) = (counter(), Instant::now());
            while from.elapsed() < COMPARED {
                std::hint::spin_loop();
            }
            let (end, took) = (counter(), from.elapsed());
            clock.tick = Some(took.as_nanos() as f64 / end.wrapping_sub(begin) as f64);
        }
        let mut costs: Vec<u64> = (0..1001)
            .map(|_| {
                let first = clock.now();
                clock.now().wrapping_sub(first)
            })
            .collect();
        costs.sort_unstable();
        clock.cost = costs.get(costs.len() / 2).copied().unwrap_or(0);
        clock
    }

    /// A reading.
    #[inline(always)]
    pub(super) fn now(&self) -> u64 {
        match self.tick {
            Some(_) => counter(),
            None => self.base.elapsed().as_nanos() as u64,
        }
    }

    /// Nanoseconds between two readings, less what a reading costs; not below zero.
    pub(super) fn between(&self, from: u64, to: u64) -> f64 {
        let ticks = to.saturating_sub(from).saturating_sub(self.cost);
        ticks as f64 * self.tick.unwrap_or(1.0)
    }
}

/// What was executed before has been; what comes after has not begun.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn counter() -> u64 {
    // SAFETY: a barrier of SSE2, which every x86-64 has.
    unsafe { std::arch::x86_64::_mm_lfence() };
    // SAFETY: reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

fn counter_is_steady() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = flags.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    cfg!(target_arch = "x86_64") && ["constant_tsc", "nonstop_tsc"].iter().all(|f| flags.split(' ').any(|w| w == *f))
}
