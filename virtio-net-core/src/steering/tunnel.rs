//! Packets in tunnels: where the inner header is (virtio 1.4, 5.1.6.4.4).

use net_filter::{FrameHead, ethertype};

use super::config::RssError;
use super::flow::{Flow, Payload, v4_payload, v6_payload};

bitflags::bitflags! {
    /// Kinds of tunnel: `enabled_tunnel_types`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct TunnelTypes: u32 {
        /// GRE without a key (RFC 2784).
        const GRE_2784 = 1;
        /// GRE with a key or sequence numbers (RFC 2890).
        const GRE_2890 = 1 << 1;
        /// GRE over IPv6 (RFC 7676).
        const GRE_7676 = 1 << 2;
        /// GRE in UDP (RFC 8086).
        const GRE_UDP = 1 << 3;
        /// VXLAN (RFC 7348).
        const VXLAN = 1 << 4;
        /// VXLAN with the generic protocol extension.
        const VXLAN_GPE = 1 << 5;
        /// Geneve (RFC 8926).
        const GENEVE = 1 << 6;
        /// IP in IP (RFC 2003, RFC 4213, RFC 2473).
        const IPIP = 1 << 7;
        /// NVGRE (RFC 7637).
        const NVGRE = 1 << 8;
    }
}

impl TunnelTypes {
    /// Reads the data of `VIRTIO_NET_CTRL_HASH_TUNNEL_SET`.
    ///
    /// # Errors
    /// [`RssError`]: of another length, or with a kind that there is not.
    pub fn parse(data: &[u8]) -> Result<Self, RssError> {
        let bytes = data.try_into().map_err(|_| RssError::Length { found: data.len(), expected: 4 })?;
        let bits = u32::from_le_bytes(bytes);
        Self::from_bits(bits).ok_or(RssError::Types { bits })
    }
}

const IPV4: u8 = 4;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;

/// Transparent Ethernet bridging: the payload is a frame.
const ETHERNET: u16 = 0x6558;

/// The flow of the packet inside of a frame with a tunnel of one of these kinds.
pub(super) fn inner(head: &[u8], types: TunnelTypes) -> Option<Flow<'_>> {
    let frame = FrameHead::parse(head)?;
    let packet = head.get(frame.l3..)?;
    let v6 = frame.ethertype == ethertype::IPV6;
    let Payload { protocol, bytes } = match frame.ethertype {
        ethertype::IPV4 => v4_payload(packet)?,
        ethertype::IPV6 => v6_payload(packet)?,
        _ => return None,
    };
    match protocol {
        IPV4 if types.contains(TunnelTypes::IPIP) => Flow::of_packet(ethertype::IPV4, bytes),
        IPV6 if types.contains(TunnelTypes::IPIP) => Flow::of_packet(ethertype::IPV6, bytes),
        GRE => in_gre(bytes, |kind| {
            types.contains(if v6 && kind != TunnelTypes::NVGRE { TunnelTypes::GRE_7676 } else { kind })
        }),
        UDP => in_udp(bytes, types),
        _ => None,
    }
}

/// The flow behind a GRE header of a kind that is `wanted`.
fn in_gre(bytes: &[u8], wanted: impl FnOnce(TunnelTypes) -> bool) -> Option<Flow<'_>> {
    let [flags, version, p0, p1, rest @ ..] = bytes else { return None };
    let protocol = u16::from_be_bytes([*p0, *p1]);
    // Checksum, routing, key, sequence number; any other flag makes it something else.
    let has = |flag: u8| usize::from(flags & flag != 0);
    if version & 7 != 0 || flags & 0x4f != 0 {
        return None;
    }
    let kind = match (flags & 0x30, protocol) {
        (0x20, ETHERNET) if flags & 0x80 == 0 => TunnelTypes::NVGRE,
        (0, _) => TunnelTypes::GRE_2784,
        _ => TunnelTypes::GRE_2890,
    };
    if !wanted(kind) {
        return None;
    }
    let words = has(0x80).wrapping_add(has(0x20)).wrapping_add(has(0x10)); // at most 3
    of_payload(protocol, rest.get(words.wrapping_mul(4)..)?)
}

/// The flow behind a UDP header, by the port that it is sent to.
fn in_udp(bytes: &[u8], types: TunnelTypes) -> Option<Flow<'_>> {
    let ([_, _, d0, d1, ..], rest) = bytes.split_first_chunk::<8>()?;
    let (kind, port) = (types, u16::from_be_bytes([*d0, *d1]));
    match port {
        4754 if kind.contains(TunnelTypes::GRE_UDP) => in_gre(rest, |_| true),
        4789 if kind.contains(TunnelTypes::VXLAN) => {
            let ([flags, ..], frame) = rest.split_first_chunk::<8>()?;
            if flags & 0x08 != 0 { Flow::of_frame(frame) } else { None }
        }
        4790 if kind.contains(TunnelTypes::VXLAN_GPE) => {
            let ([flags, _, _, next, ..], payload) = rest.split_first_chunk::<8>()?;
            // With the flag for it the next protocol is said, else it is a frame.
            let protocol = match (flags & 0x04 != 0, next) {
                (true, 1) => ethertype::IPV4,
                (true, 2) => ethertype::IPV6,
                (true, 3) | (false, _) => ETHERNET,
                _ => return None,
            };
            of_payload(protocol, payload)
        }
        6081 if kind.contains(TunnelTypes::GENEVE) => {
            let ([first, _, p0, p1, ..], payload) = rest.split_first_chunk::<8>()?;
            if first >> 6 != 0 {
                return None;
            }
            let options = usize::from(first & 0x3f).wrapping_mul(4); // at most 252
            of_payload(u16::from_be_bytes([*p0, *p1]), payload.get(options..)?)
        }
        _ => None,
    }
}

fn of_payload(protocol: u16, bytes: &[u8]) -> Option<Flow<'_>> {
    if protocol == ETHERNET { Flow::of_frame(bytes) } else { Flow::of_packet(protocol, bytes) }
}
