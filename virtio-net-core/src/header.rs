//! `struct virtio_net_hdr` (virtio 1.3, 5.1.6).

/// Size in bytes of the header between this crate and a back end: the modern one without a hash.
pub const BACKEND_HEADER_LEN: usize = 12;

/// `flags`: the checksum from `csum_start` on is for the receiver of this header to complete.
pub const NEEDS_CSUM: u8 = 1;
/// `flags`: the checksum was found valid.
pub const DATA_VALID: u8 = 2;
/// `gso_type`: not a frame to segment.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: UDP to fragment (UFO).
pub const GSO_UDP: u8 = 3;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP to segment (USO).
pub const GSO_UDP_L4: u8 = 5;
/// `gso_type`, added to a TCP one: the segments carry ECN marks.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr` on the host, in the host's byte order, without `num_buffers` and what follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[doc(alias = "virtio_net_hdr")]
pub struct NetHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// [`GSO_NONE`] and the others.
    pub gso_type: u8,
    /// Length in bytes of the headers, to and including the transport's.
    pub hdr_len: u16,
    /// Payload bytes of a segment.
    pub gso_size: u16,
    /// Where the checksum begins, in bytes from the frame's start.
    pub csum_start: u16,
    /// Where to put the checksum, in bytes behind `csum_start`.
    pub csum_offset: u16,
}

impl NetHeader {
    /// The header of a complete frame.
    pub const NONE: Self =
        Self { flags: 0, gso_type: GSO_NONE, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Reads the first ten bytes, little-endian.
    #[must_use]
    #[inline]
    pub const fn from_bytes(bytes: &[u8; BACKEND_HEADER_LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, _, _] = *bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// The twelve bytes with `num_buffers`, little-endian.
    #[must_use]
    #[inline]
    pub const fn to_bytes(self, num_buffers: u16) -> [u8; BACKEND_HEADER_LEN] {
        let [h0, h1] = self.hdr_len.to_le_bytes();
        let [g0, g1] = self.gso_size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        let [n0, n1] = num_buffers.to_le_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1, n0, n1]
    }
}
