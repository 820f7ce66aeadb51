//! The source checks of IP addresses, and what DHCP teaches.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use net_filter::{DhcpAck, IpSources, Lease, MacAddr, SpoofCheck, SpoofReason as R, learn, may_teach};
use proptest::prelude::*;

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x57]);
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const NONE4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const NONE6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

fn given6() -> Ipv6Addr {
    "2001:db8::5".parse().unwrap()
}

/// What the guest's MAC address comes to.
fn local() -> Ipv6Addr {
    "fe80::5054:ff:fe12:3456".parse().unwrap()
}

fn check() -> SpoofCheck {
    SpoofCheck::with_ip(OWN, Arc::new(IpSources::new(OWN, &[IpAddr::V4(V4), IpAddr::V6(given6())], None)))
}

/// From the guest's address, with as many tags.
fn frame(tags: usize, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &OWN.0].concat();
    for n in 0..tags {
        frame.extend(if n == 0 && tags > 1 { [0x88, 0xa8] } else { [0x81, 0] });
        frame.extend([0, 7]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

fn v4(source: Ipv4Addr, protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45 + options as u8, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend(source.octets());
    packet.extend([10, 0, 0, 1]);
    packet.extend(vec![0; options * 4]);
    packet.extend(payload);
    packet
}

fn udp(from: u16, to: u16) -> Vec<u8> {
    datagram(from, to, &[])
}

fn datagram(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &(8 + payload.len() as u16).to_be_bytes(), &[0, 0], payload].concat()
}

/// A client's message to a server, with UDP in front.
fn client(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&OWN.0);
    change(&mut message);
    [udp(68, 67), message].concat()
}

fn v6(source: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 255];
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend(source.octets());
    packet.extend("ff02::1".parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(payload);
    packet
}

fn arp(op: u16, sender: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4][..], &op.to_be_bytes(), &sender.0.0, &sender.1.octets(), &[0; 6], &V4.octets()].concat()
}

/// A neighbour discovery message: type, target if it has one, options.
fn nd(kind: u8, target: Option<Ipv6Addr>, options: &[(u8, MacAddr)]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.iter().flat_map(|t| t.octets()));
    for (code, mac) in options {
        message.extend([*code, 1]);
        message.extend(mac.0);
    }
    message
}

fn verdict(ethertype: u16, packet: &[u8]) -> Option<R> {
    let verdicts: Vec<_> = (0..3).map(|tags| check().check(&frame(tags, ethertype, packet))).collect();
    assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "tags make no difference: {verdicts:?}");
    verdicts[0]
}

#[test]
fn ipv4_leaves_from_the_guests_addresses_only() {
    let tcp = [0; 20];
    for (source, expected) in
        [(V4, None), (Ipv4Addr::new(10, 0, 0, 6), Some(R::ForeignIp)), (NONE4, Some(R::ForeignIp))]
    {
        for options in [0, 1, 10] {
            assert_eq!(verdict(0x0800, &v4(source, 6, 0, options, &tcp)), expected, "{source}");
            assert_eq!(verdict(0x0800, &v4(source, 17, 0, options, &udp(1000, 2000))), expected, "{source}");
            assert_eq!(verdict(0x0800, &v4(source, 1, 0x2000, options, &[8, 0])), expected, "{source}");
            assert_eq!(verdict(0x0800, &v4(source, 17, 185, options, &[0; 8])), expected, "a later fragment");
        }
    }
    let good = v4(V4, 17, 0, 0, &udp(1000, 2000));
    for len in 0..good.len() {
        assert_eq!(verdict(0x0800, &good[..len]), Some(R::Unreadable), "cut to {len}");
    }
    for first in [0x44, 0x40, 0x55, 0x65, 0x05] {
        let mut bad = good.clone();
        bad[0] = first;
        assert_eq!(verdict(0x0800, &bad), Some(R::Unreadable), "{first:#x}");
    }
}

