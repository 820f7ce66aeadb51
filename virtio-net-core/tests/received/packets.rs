//! Frames of every kind that a host end gives, with checksums that are made and checked by plain arithmetic.

use virtio_net_core::{
    DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader,
};

/// The IP protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A frame and where things are in it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    /// Where the IP header begins.
    pub(crate) l3: usize,
    /// Where the transport header begins.
    pub(crate) l4: usize,
    /// Where it ends.
    pub(crate) payload: usize,
    protocol: u8,
    v6: bool,
}

/// The big-endian words of these bytes, added up modulo 65535: what a ones' complement sum is.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .fold(0, |sum, word| (sum + u32::from(word[0]) * 256 + word.get(1).map_or(0, |b| u32::from(*b))) % 65535)
}

impl Packet {
    /// A complete frame: IPv6 or IPv4, TCP or UDP, with so many tags and bytes of payload.
    pub(crate) fn new(v6: bool, tcp: bool, tags: usize, len: usize) -> Self {
        let mut bytes = vec![0x52, 0x54, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
        for tag in [[0x88, 0xa8, 0, 7], [0x81, 0, 0x20, 5]].iter().skip(2 - tags) {
            bytes.extend(tag);
        }
        let (protocol, header) = if tcp { (TCP, 32) } else { (UDP, 8) };
        let total = header + len;
        bytes.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        let l3 = bytes.len();
        if v6 {
            bytes.extend([0x60, 0, 0, 0, (total >> 8) as u8, total as u8, protocol, 64]);
            bytes.extend((0..32).map(|i| i * 7 + 1));
        } else {
            let total = total + 20;
            bytes.extend([0x45, 0, (total >> 8) as u8, total as u8, 1, 2, 0x40, 0, 64, protocol, 0, 0]);
            bytes.extend([10, 1, 2, 3, 10, 200, 250, 9]);
            let check = 65535 - sum(&bytes[l3..]);
            bytes[l3 + 10..l3 + 12].copy_from_slice(&(check as u16).to_be_bytes());
        }
        let l4 = bytes.len();
        bytes.extend([0x12, 0x34, 0, 80]);
        if tcp {
            bytes.extend([
                1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x10, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 1, 1, 1, 1, 2, 2, 2, 2,
            ]);
        } else {
            bytes.extend([(total >> 8) as u8, total as u8, 0, 0]);
        }
        let payload = bytes.len();
        bytes.extend((0..len).map(|i| (i * 31 + 17) as u8));
        let mut this = Self { bytes, l3, l4, payload, protocol, v6 };
        this.put(this.complete());
        this
    }

    /// Where the transport's checksum is.
    pub(crate) fn field(&self) -> usize {
        self.l4 + if self.protocol == TCP { 16 } else { 6 }
    }

    pub(crate) fn put(&mut self, check: u16) {
        let field = self.field();
        self.bytes[field..field + 2].copy_from_slice(&check.to_be_bytes());
    }

    fn found(&self) -> u16 {
        let field = self.field();
        u16::from_be_bytes([self.bytes[field], self.bytes[field + 1]])
    }

    /// The sum of the pseudo-header, as it is left in the field for somebody else to complete.
    pub(crate) fn pseudo(&self) -> u16 {
        let at = self.l3 + if self.v6 { 8 } else { 12 };
        let len = (self.bytes.len() - self.l4) as u32;
        ((sum(&self.bytes[at..self.l4]) + len + u32::from(self.protocol)) % 65535) as u16
    }

    /// The whole checksum: never 0, which in UDP says that there is none.
    pub(crate) fn complete(&self) -> u16 {
        let field = self.field();
        let all = u32::from(self.pseudo()) + sum(&self.bytes[self.l4..field]) + sum(&self.bytes[field + 2..]);
        (65535 - all % 65535) as u16
    }

    /// The same frame with its checksum left to the receiver, and the header that says so.
    pub(crate) fn partial(mut self) -> (NetHeader, Self) {
        self.put(self.pseudo());
        let header = NetHeader {
            flags: NEEDS_CSUM,
            csum_start: self.l4 as u16,
            csum_offset: (self.field() - self.l4) as u16,
            ..NetHeader::NONE
        };
        (header, self)
    }

    /// Parses a frame that was made here. `None` if it is not IP.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let mut l3 = 12;
        while [[0x81, 0], [0x88, 0xa8]].contains(&[frame[l3], frame[l3 + 1]]) {
            l3 += 4;
        }
        l3 += 2;
        let v6 = match [frame[l3 - 2], frame[l3 - 1]] {
            [8, 0] => false,
            [0x86, 0xdd] => true,
            _ => return None,
        };
        let (l4, protocol) = if v6 { (l3 + 40, frame[l3 + 6]) } else { (l3 + 20, frame[l3 + 9]) };
        let payload = l4 + if protocol == TCP { usize::from(frame[l4 + 12] >> 4) * 4 } else { 8 };
        Some(Self { bytes: frame.to_vec(), l3, l4, payload, protocol, v6 })
    }

