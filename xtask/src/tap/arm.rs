//! What is compared: devices, and the guests booted on them.

use super::sample::{Load, Processes};
use crate::Failure;
use e2e::daemon::Program;
use e2e::load::{Wire, pin_threads};
use e2e::setup::Say;
use e2e::{Assets, Check, Daemon, Guest, GuestSpec, HostEnd, Kind, Nic, Plan, Step};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who serves the guest's card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Device {
    /// QEMU's own, in its main loop.
    Qemu,
    /// Our daemon, polling as it does by itself.
    Ours,
    /// Our daemon, which never polls.
    OursUnpolled,
    /// Our daemon, with a front end that is no guest.
    OursDpdk,
}

impl Device {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Ours => "ours",
            Self::OursUnpolled => "ours, --poll-us 0",
            Self::OursDpdk => "ours, DPDK's front end",
        }
    }

    /// Else there is nothing of QEMU's to compare it with.
    pub(super) fn has_guest(self) -> bool {
        self != Self::OursDpdk
    }
}

/// One of the things to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arm {
    pub(super) device: Device,
    /// Checksums and segmentation, each way.
    pub(super) offloads: bool,
}

/// Properties that take every offload from a card.
const PLAIN: &str = "csum=off,gso=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,guest_csum=off,\
    guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";

impl Arm {
    pub(super) fn all(quick: bool) -> Vec<Self> {
        let mut devices = vec![Device::Qemu, Device::Ours];
        if !quick {
            devices.push(Device::OursUnpolled);
        }
        let with = |offloads| devices.iter().map(move |device| Self { device: *device, offloads });
        with(true).chain(with(false)).collect()
    }

    /// Datagrams are as they are; offloads make a difference to TCP.
    pub(super) fn loads(&self) -> &'static [Load] {
        if self.offloads { &Load::ALL } else { &[Load::TcpUp, Load::TcpDown] }
    }
}

/// What all runs share.
pub(super) struct Bed {
    // Goes before the host end.
    pub(super) wire: Wire,
    pub(super) host: HostEnd,
    assets: Assets,
    program: Program,
    pub(super) folder: PathBuf,
    pub(super) packed: bool,
    scratch: tempfile::TempDir,
}

impl Bed {
    pub(super) fn new(
        host: HostEnd,
        assets: Assets,
        folder: &Path,
        packed: bool,
        say: Say<'_>,
    ) -> Result<Self, Failure> {
        let HostEnd::Tap(net) = &host else { return Err(Failure::Broken("the host end is no tap".to_owned())) };
        let wire = Wire::open(net)?;
        let program = Program::build(say)?;
        let scratch = tempfile::tempdir()?;
        Ok(Self { wire, host, assets, program, folder: folder.to_owned(), packed, scratch })
    }

    pub(super) fn has_kvm(&self) -> bool {
        self.assets.kvm
    }

    /// Starts our daemon, with these arguments.
    pub(super) fn daemon(&self, arguments: &[&str]) -> Result<(Daemon, PathBuf), Failure> {
        let socket = self.scratch.path().join("vm0.sock");
        let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        let daemon = Daemon::start(&self.program, &socket, &self.host, &arguments, &self.folder.join("daemon.log"))?;
        Ok((daemon, socket))
    }

    /// Starts the device if it is ours, and boots a guest that then makes each of the arm's loads for so many seconds.
    pub(super) fn boot(&self, arm: &Arm, seconds: u64) -> Result<Running, Failure> {
        let mut steps = vec![Step::new(Check::Dhcp)];
        steps.extend(arm.loads().iter().map(|load| Step::new(load.check()).with("secs", seconds)));
        let (daemon, nic) = match (arm.device, &self.host) {
            (Device::Qemu, HostEnd::Tap(net)) => (None, net.own_nic()),
            _ => {
                let poll: &[&str] = if arm.device == Device::OursUnpolled { &["--poll-us", "0"] } else { &[] };
                let (daemon, socket) = self.daemon(poll)?;
                (Some(daemon), Nic::vhost_user(socket))
            }
        };
        let mut spec = GuestSpec::new("qemu".parse::<Kind>()?, nic, Plan::new(steps));
        spec.packed = self.packed;
        spec.console = self.folder.join("guest.console");
        spec.deadline = Duration::from_secs(120);
        if !arm.offloads {
            spec.device_options.push(PLAIN.to_owned());
        }
        // Without KVM, QEMU 7.2 has only the old interrupt line for a vhost-user card: then for its own as well.
        if !self.assets.kvm && arm.device == Device::Qemu {
            spec.device_options.push("vectors=0".to_owned());
        }
        // Names of threads: the one of the guest's processor is not the device's.
        spec.extra_arguments.extend(["-name".to_owned(), "guest,debug-threads=on".to_owned()]);
        let guest = Guest::boot(&spec, &self.assets)?;
        let qemu = guest.id().ok_or_else(|| Failure::Broken("the guest is no process".to_owned()))?;
        Ok(Running { guest, daemon, qemu })
    }
}

/// A guest and what serves its card.
pub(super) struct Running {
    // Goes before its device.
    pub(super) guest: Guest,
    pub(super) daemon: Option<Daemon>,
    /// QEMU's process.
    qemu: u32,
}

impl Running {
    pub(super) fn processes(&self) -> Processes {
        Processes { qemu: Some(self.qemu), daemon: self.daemon.as_ref().map(Daemon::id) }
    }

    /// Gives the guest's processor one of ours for itself, and the device another: else it is chance who shares one with
    /// whom, and the figures are of that.
    pub(super) fn place(&self) -> Result<(), Failure> {
        let [first, second, ..] = *e2e::load::cpus() else { return Ok(()) };
        let is_guest = |name: &str| name.starts_with("CPU ");
        pin_threads(self.qemu, first, is_guest)?;
        pin_threads(self.qemu, second, |name| !is_guest(name))?;
        if let Some(daemon) = &self.daemon {
            pin_threads(daemon.id(), second, |_| true)?;
        }
        Ok(())
    }
}
