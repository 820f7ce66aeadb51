//! How a guest gets its addresses, and finds the host.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, missing_docs)]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder, PacketHeaders, TransportHeader};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};
use support::raw::{GUEST4, GUEST6, HOST4, HOST6, MAC, arp_request, check, host_mac, udp_payload, udp4, udp6};
use support::{Guest, all, plain};
use user_net::{DropReason, Service, UserNetConfig};

#[test]
fn arp_finds_the_host_and_nobody_else() {
    let mut guest = Guest::new(plain());
    let replies = guest.exchange(&arp_request(HOST4));
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0][..6], MAC);
    assert_eq!(replies[0][20..22], [0, 2]);
    assert_eq!(replies[0][22..28], host_mac());
    assert_eq!(replies[0][28..32], HOST4.octets());
    assert!(guest.exchange(&arp_request(Ipv4Addr::new(10, 0, 2, 3))).is_empty());
}

#[test]
fn echo_requests_are_answered_at_once_even_without_arp() {
    let mut guest = Guest::new(all());
    let echo = IcmpEchoHeader { id: 7, seq: 3 };
    for len in [0, 56, 1400] {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MAC, host_mac())
            .ipv4(GUEST4.octets(), HOST4.octets(), 64)
            .icmpv4(Icmpv4Type::EchoRequest(echo))
            .write(&mut frame, &data)
            .unwrap();
        let replies = guest.exchange(&frame);
        assert_eq!(replies.len(), 1, "{len} bytes");
        check(&replies[0]);
        let parsed = PacketHeaders::from_ethernet_slice(&replies[0]).unwrap();
        let Some(TransportHeader::Icmpv4(icmp)) = parsed.transport else { panic!("{parsed:?}") };
        assert_eq!(icmp.icmp_type, Icmpv4Type::EchoReply(echo));
        assert_eq!(parsed.payload.slice(), data);

        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MAC, host_mac())
            .ipv6(GUEST6.octets(), HOST6.octets(), 64)
            .icmpv6(Icmpv6Type::EchoRequest(echo))
            .write(&mut frame, &data)
            .unwrap();
        let replies = guest.exchange(&frame);
        assert_eq!(replies.len(), 1, "{len} bytes");
        check(&replies[0]);
        let parsed = PacketHeaders::from_ethernet_slice(&replies[0]).unwrap();
        let Some(TransportHeader::Icmpv6(icmp)) = parsed.transport else { panic!("{parsed:?}") };
        assert_eq!(icmp.icmp_type, Icmpv6Type::EchoReply(echo));
        assert_eq!(parsed.payload.slice(), data);
    }
}

fn icmpv6(src: Ipv6Addr, dst: (Ipv6Addr, [u8; 6]), message: &[u8]) -> Vec<u8> {
    let kind = Icmpv6Type::Unknown { type_u8: message[0], code_u8: 0, bytes5to8: message[4..8].try_into().unwrap() };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MAC, dst.1)
        .ipv6(src.octets(), dst.0.octets(), 255)
        .icmpv6(kind)
        .write(&mut frame, &message[8..])
        .unwrap();
    frame
}

#[test]
fn neighbour_solicitations_are_answered() {
    let mut guest = Guest::new(plain());
    for target in [HOST6, UserNetConfig::default().link_local] {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &MAC].concat();
        let replies = guest.exchange(&icmpv6(GUEST6, (group, [0x33, 0x33, 0xff, 0, 0, 2]), &message));
        assert_eq!(replies.len(), 1);
        check(&replies[0]);
        assert_eq!((replies[0][54], &replies[0][62..78]), (136, &target.octets()[..]));
        assert!(replies[0].ends_with(&host_mac()));
    }
}

