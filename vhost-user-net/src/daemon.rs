//! Sets everything up, serves one guest after the other, and takes everything down.

use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vhost_glue::{Device, DeviceConfig, Listener, SessionEnd, Stop, listen};

use crate::capture::{self, Capture};
use crate::cli::{Cli, CpuList, Switch};
use crate::error::DaemonError;
use crate::ledger::Ledger;
use crate::port::HostEnd;
use crate::report::{self, Plan, Reporter, StatsFile};

/// The first and the longest pause between attempts to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// A session at least this long was a real one: the next attempt comes at once.
const REAL_SESSION: Duration = Duration::from_secs(1);

/// Serves until it is told to stop.
///
/// # Errors
/// [`DaemonError`], before the first guest is served; nothing is left behind then.
pub(crate) fn run(cli: &Cli) -> Result<(), DaemonError> {
    // First of all: inherited descriptors are taken over by number, and nothing may have got that number.
    let mut host = HostEnd::open(&cli.net, cli.queues, cli.mac, cli.mtu)?;
    check_cpus(cli.pin.as_ref())?;
    let stop = stop_on_signals()?;
    // A front end that cuts its memory file short must not take the guests after it along.
    vhost_glue::guard_against_truncation().map_err(DaemonError::system("handler for SIGBUS"))?;
    let way = Way::open(cli)?;
    let json = match &cli.stats_json {
        Some(path) => {
            Some(StatsFile::new(path).map_err(|source| DaemonError::StatsJson { path: path.clone(), source })?)
        }
        None => None,
    };
    let config = device_config(cli, &host);
    let (capture, writer) = match &cli.capture {
        Some(path) => {
            let started = capture::start(path).map_err(|source| DaemonError::Capture { path: path.clone(), source })?;
            host.capture_to(started.0.clone());
            (Some(started.0), Some(started.1))
        }
        None => (None, None),
    };
    let mut device = Device::new(config, host).map_err(|e| DaemonError::Device(e.to_string()))?;
    let ledger = Arc::new(Ledger::new(device.stats()));
    let reporter = start_reporter(cli, json, capture, &ledger)?;
    tracing::info!("features offered: {:?}", device.offered());
    serve(&mut device, &way, &ledger, &stop);

    // In this order: no ring, no socket, no reports, no frame for the capture any more.
    drop(way);
    if let Some(reporter) = reporter {
        reporter.finish();
    }
    drop(device);
    let captured = writer.map(|writer| {
        let (stats, result) = writer.finish();
        if let Err(error) = result {
            tracing::error!("capture is incomplete: {error}");
        }
        stats
    });
    print(&report::summary(&ledger.totals(), captured));
    Ok(())
}

/// Standard output may be gone; that is no reason to fail.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn start_reporter(
    cli: &Cli,
    json: Option<StatsFile>,
    capture: Option<Capture>,
    ledger: &Arc<Ledger>,
) -> Result<Option<Reporter>, DaemonError> {
    let period = Duration::from_secs(cli.stats.unwrap_or(1));
    let plan = Plan { lines: cli.stats.is_some(), json, period, capture };
    Reporter::start(plan, Arc::clone(ledger)).map_err(DaemonError::system("thread"))
}

fn check_cpus(pin: Option<&CpuList>) -> Result<(), DaemonError> {
    let Some(CpuList(cpus)) = pin else { return Ok(()) };
    let ours = rustix::thread::sched_getaffinity(None).map_err(|e| DaemonError::system("affinity")(e.into()))?;
    match cpus.iter().find(|cpu| !ours.is_set(**cpu)) {
        Some(cpu) => Err(DaemonError::Cpu { cpu: *cpu }),
        None => Ok(()),
    }
}

