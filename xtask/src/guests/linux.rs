//! Guests with a kernel, all on one daemon with the embedded network.

use super::measure::millis;
use super::{GLANCE, Run, load, pause};
use crate::{Failure, interrupt};
use e2e::cost::Memory;
use e2e::{Check, Daemon, Error, Event, Guest, GuestSpec, HostEnd, Kind, Nic, Plan, Step, Verdict, Workshop};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// MiB of memory of each.
const MEMORY: u32 = 64;
/// Seconds that each idles, unless it is killed before: longer than anything here takes.
const IDLE: u64 = 3600;
/// After the last check: neighbour discovery and the like come to an end.
const SETTLING: Duration = Duration::from_secs(3);
/// For all of them to boot and to be done with their checks.
const DEADLINE: Duration = Duration::from_secs(180);

/// What came of them.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Linux {
    guests: usize,
    /// Why nothing was measured.
    skipped: Option<String>,
    /// Guests whose checks all passed, and what went wrong with others.
    passed: usize,
    failures: Vec<String>,
    /// From the first one's start until the last one was done with its checks.
    ready_ms: f64,
    /// The daemon's memory in KiB, without guests and with them.
    alone: Memory,
    connected: Memory,
    /// The daemon's processor time while all of them idle, in percent of one processor.
    idle_percent: f64,
}

impl Linux {
    pub(super) fn passed(&self) -> bool {
        self.skipped.is_some() || self.passed == self.guests
    }

    /// In one sentence.
    pub(super) fn describe(&self) -> String {
        if let Some(why) = &self.skipped {
            return format!("skipped: no Linux guests: {why}");
        }
        let grown = self.connected.anonymous.saturating_sub(self.alone.anonymous);
        let mut text = format!(
            "{} of {} Linux guests (User Mode Linux) on one daemon got their address and their echoes, {:.1} s after the \
             first was started; the daemon has {grown} KiB more than before, and while all idle it takes {:.3} % of a \
             processor.",
            self.passed,
            self.guests,
            self.ready_ms / 1e3,
            self.idle_percent
        );
        for failure in &self.failures {
            text += "\nFAILED: ";
            text += failure;
        }
        text
    }
}

/// The checks, and then nothing.
fn plan() -> Plan {
    Plan::new(vec![
        Step::new(Check::Link),
        Step::new(Check::Dhcp),
        Step::new(Check::Ping4).with("count", 5),
        Step::new(Check::TcpEcho),
        Step::new(Check::Idle).with("secs", IDLE),
    ])
}

/// Boots them, waits until all are done with their checks, and looks at the daemon.
pub(super) fn measure(run: &Run, guests: usize) -> Result<Linux, Failure> {
    let shop = Workshop::of_repository()?;
    let assets = match shop.prepare(&[Kind::Uml], &mut |line| println!("{line}")) {
        Ok(assets) => assets,
        Err(e @ (Error::NeedsRoot { .. } | Error::NoPackage { .. })) => {
            return Ok(Linux { guests, skipped: Some(e.to_string()), ..Linux::default() });
        }
        Err(e) => return Err(e.into()),
    };
    println!("booting {guests} Linux guests");
    let folder = tempfile::tempdir()?;
    let sockets: Vec<PathBuf> = (0..guests).map(|n| folder.path().join(format!("{n}.sock"))).collect();
    let log = run.folder.join("daemon-linux.log");
    let daemon = Daemon::start_many(&run.program, &sockets, &HostEnd::User, &run.arguments(), &log)?;
    let alone = Memory::of(daemon.id())?;
    let begin = Instant::now();
    let mut running = Vec::new();
    for (n, socket) in sockets.iter().enumerate() {
        let mut spec = GuestSpec::new(Kind::Uml, Nic::vhost_user(socket), plan());
        spec.memory_mib = MEMORY;
        spec.console = run.folder.join(format!("linux-{n}.console"));
        spec.deadline = Duration::from_secs(IDLE);
        running.push(Guest::boot(&spec, &assets)?);
    }
    let mut result = Linux { guests, alone, ..Linux::default() };
    for (n, guest) in running.iter_mut().enumerate() {
        match checks(guest, begin)? {
            Ok(()) => result.passed = result.passed.saturating_add(1),
            Err(why) => {
                result.failures.push(format!("guest {n}: {why}; its console is in {}", guest.console().display()))
            }
        }
    }
    result.ready_ms = millis(begin.elapsed());
    pause(SETTLING)?;
    result.connected = Memory::of(daemon.id())?;
    result.idle_percent = load(daemon.id(), run.idle)?;
    drop(running);
    if !daemon.stop().status.is_some_and(|status| status.success()) {
        result.failures.push("the daemon did not end well".to_owned());
    }
    Ok(result)
}

/// Reads until all checks but the last have passed, or one has not.
fn checks(guest: &mut Guest, begin: Instant) -> Result<Result<(), String>, Failure> {
    // The kernel's own line first, and the last step never ends.
    let mut missing = plan().steps.len();
    while missing > 0 {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        match guest.wait(GLANCE) {
            Ok(Event::Line(line)) if line.result == Verdict::Fail => return Ok(Err(line.to_console())),
            Ok(Event::Line(_)) => missing = missing.saturating_sub(1),
            Ok(Event::Nothing) if begin.elapsed() < DEADLINE => {}
            Ok(Event::Nothing) => return Ok(Err(format!("not done after {DEADLINE:?}"))),
            Ok(Event::End) => return Ok(Err("it ended".to_owned())),
            Err(e) => return Ok(Err(e.to_string())),
        }
    }
    Ok(Ok(()))
}
