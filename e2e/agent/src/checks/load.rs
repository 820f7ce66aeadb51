//! Loads without a check: what a device costs is measured from outside while they last.

use super::{Guest, error};
use guest_agent::{Line, Step, Verdict, port};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg, sockopt};
use std::io::IoSlice;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

/// Datagrams for one system call.
const BATCH: usize = 32;
/// The kernel makes the least of it that it can.
const NO_BUFFER: usize = 1;

/// To the host as fast as they go: the socket's buffer is what holds the sender back.
pub(super) fn flood(guest: &Guest, step: &Step) -> Result<Line, String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(error("UDP socket"))?;
    socket.connect(guest.service(step, port::SINK)).map_err(error("connect"))?;
    let size = usize::try_from(step.parameter("size", 1472)).unwrap_or(1472).min(65_000);
    let payload = vec![0x5a; size];
    let pieces = [IoSlice::new(&payload)];
    let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        std::iter::repeat_with(SendAncillaryBuffer::default).take(BATCH).collect();
    let mut batch: Vec<MMsgHdr<'_>> = nothing.iter_mut().map(|none| MMsgHdr::new(&pieces, none)).collect();
    let begin = Instant::now();
    let mut sent = 0_u64;
    while begin.elapsed() < step.seconds() {
        let n = sendmmsg(&socket, &mut batch, SendFlags::empty()).map_err(|e| format!("sendmmsg after {sent}: {e}"))?;
        sent = sent.saturating_add(n as u64);
    }
    let line = Line::new(step.name(), Verdict::Pass).value(sent as f64, "datagrams");
    Ok(line.detail("seconds", begin.elapsed().as_secs_f64()).detail("size", size))
}

/// From the host: the kernel takes the frames through all of its layers, and drops them at the socket.
pub(super) fn sink(guest: &Guest, step: &Step) -> Result<Line, String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port::SINK)).map_err(error("UDP socket"))?;
    sockopt::set_socket_recv_buffer_size(&socket, NO_BUFFER).map_err(|e| format!("receive buffer: {e}"))?;
    let before = received(guest)?;
    std::thread::sleep(step.seconds());
    let frames = received(guest)?.saturating_sub(before);
    Ok(Line::new(step.name(), Verdict::Pass).value(frames as f64, "frames"))
}

fn received(guest: &Guest) -> Result<u64, String> {
    let path = guest.sysfs("statistics/rx_packets");
    let text = std::fs::read_to_string(&path).map_err(error(&path.to_string_lossy()))?;
    text.trim().parse().map_err(|e| format!("rx_packets: {e}"))
}
