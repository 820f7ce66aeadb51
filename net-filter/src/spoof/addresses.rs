//! The IP addresses that a guest may send from.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::addr::MacAddr;

/// An IPv4 address that a guest got by DHCP, shared by whoever learns it and whoever checks for it.
#[derive(Debug, Default)]
pub struct Lease(AtomicU32);

impl Lease {
    /// The address; `None` until one is learnt and when it has expired.
    #[must_use]
    pub fn get(&self) -> Option<Ipv4Addr> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            bits => Some(Ipv4Addr::from_bits(bits)),
        }
    }

    /// Replaces it.
    pub fn set(&self, address: Option<Ipv4Addr>) {
        self.0.store(address.map_or(0, Ipv4Addr::to_bits), Ordering::Relaxed);
    }
}

/// The addresses of one guest.
///
/// Besides those that are given: the link-local IPv6 address that is made of its MAC address (RFC 4291, appendix A), and the
/// IPv4 address of its DHCP lease, if that is learnt. A guest that makes its link-local address otherwise (RFC 7217) needs it
/// to be given: any of them would be a neighbour's as well.
#[derive(Clone, Debug)]
pub struct IpSources {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    lease: Option<Arc<Lease>>,
}

impl IpSources {
    /// These addresses, for the guest with this MAC address; and what a lease says.
    #[must_use]
    pub fn new(own: MacAddr, given: &[IpAddr], lease: Option<Arc<Lease>>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), alloc::vec![link_local(own)]);
        for address in given {
            match address {
                IpAddr::V4(address) => v4.push(*address),
                IpAddr::V6(address) => v6.push(*address),
            }
        }
        Self { v4, v6, lease }
    }

    /// True if the guest may send from this address.
    #[must_use]
    pub fn has_v4(&self, address: Ipv4Addr) -> bool {
        self.v4.contains(&address) || self.lease.as_ref().and_then(|lease| lease.get()) == Some(address)
    }

    /// True if the guest may send from this address.
    #[must_use]
    pub fn has_v6(&self, address: &Ipv6Addr) -> bool {
        self.v6.contains(address)
    }
}

/// `fe80::` and the address with `ff:fe` in its middle and its second bit turned.
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
