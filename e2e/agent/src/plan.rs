//! The plan of a run, as words of the kernel command line: `vnet.if=eth0 vnet.plan=dhcp,ping4:count=3`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a plan cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The command line has no plan.
    #[error("no vnet.plan=... on the kernel command line")]
    Missing,
    /// A step that this version does not know.
    #[error("unknown check {0:?} in vnet.plan")]
    UnknownCheck(String),
    /// A parameter that is not `name=number` with a known name.
    #[error("parameter {0:?}: expected one of count, secs, mib, size, window, limit, v, then = and a number")]
    BadParameter(String),
}

macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// The checks that the agent can run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check { $($(#[$doc])* $variant),* }

        impl Check {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in plans and result lines.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

checks! {
    /// Negotiated feature bits. Value: their number.
    Features = "features",
    /// MTU, carrier, MAC address. Value: the MTU.
    Link = "link",
    /// Address and gateway from DHCP. Value: seconds it took.
    Dhcp = "dhcp",
    /// `count` IPv4 echo requests of `size` bytes. Value: mean round trip.
    Ping4 = "ping4",
    /// `count` IPv6 echo requests of `size` bytes. Value: mean round trip.
    Ping6 = "ping6",
    /// A and AAAA of the host's name. Value: milliseconds for both.
    Dns = "dns",
    /// `mib` MiB there and back, compared.
    TcpEcho = "tcp_echo",
    /// One datagram of every length from 0 to `size`, there and back, compared.
    UdpEcho = "udp_echo",
    /// TCP to the host for `secs` seconds.
    TcpUp = "tcp_up",
    /// TCP from the host for `secs` seconds.
    TcpDown = "tcp_down",
    /// UDP to the host for `secs` seconds, `size` bytes each, `window` outstanding on each of two flows.
    UdpUp = "udp_up",
    /// UDP from the host for `secs` seconds, `size` bytes each, `window` outstanding on each of two flows.
    UdpDown = "udp_down",
    /// `mib` MiB to the host, SHA-256 compared.
    FileUp = "file_up",
    /// `mib` MiB from the host, SHA-256 compared.
    FileDown = "file_down",
    /// Rings of `size` entries, both of them, or as long as they can be if it is 0. A driver resets its queues for
    /// that one by one (`RING_RESET`); without that the line is a remark. Value: entries.
    Resize = "resize",
    /// Nothing for `secs` seconds, so that somebody can look at what an idle guest costs its host.
    Idle = "idle",
    /// The kernel's counters of the interface. Value: its errors, both ways.
    Counters = "counters",
    /// UDP to the host for `secs` seconds, `size` bytes each, as fast as they go. Nobody reads or answers them. Value:
    /// datagrams sent.
    UdpFlood = "udp_flood",
    /// A UDP port that nobody reads, for `secs` seconds. Value: frames that the interface received meanwhile.
    UdpSink = "udp_sink",
    /// Commands of the host, one a line of the console: programs to run, frames to wait for. Ends when the host says so.
    /// Value: their number.
    Talk = "talk",
}

impl FromStr for Check {
    type Err = PlanError;
    fn from_str(s: &str) -> Result<Self, PlanError> {
        let found = Self::ALL.iter().find(|c| c.name() == s);
        found.copied().ok_or_else(|| PlanError::UnknownCheck(s.to_owned()))
    }
}

const KEYS: [&str; 7] = ["count", "secs", "mib", "size", "window", "limit", "v"];

/// One check and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to run.
    pub check: Check,
    parameters: BTreeMap<String, u64>,
}

impl Step {
    /// The check with the agent's own defaults.
    pub fn new(check: Check) -> Self {
        Self { check, parameters: BTreeMap::new() }
    }

    /// Sets a parameter: `count`, `secs`, `mib`, `size`, `window`, `limit` (seconds until the check is given
    /// up) or `v` (6 for IPv6).
    pub fn with(mut self, key: &str, value: u64) -> Self {
        self.parameters.insert(key.to_owned(), value);
        self
    }

    /// A parameter, or what the check uses without it.
    pub fn parameter(&self, key: &str, default: u64) -> u64 {
        self.parameters.get(key).copied().unwrap_or(default)
    }

    /// Length of a throughput check.
    pub fn seconds(&self) -> Duration {
        Duration::from_secs(self.parameter("secs", 3))
    }

    /// Bytes of a file, or of an echo.
    pub fn bytes(&self) -> u64 {
        let default = if self.check == Check::TcpEcho { 1 } else { 64 };
        self.parameter("mib", default).saturating_mul(1 << 20)
    }

