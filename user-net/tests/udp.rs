//! The UDP services, what happens when the guest does not take its frames, and several queues.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use support::raw::{check, udp_payload, udp4, udp6};
use support::{Guest, all, plain};
use user_net::{DropReason, Service, UserNet, UserNetConfig};
use virtio_net_core::backend::TxBurst;
use virtio_net_core::{Features, GSO_UDP_L4, NEEDS_CSUM, NetHeader};

type Make = fn((u16, u16), &[u8]) -> Vec<u8>;
const BOTH: [Make; 2] = [udp4, udp6];

#[test]
fn echo_of_every_length() {
    let mut guest = Guest::new(plain());
    let data: Vec<u8> = (0..1472).map(|n| (n % 251) as u8).collect();
    for make in BOTH {
        for len in 0..=1452 {
            let replies = guest.exchange(&make((6000, 7), &data[..len]));
            assert_eq!(replies.len(), 1, "{len} bytes");
            assert!(udp_payload(&replies[0]) == data[..len]);
        }
    }
    assert_eq!(guest.net.stats().service(Service::UdpEcho).datagrams, 2 * 1453);
    assert!(guest.exchange(&udp4((6000, 9), &data)).is_empty());
    assert_eq!(guest.net.stats().service(Service::UdpDiscard).bytes_in, 1472);
}

#[test]
fn the_counter_counts_by_source() {
    let mut guest = Guest::new(plain());
    for make in BOTH {
        for n in 0..10 {
            assert!(guest.exchange(&make((6000 + n % 2, 4809), &[b'x'; 100])).is_empty());
        }
        let mut report = |port| udp_payload(&guest.exchange(&make((port, 4809), b"REPORT\n"))[0]);
        assert_eq!(report(6000), b"5 500\n");
        assert_eq!(report(6001), b"5 500\n");
        assert_eq!(report(6000), b"0 0\n");
    }
    // More sources than are counted: those that are, are counted right.
    for port in 1..=5000_u16 {
        assert!(guest.post(&NetHeader::NONE, &udp4((port, 4809), b"x")));
        guest.transmit();
    }
    assert_eq!(udp_payload(&guest.exchange(&udp4((1, 4809), b"REPORT"))[0]), b"1 1\n");
    assert_eq!(udp_payload(&guest.exchange(&udp4((5000, 4809), b"REPORT"))[0]), b"0 0\n");
}

#[test]
fn the_source_numbers_its_datagrams() {
    for (make, longest) in [(BOTH[0], 1472), (BOTH[1], 1452)] {
        let mut guest = Guest::new(plain());
        for size in [8, 1400, longest] {
            let replies = guest.exchange(&make((6000, 19), format!("SEND 256 {size}\n").as_bytes()));
            assert_eq!(replies.len(), 256);
            for (n, frame) in replies.iter().enumerate() {
                let data = udp_payload(frame);
                assert_eq!(data.len(), size);
                assert_eq!(data[..4], (n as u32).to_be_bytes());
            }
        }
        for bad in [format!("SEND 1 {}", longest + 1), "SEND 300 8".into(), "HELLO".into()] {
            assert!(guest.exchange(&make((6000, 19), bad.as_bytes())).is_empty());
        }
        assert_eq!(guest.net.stats().dropped(DropReason::BadRequest), 3);
    }
}

