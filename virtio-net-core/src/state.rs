//! The whole state of a device in a binary form that outlives builds.
//!
//! # Format, version 1
//! All numbers are little-endian. Eight bytes [`MAGIC`], a 32-bit [`VERSION`], then sections up to the end: a 16-bit tag, 16
//! bits of flags, a 32-bit length, and so many bytes. No section comes twice; their order does not matter.
//!
//! | tag | section | bytes |
//! |---|---|---|
//! | 1 | features | acknowledged features: 128 bits |
//! | 2 | device | flags: 8 bits (1: there is a control queue, 2: suspended, 4: link up, 8: to be announced, 16: the link is to go up and 32: down at the end of the suspension, 64: to be announced then); queue pairs of the device: 16 bits |
//! | 3 | receive | own address: 6 bytes; modes: 8 bits (1 promiscuous, 2 all multicast, 4 all unicast, 8 no multicast, 16 no unicast, 32 no broadcast); flags: 8 bits (1: all unicast, 2: all multicast, as more were named than fit or none can be); the addresses named: 6 bytes each |
//! | 4 | vlans | a bit for each of the 4096 ids. Not there: no filter |
//! | 5 | queues | pairs in use: 16 bits; then a byte for each receive and transmit queue: 1 if it is set up |
//! | 6 | offloads | receive offloads that are on: 64 bits |
//! | 7 | steering | tunnels: 32 bits; kind: 8 bits (0 hashes only, 1 queues by hash); then as `struct virtio_net_hash_config` or `virtio_net_rss_config` |
//! | 8 | contexts | of each: id 16 bits, length 16 bits, `struct virtio_net_rss_config` |
//! | 9 | coalescing | packets and microseconds, 32 bits each: for receive queues to come, for transmit queues to come, for each queue |
//! | 10 | counters | commands, and those that were carried out: 64 bits each |
//! | 11 | rings | of each: index 16 bits, size 16 bits, where it stands 32 bits ([`QueueState`]) |
//!
//! # Compatibility
//! - A section's layout never changes: another layout gets another tag.
//! - Sections 1 to 3, 5 to 7 and 9 are in every state. The others may be left out, and mean nothing then: no filter, no
//!   contexts, no commands so far, no rings. A section that a later build adds has a meaning when it is not there, so that
//!   older states can be read.
//! - A section that is not known is skipped, so that newer states can be read; unless its flags have [`CRITICAL`], which a
//!   build sets on what must not be lost. Then the state is refused and the tag named.
//! - [`VERSION`] changes only if these rules do. Other versions are refused.
//!
//! A state comes from a file or another machine: nothing in it is believed. What cannot be is refused by name, and the device
//! that was to be restored stays as it was.

mod decode;
mod encode;
mod restore;

use alloc::vec::Vec;

use net_filter::{MacAddr, RxModes, VlanSet};
use virtio_ring::QueueState;

use crate::coalesce::Coalescing;
use crate::ctrl::CommandCounters;
use crate::features::Features;
use crate::steering::{HashConfig, RssConfig, TunnelTypes};

/// What a state begins with.
pub const MAGIC: [u8; 8] = *b"vnetstat";
/// The version of the format.
pub const VERSION: u32 = 1;
/// Flag of a section without which the rest must not be used.
pub const CRITICAL: u16 = 1;
/// Most bytes of a state: more is refused unread.
pub const MAX_LEN: usize = 16 << 20;

/// Number of a section.
pub(crate) mod tag {
    /// Those that are in every state.
    pub(crate) const ALWAYS: [u16; 7] = [FEATURES, DEVICE, RECEIVE, QUEUES, OFFLOADS, STEERING, COALESCING];

    pub(crate) const FEATURES: u16 = 1;
    pub(crate) const DEVICE: u16 = 2;
    pub(crate) const RECEIVE: u16 = 3;
    pub(crate) const VLANS: u16 = 4;
    pub(crate) const QUEUES: u16 = 5;
    pub(crate) const OFFLOADS: u16 = 6;
    pub(crate) const STEERING: u16 = 7;
    pub(crate) const CONTEXTS: u16 = 8;
    pub(crate) const COALESCING: u16 = 9;
    pub(crate) const COUNTERS: u16 = 10;
    pub(crate) const RINGS: u16 = 11;
}

