//! Where the parts of a frame are, and the making of new frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bytes::{array, be16, fold, pseudo, set, sum};
use crate::phy::{ETHERNET, Frame};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const UDP_HEADER: usize = 8;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const IPV6_HEADER: usize = 40;
const IPV4_HEADER: usize = 20;
const HOP_LIMIT: u8 = 64;

/// An IP packet in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Where it says that it comes from.
    pub src: IpAddr,
    /// Where it goes.
    pub dst: IpAddr,
    /// The transport's number (IPv6: of the first header behind the fixed one).
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Bytes from the frame's start to the transport header.
    pub l4: usize,
    /// Bytes from the frame's start to the packet's end.
    pub end: usize,
    /// A part of a larger packet.
    pub fragment: bool,
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// ARP.
    Arp,
    /// IPv4 or IPv6.
    Ip(Packet),
}

/// Why a frame is not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Odd {
    EtherType,
    Header,
}

/// Finds the parts of a frame. Lengths are checked, checksums are not.
pub(crate) fn parse(frame: &[u8]) -> Result<Kind, Odd> {
    match be16(frame, 12).ok_or(Odd::Header)? {
        ARP => Ok(Kind::Arp),
        IPV4 => ipv4(frame).map(Kind::Ip).ok_or(Odd::Header),
        IPV6 => ipv6(frame).map(Kind::Ip).ok_or(Odd::Header),
        _ => Err(Odd::EtherType),
    }
}

fn ipv4(frame: &[u8]) -> Option<Packet> {
    let [version, _, l0, l1, _, _, f0, f1, hop_limit, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        array(frame, ETHERNET)?;
    let header = usize::from(version & 15).saturating_mul(4);
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    let end = total.saturating_add(ETHERNET);
    let sound = version >> 4 == 4 && (IPV4_HEADER..=total).contains(&header) && end <= frame.len();
    sound.then_some(Packet {
        src: Ipv4Addr::new(s0, s1, s2, s3).into(),
        dst: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol,
        hop_limit,
        l4: header.saturating_add(ETHERNET),
        end,
        // More fragments, or an offset.
        fragment: u16::from_be_bytes([f0, f1]) & 0x3fff != 0,
    })
}

fn ipv6(frame: &[u8]) -> Option<Packet> {
    let [version, _, _, _, l0, l1, protocol, hop_limit] = array(frame, ETHERNET)?;
    let l4 = ETHERNET.saturating_add(IPV6_HEADER);
    let end = l4.saturating_add(u16::from_be_bytes([l0, l1]).into());
    (version >> 4 == 6 && end <= frame.len()).then_some(Packet {
        src: Ipv6Addr::from(array::<16>(frame, 22)?).into(),
        dst: Ipv6Addr::from(array::<16>(frame, 38)?).into(),
        protocol,
        hop_limit,
        l4,
        end,
        fragment: protocol == 44,
    })
}

/// Makes the length fields of an IP header those of the frame. False if they cannot be.
pub(crate) fn stretch(frame: &mut [u8]) -> bool {
    let Some(ip) = frame.len().checked_sub(ETHERNET) else { return false };
    let (at, len) = match be16(frame, 12) {
        Some(IPV4) => (16, Some(ip)),
        Some(IPV6) => (18, ip.checked_sub(IPV6_HEADER)),
        _ => return false,
    };
    let Some(len) = len.and_then(|n| u16::try_from(n).ok()) else { return false };
    set(frame, at, &len.to_be_bytes());
    true
}

/// True if the IPv4 header's checksum is right.
pub(crate) fn ipv4_header_is_sound(frame: &[u8], l4: usize) -> bool {
    frame.get(ETHERNET..l4).is_some_and(|header| fold(sum(header)) == 0xffff)
}

/// Fills in the IPv4 header's checksum.
pub(crate) fn seal_ipv4(frame: &mut [u8], l4: usize) {
    set(frame, 24, &[0, 0]);
    let check = !fold(sum(frame.get(ETHERNET..l4).unwrap_or_default()));
    set(frame, 24, &check.to_be_bytes());
}

impl Packet {
    /// The transport header and what follows, in `frame`.
    pub(crate) fn transport<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(self.l4..self.end).unwrap_or_default()
    }

    /// Sum of the pseudo header.
    pub(crate) fn pseudo(&self) -> u64 {
        pseudo(self.src, self.dst, self.protocol, self.end.saturating_sub(self.l4))
    }

    /// True if the transport's checksum is right.
    pub(crate) fn transport_is_sound(&self, frame: &[u8]) -> bool {
        fold(self.pseudo().wrapping_add(sum(self.transport(frame)))) == 0xffff
    }

    /// Source and destination port of TCP and UDP.
    pub(crate) fn ports(&self, frame: &[u8]) -> Option<(u16, u16)> {
        Some((be16(frame, self.l4)?, be16(frame, self.l4.saturating_add(2))?))
    }

    /// Payload of a UDP datagram.
    pub(crate) fn datagram<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        let transport = self.transport(frame);
        let len = usize::from(be16(transport, 4)?);
        transport.get(UDP_HEADER..len)
    }

    /// Bytes of a TCP header with its options.
    pub(crate) fn tcp_header(&self, frame: &[u8]) -> Option<usize> {
        let transport = self.transport(frame);
        let len = usize::from(transport.get(12)? >> 4).saturating_mul(4);
        (20..=transport.len()).contains(&len).then_some(len)
    }
}

