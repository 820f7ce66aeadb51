//! Round trips of DPDK's vhost port and of our daemon, in turn: the same front end, the same frames, the same CPUs.

use super::Layout;
use super::trips::{Quantiles, Trips};
use crate::daemon::Program;
use crate::dpdk::{Dpdk, Memory, PortSpec, Role, TestPmd, processors};
use crate::setup::Say;
use crate::{Daemon, Error, HostEnd};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Contest {
    /// What is negotiated, one row or more each.
    pub layouts: Vec<Layout>,
    /// Frames on their way at any time, a row for each.
    pub outstanding: Vec<usize>,
    /// How often the two take turns.
    pub rounds: usize,
    /// Trips of each turn that count.
    pub samples: usize,
    /// CPU of the front end, and of whichever back end.
    pub cpus: [usize; 2],
    /// What DPDK has of memory. The daemon has no pool of buffers.
    pub memory: Memory,
}

impl Contest {
    /// Split and packed rings, plain and in order, one frame and 32 frames on their way, on the first and last CPU that this
    /// process may use.
    ///
    /// # Errors
    /// There is only one CPU.
    pub fn new(rounds: usize, samples: usize) -> Result<Self, Error> {
        let cpus: Vec<usize> = processors().collect();
        let (Some(first), Some(last)) = (cpus.first(), cpus.last().filter(|_| cpus.len() > 1)) else {
            return Err(Error::Unsupported("round trips want two CPUs, one for each side"));
        };
        let plain = [false, true].map(|packed| Layout { packed, mergeable: true, ..Layout::default() });
        let layouts = plain.into_iter().flat_map(|plain| [plain, Layout { in_order: true, ..plain }]);
        Ok(Self {
            layouts: layouts.collect(),
            outstanding: vec![1, 32],
            rounds,
            samples,
            cpus: [*first, *last],
            memory: Memory::default(),
        })
    }

    /// Runs all of it; a line of progress for each row.
    ///
    /// # Errors
    /// One of the two could not be started, or lost a frame.
    pub fn run(&self, program: &Program, dpdk: &Dpdk, logs: &Path, say: Say<'_>) -> Result<Vec<TripRow>, Error> {
        let folder = tempfile::tempdir().map_err(Error::file(std::env::temp_dir()))?;
        let [theirs, ours] = ["dpdk.sock", "ours.sock"].map(|name| folder.path().join(name));
        let cpu = self.cpus[1];
        let mut pmd = TestPmd::start(dpdk, &reflector(&theirs, cpu, self.memory), &logs.join("round-trips-dpdk.log"))?;
        // It polls as long as a front end is there, as testpmd does, and sleeps when it is not its turn.
        let arguments = ["--pin", &cpu.to_string(), "--poll-us", "1000000"].map(Into::into);
        let log = logs.join("round-trips-daemon.log");
        let daemon = Daemon::start(program, &ours, &HostEnd::Loopback, &arguments, &log)?;
        let mut rows = Vec::new();
        for &layout in &self.layouts {
            for &outstanding in &self.outstanding {
                let trips = |socket: &PathBuf| Trips {
                    outstanding,
                    cpu: Some(self.cpus[0]),
                    ..Trips::new(socket, layout, self.samples)
                };
                let row = self.row(&mut pmd, [&trips(&theirs), &trips(&ours)])?;
                say(&row.to_string());
                rows.push(row);
            }
        }
        pmd.quit()?;
        let ending = daemon.stop();
        if ending.status.is_some_and(|status| status.success()) {
            Ok(rows)
        } else {
            let reason = ending.lines.last().cloned().unwrap_or_default();
            Err(Error::Command { command: "vhost-user-net".to_owned(), reason })
        }
    }

    fn row(&self, pmd: &mut TestPmd, [theirs, ours]: [&Trips; 2]) -> Result<TripRow, Error> {
        let mut turns = Vec::new();
        for _ in 0..self.rounds.max(1) {
            pmd.say("start")?;
            let dpdk = theirs.run();
            let dpdk = dpdk?.quantiles();
            // It sleeps from here on: both back ends have the same CPU.
            pmd.stop()?;
            turns.push((dpdk, ours.run()?.quantiles()));
        }
        Ok(TripRow::new(ours, &turns))
    }
}

