//! What a run leaves: `report.json`.
//!
//! A further part of a report, such as round trips, is a field beside `rows`, a section beside the paths in `page.rs`,
//! and a table beside the one in `table.rs`.

use super::Bench;
use super::figures::{Figure, ratios};
use super::plan::{Direction, Path, Size, mergeable};
use super::side::Sample;
use serde::Serialize;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
}

/// Where and how it was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) kernel: String,
    pub(super) dpdk: String,
    /// Else pages of 4 KiB.
    pub(super) huge_pages: bool,
    pub(super) front_end_cpu: usize,
    pub(super) back_end_cpu: usize,
    /// Rounds, each of a sample of theirs and one of ours, and how long a sample is.
    pub(super) rounds: usize,
    pub(super) window_ms: u128,
    /// Seconds since 1970.
    pub(super) unix_time: u64,
}

impl Machine {
    /// This one.
    pub(super) fn new(bench: &Bench) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = text("/proc/cpuinfo");
        let model =
            info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
        Self {
            cpu: model.unwrap_or("unknown").to_owned(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            huge_pages: bench.memory.huge,
            front_end_cpu: bench.cpus.front,
            back_end_cpu: bench.cpus.back,
            rounds: bench.rounds,
            window_ms: bench.window.as_millis(),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            ..Self::default()
        }
    }
}

/// One path, direction and size. Figures are missing where the row was skipped.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) mergeable: bool,
    pub(super) direction: &'static str,
    pub(super) size: &'static str,
    /// Medians of millions of frames a second.
    pub(super) dpdk_mpps: Option<f64>,
    pub(super) ours_mpps: Option<f64>,
    /// Median of the ratios of neighbouring samples, ours for each of theirs.
    pub(super) ratio: Option<f64>,
    /// Cycles that a frame costs the back end's core.
    pub(super) dpdk_cycles: Option<f64>,
    pub(super) ours_cycles: Option<f64>,
    pub(super) dpdk: Option<Figure>,
    pub(super) ours: Option<Figure>,
    pub(super) ratios: Option<Figure>,
    pub(super) dpdk_samples: Vec<f64>,
    pub(super) ours_samples: Vec<f64>,
    /// Mean length of the frames that were counted, in bytes.
    pub(super) dpdk_bytes: Option<f64>,
    pub(super) ours_bytes: Option<f64>,
    /// What DPDK's driver says it takes for this path, the same in both cases.
    pub(super) tx_path: Option<String>,
    pub(super) rx_path: Option<String>,
    /// What does not add up: drops, counters that differ.
    pub(super) notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<String>,
    /// It was skipped because a process failed, not because this machine lacks something.
    #[serde(skip)]
    pub(super) broken: bool,
}

impl Row {
    pub(super) fn new(path: Path, direction: Direction, size: Size) -> Self {
        Self {
            path: path.layout.name,
            mergeable: path.mergeable,
            direction: direction.name(),
            size: size.name(),
            ..Self::default()
        }
    }

    /// A row that was not measured.
    pub(super) fn skipped(path: Path, direction: Direction, size: Size, why: &str) -> Self {
        Self { skipped: Some(why.to_owned()), ..Self::new(path, direction, size) }
    }

    /// A row that could not be measured.
    pub(super) fn broken(path: Path, direction: Direction, size: Size, why: &str) -> Self {
        Self { broken: true, ..Self::skipped(path, direction, size, why) }
    }

    /// Fills in what the samples say.
    pub(super) fn fill(&mut self, dpdk: &[Sample], ours: &[Sample]) {
        let mpps = |samples: &[Sample]| samples.iter().map(|s| s.mpps).collect::<Vec<_>>();
        let bytes = |samples: &[Sample]| Figure::of(&samples.iter().map(|s| s.bytes).collect::<Vec<_>>());
        (self.dpdk_samples, self.ours_samples) = (mpps(dpdk), mpps(ours));
        (self.dpdk, self.ours) = (Figure::of(&self.dpdk_samples), Figure::of(&self.ours_samples));
        self.ratios = Figure::of(&ratios(&self.dpdk_samples, &self.ours_samples));
        let median = |figure: Option<Figure>| figure.map(|f| f.median);
        (self.dpdk_mpps, self.ours_mpps, self.ratio) = (median(self.dpdk), median(self.ours), median(self.ratios));
        (self.dpdk_bytes, self.ours_bytes) = (median(bytes(dpdk)), median(bytes(ours)));
    }