    /// Time after which the check is given up.
    pub fn limit(&self) -> Duration {
        let default = match self.check {
            Check::FileUp | Check::FileDown => 120,
            Check::TcpUp
            | Check::TcpDown
            | Check::UdpUp
            | Check::UdpDown
            | Check::UdpFlood
            | Check::UdpSink
            | Check::Idle => self.seconds().as_secs().saturating_add(15),
            _ => 30,
        };
        Duration::from_secs(self.parameter("limit", default))
    }

    /// Name in result lines: a step over IPv6 is told apart by a suffix.
    pub fn name(&self) -> String {
        let suffix = if self.parameter("v", 4) == 6 { "_v6" } else { "" };
        format!("{}{suffix}", self.check.name())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.check.name())?;
        self.parameters.iter().try_for_each(|(k, v)| write!(f, ":{k}={v}"))
    }
}

impl FromStr for Step {
    type Err = PlanError;
    fn from_str(s: &str) -> Result<Self, PlanError> {
        let mut parts = s.split(':');
        let mut step = Self::new(parts.next().unwrap_or("").parse()?);
        for part in parts {
            let bad = || PlanError::BadParameter(part.to_owned());
            let (key, value) = part.split_once('=').ok_or_else(bad)?;
            if !KEYS.contains(&key) {
                return Err(bad());
            }
            step = step.with(key, value.parse().map_err(|_| bad())?);
        }
        Ok(step)
    }
}

/// What to do in the guest, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The network interface; `eth0` where virtio-net is the only card.
    pub interface: String,
    /// The checks.
    pub steps: Vec<Step>,
}

impl Plan {
    /// These steps on `eth0`.
    pub fn new(steps: Vec<Step>) -> Self {
        Self { interface: "eth0".to_owned(), steps }
    }

    /// Every check once but [`Check::Resize`], which most devices cannot, [`Check::Idle`], [`Check::Talk`], and loads, which check nothing:
    /// `secs` seconds for each throughput figure and `mib` MiB for each file.
    pub fn standard(secs: u64, mib: u64) -> Self {
        let step = |check: &Check| match check {
            Check::TcpUp | Check::TcpDown | Check::UdpUp | Check::UdpDown => Step::new(*check).with("secs", secs),
            Check::FileUp | Check::FileDown => Step::new(*check).with("mib", mib),
            _ => Step::new(*check),
        };
        let left_out = [Check::Resize, Check::Idle, Check::UdpFlood, Check::UdpSink, Check::Talk];
        Self::new(Check::ALL.iter().filter(|c| !left_out.contains(c)).map(step).collect())
    }

    /// The words for the kernel command line.
    pub fn to_command_line(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        format!("vnet.if={} vnet.plan={}", self.interface, steps.join(","))
    }

    /// Finds the plan in a kernel command line.
    ///
    /// # Errors
    /// No plan there, or a step of it is not understood.
    pub fn from_command_line(text: &str) -> Result<Self, PlanError> {
        let word = |key: &str| text.split_ascii_whitespace().find_map(|w| w.strip_prefix(key));
        let steps = word("vnet.plan=").ok_or(PlanError::Missing)?;
        let steps = steps.split(',').filter(|s| !s.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        let mut plan = Self::new(steps);
        if let Some(name) = word("vnet.if=") {
            name.clone_into(&mut plan.interface);
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_survive_the_command_line() {
        let plan = Plan::standard(2, 64);
        let line = format!("console=ttyS0 {} quiet", plan.to_command_line());
        assert_eq!(Plan::from_command_line(&line), Ok(plan));
        assert!(line.len() < 512, "room on the command line: {line}");
    }

    #[test]
    fn bad_plans_say_what_is_wrong() {
        let read = |s: &str| Plan::from_command_line(s).unwrap_err().to_string();
        assert_eq!(read("quiet"), "no vnet.plan=... on the kernel command line");
        assert_eq!(read("vnet.plan=dhcp,pong"), "unknown check \"pong\" in vnet.plan");
        for bad in ["ping4:count", "ping4:count=x", "ping4:speed=1", "ping4:"] {
            assert!(read(&format!("vnet.plan={bad}")).starts_with("parameter "), "{bad}");
        }
    }

    #[test]
    fn steps_over_ipv6_have_their_own_name() {
        let step: Step = "tcp_up:v=6:secs=2".parse().unwrap();
        assert_eq!((step.name().as_str(), step.parameter("secs", 9), step.parameter("size", 5)), ("tcp_up_v6", 2, 5));
    }
}
