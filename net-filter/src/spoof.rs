//! Which frames a guest may send.

mod addresses;
mod dhcp;
mod ip;

pub use addresses::{IpSources, Lease};
pub use dhcp::{DhcpAck, learn, may_teach};

use alloc::sync::Arc;

use crate::addr::MacAddr;
use crate::{ADDR_MASK, src_word};

/// Why a frame must not leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SpoofReason {
    /// It has no whole Ethernet header.
    TooShort,
    /// Its source is a group address, which no station has.
    Group,
    /// Its source is another station's address.
    Foreign,
    /// Its IP source address is not the guest's.
    ForeignIp,
    /// It is an ARP packet in which another station speaks, or that is none.
    Arp,
    /// It is a neighbour discovery packet in which another station or a router speaks, or that is none.
    Neighbour,
    /// It is what a DHCP server sends.
    Dhcp,
    /// It is a fragment that hides its transport's header, or of a packet that is never to be cut.
    Fragment,
    /// It is no IP and no ARP, or its headers cannot be read to their end.
    Unreadable,
}

/// Frames that were not let out, by reason. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpoofStats {
    /// [`SpoofReason::TooShort`].
    pub too_short: u64,
    /// [`SpoofReason::Group`].
    pub group: u64,
    /// [`SpoofReason::Foreign`].
    pub foreign: u64,
    /// [`SpoofReason::ForeignIp`].
    pub foreign_ip: u64,
    /// [`SpoofReason::Arp`].
    pub arp: u64,
    /// [`SpoofReason::Neighbour`].
    pub neighbour: u64,
    /// [`SpoofReason::Dhcp`].
    pub dhcp: u64,
    /// [`SpoofReason::Fragment`].
    pub fragment: u64,
    /// [`SpoofReason::Unreadable`].
    pub unreadable: u64,
}

/// Lets only frames with the guest's own source addresses out.
///
/// What is looked at is the host's copy of the frame's first bytes, and that copy is what leaves. In mode
/// [`with_ip`](Self::with_ip) a frame whose decision would need more than that does not leave.
#[derive(Clone, Debug)]
pub struct SpoofCheck {
    /// The bits of the source address and type that are compared, and with what: that is all for most frames. With a check
    /// of IP addresses nothing is ever equal.
    mask: u64,
    want: u64,
    own: MacAddr,
    ip: Option<Arc<IpSources>>,
    stats: SpoofStats,
}

impl SpoofCheck {
    /// A check of the MAC address, for the guest with address `own`.
    #[must_use]
    pub fn new(own: MacAddr) -> Self {
        Self { mask: ADDR_MASK, want: own.to_word(), own, ip: None, stats: SpoofStats::default() }
    }

    /// A check of the MAC address and of IP addresses: the source of IPv4 and IPv6, what ARP and neighbour discovery say,
    /// no DHCP server, no router advertisement and no redirect. Nothing but IP and ARP leaves.
    #[must_use]
    pub fn with_ip(own: MacAddr, sources: Arc<IpSources>) -> Self {
        Self { mask: 0, want: 1, own, ip: Some(sources), stats: SpoofStats::default() }
    }

    /// No check: every frame with an Ethernet header leaves, for a guest that bridges or routes for others.
    #[must_use]
    pub fn off() -> Self {
        Self { mask: 0, want: 0, own: MacAddr::ZERO, ip: None, stats: SpoofStats::default() }
    }

    /// True if the check is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.mask != 0 || self.ip.is_some()
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &SpoofStats {
        &self.stats
    }

    /// True if the frame may leave; counts it if not.
    #[must_use]
    #[inline]
    pub fn permits(&mut self, head: &[u8]) -> bool {
        match self.check(head) {
            None => true,
            Some(reason) => {
                self.count(reason);
                false
            }
        }
    }