#[test]
fn a_guest_asks_for_an_address_and_gives_none() {
    assert_eq!(verdict(0x0800, &v4(NONE4, 17, 0, 0, &client(|_| ()))), None);
    assert_eq!(
        verdict(0x0800, &v4(V4, 17, 0, 0, &client(|m| m[12..16].copy_from_slice(&V4.octets())))),
        None,
        "renewal"
    );
    type Change = fn(&mut Vec<u8>);
    let bad: [Change; 7] = [
        |m| m[0] = 2,
        |m| m[2] = 16,
        |m| m[33] ^= 1,
        |m| m[15] = 9,
        |m| m[12..16].copy_from_slice(&[10, 0, 0, 6]),
        |m| m[24] = 10,
        |m| m.truncate(33),
    ];
    for change in bad {
        for source in [NONE4, V4] {
            assert_eq!(verdict(0x0800, &v4(source, 17, 0, 0, &client(change))), Some(R::Dhcp), "in another's name");
        }
    }
    // What goes to a client is a server's, from whatever port: many clients do not look at it.
    for (from, to) in [(67, 68), (67, 67), (67, 1000), (1067, 68), (68, 68)] {
        for source in [NONE4, V4, Ipv4Addr::new(10, 0, 0, 1)] {
            assert_eq!(verdict(0x0800, &v4(source, 17, 0, 0, &udp(from, to))), Some(R::Dhcp));
        }
    }
    assert_eq!(verdict(0x0800, &v4(NONE4, 17, 0, 0, &udp(68, 66))), Some(R::ForeignIp));
    assert_eq!(verdict(0x0800, &v4(NONE4, 17, 0x2000, 0, &client(|_| ()))), Some(R::Dhcp), "in pieces");
    assert_eq!(verdict(0x0800, &v4(V4, 17, 0x2000, 0, &udp(67, 68))), Some(R::Dhcp), "the first piece shows it");
    assert_eq!(verdict(0x0800, &v4(V4, 17, 0x2000, 0, &[0, 67, 0])), Some(R::Fragment), "hidden behind a cut");
    assert_eq!(verdict(0x0800, &v4(V4, 17, 1, 0, &[0; 8])), Some(R::Fragment), "written over later (RFC 1858)");
    assert_eq!(verdict(0x86dd, &v6(local(), 17, &udp(546, 547))), None);
    for (from, to) in [(547, 546), (547, 547), (1547, 546), (546, 546)] {
        assert_eq!(verdict(0x86dd, &v6(local(), 17, &udp(from, to))), Some(R::Dhcp), "{from} {to}");
    }
}

#[test]
fn arp_speaks_for_the_guest_alone() {
    for op in [1, 2] {
        assert_eq!(verdict(0x0806, &arp(op, (OWN, V4))), None);
        assert_eq!(verdict(0x0806, &arp(op, (OWN, NONE4))), (op == 2).then_some(R::Arp), "a probe");
        let mut other = arp(op, (OWN, NONE4));
        other[27] ^= 1;
        assert_eq!(verdict(0x0806, &other), Some(R::Arp), "a probe of a neighbour's address");
        assert_eq!(verdict(0x0806, &arp(op, (OTHER, V4))), Some(R::Arp));
        assert_eq!(verdict(0x0806, &arp(op, (OWN, Ipv4Addr::new(10, 0, 0, 1)))), Some(R::Arp));
    }
    for op in [0, 3, 8, 0x100] {
        assert_eq!(verdict(0x0806, &arp(op, (OWN, V4))), Some(R::Arp), "{op}");
    }
    let good = arp(1, (OWN, V4));
    for len in 0..good.len() {
        assert_eq!(verdict(0x0806, &good[..len]), Some(R::Arp));
    }
    for at in 0..6 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(verdict(0x0806, &bad), Some(R::Arp), "byte {at}");
    }
}

#[test]
fn ipv6_leaves_from_the_guests_addresses_only() {
    let foreign: Ipv6Addr = "2001:db8::6".parse().unwrap();
    let router: Ipv6Addr = "fe80::1".parse().unwrap();
    for (source, expected) in [
        (given6(), None),
        (local(), None),
        (foreign, Some(R::ForeignIp)),
        (router, Some(R::ForeignIp)),
        (NONE6, Some(R::ForeignIp)),
    ] {
        for (protocol, payload) in [(6, vec![0; 20]), (17, udp(1, 2)), (58, vec![128, 0, 0, 0]), (59, vec![])] {
            assert_eq!(verdict(0x86dd, &v6(source, protocol, &payload)), expected, "{source} {protocol}");
            // Hop-by-hop, destination options, routing, authentication in front.
            for (kind, header) in [(0, [protocol, 0]), (60, [protocol, 0]), (43, [protocol, 0]), (51, [protocol, 0])] {
                let extended = [&header[..], &[0; 6], &payload].concat();
                assert_eq!(verdict(0x86dd, &v6(source, kind, &extended)), expected, "{source} {kind} {protocol}");
            }
        }
    }
    let endless: Vec<u8> = [0, 0, 0, 0, 0, 0, 0, 0].repeat(9);
    assert_eq!(verdict(0x86dd, &v6(local(), 0, &endless)), Some(R::Unreadable));
    assert_eq!(verdict(0x86dd, &v6(local(), 0, &[58, 200, 0, 0])), Some(R::Unreadable), "behind the head");
    assert_eq!(verdict(0x86dd, &v6(local(), 17, &[0, 1])), Some(R::Unreadable));
    let mut four = v6(local(), 6, &[0; 20]);
    four[0] = 0x40;
    assert_eq!(verdict(0x86dd, &four), Some(R::Unreadable));
}

