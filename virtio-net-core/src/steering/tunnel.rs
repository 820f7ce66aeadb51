//! Packets in tunnels: where the inner header is (virtio 1.4, 5.1.6.4.4).

use net_filter::{FrameHead, ethertype};

use super::config::RssError;
use super::flow::{Flow, Payload, V6, v4_payload};

bitflags::bitflags! {
    /// Kinds of tunnel: `enabled_tunnel_types`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct TunnelTypes: u32 {
        /// GRE over IPv4 without a key and sequence numbers (RFC 2784).
        const GRE_2784 = 1;
        /// GRE over IPv4 with a key or sequence numbers (RFC 2890).
        const GRE_2890 = 1 << 1;
        /// GRE over IPv6, and IPv6 in GRE (RFC 7676).
        const GRE_7676 = 1 << 2;
        /// GRE in UDP (RFC 8086).
        const GRE_UDP = 1 << 3;
        /// VXLAN (RFC 7348).
        const VXLAN = 1 << 4;
        /// VXLAN with the generic protocol extension.
        const VXLAN_GPE = 1 << 5;
        /// Geneve (RFC 8926).
        const GENEVE = 1 << 6;
        /// IPv4 in IPv4 (RFC 2003), and no other IP in IP.
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
const GRE: u8 = 47;

/// Transparent Ethernet bridging: the payload is a frame.
const ETHERNET: u16 = 0x6558;

/// What is in a tunnel.
pub(super) struct Inner<'h> {
    /// Its type; [`ETHERNET`] for a frame.
    protocol: u16,
    bytes: &'h [u8],
}

impl<'h> Inner<'h> {
    /// The flow that it belongs to, unless it is something else.
    pub(super) fn flow(&self) -> Option<Flow<'h>> {
        if self.protocol == ETHERNET { Flow::of_frame(self.bytes) } else { Flow::of_packet(self.protocol, self.bytes) }
    }
}

/// What is inside of a frame that is a tunnel of one of these kinds. Only one level is looked at.
pub(super) fn inner(head: &[u8], types: TunnelTypes) -> Option<Inner<'_>> {
    let frame = FrameHead::parse(head)?;
    let packet = head.get(frame.l3..)?;
    let v6 = frame.ethertype == ethertype::IPV6;
    let Payload { protocol, bytes } = match frame.ethertype {
        ethertype::IPV4 => v4_payload(packet)?,
        ethertype::IPV6 => V6::parse(packet)?.payload?,
        _ => return None,
    };
    match protocol {
        IPV4 if !v6 && types.contains(TunnelTypes::IPIP) => Some(Inner { protocol: ethertype::IPV4, bytes }),
        GRE => Gre::parse(bytes).filter(|gre| types.intersects(gre.kinds(v6))).map(|gre| gre.inner),
        UDP => in_udp(bytes, types),
        _ => None,
    }
}

/// A GRE header.
struct Gre<'h> {
    flags: u8,
    inner: Inner<'h>,
}

impl<'h> Gre<'h> {
    const CHECKSUM: u8 = 0x80;
    const KEY: u8 = 0x20;
    const SEQUENCE: u8 = 0x10;
    /// Source routes: another header (RFC 2784, 2.3). The bits behind these are ignored.
    const OTHER: u8 = 0x4c;

    fn parse(bytes: &'h [u8]) -> Option<Self> {
        let ([flags, version, p0, p1], rest) = bytes.split_first_chunk()?;
        if version & 7 != 0 || flags & Self::OTHER != 0 {
            return None;
        }
        let words = (flags & (Self::CHECKSUM | Self::KEY | Self::SEQUENCE)).count_ones() as usize;
        let bytes = rest.get(words.wrapping_mul(4)..)?; // at most 12
        Some(Self { flags: *flags, inner: Inner { protocol: u16::from_be_bytes([*p0, *p1]), bytes } })
    }

    /// The kinds that it is, as the references of virtio 1.4 tell them apart; `v6`: over IPv6.
    fn kinds(&self, v6: bool) -> TunnelTypes {
        let mut kinds = match (v6, self.flags & (Self::KEY | Self::SEQUENCE)) {
            (true, _) => TunnelTypes::GRE_7676,
            (false, 0) => TunnelTypes::GRE_2784,
            (false, _) => TunnelTypes::GRE_2890,
        };
        if self.inner.protocol == ethertype::IPV6 {
            kinds |= TunnelTypes::GRE_7676;
        }
        // RFC 7637, 3.2: a key, and nothing else.
        let nvgre = self.flags & (Self::CHECKSUM | Self::KEY | Self::SEQUENCE) == Self::KEY;
        if nvgre && self.inner.protocol == ETHERNET {
            kinds |= TunnelTypes::NVGRE;
        }
        kinds
    }
}

/// What is behind a UDP header, by the port that it is sent to.
fn in_udp(bytes: &[u8], types: TunnelTypes) -> Option<Inner<'_>> {
    let ([_, _, d0, d1, ..], rest) = bytes.split_first_chunk::<8>()?;
    let port = u16::from_be_bytes([*d0, *d1]);
    match port {
        4754 if types.contains(TunnelTypes::GRE_UDP) => Gre::parse(rest).map(|gre| gre.inner),
        4789 if types.contains(TunnelTypes::VXLAN) => {
            let ([flags, ..], bytes) = rest.split_first_chunk::<8>()?;
            (flags & 0x08 != 0).then_some(Inner { protocol: ETHERNET, bytes })
        }
        4790 if types.contains(TunnelTypes::VXLAN_GPE) => {
            let ([flags, _, _, next, ..], bytes) = rest.split_first_chunk::<8>()?;
            // Of version 0; with the flag for it the next protocol is said, else it is a frame.
            let protocol = match (flags & 0x34, next) {
                (4, 1) => ethertype::IPV4,
                (4, 2) => ethertype::IPV6,
                (4, 3) | (0, _) => ETHERNET,
                (4, _) => 0,
                _ => return None,
            };
            Some(Inner { protocol, bytes })
        }
        6081 if types.contains(TunnelTypes::GENEVE) => {
            let ([first, _, p0, p1, ..], rest) = rest.split_first_chunk::<8>()?;
            // Of version 0.
            if first >> 6 != 0 {
                return None;
            }
            let options = usize::from(first & 0x3f).wrapping_mul(4); // at most 252
            Some(Inner { protocol: u16::from_be_bytes([*p0, *p1]), bytes: rest.get(options..)? })
        }
        _ => None,
    }
}
