//! The TCP services, over every choice of offloads, and who gets a connection when there are too many.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, missing_docs)]

mod support;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use sha2::{Digest, Sha256};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use support::client::Client;
use support::raw::{HOST4, HOST6, check, syn4};
use support::{Guest, all, plain};
use user_net::{DropReason, Service, UserNetConfig};
use virtio_net_core::{Features, GSO_NONE, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, NetHeader};

const MIB: usize = 1 << 20;

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Sends everything, half-closes, and returns everything that comes until the host closes.
fn talk(client: &mut Client, handle: SocketHandle, data: &[u8]) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    client.until("end of the conversation", |c| {
        let socket = c.socket(handle);
        if socket.may_send() && sent < data.len() {
            sent += socket.send_slice(&data[sent..]).unwrap();
        } else if socket.state() == State::Established {
            socket.close();
        }
        while let Ok(n) = socket.recv(|bytes| {
            got.extend_from_slice(bytes);
            (bytes.len(), bytes.len())
        }) && n > 0
        {}
        matches!(socket.state(), State::Closed | State::TimeWait)
    });
    assert_eq!(sent, data.len());
    got
}

fn take(client: &mut Client, handle: SocketHandle, len: usize) -> Vec<u8> {
    let mut got = Vec::new();
    client.until("data from the source", |c| {
        while let Ok(n) = c.socket(handle).recv(|bytes| {
            got.extend_from_slice(bytes);
            (bytes.len(), bytes.len())
        }) && n > 0
        {}
        got.len() >= len
    });
    got
}

/// Nothing, checksums only, TSO one way or the other, everything; with merging and without.
fn choices() -> Vec<Features> {
    let guest = Features::GUEST_CSUM | Features::GUEST_TSO4 | Features::GUEST_TSO6;
    let host = Features::CSUM | Features::HOST_TSO4 | Features::HOST_TSO6;
    vec![
        plain(),
        plain() | Features::GUEST_CSUM,
        plain() | Features::CSUM,
        plain() | Features::MRG_RXBUF | guest,
        plain() | guest | host,
        all(),
    ]
}

#[test]
fn every_service_over_every_choice_of_offloads() {
    let data = noise(3 * MIB);
    for acked in choices() {
        for host in [IpAddr::from(HOST4), IpAddr::from(HOST6)] {
            let mut client = Client::new(Guest::new(acked));
            let echo = client.connect(host, 7);
            assert!(talk(&mut client, echo, &data) == data, "echo {acked:?}");
            let discard = client.connect(host, 9);
            assert!(talk(&mut client, discard, &data).is_empty());
            let digest = client.connect(host, 4809);
            let answer = talk(&mut client, digest, &data);
            assert_eq!(String::from_utf8(answer).unwrap(), hex(Sha256::new_with_prefix(&data)) + "\n");
            let source = client.connect(host, 19);
            let stream = take(&mut client, source, MIB);
            for (k, line) in stream[..MIB].chunks(74).enumerate() {
                let expected: Vec<u8> = (0..72).map(|i| b' ' + ((k + i) % 95) as u8).chain(*b"\r\n").collect();
                assert!(line == &expected[..line.len()], "line {k}");
            }
            let stats = client.guest.net.stats();
            for service in [Service::TcpEcho, Service::TcpDiscard, Service::TcpSource, Service::TcpDigest] {
                assert_eq!(stats.service(service).connections, 1, "{service:?}");
            }
            assert_eq!(stats.service(Service::TcpDiscard).bytes_in, data.len() as u64);
            assert_eq!(client.guest.rejected(), 0);
            let large_up = acked.contains(Features::HOST_TSO4);
            let large_down = acked.contains(Features::GUEST_TSO4);
            assert_eq!((client.largest.0 > 20_000, client.largest.1 > 20_000), (large_up, large_down), "{acked:?}");
        }
    }
}

/// The rules for receive headers: N37, N38, N41, N42, N44 of the conformance list.
fn conforms(header: &NetHeader, frame: &[u8]) {
    let parsed = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let Some(TransportHeader::Tcp(tcp)) = &parsed.transport else { return };
    let payload = parsed.payload.slice();
    assert_eq!(header.flags, NEEDS_CSUM);
    let (l3, kind, whole, pseudo) = match &parsed.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(usize::from(ip.total_len), frame.len() - 14);
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            let full = tcp.calc_checksum_ipv4(ip, payload).unwrap();
            (ip.header_len(), GSO_TCPV4, full, [&ip.source[..], &ip.destination[..]].concat())
        }
        Some(NetHeaders::Ipv6(ip, _)) => {
            assert_eq!(usize::from(ip.payload_length), frame.len() - 54);
            let full = tcp.calc_checksum_ipv6(ip, payload).unwrap();
            (40, GSO_TCPV6, full, [&ip.source[..], &ip.destination[..]].concat())
        }
        other => panic!("{other:?}"),
    };
    let headers = 14 + l3 + tcp.header_len();
    assert_eq!(usize::from(header.csum_start), 14 + l3);
    assert_eq!(header.csum_offset, 16);
    // What is in the field is the sum of the pseudo header: it completes to the full checksum.
    let len = (tcp.header_len() + payload.len()) as u32;
    let words = [&pseudo[..], &len.to_be_bytes(), &[0, 0, 0, 6]].concat();
    let mut sum: u32 = words.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(u32::from(tcp.checksum), sum);
    let rest = &frame[14 + l3..];
    let mut total: u64 = rest.chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(*w.get(1).unwrap_or(&0))).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    assert_eq!(!(total as u16), whole);
    if header.gso_type == GSO_NONE {
        assert!(frame.len() <= 1514, "{} bytes", frame.len());
        assert_eq!((header.gso_size, header.hdr_len), (0, 0));
    } else {
        assert_eq!(header.gso_type, kind);
        // 1500 bytes less IP and TCP header.
        assert_eq!(usize::from(header.gso_size), 1500 - l3 - 20);
        assert_eq!(usize::from(header.hdr_len), headers);
        assert!(payload.len() > header.gso_size.into());
    }
}

