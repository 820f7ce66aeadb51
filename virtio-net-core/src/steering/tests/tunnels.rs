//! Packets in tunnels (virtio 1.4, 5.1.6.4.4). What is inside is hashed as if it came alone, what is outside as if there
//! were no tunnels; the table says which of the two.

use super::*;

const OUT_V4: [u8; 8] = [192, 0, 2, 1, 198, 51, 100, 2];

/// A frame with this behind its type.
fn ether(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&[0x02; 12][..], &kind.to_be_bytes(), packet].concat()
}

/// An IPv4 packet.
fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x45, 0, 0, 99, 0, 1, 0x40, 0, 64, protocol, 0, 0][..], &OUT_V4, payload].concat()
}

/// An IPv6 packet.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x60, 0, 0, 0, 0, 99, next, 64][..], &[0x20; 16], &[0x21; 16], payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xc0, 0x01][..], &port.to_be_bytes(), &[0, 99, 0, 0], payload].concat()
}

/// A GRE header with so many words of optional fields.
fn gre(flags: u16, protocol: u16, words: usize, payload: &[u8]) -> Vec<u8> {
    [&flags.to_be_bytes()[..], &protocol.to_be_bytes(), &vec![0x99; 4 * words], payload].concat()
}

/// A packet of TCP as it is in tunnels: its type, and its bytes.
fn inside() -> [(u16, Vec<u8>); 2] {
    let tcp = [10, 234, 6, 230, 0, 0, 0, 0];
    let mut four = v4(6, &tcp);
    four[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let mut six = v6(6, &tcp);
    six[8..40].fill(0x77);
    [(0x0800, four), (0x86dd, six)]
}

struct Tunnel {
    frame: Vec<u8>,
    kinds: TunnelTypes,
    /// Bytes in front of what is inside.
    before: usize,
    /// What is inside, as a frame, and the bytes that this has in front of what is in the tunnel.
    inner: Vec<u8>,
    added: usize,
}

/// Everything that is a tunnel, over IPv4 and IPv6, with IPv4 and IPv6 inside.
fn tunnels() -> Vec<Tunnel> {
    type T = TunnelTypes;
    let mut all = Vec::new();
    for (kind, packet) in inside() {
        let frame = ether(kind, &packet);
        for over in [0x0800, 0x86dd] {
            let mut add = |number: u8, header: &[u8], with_frame: bool, kinds: T| {
                let payload = if with_frame { &frame } else { &packet };
                let bytes = [header, payload].concat();
                let outer = ether(over, &if over == 0x0800 { v4(number, &bytes) } else { v6(number, &bytes) });
                let before = outer.len() - payload.len();
                let added = if with_frame { 0 } else { 14 };
                all.push(Tunnel { frame: outer, kinds, before, inner: frame.clone(), added });
            };
            let (v6_over, v6_inside) = (over == 0x86dd, kind == 0x86dd);
            let keyless = if v6_over { T::GRE_7676 } else { T::GRE_2784 };
            let keyed = if v6_over { T::GRE_7676 } else { T::GRE_2890 };
            let six = if v6_inside { T::GRE_7676 } else { T::empty() };
            // Without anything, with a checksum, and with the bits that are ignored.
            add(47, &gre(0, kind, 0, &[]), false, keyless | six);
            add(47, &gre(0x8000, kind, 1, &[]), false, keyless | six);
            add(47, &gre(0x03f8, kind, 0, &[]), false, keyless | six);
            add(47, &gre(0, 0x6558, 0, &[]), true, keyless);
            // A key, a sequence number, all three.
            add(47, &gre(0x2000, kind, 1, &[]), false, keyed | six);
            add(47, &gre(0x1000, kind, 1, &[]), false, keyed | six);
            add(47, &gre(0xb000, kind, 3, &[]), false, keyed | six);
            add(47, &gre(0x3000, 0x6558, 2, &[]), true, keyed);
            add(47, &gre(0xa000, 0x6558, 2, &[]), true, keyed);
            // A key and a frame.
            add(47, &gre(0x2000, 0x6558, 1, &[]), true, keyed | T::NVGRE);
            add(17, &udp(4754, &gre(0, kind, 0, &[])), false, T::GRE_UDP);
            add(17, &udp(4754, &gre(0x2000, 0x6558, 1, &[])), true, T::GRE_UDP);
            add(17, &udp(4789, &[0x08, 0, 0, 0, 0, 0, 42, 0]), true, T::VXLAN);
            add(17, &udp(4789, &[0xff, 1, 2, 3, 0, 0, 42, 4]), true, T::VXLAN);
            add(17, &udp(4790, &[0x0c, 0, 0, if v6_inside { 2 } else { 1 }, 0, 0, 42, 0]), false, T::VXLAN_GPE);
            add(17, &udp(4790, &[0x0c, 0, 0, 3, 0, 0, 42, 0]), true, T::VXLAN_GPE);
            add(17, &udp(4790, &[0x08, 0, 0, 9, 0, 0, 42, 0]), true, T::VXLAN_GPE);
            add(17, &udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 42, 0]), true, T::GENEVE);
            add(17, &udp(6081, &[&[2, 0x40, 0x65, 0x58, 0, 0, 42, 0][..], &[7; 8]].concat()), true, T::GENEVE);
            let [k0, k1] = kind.to_be_bytes();
            add(17, &udp(6081, &[&[0x3f, 0, k0, k1, 0, 0, 42, 0][..], &[7; 252]].concat()), false, T::GENEVE);
            // RFC 2003 is IPv4 in IPv4.
            let ipip = if v6_over || v6_inside { T::empty() } else { T::IPIP };
            add(if v6_inside { 41 } else { 4 }, &[], false, ipip);
        }
    }
    all
}