/// A TCP option of this kind: where its data is among the options, and the data.
pub(crate) fn option(options: &[u8], kind: u8) -> Option<(usize, &[u8])> {
    let mut at = 0_usize;
    loop {
        match options.get(at..)? {
            [] | [0, ..] | [_] => return None,
            [1, ..] => at = at.saturating_add(1),
            [found, len, ..] => {
                let end = at.saturating_add(usize::from(*len).max(2));
                let start = at.saturating_add(2);
                if *found == kind {
                    return Some((start, options.get(start..end)?));
                }
                at = end;
            }
        }
    }
}

/// Addresses of a frame to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) src_mac: [u8; 6],
    pub(crate) dst_mac: [u8; 6],
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
}

impl Route {
    /// Back to where `frame` came from.
    pub(crate) fn back(frame: &[u8], packet: &Packet, own_mac: [u8; 6]) -> Self {
        let dst_mac = array(frame, 6).unwrap_or_default();
        Self { src_mac: own_mac, dst_mac, src: packet.dst, dst: packet.src }
    }

    /// Writes the headers of a packet with `len` bytes behind the IP header; returns where those begin.
    pub(crate) fn headers(&self, frame: &mut Frame, protocol: u8, len: usize) -> usize {
        let (ethertype, header) = if self.src.is_ipv4() { (IPV4, IPV4_HEADER) } else { (IPV6, IPV6_HEADER) };
        let l4 = ETHERNET.saturating_add(header);
        frame.set_len(l4.saturating_add(len));
        let bytes = frame.bytes_mut();
        set(bytes, 0, &self.dst_mac);
        set(bytes, 6, &self.src_mac);
        set(bytes, 12, &ethertype.to_be_bytes());
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                // No options, do not fragment, identification 0 (RFC 6864).
                set(bytes, 14, &[0x45, 0, 0, 0, 0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0]);
                set(bytes, 26, &src.octets());
                set(bytes, 30, &dst.octets());
                stretch(bytes);
                seal_ipv4(bytes, l4);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                // Router advertisements must have 255 (RFC 4861, 4.2).
                let hop_limit = if protocol == ICMPV6 { 255 } else { HOP_LIMIT };
                set(bytes, 14, &[0x60, 0, 0, 0, 0, 0, protocol, hop_limit]);
                set(bytes, 22, &src.octets());
                set(bytes, 38, &dst.octets());
                stretch(bytes);
            }
            // Both come from one packet.
            _ => {}
        }
        l4
    }

    /// Makes a UDP datagram; its checksum is left to [`finish`](crate::offload::finish).
    pub(crate) fn datagram(&self, frame: &mut Frame, ports: (u16, u16), payload: &[u8]) {
        let len = payload.len().saturating_add(UDP_HEADER);
        let l4 = self.headers(frame, UDP, len);
        let [[s0, s1], [d0, d1]] = [ports.0.to_be_bytes(), ports.1.to_be_bytes()];
        let [l0, l1] = (len as u16).to_be_bytes(); // no longer than the MTU
        set(frame.bytes_mut(), l4, &[s0, s1, d0, d1, l0, l1, 0, 0]);
        set(frame.bytes_mut(), l4.saturating_add(UDP_HEADER), payload);
    }

    /// Makes an ICMPv6 message, checksum and all.
    pub(crate) fn icmpv6(&self, frame: &mut Frame, message: &[u8]) {
        let l4 = self.headers(frame, ICMPV6, message.len());
        set(frame.bytes_mut(), l4, message);
        set(frame.bytes_mut(), l4.saturating_add(2), &[0, 0]);
        let total = pseudo(self.src, self.dst, ICMPV6, message.len());
        let check = !fold(total.wrapping_add(sum(frame.bytes().get(l4..).unwrap_or_default())));
        set(frame.bytes_mut(), l4.saturating_add(2), &check.to_be_bytes());
    }
}