/// Bits of the device section's flags.
pub(crate) mod flag {
    pub(crate) const COMMANDED: u8 = 1;
    pub(crate) const SUSPENDED: u8 = 2;
    pub(crate) const LINK_UP: u8 = 4;
    pub(crate) const ANNOUNCE: u8 = 8;
    pub(crate) const LATER_UP: u8 = 16;
    pub(crate) const LATER_DOWN: u8 = 32;
    pub(crate) const LATER_ANNOUNCE: u8 = 64;
    pub(crate) const ALL: u8 = 127;
}

/// Where a ring stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingState {
    /// Which virtqueue.
    pub index: u16,
    /// Its entries.
    pub size: u16,
    /// Where it stands.
    pub state: QueueState,
}

/// What is received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveState {
    /// The own address.
    pub own: MacAddr,
    /// The modes that are on.
    pub modes: RxModes,
    /// All unicast is received, as more was named than fits.
    pub all_unicast: bool,
    /// All multicast is received, as more was named than fits or the driver cannot name any.
    pub all_multicast: bool,
    /// The addresses named, in ascending order.
    pub addresses: Vec<MacAddr>,
    /// The VLANs named; `None`: no filter.
    pub vlans: Option<VlanSet>,
}

/// How flows are hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashState {
    /// Hashes only.
    Hash(HashConfig),
    /// Receive queues by hash.
    Rss(RssConfig),
}

/// The state of a device: plain data, to be saved, shown, compared and restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetState {
    /// Features that the driver acknowledged.
    pub acked: Features,
    /// The driver has a control queue here.
    pub commanded: bool,
    /// The device is suspended.
    pub suspended: bool,
    /// The link is up.
    pub link_up: bool,
    /// The driver is asked to announce itself.
    pub announce: bool,
    /// What the link is to be at the end of the suspension.
    pub link_later: Option<bool>,
    /// The driver is to be asked to announce itself then.
    pub announce_later: bool,
    /// Queue pairs of the device.
    pub pairs: u16,
    /// What is received.
    pub receive: ReceiveState,
    /// Queue pairs that the driver uses.
    pub used_pairs: u16,
    /// Receive and transmit queues that are set up, in the order of the virtqueues.
    pub enabled: Vec<bool>,
    /// Receive offloads that are on.
    pub offloads: Features,
    /// Tunnels whose inner header is hashed.
    pub tunnels: TunnelTypes,
    /// How flows are hashed.
    pub hash: HashState,
    /// RSS contexts.
    pub contexts: Vec<(u16, RssConfig)>,
    /// Calls that are held back.
    pub coalescing: Coalescing,
    /// Commands so far.
    pub commands: CommandCounters,
    /// Rings that were set up: the embedder's to fill in and to use.
    pub rings: Vec<RingState>,
}

/// What is wrong with a state. Fields are named as in [`NetState`] and in the table of the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is none.
    #[error("no device state: it begins with {found:02x?}, expected \"vnetstat\"")]
    Magic {
        /// Its first bytes.
        found: [u8; 8],
    },
    /// Another version.
    #[error("version {found}, expected {VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
    /// It is too long to be one.
    #[error("{len} bytes, expected at most {MAX_LEN}")]
    Length {
        /// Bytes.
        len: usize,
    },
    /// It ends too early.
    #[error("{field}: {found} bytes are left, expected {expected}")]
    Short {
        /// Where.
        field: &'static str,
        /// Bytes that are left.
        found: usize,
        /// Bytes that it takes at least.
        expected: usize,
    },
    /// A section that is in every state.
    #[error("section {tag} is not there, expected in every state")]
    Missing {
        /// Its tag.
        tag: u16,
    },
    /// A section that comes twice.
    #[error("section {tag} comes twice, expected once")]
    Twice {
        /// Its tag.
        tag: u16,
    },
    /// A section that must not be lost and is not known.
    #[error("section {tag} is not known and critical: the state is of a later build")]
    Unknown {
        /// Its tag.
        tag: u16,
    },
    /// A value that cannot be.
    #[error("{field}: {found:#x}, expected {expected}")]
    Value {
        /// Where.
        field: &'static str,
        /// The value.
        found: u128,
        /// What it has to be.
        expected: &'static str,
    },
    /// Features that this device does not offer, or not together.
    #[error("acked: {0}")]
    Features(#[from] crate::features::FeatureError),
    /// A configuration of hashes that cannot be.
    #[error("{field}: {error}")]
    Steering {
        /// Where.
        field: &'static str,
        /// What is wrong with it.
        error: crate::steering::RssError,
    },
}