/// By all types without tunnels.
fn alone(head: &[u8]) -> FlowHash {
    steering(HashTypes::all(), TunnelTypes::empty()).hash(head)
}

#[test]
fn n69_the_inner_header_counts_of_kinds_that_are_enabled_and_the_outer_of_others() {
    let (mut inner, mut outer, mut seen) = (0, 0, TunnelTypes::empty());
    for tunnel in tunnels() {
        assert_ne!(alone(&tunnel.inner), alone(&tunnel.frame));
        assert!(alone(&tunnel.inner).report != 0 && alone(&tunnel.frame).report != 0);
        seen |= tunnel.kinds;
        for bits in 0..512 {
            let enabled = TunnelTypes::from_bits(bits).unwrap();
            let found = steering(HashTypes::all(), enabled).hash(&tunnel.frame);
            let is_inner = enabled.intersects(tunnel.kinds);
            let expected = alone(if is_inner { &tunnel.inner } else { &tunnel.frame });
            assert_eq!(found, expected, "{:?} of {enabled:?}: {:x?}", tunnel.kinds, tunnel.frame);
            if is_inner { inner += 1 } else { outer += 1 }
        }
    }
    assert!(inner > 1000 && outer > 1000 && seen == TunnelTypes::all(), "{inner}, {outer}, {seen:?}");
}

#[test]
fn n69_a_tunnel_that_is_cut_off_is_none_and_of_its_inside_counts_what_is_there() {
    for tunnel in tunnels() {
        for len in 0..=tunnel.frame.len() {
            let found = steering(HashTypes::all(), tunnel.kinds).hash(&tunnel.frame[..len]);
            let expected = match len.checked_sub(tunnel.before) {
                Some(inside) if !tunnel.kinds.is_empty() => alone(&tunnel.inner[..inside + tunnel.added]),
                _ => alone(&tunnel.frame[..len]),
            };
            assert_eq!(found, expected, "{:?}, {len} of {:x?}", tunnel.kinds, tunnel.frame);
        }
    }
}