#[test]
fn neighbour_discovery_speaks_for_the_guest_alone() {
    let foreign: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let table = [
        // Router solicitation, with and without an address.
        (local(), nd(133, None, &[(1, OWN)]), None),
        (NONE6, nd(133, None, &[]), None),
        (NONE6, nd(133, None, &[(1, OWN)]), Some(R::Neighbour)),
        (local(), nd(133, None, &[(1, OTHER)]), Some(R::Neighbour)),
        // Advertisements of routers, and redirects.
        (local(), nd(134, None, &[]), Some(R::Neighbour)),
        (local(), nd(137, Some(foreign), &[]), Some(R::Neighbour)),
        // Solicitation, also for duplicates.
        (local(), nd(135, Some(foreign), &[(1, OWN)]), None),
        (given6(), nd(135, Some(foreign), &[]), None),
        (NONE6, nd(135, Some(given6()), &[]), None),
        (NONE6, nd(135, Some(foreign), &[]), Some(R::Neighbour)),
        (NONE6, nd(135, Some(given6()), &[(14, OTHER)]), None),
        (NONE6, nd(135, Some(given6()), &[(1, OWN)]), Some(R::Neighbour)),
        (local(), nd(135, Some(foreign), &[(1, OTHER)]), Some(R::Neighbour)),
        (local(), nd(135, Some(foreign), &[(14, OWN), (1, OTHER)]), Some(R::Neighbour)),
        // Advertisement.
        (local(), nd(136, Some(local()), &[(2, OWN)]), None),
        (given6(), nd(136, Some(given6()), &[]), None),
        (local(), nd(136, Some(foreign), &[(2, OWN)]), Some(R::Neighbour)),
        (local(), nd(136, Some(local()), &[(2, OTHER)]), Some(R::Neighbour)),
        (NONE6, nd(136, Some(local()), &[(2, OWN)]), Some(R::Neighbour)),
        // Joining a group without an address.
        (NONE6, nd(143, None, &[]), None),
        (NONE6, nd(131, Some(foreign), &[]), None),
        (NONE6, nd(132, Some(foreign), &[]), None),
        (NONE6, nd(130, Some(foreign), &[]), Some(R::ForeignIp)),
        (NONE6, nd(128, None, &[]), Some(R::ForeignIp)),
    ];
    for (source, message, expected) in &table {
        assert_eq!(verdict(0x86dd, &v6(*source, 58, message)), *expected, "{source} {message:?}");
        let behind = [&[58, 0, 5, 2, 0, 0, 1, 0][..], message].concat();
        assert_eq!(verdict(0x86dd, &v6(*source, 0, &behind)), *expected, "behind a router alert");
        // RFC 6980: never in fragments.
        let cut = [&[58, 0, 0, 1, 0, 0, 0, 1][..], message].concat();
        let expected = match (message[0], *source) {
            (133..=137, _) if !matches!(message[0], 134 | 137) => Some(R::Fragment),
            _ => *expected,
        };
        assert_eq!(verdict(0x86dd, &v6(*source, 44, &cut)), expected, "in fragments: {message:?}");
    }
    for (kind, len) in [(135, 8 + 16 + 8), (136, 8 + 16 + 8)] {
        let whole = nd(kind, Some(local()), &[(if kind == 135 { 1 } else { 2 }, OWN)]);
        for cut in (1..len).filter(|n| *n != 24) {
            assert!(verdict(0x86dd, &v6(local(), 58, &whole[..cut])).is_some(), "{kind} cut to {cut}");
        }
    }
    let mut endless = nd(135, Some(local()), &[]);
    endless.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(verdict(0x86dd, &v6(local(), 58, &endless)), Some(R::Neighbour), "an option of no length");
}