#[test]
fn a_window_waits_for_a_slow_guest_in_order() {
    let config = UserNetConfig { max_backlog: 16, ..UserNetConfig::default() };
    // Eight receive buffers only.
    let mut guest = Guest::with(all(), config, 8);
    assert!(guest.post(&NetHeader::NONE, &udp4((6000, 19), b"SEND 256 1400")));
    assert!(guest.post(&NetHeader::NONE, &udp4((6001, 19), b"SEND 100 8")));
    guest.transmit();
    let mut seen = Vec::new();
    while seen.len() < 356 {
        guest.deliver();
        let before = seen.len();
        for _ in 0..3 {
            if let Some((_, frame)) = guest.receive() {
                let port = u16::from_be_bytes([frame[36], frame[37]]);
                seen.push((port, u32::from_be_bytes(frame[42..46].try_into().unwrap())));
            }
        }
        assert!(seen.len() > before, "stuck at {before}");
    }
    let expected: Vec<_> = (0..256).map(|n| (6000, n)).chain((0..100).map(|n| (6001, n))).collect();
    assert_eq!(seen, expected);
    assert_eq!(guest.net.stats().dropped(DropReason::Backlog), 0);
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut guest = Guest::new(plain());
    for n in 0..10_000_u32 {
        assert!(guest.post(&NetHeader::NONE, &udp4((6000, 7), &n.to_be_bytes())));
        guest.transmit();
    }
    // Twice the backlog of 256, and then again as many as the guest asks for.
    assert_eq!(guest.net.stats().dropped(DropReason::Backlog), 10_000 - 512);
    let replies = guest.drain();
    assert_eq!(replies.len(), 512);
    for (n, frame) in replies.iter().enumerate() {
        assert_eq!(udp_payload(frame), (n as u32).to_be_bytes());
    }
    assert_eq!(guest.exchange(&udp4((6000, 7), b"again")).len(), 1);
}

/// A UDP segmentation frame as Linux makes one.
fn uso(make: Make, size: u16, payload: &[u8]) -> (NetHeader, Vec<u8>) {
    let frame = make((6000, 7), payload);
    let l4 = frame.len() - payload.len() - 8;
    let header = NetHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        hdr_len: (l4 + 8) as u16,
        gso_size: size,
        csum_start: l4 as u16,
        csum_offset: 6,
    };
    (header, frame)
}

#[test]
fn udp_segments_become_datagrams() {
    let acked = plain() | Features::CSUM | Features::HOST_USO;
    let data: Vec<u8> = (0..10_000_u32).map(|n| (n % 253) as u8).collect();
    for make in BOTH {
        for (size, len) in [(1000, 10_000), (1400, 9999), (100, 101), (1472, 1472)] {
            let mut guest = Guest::new(acked);
            let (header, frame) = uso(make, size, &data[..len]);
            let replies = guest.exchange_with(&header, &frame);
            assert_eq!(guest.rejected(), 0);
            assert_eq!(replies.len(), len.div_ceil(size.into()));
            for (frame, expected) in replies.iter().zip(data[..len].chunks(size.into())) {
                check(frame);
                assert!(udp_payload(frame) == expected);
            }
        }
    }
}

#[test]
fn partial_checksums_are_trusted_and_others_are_not() {
    let mut guest = Guest::new(plain() | Features::CSUM);
    for make in BOTH {
        let (header, mut frame) = uso(make, 0, b"hello");
        let header = NetHeader { gso_type: 0, gso_size: 0, hdr_len: 0, ..header };
        let field = usize::from(header.csum_start) + 6;
        frame[field] ^= 0x5a;
        assert!(guest.exchange(&frame).is_empty());
        assert_eq!(guest.exchange_with(&header, &frame).len(), 1);
    }
    assert_eq!(guest.net.stats().dropped(DropReason::BadChecksum), 2);
}

#[test]
fn another_queue_wakes_the_first() {
    use virtio_net_core::backend::FrameSink;
    let woken = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&woken);
    let net = UserNet::with_wake(UserNetConfig::default(), move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let net = net.unwrap();
    let mut guest = Guest::new(plain());
    (guest.queue, guest.net) = (net.queue(1), net.clone());
    assert!(guest.exchange(&udp4((6000, 9), b"no answer")).is_empty());
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    assert!(guest.exchange(&udp4((6000, 7), b"answer")).is_empty(), "queue 1 delivers nothing");
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    guest.queue = net.queue(0);
    assert_eq!(guest.drain().len(), 1);
    assert_eq!(guest.queue.submit(&TxBurst::default()).count, 0);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
}
