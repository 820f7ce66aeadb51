//! A network namespace with a tap, addresses, DHCP and the services: a small Linux host for one guest.
//!
//! The device side runs inside, `ip netns exec NAME vhost-user-net --net tap:tap0 ...`
//! ([`TapNet::command`]), and so finds its tap; sockets of the unix kind are not bound to namespaces.

use crate::Error;
use crate::services::{Place, Services};
use crate::setup::packages::{is_root, run};
use guest_agent::{HOST4, HOST6};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "vnet";
/// Name of the tap inside the namespace.
pub const TAP: &str = "tap0";

/// How the tap is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapSpec {
    /// Several queues; who opens the tap must then ask for that too, even with one queue.
    pub multi_queue: bool,
    /// Its MTU in bytes.
    pub mtu: u16,
}

impl Default for TapSpec {
    fn default() -> Self {
        Self { multi_queue: false, mtu: 1500 }
    }
}

/// The namespace and what runs in it. Dropping it ends and removes all of it.
#[derive(Debug)]
pub struct TapNet {
    name: String,
    // Goes before the namespace is removed.
    services: Option<Services>,
}

impl TapNet {
    /// Makes it, after [`crate::Workshop::prepare_tap`]. Also removes what earlier processes that were killed
    /// have left.
    ///
    /// # Errors
    /// Not root, or a step failed; nothing is left then.
    pub fn create(spec: TapSpec) -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            return Err(Error::NeedsRoot { what: "a network namespace with a tap" });
        }
        remove_orphans();
        let name = format!("{PREFIX}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        // From here on, dropping this undoes it.
        let mut net = Self { name, services: None };
        net.set_up(spec)?;
        net.services = Some(Services::start(Place::Namespace(&net.name))?);
        Ok(net)
    }

    /// Name of the namespace, for `ip netns`.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// Name of the tap in it.
    pub fn tap(&self) -> &'static str {
        TAP
    }

    /// A command that will run inside the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        crate::guest::inside(&self.name, &program.as_ref().to_owned())
    }

    /// The guest program's own network card on this tap, to compare with.
    pub fn own_nic(&self) -> crate::Nic {
        crate::Nic::Tap { namespace: self.name.clone(), tap: TAP.to_owned() }
    }

    fn set_up(&self, spec: TapSpec) -> Result<(), Error> {
        let mut kind = vec!["tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"];
        if spec.multi_queue {
            kind.push("multi_queue");
        }
        self.ip(&kind)?;
        // No address of its own making, no wait for duplicates, nothing else that the guest could see as noise.
        let ipv6 = format!("net.ipv6.conf.{TAP}");
        run(self.command("sysctl").args(["-q", "-w"]).args([
            format!("{ipv6}.accept_dad=0"),
            format!("{ipv6}.addr_gen_mode=1"),
            format!("{ipv6}.accept_ra=0"),
        ]))?;
        self.ip(&["link", "set", "lo", "up"])?;
        self.ip(&["link", "set", TAP, "mtu", &spec.mtu.to_string(), "up"])?;
        self.ip(&["addr", "add", &format!("{HOST4}/24"), "dev", TAP])?;
        // DHCP answers go to everybody.
        self.ip(&["route", "add", "255.255.255.255", "dev", TAP])?;
        for address in [HOST6.to_string(), "fe80::2".to_owned()] {
            self.ip(&["addr", "add", &format!("{address}/64"), "dev", TAP, "nodad"])?;
        }
        Ok(())
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), Error> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments)).map(drop)
    }
}

impl Drop for TapNet {
    fn drop(&mut self) {
        self.services = None;
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Removes namespaces whose maker is no more. Their names say who made them.
pub fn remove_orphans() {
    let Ok(list) = fs::read_dir("/run/netns") else { return };
    for name in list.flatten().map(|e| e.file_name().to_string_lossy().into_owned()) {
        let maker = name.strip_prefix(PREFIX).and_then(|n| n.strip_prefix('-')).and_then(|n| n.split('-').next());
        let Some(maker) = maker.and_then(|n| n.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{maker}")).exists() {
            let _ = run(Command::new("ip").args(["netns", "del", &name]));
        }
    }
}
