//! What a guest loses is sent again without a timer's help where others tell of it, and soon where nothing does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, missing_docs)]

mod support;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use support::client::Client;
use support::raw::{HOST4, HOST6};
use support::{Guest, all, plain};

const MIB: usize = 1 << 20;
/// Payload frames are longer than this.
const LONG: usize = 200;

/// What byte `at` of port 19's stream is.
fn expected(at: usize) -> u8 {
    match (at / 74, at % 74) {
        (_, 72) => b'\r',
        (_, 73) => b'\n',
        (line, column) => b' ' + ((line + column) % 95) as u8,
    }
}

/// Takes what is there, compares it, and returns the new length.
fn take(client: &mut Client, source: SocketHandle, mut got: usize) -> usize {
    while let Ok(n) = client.socket(source).recv(|bytes| {
        assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == expected(got + i)), "behind byte {got}");
        (bytes.len(), bytes.len())
    }) && n > 0
    {
        got += n;
    }
    got
}

/// Receives `len` bytes and says how long it took.
fn receive(client: &mut Client, host: IpAddr, len: usize) -> Duration {
    let source = client.connect(host, 19);
    let (began, mut got) = (Instant::now(), 0);
    client.until("data from the source", |c| {
        got = take(c, source, got);
        got >= len
    });
    began.elapsed()
}

/// Loses every frame of payload whose number, from 1 on, `which` names.
fn lose(client: &mut Client, which: impl Fn(u32) -> bool + 'static) {
    let mut n = 0;
    client.loses = Some(Box::new(move |frame| {
        n += u32::from(frame.len() > LONG);
        frame.len() > LONG && which(n)
    }));
}

#[test]
fn holes_are_filled_without_waiting_for_a_second() {
    for (acked, host) in [(all(), IpAddr::from(HOST4)), (all(), HOST6.into()), (plain(), HOST4.into())] {
        let mut client = Client::new(Guest::new(acked));
        // Two in a row, and many of them in a window.
        lose(&mut client, |n| n > 20 && n < 1000 && (n % 25 == 0 || n % 25 == 1));
        let took = receive(&mut client, host, 8 * MIB);
        // Each of dozens would cost a second or more.
        assert!(took < Duration::from_secs(15), "{took:?} {acked:?}");
    }
}

#[test]
fn the_last_segment_is_sent_again_though_nothing_follows_it() {
    let mut client = Client::new(Guest::new(all()));
    let echo = client.connect(HOST4.into(), 7);
    client.established(echo);
    for round in 0..5 {
        // The echo, once.
        lose(&mut client, |n| n == 1);
        client.socket(echo).send_slice(&[round; 1000]).unwrap();
        let began = Instant::now();
        client.until("echo", |c| c.socket(echo).recv_queue() == 1000);
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        let mut echoed = [0; 1000];
        client.socket(echo).recv_slice(&mut echoed).unwrap();
        assert_eq!(echoed, [round; 1000]);
    }
}

#[test]
fn what_was_dropped_before_the_window_closed_is_sent_again_when_it_opens() {
    let mut client = Client::new(Guest::new(all()));
    let source = client.connect(HOST4.into(), 19);
    client.established(source);
    let mut got = 0;
    for _ in 0..5 {
        // Nobody reads until the window is full, and of its last frames some are lost.
        let full = client.socket(source).recv_capacity() * 3 / 4;
        client.until("a window's worth", |c| c.socket(source).recv_queue() >= full);
        lose(&mut client, |n| n <= 2);
        for _ in 0..50 {
            client.turn();
        }
        client.loses = None;
        let (began, goal) = (Instant::now(), got + 2 * MIB);
        client.until("what follows", |c| {
            got = take(c, source, got);
            got >= goal
        });
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[test]
fn a_guest_that_is_gone_is_not_asked_for_ever() {
    let mut client = Client::new(Guest::new(all()));
    let echo = client.connect(HOST4.into(), 7);
    client.established(echo);
    client.loses = Some(Box::new(|frame| frame.len() > LONG));
    client.socket(echo).send_slice(&[7; 1000]).unwrap();
    let (began, mut largest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < Duration::from_secs(2) {
        client.turn();
        let wake = client.guest.queue.next_wake().unwrap();
        largest = largest.max(wake);
        std::thread::sleep(wake.min(Duration::from_millis(50)));
    }
    // 50, 100, 200, 400, 800 ms: the waits grow.
    assert!(largest > Duration::from_millis(300), "{largest:?}");
    assert!(client.guest.net.stats().frames_out < 40, "{:?}", client.guest.net.stats());
}
