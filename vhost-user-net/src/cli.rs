//! The command line.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use net_filter::MacAddr;

/// Network cards for virtual machines, served over vhost-user.
///
/// Listens at one or more sockets, and serves the guests whose virtual machine monitors connect there, at each socket one
/// after the other. A guest sees a virtio network card; what it sends goes to the host end that --net names.
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Path of a vhost-user socket; may be given many times, each a guest with a host end of its own.
    ///
    /// A socket that a dead process left there is replaced; one that a process listens at is not, nor is any
    /// other file.
    #[arg(long, value_name = "PATH", required = true, help_heading = "Connection")]
    pub(crate) socket: Vec<PathBuf>,

    /// Connect to the sockets instead of listening at them.
    ///
    /// Tries again, ever more slowly up to every 5 seconds, until somebody listens there; and again when the guest has
    /// gone.
    #[arg(long, help_heading = "Connection")]
    pub(crate) client: bool,

    /// Where the guest's frames go to and come from: once for all sockets, or once for each, in the same order.
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
    pub(crate) net: Vec<NetKind>,

    /// Write every frame, both ways, to a pcapng file.
    ///
    /// Frames of the guest are marked outbound, those for it inbound. A frame that is still to be segmented has a
    /// comment. Capturing never holds the guest up: what the disk cannot take is left out and counted. The frames of
    /// several sockets go to the one file, each socket as an interface of its path's name.
    #[arg(long, value_name = "FILE.pcapng", help_heading = "Host end")]
    pub(crate) capture: Option<PathBuf>,

    /// Queue pairs of each guest.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64),
          help_heading = "Device")]
    pub(crate) queues: u16,

    /// MAC address of the guest, the one that its virtual machine monitor gives it: once for all sockets, or once for each.
    ///
    /// The default is what QEMU gives to a machine's first card. Frames from another address are dropped as forged,
    /// and frames to another one are not delivered.
    #[arg(long, value_name = "MAC", value_parser = unicast, default_value = "52:54:00:12:34:56",
          help_heading = "Device")]
    pub(crate) mac: Vec<MacAddr>,

    /// MTU that the guest is told, in bytes [default: the tap's, else none].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1280..), help_heading = "Device")]
    pub(crate) mtu: Option<u16>,

    /// Offer the packed ring format. The driver decides.
    ///
    /// QEMU passes the offer on to its guest only with packed=on for its device. `off` keeps every driver to split rings.
    #[arg(long, value_name = "ON|OFF", default_value = "on", help_heading = "Device")]
    pub(crate) packed: Switch,

    /// What is checked of the frames that the guest sends; those that are not its own are dropped.
    ///
    /// mac: the source address is --mac; the guest cannot choose another one. ip: that, and IP addresses: packets, ARP and
    /// neighbour discovery speak for the guest alone, it is no DHCP server and no router, and nothing but IP and ARP leaves.
    #[arg(long, value_name = "WHAT", default_value = "mac", help_heading = "Device")]
    pub(crate) spoof_check: Check,

    /// The guest's IP addresses for --spoof-check ip: once for each socket, several with commas.
    ///
    /// Without one of IPv4, the address is learnt that the guest gets by DHCP, and forgotten when its lease ends. The
    /// link-local IPv6 address that is made of --mac is always the guest's.
    #[arg(long, value_name = "ADDRESS[,ADDRESS...]", help_heading = "Device")]
    pub(crate) ip: Vec<IpList>,

    /// Offer the suspension of the device. For virtual machine monitors that pass the device status on to the back end.
    #[arg(long, value_name = "ON|OFF", default_value = "off", help_heading = "Device")]
    pub(crate) suspend: Switch,

    /// Keep what the guest commanded (addresses, VLANs, queues and the like) in a file; once for each socket.
    ///
    /// It is written when a session ends. A virtual machine monitor that loses its back end connects again and goes on with
    /// its rings, and its guest does not repeat its commands: then, and only then, the device goes on from the file, also
    /// in another build of this program. See `vhost-user-net state show FILE`.
    #[arg(long, value_name = "FILE", help_heading = "Device")]
    pub(crate) state: Vec<PathBuf>,

    /// Threads that serve the queue pairs of all guests [default: the CPUs that may be used, at most the queue pairs].
    ///
    /// A queue pair goes to the thread with the fewest. On a machine with several NUMA nodes the threads are spread over
    /// them, and a queue pair goes to a thread of the node that holds the guest's rings.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Workers")]
    pub(crate) workers: Option<u16>,

    /// Microseconds that a queue pair is polled after its last work at most, before it sleeps; 0: never.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=1_000_000),
          help_heading = "Workers")]
    pub(crate) poll_us: u64,

    /// CPUs for the workers, one after the other: 2 or 2,3 or 4-7.
    #[arg(long, value_name = "CPUS", help_heading = "Workers")]
    pub(crate) pin: Option<CpuList>,

    /// Print rates this often: frames, bytes, kicks and calls per frame, mean burst, drops by reason.
    ///
    /// With several sockets, only of those that had traffic.
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

