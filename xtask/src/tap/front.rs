//! Our daemon with a front end that is never the limit: DPDK's test program, which only sends or only receives.

use super::arm::{Arm, Bed, Device};
use super::sample::{Load, Processes, Sample, end_well, take};
use crate::Failure;
use e2e::HostEnd;
use e2e::agent::{GUEST4, HOST4, port};
use e2e::dpdk::{Dpdk, PortSpec, TestPmd};
use e2e::load::{PAYLOAD, know_guest, pin_threads};
use std::time::Duration;

/// How its rows are called.
pub(super) const ARM: Arm = Arm { device: Device::OursDpdk, offloads: true };

/// The address that our daemon knows its guest by.
const MAC: &str = "52:54:00:12:34:56";
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;

/// Starts both, and takes a sample of each direction.
pub(super) fn all(bed: &Bed, dpdk: &Dpdk, window: Duration) -> Result<Vec<(Load, Sample)>, Failure> {
    let HostEnd::Tap(net) = &bed.host else { return Ok(Vec::new()) };
    know_guest(net, MAC)?;
    let (daemon, socket) = bed.daemon(&[])?;
    let packed = u8::from(bed.packed);
    let spec = PortSpec {
        socket,
        parameters: format!("mrg_rxbuf=1,packed_vq={packed},mac={MAC}"),
        arguments: vec![
            format!("--txpkts={}", PAYLOAD.saturating_add(HEADERS)),
            format!("--tx-ip={GUEST4},{HOST4}"),
            format!("--tx-udp={},{}", port::SINK, port::SINK),
            "--eth-peer=0,ff:ff:ff:ff:ff:ff".to_owned(),
        ],
        ..PortSpec::default()
    };
    let mut front = TestPmd::start(dpdk, &spec, &bed.folder.join("testpmd.log"))?;
    // It keeps to the first.
    if let [_, second, ..] = *e2e::load::cpus() {
        pin_threads(daemon.id(), second, |_| true)?;
    }
    let whose = Processes { qemu: None, daemon: Some(daemon.id()) };
    let mut samples = Vec::new();
    for (load, mode) in [(Load::UdpUp, "txonly"), (Load::UdpDown, "rxonly")] {
        front.say(&format!("set fwd {mode}"))?;
        front.say("start")?;
        let sample = take(whose, &bed.wire, load, window)?;
        front.say("stop")?;
        sample.show(&format!("{}, {}, {}", ARM.device.name(), load.name(), load.direction()));
        samples.push((load, sample));
    }
    front.quit()?;
    end_well(daemon)?;
    Ok(samples)
}