#[test]
fn router_solicitations_bring_the_prefix() {
    let config = UserNetConfig { mtu: Some(4000), ..UserNetConfig::default() };
    let mut guest = Guest::with(plain(), config.clone(), 256);
    let all_routers = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), [0x33, 0x33, 0, 0, 0, 2]);
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x15);
    for (src, dst) in [(own, own), (Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1))] {
        let replies = guest.exchange(&icmpv6(src, all_routers, &[133, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(replies.len(), 1);
        let frame = &replies[0];
        check(frame);
        let parsed = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let Some(etherparse::NetHeaders::Ipv6(ip, _)) = parsed.net else { panic!() };
        assert_eq!((ip.source, ip.destination, ip.hop_limit), (config.link_local.octets(), dst.octets(), 255));
        let options = &frame[54 + 16..];
        let option = |kind: u8| {
            let mut rest = options;
            while rest[0] != kind {
                rest = &rest[usize::from(rest[1]) * 8..];
            }
            rest[..usize::from(rest[1]) * 8].to_vec()
        };
        assert_eq!(frame[54], 134);
        assert_eq!(option(1)[2..8], host_mac());
        assert_eq!(option(5)[4..8], 4000_u32.to_be_bytes());
        let prefix = option(3);
        assert_eq!(prefix[2..4], [64, 0xc0]);
        assert_eq!(prefix[16..], Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0).octets());
        assert_eq!(option(25)[8..], HOST6.octets());
    }
    assert_eq!(guest.net.stats().service(Service::RouterAdvert).datagrams, 2);
    let mut near = icmpv6(own, all_routers, &[133, 0, 0, 0, 0, 0, 0, 0]);
    near[21] = 64;
    assert!(guest.exchange(&near).is_empty(), "hop limit 64: from another link");
}

/// A client's request; `change` fills in what matters.
fn dhcp(mac: [u8; 6], kind: DhcpMessageType, change: impl FnOnce(&mut DhcpRepr<'_>)) -> Vec<u8> {
    let mut repr = DhcpRepr {
        message_type: kind,
        transaction_id: 0x1234_5678,
        secs: 0,
        client_hardware_address: EthernetAddress(mac),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: Some(&[1, 3, 6, 26]),
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    change(&mut repr);
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(message.as_mut_slice())).unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0xff; 6])
        .ipv4(repr.client_ip.octets(), [255; 4], 64)
        .udp(68, 67)
        .write(&mut frame, &message)
        .unwrap();
    frame
}

#[derive(Debug, PartialEq)]
struct Reply {
    kind: DhcpMessageType,
    address: Ipv4Addr,
    dst_mac: [u8; 6],
    dst: Ipv4Addr,
    mask: Option<Ipv4Addr>,
    router: Option<Ipv4Addr>,
    dns: Option<Ipv4Addr>,
    lease: Option<u32>,
    mtu: Option<u16>,
}

fn reply(frames: &[Vec<u8>]) -> Reply {
    assert_eq!(frames.len(), 1);
    let message = udp_payload(&frames[0]);
    let packet = DhcpPacket::new_checked(&message[..]).unwrap();
    let repr = DhcpRepr::parse(&packet).unwrap();
    assert_eq!((repr.transaction_id, repr.server_identifier), (0x1234_5678, Some(HOST4)));
    let mtu = packet.options().find(|o| o.kind == 26).map(|o| u16::from_be_bytes(o.data.try_into().unwrap()));
    Reply {
        kind: repr.message_type,
        address: repr.your_ip,
        dst_mac: frames[0][..6].try_into().unwrap(),
        dst: Ipv4Addr::from(<[u8; 4]>::try_from(&frames[0][30..34]).unwrap()),
        mask: repr.subnet_mask,
        router: repr.router,
        dns: repr.dns_servers.as_ref().and_then(|d| d.first().copied()),
        lease: repr.lease_duration,
        mtu,
    }
}

