//! One load on one guest, and what the device had of the processors meanwhile.

use super::arm::{Arm, Bed, Running};
use crate::{Failure, interrupt};
use e2e::load::{CpuTime, Pace, Wire, WireCount};
use e2e::{Check, Daemon, Event, Line, Verdict};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From the first frames of a load to its measurement.
const WARM_UP: Duration = Duration::from_millis(300);
/// Frames that say that a load has begun.
const BEGUN: u64 = 30;
const GLANCE: Duration = Duration::from_millis(10);
/// A load begins, and ends, within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A guest whose result comes sooner than this after the measurement had ended its load before.
const MARGIN: Duration = Duration::from_millis(20);
/// Datagrams a second of the load that leaves the device idle between them.
const TRICKLE: u32 = 2000;

/// What goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    UdpUp,
    UdpDown,
    UdpTrickle,
    TcpUp,
    TcpDown,
}

impl Load {
    pub(super) const ALL: [Self; 5] = [Self::UdpUp, Self::UdpDown, Self::UdpTrickle, Self::TcpUp, Self::TcpDown];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UdpUp | Self::UdpDown => "UDP 1500 B",
            Self::UdpTrickle => "UDP 1500 B, 2000/s",
            Self::TcpUp | Self::TcpDown => "TCP",
        }
    }

    pub(super) fn direction(self) -> &'static str {
        if self.is_up() { "guest to host" } else { "host to guest" }
    }

    /// What the guest does.
    pub(super) fn check(self) -> Check {
        match self {
            Self::UdpUp => Check::UdpFlood,
            Self::UdpDown | Self::UdpTrickle => Check::UdpSink,
            Self::TcpUp => Check::TcpUp,
            Self::TcpDown => Check::TcpDown,
        }
    }

    fn is_up(self) -> bool {
        matches!(self, Self::UdpUp | Self::TcpUp)
    }

    /// What is sent to the guest, if it does not ask for it itself.
    fn pace(self) -> Option<Pace> {
        match self {
            Self::UdpDown => Some(Pace::Full),
            Self::UdpTrickle => Some(Pace::PerSecond(TRICKLE)),
            Self::UdpUp | Self::TcpUp | Self::TcpDown => None,
        }
    }

    /// Frames and bytes in the load's direction.
    fn of(self, count: &WireCount) -> (u64, u64) {
        if self.is_up() { (count.up_frames, count.up_bytes) } else { (count.down_frames, count.down_bytes) }
    }
}

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    /// Frames and bytes in the load's direction.
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Frames both ways: a stream has acknowledgements.
    pub(super) all_frames: u64,
    /// Frames that found the tap's queue full.
    pub(super) dropped: u64,
    /// The device: QEMU's main loop, or our daemon.
    pub(super) device: CpuTime,
    /// QEMU's main loop beside our daemon.
    pub(super) rest: CpuTime,
}

/// Boots a guest and takes a sample of each of the arm's loads.
pub(super) fn all(bed: &Bed, arm: &Arm, window: Duration) -> Result<Vec<(Load, Sample)>, Failure> {
    let seconds = window.saturating_add(WARM_UP).as_secs().saturating_add(1);
    let mut running = bed.boot(arm, seconds)?;
    let mut samples = Vec::new();
    for name in ["boot", "dhcp"] {
        expect(&next_line(&mut running)?, name)?;
    }
    running.place()?;
    for load in arm.loads() {
        let sample = take(running.processes(), &bed.wire, *load, window)?;
        let ended = Instant::now();
        expect(&next_line(&mut running)?, load.check().name())?;
        if ended.elapsed() < MARGIN {
            println!("  {}: left out, the load ended before its measurement", label(arm, *load));
            continue;
        }
        sample.show(&label(arm, *load));
        samples.push((*load, sample));
    }
    while running.guest.wait(PATIENCE)? != Event::End {}
    running.daemon.take().map_or(Ok(()), end_well)?;
    Ok(samples)
}

