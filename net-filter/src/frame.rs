//! The head of an Ethernet frame.

use crate::addr::MacAddr;

/// Bytes of an Ethernet header without a tag.
pub const ETHER_LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;

/// Values of the type field that this project knows.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// A VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// The outer of two VLAN tags (802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// One VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanTag {
    /// [`ethertype::VLAN`] or [`ethertype::SERVICE_VLAN`].
    pub tpid: u16,
    /// Priority, drop bit and VLAN, as in the frame.
    pub tci: u16,
}

impl VlanTag {
    /// The VLAN, 0 to 4095; 0 means that the tag carries a priority only.
    #[must_use]
    pub const fn vlan(self) -> u16 {
        self.tci & 0xfff
    }

    /// The priority, 0 to 7.
    #[must_use]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }
}

/// The Ethernet header of a frame, with up to two VLAN tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// VLAN tags, outermost first. A frame with one tag has it in front.
    pub tags: [Option<VlanTag>; 2],
    /// The type field behind the tags. Below 1536 it is a length (802.3). A third tag is not parsed: its `tpid` stands
    /// here.
    pub ethertype: u16,
    /// Bytes from the frame's start to what `ethertype` names: 14, 18 or 22.
    pub l3: usize,
}

impl FrameHead {
    /// Parses the first bytes of a frame. `None` if they end before the type field does.
    #[must_use]
    #[inline]
    pub fn parse(head: &[u8]) -> Option<Self> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *head.first_chunk::<ETHER_LEN>()?;
        let mut this = Self {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            tags: [None; 2],
            ethertype: u16::from_be_bytes([t0, t1]),
            l3: ETHER_LEN,
        };
        for slot in &mut this.tags {
            if !matches!(this.ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN) {
                break;
            }
            let [c0, c1, t0, t1] = *head.get(this.l3..)?.first_chunk::<TAG_LEN>()?;
            *slot = Some(VlanTag { tpid: this.ethertype, tci: u16::from_be_bytes([c0, c1]) });
            this.ethertype = u16::from_be_bytes([t0, t1]);
            this.l3 = this.l3.saturating_add(TAG_LEN);
        }
        Some(this)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    const ADDRS: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn frame(words: &[u16]) -> Vec<u8> {
        ADDRS.iter().copied().chain(words.iter().flat_map(|w| w.to_be_bytes())).collect()
    }

    #[test]
    fn heads_parse_and_every_cut_one_does_not() {
        let tag = |tpid, tci| Some(VlanTag { tpid, tci });
        // words behind the addresses, tags, ethertype, l3
        let table: [(&[u16], _, u16, usize); 8] = [
            (&[0x0800], [None, None], 0x0800, 14),
            (&[0x0806], [None, None], 0x0806, 14),
            (&[46], [None, None], 46, 14),
            (&[0x8100, 0xe064, 0x86dd], [tag(0x8100, 0xe064), None], 0x86dd, 18),
            (&[0x88a8, 7, 0x8100, 9, 0x0800], [tag(0x88a8, 7), tag(0x8100, 9)], 0x0800, 22),
            (&[0x8100, 7, 0x8100, 9, 0x86dd], [tag(0x8100, 7), tag(0x8100, 9)], 0x86dd, 22),
            (&[0x8100, 7, 0x8100, 9, 0x8100, 11, 0x0800], [tag(0x8100, 7), tag(0x8100, 9)], 0x8100, 22),
            (&[0x9100, 7, 0x0800], [None, None], 0x9100, 14),
        ];
        for (words, tags, ethertype, l3) in table {
            let bytes = frame(words);
            let head = FrameHead::parse(&bytes).unwrap();
            assert_eq!((head.tags, head.ethertype, head.l3), (tags, ethertype, l3), "{words:x?}");
            assert_eq!(head.dst, MacAddr([1, 2, 3, 4, 5, 6]));
            assert_eq!(head.src, MacAddr([7, 8, 9, 10, 11, 12]));
            for cut in 0..l3 {
                assert_eq!(FrameHead::parse(&bytes[..cut]), None, "{words:x?} cut to {cut}");
            }
        }
    }

    #[test]
    fn n60_every_vlan_id_is_read() {
        for tpid in [ethertype::VLAN, ethertype::SERVICE_VLAN] {
            for tci in 0..=u16::MAX {
                let head = FrameHead::parse(&frame(&[tpid, tci, 0x0800])).unwrap();
                let tag = head.tags[0].unwrap();
                assert_eq!((tag.vlan(), u16::from(tag.priority())), (tci % 4096, tci / 8192));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..40), tagged in 0..4_usize) {
            let mut bytes = bytes;
            for at in [12, 16, 20].into_iter().take(tagged) {
                if bytes.len() > at + 1 {
                    bytes[at..at + 2].copy_from_slice(&[0x81, 0x00]);
                }
            }
            match FrameHead::parse(&bytes) {
                Some(head) => {
                    prop_assert!(head.l3 <= bytes.len());
                    prop_assert_eq!(&head.ethertype.to_be_bytes()[..], &bytes[head.l3 - 2..head.l3]);
                    prop_assert_eq!(head.l3, 14 + 4 * head.tags.iter().flatten().count());
                }
                None => prop_assert!(bytes.len() < 22),
            }
        }
    }
}
