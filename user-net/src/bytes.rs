//! Reading and writing fields of packets, and the Internet checksum (RFC 1071).

use std::net::IpAddr;

/// The 16-bit field at byte `at`.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Writes a field. Bytes that do not exist stay unwritten: callers have sized the frame.
pub(crate) fn set(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(field.len())) {
        place.copy_from_slice(field);
    }
}

/// `N` bytes from `at` on.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The one's complement sum of `bytes`, not folded, to be added to others.
///
/// Only the last of several pieces may have an odd length.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut sum = 0_u64;
    for chunk in &mut chunks {
        let word = chunk.first_chunk().copied().map_or(0, u64::from_ne_bytes);
        // At most 2^33 for each 8 bytes: frames are far too short to overflow.
        sum = sum.wrapping_add(word >> 32).wrapping_add(word & 0xffff_ffff);
    }
    let mut last = [0; 8];
    set(&mut last, 0, chunks.remainder());
    let word = u64::from_ne_bytes(last);
    sum = sum.wrapping_add(word >> 32).wrapping_add(word & 0xffff_ffff);
    // From the host's byte order to the network's: swapping commutes with the sum (RFC 1071, 2B).
    u64::from(u16::from_be_bytes(fold(sum).to_ne_bytes()))
}

/// Folds a sum to 16 bits.
pub(crate) const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    sum as u16 // at most 16 bits are left
}

/// Sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
pub(crate) fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u64 {
    let addresses = match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => sum(&s.octets()).wrapping_add(sum(&d.octets())),
        (IpAddr::V6(s), IpAddr::V6(d)) => sum(&s.octets()).wrapping_add(sum(&d.octets())),
        _ => 0,
    };
    addresses.wrapping_add(protocol.into()).wrapping_add(len as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_1071() {
        // The example of section 3.
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
        for len in 0..70_usize {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 37 + 11) as u8).collect();
            let plain: u64 = bytes.chunks(2).map(|c| u64::from(c[0]) << 8 | u64::from(*c.get(1).unwrap_or(&0))).sum();
            assert_eq!(fold(sum(&bytes)), fold(plain), "{len} bytes");
        }
    }
}