/// Ends a daemon in good order.
pub(super) fn end_well(daemon: Daemon) -> Result<(), Failure> {
    let ending = daemon.stop();
    if ending.status.is_some_and(|s| s.success()) {
        return Ok(());
    }
    let last = ending.lines.last().map_or("it said nothing", String::as_str);
    Err(Failure::Broken(format!("the daemon did not end well: {last}")))
}

fn label(arm: &Arm, load: Load) -> String {
    let offloads = if arm.offloads { "" } else { ", no offloads" };
    format!("{}, {}, {}{offloads}", arm.device.name(), load.name(), load.direction())
}

impl Sample {
    /// A word on the screen, so that something moves there.
    pub(super) fn show(&self, label: &str) {
        println!("  {label}: {:.0} frames/s", self.frames as f64 / self.seconds);
    }
}

/// Whose time is taken.
#[derive(Clone, Copy)]
pub(super) struct Processes {
    pub(super) qemu: Option<u32>,
    pub(super) daemon: Option<u32>,
}

/// Makes the host's part of a load, and measures.
pub(super) fn take(whose: Processes, wire: &Wire, load: Load, window: Duration) -> Result<Sample, Failure> {
    let stop = AtomicBool::new(false);
    let end = &stop;
    std::thread::scope(|scope| {
        let sender = load.pace().map(|pace| scope.spawn(move || wire.send(pace, end)));
        let measured = measure(whose, wire, load, window);
        stop.store(true, Ordering::Relaxed);
        match sender.map(std::thread::ScopedJoinHandle::join) {
            Some(Ok(sent)) => _ = sent?,
            Some(Err(_)) => return Err(Failure::Broken("the sender ended early".to_owned())),
            None => {}
        }
        measured
    })
}

fn measure(whose: Processes, wire: &Wire, load: Load, window: Duration) -> Result<Sample, Failure> {
    let (idle, waiting) = (load.of(&wire.count()?).0, Instant::now());
    while load.of(&wire.count()?).0.saturating_sub(idle) < BEGUN {
        if waiting.elapsed() > PATIENCE {
            return Err(Failure::Broken(format!("{}: no frames", load.name())));
        }
        stop_if_interrupted()?;
        std::thread::sleep(GLANCE);
    }
    std::thread::sleep(WARM_UP);
    let stamp = || -> Result<_, Failure> {
        let qemu = whose.qemu.map_or(Ok(CpuTime::default()), CpuTime::of_main_thread)?;
        let daemon = whose.daemon.map(CpuTime::of_process).transpose()?;
        Ok((Instant::now(), wire.count()?, qemu, daemon))
    };
    let before = stamp()?;
    std::thread::sleep(window);
    let after = stamp()?;
    let count = after.1.since(&before.1);
    let qemu = after.2.since(&before.2);
    let daemon = after.3.zip(before.3).map(|(after, before)| after.since(&before));
    let (frames, bytes) = load.of(&count);
    Ok(Sample {
        seconds: after.0.duration_since(before.0).as_secs_f64(),
        frames,
        bytes,
        all_frames: count.up_frames.saturating_add(count.down_frames),
        dropped: count.dropped,
        device: daemon.unwrap_or(qemu),
        rest: if daemon.is_some() { qemu } else { CpuTime::default() },
    })
}

fn next_line(running: &mut Running) -> Result<Line, Failure> {
    let begin = Instant::now();
    loop {
        stop_if_interrupted()?;
        match running.guest.wait(GLANCE)? {
            Event::Line(line) => return Ok(line),
            Event::Nothing if begin.elapsed() < PATIENCE => {}
            Event::Nothing => return Err(Failure::Broken(format!("no result from the guest within {PATIENCE:?}"))),
            Event::End => return Err(Failure::Broken("the guest ended early".to_owned())),
        }
    }
}

fn expect(line: &Line, check: &str) -> Result<(), Failure> {
    if line.check == check && line.result != Verdict::Fail {
        return Ok(());
    }
    let reason = line.reason.as_deref().unwrap_or("no reason given");
    Err(Failure::Broken(format!("{} in the guest, expected {check}: {reason}", line.check)))
}

fn stop_if_interrupted() -> Result<(), Failure> {
    if interrupt::requested() { Err(Failure::Interrupted) } else { Ok(()) }
}
