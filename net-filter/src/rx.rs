//! A filter of received frames: rules, and counters of what they reject.

use alloc::sync::Arc;

use crate::addr::MacAddr;
use crate::rules::{RxDecision, RxRules};

/// Frames that a guest was not given, by reason. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxFilterStats {
    /// [`RxDecision::TooShort`].
    pub too_short: u64,
    /// [`RxDecision::OtherUnicast`].
    pub other_unicast: u64,
    /// [`RxDecision::OtherMulticast`].
    pub other_multicast: u64,
    /// [`RxDecision::NoBroadcast`].
    pub no_broadcast: u64,
    /// [`RxDecision::OtherVlan`].
    pub other_vlan: u64,
}

/// Lets those frames pass that the rules of the moment let pass.
#[derive(Clone, Debug)]
pub struct ReceiveFilter {
    rules: Arc<RxRules>,
    stats: RxFilterStats,
}

impl ReceiveFilter {
    /// A filter by these rules.
    #[must_use]
    pub const fn new(rules: Arc<RxRules>) -> Self {
        Self {
            rules,
            stats: RxFilterStats { too_short: 0, other_unicast: 0, other_multicast: 0, no_broadcast: 0, other_vlan: 0 },
        }
    }

    /// A filter that lets the station's own frames, broadcast and every group pass.
    #[must_use]
    pub fn for_station(own: MacAddr) -> Self {
        Self::new(Arc::new(RxRules::new(own)))
    }

    /// Goes on with other rules.
    pub fn set_rules(&mut self, rules: Arc<RxRules>) {
        self.rules = rules;
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &RxRules {
        &self.rules
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &RxFilterStats {
        &self.stats
    }

    /// True if the guest is to have the frame; counts it if not.
    #[must_use]
    #[inline]
    pub fn accepts(&mut self, head: &[u8]) -> bool {
        let Some(dst) = crate::dst_word(head) else { return self.reject(RxDecision::TooShort) };
        self.rules.accepts_own(head, dst) || self.accepts_other(head, dst)
    }

    /// The answer for a frame that is not simply for the guest. Here and below the next step is a function of its own, so
    /// that frames which need fewer do not save registers for it.
    #[inline(never)]
    fn accepts_other(&mut self, head: &[u8], dst: u64) -> bool {
        self.rules.accepts_named(head, dst) || self.accepts_by_rules(head, dst)
    }

    #[inline(never)]
    fn accepts_by_rules(&mut self, head: &[u8], dst: u64) -> bool {
        self.rules.refusal(head, dst).is_none_or(|reason| self.reject(reason))
    }

    /// Counts a frame that is rejected, which is what the answer says.
    #[cold]
    fn reject(&mut self, reason: RxDecision) -> bool {
        let counter = match reason {
            RxDecision::TooShort => &mut self.stats.too_short,
            RxDecision::OtherMulticast => &mut self.stats.other_multicast,
            RxDecision::NoBroadcast => &mut self.stats.no_broadcast,
            RxDecision::OtherVlan => &mut self.stats.other_vlan,
            _ => &mut self.stats.other_unicast,
        };
        *counter = counter.wrapping_add(1);
        false
    }
}
