//! A front end and its back end: DPDK's own, or our daemon.

use super::counted::Counted;
use super::plan::{Direction, Group, Path, Size};
use super::{Bench, MAC};
use e2e::dpdk::{Counters, Pcap, PortSpec, Role, TestPmd, cycles_per_packet};
use e2e::{Daemon, Error};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// From the start until the counters are looked at.
const WARM_UP: Duration = Duration::from_millis(100);
/// The daemon writes its statistics every second.
const PATIENCE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(10);

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Frames at the front end, in millions a second.
    pub(super) mpps: f64,
    /// Their mean length in bytes.
    pub(super) bytes: f64,
    /// Cycles a packet at the back end, if they were recorded.
    pub(super) cycles: Option<f64>,
}

/// What was counted since the last time.
pub(super) struct Account {
    pub(super) back: Counted,
    pub(super) notes: Vec<String>,
}

enum Back {
    Pmd(Box<TestPmd>),
    Daemon { daemon: Daemon, stats: PathBuf },
}

/// See the module. Dropping it ends both processes.
pub(super) struct Side {
    // In this order: a front end goes before its back end.
    front: TestPmd,
    back: Back,
    group: Group,
    counted: Counted,
    seen: Counters,
}

impl Side {
    /// DPDK at both ends.
    pub(super) fn dpdk(bench: &Bench, path: Path, group: Group) -> Result<Self, Error> {
        let socket = bench.scratch.path().join("dpdk.sock");
        let spec = PortSpec {
            role: Role::BackEnd,
            socket: socket.clone(),
            cpu: Some(bench.cpus.back),
            memory: bench.memory,
            dpdk_arguments: wide(path),
            ..PortSpec::default()
        };
        let mut back = TestPmd::start(&bench.dpdk, &spec, &bench.log("dpdk-back"))?;
        back.say(&format!("set eth-peer 0 {MAC}"))?;
        Self::connect(bench, path, group, socket, Back::Pmd(Box::new(back)))
    }

    /// Our daemon at the back.
    pub(super) fn ours(bench: &Bench, path: Path, group: Group) -> Result<Self, Error> {
        let socket = bench.scratch.path().join("ours.sock");
        let stats = bench.scratch.path().join("stats.json");
        let cpu = bench.cpus.back.to_string();
        let arguments =
            ["--mac".into(), MAC.into(), "--pin".into(), cpu.into(), "--stats-json".into(), stats.clone().into()];
        // What the daemon before left is not this one's.
        let _ = std::fs::remove_file(&stats);
        let daemon = Daemon::start(&bench.daemon, &socket, &group.host_end(), &arguments, &bench.log("daemon"))?;
        Self::connect(bench, path, group, socket, Back::Daemon { daemon, stats })
    }

    /// The same front end for both.
    fn connect(bench: &Bench, path: Path, group: Group, socket: PathBuf, back: Back) -> Result<Self, Error> {
        let name = if matches!(back, Back::Pmd(_)) { "dpdk-front" } else { "ours-front" };
        let spec = PortSpec {
            socket,
            parameters: path.parameters(MAC),
            pcap: group.from_file.then(|| Pcap::Forever(bench.mix.clone())),
            cpu: Some(bench.cpus.front),
            memory: bench.memory,
            dpdk_arguments: wide(path),
            ..PortSpec::default()
        };
        let mut front = TestPmd::start(&bench.dpdk, &spec, &bench.log(name))?;
        // A frame whose addresses were swapped is still one from this port to this port.
        front.say(&format!("set eth-peer 0 {MAC}"))?;
        Ok(Self { front, back, group, counted: Counted::default(), seen: Counters::default() })
    }

    /// What the program says of itself and of the port, such as its version: the text behind `word`.
    pub(super) fn said(&self, word: &str) -> Option<String> {
        let line = self.front.line_with(word)?;
        line.split_once(word).map(|(_, text)| text.trim().to_owned())
    }

    /// The driver's paths, to the device and from it.
    pub(super) fn paths(&self) -> [Option<String>; 2] {
        ["Tx", "Rx"].map(|way| {
            let line = self.front.line_with(&format!(" {way} path on port 0"))?;
            let (_, path) = line.split_once("virtio: using ")?;
            path.split_once(&format!(" {way} path")).map(|(path, _)| path.to_owned())
        })
    }

    /// Gets ready for frames of this size.
    pub(super) fn prepare(&mut self, size: Size) -> Result<(), Error> {
        for command in self.group.front(size) {
            self.front.say(command)?;
        }
        if let Back::Pmd(back) = &mut self.back {
            for command in self.group.back(size) {
                back.say(&command)?;
            }
        }
        Ok(())
    }

