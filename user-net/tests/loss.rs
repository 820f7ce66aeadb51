//! What a guest loses is sent again without a timer's help where others tell of it, and soon where nothing does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, missing_docs)]

mod support;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use support::client::Client;
use support::raw::{HOST4, HOST6};
use support::{Guest, all, plain};

const MIB: usize = 1 << 20;
/// Payload frames are longer than this.
const LONG: usize = 200;
/// Less than smoltcp's retransmission timer, whose least is a second. What is compared with it is what the stack says it
/// waits for, not how long it took: a busy machine changes nothing.
const SOON: Duration = Duration::from_millis(950);

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

/// Receives `len` bytes. Returns the longest wait that the stack asked for.
fn receive(client: &mut Client, host: IpAddr, len: usize) -> Duration {
    let source = client.connect(host, 19);
    let (mut longest, mut got) = (Duration::ZERO, 0);
    client.until("data from the source", |c| {
        let before = got;
        got = take(c, source, got);
        if before == got && got > 0 {
            longest = longest.max(c.guest.queue.next_wake().unwrap_or_default());
        }
        got >= len
    });
    longest
}

/// Loses every frame of payload whose number, from 1 on, `which` names. Returns how many there were so far.
fn lose(client: &mut Client, which: impl Fn(u32) -> bool + 'static) -> Rc<Cell<u32>> {
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    client.loses = Some(Box::new(move |frame| {
        count.set(count.get() + u32::from(frame.len() > LONG));
        frame.len() > LONG && which(count.get())
    }));
    seen
}

/// A window that is another one in every segment, as that of a guest that reads all the time.
fn restless(window: u16) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static TURN: AtomicU16 = AtomicU16::new(0);
    window.saturating_sub(TURN.fetch_add(1, Ordering::Relaxed) % 16)
}

#[test]
fn holes_are_filled_whatever_the_window_does_meanwhile() {
    for (acked, host) in [(all(), IpAddr::from(HOST4)), (all(), HOST6.into()), (plain(), HOST4.into())] {
        let mut client = Client::new(Guest::new(acked));
        client.window = Some(restless);
        // Two in a row: more than smoltcp repeats at once.
        lose(&mut client, |n| n > 20 && (n % 50 == 0 || n % 50 == 1));
        let longest = receive(&mut client, host, 4 * MIB);
        assert!(longest < SOON, "{longest:?} {acked:?}");
    }
}

#[test]
fn the_last_segment_is_sent_again_though_nothing_follows_it() {
    let mut client = Client::new(Guest::new(all()));
    let echo = client.connect(HOST4.into(), 7);
    client.established(echo);
    for round in 0..5 {
        // The echo, once.
        let seen = lose(&mut client, |n| n == 1);
        client.socket(echo).send_slice(&[round; 1000]).unwrap();
        let mut longest = Duration::ZERO;
        client.until("echo", |c| {
            let whole = c.socket(echo).recv_queue() == 1000;
            // With the echo under way, nothing else has a timer: one of its length is for the lost segment.
            if !whole && seen.get() > 0 {
                longest = longest.max(c.guest.queue.next_wake().unwrap_or_default());
            }
            whole
        });
        assert!(longest < SOON, "{longest:?}");
        let mut echoed = [0; 1000];
        client.socket(echo).recv_slice(&mut echoed).unwrap();
        assert_eq!(echoed, [round; 1000]);
    }
}

#[test]
fn what_was_dropped_when_the_window_closed_is_sent_again_when_it_opens() {
    let mut client = Client::new(Guest::new(all()));
    // The last but one of these arrives, so that the guest says something: that there is no room.
    let seen = lose(&mut client, |n| n >= 4 && n != 12);
    let source = client.connect(HOST4.into(), 19);
    client.until("more than a dozen frames", |_| seen.get() > 12);
    client.window = Some(|_| 0);
    for _ in 0..10 {
        client.turn();
    }
    client.loses = None;
    // It opens, but not up to where the host has been: nothing new can be sent, and nothing tells of the loss.
    client.window = Some(|_| 100);
    let mut got = 0;
    let goal = client.socket(source).recv_queue() + 20_000;
    client.until("what was dropped", |c| {
        got = take(c, source, got);
        got >= goal
    });
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
