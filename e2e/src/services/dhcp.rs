//! A DHCP server (RFC 2131) as small as one guest at a time needs: an address for each hardware address, the
//! first free one, for ever the same.

use guest_agent::{GUEST4, HOST4};
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// All clients of the network, as an IPv6 socket names them.
pub(super) const CLIENTS: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xffff, 0xffff)), 68);
/// Clients that can have an address at the same time.
const MOST: usize = 200;
const SECONDS: u32 = 3600;
/// RFC 2132, 3.8.
const DNS_SERVERS: u8 = 6;

/// Who has which address: the place in the list, counted from the first address.
#[derive(Default)]
pub(super) struct Leases(Vec<EthernetAddress>);

impl Leases {
    /// The reply to a client's message, if it is to have one.
    pub(super) fn answer(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        let asked = DhcpRepr::parse(&packet).ok()?;
        let message_type = match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request if asked.server_identifier.is_none_or(|s| s == HOST4) => DhcpMessageType::Ack,
            _ => return None,
        };
        let address = self.address(asked.client_hardware_address)?;
        let other = |a: Option<Ipv4Addr>| a.is_some_and(|a| a != address && !a.is_unspecified());
        let refused = message_type == DhcpMessageType::Ack && other(asked.requested_ip);
        let dns = DhcpOption { kind: DNS_SERVERS, data: &HOST4.octets() };
        let reply = DhcpRepr {
            message_type: if refused { DhcpMessageType::Nak } else { message_type },
            your_ip: if refused { Ipv4Addr::UNSPECIFIED } else { address },
            server_ip: HOST4,
            router: Some(HOST4),
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            server_identifier: Some(HOST4),
            lease_duration: Some(SECONDS),
            additional_options: &[dns],
            dns_servers: None,
            client_identifier: None,
            parameter_request_list: None,
            requested_ip: None,
            max_size: None,
            ..asked
        };
        let mut bytes = vec![0; reply.buffer_len()];
        reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).ok()?;
        Some(bytes)
    }

    fn address(&mut self, client: EthernetAddress) -> Option<Ipv4Addr> {
        let known = self.0.iter().position(|c| *c == client);
        let place = known.unwrap_or(self.0.len());
        if known.is_none() {
            if self.0.len() >= MOST {
                return None;
            }
            self.0.push(client);
        }
        let [a, b, c, first] = GUEST4.octets();
        Some(Ipv4Addr::new(a, b, c, first.checked_add(u8::try_from(place).ok()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(client: u8, message_type: DhcpMessageType, requested_ip: Option<Ipv4Addr>) -> Vec<u8> {
        let repr = DhcpRepr {
            message_type,
            transaction_id: 0x1234_5678,
            secs: 0,
            client_hardware_address: EthernetAddress([2, 0, 0, 0, 0, client]),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).unwrap();
        bytes
    }

    fn ask(leases: &mut Leases, message: &[u8]) -> (DhcpMessageType, Ipv4Addr) {
        let reply = leases.answer(message).unwrap();
        let packet = DhcpPacket::new_unchecked(&reply);
        let reply = DhcpRepr::parse(&packet).unwrap();
        assert_eq!((reply.transaction_id, reply.router), (0x1234_5678, Some(HOST4)));
        assert_eq!(reply.dns_servers.unwrap().as_slice(), [HOST4]);
        (reply.message_type, reply.your_ip)
    }

    #[test]
    fn each_client_keeps_its_address() {
        let mut leases = Leases::default();
        let second = Ipv4Addr::new(10, 0, 2, 16);
        for _ in 0..2 {
            assert_eq!(
                ask(&mut leases, &message(1, DhcpMessageType::Discover, None)),
                (DhcpMessageType::Offer, GUEST4)
            );
            assert_eq!(
                ask(&mut leases, &message(2, DhcpMessageType::Discover, None)),
                (DhcpMessageType::Offer, second)
            );
            let request = message(1, DhcpMessageType::Request, Some(GUEST4));
            assert_eq!(ask(&mut leases, &request), (DhcpMessageType::Ack, GUEST4));
        }
        let wrong = message(1, DhcpMessageType::Request, Some(second));
        assert_eq!(ask(&mut leases, &wrong), (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        let mut leases = Leases::default();
        assert_eq!(leases.answer(&message(1, DhcpMessageType::Release, None)), None);
        assert_eq!(leases.answer(b"short"), None);
        for client in 0..=u8::MAX {
            let reply = leases.answer(&message(client, DhcpMessageType::Discover, None));
            assert_eq!(reply.is_some(), usize::from(client) < MOST, "client {client}");
        }
    }
}
