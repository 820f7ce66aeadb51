//! Frames of the cases, their headers and checksums.

use virtio_net_core::{NEEDS_CSUM, NetHeader};

/// A header to send, or one that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) net: NetHeader,
    pub(super) num_buffers: u16,
}

/// Of a complete frame.
pub(super) const NONE: Header = Header { net: NetHeader::NONE, num_buffers: 0 };

impl Header {
    /// The first twelve bytes, and zeros up to `len`.
    pub(super) fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = self.net.to_bytes(self.num_buffers).to_vec();
        bytes.resize(len, 0);
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Self {
        let Some(first) = bytes.first_chunk::<12>() else { return Self::default() };
        let [.., low, high] = *first;
        Self { net: NetHeader::from_bytes(first), num_buffers: u16::from_le_bytes([low, high]) }
    }
}

/// For experiments.
const PLAIN: [u8; 2] = [0x88, 0xb5];
const VLAN: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Of RFC 2544 and RFC 3849: no real network has them.
const HERE: [u8; 4] = [198, 18, 0, 1];
const THERE: [u8; 4] = [198, 18, 0, 2];
const PREFIX: [u8; 4] = [0x20, 0x01, 0x0d, 0xb8];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A frame of 60 bytes with a number in it.
pub(super) fn plain(to: [u8; 6], from: [u8; 6], number: u64) -> Vec<u8> {
    plain_of(to, from, number, 60)
}

/// The same of `len` bytes, at least 22.
pub(super) fn plain_of(to: [u8; 6], from: [u8; 6], number: u64, len: usize) -> Vec<u8> {
    let mut frame = crate::front::frame_to_itself(from, number, len);
    if let Some(place) = frame.first_chunk_mut() {
        *place = to;
    }
    frame
}

/// Lengths of frames that differ by `step`, from the shortest on.
pub(super) const fn length(number: u64, step: usize) -> usize {
    (number as usize).saturating_mul(step).saturating_add(60)
}

/// With a tag behind the addresses.
pub(super) fn tagged(mut frame: Vec<u8>, ad: bool, id: u16) -> Vec<u8> {
    let [protocol, service] = VLAN;
    let tag = [if ad { service } else { protocol }, id.to_be_bytes()].concat();
    frame.splice(12..12, tag);
    frame
}

/// Whether a frame is one of a case.
pub(super) fn is_ours(frame: &[u8]) -> bool {
    let mut rest = frame.get(12..).unwrap_or_default();
    while VLAN.iter().any(|tag| rest.starts_with(tag)) {
        rest = rest.get(4..).unwrap_or_default();
    }
    let at = |offset: usize, bytes: &[u8]| rest.get(offset..).is_some_and(|r| r.starts_with(bytes));
    rest.starts_with(&PLAIN) || rest.starts_with(&IPV4) && at(14, &HERE) || rest.starts_with(&IPV6) && at(10, &PREFIX)
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) v6: bool,
    pub(super) tcp: bool,
}

