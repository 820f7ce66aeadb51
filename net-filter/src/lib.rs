//! What a virtual network device must know of an Ethernet frame before it lets it pass.
//!
//! - [`MacAddr`]: an address, parsed, printed and classified.
//! - [`FrameHead`]: a bounded look at the Ethernet header and up to two VLAN tags.
//! - [`RxRules`], [`ReceiveFilter`]: which frames a guest is given: by address tables, VLANs and modes, as its driver
//!   commands.
//! - [`SpoofCheck`]: which frames a guest may send: those that carry its own source addresses, MAC alone or IP as well.
//! - [`learn`]: the address that a DHCP server gives to a guest.
//!
//! What most frames need is one 64-bit load and a comparison with a value made beforehand; a table costs one cache line,
//! however many addresses are in it. No frame costs an allocation or a loop over entries. Input is any byte string;
//! nothing here panics, and nothing reads past what it was given.
//!
//! ```
//! use net_filter::{FrameHead, MacAddr, RxDecision, RxRules, SpoofCheck};
//!
//! let own: MacAddr = "52:54:00:12:34:56".parse()?;
//! let frame = [
//!     0x52, 0x54, 0x00, 0x12, 0x34, 0x56, // to the guest
//!     0x02, 0x00, 0x00, 0x00, 0x00, 0x01, // from a neighbour
//!     0x81, 0x00, 0x20, 0x64, // 802.1Q: priority 1, VLAN 100
//!     0x08, 0x00, // IPv4
//! ];
//! assert_eq!(RxRules::new(own).decide(&frame), RxDecision::Own);
//!
//! let head = FrameHead::parse(&frame).ok_or("too short")?;
//! assert_eq!(head.src.to_string(), "02:00:00:00:00:01");
//! assert_eq!(head.tags[0].map(|tag| (tag.priority(), tag.vlan())), Some((1, 100)));
//! assert_eq!((head.ethertype, head.l3), (0x0800, 18));
//!
//! // Sent by the guest, this frame would be dropped: the source address is not the guest's.
//! let mut check = SpoofCheck::new(own);
//! assert!(!check.permits(&frame));
//! assert_eq!(check.stats().foreign, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is not here
//! Multicast snooping, and programs that push a filter into a kernel.
//!
//! | virtio 1.4 | clause | state |
//! |---|---|---|
//! | receive modes, `VIRTIO_NET_F_CTRL_RX` and `CTRL_RX_EXTRA` | 5.1.6.5.1 | yes |
//! | address tables, own address | 5.1.6.5.2 | yes; more than fit: all of that kind |
//! | `VIRTIO_NET_F_CTRL_VLAN` | 5.1.6.5.3 | yes, 802.1Q and 802.1ad, outer tag |
//! | source checks: MAC, IPv4, IPv6, ARP, neighbour discovery, DHCP | not in the specification | yes |
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "the lint does not know the tests of proptest"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod addr;
mod frame;
mod rules;
mod rx;
mod spoof;
mod table;
mod vlan;

pub use addr::{MacAddr, MacParseError};
pub use frame::{ETHER_LEN, FrameHead, TAG_LEN, VlanTag, ethertype};
pub use rules::{RxDecision, RxModes, RxRules, TableLimits};
pub use rx::{ReceiveFilter, RxFilterStats};
pub use spoof::{DhcpAck, IpSources, Lease, SpoofCheck, SpoofReason, SpoofStats, learn, may_teach};
pub use vlan::{VLANS, VlanSet};

/// The six bytes of an address in the low bits of a word, first byte lowest.
const ADDR_MASK: u64 = 0xffff_ffff_ffff;

/// The destination address of a frame as one word, from a single load; `None` if the frame has no whole Ethernet header.
#[inline]
fn dst_word(head: &[u8]) -> Option<u64> {
    let ether = head.first_chunk::<ETHER_LEN>()?;
    // One load, and a mask for the two bytes behind the address.
    Some(u64::from_le_bytes(*ether.first_chunk()?) & ADDR_MASK)
}

/// The source address, likewise, with the type above it.
#[inline]
fn src_word(head: &[u8]) -> Option<u64> {
    let ether = head.first_chunk::<ETHER_LEN>()?;
    Some(u64::from_le_bytes(*ether.last_chunk()?))
}