/// DPDK's test program as a back end that gives every frame back with its addresses swapped, as `--net loopback` does, from
/// `start` on.
pub fn reflector(socket: &Path, cpu: usize, memory: Memory) -> PortSpec {
    PortSpec {
        role: Role::BackEnd,
        socket: socket.to_owned(),
        cpu: Some(cpu),
        memory,
        arguments: vec!["--forward-mode=macswap".to_owned()],
        ..PortSpec::default()
    }
}

/// One row: medians over all turns. Times are in nanoseconds; a ratio is ours to DPDK's, so less is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TripRow {
    /// The layout.
    pub path: String,
    /// Frames on their way.
    pub outstanding: usize,
    /// Bytes of a frame.
    pub size: usize,
    /// Turns of each of the two, and trips of a turn.
    pub rounds: usize,
    /// See `rounds`.
    pub samples: usize,
    /// DPDK's vhost port.
    pub dpdk: Quantiles,
    /// Our daemon.
    pub ours: Quantiles,
    /// Median of the ratios of neighbouring turns.
    pub ratio_p50: f64,
    /// The same for the 99th percentile.
    pub ratio_p99: f64,
    /// Lowest and highest ratio of the medians.
    pub ratio_p50_range: [f64; 2],
}

impl TripRow {
    fn new(trips: &Trips, turns: &[(Quantiles, Quantiles)]) -> Self {
        let of = |number: &dyn Fn(&(Quantiles, Quantiles)) -> f64| median(turns.iter().map(number).collect());
        let quantiles = |side: fn(&(Quantiles, Quantiles)) -> Quantiles| Quantiles {
            p50: of(&|turn| side(turn).p50),
            p99: of(&|turn| side(turn).p99),
            p999: of(&|turn| side(turn).p999),
        };
        let ratios: Vec<f64> = turns.iter().map(|(dpdk, ours)| ours.p50 / dpdk.p50).collect();
        Self {
            path: trips.layout.to_string(),
            outstanding: trips.outstanding,
            size: trips.frame,
            rounds: turns.len(),
            samples: trips.samples,
            dpdk: quantiles(|turn| turn.0),
            ours: quantiles(|turn| turn.1),
            ratio_p50: median(ratios.clone()),
            ratio_p99: of(&|(dpdk, ours)| ours.p99 / dpdk.p99),
            ratio_p50_range: [
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            ],
        }
    }
}

impl std::fmt::Display for TripRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<30} {:>2} outstanding: DPDK {:>6.0} / {:>6.0} ns, ours {:>6.0} / {:>6.0} ns (p50 / p99), ratio {:.2} / {:.2}",
            self.path,
            self.outstanding,
            self.dpdk.p50,
            self.dpdk.p99,
            self.ours.p50,
            self.ours.p99,
            self.ratio_p50,
            self.ratio_p99
        )
    }
}

/// The middle one; of an even number, the mean of the middle two.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let upper = numbers.get(middle).copied().unwrap_or(0.0);
    if numbers.len().is_multiple_of(2) {
        let lower = middle.checked_sub(1).and_then(|i| numbers.get(i)).copied().unwrap_or(upper);
        f64::midpoint(lower, upper)
    } else {
        upper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_medians_of_neighbouring_turns() {
        let turn =
            |dpdk: f64, ours: f64| [dpdk, ours].map(|p50| Quantiles { p50, p99: 2.0 * p50, p999: 3.0 * p50 }).into();
        let row = TripRow::new(
            &Trips::new("x", Layout::default(), 9),
            &[turn(100.0, 50.0), turn(10.0, 20.0), turn(30.0, 30.0)],
        );
        assert_eq!((row.dpdk.p50, row.ours.p50, row.ours.p999), (30.0, 30.0, 90.0));
        assert_eq!((row.ratio_p50, row.ratio_p99, row.ratio_p50_range), (1.0, 1.0, [0.5, 2.0]));
        assert_eq!((row.path.as_str(), row.rounds, row.samples, row.size), ("split", 3, 9, 64));
    }

    #[test]
    fn medians() {
        for (numbers, expected) in
            [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 3.0, 2.0], 2.5), (vec![7.0], 7.0), (vec![], 0.0)]
        {
            assert_eq!(median(numbers), expected);
        }
    }
}
