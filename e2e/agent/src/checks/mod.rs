//! The checks. Each takes the guest and its step and gives a line or the reason why it failed.

mod address;
mod capture;
mod dns;
mod load;
mod rings;
mod sysfs;
pub(crate) mod talk;
mod tcp;
mod udp;

use guest_agent::{Check, HOST4, HOST6, Line, Step, Verdict};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// What the checks share: the interface and the addresses found on the way.
pub(crate) struct Guest {
    interface: String,
    /// Gateway and DNS server of the lease.
    gateway: Mutex<Option<IpAddr>>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self { interface: String::new(), gateway: Mutex::new(None) }
    }

    /// Takes the interface up, without waiting for duplicate address detection: it would cost every run
    /// seconds and there is nobody to collide with.
    pub(crate) fn bring_up(mut self, interface: &str) -> Result<Self, String> {
        interface.clone_into(&mut self.interface);
        if !self.sysfs("").is_dir() {
            return Err(format!("no interface {interface}: the device was not found, or its driver gave up"));
        }
        let base = format!("/proc/sys/net/ipv6/conf/{interface}");
        std::fs::write(format!("{base}/accept_dad"), "0").map_err(|e| format!("{base}/accept_dad: {e}"))?;
        busybox(&["ip", "link", "set", "lo", "up"])?;
        busybox(&["ip", "link", "set", interface, "up"])?;
        Ok(self)
    }

    fn sysfs(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/sys/class/net/{}/{name}", self.interface))
    }

    /// The host's service at `port`, over IPv6 if the step says so.
    fn service(&self, step: &Step, port: u16) -> SocketAddr {
        match step.parameter("v", 4) {
            6 => SocketAddr::new(HOST6.into(), port),
            _ => SocketAddr::new(self.host4(), port),
        }
    }

    fn host4(&self) -> IpAddr {
        let known = self.gateway.lock().ok().and_then(|g| *g);
        known.unwrap_or(HOST4.into())
    }
}

pub(crate) fn run(guest: &Guest, step: &Step) -> Result<Line, String> {
    match step.check {
        Check::Features => sysfs::features(guest, step),
        Check::Resize => rings::resize(guest, step),
        Check::Link => sysfs::link(guest, step),
        Check::Counters => sysfs::counters(guest, step),
        Check::Dhcp => address::dhcp(guest, step),
        Check::Ping4 => address::ping(guest, step, 4),
        Check::Ping6 => address::ping(guest, step, 6),
        Check::Dns => dns::lookup(guest, step),
        Check::TcpEcho => tcp::echo(guest, step),
        Check::TcpUp => tcp::up(guest, step),
        Check::TcpDown => tcp::down(guest, step),
        Check::FileUp => tcp::file_up(guest, step),
        Check::FileDown => tcp::file_down(guest, step),
        Check::UdpEcho => udp::echo(guest, step),
        Check::UdpUp => udp::up(guest, step),
        Check::UdpDown => udp::down(guest, step),
        Check::Idle => {
            std::thread::sleep(step.seconds());
            Ok(Line::new(step.name(), Verdict::Pass).value(step.seconds().as_secs_f64(), "s"))
        }
        Check::Talk => Err("not a check: the host gives the commands".to_owned()),
        Check::UdpFlood => load::flood(guest, step),
        Check::UdpSink => load::sink(guest, step),
    }
}

/// Runs an applet and gives what it printed; what it complained about is the error.
fn busybox(arguments: &[&str]) -> Result<String, String> {
    let done = Command::new("/bin/busybox").args(arguments).output().map_err(|e| format!("busybox: {e}"))?;
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(out);
    }
    let complaint = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
    Err(format!("{}: {} {}", arguments.join(" "), done.status, complaint))
}

fn error(what: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |e| format!("{what}: {e}")
}