/// Does something else than serve.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Looks at a file of --state.
    #[command(subcommand)]
    State(StateCommand),
}

#[derive(Subcommand, Debug)]
pub(crate) enum StateCommand {
    /// Prints what is in it, one fact a line.
    Show {
        /// The file.
        file: PathBuf,
    },
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
    vhost-user-net --socket /tmp/vm0.sock --net tap:tap0 --queues 4 --workers 4 --pin 2-5

  Three guests, each on a tap of its own, and two threads for all of them:
    vhost-user-net --workers 2 --socket /tmp/a.sock --net tap:tap0 --mac 52:54:00:00:00:01 \
      --socket /tmp/b.sock --net tap:tap1 --mac 52:54:00:00:00:02 \
      --socket /tmp/c.sock --net tap:tap2 --mac 52:54:00:00:00:03

  See what a guest does:
    vhost-user-net --socket /tmp/vm0.sock --capture vm0.pcapng --stats 1

SIGTERM or Ctrl-C stops the rings in good order, prints a summary and removes the sockets.";

/// One socket, and what belongs to it alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GuestPlan {
    pub(crate) socket: PathBuf,
    pub(crate) net: NetKind,
    pub(crate) mac: MacAddr,
    pub(crate) state: Option<PathBuf>,
    pub(crate) ip: Vec<IpAddr>,
}

impl Cli {
    /// What each socket is to have.
    ///
    /// # Errors
    /// Options that do not go together, in one line.
    pub(crate) fn guests(&self) -> Result<Vec<GuestPlan>, String> {
        let count = self.socket.len();
        if let Some(twice) = twice(&self.socket) {
            return Err(format!("--socket {} is given twice", twice.display()));
        }
        if let ([net @ (NetKind::Tap(_) | NetKind::TapFds { .. })], 2..) = (&self.net[..], count) {
            let kind = if matches!(net, NetKind::Tap(_)) { "tap" } else { "tap-fd" };
            return Err(format!(
                "--net {kind} is the host end of one guest: with {count} sockets, give --net for each"
            ));
        }
        let fds: Vec<RawFd> = self.net.iter().flat_map(NetKind::fds).collect();
        if let Some(fd) = twice(&fds) {
            return Err(format!("--net tap-fd: descriptor {fd} is named twice"));
        }
        let nets = spread("--net", &self.net, count)?;
        let macs = spread("--mac", &self.mac, count)?;
        if let Some(twice) = twice(&self.state) {
            return Err(format!("--state {} is given twice", twice.display()));
        }
        let states = match &self.state[..] {
            [] => vec![None; count],
            [one] if count > 1 => {
                return Err(format!(
                    "--state {} is of one guest: with {count} sockets, give it for each",
                    one.display()
                ));
            }
            each => spread("--state", each, count)?.into_iter().map(Some).collect(),
        };
        if self.spoof_check != Check::Ip && !self.ip.is_empty() {
            return Err("--ip is for --spoof-check ip".to_owned());
        }
        let ips = match &self.ip[..] {
            [] => vec![Vec::new(); count],
            each if each.len() == count => each.iter().map(|list| list.0.clone()).collect(),
            other => return Err(format!("--ip is given {} times, expected {count} times, as --socket", other.len())),
        };
        let mut rest = nets.into_iter().zip(macs).zip(states).zip(ips);
        let guest = |socket: &PathBuf| {
            rest.next().map(|(((net, mac), state), ip)| GuestPlan { socket: socket.clone(), net, mac, state, ip })
        };
        Ok(self.socket.iter().filter_map(guest).collect())
    }
}