#[test]
fn dhcp_gives_an_address_and_everything_with_it() {
    let config = UserNetConfig { mtu: Some(9000), lease_time: Duration::from_secs(3600), ..UserNetConfig::default() };
    let mut guest = Guest::with(all(), config, 256);
    let offer = reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Discover, |_| {})));
    let expected = Reply {
        kind: DhcpMessageType::Offer,
        address: GUEST4,
        dst_mac: MAC,
        dst: GUEST4,
        mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        router: Some(HOST4),
        dns: Some(HOST4),
        lease: Some(3600),
        mtu: Some(9000),
    };
    assert_eq!(offer, expected);
    assert!(guest.net.stats().leases.is_empty(), "an offer is no lease");
    let request = |r: &mut DhcpRepr<'_>| (r.requested_ip, r.server_identifier) = (Some(GUEST4), Some(HOST4));
    let ack = reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Request, request)));
    assert_eq!(ack, Reply { kind: DhcpMessageType::Ack, ..expected });
    let leases = guest.net.stats().leases;
    assert_eq!((leases.len(), leases[0].mac, leases[0].address), (1, MAC, GUEST4));
    // Renewal by unicast, information only, and a wish that cannot be granted.
    let renew = reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Request, |r| r.client_ip = GUEST4)));
    assert_eq!((renew.kind, renew.dst, renew.dst_mac), (DhcpMessageType::Ack, GUEST4, MAC));
    let other = Ipv4Addr::new(10, 0, 2, 77);
    let inform = reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Inform, |r| r.client_ip = other)));
    let seen = (inform.kind, inform.address, inform.dst, inform.lease, inform.router);
    assert_eq!(seen, (DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED, other, None, Some(HOST4)));
    let outside = |r: &mut DhcpRepr<'_>| r.requested_ip = Some(Ipv4Addr::new(192, 168, 1, 1));
    let nak = reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Request, outside)));
    assert_eq!((nak.kind, nak.dst, nak.mask), (DhcpMessageType::Nak, Ipv4Addr::BROADCAST, None));
    // Another guest cannot have it, until it is released.
    let second = [2, 0, 0, 0, 0, 0x16];
    let wish = |r: &mut DhcpRepr<'_>| r.requested_ip = Some(GUEST4);
    assert_eq!(reply(&guest.exchange(&dhcp(second, DhcpMessageType::Request, wish))).kind, DhcpMessageType::Nak);
    let offer = reply(&guest.exchange(&dhcp(second, DhcpMessageType::Discover, wish)));
    assert_eq!(offer.address, Ipv4Addr::new(10, 0, 2, 16));
    let release = |r: &mut DhcpRepr<'_>| (r.client_ip, r.server_identifier) = (GUEST4, Some(HOST4));
    assert!(guest.exchange(&dhcp(MAC, DhcpMessageType::Release, release)).is_empty());
    assert!(guest.net.stats().leases.is_empty());
    let ack = reply(&guest.exchange(&dhcp(second, DhcpMessageType::Request, wish)));
    assert_eq!((ack.kind, ack.address), (DhcpMessageType::Ack, GUEST4));
    // In use, says the client: it gets another one, and nobody gets this one.
    let decline = |r: &mut DhcpRepr<'_>| (r.requested_ip, r.server_identifier) = (Some(GUEST4), Some(HOST4));
    assert!(guest.exchange(&dhcp(second, DhcpMessageType::Decline, decline)).is_empty());
    for mac in [MAC, second] {
        let offer = reply(&guest.exchange(&dhcp(mac, DhcpMessageType::Discover, wish)));
        assert_ne!(offer.address, GUEST4);
    }
}

