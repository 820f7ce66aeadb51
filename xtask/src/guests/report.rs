//! `report.json`, and the tables.

use super::Run;
use super::linux::Linux;
use super::measure::Row;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;

/// Queues of each guest: one pair.
const QUEUES: f64 = 2.0;
/// With this many guests that idle, less than this share of a processor.
const IDLE_AIM: (usize, f64) = (100, 1.0);

/// All of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    processor: String,
    kernel: String,
    layout: String,
    workers: u8,
    pub(super) rows: Vec<Row>,
    pub(super) linux: Option<Linux>,
}

/// What one guest more costs: the slope between the fewest and the most guests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Slope {
    /// KiB of the daemon's own memory, with guests that were only connected.
    connected_kib: f64,
    /// The same after traffic.
    used_kib: f64,
    connected_kib_per_queue: f64,
    descriptors: f64,
    threads: f64,
    start_ms: f64,
    connect_ms: f64,
}

impl Report {
    pub(super) fn new(run: &Run) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: name.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            layout: run.layout.to_string(),
            workers: run.workers,
            rows: Vec::new(),
            linux: None,
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        let mut json = serde_json::to_value(self)?;
        if let Some(object) = json.as_object_mut() {
            object.insert("per_guest".to_owned(), serde_json::to_value(slope(&self.rows))?);
        }
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }

    /// As for the README.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from(
            "| guests | start ms | connect ms | daemon's memory KiB, alone / connected / after traffic | descriptors | threads \
             | idle, % of a CPU | all send, Mpps | one sends, Mpps |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.0} | {} / {} / {} | {} | {} | {:.3} | {:.2} ({:.2}-{:.2}) | {:.2} ({:.2}-{:.2}) |",
                row.guests,
                row.start_ms,
                row.connect_ms,
                row.alone.anonymous,
                row.connected.anonymous,
                row.used.anonymous,
                row.descriptors[1],
                row.threads[1],
                row.idle_percent,
                row.all.median,
                row.all.min,
                row.all.max,
                row.one.median,
                row.one.min,
                row.one.max
            );
        }
        if let Some(slope) = slope(&self.rows) {
            let _ = writeln!(
                text,
                "\nOne guest more: {:.0} KiB connected ({:.0} per queue), {:.0} KiB after traffic, {:.1} descriptors, {:.1} threads, \
                 {:.2} ms to start, {:.2} ms to connect. Memory is anonymous (private) memory; guest memory is not in it.",
                slope.connected_kib,
                slope.connected_kib_per_queue,
                slope.used_kib,
                slope.descriptors,
                slope.threads,
                slope.start_ms,
                slope.connect_ms
            );
        }
        let (guests, percent) = IDLE_AIM;
        if let Some(row) = self.rows.iter().find(|row| row.guests == guests) {
            let met = if row.idle_percent < percent { "met" } else { "MISSED" };
            let _ = writeln!(
                text,
                "Aim: less than {percent} % of a CPU with {guests} idle guests: {:.3} %, {met}.",
                row.idle_percent
            );
        }
        if let Some(linux) = &self.linux {
            let _ = writeln!(text, "{}", linux.describe());
        }
        text
    }
}

/// Between the rows with the fewest and the most guests; `None` if that is the same one.
fn slope(rows: &[Row]) -> Option<Slope> {
    let few = rows.iter().min_by_key(|row| row.guests)?;
    let many = rows.iter().max_by_key(|row| row.guests)?;
    let more = many.guests.checked_sub(few.guests).filter(|more| *more > 0)? as f64;
    let per_guest = |of: &dyn Fn(&Row) -> f64| (of(many) - of(few)) / more;
    let connected_kib = per_guest(&|row| row.connected.anonymous as f64);
    Some(Slope {
        connected_kib,
        used_kib: per_guest(&|row| row.used.anonymous as f64),
        connected_kib_per_queue: connected_kib / QUEUES,
        descriptors: per_guest(&|row| row.descriptors[1] as f64),
        threads: per_guest(&|row| row.threads[1] as f64),
        start_ms: per_guest(&|row| row.start_ms),
        connect_ms: per_guest(&|row| row.connect_ms),
    })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use e2e::cost::Memory;

    fn row(guests: usize) -> Row {
        let memory = |each: u64| Memory { anonymous: 1000 + each * guests as u64, ..Memory::default() };
        Row {
            guests,
            alone: memory(1),
            connected: memory(40),
            used: memory(90),
            descriptors: [5 + guests, 5 + 8 * guests],
            threads: [3, 3 + guests],
            start_ms: 2.0 + 0.5 * guests as f64,
            ..Row::default()
        }
    }

    #[test]
    fn one_guest_more_is_the_slope() {
        let expected = Slope {
            connected_kib: 40.0,
            used_kib: 90.0,
            connected_kib_per_queue: 20.0,
            descriptors: 8.0,
            threads: 1.0,
            start_ms: 0.5,
            connect_ms: 0.0,
        };
        assert_eq!(slope(&[row(10), row(1), row(100)]), Some(expected));
        assert_eq!(slope(&[row(10)]), None);
        assert_eq!(slope(&[]), None);
    }
}