/// A receiver goes by the length that the packet says, so what is looked at is that, and all of it.
#[test]
fn neighbour_discovery_is_as_long_as_its_packet_says_and_lies_in_the_head() {
    let said = |len: u16, message: &[u8]| {
        let mut packet = v6(local(), 58, message);
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        verdict(0x86dd, &packet)
    };
    let solicitation = nd(135, Some(given6()), &[(1, OWN)]);
    assert_eq!(said(32, &solicitation), None);
    // Bytes behind the packet, as a short frame is filled up with, are no options.
    for filling in 1..30 {
        assert_eq!(said(32, &[&solicitation[..], &vec![0; filling]].concat()), None, "{filling}");
        assert_eq!(said(24, &[&solicitation[..24], &vec![1; filling]].concat()), None, "{filling}");
    }
    // Options that the head does not have, and lengths that end inside of something.
    for len in (0..24).chain(25..32).chain([33, 40, 48, 1000, u16::MAX]) {
        assert_eq!(said(len, &solicitation), Some(R::Neighbour), "{len}");
    }
    // An option of another kind that ends just where the head does, with more behind it.
    let whole = nd(135, Some(given6()), &[(14, OTHER), (1, OTHER)]);
    assert_eq!(said(40, &whole[..32]), Some(R::Neighbour));
    assert_eq!(said(40, &whole), Some(R::Neighbour));
    // Behind an extension header, which counts.
    let routed = |len: u16| {
        let mut packet = v6(local(), 0, &[&[58, 0, 5, 2, 0, 0, 1, 0][..], &solicitation].concat());
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        verdict(0x86dd, &packet)
    };
    assert_eq!((routed(40), routed(41), routed(7)), (None, Some(R::Neighbour), Some(R::Neighbour)));
}

#[test]
fn nothing_but_ip_and_arp_leaves_and_mac_addresses_count_first() {
    for other in [0x88b5, 0x8035, 0x88cc, 46, 0x9100] {
        assert_eq!(verdict(other, &[0; 60]), Some(R::Unreadable), "{other:#x}");
    }
    let mut frame = frame(0, 0x0800, &v4(V4, 6, 0, 0, &[0; 20]));
    frame[6..12].copy_from_slice(&OTHER.0);
    assert_eq!(check().check(&frame), Some(R::Foreign));
    frame[6] |= 1;
    assert_eq!(check().check(&frame), Some(R::Group));
    for len in 0..14 {
        assert_eq!(check().check(&frame[..len]), Some(R::TooShort));
    }
    let mut counted = check();
    assert!(counted.is_on() && !counted.permits(&frame) && !counted.permits(&frame[..3]));
    assert_eq!((counted.stats().group, counted.stats().too_short), (1, 1));
}

/// The host end completes a checksum after the check: nowhere but where TCP and UDP have theirs.
#[test]
fn a_checksum_is_not_put_over_what_was_looked_at() {
    let tcp4 = frame(0, 0x0800, &v4(V4, 6, 0, 1, &[0; 20]));
    let udp6 = frame(1, 0x86dd, &v6(local(), 0, &[&[17, 0, 0, 0, 0, 0, 0, 0][..], &udp(1, 2)].concat()));
    for (head, good) in [(&tcp4, (14 + 24, 16)), (&udp6, (18 + 40 + 8, 6))] {
        for start in 0..130 {
            for offset in 0..64 {
                assert_eq!(check().permits_checksum(head, start, offset), (start, offset) == good, "{start} {offset}");
            }
        }
    }
    let icmp = frame(0, 0x86dd, &v6(local(), 58, &[128, 0, 0, 0, 0, 0, 0, 0]));
    let mut counted = check();
    assert!(!counted.permits_checksum(&icmp, 54, 2) && !counted.permits_checksum(&icmp[..20], 34, 0));
    assert_eq!(counted.stats().unreadable, 2);
    assert!(SpoofCheck::new(OWN).permits_checksum(&icmp, 34, 0), "addresses of MAC are in front of any checksum");
}

/// A server's acknowledgement; `change` makes another message of it.
fn ack(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[2, 1, 6]);
    message[16..20].copy_from_slice(&V4.octets());
    message[28..34].copy_from_slice(&OWN.0);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, 5, 0, 51, 4, 0, 0, 14, 16, 54, 4, 10, 0, 0, 1, 255]);
    change(&mut message);
    frame(0, 0x0800, &v4(Ipv4Addr::new(10, 0, 0, 1), 17, 0, 0, &datagram(67, 68, &message)))
}

