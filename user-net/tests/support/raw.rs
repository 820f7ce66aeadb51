//! Frames by hand, made by etherparse, which shares no code with what is tested.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use user_net::UserNetConfig;

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x15];
pub(crate) const GUEST4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub(crate) const HOST4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub(crate) const GUEST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x15);
pub(crate) const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2);

pub(crate) fn host_mac() -> [u8; 6] {
    UserNetConfig::default().mac
}

pub(crate) fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &MAC, &GUEST4.octets(), &[0; 6]].concat();
    frame.extend_from_slice(&target.octets());
    frame
}

pub(crate) fn udp4(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, host_mac()).ipv4(GUEST4.octets(), HOST4.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(ports.0, ports.1).write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn udp6(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, host_mac()).ipv6(GUEST6.octets(), HOST6.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(ports.0, ports.1).write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn syn4(ports: (u16, u16), seq: u32) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, host_mac()).ipv4(GUEST4.octets(), HOST4.octets(), 64);
    let mut frame = Vec::new();
    builder.tcp(ports.0, ports.1, seq, 64_000).syn().write(&mut frame, &[]).unwrap();
    frame
}

/// Payload of a UDP frame, after its checksums were found right.
pub(crate) fn udp_payload(frame: &[u8]) -> Vec<u8> {
    check(frame);
    let parsed = etherparse::PacketHeaders::from_ethernet_slice(frame).unwrap();
    assert!(matches!(parsed.transport, Some(etherparse::TransportHeader::Udp(_))), "{parsed:?}");
    parsed.payload.slice().to_vec()
}

/// Verifies every checksum of a complete frame.
pub(crate) fn check(frame: &[u8]) {
    use etherparse::{NetHeaders, TransportHeader};
    let parsed = etherparse::PacketHeaders::from_ethernet_slice(frame).unwrap();
    let payload = parsed.payload.slice();
    match (&parsed.net, &parsed.transport) {
        (Some(NetHeaders::Ipv4(ip, _)), transport) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IPv4 header");
            match transport {
                Some(TransportHeader::Udp(h)) => assert_eq!(h.checksum, h.calc_checksum_ipv4(ip, payload).unwrap()),
                Some(TransportHeader::Tcp(h)) => assert_eq!(h.checksum, h.calc_checksum_ipv4(ip, payload).unwrap()),
                Some(TransportHeader::Icmpv4(h)) => assert_eq!(h.checksum, h.icmp_type.calc_checksum(payload)),
                other => panic!("{other:?}"),
            }
        }
        (Some(NetHeaders::Ipv6(ip, _)), transport) => match transport {
            Some(TransportHeader::Udp(h)) => assert_eq!(h.checksum, h.calc_checksum_ipv6(ip, payload).unwrap()),
            Some(TransportHeader::Tcp(h)) => assert_eq!(h.checksum, h.calc_checksum_ipv6(ip, payload).unwrap()),
            Some(TransportHeader::Icmpv6(h)) => {
                let sum = h.icmp_type.calc_checksum(ip.source, ip.destination, payload).unwrap();
                assert_eq!(h.checksum, sum);
            }
            other => panic!("{other:?}"),
        },
        (Some(NetHeaders::Arp(_)), None) => {}
        other => panic!("{other:?}"),
    }
}