/// What is in the checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    Full,
    /// That of the pseudo-header, for the device to complete.
    Partial,
    Wrong,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [
        Self { v6: false, tcp: true },
        Self { v6: true, tcp: true },
        Self { v6: false, tcp: false },
        Self { v6: true, tcp: false },
    ];

    /// Where the transport's header begins in the frame.
    pub(super) const fn start(self) -> usize {
        if self.v6 { 54 } else { 34 }
    }

    /// Where its checksum is, from there.
    pub(super) const fn offset(self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    pub(super) const fn head(self) -> usize {
        self.start().wrapping_add(if self.tcp { 20 } else { 8 })
    }

    /// The header that asks the device to complete the checksum.
    pub(super) fn partial(self) -> NetHeader {
        NetHeader {
            flags: NEEDS_CSUM,
            csum_start: self.start() as u16,
            csum_offset: self.offset() as u16,
            ..NetHeader::NONE
        }
    }

    /// The one that asks it to segment as well.
    pub(super) fn segmented(self, gso_type: u8, size: u16) -> NetHeader {
        NetHeader { gso_type, gso_size: size, hdr_len: self.head() as u16, ..self.partial() }
    }

    /// A packet from a station to itself with this much payload.
    pub(super) fn packet(self, mac: [u8; 6], payload: usize, sum: Sum) -> Vec<u8> {
        let length = self.head().saturating_sub(self.start()).saturating_add(payload);
        let mut packet = [mac, mac].concat();
        packet.extend(self.network(length as u16));
        let transport = packet.len();
        packet.extend([0x30, 0x39, 0x00, 0x09]);
        if self.tcp {
            // Number, acknowledgement, five words, ACK and PSH, window, checksum, urgent.
            packet.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0x10, 0, 0, 0, 0, 0]);
        } else {
            packet.extend((length as u16).to_be_bytes());
            packet.extend([0, 0]);
        }
        packet.extend((0..payload).map(|i| (i as u8).wrapping_mul(7).wrapping_add((i >> 8) as u8)));
        let pseudo = pseudo(&packet, self);
        let value = match sum {
            Sum::Partial => pseudo,
            Sum::Full => !add(pseudo, packet.get(transport..).unwrap_or_default()),
            Sum::Wrong => 0x1234,
        };
        let field = transport.saturating_add(self.offset());
        if let Some(place) = packet.get_mut(field..).and_then(|p| p.first_chunk_mut()) {
            *place = value.to_be_bytes();
        }
        packet
    }

    fn network(self, length: u16) -> Vec<u8> {
        let protocol = if self.tcp { TCP } else { UDP };
        if self.v6 {
            let tail = |last: u8| [&PREFIX[..], &[0; 11], &[last]].concat();
            let [high, low] = length.to_be_bytes();
            let head = [&IPV6[..], &[0x60, 0, 0, 0, high, low, protocol, 64]].concat();
            return [head, tail(1), tail(2)].concat();
        }
        let [high, low] = length.saturating_add(20).to_be_bytes();
        let mut head = [&[0x45, 0, high, low, 0, 1, 0x40, 0, 64, protocol, 0, 0][..], &HERE, &THERE].concat();
        let sum = !add(0, &head);
        if let Some(place) = head.get_mut(10..).and_then(|h| h.first_chunk_mut()) {
            *place = sum.to_be_bytes();
        }
        [IPV4.to_vec(), head].concat()
    }

    /// The kind of a frame that came, if it is one of these.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let rest = frame.get(12..)?;
        let v6 = rest.starts_with(&IPV6);
        let protocol = *rest.get(if v6 { 8 } else { 11 })?;
        let known = (v6 || rest.starts_with(&IPV4)) && (protocol == TCP || protocol == UDP);
        known.then_some(Self { v6, tcp: protocol == TCP })
    }

    /// Bytes of payload in a frame, by the network header's length.
    pub(super) fn payload(self, frame: &[u8]) -> usize {
        let field = if self.v6 { 18 } else { 16 };
        let length =
            frame.get(field..).and_then(|f| f.first_chunk()).map_or(0, |b| usize::from(u16::from_be_bytes(*b)));
        let network = if self.v6 { 54 } else { 14 };
        length.saturating_add(network).saturating_sub(self.head())
    }

    /// The transport's bytes, by the network header's length.
    fn transport(self, frame: &[u8]) -> &[u8] {
        let end = self.payload(frame).saturating_add(self.head());
        frame.get(self.start()..end.min(frame.len())).unwrap_or_default()
    }

    /// Whether the checksum is complete and right.
    pub(super) fn is_right(self, frame: &[u8]) -> bool {
        add(pseudo(frame, self), self.transport(frame)) == 0xffff
    }

    /// What is in the checksum's field, and the sum of the pseudo-header.
    pub(super) fn sums(self, frame: &[u8]) -> (u16, u16) {
        let at = self.start().saturating_add(self.offset());
        let field = frame.get(at..).and_then(|f| f.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b));
        (field, pseudo(frame, self))
    }
}

