//! The DHCP server (RFC 2131): a fixed pool of addresses, one for each MAC address.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use crate::config::UserNetConfig;
use crate::packet::Route;
use crate::phy::Frame;
use crate::stats::Lease;

/// How long an offer stands.
const OFFER: Duration = Duration::from_secs(30);
/// How long an address rests that a client found in use.
const REST: Duration = Duration::from_secs(600);
/// Shortest message: what BOOTP demanded.
const SHORTEST: usize = 300;
const SERVER: u16 = 67;
const CLIENT: u16 = 68;
const OPTION_DNS: u8 = 6;
const OPTION_MTU: u8 = 26;

/// What became of one address of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Free,
    Offered([u8; 6]),
    Bound([u8; 6]),
    Declined,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    address: Ipv4Addr,
    used: Use,
    until: Instant,
}

impl Slot {
    fn owner(&self) -> Option<[u8; 6]> {
        match self.used {
            Use::Offered(mac) | Use::Bound(mac) => Some(mac),
            Use::Free | Use::Declined => None,
        }
    }

    /// What a new client may have: what nobody holds any more.
    fn is_vacant(&self, now: Instant) -> bool {
        self.used == Use::Free || self.until <= now
    }
}

/// The server.
#[derive(Debug)]
pub(crate) struct Dhcp {
    pool: Vec<Slot>,
}

/// What a request is answered with.
enum Answer {
    Offer(Ipv4Addr),
    Ack(Ipv4Addr),
    /// Options only.
    Inform,
    Nak,
    Silence,
}

impl Dhcp {
    pub(crate) fn new(config: &UserNetConfig, now: Instant) -> Self {
        let slot = |n| config.lease(n).map(|address| Slot { address, used: Use::Free, until: now });
        Self { pool: (0..config.leases).filter_map(slot).collect() }
    }

    /// The leases in force.
    pub(crate) fn leases(&self, now: Instant) -> Vec<Lease> {
        let bound = self.pool.iter().filter(|s| s.until > now);
        bound
            .filter_map(|s| match s.used {
                Use::Bound(mac) => {
                    Some(Lease { mac, address: s.address, left: s.until.saturating_duration_since(now) })
                }
                _ => None,
            })
            .collect()
    }

    /// Serves one request and writes the answer to `reply`, if there is one: `Ok(true)`.
    ///
    /// # Errors
    /// `Err(())` if it is not a request of a client.
    pub(crate) fn serve(
        &mut self,
        config: &UserNetConfig,
        message: &[u8],
        reply: &mut Frame,
        now: Instant,
    ) -> Result<bool, ()> {
        let packet = DhcpPacket::new_checked(message).map_err(drop)?;
        let request = DhcpRepr::parse(&packet).map_err(drop)?;
        let mac = request.client_hardware_address;
        // Relays are not served: there is no other link.
        if !mac.is_unicast() || mac.0 == [0; 6] || !request.relay_agent_ip.is_unspecified() {
            return Err(());
        }
        let ours = request.server_identifier.is_none_or(|id| id == config.ipv4);
        let answer = match request.message_type {
            DhcpMessageType::Discover => self.offer(mac.0, request.requested_ip, now),
            DhcpMessageType::Request if !ours => {
                self.release(mac.0, None);
                Answer::Silence
            }
            DhcpMessageType::Request => self.bind(config, &request, now),
            DhcpMessageType::Inform if config.is_guest(request.client_ip.into()) => Answer::Inform,
            DhcpMessageType::Release if ours => {
                self.release(mac.0, Some(request.client_ip));
                Answer::Silence
            }
            DhcpMessageType::Decline if ours => {
                self.decline(mac.0, request.requested_ip, now);
                Answer::Silence
            }
            DhcpMessageType::Inform | DhcpMessageType::Release | DhcpMessageType::Decline => Answer::Silence,
            _ => return Err(()),
        };
        Ok(write(config, &request, &answer, reply).is_some())
    }

    fn offer(&mut self, mac: [u8; 6], wanted: Option<Ipv4Addr>, now: Instant) -> Answer {
        let pool = &self.pool;
        // What it has or had; what it wants; what was never used; what is used no more; the oldest offer.
        let found = pool
            .iter()
            .position(|s| s.owner() == Some(mac))
            .or_else(|| pool.iter().position(|s| Some(s.address) == wanted && s.is_vacant(now)))
            .or_else(|| pool.iter().position(|s| s.used == Use::Free))
            .or_else(|| pool.iter().position(|s| s.is_vacant(now)))
            .or_else(|| {
                let offers = pool.iter().enumerate().filter(|(_, s)| matches!(s.used, Use::Offered(_)));
                offers.min_by_key(|(_, s)| s.until).map(|(n, _)| n)
            });
        let Some(slot) = found.and_then(|n| self.pool.get_mut(n)) else { return Answer::Silence };
        if slot.used != Use::Bound(mac) || slot.until <= now {
            slot.used = Use::Offered(mac);
            slot.until = now.checked_add(OFFER).unwrap_or(now);
        }
        Answer::Offer(slot.address)
    }

