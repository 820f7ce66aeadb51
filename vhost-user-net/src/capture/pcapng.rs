//! The pcapng format (draft-ietf-opsawg-pcapng), as much of it as a capture of Ethernet interfaces takes.

use std::io::{self, Write};
use std::time::Duration;

use virtio_net_core::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;

const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;

/// Which way a frame went, seen from the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Inbound = 1,
    Outbound = 2,
}

/// One frame to write.
#[derive(Debug)]
pub(super) struct Packet {
    /// Since 1970.
    pub(super) time: Duration,
    /// The interface's number.
    pub(super) interface: u32,
    pub(super) direction: Direction,
    pub(super) header: NetHeader,
    pub(super) frame: Vec<u8>,
}

/// Writes what every file begins with; the interfaces are numbered from 0.
pub(super) fn write_start(to: &mut impl Write, interfaces: &[String]) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend(BYTE_ORDER.to_le_bytes());
    body.extend([1, 0, 0, 0]); // version 1.0
    body.extend(u64::MAX.to_le_bytes()); // length of the section: not known
    option(&mut body, SHB_USERAPPL, concat!("vhost-user-net ", env!("CARGO_PKG_VERSION")).as_bytes());
    end_options(&mut body);
    block(to, SECTION_HEADER, &body)?;

    for name in interfaces {
        body.clear();
        body.extend(ETHERNET.to_le_bytes());
        body.extend([0, 0]);
        body.extend(0_u32.to_le_bytes()); // no limit to what is captured of a frame
        option(&mut body, IF_NAME, name.as_bytes());
        option(&mut body, IF_TSRESOL, &[9]); // nanoseconds
        end_options(&mut body);
        block(to, INTERFACE_DESCRIPTION, &body)?;
    }
    Ok(())
}

/// Writes one frame.
pub(super) fn write_packet(to: &mut impl Write, packet: &Packet) -> io::Result<()> {
    let nanos = u64::try_from(packet.time.as_nanos()).unwrap_or(u64::MAX);
    let len = length(packet.frame.len())?;
    let mut body = Vec::with_capacity(packet.frame.len().saturating_add(128));
    body.extend(packet.interface.to_le_bytes());
    body.extend(((nanos >> 32) as u32).to_le_bytes());
    body.extend((nanos as u32).to_le_bytes());
    body.extend(len.to_le_bytes());
    body.extend(len.to_le_bytes());
    body.extend(&packet.frame);
    pad(&mut body);
    if let Some(comment) = comment(&packet.header) {
        option(&mut body, OPT_COMMENT, comment.as_bytes());
    }
    option(&mut body, EPB_FLAGS, &(packet.direction as u32).to_le_bytes());
    end_options(&mut body);
    block(to, ENHANCED_PACKET, &body)
}

/// What the bytes of the frame do not say: offloads that are still to be done.
fn comment(header: &NetHeader) -> Option<String> {
    let partial = header.flags & NEEDS_CSUM != 0;
    let kind = match header.gso_type & !GSO_ECN {
        GSO_NONE => return partial.then(|| "checksum left to the receiver".to_owned()),
        GSO_TCPV4 => "TCP over IPv4",
        GSO_TCPV6 => "TCP over IPv6",
        GSO_UDP => "UDP, to be fragmented",
        GSO_UDP_L4 => "UDP",
        _ => "unknown",
    };
    Some(format!("to be segmented: {kind}, {} bytes of payload each", header.gso_size))
}

/// Writes one block around `body`, which is a multiple of four bytes.
fn block(to: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let total = length(body.len().saturating_add(12))?.to_le_bytes();
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&total)?;
    to.write_all(body)?;
    to.write_all(&total)
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Options are short: their length fits 16 bits.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
