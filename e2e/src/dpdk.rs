//! DPDK's test program, `dpdk-testpmd`, as a front end of the daemon: a virtio-user port, and if wanted a port of pcap
//! files beside it, commands in, counters out.
//!
//! The port's driver is not Linux's: it polls, asks for no calls, and has paths of its own for each layout of rings.

mod reflector;

use crate::Error;
use crate::guest::{Process, Text};
pub use crate::setup::Dpdk;
use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// It answers, and frames come back, within this time.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(10);
/// The last line of a list of counters.
const COUNTERS_END: &str = "  ####";

/// How a [`TestPmd`] is started.
#[derive(Clone, Debug, Default)]
pub struct PortSpec {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// More parameters of the virtio-user port, such as `packed_vq=1,mrg_rxbuf=0`.
    pub parameters: String,
    /// Files that a second port reads its frames from, and writes them to; what one port receives, the other sends.
    pub pcap: Option<(PathBuf, PathBuf)>,
    /// More arguments for DPDK itself.
    pub dpdk_arguments: Vec<String>,
    /// More arguments for the test program.
    pub arguments: Vec<String>,
    /// Ports are to be started by a command.
    pub stopped: bool,
}

/// What a port counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received, and their bytes.
    pub rx: (u64, u64),
    /// Frames sent, and their bytes.
    pub tx: (u64, u64),
    /// Frames or buffers that went wrong: missed, errors of both ways, no memory.
    pub errors: u64,
}

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
        let command = command(dpdk, spec, scratch.path());
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
        self.say(&format!("show port stats {port}"))?;
        self.wait_for(|line| line.contains("NIC statistics for port"))?;
        let begin = self.lines.len();
        self.wait_for(|line| line.starts_with(COUNTERS_END))?;
        Ok(Counters::parse(self.lines.get(begin..).unwrap_or_default()))
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

impl Counters {
    /// From lines such as `  RX-packets: 3        RX-missed: 0          RX-bytes:  192`.
    fn parse(lines: &[String]) -> Self {
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_ascii_whitespace()).collect();
        let number = |name: &str| -> u64 {
            let mut pairs = words.windows(2).filter_map(|pair| pair.first().zip(pair.get(1)));
            let value = pairs.find(|(word, _)| word.strip_suffix(':') == Some(name));
            value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        let errors = ["RX-missed", "RX-errors", "RX-nombuf", "TX-errors"].map(number);
        Self {
            rx: (number("RX-packets"), number("RX-bytes")),
            tx: (number("TX-packets"), number("TX-bytes")),
            errors: errors.iter().fold(0, |sum, n| sum.saturating_add(*n)),
        }
    }
}

/// One processor for both of its threads: the one that takes commands sleeps, and the daemon wants the other.
fn command(dpdk: &Dpdk, spec: &PortSpec, scratch: &Path) -> Command {
    let ours = rustix::thread::sched_getaffinity(None).ok();
    let first = ours.and_then(|set| (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| set.is_set(*cpu))).unwrap_or(0);
    let mut command = dpdk.command(scratch);
    command
        .args(["--lcores", &format!("(0,1)@{first}"), "--no-huge", "-m", "64", "--no-pci", "--file-prefix=e2e"])
        // Says which of its paths a port takes.
        .arg("--log-level=pmd.net.virtio.init:info")
        // One region for the daemon; DPDK's memory is one file for each page without it.
        .arg("--single-file-segments")
        .args(&spec.dpdk_arguments);
    let mut port = std::ffi::OsString::from("net_virtio_user0,path=");
    port.push(&spec.socket);
    port.push(format!(",queues=1,queue_size=256,{}", spec.parameters));
    command.arg("--vdev").arg(port);
    if let Some((from, to)) = &spec.pcap {
        let mut port = std::ffi::OsString::from("net_pcap0,rx_pcap=");
        port.push(from);
        port.push(",tx_pcap=");
        port.push(to);
        command.arg("--vdev").arg(port);
    }
    command.args(["--", "-i", "--nb-cores=1", "--txd=256", "--rxd=256", "--burst=32", "--total-num-mbufs=4096"]);
    // It would throw away what it finds in a queue before it begins.
    command.arg("--no-flush-rx");
    if spec.stopped {
        command.arg("--disable-device-start");
    }
    command.args(&spec.arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read() {
        let text = "  RX-packets: 544        RX-missed: 1          RX-bytes:  34816\n  RX-errors: 2\n  RX-nombuf:  3         \n  \
            TX-packets: 545        TX-errors: 4          TX-bytes:  34880\n\n  Throughput (since last show)\n  Rx-pps: 7";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(Counters::parse(&lines), Counters { rx: (544, 34816), tx: (545, 34880), errors: 10 });
        assert_eq!(Counters::parse(&[]), Counters::default());
    }
}