#[test]
fn n69_what_looks_like_a_tunnel_and_is_none_has_an_outer_header_only() {
    let [(_, four), (_, six)] = inside();
    let frame = ether(0x0800, &four);
    let behind = |header: &[u8]| [header, &frame].concat();
    let over_udp = |port, header: &[u8]| ether(0x0800, &v4(17, &udp(port, &behind(header))));
    let mut table = vec![
        ether(0x0800, &v4(47, &gre(1, 0x0800, 0, &four))),      // PPTP
        ether(0x0800, &v4(47, &gre(0x4000, 0x0800, 1, &four))), // source routes
        ether(0x0800, &v4(47, &gre(0x0800, 0x0800, 0, &four))),
        ether(0x0800, &v4(47, &gre(0x0400, 0x0800, 0, &four))),
        ether(0x0800, &v4(41, &six)), // another RFC than 2003
        ether(0x86dd, &v6(4, &four)),
        ether(0x86dd, &v6(41, &six)),
        over_udp(4789, &[0xf7, 0, 0, 0, 0, 0, 42, 0]), // without a network's number
        over_udp(4790, &[0x1c, 0, 0, 3, 0, 0, 42, 0]), // of another version
        over_udp(4790, &[0x2c, 0, 0, 3, 0, 0, 42, 0]),
        over_udp(6081, &[0x40, 0, 0x65, 0x58, 0, 0, 42, 0]),
        over_udp(4755, &gre(0, 0x6558, 0, &[])), // encrypted
        over_udp(4788, &[8, 0, 0, 0, 0, 0, 42, 0]),
        // A VXLAN is known by the port that it goes to.
        ether(0x0800, &v4(17, &behind(&[0x12, 0xb5, 0xc0, 1, 0, 99, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0]))),
    ];
    // A fragment, the first and another one.
    for word in [0x2000_u16, 5] {
        let mut packet = v4(17, &udp(4789, &behind(&[8, 0, 0, 0, 0, 0, 42, 0])));
        packet[6..8].copy_from_slice(&word.to_be_bytes());
        table.push(ether(0x0800, &packet));
        let fragment = [&[17, 0][..], &(word & 0x1fff).max(1).to_be_bytes(), &[0; 4]].concat();
        let packet = v6(44, &[fragment, udp(4789, &behind(&[8, 0, 0, 0, 0, 0, 42, 0]))].concat());
        table.push(ether(0x86dd, &packet));
    }
    for frame in table {
        let found = steering(HashTypes::all(), TunnelTypes::all()).hash(&frame);
        assert_eq!(found, alone(&frame), "{frame:x?}");
        assert_ne!(found.report, 0);
    }
}

#[test]
fn n69_a_tunnel_is_found_behind_tags_options_and_extension_headers() {
    let [(kind, four), _] = inside();
    let inner = ether(kind, &four);
    let vxlan = udp(4789, &[&[8, 0, 0, 0, 0, 0, 42, 0][..], &inner].concat());
    let tagged =
        |kind: u16, packet: &[u8]| ether(0x88a8, &[&[0, 7, 0x81, 0, 0, 8][..], &kind.to_be_bytes(), packet].concat());
    let mut options = v4(17, &[&[1; 12][..], &vxlan].concat());
    options[0] = 0x48;
    let extended =
        v6(60, &[&[43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 4, 0, 0, 0, 0, 0, 17, 0, 0, 0, 1, 2, 3, 4][..], &vxlan].concat());
    for frame in [tagged(0x0800, &v4(17, &vxlan)), ether(0x0800, &options), ether(0x86dd, &extended)] {
        assert_eq!(steering(HashTypes::all(), TunnelTypes::VXLAN).hash(&frame), alone(&inner));
        assert_eq!(steering(HashTypes::all(), TunnelTypes::all() - TunnelTypes::VXLAN).hash(&frame), alone(&frame));
    }
}

/// "Only a single level of encapsulation is currently supported."
#[test]
fn n69_a_tunnel_in_a_tunnel_is_a_packet_like_others() {
    let [(kind, four), _] = inside();
    let vxlan = |frame: &[u8]| ether(0x0800, &v4(17, &udp(4789, &[&[8, 0, 0, 0, 0, 0, 42, 0][..], frame].concat())));
    let mut middle = vxlan(&ether(kind, &four));
    middle[26..30].fill(0x55);
    let found = steering(HashTypes::all(), TunnelTypes::all()).hash(&vxlan(&middle));
    assert_eq!(found, alone(&middle));
}

/// "The device uses the inner header": if it has none that can be hashed, there is no hash, as with a frame that comes alone.
#[test]
fn n69_a_tunnel_with_something_else_inside_has_no_hash() {
    let arp = ether(0x0806, &[0; 28]);
    for (tunnel, payload) in [
        (udp(4789, &[8, 0, 0, 0, 0, 0, 42, 0]), &arp),
        (udp(4790, &[0x0c, 0, 0, 4, 0, 0, 42, 0]), &arp),
        (udp(6081, &[0, 0, 0x88, 0x47, 0, 0, 42, 0]), &arp),
        (udp(4754, &gre(0, 0x8847, 0, &[])), &arp),
    ] {
        let frame = ether(0x0800, &v4(17, &[&tunnel[..], payload].concat()));
        assert_eq!(steering(HashTypes::all(), TunnelTypes::all()).hash(&frame), FlowHash::default());
        assert_ne!(alone(&frame).report, 0);
    }
    let frame = ether(0x0800, &v4(47, &gre(0, 0x8847, 0, &arp)));
    assert_eq!(steering(HashTypes::all(), TunnelTypes::GRE_2784).hash(&frame), FlowHash::default());
}
