//! Classes and commands (virtio 1.4, 5.1.6.5; `include/uapi/linux/virtio_net.h`).

/// Class of the receive modes. Data of each: one byte, 0 or 1.
#[doc(alias = "VIRTIO_NET_CTRL_RX")]
pub const CLASS_RX: u8 = 0;
/// Everything is received.
pub const RX_PROMISC: u8 = 0;
/// All multicast is received.
pub const RX_ALLMULTI: u8 = 1;
/// All unicast is received.
pub const RX_ALLUNI: u8 = 2;
/// No multicast is received.
pub const RX_NOMULTI: u8 = 3;
/// No unicast is received.
pub const RX_NOUNI: u8 = 4;
/// No broadcast is received.
pub const RX_NOBCAST: u8 = 5;

/// Class of the MAC addresses.
#[doc(alias = "VIRTIO_NET_CTRL_MAC")]
pub const CLASS_MAC: u8 = 1;
/// Both tables: a 32-bit count and the addresses, unicast, then the same for multicast.
pub const MAC_TABLE_SET: u8 = 0;
/// The device's own address: six bytes.
pub const MAC_ADDR_SET: u8 = 1;

/// Class of the VLAN filter. Data of each: a 16-bit id.
#[doc(alias = "VIRTIO_NET_CTRL_VLAN")]
pub const CLASS_VLAN: u8 = 2;
/// Frames of this VLAN are received.
pub const VLAN_ADD: u8 = 0;
/// And not any more.
pub const VLAN_DEL: u8 = 1;

/// Class of the command that announces the guest.
#[doc(alias = "VIRTIO_NET_CTRL_ANNOUNCE")]
pub const CLASS_ANNOUNCE: u8 = 3;
/// The guest has seen the request to announce itself. No data.
pub const ANNOUNCE_ACK: u8 = 0;

/// Class of the commands for several queue pairs.
#[doc(alias = "VIRTIO_NET_CTRL_MQ")]
pub const CLASS_MQ: u8 = 4;
/// How many pairs the driver uses: a 16-bit number.
pub const VQ_PAIRS_SET: u8 = 0;
/// Receive queues by hash: `struct virtio_net_rss_config`.
pub const RSS_CONFIG: u8 = 1;
/// Hashes for reports: `struct virtio_net_hash_config`.
pub const HASH_CONFIG: u8 = 2;

/// Class of the receive offloads.
#[doc(alias = "VIRTIO_NET_CTRL_GUEST_OFFLOADS")]
pub const CLASS_GUEST_OFFLOADS: u8 = 5;
/// Those that are on: a 64-bit set.
pub const GUEST_OFFLOADS_SET: u8 = 0;

/// Class of the notification coalescing.
#[doc(alias = "VIRTIO_NET_CTRL_NOTF_COAL")]
pub const CLASS_NOTF_COAL: u8 = 6;
/// All transmit queues: packets, microseconds, 32 bits each.
pub const NOTF_COAL_TX_SET: u8 = 0;
/// All receive queues: the same.
pub const NOTF_COAL_RX_SET: u8 = 1;
/// One queue: its 16-bit index, 16 reserved bits, packets, microseconds.
pub const NOTF_COAL_VQ_SET: u8 = 2;
/// What is set for one queue: its 16-bit index, 16 reserved bits. Result: packets, microseconds.
pub const NOTF_COAL_VQ_GET: u8 = 3;

/// Class of the hashes of inner headers.
pub const CLASS_HASH_TUNNEL: u8 = 7;
/// The tunnels whose inner header is hashed: a 32-bit set.
pub const HASH_TUNNEL_SET: u8 = 0;

/// Class of the counters.
#[doc(alias = "VIRTIO_NET_CTRL_STATS")]
pub const CLASS_STATS: u8 = 8;
/// What can be asked for. No data. Result: a 64-bit set.
pub const STATS_QUERY: u8 = 0;
/// Counters of queues: entries of a 16-bit index, 48 reserved bits, a 64-bit set of types.
pub const STATS_GET: u8 = 1;

/// Class of the RSS contexts.
pub const CLASS_RSS_CTX: u8 = 9;
/// How many there can be. No data. Result: a 16-bit number.
pub const RSS_CTX_CAP_GET: u8 = 0;
/// A new context: a 16-bit id, 48 reserved bits, and as [`RSS_CONFIG`].
pub const RSS_CTX_ADD: u8 = 1;
/// An existing one anew: the same.
pub const RSS_CTX_MOD: u8 = 2;
/// No such context any more: a 16-bit id.
pub const RSS_CTX_DEL: u8 = 3;
