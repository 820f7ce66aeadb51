//! Addresses, names and limits of a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What a network looks like to its guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserNetConfig {
    /// The host's MAC address.
    pub mac: [u8; 6],
    /// The host's IPv4 address: router, DNS server and services.
    pub ipv4: Ipv4Addr,
    /// Bits of the IPv4 network.
    pub prefix4: u8,
    /// The host's IPv6 address in the /64 that guests take addresses from.
    pub ipv6: Ipv6Addr,
    /// The host's link-local IPv6 address: the router.
    pub link_local: Ipv6Addr,
    /// The first address that DHCP hands out; others follow upwards.
    pub first_lease: Ipv4Addr,
    /// How many addresses DHCP has.
    pub leases: u8,
    /// How long a lease lasts, in whole seconds.
    pub lease_time: Duration,
    /// The MTU to announce by DHCP and router advertisements, in bytes of IP packet. Nothing is announced, and 1500 is
    /// used, if it is `None`.
    pub mtu: Option<u16>,
    /// The host's own name in DNS.
    pub name: String,
    /// TCP connections at a time.
    pub max_connections: usize,
    /// Bytes of the TCP windows: what a connection may hold in its one direction of bulk data.
    pub window: usize,
    /// Frames that wait for the guest at most (answers that cannot wait: twice as many).
    pub max_backlog: usize,
}

impl Default for UserNetConfig {
    fn default() -> Self {
        Self {
            mac: [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02],
            ipv4: Ipv4Addr::new(10, 0, 2, 2),
            prefix4: 24,
            ipv6: Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2),
            link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
            first_lease: Ipv4Addr::new(10, 0, 2, 15),
            leases: 64,
            lease_time: Duration::from_secs(86_400),
            mtu: None,
            name: "host.virtio.internal".to_owned(),
            max_connections: 64,
            window: 1 << 20,
            max_backlog: 256,
        }
    }
}

/// What is wrong with a [`UserNetConfig`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A multicast or zero MAC address.
    #[error("host MAC address {0:02x?} is not a unicast address")]
    Mac([u8; 6]),
    /// An address that a host cannot have.
    #[error("host address {0} is not a unicast address of the kind expected")]
    Address(IpAddr),
    /// A prefix too long or too short.
    #[error("IPv4 prefix length {0}, expected 8 to 29")]
    Prefix(u8),
    /// Leases outside of the network, or on the host's own address.
    #[error("{count} leases from {first} on do not fit into the host's network beside its own address")]
    Leases {
        /// The first one.
        first: Ipv4Addr,
        /// How many.
        count: u8,
    },
    /// An MTU that IPv6 does not allow.
    #[error("MTU {0}, expected 1280 to 65535")]
    Mtu(u16),
    /// A name that DNS does not allow.
    #[error("host name {0:?}, expected labels of 1 to 63 letters, digits and hyphens, with dots between them")]
    Name(String),
    /// A limit that is out of range.
    #[error("{what} is {value}, expected {min} to {max}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The least one.
        min: usize,
        /// The greatest one.
        max: usize,
    },
}

impl UserNetConfig {
    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let [first, ..] = self.mac;
        if first & 1 != 0 || self.mac == [0; 6] {
            return Err(ConfigError::Mac(self.mac));
        }
        if !(8..=29).contains(&self.prefix4) {
            return Err(ConfigError::Prefix(self.prefix4));
        }
        if !self.is_unicast4(self.ipv4) {
            return Err(ConfigError::Address(self.ipv4.into()));
        }
        let ipv6 = self.ipv6;
        if ipv6.is_unspecified() || ipv6.is_multicast() || ipv6.is_loopback() || ipv6.is_unicast_link_local() {
            return Err(ConfigError::Address(ipv6.into()));
        }
        if !self.link_local.is_unicast_link_local() {
            return Err(ConfigError::Address(self.link_local.into()));
        }
        let mut pool = (0..self.leases).map(|n| self.lease(n));
        if !pool.all(|a| a.is_some_and(|a| self.is_unicast4(a) && a != self.ipv4)) {
            return Err(ConfigError::Leases { first: self.first_lease, count: self.leases });
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < 1280) {
            return Err(ConfigError::Mtu(mtu));
        }
        let label = |l: &str| (1..64).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if self.name.len() > 253 || !self.name.split('.').all(label) {
            return Err(ConfigError::Name(self.name.clone()));
        }
        limit("max_connections", self.max_connections, 1, 4096)?;
        limit("window", self.window, 4096, 1 << 26)?;
        limit("max_backlog", self.max_backlog, 8, 65_536)
    }

    /// True if a host of the IPv4 network can have this address.
    pub(crate) fn is_unicast4(&self, address: Ipv4Addr) -> bool {
        let hosts = u32::MAX.checked_shr(self.prefix4.into()).unwrap_or(0);
        let bits = address.to_bits();
        let same = bits & !hosts == self.ipv4.to_bits() & !hosts;
        let odd = address.is_loopback() || address.is_multicast() || address.is_broadcast();
        same && bits & hosts != 0 && bits & hosts != hosts && !odd
    }

    /// The IPv4 network's mask.
    pub(crate) fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(!u32::MAX.checked_shr(self.prefix4.into()).unwrap_or(0))
    }

    /// Address number `n` of those that DHCP has.
    pub(crate) fn lease(&self, n: u8) -> Option<Ipv4Addr> {
        self.first_lease.to_bits().checked_add(n.into()).map(Ipv4Addr::from_bits)
    }

    /// The network that guests take IPv6 addresses from.
    pub(crate) const fn prefix6(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.ipv6.to_bits() & !(u64::MAX as u128))
    }

    /// True if a guest can have this address and the host has not.
    pub(crate) fn is_guest(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.is_unicast4(a) && a != self.ipv4,
            IpAddr::V6(a) => {
                let net = a.to_bits() & !u128::from(u64::MAX);
                let ours = [self.prefix6().to_bits(), self.link_local.to_bits() & !u128::from(u64::MAX)];
                ours.contains(&net) && a != self.ipv6 && a != self.link_local
            }
        }
    }

    /// True if the host has this address.
    pub(crate) fn is_host(&self, address: IpAddr) -> bool {
        address == self.ipv4 || address == self.ipv6 || address == self.link_local
    }

    /// Bytes of the longest IP packet.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu.unwrap_or(1500)
    }
}

const fn limit(what: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if value < min || value > max { Err(ConfigError::Limit { what, value, min, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_that_can_be_are_taken() {
        let good = UserNetConfig::default();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.mask(), Ipv4Addr::new(255, 255, 255, 0));
        let with = |change: fn(&mut UserNetConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert_eq!(with(|c| c.mac = [1, 0, 0, 0, 0, 0]), ConfigError::Mac([1, 0, 0, 0, 0, 0]));
        assert_eq!(with(|c| c.prefix4 = 33), ConfigError::Prefix(33));
        assert!(matches!(with(|c| c.ipv4 = Ipv4Addr::new(10, 0, 2, 255)), ConfigError::Address(_)));
        assert!(matches!(with(|c| c.ipv6 = c.link_local), ConfigError::Address(_)));
        assert!(matches!(with(|c| c.first_lease = c.ipv4), ConfigError::Leases { .. }));
        assert!(matches!(with(|c| c.leases = 241), ConfigError::Leases { .. }));
        assert_eq!(with(|c| c.mtu = Some(576)), ConfigError::Mtu(576));
        assert!(matches!(with(|c| c.name = "a..b".into()), ConfigError::Name(_)));
        assert!(matches!(with(|c| c.window = 0), ConfigError::Limit { what: "window", .. }));
    }
}