    /// True if the IPv4 header's checksum is right.
    pub(crate) fn ip_is_right(&self) -> bool {
        self.v6 || sum(&self.bytes[self.l3..self.l4]) == 0
    }

    /// True if the transport's checksum is there and right.
    pub(crate) fn is_right(&self) -> bool {
        self.found() == self.complete()
    }

    /// True if the field has what a receiver adds the rest to.
    pub(crate) fn is_partial(&self) -> bool {
        self.found() % 65535 == self.pseudo() % 65535
    }

    pub(crate) const fn is_v6(&self) -> bool {
        self.v6
    }

    pub(crate) const fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }
}

/// A kind of frame: its name, what the host end says of it, and its bytes.
pub(crate) type Kind = (&'static str, NetHeader, Vec<u8>);

/// Everything that a host end may give to a driver that acknowledged everything.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut all: Vec<Kind> = Vec::new();
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6]);
    arp.extend([7; 46]);
    all.push(("ARP", NetHeader::NONE, arp));
    for (v6, tcp, name) in [(false, true, "TCP4"), (false, false, "UDP4"), (true, true, "TCP6"), (true, false, "UDP6")]
    {
        for tags in 0..=2 {
            for len in [0, 1, 333, 1200] {
                let whole = Packet::new(v6, tcp, tags, len);
                all.push((name, NetHeader::NONE, whole.bytes.clone()));
                all.push((name, NetHeader { flags: DATA_VALID, ..NetHeader::NONE }, whole.bytes.clone()));
                let (header, packet) = whole.partial();
                all.push((name, header, packet.bytes.clone()));
                all.extend(gso_types(v6, tcp).iter().filter(|_| len > 1000).map(|gso_type| {
                    let hdr_len = packet.payload as u16;
                    (name, NetHeader { gso_type: *gso_type, gso_size: 500, hdr_len, ..header }, packet.bytes.clone())
                }));
            }
        }
    }
    all
}

/// How such a frame may be segmented.
fn gso_types(v6: bool, tcp: bool) -> &'static [u8] {
    match (v6, tcp) {
        (false, true) => &[GSO_TCPV4, GSO_TCPV4 | GSO_ECN],
        (true, true) => &[GSO_TCPV6, GSO_TCPV6 | GSO_ECN],
        (_, false) => &[GSO_UDP, GSO_UDP_L4],
    }
}

/// What a driver has to acknowledge for a frame of this type, by bit, as virtio 1.3, 5.1.6.4.1 has it; any of them for UDP.
pub(crate) fn needed(gso_type: u8, v6: bool) -> &'static [u32] {
    match gso_type {
        GSO_NONE => &[],
        GSO_TCPV4 => &[7],
        0x81 => &[7, 9],
        GSO_TCPV6 => &[8],
        0x84 => &[8, 9],
        GSO_UDP => &[10],
        GSO_UDP_L4 if v6 => &[55],
        GSO_UDP_L4 => &[54],
        _ => &[127],
    }
}
