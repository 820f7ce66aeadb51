//! Loads on a tap, and what they cost: datagrams for the guest, the tap's own counters, processor time by thread.

use crate::services::in_namespace;
use crate::setup::packages::run;
use crate::{Error, TapNet, netns::TAP};
use guest_agent::{GUEST4, port};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sockopt};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Payload of a datagram that fills an IP packet of 1500 bytes.
pub const PAYLOAD: usize = 1472;
/// Datagrams for one system call.
const BATCH: usize = 32;
/// Frames in the tap's queue at most: it is never empty so, and never full (`txqueuelen` is 1000).
const AHEAD: u64 = 400;
/// Rest of a sender that is ahead.
const NAP: Duration = Duration::from_micros(500);
/// The kernel makes the least of it that it can.
const NO_BUFFER: usize = 1;

/// What the tap has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCount {
    /// Frames from the guest, as they came: one of 64 KiB is one.
    pub up_frames: u64,
    /// Their bytes.
    pub up_bytes: u64,
    /// Frames that the device took for the guest.
    pub down_frames: u64,
    /// Their bytes.
    pub down_bytes: u64,
    /// Frames for the guest that found the tap's queue full.
    pub dropped: u64,
}

/// How fast datagrams are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the device takes them, none lost.
    Full,
    /// So many a second, one by one.
    PerSecond(u32),
}

/// The host's end of the load, in the namespace of a tap.
#[derive(Debug)]
pub struct Wire {
    sender: UdpSocket,
    counters: File,
    /// What the guest sends to [`port::SINK`] ends here: in the kernel, at a socket that nobody reads.
    _sink: UdpSocket,
}

impl Wire {
    /// Opens what is needed.
    ///
    /// # Errors
    /// The namespace cannot be entered, or its port or its counters cannot be had.
    pub fn open(net: &TapNet) -> Result<Self, Error> {
        in_namespace(Some(net.namespace()), || {
            let failed = |source| Error::Service { name: "load".to_owned(), source };
            let sink = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port::SINK)).map_err(failed)?;
            sockopt::set_socket_recv_buffer_size(&sink, NO_BUFFER).map_err(|e| failed(e.into()))?;
            let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
            let path = "/proc/thread-self/net/dev";
            let counters = File::open(path).map_err(Error::file(path))?;
            Ok(Self { sender, counters, _sink: sink })
        })
    }

    /// The tap's counters.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn count(&self) -> Result<WireCount, Error> {
        let failed = |source| Error::Service { name: "tap counters".to_owned(), source };
        let mut text = [0; 4096];
        let n = self.counters.read_at(&mut text, 0).map_err(failed)?;
        let text = String::from_utf8_lossy(text.get(..n).unwrap_or_default());
        WireCount::parse(&text).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
    }

    /// Sends datagrams of [`PAYLOAD`] bytes to the guest until `stop` is set; gives how many.
    ///
    /// # Errors
    /// A datagram cannot be sent, or the counters cannot be read.
    pub fn send(&self, pace: Pace, stop: &AtomicBool) -> Result<u64, Error> {
        match pace {
            Pace::Full => self.flood(stop),
            Pace::PerSecond(rate) => self.trickle(rate.max(1), stop),
        }
    }

    fn flood(&self, stop: &AtomicBool) -> Result<u64, Error> {
        let (payload, to) = ([0x5a; PAYLOAD], SocketAddrAny::from(SocketAddrV4::new(GUEST4, port::SINK)));
        let pieces = [IoSlice::new(&payload)];
        let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            std::iter::repeat_with(SendAncillaryBuffer::default).take(BATCH).collect();
        let mut batch: Vec<MMsgHdr<'_>> =
            nothing.iter_mut().map(|none| MMsgHdr::new_with_addr(&to, &pieces, none)).collect();
        let failed = |e: Errno| Error::Service { name: "load".to_owned(), source: e.into() };
        let begin = self.count()?;
        let mut sent = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let now = self.count()?;
            let gone = now.down_frames.saturating_sub(begin.down_frames);
            let gone = gone.saturating_add(now.dropped.saturating_sub(begin.dropped));
            if sent.saturating_sub(gone) > AHEAD {
                std::thread::sleep(NAP);
                continue;
            }
            let n = sendmmsg(&self.sender, &mut batch, SendFlags::empty()).map_err(failed)?;
            sent = sent.saturating_add(n as u64);
        }
        Ok(sent)
    }

    fn trickle(&self, rate: u32, stop: &AtomicBool) -> Result<u64, Error> {
        let payload = [0x5a; PAYLOAD];
        let failed = |source| Error::Service { name: "load".to_owned(), source };
        let gap = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
        let (begin, mut sent) = (Instant::now(), 0_u64);
        while !stop.load(Ordering::Relaxed) {
            self.sender.send_to(&payload, (GUEST4, port::SINK)).map_err(failed)?;
            sent = sent.saturating_add(1);
            let due = gap.saturating_mul(u32::try_from(sent).unwrap_or(u32::MAX));
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        Ok(sent)
    }
}

