//! The same program as a back end: a vhost port that gives every frame back with its addresses swapped, as the daemon's
//! `--net loopback` does.

use super::{PATIENCE, TestPmd};
use crate::Error;
use crate::guest::Process;
use crate::setup::Dpdk;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

impl TestPmd {
    /// Starts it as a back end that listens at `socket`, both of its threads on CPU `cpu`. It gives frames back after
    /// [`reflect`](Self::reflect), not before.
    ///
    /// # Errors
    /// It ended, or did not listen in time; its last line says why.
    pub fn reflector(dpdk: &Dpdk, socket: &Path, cpu: usize, log: &Path) -> Result<Self, Error> {
        let scratch = tempfile::tempdir().map_err(Error::file(std::env::temp_dir()))?;
        let command = command(dpdk, socket, cpu, scratch.path());
        let (process, input) = Process::start_talking(command, Some(log))?;
        let mut pmd = Self { process, input, lines: Vec::new(), _scratch: scratch };
        pmd.counters(0)?;
        let begin = Instant::now();
        while !socket.exists() {
            if begin.elapsed() > PATIENCE {
                return Err(pmd.failed("it does not listen"));
            }
            pmd.counters(0)?;
        }
        Ok(pmd)
    }

    /// Begins to give frames back, on a CPU of its own from then on; or stops, and sleeps.
    ///
    /// # Errors
    /// It does not answer.
    pub fn reflect(&mut self, on: bool) -> Result<(), Error> {
        self.say(if on { "start" } else { "stop" })?;
        // Commands are done one after the other: once this is answered, that one is done.
        self.counters(0).map(|_| ())
    }
}

fn command(dpdk: &Dpdk, socket: &Path, cpu: usize, scratch: &Path) -> Command {
    let mut command = dpdk.command(scratch);
    command
        .args(["--lcores", &format!("(0,1)@{cpu}"), "--no-huge", "-m", "64", "--no-pci", "--file-prefix=reflector"])
        .arg("--single-file-segments");
    let mut port = std::ffi::OsString::from("net_vhost0,iface=");
    port.push(socket);
    port.push(",queues=1");
    command.arg("--vdev").arg(port);
    command.args(["--", "-i", "--nb-cores=1", "--txd=256", "--rxd=256", "--burst=32", "--total-num-mbufs=4096"]);
    command.args(["--forward-mode=macswap", "--no-flush-rx"]);
    command
}
