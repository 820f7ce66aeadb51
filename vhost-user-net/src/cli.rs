//! The command line.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use net_filter::MacAddr;

/// A network card for virtual machines, served over vhost-user.
///
/// Listens at a socket, and serves the guests whose virtual machine monitor connects there, one after the other. The
/// guest sees a virtio network card; what it sends goes to the host end that --net names.
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Path of the vhost-user socket.
    ///
    /// A socket that a dead process left there is replaced; one that a process listens at is not, nor is any
    /// other file.
    #[arg(long, value_name = "PATH", help_heading = "Connection")]
    pub(crate) socket: PathBuf,

    /// Connect to the socket instead of listening at it.
    ///
    /// Tries again, ever more slowly up to every 5 seconds, until somebody listens there; and again when the guest has
    /// gone.
    #[arg(long, help_heading = "Connection")]
    pub(crate) client: bool,

    /// Where the guest's frames go to and come from.
    ///
    /// user: a network inside this process, no privileges needed: DHCP, DNS for its own name, ping, and TCP and UDP
    /// test services at 10.0.2.2 and fd00:2::2.
    ///
    /// tap:NAME: an existing tap, made for example with `ip tuntap add dev NAME mode tap vnet_hdr` (add multi_queue for
    /// more than one queue pair).
    ///
    /// tap-fd:N[,N...]: a tap that this process inherited as descriptor N, one descriptor for each queue pair.
    ///
    /// null: takes every frame and gives none.
    ///
    /// sink: the same, but copies every frame whole out of guest memory, as any receiver has to.
    ///
    /// source:SIZE: UDP for the guest as fast as it takes it, in frames of 60 to 1514 bytes (without FCS); source:mix is
    /// 64, 576 and 1500 bytes in equal shares.
    ///
    /// loopback: gives every frame back, with its MAC addresses swapped.
    #[arg(long, value_name = "KIND", default_value = "user", help_heading = "Host end")]
    pub(crate) net: NetKind,

    /// Write every frame, both ways, to a pcapng file.
    ///
    /// Frames of the guest are marked outbound, those for it inbound. A frame that is still to be segmented has a
    /// comment. Capturing never holds the guest up: what the disk cannot take is left out and counted.
    #[arg(long, value_name = "FILE.pcapng", help_heading = "Host end")]
    pub(crate) capture: Option<PathBuf>,

    /// Queue pairs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64),
          help_heading = "Device")]
    pub(crate) queues: u16,

    /// MAC address of the guest: the one that its virtual machine monitor gives it.
    ///
    /// The default is what QEMU gives to a machine's first card. Frames from another address are dropped as forged,
    /// and frames to another one are not delivered.
    #[arg(long, value_name = "MAC", value_parser = unicast, default_value = "52:54:00:12:34:56",
          help_heading = "Device")]
    pub(crate) mac: MacAddr,

    /// MTU that the guest is told, in bytes [default: the tap's, else none].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1280..), help_heading = "Device")]
    pub(crate) mtu: Option<u16>,

    /// Offer the packed ring format. The driver decides.
    ///
    /// QEMU passes the offer on to its guest only with packed=on for its device. `off` keeps every driver to split rings.
    #[arg(long, value_name = "ON|OFF", default_value = "on", help_heading = "Device")]
    pub(crate) packed: Switch,

    /// Drop frames that the guest sends from another source address than --mac.
    #[arg(long, value_name = "ON|OFF", default_value = "on", help_heading = "Device")]
    pub(crate) spoof_check: Switch,

    /// Microseconds that a worker polls after the last work, before it sleeps.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=1_000_000),
          help_heading = "Workers")]
    pub(crate) poll_us: u64,

    /// CPUs for the workers, one for each queue pair, in turn: 2 or 2,3 or 4-7.
    #[arg(long, value_name = "CPUS", help_heading = "Workers")]
    pub(crate) pin: Option<CpuList>,

    /// Print rates this often: frames, bytes, kicks and calls per frame, mean burst, drops by reason.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400),
          help_heading = "Reports")]
    pub(crate) stats: Option<u64>,

    /// Write the counters to a JSON file, replaced atomically every --stats seconds, or every second.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(crate) stats_json: Option<PathBuf>,

    /// What to log, on standard error.
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Reports")]
    pub(crate) log: Level,
}

const EXAMPLES: &str = "\
Examples:
  A network without privileges, and a QEMU guest on it:
    vhost-user-net --socket /tmp/vm0.sock --net user
    qemu-system-x86_64 ... -m 1G \\
      -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem \\
      -chardev socket,id=net0,path=/tmp/vm0.sock -netdev vhost-user,id=net0,chardev=net0 \\
      -device virtio-net-pci,netdev=net0

  A tap with four queue pairs on CPUs 2 to 5 (QEMU: queues=4 for the netdev, mq=on for the device):
    ip tuntap add dev tap0 mode tap vnet_hdr multi_queue && ip link set tap0 up
    vhost-user-net --socket /tmp/vm0.sock --net tap:tap0 --queues 4 --pin 2-5

  See what a guest does:
    vhost-user-net --socket /tmp/vm0.sock --capture vm0.pcapng --stats 1

