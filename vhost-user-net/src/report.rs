//! What the daemon tells of itself: lines with rates, a JSON file, a summary.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use vhost_glue::WorkerStats;
use virtio_net_core::Features;

use crate::capture::{Capture, CaptureStats};
use crate::ledger::{All, Book, Pair, RX_DROPS, RX_FILTERED, TX_DROPS, TX_FILTERED, Totals, Way};

/// What to report, and how often.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Print lines.
    pub(crate) lines: bool,
    /// Write this file.
    pub(crate) json: Option<StatsFile>,
    pub(crate) period: Duration,
    pub(crate) capture: Option<Capture>,
}

/// The thread that reports.
#[derive(Debug)]
pub(crate) struct Reporter {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Reporter {
    /// Starts it, if there is something to report.
    pub(crate) fn start(plan: Plan, book: Arc<Book>) -> io::Result<Option<Self>> {
        if !plan.lines && plan.json.is_none() {
            return Ok(None);
        }
        let (end, ended) = channel();
        let thread = std::thread::Builder::new().name("stats".into()).spawn(move || run(&plan, &book, &ended))?;
        Ok(Some(Self { end, thread }))
    }

    /// Ends it, after a last file.
    pub(crate) fn finish(self) {
        drop(self.end);
        if self.thread.join().is_err() {
            tracing::error!("the reporting thread died");
        }
    }
}

fn run(plan: &Plan, book: &Book, ended: &Receiver<()>) {
    let mut before = book.totals();
    let mut failing = false;
    loop {
        let last = !matches!(ended.recv_timeout(plan.period), Err(RecvTimeoutError::Timeout));
        let now = book.totals();
        if plan.lines && !last {
            for line in rate_lines(&before, &now) {
                println!("{line}");
            }
        }
        if let Some(file) = &plan.json {
            let result = file.replace(&now, plan.capture.as_ref().map(Capture::stats));
            if let Err(error) = result.as_ref().map_err(|e| (!failing).then_some(e)) {
                if let Some(error) = error {
                    tracing::warn!("--stats-json {}: {error}", file.path.display());
                }
                failing = true;
            } else {
                failing = false;
            }
        }
        if last {
            return;
        }
        before = now;
    }
}

/// `part` for each of `whole`.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn drop_list(tx: &Way, rx: &Way) -> String {
    let tx = TX_DROPS.iter().zip(tx.drops).map(|(name, n)| ("tx", name, n));
    let rx = RX_DROPS.iter().zip(rx.drops).map(|(name, n)| ("rx", name, n));
    let list: Vec<String> =
        tx.chain(rx).filter(|d| d.2 > 0).map(|(way, name, n)| format!("{way} {name} {n}")).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

/// Kicks and calls for each frame, and the mean burst.
fn shape(way: &Way) -> String {
    let (kicks, calls) = (ratio(way.kicks, way.frames), ratio(way.calls, way.frames));
    format!("{kicks:.3} kicks/f {calls:.3} calls/f burst {:.1}", ratio(way.frames, way.bursts))
}

fn rate(way: &Way, seconds: f64) -> String {
    let frames = way.frames as f64 / seconds;
    let megabits = way.bytes as f64 * 8.0 / 1e6 / seconds;
    format!("{frames:.0} f/s {megabits:.1} Mbit/s {}", shape(way))
}

/// Lines for each guest. Of several, those without traffic have none.
fn rate_lines(before: &All, now: &All) -> Vec<String> {
    let several = now.guests.len() > 1;
    let lines = |((socket, now), (_, before)): (&(PathBuf, Totals), &(PathBuf, Totals))| {
        guest_lines(several.then_some(socket.as_path()), before, now)
    };
    now.guests.iter().zip(&before.guests).flat_map(lines).collect()
}

/// One line for each queue pair; of those that rest only the first, and not even that of a guest that has to be named.
fn guest_lines(socket: Option<&Path>, before: &Totals, now: &Totals) -> Vec<String> {
    let seconds = (now.seconds - before.seconds).max(1e-3);
    let state = if now.now.connected { "guest connected" } else { "no guest" };
    let guest = socket.map_or_else(|| state.to_owned(), |socket| format!("{}, {state}", socket.display()));
    let mut lines = Vec::new();
    for (i, pair) in now.pairs.iter().enumerate() {
        let earlier = before.pairs.get(i).copied().unwrap_or_default();
        let (tx, rx) = (pair.tx.since(&earlier.tx), pair.rx.since(&earlier.rx));
        if (i > 0 || socket.is_some()) && tx == Way::default() && rx == Way::default() {
            continue;
        }
        lines.push(format!(
            "{:.1} s, {guest}, pair {i}: tx {} | rx {} | drops: {}",
            now.seconds,
            rate(&tx, seconds),
            rate(&rx, seconds),
            drop_list(&tx, &rx)
        ));
    }
    lines
}

/// What is printed at the end.
pub(crate) fn summary(all: &All, capture: Option<CaptureStats>) -> String {
    let sessions = all.guests.iter().fold(0_u64, |sum, (_, guest)| sum.saturating_add(guest.now.sessions));
    let several = all.guests.len() > 1;
    let sockets = if several { format!(" at {} sockets", all.guests.len()) } else { String::new() };
    let mut text = format!("summary: {sessions} guest session(s){sockets} in {:.1} s\n", all.seconds);
    for (socket, guest) in &all.guests {
        for (i, Pair { tx, rx, .. }) in guest.pairs.iter().enumerate() {
            let way = |way: &Way| format!("{} frames {} bytes {}", way.frames, way.bytes, shape(way));
            let name = if several { format!("{}, ", socket.display()) } else { String::new() };
            if !several || (*tx, *rx) != <(Way, Way)>::default() {
                text += &format!("{name}pair {i}: tx {} | rx {} | drops: {}\n", way(tx), way(rx), drop_list(tx, rx));
            }
        }
    }
    if let Some(capture) = capture {
        text += &format!("capture: {} frames written, {} left out\n", capture.written, capture.dropped);
    }
    text
}

/// The keys of the file; README.md says what they mean.
#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    seconds: f64,
    workers: Vec<JsonWorker>,
    guests: Vec<JsonGuest<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capture: Option<JsonCapture>,
}

