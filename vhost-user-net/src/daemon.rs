//! Sets everything up, serves guests, and takes everything down.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vhost_glue::{Device, DeviceConfig, SpoofPolicy, Stop, Workers, WorkersConfig};

use crate::capture::{self, Capture, CaptureWriter};
use crate::cli::{Check, Cli, CpuList, GuestPlan, NetKind, Switch};
use crate::error::DaemonError;
use crate::guests::{Guest, Way, serve_all};
use crate::ledger::{Book, Ledger};
use crate::port::HostEnd;
use crate::report::{self, Plan, Reporter, StatsFile};
use crate::state;

/// Serves until it is told to stop.
///
/// # Errors
/// [`DaemonError`], before the first guest is served; nothing is left behind then.
pub(crate) fn run(cli: &Cli, plans: &[GuestPlan]) -> Result<(), DaemonError> {
    // First of all: inherited descriptors are taken over by number, and nothing may have got that number.
    let mut hosts = open_hosts(cli, plans)?;
    check_cpus(cli.pin.as_ref())?;
    raise_descriptor_limit();
    let stop = stop_on_signals()?;
    // A front end that cuts its memory file short must not take the guests after it along.
    vhost_glue::guard_against_truncation().map_err(DaemonError::system("handler for SIGBUS"))?;
    let ways = plans.iter().map(|plan| Way::open(&plan.socket, cli.client)).collect::<Result<Vec<_>, _>>()?;
    let json = cli.stats_json.as_deref().map(stats_file).transpose()?;
    let (capture, writer) = start_capture(cli, plans, &mut hosts)?.unzip();
    let workers = start_workers(cli, plans.len())?;
    let mut guests = Vec::with_capacity(plans.len());
    for ((plan, host), way) in plans.iter().zip(hosts).zip(ways) {
        let config = device_config(cli, plan, &host);
        let mut device = Device::new(config, host, &workers).map_err(|e| DaemonError::Device(e.to_string()))?;
        if let Some(path) = plan.state.as_ref().filter(|path| path.exists()) {
            match state::load(path) {
                Ok(kept) => device.go_on_from(kept),
                Err(error) => tracing::error!("{error}: guests begin anew"),
            }
        }
        let ledger = Arc::new(Ledger::new(&plan.socket, device.stats()));
        guests.push(Guest { way, device, ledger, state: plan.state.clone() });
    }
    let ledgers = guests.iter().map(|guest| Arc::clone(&guest.ledger)).collect();
    let book = Arc::new(Book::new(ledgers, workers));
    let reporter = start_reporter(cli, json, capture, &book)?;
    if let Some(guest) = guests.first() {
        tracing::info!("features offered: {:?}", guest.device.offered());
    }
    let served = serve_all(&mut guests, &stop).map_err(DaemonError::system("thread"));

    // In this order: no ring, no socket, no reports, no frame for the capture any more.
    let devices: Vec<Device<HostEnd>> = guests.into_iter().map(|guest| guest.device).collect();
    if let Some(reporter) = reporter {
        reporter.finish();
    }
    drop(devices);
    let captured = writer.map(|writer| {
        let (stats, result) = writer.finish();
        if let Err(error) = result {
            tracing::error!("capture is incomplete: {error}");
        }
        stats
    });
    print(&report::summary(&book.totals(), captured));
    served
}

/// Standard output may be gone; that is no reason to fail.
pub(crate) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// The host ends, in the order of the sockets; those that are inherited are opened first.
fn open_hosts(cli: &Cli, plans: &[GuestPlan]) -> Result<Vec<HostEnd>, DaemonError> {
    let inherits = |plan: &&GuestPlan| matches!(plan.net, NetKind::TapFds { .. });
    let open = |plan: &GuestPlan| HostEnd::open(&plan.net, cli.queues, plan.mac, cli.mtu);
    let mut inherited = plans.iter().filter(inherits).map(open).collect::<Result<Vec<_>, _>>()?.into_iter();
    let host = |plan| match Some(plan).filter(inherits).and_then(|_| inherited.next()) {
        Some(host) => Ok(host),
        None => open(plan),
    };
    plans.iter().map(host).collect()
}

fn stats_file(path: &Path) -> Result<StatsFile, DaemonError> {
    StatsFile::new(path).map_err(|source| DaemonError::StatsJson { path: path.to_owned(), source })
}

/// Starts the capture, if there is to be one, and lets it see every host end's frames.
fn start_capture(
    cli: &Cli,
    plans: &[GuestPlan],
    hosts: &mut [HostEnd],
) -> Result<Option<(Capture, CaptureWriter)>, DaemonError> {
    let Some(path) = &cli.capture else { return Ok(None) };
    let names = match plans {
        [_] => vec!["guest".to_owned()],
        several => several.iter().map(|plan| plan.socket.display().to_string()).collect(),
    };
    let started = capture::start(path, &names).map_err(|source| DaemonError::Capture { path: path.clone(), source })?;
    for (guest, host) in (0_u32..).zip(hosts) {
        host.capture_to(started.0.of_guest(guest));
    }
    Ok(Some(started))
}

fn start_workers(cli: &Cli, sockets: usize) -> Result<Workers, DaemonError> {
    let pairs = sockets.saturating_mul(cli.queues.into());
    let default = WorkersConfig::default();
    let config = WorkersConfig {
        count: cli.workers.map_or(default.count.min(pairs), Into::into),
        pin: cli.pin.clone().map_or_else(Vec::new, |list| list.0),
        poll: Duration::from_micros(cli.poll_us),
    };
    Workers::start(&config).map_err(DaemonError::system("worker"))
}

fn start_reporter(
    cli: &Cli,
    json: Option<StatsFile>,
    capture: Option<Capture>,
    book: &Arc<Book>,
) -> Result<Option<Reporter>, DaemonError> {
    let period = Duration::from_secs(cli.stats.unwrap_or(1));
    let plan = Plan { lines: cli.stats.is_some(), json, period, capture };
    Reporter::start(plan, Arc::clone(book)).map_err(DaemonError::system("thread"))
}

fn check_cpus(pin: Option<&CpuList>) -> Result<(), DaemonError> {
    let Some(CpuList(cpus)) = pin else { return Ok(()) };
    let ours = rustix::thread::sched_getaffinity(None).map_err(|e| DaemonError::system("affinity")(e.into()))?;
    match cpus.iter().find(|cpu| !ours.is_set(**cpu)) {
        Some(cpu) => Err(DaemonError::Cpu { cpu: *cpu }),
        None => Ok(()),
    }
}

/// A guest is about ten descriptors, and the usual limit is 1024. Nothing here uses `select`, for which that limit is low.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files is not raised: {error}");
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

fn device_config(cli: &Cli, plan: &GuestPlan, host: &HostEnd) -> DeviceConfig {
    DeviceConfig {
        mac: plan.mac.0,
        // An MTU below what IPv6 asks for cannot be told; the tap cuts or drops what is longer.
        mtu: cli.mtu.or_else(|| host.mtu().filter(|mtu| *mtu >= 1280)),
        queues: cli.queues,
        packed: cli.packed == Switch::On,
        suspend: cli.suspend == Switch::On,
        spoof_check: match cli.spoof_check {
            Check::Off => SpoofPolicy::Off,
            Check::Mac => SpoofPolicy::Mac,
            Check::Ip => SpoofPolicy::Ip { addresses: plan.ip.clone() },
        },
        ..DeviceConfig::default()
    }
}