/// The sum of the pseudo-header, not complemented.
fn pseudo(frame: &[u8], kind: Kind) -> u16 {
    let addresses = if kind.v6 { frame.get(22..54) } else { frame.get(26..34) };
    let network = if kind.v6 { 54 } else { 14 };
    let field = if kind.v6 { 18 } else { 16 };
    let length = frame.get(field..).and_then(|f| f.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b));
    let length = usize::from(length).saturating_add(network).saturating_sub(kind.start()) as u16;
    let protocol = u16::from(if kind.tcp { TCP } else { UDP });
    let tail = [protocol.to_be_bytes(), length.to_be_bytes()].concat();
    add(add(0, addresses.unwrap_or_default()), &tail)
}

/// One's complement sum of 16-bit words.
fn add(start: u16, bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    let sum = words.iter().fold(u64::from(start), |sum, word| sum.wrapping_add(u16::from_be_bytes(*word).into()));
    let mut sum = sum.wrapping_add(last);
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    sum as u16
}

/// The hash of receive-side scaling, bit by bit as it is defined: of each bit that is set, the key's 32 bits from there on.
pub(super) fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], n: usize| bytes.get(n / 8).is_some_and(|byte| byte.wrapping_shl(n as u32 & 7) & 0x80 != 0);
    let window = |n: usize| (0..32_usize).fold(0_u32, |word, i| word << 1 | u32::from(bit(key, n.wrapping_add(i))));
    let bits = input.len().saturating_mul(8);
    (0..bits).filter(|n| bit(input, *n)).fold(0, |hash, n| hash ^ window(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_published_examples() {
        // Microsoft's verification suite: 66.9.149.187:2794 to 161.142.100.80:1766.
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
            0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
            0xbe, 0xac, 0x01, 0xfa,
        ];
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!((toeplitz(&key, &input), toeplitz(&key, &input[..8])), (0x51cc_c178, 0x323e_8fc2));
    }

    #[test]
    fn packets_have_the_sums_that_they_should_have() {
        for kind in Kind::ALL {
            for payload in [0, 1, 100, 1001] {
                let full = kind.packet([2; 6], payload, Sum::Full);
                assert!(kind.is_right(&full), "{kind:?} {payload}");
                assert_eq!((Kind::of(&full), kind.payload(&full)), (Some(kind), payload));
                let partial = kind.packet([2; 6], payload, Sum::Partial);
                let (field, sum) = kind.sums(&partial);
                assert_eq!(field, sum, "{kind:?}");
                assert!(!kind.is_right(&partial) && !kind.is_right(&kind.packet([2; 6], payload, Sum::Wrong)));
                assert!(is_ours(&full) && is_ours(&tagged(full.clone(), true, 7)));
            }
        }
    }

    #[test]
    fn sums_agree_with_another_implementation() {
        use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};
        for kind in Kind::ALL {
            let frame = kind.packet([2; 6], 77, Sum::Full);
            let (from, to, transport) = if kind.v6 {
                let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
                (packet.src_addr().into(), packet.dst_addr().into(), packet.payload().to_vec())
            } else {
                let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
                assert!(packet.verify_checksum());
                (packet.src_addr().into(), packet.dst_addr().into(), packet.payload().to_vec())
            };
            let right = if kind.tcp {
                TcpPacket::new_checked(&transport).unwrap().verify_checksum(&from, &to)
            } else {
                UdpPacket::new_checked(&transport).unwrap().verify_checksum(&from, &to)
            };
            assert!(right, "{kind:?}");
        }
    }

    #[test]
    fn others_are_not_ours() {
        assert!(is_ours(&plain([2; 6], [4; 6], 1)) && is_ours(&tagged(plain([2; 6], [4; 6], 1), false, 1)));
        for foreign in [&[0; 60][..], &[], &[0x81; 14]] {
            assert!(!is_ours(foreign));
        }
    }
}
