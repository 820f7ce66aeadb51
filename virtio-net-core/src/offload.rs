//! Checks what a transmit header says of its frame, and what may be said to a driver.
//!
//! The rules are those of virtio 1.3, 5.1.6.2.2, and those that a Linux tap applies to the same header, so that what
//! passes here does not fail there. On top of them a frame to segment must be what its header says: the headers are
//! parsed, on the host copy, and the header that leaves is made from what was found.

mod gso;
mod receive;

use crate::features::Features;
use crate::header::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader};
use crate::rx::RxFormat;
use crate::tx::TxFormat;

pub use gso::{MAX_USO_SEGMENTS, MIN_GSO_SIZE};
pub(crate) use receive::{Completion, resolve};

/// Where a checksum can begin at the earliest: behind an Ethernet and the shortest network header.
pub const MIN_CSUM_START: u16 = 34;

/// How frames for a driver that acknowledged these features look. The MTU is the device's to say:
/// [`NetDevice::rx_format`](crate::NetDevice::rx_format).
#[must_use]
pub fn rx_format(acked: Features) -> RxFormat {
    let mut gso_types = 0;
    for (kind, needed) in [
        (GSO_TCPV4, Features::GUEST_TSO4),
        (GSO_TCPV6, Features::GUEST_TSO6),
        (GSO_UDP, Features::GUEST_UFO),
        // The type does not say which IP it is, so the driver has to take both.
        (GSO_UDP_L4, Features::GUEST_USO4.union(Features::GUEST_USO6)),
    ] {
        gso_types |= bit_of(kind, acked, needed);
    }
    RxFormat {
        header_len: acked.header_len(),
        mergeable: acked.contains(Features::MRG_RXBUF),
        flags: if acked.contains(Features::GUEST_CSUM) { crate::header::DATA_VALID | NEEDS_CSUM } else { 0 },
        gso_types,
        ecn: acked.contains(Features::GUEST_ECN),
        mtu: None,
        steered: false,
    }
}

/// How frames from a driver that acknowledged these features look.
#[must_use]
pub const fn tx_format(acked: Features) -> TxFormat {
    TxFormat { header_len: acked.header_len(), offloads: TxOffloads::new(acked) }
}

/// Bit `kind` if all of `needed` was acknowledged.
const fn bit_of(kind: u8, acked: Features, needed: Features) -> u8 {
    if acked.contains(needed) { 1_u8.wrapping_shl(kind as u32) } else { 0 }
}

/// The transmit offloads that a driver acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxOffloads {
    csum: bool,
    ecn: bool,
    /// Bit n set: `gso_type` n.
    gso_types: u8,
}

/// What is wrong with a transmit header: the frame must not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// A partial checksum without `VIRTIO_NET_F_CSUM`.
    #[error("frame with a partial checksum, but CSUM was not acknowledged")]
    CsumNotAcked,
    /// The checksum does not lie in the frame, or begins in front of every transport header.
    #[error("checksum from byte {start} at offset {offset} in a frame of {len} bytes, expected inside, from 34 on")]
    CsumRange {
        /// `csum_start`.
        start: u16,
        /// `csum_offset`.
        offset: u16,
        /// Length of the frame in bytes.
        len: usize,
    },
    /// A `gso_type` that is unknown, was not acknowledged, or has the ECN bit where it may not be.
    #[error("gso_type {gso_type:#x} was not acknowledged")]
    GsoType {
        /// `gso_type`.
        gso_type: u8,
    },
    /// A `gso_size` that nobody segments to.
    #[error("gso_size {gso_size} for gso_type {gso_type:#x}, expected {min} to 65534")]
    GsoSize {
        /// `gso_type`.
        gso_type: u8,
        /// `gso_size`.
        gso_size: u16,
        /// The least that is allowed for this type.
        min: u16,
    },
    /// UDP that would become more segments than a receiver has to take.
    #[error("{payload} bytes of UDP payload in segments of {gso_size}, expected at most 128 segments")]
    TooManySegments {
        /// Bytes to segment.
        payload: usize,
        /// `gso_size`.
        gso_size: u16,
    },
    /// UDP segmentation without a partial checksum.
    #[error("gso_type {gso_type:#x} without NEEDS_CSUM")]
    GsoWithoutCsum {
        /// `gso_type`.
        gso_type: u8,
    },
    /// The frame is not of the IP version that the type names, or not IP.
    #[error("gso_type {gso_type:#x} on a frame of ethertype {ethertype:#06x}")]
    GsoEthertype {
        /// `gso_type`.
        gso_type: u8,
        /// What the frame says, behind its VLAN tags.
        ethertype: u16,
    },
    /// The frame is not of the protocol that the type names.
    #[error("gso_type {gso_type:#x} on a frame of IP protocol {protocol}")]
    GsoProtocol {
        /// `gso_type`.
        gso_type: u8,
        /// The IP protocol, behind the extension headers.
        protocol: u8,
    },
    /// A fragment cannot be segmented.
    #[error("gso_type {gso_type:#x} on an IP fragment")]
    GsoFragment {
        /// `gso_type`.
        gso_type: u8,
    },
    /// An IP or transport header that contradicts itself, or that ends beyond the frame or the host copy.
    #[error("header at byte {at} of a frame to segment is malformed or ends beyond byte {end}")]
    GsoHeaders {
        /// Where the header begins.
        at: usize,
        /// Where it would have to end at the latest.
        end: usize,
    },
    /// The partial checksum is not the transport's.
    #[error("checksum from byte {start} at offset {offset}, expected the transport's from {expected} at {field}")]
    GsoCsum {
        /// `csum_start`.
        start: u16,
        /// `csum_offset`.
        offset: u16,
        /// Where the transport header begins.
        expected: usize,
        /// Offset of its checksum field.
        field: u16,
    },
}

