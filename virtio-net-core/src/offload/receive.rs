//! What a driver is shown of the header that a host end gives, and the checksum that is completed for a driver that does not
//! do so itself.

use net_filter::{FrameHead, ethertype};
use virtio_ring::GuestSlice;

use super::csum_fits;
use crate::header::{DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, NetHeader};

/// Length of a UDP header, and of a TCP header without options.
const UDP_LEN: usize = 8;
const TCP_LEN: usize = 20;
/// Where a TCP header says how long it is.
const TCP_OFFSET: usize = 12;

/// The header to show to a driver that may be shown the flags `shown`, for a frame of `len` bytes that begins with `head`; and
/// what has to be completed for that. `None` if it cannot be completed; whether the header may be shown is another question.
#[inline]
pub(crate) fn resolve(
    header: &NetHeader,
    shown: u8,
    head: &[u8],
    len: usize,
) -> Option<(NetHeader, Option<Completion>)> {
    if header.flags == 0 && header.gso_type == GSO_NONE {
        return Some((NetHeader::NONE, None));
    }
    resolve_offload(header, shown, head, len)
}

#[inline(never)]
fn resolve_offload(header: &NetHeader, shown: u8, head: &[u8], len: usize) -> Option<(NetHeader, Option<Completion>)> {
    if header.gso_type != GSO_NONE {
        // virtio 1.3, 5.1.6.4.1: not less than the headers, the transport's included; and no more than there is.
        let most = u16::try_from(len).unwrap_or(u16::MAX);
        let hdr_len = header.hdr_len.max(headers_len(header, head)).min(most);
        return Some((NetHeader { hdr_len, ..*header }, None));
    }
    if header.flags & !(NEEDS_CSUM | DATA_VALID) != 0 {
        return Some((*header, None));
    }
    // Without GUEST_CSUM no flag and a complete checksum. One that was found valid is complete.
    let flags = header.flags & shown;
    if header.flags & NEEDS_CSUM == 0 {
        return Some((NetHeader { flags, ..NetHeader::NONE }, None));
    }
    // With a partial checksum, what comes before it counts as checked.
    if flags & NEEDS_CSUM != 0 && ip_header_is_sound(head) {
        return Some((NetHeader { flags, ..*header }, None));
    }
    Completion::new(header, len).map(|completion| (NetHeader::NONE, Some(completion)))
}

/// False if the frame begins with an IPv4 header whose checksum is wrong.
fn ip_header_is_sound(head: &[u8]) -> bool {
    let Some(frame) = FrameHead::parse(head).filter(|frame| frame.ethertype == ethertype::IPV4) else { return true };
    let packet = head.get(frame.l3..).unwrap_or_default();
    let words = packet.first().map_or(0, |byte| usize::from(byte & 0xf));
    packet.get(..words.saturating_mul(4)).is_some_and(|header| fold(sum(header)) == 0xffff)
}

/// Length of the headers of a frame to segment, as far as it can be seen: the transport's is where the checksum begins.
fn headers_len(header: &NetHeader, head: &[u8]) -> u16 {
    let start = usize::from(header.csum_start);
    let len = match header.gso_type & !GSO_ECN {
        GSO_TCPV4 | GSO_TCPV6 => {
            let words = head.get(start.saturating_add(TCP_OFFSET)).map_or(0, |byte| byte >> 4);
            TCP_LEN.max(usize::from(words).saturating_mul(4))
        }
        _ => UDP_LEN,
    };
    u16::try_from(start.saturating_add(len)).unwrap_or(u16::MAX)
}

/// The checksum of a frame as it is put together from the frame's pieces, which come in order: the ones' complement sum of
/// everything from `csum_start` on (RFC 1071), the field itself with the sum of the pseudo-header included.
#[derive(Debug)]
pub(crate) struct Completion {
    /// Bytes of the frame that are still to be passed over.
    skip: usize,
    /// Where the checksum belongs, in bytes from the frame's start.
    field: usize,
    sum: u64,
    /// An odd number of bytes was added.
    odd: bool,
}

impl Completion {
    /// `None` if there is no place for the checksum in a frame of `len` bytes. At an odd offset no transport has one.
    fn new(header: &NetHeader, len: usize) -> Option<Self> {
        let skip = usize::from(header.csum_start);
        let field = skip.saturating_add(header.csum_offset.into());
        (csum_fits(header, len) && header.csum_offset.is_multiple_of(2)).then_some(Self {
            skip,
            field,
            sum: 0,
            odd: false,
        })
    }

    /// Adds the next bytes of the frame.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let counted = bytes.get(self.skip..).unwrap_or_default();
        self.skip = self.skip.saturating_sub(bytes.len());
        let sum = fold(sum(counted));
        // Behind an odd number of bytes each of these is the other half of its word.
        let sum = if self.odd { sum.swap_bytes() } else { sum };
        self.sum = self.sum.wrapping_add(sum.into());
        self.odd ^= !counted.len().is_multiple_of(2);
    }

    /// Adds the next `len` bytes, which are in guest memory already. A driver that changes them meanwhile gets a checksum of
    /// whatever it made of them.
    pub(crate) fn add_placed(&mut self, segs: &[GuestSlice<'_>], len: usize) {
        let (mut copy, mut left) = ([0; 256], len);
        for seg in segs {
            let mut seg = seg.take(left);
            left = left.saturating_sub(seg.len());
            while !seg.is_empty() {
                let n = seg.read(&mut copy);
                self.add(copy.get(..n).unwrap_or_default());
                seg = seg.skip(n);
            }
        }
    }

    /// Where the checksum belongs, in bytes from the frame's start, and what it is.
    pub(crate) fn finish(&self) -> (usize, [u8; 2]) {
        // 0xffff is the same number as 0, which in UDP says that there is no checksum (RFC 768).
        let sum = match !fold(self.sum) {
            0 => 0xffff,
            sum => sum,
        };
        (self.field, sum.to_be_bytes())
    }
}

/// The sum of the words, the last of which may be half of one.
fn sum(bytes: &[u8]) -> u64 {
    let (words, last) = bytes.as_chunks();
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u16::from_be_bytes(*word).into()));
    sum.wrapping_add(last.first().map_or(0, |byte| u16::from_be_bytes([*byte, 0])).into())
}

/// Adds the carries until none is left.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    sum as u16
}
