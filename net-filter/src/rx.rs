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
        self.rules.accepts(head) || self.reject(head)
    }

    /// Counts a frame that is rejected, which is what the answer says.
    #[cold]
    fn reject(&mut self, head: &[u8]) -> bool {
        let counter = match self.rules.decide(head) {
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