#[test]
fn an_acknowledgement_teaches_an_address_and_nothing_else_does() {
    let good = ack(|_| ());
    assert_eq!(learn(&good, OWN), Some(DhcpAck { address: V4, seconds: Some(3600) }));
    assert!(may_teach(&good[..128]));
    assert_eq!(learn(&good, OTHER), None);
    for len in 0..good.len() {
        assert_eq!(learn(&good[..len], OWN), None, "cut to {len}");
    }
    // The datagram's length counts: what fills up the frame behind it does not, and options that it does not have are none.
    assert_eq!(learn(&[&good[..], &[53, 1, 6]].concat(), OWN), learn(&good, OWN));
    let said = u16::from_be_bytes([good[38], good[39]]);
    for len in (0..said).chain([said + 1, u16::MAX]) {
        let mut other = good.clone();
        other[38..40].copy_from_slice(&len.to_be_bytes());
        assert_eq!(learn(&other, OWN), None, "a datagram of {len}");
    }
    let forever = ack(|m| m[246..250].fill(0xff));
    assert_eq!(learn(&forever, OWN), Some(DhcpAck { address: V4, seconds: None }));
    type Change = fn(&mut Vec<u8>);
    let bad: [(&str, Change); 12] = [
        ("an offer", |m| m[242] = 2),
        ("a refusal", |m| m[242] = 6),
        ("a request", |m| m[0] = 1),
        ("no Ethernet", |m| m[1] = 6),
        ("another guest's", |m| m[33] ^= 1),
        ("no cookie", |m| m[239] ^= 1),
        ("no lease", |m| _ = m.splice(244..250, [])),
        ("no address", |m| m[16..20].fill(0)),
        ("a group's address", |m| m[16] = 224),
        ("overloaded", |m| _ = m.splice(243..243, [52, 1, 3])),
        ("said twice", |m| _ = m.splice(243..243, [53, 1, 5])),
        ("an option beyond the end", |m| m[251] = 40),
    ];
    for (name, change) in bad {
        assert_eq!(learn(&ack(change), OWN), None, "{name}");
    }
    // From another port, in pieces, in another protocol.
    for (at, byte) in [(35, 66), (37, 69), (20, 0x20), (21, 1), (23, 6), (12, 0x86), (14, 0x44)] {
        let mut frame = good.clone();
        frame[at] = byte;
        assert_eq!(learn(&frame, OWN), None, "byte {at}");
    }
}

#[test]
fn a_lease_lets_its_address_out_until_it_ends() {
    let lease = Arc::new(Lease::default());
    let check = SpoofCheck::with_ip(OWN, Arc::new(IpSources::new(OWN, &[], Some(Arc::clone(&lease)))));
    let frame = frame(0, 0x0800, &v4(V4, 6, 0, 0, &[0; 20]));
    assert_eq!(check.check(&frame), Some(R::ForeignIp));
    lease.set(Some(V4));
    assert_eq!(check.check(&frame), None);
    lease.set(Some(Ipv4Addr::new(10, 0, 0, 6)));
    assert_eq!(check.check(&frame), Some(R::ForeignIp));
    lease.set(None);
    assert_eq!((check.check(&frame), lease.get()), (Some(R::ForeignIp), None));
}

proptest! {
    #[test]
    fn whatever_leaves_has_the_guests_addresses(bytes in prop::collection::vec(any::<u8>(), 0..128), kind in 0..4_usize, source in 0..3_usize, tags in 0..3_usize) {
        let ethertype = [0x0800, 0x0806, 0x86dd, 0x8100][kind];
        let mut packet = bytes;
        // Often nearly right.
        if packet.len() > 40 {
            match kind {
                0 => { packet[0] = 0x45; packet[12..16].copy_from_slice(&[V4, NONE4, Ipv4Addr::LOCALHOST][source].octets()); }
                1 => packet[..28].copy_from_slice(&arp(1, ([OWN, OTHER, OWN][source], V4))),
                _ => { packet[0] = 0x60; packet[8..24].copy_from_slice(&[local(), NONE6, Ipv6Addr::LOCALHOST][source].octets()); }
            }
        }
        let frame = frame(tags, ethertype, &packet);
        if check().check(&frame).is_none() {
            match kind {
                0 => prop_assert!(packet[12..16] == V4.octets() || packet[12..16] == NONE4.octets()),
                1 => prop_assert!(packet[8..14] == OWN.0),
                _ => prop_assert!(packet[8..24] == local().octets() || packet[8..24] == given6().octets() || packet[8..24] == NONE6.octets()),
            }
        }
    }

    #[test]
    fn any_bytes_teach_an_address_or_nothing(at in 0..400_usize, byte: u8, len in 0..400_usize) {
        let mut frame = ack(|_| ());
        let n = frame.len();
        frame[at % n] = byte;
        frame.truncate(len.max(20));
        let _ = learn(&frame, OWN);
    }
}
