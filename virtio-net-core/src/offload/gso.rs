//! Frames to segment: are they what their header says?

use net_filter::{FrameHead, ethertype};

use super::HeaderFault;
use crate::header::{GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader};

/// Least payload of a TCP segment or a fragment, in bytes: what Linux itself leaves of its smallest segment size when
/// every option is used. Less would only multiply packets.
pub const MIN_GSO_SIZE: u16 = 8;
/// Most datagrams of one UDP frame to segment, as in Linux.
pub const MAX_USO_SEGMENTS: usize = 128;
/// The size that Linux uses for a mark of its own.
const GSO_SIZE_RESERVED: u16 = 0xffff;

const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// Offset of the checksum in either header.
const TCP_CSUM: u16 = 16;
const UDP_CSUM: u16 = 6;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// Most extension headers that are walked. RFC 8200, 4.1 knows fewer in front of the transport.
const MAX_EXTENSIONS: usize = 8;

/// What was found in a frame to segment.
pub(super) struct Found {
    /// Bytes to and including the transport header.
    pub(super) hdr_len: u16,
    /// Bytes to be cut into pieces of `gso_size`.
    pub(super) payload: usize,
}

/// The walk through the headers of one frame.
struct Headers<'a> {
    head: &'a [u8],
    /// Of the frame, in bytes.
    len: usize,
    gso_type: u8,
}

/// Checks a frame to segment of type `kind`, which was acknowledged.
pub(super) fn check(kind: u8, header: &NetHeader, head: &[u8], len: usize) -> Result<Found, HeaderFault> {
    let gso_type = header.gso_type;
    check_size(kind, header)?;
    let headers = Headers { head, len, gso_type };
    let (protocol, at) = headers.transport(kind)?;
    let tcp = matches!(kind, GSO_TCPV4 | GSO_TCPV6);
    if protocol != if tcp { TCP } else { UDP } {
        return Err(HeaderFault::GsoProtocol { gso_type, protocol });
    }
    check_csum(tcp, header, at)?;
    let end = if tcp { headers.tcp_end(at)? } else { headers.end(at, UDP_LEN, len)? };
    // UFO cuts the IP payload, so the UDP header counts.
    let payload = len.saturating_sub(if kind == GSO_UDP { at } else { end });
    if kind == GSO_UDP_L4 && payload > usize::from(header.gso_size).saturating_mul(MAX_USO_SEGMENTS) {
        return Err(HeaderFault::TooManySegments { payload, gso_size: header.gso_size });
    }
    // Not above the head's length and 60 bytes of TCP header.
    Ok(Found { hdr_len: end as u16, payload })
}

fn check_size(kind: u8, header: &NetHeader) -> Result<(), HeaderFault> {
    let (gso_type, gso_size) = (header.gso_type, header.gso_size);
    if kind == GSO_UDP_L4 && header.flags & NEEDS_CSUM == 0 {
        return Err(HeaderFault::GsoWithoutCsum { gso_type });
    }
    // Datagrams may be as small as an application wants: their number is bounded instead.
    let min = if kind == GSO_UDP_L4 { 1 } else { MIN_GSO_SIZE };
    if gso_size < min || gso_size == GSO_SIZE_RESERVED {
        return Err(HeaderFault::GsoSize { gso_type, gso_size, min });
    }
    Ok(())
}

/// If there is a partial checksum, it must be the transport's.
fn check_csum(tcp: bool, header: &NetHeader, transport: usize) -> Result<(), HeaderFault> {
    let (start, offset) = (header.csum_start, header.csum_offset);
    let field = if tcp { TCP_CSUM } else { UDP_CSUM };
    if header.flags & NEEDS_CSUM != 0 && (usize::from(start) != transport || offset != field) {
        return Err(HeaderFault::GsoCsum { start, offset, expected: transport, field });
    }
    Ok(())
}

impl Headers<'_> {
    /// The transport protocol and where its header begins.
    fn transport(&self, kind: u8) -> Result<(u8, usize), HeaderFault> {
        let end = self.head.len();
        let frame = FrameHead::parse(self.head).ok_or(HeaderFault::GsoHeaders { at: 0, end })?;
        match (frame.ethertype, kind) {
            (ethertype::IPV4, GSO_TCPV4 | GSO_UDP | GSO_UDP_L4) => self.ipv4(frame.l3),
            (ethertype::IPV6, GSO_TCPV6 | GSO_UDP | GSO_UDP_L4) => self.ipv6(frame.l3),
            (ethertype, _) => Err(HeaderFault::GsoEthertype { gso_type: self.gso_type, ethertype }),
        }
    }

    fn ipv4(&self, at: usize) -> Result<(u8, usize), HeaderFault> {
        let [version_ihl, _, _, _, _, _, fragment @ .., _, protocol] = *self.bytes::<10>(at)?;
        let len = usize::from(version_ihl & 0xf).saturating_mul(4);
        if version_ihl >> 4 != 4 || len < IPV4_LEN {
            return Err(self.bad_header(at));
        }
        // More fragments, or not the first one. "Don't fragment" is no matter.
        if u16::from_be_bytes(fragment) & 0x3fff != 0 {
            return Err(HeaderFault::GsoFragment { gso_type: self.gso_type });
        }
        Ok((protocol, self.end(at, len, self.head.len())?))
    }

    fn ipv6(&self, at: usize) -> Result<(u8, usize), HeaderFault> {
        let [version, _, _, _, _, _, next, _] = *self.bytes::<8>(at)?;
        if version >> 4 != 6 {
            return Err(self.bad_header(at));
        }
        let mut next = next;
        let mut at = self.end(at, IPV6_LEN, self.head.len())?;
        for _ in 0..MAX_EXTENSIONS {
            match next {
                // Hop-by-hop, routing and destination options (RFC 8200, 4.3, 4.4, 4.6).
                0 | 43 | 60 => {
                    let [after, len] = *self.bytes::<2>(at)?;
                    let len = usize::from(len).saturating_add(1).saturating_mul(8);
                    (next, at) = (after, self.end(at, len, self.head.len())?);
                }
                44 => return Err(HeaderFault::GsoFragment { gso_type: self.gso_type }),
                protocol => return Ok((protocol, at)),
            }
        }
        Ok((next, at))
    }

    /// Where the TCP header at `at` ends. Its options may lie beyond the host copy.
    fn tcp_end(&self, at: usize) -> Result<usize, HeaderFault> {
        self.end(at, TCP_LEN, self.head.len())?;
        let [.., offset] = *self.bytes::<13>(at)?;
        let len = usize::from(offset >> 4).saturating_mul(4);
        if len < TCP_LEN {
            return Err(self.bad_header(at));
        }
        self.end(at, len, self.len)
    }

    /// The end of `len` bytes from `at` on, if they lie in front of `limit`.
    fn end(&self, at: usize, len: usize, limit: usize) -> Result<usize, HeaderFault> {
        let end = at.saturating_add(len);
        if end > limit { Err(HeaderFault::GsoHeaders { at, end: limit }) } else { Ok(end) }
    }

    fn bytes<const N: usize>(&self, at: usize) -> Result<&[u8; N], HeaderFault> {
        self.head.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(|| self.bad_header(at))
    }

    fn bad_header(&self, at: usize) -> HeaderFault {
        HeaderFault::GsoHeaders { at, end: self.head.len() }
    }
}