SIGTERM or Ctrl-C stops the rings in good order, prints a summary and removes the socket.";

/// What `--net` names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NetKind {
    User,
    Tap(String),
    TapFds { first: RawFd, others: Vec<RawFd> },
    Null,
    Sink,
    Source(FrameSize),
    Loopback,
}

impl FromStr for NetKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "user" => Ok(Self::User),
            None if text == "null" => Ok(Self::Null),
            None if text == "sink" => Ok(Self::Sink),
            None if text == "loopback" => Ok(Self::Loopback),
            Some(("source", size)) => size.parse().map(Self::Source),
            Some(("tap", name)) if !name.is_empty() => Ok(Self::Tap(name.to_owned())),
            Some(("tap-fd", list)) => descriptors(list),
            _ => Err("expected user, tap:NAME, tap-fd:N[,N...], null, sink, source:SIZE or loopback".to_owned()),
        }
    }
}

/// Length of the frames that `--net source:SIZE` makes, in bytes from the Ethernet header on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameSize {
    Bytes(u16),
    Mix,
}

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "mix" {
            return Ok(Self::Mix);
        }
        let bytes = text.parse().ok().filter(|bytes| (60..=1514).contains(bytes));
        bytes.map(Self::Bytes).ok_or_else(|| format!("{text:?} is no size of frames, expected 60 to 1514 or mix"))
    }
}

fn descriptors(list: &str) -> Result<NetKind, String> {
    let mut fds = Vec::new();
    for text in list.split(',') {
        let fd = text.parse::<RawFd>().ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(|| format!("{text:?} is no descriptor, expected a number"))?;
        if fds.contains(&fd) {
            return Err(format!("descriptor {fd} is named twice"));
        }
        fds.push(fd);
    }
    let mut fds = fds.into_iter();
    match fds.next() {
        Some(first) => Ok(NetKind::TapFds { first, others: fds.collect() }),
        None => Err("expected at least one descriptor".to_owned()),
    }
}

fn unicast(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|e: net_filter::MacParseError| e.to_string())?;
    if mac.is_unicast() { Ok(mac) } else { Err("expected the address of one station, not a group or zero".to_owned()) }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `2,4-6`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CpuList(pub(crate) Vec<usize>);

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |s: &str| s.parse::<usize>().ok().filter(|n| *n < rustix::thread::CpuSet::MAX_CPU);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
                _ => return Err(format!("{part:?} is neither a CPU nor a range, expected for example 2,4-6")),
            }
        }
        Ok(Self(cpus))
    }
}

/// What clap has to say, in one line.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first: Vec<&str> = text.lines().take_while(|l| !l.trim().is_empty()).map(str::trim).collect();
    let tip = text.lines().map(str::trim).find(|l| l.starts_with("[possible values") || l.starts_with("tip:"));
    let mut line = first.join(" ");
    line = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
    if let Some(tip) = tip.filter(|tip| !line.contains(tip)) {
        line = format!("{line} ({tip})");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn host_ends_have_names() {
        let tap = |name: &str| Ok(NetKind::Tap(name.to_owned()));
        let wrong = || Err("expected user, tap:NAME, tap-fd:N[,N...], null, sink, source:SIZE or loopback".to_owned());
        for (text, expected) in [
            ("user", Ok(NetKind::User)),
            ("null", Ok(NetKind::Null)),
            ("sink", Ok(NetKind::Sink)),
            ("source:64", Ok(NetKind::Source(FrameSize::Bytes(64)))),
            ("source:mix", Ok(NetKind::Source(FrameSize::Mix))),
            ("source:59", Err("\"59\" is no size of frames, expected 60 to 1514 or mix".to_owned())),
            ("source:", Err("\"\" is no size of frames, expected 60 to 1514 or mix".to_owned())),
            ("source", wrong()),
            ("loopback", Ok(NetKind::Loopback)),
            ("tap:tap0", tap("tap0")),
            ("tap:a:b", tap("a:b")), // for the tap to refuse
            ("tap-fd:3", Ok(NetKind::TapFds { first: 3, others: vec![] })),
            ("tap-fd:3,7,5", Ok(NetKind::TapFds { first: 3, others: vec![7, 5] })),
            ("tap-fd:3,3", Err("descriptor 3 is named twice".to_owned())),
            ("tap-fd:-1", Err("\"-1\" is no descriptor, expected a number".to_owned())),
            ("tap-fd:", Err("\"\" is no descriptor, expected a number".to_owned())),
            ("tap:", wrong()),
            ("tap", wrong()),
            ("", wrong()),
            ("user:x", wrong()),
            ("Null", wrong()),
        ] {
            assert_eq!(text.parse(), expected, "{text:?}");
        }
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!("2,4-6,0".parse(), Ok(CpuList(vec![2, 4, 5, 6, 0])));
        for bad in ["", "a", "3-1", "1,", "-1", "1-", "1000000"] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad:?}");
        }
    }
}