#[test]
fn large_segments_have_true_headers() {
    for host in [IpAddr::from(HOST4), IpAddr::from(HOST6)] {
        let mut client = Client::new(Guest::new(all()));
        client.tap = Some(conforms);
        let source = client.connect(host, 19);
        take(&mut client, source, 8 * MIB);
        assert!(client.largest.1 > 60_000, "{} bytes", client.largest.1);
    }
}

#[test]
fn a_ring_too_small_for_large_segments_gets_small_ones() {
    // 8 buffers of at most a page.
    let mut client = Client::new(Guest::with(all(), UserNetConfig::default(), 8));
    let source = client.connect(HOST4.into(), 19);
    let stream = take(&mut client, source, MIB);
    assert!(stream.starts_with(b" !\"#"));
    assert!(client.guest.net.stats().dropped(DropReason::Undeliverable) > 0);
}

#[test]
fn many_connections_at_once() {
    let mut client = Client::new(Guest::new(all()));
    let data = noise(100_000);
    for round in 0..3 {
        let echoes: Vec<_> =
            (0..60).map(|n| client.connect(if n % 2 == 0 { HOST4.into() } else { HOST6.into() }, 7)).collect();
        let mut state = vec![(0_usize, Vec::new()); echoes.len()];
        client.until("all echoes", |c| {
            let mut open = 0;
            for (handle, (sent, got)) in echoes.iter().zip(&mut state) {
                let socket = c.socket(*handle);
                if socket.may_send() && *sent < data.len() {
                    *sent += socket.send_slice(&data[*sent..]).unwrap();
                } else if socket.state() == State::Established {
                    socket.close();
                }
                while let Ok(n) = socket.recv(|b| {
                    got.extend_from_slice(b);
                    (b.len(), b.len())
                }) && n > 0
                {}
                open += usize::from(!matches!(socket.state(), State::Closed | State::TimeWait));
            }
            open == 0
        });
        assert!(state.iter().all(|(_, got)| *got == data), "round {round}");
    }
    let stats = client.guest.net.stats();
    assert_eq!(stats.service(Service::TcpEcho).connections, 180);
    assert_eq!(stats.dropped(DropReason::Refused), 0);
}

#[test]
fn the_connection_too_many_is_refused_and_the_next_one_is_not() {
    let config = UserNetConfig { max_connections: 4, ..UserNetConfig::default() };
    let mut client = Client::new(Guest::with(all(), config, 256));
    let held: Vec<_> = (0..4).map(|_| client.connect(HOST4.into(), 9)).collect();
    for handle in &held {
        client.established(*handle);
    }
    let extra = client.connect(HOST4.into(), 7);
    client.until("refusal", |c| c.socket(extra).state() == State::Closed);
    assert_eq!(client.guest.net.stats().dropped(DropReason::Refused), 1);
    assert_eq!(client.guest.net.stats().open_connections, 4);
    client.socket(held[0]).abort();
    let extra = client.connect(HOST4.into(), 7);
    client.until("turn", |c| c.socket(extra).state() == State::Established);
    assert!(talk(&mut client, extra, b"still here") == b"still here");
}

#[test]
fn half_open_connections_make_room() {
    let mut client = Client::new(Guest::new(plain()));
    let held = client.connect(HOST4.into(), 7);
    client.established(held);
    for n in 0..5000_u16 {
        let port = [7, 9, 19, 4809][usize::from(n % 4)];
        assert!(client.guest.post(&NetHeader::NONE, &syn4((10_000 + n, port), n.into())));
        if n % 32 == 31 {
            client.guest.transmit();
            for frame in client.guest.drain() {
                check(&frame);
            }
        }
    }
    let stats = client.guest.net.stats();
    assert!(stats.open_connections <= 64, "{}", stats.open_connections);
    let other = client.connect(HOST6.into(), 4809);
    let answer = talk(&mut client, other, b"abc");
    assert_eq!(answer, b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n");
    assert!(talk(&mut client, held, b"still here") == b"still here");
}

#[test]
fn a_guest_that_comes_back_finds_nothing_of_the_one_before() {
    let mut client = Client::new(Guest::new(all()));
    let source = client.connect(HOST4.into(), 19);
    take(&mut client, source, MIB);
    assert_eq!(client.guest.net.stats().open_connections, 1);
    let net = client.guest.net.clone();
    net.start(plain());
    assert_eq!(net.stats().open_connections, 0);
    assert!(client.guest.drain().is_empty());
}

#[test]
fn a_lost_answer_is_sent_again_when_its_time_has_come() {
    let mut guest = Guest::new(plain());
    assert_eq!(guest.queue.next_wake(), None, "nothing is under way");
    let first = guest.exchange(&syn4((5000, 7), 1));
    assert_eq!(first.len(), 1);
    // The guest has lost it. No frame comes from it any more: only the time that passes.
    let deadline = Instant::now() + Duration::from_secs(20);
    let again = loop {
        let wait = guest.queue.next_wake().expect("a timer runs");
        assert!(Instant::now() + wait < deadline);
        std::thread::sleep(wait);
        let frames = guest.drain();
        if !frames.is_empty() {
            break frames;
        }
    };
    assert_eq!(again, first);
}