#[derive(Serialize)]
struct JsonWorker {
    cpu: Option<usize>,
    node: Option<usize>,
    pairs: usize,
    busy_cycles: u64,
    cycles: u64,
    sleeps: u64,
}

#[derive(Serialize)]
struct JsonGuest<'a> {
    socket: Cow<'a, str>,
    uptime_seconds: f64,
    sessions: u64,
    connected: bool,
    features: Vec<&'static str>,
    ring_format: Option<&'static str>,
    refused_requests: u64,
    pairs: Vec<JsonPair>,
}

#[derive(Serialize)]
struct JsonPair {
    busy_cycles: u64,
    tx: JsonWay,
    rx: JsonWay,
}

#[derive(Serialize)]
struct JsonWay {
    frames: u64,
    bytes: u64,
    bursts: u64,
    kicks: u64,
    calls: u64,
    drops: BTreeMap<&'static str, u64>,
    filtered: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct JsonCapture {
    written: u64,
    left_out: u64,
}

impl JsonWay {
    fn new(way: &Way, drop_names: &[&'static str], filter_names: &[&'static str]) -> Self {
        let Way { frames, bytes, bursts, kicks, calls, drops, filtered } = *way;
        let drops = drop_names.iter().copied().zip(drops).collect();
        let filtered = filter_names.iter().copied().zip(filtered).collect();
        Self { frames, bytes, bursts, kicks, calls, drops, filtered }
    }
}

impl<'a> Json<'a> {
    fn new(all: &'a All, capture: Option<CaptureStats>) -> Self {
        let worker = |worker: &WorkerStats| {
            let WorkerStats { cpu, node, pairs, busy_cycles, cycles, sleeps } = *worker;
            JsonWorker { cpu, node, pairs, busy_cycles, cycles, sleeps }
        };
        Self {
            version: 2,
            seconds: all.seconds,
            workers: all.workers.iter().map(worker).collect(),
            guests: all.guests.iter().map(|(socket, totals)| JsonGuest::new(socket, totals)).collect(),
            capture: capture.map(|c| JsonCapture { written: c.written, left_out: c.dropped }),
        }
    }
}

impl<'a> JsonGuest<'a> {
    fn new(socket: &'a Path, totals: &Totals) -> Self {
        let pair = |pair: &Pair| JsonPair {
            busy_cycles: pair.busy_cycles,
            tx: JsonWay::new(&pair.tx, &TX_DROPS, &TX_FILTERED),
            rx: JsonWay::new(&pair.rx, &RX_DROPS, &RX_FILTERED),
        };
        let acked = totals.now.features;
        let format = |acked: Features| if acked.contains(Features::RING_PACKED) { "packed" } else { "split" };
        Self {
            socket: socket.to_string_lossy(),
            uptime_seconds: totals.seconds,
            sessions: totals.now.sessions,
            connected: totals.now.connected,
            features: acked.unwrap_or_default().iter_names().map(|(name, _)| name).collect(),
            ring_format: acked.map(format),
            refused_requests: totals.now.refusals,
            pairs: totals.pairs.iter().map(pair).collect(),
        }
    }
}

/// A file that is never seen half written.
#[derive(Debug)]
pub(crate) struct StatsFile {
    path: PathBuf,
    next: PathBuf,
}

impl StatsFile {
    /// Checks that the file can be made, and makes none yet.
    ///
    /// # Errors
    /// Its folder cannot be written, or the path is a folder.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let mut next = name.to_owned();
        next.push(format!(".{}.new", std::process::id()));
        let file = Self { path: path.to_owned(), next: path.with_file_name(next) };
        fs::File::create(&file.next)?;
        fs::remove_file(&file.next)?;
        Ok(file)
    }

