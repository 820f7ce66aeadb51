//! Which frames a guest may send.

use crate::addr::MacAddr;
use crate::src_word;

/// Why a frame must not leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpoofReason {
    /// It has no whole Ethernet header.
    TooShort,
    /// Its source is a group address, which no station has.
    Group,
    /// Its source is another station's address.
    Foreign,
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
}

/// Lets only frames with the guest's own source address out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpoofCheck {
    own: u64,
    /// The bits that have to match: none if the check is off.
    mask: u64,
    stats: SpoofStats,
}

impl SpoofCheck {
    /// A check for the guest with address `own`.
    #[must_use]
    pub const fn new(own: MacAddr) -> Self {
        Self { own: own.to_word(), mask: crate::ADDR_MASK, stats: SpoofStats { too_short: 0, group: 0, foreign: 0 } }
    }

    /// No check: every frame with an Ethernet header leaves, for a guest that bridges or routes for others.
    #[must_use]
    pub const fn off() -> Self {
        Self { own: 0, mask: 0, stats: SpoofStats { too_short: 0, group: 0, foreign: 0 } }
    }

    /// True if the check is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.mask != 0
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

    /// Why the frame must not leave, if it must not; counts nothing.
    #[must_use]
    #[inline]
    pub fn check(&self, head: &[u8]) -> Option<SpoofReason> {
        match src_word(head) {
            // The mask also takes off what is no address.
            Some(src) if (src ^ self.own) & self.mask == 0 => None,
            Some(src) if src & 1 == 1 => Some(SpoofReason::Group),
            Some(_) => Some(SpoofReason::Foreign),
            None => Some(SpoofReason::TooShort),
        }
    }

    #[cold]
    fn count(&mut self, reason: SpoofReason) {
        let counter = match reason {
            SpoofReason::TooShort => &mut self.stats.too_short,
            SpoofReason::Group => &mut self.stats.group,
            SpoofReason::Foreign => &mut self.stats.foreign,
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
        assert_eq!(*check.stats(), SpoofStats { too_short: 14, group: 2, foreign: 48 });
    }

    #[test]
    fn off_means_that_every_whole_header_leaves() {
        let mut check = SpoofCheck::off();
        assert!(!check.is_on());
        for src in [OWN, MacAddr::ZERO, MacAddr::BROADCAST] {
            assert!(check.permits(&frame(src)));
        }
        assert!(!check.permits(&frame(OWN)[..13]));
        assert_eq!(*check.stats(), SpoofStats { too_short: 1, group: 0, foreign: 0 });
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