    fn bind(&mut self, config: &UserNetConfig, request: &DhcpRepr<'_>, now: Instant) -> Answer {
        let mac = request.client_hardware_address.0;
        let wanted = request.requested_ip.unwrap_or(request.client_ip);
        let slot = self.pool.iter_mut().find(|s| s.address == wanted);
        let Some(slot) = slot.filter(|s| s.owner() == Some(mac) || s.is_vacant(now)) else { return Answer::Nak };
        slot.used = Use::Bound(mac);
        slot.until = now.checked_add(config.lease_time).unwrap_or(now);
        // One address each: what it was offered before is free again.
        for other in self.pool.iter_mut().filter(|s| s.address != wanted && s.owner() == Some(mac)) {
            other.used = Use::Free;
        }
        Answer::Ack(wanted)
    }

    /// Frees what the client has: a certain address, or what it was only offered.
    fn release(&mut self, mac: [u8; 6], address: Option<Ipv4Addr>) {
        for slot in self.pool.iter_mut().filter(|s| s.owner() == Some(mac)) {
            if address.is_none_or(|a| a == slot.address) && (address.is_some() || slot.used == Use::Offered(mac)) {
                slot.used = Use::Free;
            }
        }
    }

    fn decline(&mut self, mac: [u8; 6], address: Option<Ipv4Addr>, now: Instant) {
        for slot in self.pool.iter_mut().filter(|s| s.owner() == Some(mac) && Some(s.address) == address) {
            slot.used = Use::Declined;
            slot.until = now.checked_add(REST).unwrap_or(now);
        }
    }
}

/// Writes the answer as a frame. `None` if there is none to be given.
fn write(config: &UserNetConfig, request: &DhcpRepr<'_>, answer: &Answer, reply: &mut Frame) -> Option<()> {
    let (kind, address) = match answer {
        Answer::Offer(address) => (DhcpMessageType::Offer, *address),
        Answer::Ack(address) => (DhcpMessageType::Ack, *address),
        Answer::Inform => (DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED),
        Answer::Nak => (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED),
        Answer::Silence => return None,
    };
    let nak = kind == DhcpMessageType::Nak;
    let dns = config.ipv4.octets();
    let mtu = config.mtu().to_be_bytes();
    let all = [DhcpOption { kind: OPTION_DNS, data: &dns }, DhcpOption { kind: OPTION_MTU, data: &mtu }];
    let count = if nak { 0 } else { 1_usize.saturating_add(config.mtu.is_some().into()) };
    let seconds = u32::try_from(config.lease_time.as_secs()).unwrap_or(u32::MAX);
    let repr = DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: if nak { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
        your_ip: address,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: (!nak).then_some(config.ipv4),
        subnet_mask: (!nak).then(|| config.mask()),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(config.ipv4),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: (!address.is_unspecified()).then_some(seconds),
        renew_duration: None,
        rebind_duration: None,
        additional_options: all.get(..count).unwrap_or_default(),
    };
    let mut message = vec![0; repr.buffer_len().max(SHORTEST)];
    repr.emit(&mut DhcpPacket::new_unchecked(message.as_mut_slice())).ok()?;
    to_client(config, request, address, nak).datagram(reply, (SERVER, CLIENT), &message);
    Some(())
}

/// Where an answer goes (RFC 2131, 4.1).
fn to_client(config: &UserNetConfig, request: &DhcpRepr<'_>, address: Ipv4Addr, nak: bool) -> Route {
    let mac = request.client_hardware_address;
    let (dst_mac, dst) = if nak {
        (EthernetAddress::BROADCAST, Ipv4Addr::BROADCAST)
    } else if config.is_guest(request.client_ip.into()) {
        (mac, request.client_ip)
    } else if request.broadcast || address.is_unspecified() {
        (EthernetAddress::BROADCAST, Ipv4Addr::BROADCAST)
    } else {
        (mac, address)
    };
    Route { src_mac: config.mac, dst_mac: dst_mac.0, src: config.ipv4.into(), dst: dst.into() }
}
