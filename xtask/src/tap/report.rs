//! The figures: medians, spreads and ratios, as tables and as JSON.

use super::arm::{Arm, Device};
use super::sample::{Load, Sample};
use e2e::front::contest::median;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Figure {
    median: f64,
    min: f64,
    max: f64,
}

impl Figure {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { median: median(values), min, max })
    }
}

/// What a sample comes to.
impl Sample {
    fn mpps(&self) -> f64 {
        self.frames as f64 / self.seconds / 1e6
    }

    fn gbit(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.seconds / 1e9
    }

    /// Microseconds of processor time for a frame, of either direction.
    fn us_per_frame(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.all_frames.max(1) as f64
    }

    /// Seconds of processor time for 10^9 bytes in the load's direction.
    fn s_per_gb(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e9 / self.bytes.max(1) as f64
    }

    fn both(&self) -> Duration {
        self.device.time.saturating_add(self.rest.time)
    }

    fn turns_per_frame(&self) -> f64 {
        self.device.turns as f64 / self.all_frames.max(1) as f64
    }
}

/// What is measured and compared: a load, with offloads or without.
type Key = (Load, bool);

/// All samples of a run.
pub(super) struct Report {
    window: Duration,
    packed: bool,
    kvm: bool,
    /// By round, so that neighbours in time are compared.
    samples: BTreeMap<(Load, bool, Device), BTreeMap<u32, Sample>>,
}

/// One line of the report.
#[derive(Serialize)]
struct Row {
    load: &'static str,
    direction: &'static str,
    offloads: bool,
    device: &'static str,
    samples: usize,
    mpps: Figure,
    gbit_per_s: Figure,
    /// The device alone: QEMU's main loop, or our daemon.
    cpu_s_per_gb: Figure,
    cpu_us_per_frame: Figure,
    /// What QEMU's main loop spends beside our daemon.
    rest_us_per_frame: Figure,
    turns_per_frame: Figure,
    /// Share of one processor.
    cpu_percent: Figure,
    dropped_frames: u64,
    /// Processor time for a frame, to that of QEMU's own card in the same round: the daemon alone, and with QEMU's rest.
    ratio_per_frame: Option<Figure>,
    ratio_per_frame_with_rest: Option<Figure>,
    ratio_per_gb: Option<Figure>,
    ratio_mpps: Option<Figure>,
}

#[derive(Serialize)]
struct Document<'a> {
    window_s: f64,
    rings: &'a str,
    guest: &'a str,
    processor: String,
    kernel: String,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(window: Duration, packed: bool, kvm: bool) -> Self {
        Self { window, packed, kvm, samples: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, arm: &Arm, load: Load, round: u32, sample: Sample) {
        self.samples.entry((load, arm.offloads, arm.device)).or_default().insert(round, sample);
    }

    fn guest(&self) -> &'static str {
        if self.kvm { "QEMU with KVM" } else { "QEMU without KVM (TCG), vectors=0" }
    }

    fn rings(&self) -> &'static str {
        if self.packed { "packed" } else { "split" }
    }

    fn rows(&self) -> Vec<Row> {
        self.samples.iter().filter_map(|((load, offloads, device), _)| self.row((*load, *offloads), *device)).collect()
    }

    fn row(&self, key: Key, device: Device) -> Option<Row> {
        let samples = self.samples.get(&(key.0, key.1, device))?;
        let figure = |of: &dyn Fn(&Sample) -> f64| Figure::of(samples.values().map(of));
        let qemu =
            self.samples.get(&(key.0, key.1, Device::Qemu)).filter(|_| device.has_guest() && device != Device::Qemu);
        let ratio = |of: &dyn Fn(&Sample) -> f64| {
            let pairs = samples.iter().filter_map(|(round, ours)| Some((ours, qemu?.get(round)?)));
            Figure::of(pairs.map(|(ours, theirs)| of(ours) / of(theirs)))
        };
        Some(Row {
            load: key.0.name(),
            direction: key.0.direction(),
            offloads: key.1,
            device: device.name(),
            samples: samples.len(),
            mpps: figure(&Sample::mpps)?,
            gbit_per_s: figure(&Sample::gbit)?,
            cpu_s_per_gb: figure(&|s| s.s_per_gb(s.device.time))?,
            cpu_us_per_frame: figure(&|s| s.us_per_frame(s.device.time))?,
            rest_us_per_frame: figure(&|s| s.us_per_frame(s.rest.time))?,
            turns_per_frame: figure(&Sample::turns_per_frame)?,
            cpu_percent: figure(&|s| s.device.time.as_secs_f64() * 100.0 / s.seconds)?,
            dropped_frames: samples.values().fold(0, |n, s| n.saturating_add(s.dropped)),
            ratio_per_frame: ratio(&|s| s.us_per_frame(s.device.time)),
            ratio_per_frame_with_rest: ratio(&|s| s.us_per_frame(s.both())),
            ratio_per_gb: ratio(&|s| s.s_per_gb(s.device.time)),
            ratio_mpps: ratio(&Sample::mpps),
        })
    }

    /// Everything, for programs.
    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let processor = first_of("/proc/cpuinfo", "model name");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let (rings, guest) = (self.rings(), self.guest());
        let rows = self.rows();
        serde_json::to_vec_pretty(&Document {
            window_s: self.window.as_secs_f64(),
            rings,
            guest,
            processor,
            kernel,
            rows,
        })
    }

    /// The table, in Markdown; it reads well enough on a terminal.
    pub(super) fn tables(&self) -> String {
        let mut text = format!(
            "{}, {} rings; medians, in brackets least and greatest. CPU: of QEMU's main loop, or of our whole daemon;\n\
             rest: of QEMU's main loop beside our daemon. A frame may be one of 64 KiB where offloads are on.\n\n",
            self.guest(),
            self.rings()
        );
        text += "| load | direction | offloads | device | Mpps | Gbit/s | CPU s/GB | CPU us/frame | rest us/frame | \
            CPU % | turns/frame | ratio us/frame | with rest | ratio Mpps |\n";
        text += "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
        for row in self.rows() {
            text += &row.to_markdown();
        }
        text + &self.verdict()
    }

    /// How the aim is met: half of QEMU's processor time for a frame.
    fn verdict(&self) -> String {
        let mut text = "\nAim: at most 0.5 of QEMU's CPU time for a frame, the daemon alone.\n".to_owned();
        for row in self.rows() {
            let Some(ratio) = row.ratio_per_frame else { continue };
            let word = if ratio.median <= 0.5 { "met" } else { "not met" };
            let offloads = if row.offloads { "" } else { ", no offloads" };
            text += &format!(
                "{:<8} {:.2}  {}, {}{offloads}: {}\n",
                word, ratio.median, row.load, row.direction, row.device
            );
        }
        text
    }
}

