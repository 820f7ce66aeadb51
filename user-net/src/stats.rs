//! What the network has done: counters for the daemon's summary.

use std::net::Ipv4Addr;
use std::time::Duration;

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// All of them, in the order of the tables.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in summaries.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

table! {
    /// What a guest can talk to.
    Service {
        /// TCP port 7: what comes goes back (RFC 862).
        TcpEcho = "tcp-echo",
        /// TCP port 9: what comes is dropped (RFC 863).
        TcpDiscard = "tcp-discard",
        /// TCP port 19: the pattern of RFC 864 without end.
        TcpSource = "tcp-source",
        /// TCP port 4809: SHA-256 of what came.
        TcpDigest = "tcp-digest",
        /// UDP port 7: what comes goes back.
        UdpEcho = "udp-echo",
        /// UDP port 9: what comes is dropped.
        UdpDiscard = "udp-discard",
        /// UDP port 19: as many datagrams as asked for.
        UdpSource = "udp-source",
        /// UDP port 4809: counts datagrams.
        UdpCounter = "udp-counter",
        /// UDP port 53: the host's own name.
        Dns = "dns",
        /// UDP port 67: addresses.
        Dhcp = "dhcp",
        /// Answers to router solicitations.
        RouterAdvert = "router-advert",
    }
}

table! {
    /// Why a frame from the guest, or an answer to it, came to nothing.
    DropReason {
        /// Neither ARP nor IP.
        UnknownEtherType = "unknown-ethertype",
        /// Lengths or fields that cannot be.
        BadHeader = "bad-header",
        /// A checksum is wrong.
        BadChecksum = "bad-checksum",
        /// A fragment: there is no reassembly.
        Fragment = "fragment",
        /// IPv6 with a hop-by-hop header (multicast listener reports, mostly).
        HopByHop = "hop-by-hop",
        /// A source address that is not of this network, or is the host's own.
        ForeignSource = "foreign-source",
        /// For somebody else: another MAC address or IP address.
        NotForUs = "not-for-us",
        /// A DHCP, DNS or other request that makes no sense.
        BadRequest = "bad-request",
        /// All connections are in use.
        Refused = "refused",
        /// The guest does not take its frames fast enough.
        Backlog = "backlog",
        /// The receive queue can never take the frame.
        Undeliverable = "undeliverable",
    }
}

/// Counters of one service. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceStats {
    /// TCP connections that were established.
    pub connections: u64,
    /// Requests and datagrams that came.
    pub datagrams: u64,
    /// Payload bytes from the guest.
    pub bytes_in: u64,
    /// Payload bytes to the guest.
    pub bytes_out: u64,
}

/// An address that a guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The guest's MAC address.
    pub mac: [u8; 6],
    /// What it got.
    pub address: Ipv4Addr,
    /// For how long it still has it.
    pub left: Duration,
}

/// Counters of a network. All wrap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserNetStats {
    /// Frames from the guest.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames delivered to the guest.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Leases in force.
    pub leases: Vec<Lease>,
    /// TCP connections open now.
    pub open_connections: usize,
    services: [ServiceStats; Service::ALL.len()],
    drops: [u64; DropReason::ALL.len()],
}

impl UserNetStats {
    /// The counters of one service.
    #[must_use]
    pub fn service(&self, service: Service) -> ServiceStats {
        self.services.get(service as usize).copied().unwrap_or_default()
    }

    /// Frames dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    pub(crate) fn count(&mut self, service: Service, bytes_in: usize, bytes_out: usize) {
        if let Some(stats) = self.services.get_mut(service as usize) {
            stats.bytes_in = stats.bytes_in.wrapping_add(bytes_in as u64);
            stats.bytes_out = stats.bytes_out.wrapping_add(bytes_out as u64);
        }
    }

    pub(crate) fn request(&mut self, service: Service, bytes_in: usize) {
        self.count(service, bytes_in, 0);
        if let Some(stats) = self.services.get_mut(service as usize) {
            stats.datagrams = stats.datagrams.wrapping_add(1);
        }
    }

    pub(crate) fn connection(&mut self, service: Service) {
        if let Some(stats) = self.services.get_mut(service as usize) {
            stats.connections = stats.connections.wrapping_add(1);
        }
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        if let Some(drops) = self.drops.get_mut(reason as usize) {
            *drops = drops.wrapping_add(1);
        }
    }

    pub(crate) fn set_dropped(&mut self, reason: DropReason, count: u64) {
        if let Some(drops) = self.drops.get_mut(reason as usize) {
            *drops = count;
        }
    }
}