    /// True if the checksum of a frame that [`permits`](Self::permits) let pass may be completed behind the check: from byte `start` of
    /// the frame on, and put `offset` bytes behind that. With a check of IP addresses it has to be TCP's or UDP's. Counts it if
    /// not.
    #[must_use]
    pub fn permits_checksum(&mut self, head: &[u8], start: u16, offset: u16) -> bool {
        let good = self.ip.is_none() || ip::is_transports(head, start.into(), offset);
        if !good {
            self.count(SpoofReason::Unreadable);
        }
        good
    }

    /// Why the frame must not leave, if it must not; counts nothing.
    #[must_use]
    #[inline]
    pub fn check(&self, head: &[u8]) -> Option<SpoofReason> {
        match src_word(head) {
            // The mask also takes off what is no address.
            Some(src) if src & self.mask == self.want => None,
            Some(src) => self.check_more(src, head),
            None => Some(SpoofReason::TooShort),
        }
    }

    fn check_more(&self, src: u64, head: &[u8]) -> Option<SpoofReason> {
        if src & 1 == 1 {
            return Some(SpoofReason::Group);
        }
        match &self.ip {
            Some(sources) if src & ADDR_MASK == self.own.to_word() => ip::check(head, self.own, sources).err(),
            _ => Some(SpoofReason::Foreign),
        }
    }

    #[cold]
    fn count(&mut self, reason: SpoofReason) {
        let counter = match reason {
            SpoofReason::TooShort => &mut self.stats.too_short,
            SpoofReason::Group => &mut self.stats.group,
            SpoofReason::Foreign => &mut self.stats.foreign,
            SpoofReason::ForeignIp => &mut self.stats.foreign_ip,
            SpoofReason::Arp => &mut self.stats.arp,
            SpoofReason::Neighbour => &mut self.stats.neighbour,
            SpoofReason::Dhcp => &mut self.stats.dhcp,
            SpoofReason::Fragment => &mut self.stats.fragment,
            SpoofReason::Unreadable => &mut self.stats.unreadable,
        };
        *counter = counter.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn frame(src: MacAddr) -> [u8; 14] {
        let mut frame = [0xff; 14];
        frame[6..12].copy_from_slice(&src.0);
        frame
    }

    #[test]
    fn only_the_own_source_leaves_and_the_rest_is_counted_by_reason() {
        let mut check = SpoofCheck::new(OWN);
        assert!(check.is_on() && check.permits(&frame(OWN)));
        assert_eq!(*check.stats(), SpoofStats::default());
        for bit in 0..48 {
            let mut other = OWN;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!check.permits(&frame(other)), "{other}");
        }
        assert!(!check.permits(&frame(MacAddr::ZERO)));
        assert!(!check.permits(&frame(MacAddr::BROADCAST)));
        for len in 0..14 {
            assert!(!check.permits(&frame(OWN)[..len]));
        }
        // One of the 48 single-bit changes makes it a group address.
        assert_eq!(*check.stats(), SpoofStats { too_short: 14, group: 2, foreign: 48, ..SpoofStats::default() });
    }

    #[test]
    fn off_means_that_every_whole_header_leaves() {
        let mut check = SpoofCheck::off();
        assert!(!check.is_on());
        for src in [OWN, MacAddr::ZERO, MacAddr::BROADCAST] {
            assert!(check.permits(&frame(src)));
        }
        assert!(!check.permits(&frame(OWN)[..13]));
        assert_eq!(*check.stats(), SpoofStats { too_short: 1, ..SpoofStats::default() });
    }

    proptest! {
        #[test]
        fn check_agrees_with_a_comparison_of_bytes(own: [u8; 6], src: [u8; 6], dst: [u8; 6], same in 0..7_usize) {
            let mut src = src;
            src[..same.min(6)].copy_from_slice(&own[..same.min(6)]);
            let mut head = [0x11; 14];
            head[..6].copy_from_slice(&dst);
            head[6..12].copy_from_slice(&src);
            let mut check = SpoofCheck::new(MacAddr(own));
            prop_assert_eq!(check.permits(&head), src == own);
            let counted = check.stats().group + check.stats().foreign;
            prop_assert_eq!(counted, u64::from(src != own));
        }
    }
}
