//! Frames of a guest at 10.77.0.2 that talks to the host at 10.77.0.1.
#![allow(
    dead_code,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]

pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const GUEST: [u8; 4] = [10, 77, 0, 2];
pub const HOST: [u8; 4] = [10, 77, 0, 1];
/// Where the transport header begins.
pub const TRANSPORT: usize = 14 + 20;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn pseudo(from: [u8; 4], to: [u8; 4], protocol: u8, len: usize) -> u32 {
    u32::from(sum(&[&from[..], &to[..], &[0, protocol]].concat(), len as u32))
}

/// How the transport checksum is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    Complete,
    /// Of the pseudo header only: for whoever completes it.
    Partial,
}

/// An IPv4 frame from guest to host around a transport segment whose checksum field is at `field`.
pub fn frame(protocol: u8, mut segment: Vec<u8>, field: usize, checksum: Checksum) -> Vec<u8> {
    let start = pseudo(GUEST, HOST, protocol, segment.len());
    let value = match checksum {
        Checksum::Complete => !sum(&segment, start),
        Checksum::Partial => start as u16,
    };
    segment[field..field + 2].copy_from_slice(&value.to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    ip.extend(GUEST);
    ip.extend(HOST);
    ip[2..4].copy_from_slice(&((20 + segment.len()) as u16).to_be_bytes());
    let header = !sum(&ip, 0);
    ip[10..12].copy_from_slice(&header.to_be_bytes());
    [&HOST_MAC[..], &GUEST_MAC, &[8, 0], &ip, &segment].concat()
}

pub fn udp(from: u16, to: u16, payload: &[u8], checksum: Checksum) -> Vec<u8> {
    let mut segment = Vec::new();
    for word in [from, to, 8 + payload.len() as u16, 0] {
        segment.extend(word.to_be_bytes());
    }
    segment.extend(payload);
    frame(UDP, segment, 6, checksum)
}

pub struct Tcp<'a> {
    pub from: u16,
    pub to: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// A multiple of four bytes.
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

impl Tcp<'_> {
    pub fn frame(&self, checksum: Checksum) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.from.to_be_bytes());
        segment.extend(self.to.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([((20 + self.options.len()) as u8 / 4) << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(self.options);
        segment.extend(self.payload);
        frame(TCP, segment, 16, checksum)
    }
}

/// The transport segment of an IPv4 frame from host to guest of this protocol, without Ethernet's padding.
pub fn segment(frame: &[u8], protocol: u8) -> Option<&[u8]> {
    let ipv4 = frame.get(12..14)? == [8, 0] && frame[14] == 0x45 && frame[23] == protocol && frame[30..34] == GUEST;
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    if ipv4 { frame.get(TRANSPORT..14 + total) } else { None }
}

/// True if the transport checksum of a segment from host to guest is complete.
pub fn is_complete(segment: &[u8], protocol: u8) -> bool {
    sum(segment, pseudo(HOST, GUEST, protocol, segment.len())) == 0xffff
}
