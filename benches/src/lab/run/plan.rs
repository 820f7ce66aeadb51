//! The experiments.

use std::time::Duration;

use super::load::{Load, Reaping, Work};

/// One experiment: one load on rings of one size, for every layout.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cell {
    pub(super) size: u16,
    pub(super) load: Load,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Of each figure; the rounds go over all layouts in turn.
    pub(super) samples: usize,
    /// Of a sample, about.
    pub(super) sample: Duration,
    /// Buffers of a latency pass.
    pub(super) latencies: usize,
}

impl Pace {
    pub(super) fn new(quick: bool, samples: Option<u16>) -> Self {
        let (usual, millis, latencies) = if quick { (5, 2, 2000) } else { (9, 40, 50_000) };
        Self { samples: samples.map_or(usual, usize::from), sample: Duration::from_millis(millis), latencies }
    }
}

/// The size that most experiments have.
pub(super) const SIZE: u16 = 256;
/// What a device takes at once that does not keep to the driver's bursts.
const BATCH: usize = 64;

/// All of them, each once.
pub(super) fn cells(quick: bool) -> Vec<Cell> {
    let all = SIZE.into();
    let usual = |burst| Load::new(burst, all);
    let mut cells = Vec::new();
    let mut add = |size, load| {
        let cell = Cell { size, load };
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    };
    let bursts: &[usize] = if quick { &[1, 8, 32] } else { &[1, 2, 4, 8, 16, 32, 64] };
    for &burst in bursts {
        add(SIZE, usual(burst));
    }
    let sizes: &[u16] = if quick { &[1024] } else { &[64, 256, 1024, 4096] };
    for &size in sizes {
        add(size, Load::new(32, size.into()));
    }
    let outstanding: &[usize] = if quick { &[1, 64] } else { &[1, 4, 16, 64, 256] };
    for &outstanding in outstanding {
        add(SIZE, Load::new(1, outstanding));
    }
    for burst in few(quick) {
        add(SIZE, Load { reaping: Reaping::Greedy, ..usual(burst) });
    }
    add(SIZE, Load { take: BATCH, ..usual(1) });
    for burst in few(quick) {
        for payload in [64, 1500] {
            add(SIZE, Load { payload, ..usual(burst) });
        }
    }
    for work in [Work::Device, Work::Alternating] {
        for burst in few(quick) {
            add(SIZE, Load { work, ..Load::new(burst, burst) });
        }
    }
    add(SIZE, Load { work: Work::Device, payload: 64, ..Load::new(32, 32) });
    let sleeps: &[(usize, usize)] = if quick { &[(1, 1), (32, 256)] } else { &[(1, 1), (1, 64), (1, 256), (32, 256)] };
    for &(burst, outstanding) in sleeps {
        add(SIZE, Load { work: Work::Sleep, ..Load::new(burst, outstanding) });
    }
    cells
}

fn few(quick: bool) -> impl Iterator<Item = usize> {
    [1, 32].into_iter().skip(usize::from(quick))
}

/// As in the report.
pub(super) fn mode(load: &Load) -> &'static str {
    match load.work {
        Work::Polled if load.reaping == Reaping::Greedy => "polled-greedy",
        Work::Polled if load.take != load.burst => "polled-batch",
        Work::Polled => "polled",
        Work::Sleep => "sleep",
        Work::Alternating => "alternating",
        Work::Device => "device",
    }
}

/// Threads that a load takes.
pub(super) const fn threads(load: &Load) -> u8 {
    match load.work {
        Work::Polled | Work::Sleep => 2,
        Work::Alternating | Work::Device => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_fits_its_ring_and_the_full_plan_has_the_sweeps() {
        for quick in [false, true] {
            for Cell { size, load } in cells(quick) {
                assert!(load.burst <= load.outstanding && load.outstanding <= size.into(), "{load:?}");
            }
        }
        let polled: Vec<_> = cells(false).into_iter().filter(|c| mode(&c.load) == "polled").collect();
        let has = |size, burst, outstanding| {
            polled.iter().any(|c| (c.size, c.load.burst, c.load.outstanding) == (size, burst, outstanding))
        };
        assert!([1, 2, 4, 8, 16, 32, 64].iter().all(|b| has(256, *b, 256)));
        assert!([64, 256, 1024, 4096].iter().all(|s| has(*s, 32, usize::from(*s))));
        assert!([1, 4, 16, 64, 256].iter().all(|o| has(256, 1, *o)));
    }
}