impl Row {
    fn to_markdown(&self) -> String {
        let short = |figure: &Figure, digits: usize| format!("{:.digits$}", figure.median);
        let long = |figure: &Figure, digits: usize| {
            format!("{:.digits$} ({:.digits$}-{:.digits$})", figure.median, figure.min, figure.max)
        };
        let ratio = |figure: &Option<Figure>| figure.as_ref().map_or_else(String::new, |f| long(f, 2));
        let cells = [
            self.load.to_owned(),
            self.direction.to_owned(),
            if self.offloads { "on" } else { "off" }.to_owned(),
            self.device.to_owned(),
            short(&self.mpps, 4),
            short(&self.gbit_per_s, 3),
            short(&self.cpu_s_per_gb, 2),
            long(&self.cpu_us_per_frame, 2),
            short(&self.rest_us_per_frame, 2),
            short(&self.cpu_percent, 0),
            short(&self.turns_per_frame, 2),
            ratio(&self.ratio_per_frame),
            ratio(&self.ratio_per_frame_with_rest),
            ratio(&self.ratio_mpps),
        ];
        format!("| {} |\n", cells.join(" | "))
    }
}

/// The value of the first line `name : value` of a file.
fn first_of(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use e2e::load::CpuTime;

    fn sample(frames: u64, device_ms: u64, rest_ms: u64) -> Sample {
        let cpu = |ms| CpuTime { time: Duration::from_millis(ms), turns: ms };
        Sample {
            seconds: 2.0,
            frames,
            bytes: frames * 1514,
            all_frames: frames,
            dropped: 1,
            device: cpu(device_ms),
            rest: cpu(rest_ms),
        }
    }

    #[test]
    fn medians_are_of_the_middle() {
        let of = |values: &[f64]| Figure::of(values.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Figure { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(of(&[4.0, 1.0, f64::NAN, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut report = Report::new(Duration::from_secs(2), false, false);
        let arm = |device| Arm { device, offloads: true };
        // The machine is half as fast in the second round; a third has only one of the two.
        for (round, slow) in [(0, 1), (1, 2)] {
            report.add(&arm(Device::Qemu), Load::UdpUp, round, sample(100_000, 400 * slow, 0));
            report.add(&arm(Device::Ours), Load::UdpUp, round, sample(200_000, 200 * slow, 100 * slow));
        }
        report.add(&arm(Device::Ours), Load::UdpUp, 2, sample(200_000, 9000, 0));
        let row = report.row((Load::UdpUp, true), Device::Ours).unwrap();
        assert_eq!((row.samples, row.dropped_frames, row.mpps.median), (3, 3, 0.1));
        let ratio = |figure: Option<Figure>| (figure.unwrap().median * 1000.0).round();
        assert_eq!((ratio(row.ratio_per_frame), ratio(row.ratio_per_frame_with_rest)), (250.0, 375.0));
        assert_eq!(ratio(row.ratio_mpps), 2000.0);
        let row = report.row((Load::UdpUp, true), Device::Qemu).unwrap();
        assert_eq!((row.cpu_us_per_frame.min, row.cpu_us_per_frame.max), (4.0, 8.0));
        assert!(row.ratio_per_frame.is_none());
        assert!(report.tables().contains("met      0.25  UDP 1500 B, guest to host: ours\n"), "{}", report.tables());
        let json: serde_json::Value = serde_json::from_slice(&report.to_json().unwrap()).unwrap();
        assert_eq!(json["rows"][1]["device"], "ours");
    }
}