fn stop_on_signals() -> Result<Stop, DaemonError> {
    let stop = Stop::new().map_err(DaemonError::system("eventfd"))?;
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(DaemonError::system("signals"))?;
    let requested = stop.clone();
    let wait = move || {
        for signal in &mut signals {
            tracing::info!("signal {signal}: stopping");
            requested.request();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(DaemonError::system("thread"))?;
    Ok(stop)
}

fn device_config(cli: &Cli, host: &HostEnd) -> DeviceConfig {
    DeviceConfig {
        mac: cli.mac.0,
        // An MTU below what IPv6 asks for cannot be told; the tap cuts or drops what is longer.
        mtu: cli.mtu.or_else(|| host.mtu().filter(|mtu| *mtu >= 1280)),
        queues: cli.queues,
        poll: Duration::from_micros(cli.poll_us),
        pin: cli.pin.clone().map_or_else(Vec::new, |list| list.0),
        packed: cli.packed == Switch::On,
        spoof_check: cli.spoof_check == Switch::On,
        ..DeviceConfig::default()
    }
}

/// How guests are met.
enum Way<'a> {
    Listening(Listener),
    Connecting(&'a Path),
}

impl<'a> Way<'a> {
    fn open(cli: &'a Cli) -> Result<Self, DaemonError> {
        let path = &cli.socket;
        if !cli.client {
            return Ok(Self::Listening(listen(path)?));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() && !found.file_type().is_symlink() => {
                Err(DaemonError::NotASocket { path: path.clone() })
            }
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DaemonError::Socket { path: path.clone(), source })
            }
            _ => Ok(Self::Connecting(path)),
        }
    }
}

fn serve(device: &mut Device<HostEnd>, way: &Way<'_>, ledger: &Ledger, stop: &Stop) {
    match way {
        Way::Listening(listener) => {
            tracing::info!("listening at {}", listener.path().display());
            loop {
                match listener.accept(stop) {
                    Ok(Some(stream)) => session(device, stream, ledger, stop),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!("no connection: {error}");
                        pause(BACK_OFF.1, stop);
                    }
                }
                if stop.is_requested() {
                    return;
                }
            }
        }
        Way::Connecting(path) => serve_connecting(device, path, ledger, stop),
    }
}

fn serve_connecting(device: &mut Device<HostEnd>, path: &Path, ledger: &Ledger, stop: &Stop) {
    tracing::info!("connecting to {}", path.display());
    let mut wait = BACK_OFF.0;
    let mut said = None;
    while !stop.is_requested() {
        match UnixStream::connect(path) {
            Ok(stream) => {
                said = None;
                let begun = Instant::now();
                session(device, stream, ledger, stop);
                if begun.elapsed() >= REAL_SESSION {
                    wait = BACK_OFF.0;
                }
            }
            Err(error) if said == Some(error.kind()) => {}
            Err(error) => {
                said = Some(error.kind());
                tracing::info!("{}: {error}; trying again", path.display());
            }
        }
        pause(wait, stop);
        wait = wait.saturating_mul(2).min(BACK_OFF.1);
    }
}

/// Waits, or returns at once when a stop is requested.
fn pause(time: Duration, stop: &Stop) {
    let Ok(time) = Timespec::try_from(time) else { return };
    // Interrupted, it is a shorter pause.
    let _ = rustix::event::poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&time));
}

fn session(device: &mut Device<HostEnd>, stream: UnixStream, ledger: &Ledger, stop: &Stop) {
    tracing::info!("guest connected");
    match device.serve(stream, stop) {
        Ok(SessionEnd::Disconnected) => tracing::info!("guest disconnected"),
        Ok(SessionEnd::Stopped) => tracing::info!("rings stopped"),
        Err(error) => tracing::warn!("guest's session ended: {error}"),
    }
    let before = ledger.totals();
    ledger.close_session();
    let spoofed = before.now.pairs.iter().fold(0_u64, |sum, pair| sum.saturating_add(pair.tx.filtered));
    if spoofed > 0 {
        tracing::warn!("{spoofed} frames of this guest had another source address than --mac says: dropped");
    }
}
