//! Which feature needs which (virtio 1.4, 5.1.3.1).

use core::fmt;

use super::Features;

/// One feature and what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// The feature.
    pub feature: Features,
    /// All of these.
    pub all_of: Features,
    /// At least one of these, unless empty.
    pub any_of: Features,
}

/// What a feature needs and does not have: the rest of a [`Dependency`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// All of these are missing.
    pub all_of: Features,
    /// One of these is missing, unless empty.
    pub any_of: Features,
}

impl Dependency {
    /// What is missing in `features`; `None` if nothing is, or if the feature itself is not among them.
    #[must_use]
    pub const fn missing_in(&self, features: Features) -> Option<Needs> {
        if !features.contains(self.feature) {
            return None;
        }
        let all_of = self.all_of.difference(features);
        let any_of = if self.any_of.intersects(features) { Features::empty() } else { self.any_of };
        if all_of.is_empty() && any_of.is_empty() { None } else { Some(Needs { all_of, any_of }) }
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.all_of.is_empty() {
            write!(f, "{}", self.all_of)?;
        }
        if !self.all_of.is_empty() && !self.any_of.is_empty() {
            f.write_str(" and ")?;
        }
        if !self.any_of.is_empty() {
            write!(f, "one of {}", self.any_of)?;
        }
        Ok(())
    }
}

const fn all(feature: Features, all_of: Features) -> Dependency {
    Dependency { feature, all_of, any_of: Features::empty() }
}

const fn any(feature: Features, any_of: Features) -> Dependency {
    Dependency { feature, all_of: Features::empty(), any_of }
}

/// Either TSO towards the driver.
const GUEST_TSO: Features = Features::GUEST_TSO4.union(Features::GUEST_TSO6);
/// Either TSO from the driver.
const HOST_TSO: Features = Features::HOST_TSO4.union(Features::HOST_TSO6);

/// Every requirement that the specification states as a must, in the order of the features' bits.
///
/// `CTRL_RX_EXTRA` and `HASH_REPORT` without `CTRL_VQ` are only discouraged, and not here. `RSC_EXT` needs a *host* TSO
/// feature by the letter; that the guest's were meant is likely.
pub const DEPENDENCIES: &[Dependency] = &[
    all(Features::GUEST_TSO4, Features::GUEST_CSUM),
    all(Features::GUEST_TSO6, Features::GUEST_CSUM),
    any(Features::GUEST_ECN, GUEST_TSO),
    all(Features::GUEST_UFO, Features::GUEST_CSUM),
    all(Features::HOST_TSO4, Features::CSUM),
    all(Features::HOST_TSO6, Features::CSUM),
    any(Features::HOST_ECN, HOST_TSO),
    all(Features::HOST_UFO, Features::CSUM),
    all(Features::CTRL_RX, Features::CTRL_VQ),
    all(Features::CTRL_VLAN, Features::CTRL_VQ),
    all(Features::GUEST_ANNOUNCE, Features::CTRL_VQ),
    all(Features::MQ, Features::CTRL_VQ),
    all(Features::CTRL_MAC_ADDR, Features::CTRL_VQ),
    Dependency {
        feature: Features::HASH_TUNNEL,
        all_of: Features::CTRL_VQ,
        any_of: Features::RSS.union(Features::HASH_REPORT),
    },
    all(Features::VQ_NOTF_COAL, Features::CTRL_VQ),
    all(Features::NOTF_COAL, Features::CTRL_VQ),
    all(Features::GUEST_USO4, Features::GUEST_CSUM),
    all(Features::GUEST_USO6, Features::GUEST_CSUM),
    all(Features::HOST_USO, Features::CSUM),
    all(Features::RSS, Features::CTRL_VQ),
    any(Features::RSC_EXT, HOST_TSO),
    all(Features::RSS_CONTEXT, Features::CTRL_VQ.union(Features::RSS)),
    all(Features::GUEST_UDP_TUNNEL_GSO, GUEST_TSO.union(Features::GUEST_USO4).union(Features::GUEST_USO6)),
    all(Features::GUEST_UDP_TUNNEL_GSO_CSUM, Features::GUEST_UDP_TUNNEL_GSO),
    all(Features::HOST_UDP_TUNNEL_GSO, HOST_TSO.union(Features::HOST_USO)),
    all(Features::HOST_UDP_TUNNEL_GSO_CSUM, Features::HOST_UDP_TUNNEL_GSO),
];
