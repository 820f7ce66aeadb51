//! How the program is started.

use crate::setup::Dpdk;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which end of the socket the first port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A virtio-user port: the guest's side, which connects.
    #[default]
    FrontEnd,
    /// A vhost port: the host's side, which listens.
    BackEnd,
}

/// Files of a second port; what one port receives, the other sends.
#[derive(Clone, Debug)]
pub enum Pcap {
    /// It reads its frames from the first one, once, and writes them to the second.
    Once(PathBuf, PathBuf),
    /// It reads its frames from this one over and over, and drops what it is to send.
    Forever(PathBuf),
}

/// What the program has of memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Huge pages: see [`HugePages`](super::HugePages). Nothing of them is left in a file system.
    pub huge: bool,
    /// All of it, in MiB.
    pub mebibytes: u32,
    /// Buffers for frames.
    pub buffers: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self { huge: false, mebibytes: 64, buffers: 4096 }
    }
}

/// How a [`TestPmd`](super::TestPmd) is started.
#[derive(Clone, Debug, Default)]
pub struct PortSpec {
    /// Which end of the socket it is.
    pub role: Role,
    /// The socket.
    pub socket: PathBuf,
    /// Its queue pairs; 0 is 1. A front end with several has a control queue.
    pub queues: u16,
    /// More parameters of the first port, such as `packed_vq=1,mrg_rxbuf=0`.
    pub parameters: String,
    /// A second port.
    pub pcap: Option<Pcap>,
    /// The processor for both of its threads: the one that takes commands sleeps. The first that we may use, if not
    /// said.
    pub cpu: Option<usize>,
    /// Its memory.
    pub memory: Memory,
    /// More arguments for DPDK itself.
    pub dpdk_arguments: Vec<String>,
    /// More arguments for the test program.
    pub arguments: Vec<String>,
    /// Ports are to be started by a command.
    pub stopped: bool,
}

impl PortSpec {
    pub(super) fn command(&self, dpdk: &Dpdk, scratch: &Path) -> Command {
        let cpu = self.cpu.or_else(|| super::processors().next()).unwrap_or(0);
        let mut command = dpdk.command(scratch);
        command
            .args(["-v", "--lcores", &format!("(0,1)@{cpu}"), "--no-pci", "--file-prefix=e2e"])
            .args([
                if self.memory.huge { "--in-memory" } else { "--no-huge" },
                "-m",
                &self.memory.mebibytes.to_string(),
            ])
            // Says which of its paths a port takes.
            .arg("--log-level=pmd.net.virtio.init:info")
            // One region for the daemon; DPDK's memory is one file for each page without it.
            .arg("--single-file-segments")
            .args(&self.dpdk_arguments);
        for port in self.ports() {
            command.arg("--vdev").arg(port);
        }
        command.args(["--", "-i", "--nb-cores=1", "--txd=256", "--rxd=256", "--burst=32"]);
        command.arg(format!("--total-num-mbufs={}", self.memory.buffers));
        if self.queues > 1 {
            command.args([format!("--rxq={}", self.queues), format!("--txq={}", self.queues)]);
        }
        // It would throw away what it finds in a queue before it begins.
        command.arg("--no-flush-rx");
        if self.stopped {
            command.arg("--disable-device-start");
        }
        command.args(&self.arguments);
        command
    }

    fn ports(&self) -> Vec<OsString> {
        let (driver, more) = match self.role {
            Role::FrontEnd if self.queues > 1 => ("net_virtio_user0,path=", ",queue_size=256,cq=1"),
            Role::FrontEnd => ("net_virtio_user0,path=", ",queue_size=256"),
            Role::BackEnd => ("net_vhost0,iface=", ""),
        };
        let mut first = OsString::from(driver);
        first.push(&self.socket);
        first.push(format!(",queues={}{more}", self.queues.max(1)));
        if !self.parameters.is_empty() {
            first.push(",");
            first.push(&self.parameters);
        }
        let mut ports = vec![first];
        if let Some(pcap) = &self.pcap {
            let mut second = OsString::from("net_pcap0,rx_pcap=");
            match pcap {
                Pcap::Once(from, to) => {
                    second.push(from);
                    second.push(",tx_pcap=");
                    second.push(to);
                }
                Pcap::Forever(from) => {
                    second.push(from);
                    second.push(",infinite_rx=1");
                }
            }
            ports.push(second);
        }
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_as_dpdk_wants_them() {
        let mut spec = PortSpec { socket: "/s".into(), ..PortSpec::default() };
        assert_eq!(spec.ports(), ["net_virtio_user0,path=/s,queues=1,queue_size=256"]);
        spec.parameters = "packed_vq=1".to_owned();
        spec.pcap = Some(Pcap::Forever("/f".into()));
        let second = "net_pcap0,rx_pcap=/f,infinite_rx=1";
        assert_eq!(spec.ports(), ["net_virtio_user0,path=/s,queues=1,queue_size=256,packed_vq=1", second]);
        spec.queues = 4;
        let first = "net_virtio_user0,path=/s,queues=4,queue_size=256,cq=1,packed_vq=1";
        assert_eq!(spec.ports(), [first, second]);
        let spec = PortSpec { role: Role::BackEnd, socket: "/s".into(), ..PortSpec::default() };
        assert_eq!(spec.ports(), ["net_vhost0,iface=/s,queues=1"]);
    }
}
