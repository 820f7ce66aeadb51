//! Which frames a guest is given.

use crate::addr::MacAddr;
use crate::{ADDR_MASK, dst_word};

/// Why a guest is given a frame, or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RxDecision {
    /// It is for the guest's address.
    Own,
    /// It is for everybody.
    Broadcast,
    /// It is for a group. Without a table of groups every group counts as joined.
    Multicast,
    /// It is for another station: not delivered.
    Other,
    /// It has no whole Ethernet header: not delivered.
    TooShort,
}

/// Lets frames to the own address, broadcast and multicast pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacFilter {
    own: u64,
}

impl MacFilter {
    /// A filter for the guest with address `own`.
    #[must_use]
    pub const fn new(own: MacAddr) -> Self {
        Self { own: own.to_word() }
    }

    /// True if the guest is to have the frame: two comparisons on one load.
    #[must_use]
    #[inline]
    pub fn accepts(&self, head: &[u8]) -> bool {
        // The lowest bit of the first byte is the group bit, set in the broadcast address as well.
        dst_word(head).is_some_and(|dst| dst == self.own || dst & 1 == 1)
    }

    /// The same decision with its reason.
    #[must_use]
    #[inline]
    pub fn decide(&self, head: &[u8]) -> RxDecision {
        match dst_word(head) {
            None => RxDecision::TooShort,
            Some(dst) if dst == self.own => RxDecision::Own,
            Some(ADDR_MASK) => RxDecision::Broadcast,
            Some(dst) if dst & 1 == 1 => RxDecision::Multicast,
            Some(_) => RxDecision::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn frame(dst: MacAddr) -> [u8; 14] {
        let mut frame = [0xa5; 14];
        frame[..6].copy_from_slice(&dst.0);
        frame
    }

    #[test]
    fn n59_only_own_broadcast_and_multicast_pass() {
        let table = [
            (OWN, RxDecision::Own),
            (MacAddr::BROADCAST, RxDecision::Broadcast),
            (MacAddr([1, 0, 0x5e, 0, 0, 1]), RxDecision::Multicast),
            (MacAddr([0x33, 0x33, 0, 0, 0, 1]), RxDecision::Multicast),
            (MacAddr([0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]), RxDecision::Multicast),
            (MacAddr([0x53, 0x54, 0, 0x12, 0x34, 0x56]), RxDecision::Multicast),
            (MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x57]), RxDecision::Other),
            (MacAddr([0x50, 0x54, 0, 0x12, 0x34, 0x56]), RxDecision::Other),
            (MacAddr::ZERO, RxDecision::Other),
            (MacAddr([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]), RxDecision::Other),
        ];
        let filter = MacFilter::new(OWN);
        for (dst, decision) in table {
            assert_eq!(filter.decide(&frame(dst)), decision, "{dst}");
            assert_eq!(filter.accepts(&frame(dst)), decision != RxDecision::Other, "{dst}");
        }
        for len in 0..14 {
            assert_eq!(filter.decide(&frame(OWN)[..len]), RxDecision::TooShort);
            assert!(!filter.accepts(&frame(OWN)[..len]));
        }
    }

    proptest! {
        #[test]
        fn decision_agrees_with_a_comparison_of_bytes(
            own: [u8; 6], dst: [u8; 6], rest: [u8; 20], same in 0..7_usize, len in 0..26_usize,
        ) {
            let mut bytes = [0; 26];
            bytes[..6].copy_from_slice(&dst);
            bytes[..same.min(6)].copy_from_slice(&own[..same.min(6)]);
            bytes[6..].copy_from_slice(&rest);
            let head = &bytes[..len];
            let wanted = len >= 14 && (head[..6] == own || head[0] & 1 == 1);
            let filter = MacFilter::new(MacAddr(own));
            prop_assert_eq!(filter.accepts(head), wanted);
            let decision = filter.decide(head);
            prop_assert_eq!(!matches!(decision, RxDecision::Other | RxDecision::TooShort), wanted);
        }
    }
}
