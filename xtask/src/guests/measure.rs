//! One daemon with so many guests, all of them front ends of ours in this process.

use super::{Run, load, pause};
use crate::{Failure, interrupt};
use e2e::cost::Memory;
use e2e::front::contest::median;
use e2e::front::crowd::{Crowd, Traffic};
use e2e::{Daemon, HostEnd};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After the last message: rings run, and workers that poll after work have stopped doing so.
const SETTLING: Duration = Duration::from_secs(1);

/// What so many guests cost. Memory is in KiB.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) guests: usize,
    /// From the daemon's start until all of its sockets listen.
    pub(super) start_ms: f64,
    /// For all guests, one after the other: connected, negotiated, rings running.
    pub(super) connect_ms: f64,
    /// The daemon without guests, with all of them, and after traffic on all of them.
    pub(super) alone: Memory,
    pub(super) connected: Memory,
    pub(super) used: Memory,
    /// Descriptors and threads, without guests and with all of them.
    pub(super) descriptors: [usize; 2],
    pub(super) threads: [usize; 2],
    /// Processor time with all guests connected and idle, in percent of one processor.
    pub(super) idle_percent: f64,
    /// Millions of frames per second that went there and back, all guests together.
    pub(super) all: Rates,
    /// The same with one guest sending and the others idle.
    pub(super) one: Rates,
}

/// Of several samples.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Rates {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) samples: usize,
}

impl Rates {
    /// From frames per second.
    fn new(rates: &[f64]) -> Self {
        let millions: Vec<f64> = rates.iter().map(|rate| rate / 1e6).collect();
        Self {
            min: millions.iter().copied().fold(f64::INFINITY, f64::min),
            max: millions.iter().copied().fold(0.0, f64::max),
            samples: millions.len(),
            median: median(millions),
        }
    }
}

impl Row {
    pub(super) fn describe(&self) -> String {
        format!(
            "{:>5} guests: started in {:.0} ms, connected in {:.0} ms, {} KiB ({} KiB alone), {} threads, idle {:.3} %, \
             {:.2} Mpps by all, {:.2} by one",
            self.guests,
            self.start_ms,
            self.connect_ms,
            self.connected.anonymous,
            self.alone.anonymous,
            self.threads[1],
            self.idle_percent,
            self.all.median,
            self.one.median
        )
    }
}

/// Measures it.
pub(super) fn row(run: &Run, guests: usize) -> Result<Row, Failure> {
    let folder = tempfile::tempdir()?;
    let sockets: Vec<PathBuf> = (0..guests).map(|n| folder.path().join(format!("{n}.sock"))).collect();
    let log = run.folder.join(format!("daemon-{guests}.log"));
    let daemon = Daemon::start_many(&run.program, &sockets, &HostEnd::Loopback, &run.arguments(), &log)?;
    let id = daemon.id();
    let (alone, held) = (Memory::of(id)?, daemon.holdings()?);
    let begin = Instant::now();
    let mut crowd = Crowd::connect(&sockets, run.layout)?;
    let connect = begin.elapsed();
    pause(SETTLING)?;
    let (connected, holds) = (Memory::of(id)?, daemon.holdings()?);
    let idle_percent = load(id, run.idle)?;
    let mut traffic = Traffic { active: guests, cpus: vec![run.driver], window: run.window, samples: run.samples };
    let all = Rates::new(&crowd.send(&traffic)?);
    traffic.active = 1;
    let one = Rates::new(&crowd.send(&traffic)?);
    let used = Memory::of(id)?;
    crowd.leave()?;
    let start_ms = millis(daemon.started_in());
    let ending = daemon.stop();
    if interrupt::requested() {
        return Err(Failure::Interrupted);
    }
    if !ending.status.is_some_and(|status| status.success()) {
        let last = ending.lines.last().map_or("it said nothing", String::as_str);
        return Err(Failure::Broken(format!("the daemon with {guests} guests did not end well: {last}")));
    }
    Ok(Row {
        guests,
        start_ms,
        connect_ms: millis(connect),
        alone,
        connected,
        used,
        descriptors: [held.descriptors, holds.descriptors],
        threads: [held.threads, holds.threads],
        idle_percent,
        all,
        one,
    })
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_millions() {
        let rates = Rates::new(&[3e6, 1e6, 2e6]);
        assert_eq!((rates.median, rates.min, rates.max, rates.samples), (2.0, 1.0, 3.0, 3));
    }
}
