//! Offering and acknowledging.

use alloc::vec::Vec;
use core::fmt;

use super::{DEPENDENCIES, Features, Needs};

/// Features that are of use by command only, and that a driver may acknowledge all the same without a control queue.
const COMMANDED: Features = Features::CTRL_RX_EXTRA.union(Features::HASH_REPORT);

/// What a device offers, and what it does not although it was wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The features to offer. Always closed under [`DEPENDENCIES`] and with `VERSION_1`.
    pub features: Features,
    /// Wanted and not offered.
    pub withheld: Vec<Withheld>,
}

/// A feature that was wanted and is not offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Withheld {
    /// The feature, one bit.
    pub feature: Features,
    /// Why not.
    pub reason: WithheldReason,
}

/// Why a feature is not offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WithheldReason {
    /// This crate does not implement it, or it is not a feature to offer at all.
    NotImplemented,
    /// The back end lacks it.
    BackEnd,
    /// The configuration has no value or no use for it.
    Config,
    /// It needs others that are not offered.
    Needs(Needs),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            WithheldReason::NotImplemented => write!(f, "{}: not implemented", self.feature),
            WithheldReason::BackEnd => write!(f, "{}: the back end lacks it", self.feature),
            WithheldReason::Config => write!(f, "{}: the configuration has no value or use for it", self.feature),
            WithheldReason::Needs(needs) => write!(f, "{}: needs {needs}", self.feature),
        }
    }
}

impl Offer {
    /// Takes `features` out of the offer, and whatever needs them.
    pub(crate) fn withhold(&mut self, features: Features, reason: WithheldReason) {
        for feature in self.features.intersection(features).each() {
            self.withheld.push(Withheld { feature, reason });
        }
        self.features.remove(features);
        if !self.features.contains(Features::CTRL_VQ) {
            // virtio 1.3, 5.1.3.1: they should not be offered without, though a driver may acknowledge them so.
            let needs = Needs { all_of: Features::CTRL_VQ, any_of: Features::empty() };
            for feature in self.features.intersection(COMMANDED).each() {
                self.withheld.push(Withheld { feature, reason: WithheldReason::Needs(needs) });
            }
            self.features.remove(COMMANDED);
        }
        // Ends, as every round takes a feature out.
        while let Some((feature, needs)) = first_unmet(self.features) {
            self.withheld.push(Withheld { feature, reason: WithheldReason::Needs(needs) });
            self.features.remove(feature);
        }
    }
}

/// What a device offers that wants to offer `wanted` and has a back end with `back_end` (only the bits of
/// [`Features::BACK_END`] count there).
///
/// `VERSION_1` is offered whether wanted or not, as it must be (virtio 1.3, 6.1).
#[must_use]
pub fn offer(wanted: Features, back_end: Features) -> Offer {
    let mut offer = Offer { features: wanted.union(Features::VERSION_1), withheld: Vec::new() };
    // `complement` would drop the bits without a name.
    let not_implemented = offer.features.difference(Features::SUPPORTED);
    offer.withhold(not_implemented, WithheldReason::NotImplemented);
    offer.withhold(Features::BACK_END.difference(back_end), WithheldReason::BackEnd);
    offer
}

/// What is wrong with the features that a driver acknowledged: leave `FEATURES_OK` unset (virtio 1.3, 2.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// Features that were not offered.
    #[error("driver acknowledged {features}, expected only what was offered")]
    NotOffered {
        /// Those that were not.
        features: Features,
    },
    /// A feature without what it needs.
    #[error("driver acknowledged {feature} without {needs}, expected both or neither")]
    Dependency {
        /// The feature, one bit.
        feature: Features,
        /// What is missing.
        needs: Needs,
    },
}

/// Checks what a driver acknowledged of what was offered, and returns it.
///
/// A set without `VERSION_1` is accepted: the driver is a legacy one, see [`Features::is_legacy`].
///
/// # Errors
/// [`FeatureError`] if a feature was not offered, or lacks what it needs.
pub fn acknowledge(offered: Features, acked: Features) -> Result<Features, FeatureError> {
    let features = acked.difference(offered);
    if !features.is_empty() {
        return Err(FeatureError::NotOffered { features });
    }
    match first_unmet(acked) {
        Some((feature, needs)) => Err(FeatureError::Dependency { feature, needs }),
        None => Ok(acked),
    }
}

/// The first feature that lacks something.
fn first_unmet(features: Features) -> Option<(Features, Needs)> {
    DEPENDENCIES.iter().find_map(|d| d.missing_in(features).map(|needs| (d.feature, needs)))
}