    /// The row in words.
    pub(super) fn name(&self) -> String {
        format!("{}, {}, {}, {}", self.path, mergeable(self.mergeable), self.direction, self.size)
    }

    /// What is aimed at, and whether it is met; `None` where there are no figures for it.
    ///
    /// To the host, DPDK's front end is the limit, so that a back end shows in what it costs more than in the rate.
    pub(super) fn aim(&self) -> Option<Aim> {
        let ratio = self.ratio?;
        if self.direction != Direction::ToHost.name() {
            return Some(Aim { wanted: "ratio 1.2", met: ratio >= 1.2 });
        }
        let wanted = "ratio 1.0, cycles 0.75";
        let cheap = self.ours_cycles? <= 0.75 * self.dpdk_cycles?;
        Some(Aim { wanted, met: ratio >= 1.0 && cheap })
    }
}

/// What a row is measured by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Aim {
    /// In words; cycles are ours for each of theirs, at most.
    pub(super) wanted: &'static str,
    pub(super) met: bool,
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::plan::LAYOUTS;
    use super::*;

    /// A row with figures, of these rates.
    pub(in super::super) fn row(direction: Direction, dpdk: &[f64], ours: &[f64]) -> Row {
        let path = Path { layout: &LAYOUTS[4], mergeable: true };
        let sample = |mpps: &f64| Sample { mpps: *mpps, bytes: 64.0, cycles: None };
        let mut row = Row::new(path, direction, Size::Short);
        let samples = |list: &[f64]| list.iter().map(sample).collect::<Vec<_>>();
        row.fill(&samples(dpdk), &samples(ours));
        row
    }

    #[test]
    fn the_keys_that_readers_know_are_there() {
        let mut row = row(Direction::ToGuest, &[10.0, 20.0, 10.0], &[15.0, 18.0, 13.0]);
        row.ours_cycles = Some(80.0);
        let json = serde_json::to_value(&row).unwrap();
        let expected = [
            ("path", "packed in_order".into()),
            ("mergeable", true.into()),
            ("direction", "host to guest".into()),
            ("size", "64".into()),
            ("dpdk_mpps", 10.0.into()),
            ("ours_mpps", 15.0.into()),
            ("ratio", 1.3.into()),
            ("dpdk_cycles", serde_json::Value::Null),
            ("ours_cycles", 80.0.into()),
        ];
        for (key, value) in expected {
            assert_eq!(json[key], value, "{key}");
        }
    }

    #[test]
    fn aims_are_of_the_direction() {
        let aim = |direction, ours, cycles: [Option<f64>; 2]| {
            let mut row = row(direction, &[10.0], &[ours]);
            [row.dpdk_cycles, row.ours_cycles] = cycles;
            row.aim().map(|aim| aim.met)
        };
        let known = |ours| [Some(100.0), Some(ours)];
        for (direction, ours, cycles, met) in [
            (Direction::ToGuest, 12.0, [None, None], Some(true)),
            (Direction::Loop, 11.9, [None, None], Some(false)),
            (Direction::ToHost, 10.0, known(75.0), Some(true)),
            (Direction::ToHost, 9.9, known(50.0), Some(false)),
            (Direction::ToHost, 12.0, known(76.0), Some(false)),
            (Direction::ToHost, 12.0, [Some(100.0), None], None),
        ] {
            assert_eq!(aim(direction, ours, cycles), met, "{direction:?} {ours} {cycles:?}");
        }
        assert_eq!(Row::default().aim(), None);
    }
}
