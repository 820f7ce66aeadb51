//! Frames that no guest should send: nothing panics, and the network still answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, missing_docs)]

mod support;

use proptest::prelude::*;
use support::raw::{HOST4, arp_request, host_mac, syn4, udp4, udp6};
use support::{Guest, all};
use virtio_net_core::NetHeader;

/// A good frame to begin with.
fn seed() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..600);
    let udp_port = prop_oneof![Just(7_u16), Just(19), Just(53), Just(67), Just(4809), any::<u16>()];
    let tcp_port = prop_oneof![Just(7_u16), Just(9), Just(19), Just(4809), any::<u16>()];
    let rs = || {
        let mut frame = vec![0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x15, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255];
        frame.extend_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15]);
        frame.extend_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 133, 0, 0, 0, 0, 0, 0, 0]);
        frame
    };
    prop_oneof![
        (udp_port.clone(), bytes.clone()).prop_map(|(port, data)| udp4((6000, port), &data)),
        (udp_port, bytes.clone()).prop_map(|(port, data)| udp6((6000, port), &data)),
        (1..100_u16, tcp_port, any::<u32>()).prop_map(|(from, to, seq)| syn4((from, to), seq)),
        Just(arp_request(HOST4)),
        Just(rs()),
        bytes.prop_map(|data| {
            let mut frame = host_mac().to_vec();
            frame.extend_from_slice(&data);
            frame.resize(frame.len().max(14), 0);
            frame
        }),
    ]
}

fn header() -> impl Strategy<Value = NetHeader> {
    let types = prop_oneof![Just(0_u8), Just(1), Just(4), Just(5), any::<u8>()];
    let starts = prop_oneof![Just(34_u16), Just(54), any::<u16>()];
    let offsets = prop_oneof![Just(6_u16), Just(16), any::<u16>()];
    (0..2_u8, types, 0..200_u16, 0..2000_u16, starts, offsets).prop_map(
        |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| NetHeader {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        },
    )
}

/// A frame with some bytes changed, and perhaps cut; checksums mostly left to the receiver, so that it gets far.
fn mutant() -> impl Strategy<Value = (NetHeader, Vec<u8>)> {
    let changes = proptest::collection::vec((0..90_usize, any::<u8>()), 0..6);
    let partial = NetHeader { flags: 1, csum_start: 34, csum_offset: 6, ..NetHeader::NONE };
    let tcp = NetHeader { csum_offset: 16, ..partial };
    let headers = prop_oneof![Just(NetHeader::NONE), Just(partial), Just(tcp), header()];
    (seed(), changes, any::<Option<u8>>(), headers).prop_map(|(mut frame, changes, cut, header)| {
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(cut) = cut {
            frame.truncate(usize::from(cut).max(14));
        }
        (header, frame)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_guest_sends_stops_the_network(frames in proptest::collection::vec(mutant(), 1..60)) {
        let mut guest = Guest::new(all());
        for (header, frame) in &frames {
            prop_assert!(guest.post(header, frame));
            guest.transmit();
            if frame.len() % 3 == 0 {
                guest.drain();
            }
        }
        guest.drain();
        let asked = guest.exchange(&udp4((6000, 7), b"still there?"));
        prop_assert_eq!(asked.len(), 1);
        prop_assert!(asked[0].ends_with(b"still there?"));
        let stats = guest.net.stats();
        prop_assert!(stats.open_connections <= 64);
    }
}
