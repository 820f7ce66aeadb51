//! DPDK's test program, `dpdk-testpmd`, as a front end of the daemon or as a back end in its place: a virtio-user port
//! or a vhost port, and if wanted a port of pcap files beside it, commands in, counters out.
//!
//! The drivers are not Linux's: they poll, ask for no calls, and have paths of their own for each layout of rings.

mod counters;
mod pages;
mod spec;

use crate::Error;
use crate::guest::{Process, Text};
pub use crate::setup::Dpdk;
pub use counters::{Counters, Rates, cycles_per_packet};
pub use pages::HugePages;
pub use spec::{Memory, Pcap, PortSpec, Role};
use std::io::{PipeWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// It answers, and frames come back, within this time.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(10);
/// The last line of a list of counters.
const COUNTERS_END: &str = "  ####";

/// The running program. Dropping it kills it; it also ends when this process does, however that comes about.
#[derive(Debug)]
pub struct TestPmd {
    process: Process,
    input: PipeWriter,
    lines: Vec<String>,
    _scratch: tempfile::TempDir,
}

impl TestPmd {
    /// Starts it and waits until its ports are there. What it prints is also kept in `log`.
    ///
    /// # Errors
    /// It ended, or was not ready in time; its last line says why.
    pub fn start(dpdk: &Dpdk, spec: &PortSpec, log: &Path) -> Result<Self, Error> {
        let scratch = tempfile::tempdir().map_err(Error::file(std::env::temp_dir()))?;
        let command = spec.command(dpdk, scratch.path());
        let (process, input) = Process::start_talking(command, Some(log))?;
        let mut pmd = Self { process, input, lines: Vec::new(), _scratch: scratch };
        // Answered once all is set up.
        pmd.counters(0)?;
        Ok(pmd)
    }

    /// Gives a command, and does not wait for it. It does them one after the other.
    ///
    /// # Errors
    /// It is no more.
    pub fn say(&mut self, command: &str) -> Result<(), Error> {
        writeln!(self.input, "{command}").map_err(|_| self.failed("it does not listen any more"))
    }

    /// Counters of port `port`, since the start.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counters(&mut self, port: u16) -> Result<Counters, Error> {
        self.rates(port).map(|(counters, _)| counters)
    }

    /// Counters of port `port`, and how fast they have moved since they were last asked for.
    ///
    /// # Errors
    /// It does not answer.
    pub fn rates(&mut self, port: u16) -> Result<(Counters, Rates), Error> {
        self.say(&format!("show port stats {port}"))?;
        self.wait_for(|line| line.contains("NIC statistics for port"))?;
        let begin = self.lines.len();
        self.wait_for(|line| line.starts_with(COUNTERS_END))?;
        let lines = self.lines.get(begin..).unwrap_or_default();
        Ok((Counters::parse(lines), Rates::parse(lines)))
    }

    /// Counters of port `port` once they are as `wanted`.
    ///
    /// # Errors
    /// They were not in time, or it does not answer.
    pub fn until(&mut self, port: u16, what: &str, wanted: impl Fn(&Counters) -> bool) -> Result<Counters, Error> {
        let begin = Instant::now();
        loop {
            let now = self.counters(port)?;
            if wanted(&now) {
                return Ok(now);
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.failed(&format!("{what}: not within {PATIENCE:?}, {now:?}")));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Stops forwarding, and waits until it rests; what it prints then is a summary of what it did since the start.
    ///
    /// # Errors
    /// It does not answer, or did not forward.
    pub fn stop(&mut self) -> Result<&[String], Error> {
        self.say("stop")?;
        let begin = self.lines.len();
        self.wait_for(|line| line == "Done." || line.contains("Packet forwarding not started"))?;
        match self.lines.get(begin..) {
            Some([.., last]) if last != "Done." => Err(self.failed("it did not forward")),
            lines => Ok(lines.unwrap_or_default()),
        }
    }

    /// The first line so far that contains `word`.
    pub fn line_with(&self, word: &str) -> Option<&str> {
        self.lines.iter().map(String::as_str).find(|line| line.contains(word))
    }

    /// Ends it in good order, and gives all that it has printed.
    ///
    /// # Errors
    /// It did not end well.
    pub fn quit(mut self) -> Result<Vec<String>, Error> {
        self.say("quit")?;
        let begin = Instant::now();
        loop {
            match self.process.next_text(PATIENCE) {
                Text::Line(line) => self.lines.push(line),
                Text::End => break,
                Text::Late => return Err(self.failed("it does not end")),
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.failed("it does not end"));
            }
        }
        match self.process.exit_status() {
            Some(status) if status.success() => Ok(std::mem::take(&mut self.lines)),
            Some(status) => Err(self.failed(&status.to_string())),
            None => Err(self.failed("it closed its output and goes on")),
        }
    }

    /// Reads up to and with a line like this.
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            match self.process.next_text(left) {
                Text::Line(line) => {
                    let found = wanted(&line);
                    self.lines.push(line);
                    if found {
                        return Ok(());
                    }
                }
                Text::End => return Err(self.failed("it ended")),
                Text::Late => return Err(self.failed("no answer")),
            }
        }
    }

    fn failed(&self, what: &str) -> Error {
        let last = self.lines.iter().rev().find(|l| !l.trim().is_empty()).map_or("", String::as_str);
        Error::Command { command: "dpdk-testpmd".to_owned(), reason: format!("{what}; last line: {last:?}") }
    }
}

/// Processors that this process may use.
pub fn processors() -> impl Iterator<Item = usize> {
    let ours = rustix::thread::sched_getaffinity(None).ok();
    (0..rustix::thread::CpuSet::MAX_CPU).filter(move |cpu| ours.as_ref().is_some_and(|set| set.is_set(*cpu)))
}

/// True if this processor has what DPDK's vector path for packed rings needs.
pub fn avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}