    /// Whether DPDK's back end counts its cycles from now on, which costs it some.
    pub(super) fn record(&mut self, on: bool) -> Result<(), Error> {
        match &mut self.back {
            Back::Pmd(back) => back.say(&format!("set record-core-cycles {}", if on { "on" } else { "off" })),
            Back::Daemon { .. } => Ok(()),
        }
    }

    /// One sample: both ends at work for a while, and at rest afterwards.
    pub(super) fn sample(&mut self, size: Size, window: Duration) -> Result<Sample, Error> {
        if let Back::Pmd(back) = &mut self.back {
            back.say("start")?;
        }
        for (i, commands) in self.group.starts(size).iter().enumerate() {
            if i > 0 {
                self.front.stop()?;
            }
            for command in commands {
                self.front.say(command)?;
            }
        }
        std::thread::sleep(WARM_UP);
        let before = self.front.counters(0)?;
        std::thread::sleep(window);
        let (after, rates) = self.front.rates(0)?;
        self.front.stop()?;
        let cycles = match &mut self.back {
            Back::Pmd(back) => cycles_per_packet(back.stop()?),
            Back::Daemon { .. } => None,
        };
        let (rate, before, after) = match self.group.direction {
            Direction::ToHost => (rates.tx, before.tx, after.tx),
            Direction::ToGuest | Direction::Loop => (rates.rx, before.rx, after.rx),
        };
        let frames = after.0.saturating_sub(before.0);
        let bytes = after.1.saturating_sub(before.1) as f64 / frames.max(1) as f64;
        Ok(Sample { mpps: rate as f64 / 1e6, bytes, cycles })
    }

    /// What both ends have counted since the last time, now that they rest.
    pub(super) fn account(&mut self) -> Result<Account, Error> {
        let (now, who) = match &mut self.back {
            Back::Pmd(back) => (Self::of_pmd(back, self.group.direction)?, "dpdk"),
            Back::Daemon { stats, .. } => (fresh(stats)?, "ours"),
        };
        let front = self.front.counters(0)?;
        let back = now.since(&self.counted);
        let sent = front.tx.0.saturating_sub(self.seen.tx.0);
        let received = front.rx.0.saturating_sub(self.seen.rx.0);
        let mut notes = back.notes(who, sent, received);
        let errors = front.errors.saturating_sub(self.seen.errors);
        if errors > 0 {
            notes.push(format!("{who}: {errors} errors at the front end"));
        }
        (self.counted, self.seen) = (now, front);
        Ok(Account { back, notes })
    }

    fn of_pmd(back: &mut TestPmd, direction: Direction) -> Result<Counted, Error> {
        let counters = back.counters(0)?;
        // A generator that finds the ring full is no loss.
        let errors = if direction == Direction::ToGuest { 0 } else { counters.errors };
        let drops = [("errors".to_owned(), errors)].into_iter().filter(|(_, count)| *count > 0).collect();
        Ok(Counted { taken: counters.rx.0, given: counters.tx.0, drops, busy_cycles: None })
    }

    /// Ends both, in good order.
    pub(super) fn end(self) -> Result<(), Error> {
        self.front.quit()?;
        match self.back {
            Back::Pmd(back) => back.quit().map(drop),
            Back::Daemon { daemon, .. } => {
                let ending = daemon.stop();
                if ending.status.is_some_and(|status| status.success()) {
                    return Ok(());
                }
                let reason = ending.lines.last().cloned().unwrap_or_else(|| "it did not end well".to_owned());
                Err(Error::Command { command: "vhost-user-net".to_owned(), reason })
            }
        }
    }
}

fn wide(path: Path) -> Vec<String> {
    path.layout.wide.then(|| "--force-max-simd-bitwidth=512".to_owned()).into_iter().collect()
}

/// Statistics that the daemon wrote after this was called.
fn fresh(path: &std::path::Path) -> Result<Counted, Error> {
    let uptime = |json: &Value| json.get("seconds").and_then(Value::as_f64);
    let read = || serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok();
    let old = read().as_ref().and_then(uptime);
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(json) = read().filter(|json| uptime(json) != old)
            && let Some(counted) = Counted::of_daemon(&json)
        {
            return Ok(counted);
        }
        std::thread::sleep(GLANCE);
    }
    Err(Error::File { path: path.to_owned(), source: std::io::ErrorKind::TimedOut.into() })
}
