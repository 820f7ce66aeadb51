//! What a run of the lab leaves behind: `report.json`, from which the page is made.

use serde::{Deserialize, Serialize};

/// A whole run.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Report {
    /// Of the machine: processor, cores, kernel.
    pub machine: String,
    /// The command that produced it.
    pub command: String,
    /// When it ran, in words; empty if nobody said.
    #[serde(default)]
    pub date: String,
    /// Throughput.
    pub rows: Vec<Row>,
    /// Latency with one outstanding buffer.
    pub latencies: Vec<Latency>,
    /// What sleeping costs.
    pub wakeups: Vec<Wakeups>,
    /// Cachelines of every layout.
    pub pictures: Vec<Picture>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// How fast buffers go through a layout and back.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Row {
    /// Name of the layout, or of the baseline.
    pub layout: String,
    /// True for what is not ours: virtio-queue, ringtest, bare loops.
    pub baseline: bool,
    /// - `polled`: both sides poll; the driver is lazy: it fills the ring, then reaps until half of it is back
    ///   (ringtest's programs have a loop of their own).
    /// - `polled-greedy`: it reaps after every publication.
    /// - `polled-batch`: lazy, and the device takes what there is, up to 64, whatever the driver's burst.
    /// - `sleep`: each side sleeps when it has nothing to do.
    /// - `alternating`: one thread is driver and device in turn.
    /// - `device`: one thread, the device's side alone.
    pub mode: String,
    /// Bytes of payload that the driver writes and the device copies out; 0 if it is not touched.
    pub payload: u32,
    /// Buffers a publication.
    pub burst: usize,
    /// Entries of the ring.
    pub size: u16,
    /// Most buffers under way.
    pub outstanding: usize,
    /// Threads, each pinned to a core.
    pub threads: u8,
    /// Median over the samples.
    pub ns_per_buffer_median: f64,
    /// Fastest sample.
    pub min: f64,
    /// Slowest sample.
    pub max: f64,
    /// How many samples.
    pub samples: usize,
}

/// Distribution of latencies, in nanoseconds.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Latency {
    /// Name of the layout, or of the baseline (`pingpong`: one cacheline there and back).
    pub layout: String,
    /// See [`Row::baseline`].
    pub baseline: bool,
    /// `one_way`: from before the driver publishes to the device's look at the buffer; `round_trip`: until it is reaped.
    pub kind: String,
    /// Percentile 50.
    pub p50: f64,
    /// Percentile 99.
    pub p99: f64,
    /// Percentile 99.9.
    pub p999: f64,
    /// How many were measured.
    pub samples: usize,
}

/// Notifications of a run in which both sides sleep when they have nothing to do.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Wakeups {
    /// Name of the layout.
    pub layout: String,
    /// Buffers a publication.
    pub burst: usize,
    /// Most buffers under way.
    pub outstanding: usize,
    /// Writes to the device's eventfd, per buffer.
    pub kicks: f64,
    /// Writes to the driver's eventfd, per buffer.
    pub calls: f64,
}

/// Who writes a cacheline.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// Only the driver.
    Driver,
    /// Only the device.
    Device,
    /// Both: the line travels back and forth.
    Both,
}

/// The cachelines of one area of a layout.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Lines {
    /// Name of the area.
    pub area: String,
    /// What one entry is, such as "descriptor, 16 B".
    pub entry: String,
    /// Entries a line.
    pub per_line: f64,
    /// Lines of 64 bytes for the ring's size.
    pub lines: usize,
    /// Who writes them.
    pub writer: Writer,
    /// When they are written, and read by the other side: "once a buffer", "once a burst", "before sleeping".
    pub when: String,
}

/// A layout on paper.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Picture {
    /// Name of the layout.
    pub layout: String,
    /// What the idea is.
    pub idea: String,
    /// Its areas, in the order of their addresses.
    pub areas: Vec<Lines>,
    /// Lines that travel between the cores for each buffer, with bursts of 1, on paper.
    pub transfers_burst_1: f64,
    /// The same with bursts of 32.
    pub transfers_burst_32: f64,
    /// How they were counted.
    pub count: String,
}
