//! Which receive queue a frame goes to, and its hash (virtio 1.4, 5.1.6.4.3, 5.1.6.5.6 and 5.1.6.5.7).
//!
//! [`Steering`] is what the driver commanded. [`Steering::hash`] looks at the host copy of a frame's head, and at nothing
//! else: what it would need from behind the head counts as not there.

mod config;
mod contexts;
mod flow;
mod toeplitz;
mod tunnel;

pub use config::{HashConfig, MAX_KEY, MAX_TABLE, RssConfig, RssError, RssLimits};
pub use contexts::{Contexts, MAX_CONTEXTS};
pub use toeplitz::Toeplitz;
pub use tunnel::TunnelTypes;

bitflags::bitflags! {
    /// What is hashed of which packets: `hash_types`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct HashTypes: u32 {
        /// Addresses of IPv4.
        const IPV4 = 1;
        /// Addresses and ports of TCP over IPv4.
        const TCPV4 = 1 << 1;
        /// Addresses and ports of UDP over IPv4.
        const UDPV4 = 1 << 2;
        /// Addresses of IPv6.
        const IPV6 = 1 << 3;
        /// Addresses and ports of TCP over IPv6.
        const TCPV6 = 1 << 4;
        /// Addresses and ports of UDP over IPv6.
        const UDPV6 = 1 << 5;
        /// Home address and final destination of IPv6 with extension headers.
        const IP_EX = 1 << 6;
        /// The same with the ports of TCP.
        const TCP_EX = 1 << 7;
        /// The same with the ports of UDP.
        const UDP_EX = 1 << 8;
    }
}

impl HashTypes {
    /// `hash_report` for a single type.
    const fn report(self) -> u16 {
        self.bits().trailing_zeros().wrapping_add(1) as u16 // at most 33
    }
}

/// The hash of a frame's flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowHash {
    /// The hash; 0 if there is none.
    pub value: u32,
    /// What was hashed: `hash_report` of the header. 0: nothing.
    pub report: u16,
}

/// How flows are hashed, and how queues are chosen by the hash.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Steering {
    types: HashTypes,
    tunnels: TunnelTypes,
    toeplitz: Toeplitz,
    /// Receive queues by hash; `None`: as the host end has it.
    rss: Option<RssConfig>,
    /// Other tables, for flow filters.
    pub contexts: Contexts,
}

impl Steering {
    /// True if frames have to be looked at.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.rss.is_some() || !self.types.is_empty()
    }

    /// What is hashed.
    #[must_use]
    pub const fn types(&self) -> HashTypes {
        self.types
    }

    /// By which key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.toeplitz.key()
    }

    /// Tunnels whose inner header is hashed.
    #[must_use]
    pub const fn tunnels(&self) -> TunnelTypes {
        self.tunnels
    }

    /// Receive queues by hash, if they are chosen so.
    #[must_use]
    pub const fn rss(&self) -> Option<&RssConfig> {
        self.rss.as_ref()
    }

    /// Hashes by these types and this key, and chooses receive queues by that (`VIRTIO_NET_CTRL_MQ_RSS_CONFIG`).
    pub fn set_rss(&mut self, rss: RssConfig) {
        self.types = rss.types;
        self.toeplitz = Toeplitz::new(&rss.key);
        self.rss = Some(rss);
    }

    /// Hashes by these types and this key (`VIRTIO_NET_CTRL_MQ_HASH_CONFIG`); queues are chosen as the host end has it.
    pub fn set_hash(&mut self, hash: HashConfig) {
        self.types = hash.types;
        self.toeplitz = Toeplitz::new(&hash.key);
        self.rss = None;
    }

    /// Queues are not chosen by hash any more (`VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET`).
    pub fn clear_rss(&mut self) {
        self.rss = None;
    }

    /// Sets the tunnels whose inner header is hashed (`VIRTIO_NET_CTRL_HASH_TUNNEL_SET`).
    pub const fn set_tunnels(&mut self, tunnels: TunnelTypes) {
        self.tunnels = tunnels;
    }

    /// The hash of the frame with this head.
    #[must_use]
    pub fn hash(&self, head: &[u8]) -> FlowHash {
        let inner = if self.tunnels.is_empty() { None } else { tunnel::inner(head, self.tunnels) };
        // Virtio 1.4, 5.1.6.4.4: of such a tunnel the inner header counts, also if nothing can be hashed of it.
        let flow = inner.map_or_else(|| flow::Flow::of_frame(head), |inner| inner.flow());
        let Some((input, kind)) = flow.and_then(|flow| flow.input(self.types)) else { return FlowHash::default() };
        FlowHash { value: self.toeplitz.hash(input.as_bytes()), report: kind.report() }
    }

    /// The pair whose receive queue a frame with this hash goes to; `None` if the host end chooses.
    #[must_use]
    pub fn queue(&self, hash: FlowHash) -> Option<u16> {
        self.rss.as_ref().map(|rss| rss.queue(hash))
    }
}

#[cfg(test)]
mod tests;
