//! The daemon under test: built in release mode, started with a socket of its own, stopped in good order.

use crate::guest::{Process, Text};
use crate::setup::Say;
use crate::setup::packages::run;
use crate::{Error, TapNet};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

const NAME: &str = "vhost-user-net";
/// It listens, or ends, within this time.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(1);
/// The address that the guest must have unless `--mac` says another.
pub const DEFAULT_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// The daemon's program file.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// Builds it in release mode, if that is not done yet.
    ///
    /// # Errors
    /// The build failed.
    pub fn build(say: Say<'_>) -> Result<Self, Error> {
        say("building the daemon in release mode");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args([
            "build",
            "--release",
            "--package",
            NAME,
            "--message-format=json-render-diagnostics",
        ]);
        let report = run(&mut cargo)?;
        let executable = |line: &str| -> Option<PathBuf> {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let path = message.get("executable")?.as_str()?;
            Some(path.into())
        };
        let reason = || "it names no executable".to_owned();
        let missing = || Error::Command { command: format!("cargo build --package {NAME}"), reason: reason() };
        report.lines().filter_map(executable).next_back().map(Self).ok_or_else(missing)
    }

    /// One that is there already.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The host end that the guest's frames go to.
#[derive(Debug)]
pub enum HostEnd {
    /// The network inside the daemon.
    User,
    /// A tap in a network namespace, with a real Linux stack behind it.
    Tap(TapNet),
    /// Every frame comes back, with its MAC addresses swapped.
    Loopback,
    /// One for measurements, by its whole name: `sink`, `source:64`.
    Bench(&'static str),
}

impl HostEnd {
    /// The word for it, such as `user`, `tap` or `loopback`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Tap(_) => "tap",
            Self::Loopback => "loopback",
            Self::Bench(name) => name,
        }
    }
}

/// A running daemon. Dropping it kills it; [`Daemon::stop`] ends it properly.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    sockets: Vec<PathBuf>,
    lines: Vec<String>,
    started_in: Duration,
}

/// How a daemon ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Its exit state; `None` if it had to be killed.
    pub status: Option<ExitStatus>,
    /// What it printed, log and summary.
    pub lines: Vec<String>,
}

impl Daemon {
    /// Starts it with these arguments beside `--socket` and `--net`, and waits until it listens. The host end must
    /// outlive it. What it prints is also kept in `log`.
    ///
    /// # Errors
    /// It ended, or did not listen in time; its last line says why.
    pub fn start(
        program: &Program,
        socket: &Path,
        host: &HostEnd,
        arguments: &[std::ffi::OsString],
        log: &Path,
    ) -> Result<Self, Error> {
        Self::start_many(program, &[socket.to_owned()], host, arguments, log)
    }

    /// As [`Daemon::start`], with several sockets, each of a guest of its own.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_many(
        program: &Program,
        sockets: &[PathBuf],
        host: &HostEnd,
        arguments: &[std::ffi::OsString],
        log: &Path,
    ) -> Result<Self, Error> {
        let (mut command, net) = match host {
            HostEnd::User | HostEnd::Loopback | HostEnd::Bench(_) => {
                (Command::new(program.path()), host.name().to_owned())
            }
            HostEnd::Tap(net) => (net.command(program.path()), format!("tap:{}", net.tap())),
        };
        for socket in sockets {
            command.arg("--socket").arg(socket);
        }
        command.args(["--net", &net]).args(arguments);
        let begin = Instant::now();
        let process = Process::start(command, Some(log))?;
        let started_in = Duration::ZERO;
        let mut daemon = Self { process, sockets: sockets.to_owned(), lines: Vec::new(), started_in };
        // A socket takes connections before all of the daemon's threads are there; each says so when it is.
        while !daemon.listens() || daemon.said("listening at") < sockets.len() {
            let ended = daemon.collect(GLANCE);
            if ended || begin.elapsed() > PATIENCE {
                let reason = daemon.lines.last().cloned().unwrap_or_else(|| "it does not listen".to_owned());
                return Err(Error::Command { command: NAME.to_owned(), reason });
            }
        }
        daemon.started_in = begin.elapsed();
        Ok(daemon)
    }

    /// How many lines of its log so far have this in them.
    fn said(&self, text: &str) -> usize {
        self.lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Whether all of its sockets take connections. A connection made to find out would be a guest.
    fn listens(&self) -> bool {
        // The kernel's list is of the daemon's own namespace: a path there says the socket is bound, and the flag
        // (__SO_ACCEPTCON) that it listens.
        let list = fs::read_to_string(format!("/proc/{}/net/unix", self.id())).unwrap_or_default();
        let listening = list.lines().filter(|line| line.contains(" 00010000 "));
        let paths: HashSet<&str> = listening.filter_map(|line| line.find('/').and_then(|i| line.get(i..))).collect();
        self.sockets.iter().all(|socket| paths.contains(socket.to_string_lossy().as_ref()))
    }

    /// Takes what it has printed. True when it has closed its output.
    fn collect(&mut self, patience: Duration) -> bool {
        loop {
            match self.process.next_text(patience) {
                Text::Line(line) => self.lines.push(line),
                Text::End => return true,
                Text::Late => return false,
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Time from its start until it listened.
    pub const fn started_in(&self) -> Duration {
        self.started_in
    }

    /// What it holds of the system now.
    ///
    /// # Errors
    /// It is no more.
    pub fn holdings(&self) -> Result<Holdings, Error> {
        Holdings::of(self.id())
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn stop(mut self) -> Ending {
        if let Some(id) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself; the status will tell.
            let _ = kill_process(id, Signal::TERM);
        }
        let begin = Instant::now();
        while !self.collect(GLANCE) && begin.elapsed() < PATIENCE {}
        let status = self.process.exit_status();
        Ending { status, lines: std::mem::take(&mut self.lines) }
    }
}

/// What a process holds of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Mappings.
    pub maps: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
}

impl Holdings {
    fn of(id: u32) -> Result<Self, Error> {
        let proc = PathBuf::from(format!("/proc/{id}"));
        let count = |name: &str| {
            let path = proc.join(name);
            fs::read_dir(&path).map(Iterator::count).map_err(Error::file(path))
        };
        let read = |name: &str| fs::read_to_string(proc.join(name)).map_err(Error::file(proc.join(name)));
        let status = read("status")?;
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|l| l.trim().split(' ').next()).and_then(|n| n.parse().ok());
        Ok(Self {
            descriptors: count("fd")?,
            maps: read("maps")?.lines().count(),
            threads: count("task")?,
            resident_kib: resident.unwrap_or(0),
        })
    }
}