impl TxOffloads {
    /// Those among the acknowledged features.
    #[must_use]
    pub const fn new(acked: Features) -> Self {
        Self {
            csum: acked.contains(Features::CSUM),
            ecn: acked.contains(Features::HOST_ECN),
            gso_types: bit_of(GSO_TCPV4, acked, Features::HOST_TSO4)
                | bit_of(GSO_TCPV6, acked, Features::HOST_TSO6)
                | bit_of(GSO_UDP, acked, Features::HOST_UFO)
                | bit_of(GSO_UDP_L4, acked, Features::HOST_USO),
        }
    }

    /// Checks the header against the frame and returns what may leave: only what a back end has to know, and nothing
    /// that the guest made up.
    ///
    /// `head` is the host copy of the frame's first [`HEAD_LEN`](crate::backend::HEAD_LEN) bytes, `len` the frame's
    /// length. Unknown flags and `DATA_VALID` are dropped, `hdr_len` is only a hint and is made anew, fields without a
    /// use are zero, and a frame that is no longer than one segment is not one to segment.
    ///
    /// A TCP or UFO frame to segment may come without `NEEDS_CSUM`, as Linux allows when it forwards; its header then
    /// has none either.
    ///
    /// # Errors
    /// [`HeaderFault`] if the frame must not be sent so.
    #[inline]
    pub fn check(&self, header: NetHeader, head: &[u8], len: usize) -> Result<NetHeader, HeaderFault> {
        if header.gso_type == GSO_NONE {
            // virtio 1.3, 5.1.6.2.2: unknown flags are ignored; without NEEDS_CSUM the checksum fields mean nothing.
            if header.flags & NEEDS_CSUM == 0 {
                return Ok(NetHeader::NONE);
            }
            if self.csum && csum_fits(&header, len) {
                return Ok(csum_only(&header));
            }
        }
        self.check_offload(&header, head, len)
    }

    /// The check of a frame to segment, and the name of what is wrong with any other.
    #[inline(never)]
    fn check_offload(&self, header: &NetHeader, head: &[u8], len: usize) -> Result<NetHeader, HeaderFault> {
        let mut clean = NetHeader::NONE;
        if header.flags & NEEDS_CSUM != 0 {
            if !self.csum {
                return Err(HeaderFault::CsumNotAcked);
            }
            if !csum_fits(header, len) {
                return Err(HeaderFault::CsumRange { start: header.csum_start, offset: header.csum_offset, len });
            }
            clean = csum_only(header);
        }
        let kind = self.check_type(header.gso_type)?;
        let found = gso::check(kind, header, head, len)?;
        if found.payload > usize::from(header.gso_size) {
            clean.gso_type = header.gso_type;
            clean.gso_size = header.gso_size;
            clean.hdr_len = found.hdr_len;
        }
        Ok(clean)
    }

    /// The type without its ECN bit, if it was acknowledged.
    #[inline]
    fn check_type(&self, gso_type: u8) -> Result<u8, HeaderFault> {
        let kind = gso_type & !GSO_ECN;
        let acked = kind < 8 && self.gso_types & 1_u8.wrapping_shl(kind.into()) != 0;
        let ecn = gso_type & GSO_ECN != 0;
        let ecn_fits = !ecn || (self.ecn && matches!(kind, GSO_TCPV4 | GSO_TCPV6));
        if acked && ecn_fits { Ok(kind) } else { Err(HeaderFault::GsoType { gso_type }) }
    }
}

/// True if the checksum lies in the frame.
#[inline]
pub(crate) fn csum_fits(header: &NetHeader, len: usize) -> bool {
    let end = usize::from(header.csum_start).saturating_add(usize::from(header.csum_offset)).saturating_add(2);
    header.csum_start >= MIN_CSUM_START && end <= len
}

/// The header of a frame that only lacks its checksum.
#[inline]
const fn csum_only(header: &NetHeader) -> NetHeader {
    NetHeader { flags: NEEDS_CSUM, csum_start: header.csum_start, csum_offset: header.csum_offset, ..NetHeader::NONE }
}

#[cfg(test)]
mod tests;