#[test]
fn dhcp_keeps_a_lease_over_a_restart_and_serves_when_its_pool_was_flooded() {
    let mut guest = Guest::new(all());
    for n in 0..1000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let offer = guest.exchange(&dhcp([2, 1, 0, a, b, c], DhcpMessageType::Discover, |_| {}));
        assert_eq!(offer.len(), 1, "client {n}");
    }
    let broadcast = |r: &mut DhcpRepr<'_>| r.broadcast = true;
    let offer = reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Discover, broadcast)));
    assert_eq!((offer.dst, offer.dst_mac), (Ipv4Addr::BROADCAST, [0xff; 6]));
    let request = |r: &mut DhcpRepr<'_>| r.requested_ip = Some(offer.address);
    assert_eq!(reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Request, request))).kind, DhcpMessageType::Ack);
    guest.net.start(all());
    assert_eq!(guest.net.stats().leases.len(), 1);
    let again = reply(&guest.exchange(&dhcp(MAC, DhcpMessageType::Discover, |_| {})));
    assert_eq!(again.address, offer.address);
}

#[test]
fn dns_knows_the_host() {
    let mut guest = Guest::new(all());
    let question = |kind: u8| {
        let mut q = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4];
        q.extend_from_slice(b"host\x06virtio\x08internal\0\0");
        q.extend_from_slice(&[kind, 0, 1]);
        q
    };
    let replies = guest.exchange(&udp4((5000, 53), &question(1)));
    // All offloads: the checksum is left to the guest, so only what is inside can be compared.
    let parsed = PacketHeaders::from_ethernet_slice(&replies[0]).unwrap();
    assert!(parsed.payload.slice().ends_with(&HOST4.octets()));
    let mut guest = Guest::new(plain());
    assert!(udp_payload(&guest.exchange(&udp6((5000, 53), &question(28)))[0]).ends_with(&HOST6.octets()));
    assert!(guest.exchange(&udp4((5000, 53), &[1, 2, 3])).is_empty());
    assert_eq!(guest.net.stats().dropped(DropReason::BadRequest), 1);
    assert_eq!(guest.net.stats().service(Service::Dns).datagrams, 2);
}

#[test]
fn ports_without_a_service_say_so() {
    let mut guest = Guest::new(plain());
    for frame in [udp4((5000, 5001), b"x"), udp6((5000, 5001), b"x")] {
        let replies = guest.exchange(&frame);
        assert_eq!(replies.len(), 1);
        check(&replies[0]);
    }
    let replies = guest.exchange(&support::raw::syn4((5000, 80), 1));
    assert_eq!(replies.len(), 1);
    check(&replies[0]);
    assert_eq!(replies[0][47] & 0x04, 0x04, "RST");
}

#[test]
fn strangers_are_not_answered() {
    let mut guest = Guest::new(plain());
    let from = |src: IpAddr, dst: Ipv4Addr, mac| {
        let IpAddr::V4(src) = src else { panic!() };
        let mut frame = Vec::new();
        let ip = PacketBuilder::ethernet2(MAC, mac).ipv4(src.octets(), dst.octets(), 64);
        ip.udp(5, 7).write(&mut frame, b"hello").unwrap();
        frame
    };
    for src in [[0, 0, 0, 0], [127, 0, 0, 1], [255; 4], [10, 0, 2, 2], [10, 0, 2, 255], [10, 0, 3, 1], [224, 0, 0, 1]] {
        assert!(guest.exchange(&from(src.into(), HOST4, host_mac())).is_empty(), "{src:?}");
    }
    assert_eq!(guest.net.stats().dropped(DropReason::ForeignSource), 7);
    assert!(guest.exchange(&from(GUEST4.into(), HOST4, [2, 9, 9, 9, 9, 9])).is_empty());
    assert!(guest.exchange(&from(GUEST4.into(), Ipv4Addr::new(8, 8, 8, 8), host_mac())).is_empty());
    assert_eq!(guest.net.stats().dropped(DropReason::NotForUs), 2);
    let mut wrong = udp4((5, 7), b"hello");
    wrong[40] ^= 1;
    assert!(guest.exchange(&wrong).is_empty());
    assert_eq!(guest.net.stats().dropped(DropReason::BadChecksum), 1);
    assert_eq!(guest.exchange(&udp4((5, 7), b"hello")).len(), 1);
}