    fn replace(&self, all: &All, capture: Option<CaptureStats>) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&Json::new(all, capture))?;
        text.push(b'\n');
        let written = fs::write(&self.next, text).and_then(|()| fs::rename(&self.next, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&self.next);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vhost_glue::Snapshot;

    fn totals(frames: u64, seconds: f64) -> Totals {
        let tx = Way { frames, bytes: frames * 1000, bursts: frames / 10, kicks: frames / 100, ..Way::default() };
        let rx = Way { drops: [0, 0, 0, frames / 50, 0], ..tx };
        Totals { pairs: vec![Pair { tx, rx, busy_cycles: 3 * frames }; 2], now: Snapshot::default(), seconds }
    }

    fn all<const N: usize>(guests: [Totals; N]) -> All {
        let seconds = guests[0].seconds;
        let worker = WorkerStats { cpu: Some(2), pairs: 2, busy_cycles: 7, ..WorkerStats::default() };
        let guests = (0..).zip(guests).map(|(i, guest)| (PathBuf::from(format!("/s{i}")), guest)).collect();
        All { seconds, workers: vec![worker], guests }
    }

    #[test]
    fn lines_have_rates_and_reasons() {
        let (before, now) = (all([totals(1000, 1.0)]), all([totals(3000, 3.0)]));
        let lines = rate_lines(&before, &now);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            "3.0 s, no guest, pair 0: tx 1000 f/s 8.0 Mbit/s 0.010 kicks/f 0.000 calls/f burst 10.0 | \
             rx 1000 f/s 8.0 Mbit/s 0.010 kicks/f 0.000 calls/f burst 10.0 | drops: rx no_room 40"
        );
        assert_eq!(rate_lines(&now, &now).len(), 1, "a pair that rests is not worth a line");
        assert!(rate_lines(&now, &now)[0].ends_with("drops: none"));
    }

    #[test]
    fn of_several_guests_those_with_traffic_are_named() {
        let before = all([totals(1000, 1.0), totals(1000, 1.0), totals(0, 1.0)]);
        let now = all([totals(1000, 2.0), totals(2000, 2.0), totals(0, 2.0)]);
        let lines = rate_lines(&before, &now);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("2.0 s, /s1, no guest, pair 0: tx 1000 f/s"), "{}", lines[0]);
        assert!(lines[1].starts_with("2.0 s, /s1, no guest, pair 1: tx 1000 f/s"), "{}", lines[1]);
        let text = summary(&now, None);
        assert!(
            text.starts_with("summary: 0 guest session(s) at 3 sockets in 2.0 s\n/s0, pair 0: tx 1000 fr"),
            "{text}"
        );
        assert!(text.contains("\n/s1, pair 1: tx 2000 frames") && !text.contains("/s2"), "{text}");
    }

    #[test]
    fn the_format_of_the_rings_is_what_the_driver_took() {
        let format = |features| {
            let now = Snapshot { features, ..Snapshot::default() };
            let json = serde_json::to_value(Json::new(&all([Totals { now, ..totals(0, 1.0) }]), None)).unwrap();
            json["guests"][0]["ring_format"].as_str().map(str::to_owned)
        };
        assert_eq!(format(None), None);
        assert_eq!(format(Some(Features::VERSION_1)).as_deref(), Some("split"));
        assert_eq!(format(Some(Features::VERSION_1 | Features::RING_PACKED)).as_deref(), Some("packed"));
    }

    #[test]
    fn the_file_is_whole_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.json");
        let file = StatsFile::new(&path).unwrap();
        assert!(!path.exists());
        for frames in [100, 200] {
            let capture = Some(CaptureStats { written: 7, dropped: 1 });
            file.replace(&all([totals(1, 1.5), totals(frames, 1.5)]), capture).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let guest = &json["guests"][1];
            assert_eq!((&guest["socket"], json["guests"].as_array().unwrap().len()), (&"/s1".into(), 2));
            assert_eq!(guest["pairs"][1]["tx"]["frames"], frames);
            assert_eq!(guest["pairs"][1]["busy_cycles"], 3 * frames);
            assert_eq!(guest["pairs"][0]["rx"]["drops"]["no_room"], frames / 50);
            let worker =
                serde_json::json!({"cpu": 2, "node": null, "pairs": 2, "busy_cycles": 7, "cycles": 0, "sleeps": 0});
            assert_eq!((&json["workers"][0], &json["seconds"]), (&worker, &1.5.into()));
            assert_eq!((&json["capture"]["left_out"], &json["version"]), (&1.into(), &2.into()));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(StatsFile::new(folder.path()).is_err());
        assert!(StatsFile::new(&folder.path().join("none/x.json")).is_err());
    }
}