/// The first of these that is there before.
fn twice<T: Eq + Hash>(all: &[T]) -> Option<&T> {
    let mut seen = HashSet::new();
    all.iter().find(|one| !seen.insert(*one))
}

/// One value for each socket.
fn spread<T: Clone>(option: &str, values: &[T], count: usize) -> Result<Vec<T>, String> {
    match values {
        [one] => Ok(vec![one.clone(); count]),
        each if each.len() == count => Ok(each.to_vec()),
        other => Err(format!("{option} is given {} times, expected once or {count} times, as --socket", other.len())),
    }
}

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

impl NetKind {
    /// The descriptors that it takes over.
    fn fds(&self) -> Vec<RawFd> {
        match self {
            Self::TapFds { first, others } => [&[*first], &others[..]].concat(),
            _ => Vec::new(),
        }
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

/// What `--spoof-check` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Check {
    #[value(alias = "on")]
    Mac,
    Ip,
    Off,
}

/// `10.0.0.5,fd00::5`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IpList(pub(crate) Vec<IpAddr>);

impl FromStr for IpList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |part: &str| part.parse().map_err(|_| format!("{part:?} is no IP address"));
        text.split(',').map(address).collect::<Result<_, _>>().map(Self)
    }
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

    fn guests(arguments: &[&str]) -> Result<Vec<GuestPlan>, String> {
        Cli::try_parse_from([&["vhost-user-net"], arguments].concat()).unwrap().guests()
    }

    #[test]
    fn each_socket_has_its_own_or_all_have_the_same() {
        let plain = guests(&["--socket", "a"]).unwrap();
        let mac = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(plain, [GuestPlan { socket: "a".into(), net: NetKind::User, mac, state: None, ip: vec![] }]);
        let same = guests(&["--socket", "a", "--net", "null", "--socket", "b"]).unwrap();
        assert_eq!(same.iter().map(|g| &g.net).collect::<Vec<_>>(), [&NetKind::Null; 2]);
        let taps = ["--net", "tap:t", "--socket", "a", "--net", "tap-fd:3,4", "--socket", "b"];
        let macs = ["--mac", "02:00:00:00:00:01", "--mac", "02:00:00:00:00:02"];
        let each = guests(&[&taps[..], &macs].concat()).unwrap();
        assert_eq!(each[1].net, NetKind::TapFds { first: 3, others: vec![4] });
        assert_eq!((each[0].net.clone(), each[0].mac.0[5], each[1].mac.0[5]), (NetKind::Tap("t".to_owned()), 1, 2));
    }

    #[test]
    fn options_that_do_not_go_together() {
        let three = ["--socket", "a", "--socket", "b", "--socket", "c"];
        for (more, expected) in [
            (&["--socket", "b"][..], "--socket b is given twice"),
            (&["--net", "tap:x"], "--net tap is the host end of one guest: with 3 sockets, give --net for each"),
            (&["--net", "tap-fd:9"], "--net tap-fd is the host end of one guest: with 3 sockets, give --net for each"),
            (&["--net", "null", "--net", "user"], "--net is given 2 times, expected once or 3 times, as --socket"),
            (
                &["--net", "tap-fd:9", "--net", "null", "--net", "tap-fd:8,9"],
                "--net tap-fd: descriptor 9 is named twice",
            ),
            (&["--ip", "10.0.0.5"], "--ip is for --spoof-check ip"),
            (&["--spoof-check", "ip", "--ip", "10.0.0.5"], "--ip is given 1 times, expected 3 times, as --socket"),
            (&["--state", "x"], "--state x is of one guest: with 3 sockets, give it for each"),
            (&["--state", "x", "--state", "y", "--state", "x"], "--state x is given twice"),
            (
                &["--mac", "02:00:00:00:00:01", "--mac", "02:00:00:00:00:02"],
                "--mac is given 2 times, expected once or 3 times, as --socket",
            ),
        ] {
            assert_eq!(guests(&[&three[..], more].concat()).unwrap_err(), expected);
        }
    }
}