impl WireCount {
    /// From `/proc/net/dev`: a line for each interface; received bytes, packets and six more, then sent bytes, packets,
    /// errors, dropped. What the interface receives is what the guest sent.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|l| l.trim_start().strip_prefix(TAP)?.strip_prefix(':'))?;
        let numbers: Vec<u64> = line.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let at = |n: usize| numbers.get(n).copied();
        Some(Self { up_bytes: at(0)?, up_frames: at(1)?, down_bytes: at(8)?, down_frames: at(9)?, dropped: at(11)? })
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: u64, then: u64| now.saturating_sub(then);
        Self {
            up_frames: less(self.up_frames, before.up_frames),
            up_bytes: less(self.up_bytes, before.up_bytes),
            down_frames: less(self.down_frames, before.down_frames),
            down_bytes: less(self.down_bytes, before.down_bytes),
            dropped: less(self.dropped, before.dropped),
        }
    }
}

/// The only guest there is, by its address: nobody need ask for it, and the one that is meant cannot answer.
///
/// # Errors
/// `ip` fails.
pub fn know_guest(net: &TapNet, mac: &str) -> Result<(), Error> {
    let mut ip = net.command("ip");
    ip.args(["neigh", "replace", &GUEST4.to_string(), "lladdr", mac, "nud", "permanent", "dev", TAP]);
    run(&mut ip).map(drop)
}

/// What a thread, or several, had of the processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Time on a processor, in user space and in the kernel.
    pub time: Duration,
    /// How often it was given a processor.
    pub turns: u64,
}

impl CpuTime {
    /// A process's first thread: QEMU's main loop, which serves its devices.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_main_thread(process: u32) -> Result<Self, Error> {
        let path = format!("/proc/{process}/task/{process}/schedstat");
        let text = std::fs::read_to_string(&path).map_err(Error::file(&path))?;
        Self::parse(&text).ok_or_else(|| Error::file(&path)(io::ErrorKind::InvalidData.into()))
    }

    /// All threads of a process that are there now.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(process: u32) -> Result<Self, Error> {
        let path = format!("/proc/{process}/task");
        let mut sum = Self::default();
        for entry in std::fs::read_dir(&path).map_err(Error::file(&path))?.flatten() {
            // A thread may end between the two calls.
            let one = std::fs::read_to_string(entry.path().join("schedstat")).ok().and_then(|t| Self::parse(&t));
            let one = one.unwrap_or_default();
            sum = Self { time: sum.time.saturating_add(one.time), turns: sum.turns.saturating_add(one.turns) };
        }
        Ok(sum)
    }

    /// Nanoseconds on a processor, nanoseconds waiting for one, turns.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(|n| n.parse::<u64>().ok());
        let (time, _, turns) = (numbers.next()??, numbers.next()?, numbers.next()??);
        Some(Self { time: Duration::from_nanos(time), turns })
    }

    /// What came on top of `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self { time: self.time.saturating_sub(before.time), turns: self.turns.saturating_sub(before.turns) }
    }
}

/// Keeps those threads of a process whose names `which` answers true for to one processor.
///
/// # Errors
/// There is no such process or processor.
pub fn pin_threads(process: u32, cpu: usize, which: impl Fn(&str) -> bool) -> Result<(), Error> {
    let path = format!("/proc/{process}/task");
    let mut only = CpuSet::new();
    only.set(cpu);
    for entry in std::fs::read_dir(&path).map_err(Error::file(&path))?.flatten() {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let thread = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let Some(thread) = thread.filter(|_| which(name.trim_end())) {
            // A thread may have ended.
            sched_setaffinity(Some(thread), &only)
                .or_else(|e| if e == Errno::SRCH { Ok(()) } else { Err(e) })
                .map_err(|e| Error::File { path: entry.path(), source: e.into() })?;
        }
    }
    Ok(())
}

/// The processors that this process may use.
pub fn cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_tap_are_read() {
        let text = "Inter-|   Receive         |  Transmit\n face |bytes    packets errs\n    \
            lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  tap0: 1500 2 0 0 0 0 0 0 3000 4 0 5 0 0 0 0\n";
        let want = WireCount { up_frames: 2, up_bytes: 1500, down_frames: 4, down_bytes: 3000, dropped: 5 };
        assert_eq!(WireCount::parse(text), Some(want));
        assert_eq!(want.since(&want), WireCount::default());
        assert_eq!(WireCount::parse("  tap0: 1500 2\n"), None);
        assert_eq!(WireCount::parse(""), None);
    }

    #[test]
    fn processor_time_is_read() {
        let want = CpuTime { time: Duration::from_nanos(1_500), turns: 7 };
        assert_eq!(CpuTime::parse("1500 22 7\n"), Some(want));
        assert_eq!(CpuTime::parse("1500 22"), None);
        assert_eq!(CpuTime::parse("x 22 7"), None);
        let whole = CpuTime::of_process(std::process::id()).unwrap();
        assert!(whole.turns > 0, "this thread had one");
    }
}
