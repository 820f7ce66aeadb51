//! A queue on a pair of sockets that keep message boundaries: what the kernel does when it is slow or gone can be
//! had there at will, and without being root.
#![allow(clippy::arithmetic_side_effects, reason = "tests")]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use virtio_net_core::rx::RxStop;
use virtio_net_core::tx::TxStop;
use virtio_net_core::{Features, NetHeader};

use super::*;
use common::{Guest, Segments, pattern};

fn pair() -> (TapQueue, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (TapQueue::new(Arc::new(near), BACKEND_HEADER_LEN, false), far)
}

fn put(far: &OwnedFd, frame: &[u8]) {
    let message = [&[0; BACKEND_HEADER_LEN], frame].concat();
    assert_eq!(rustix::io::write(far, &message), Ok(message.len()));
}

fn take(far: &OwnedFd) -> Option<Vec<u8>> {
    let mut message = vec![0; MAX_FRAME + 100];
    let n = rustix::io::read(far, &mut message).ok()?;
    Some(message[BACKEND_HEADER_LEN..n].to_vec())
}

const PLAIN: Features = Features::VERSION_1;
const MERGING: Features = Features::VERSION_1.union(Features::MRG_RXBUF);

#[test]
fn a_full_queue_leaves_frames_in_the_ring_and_loses_none() {
    let (mut queue, far) = pair();
    let mut guest = Guest::new(256, PLAIN);
    let mut sent = 0;
    while sent < 200 {
        assert!(guest.driver.send(&NetHeader::NONE, &pattern(9000, sent)).unwrap());
        sent += 1;
    }
    let mut seen = 0;
    let mut busy = 0;
    loop {
        let stop = guest.pump_tx(&mut queue).stop;
        while let Some(frame) = take(&far) {
            assert!(frame == pattern(9000, seen));
            seen += 1;
        }
        if stop == TxStop::Empty {
            break;
        }
        assert_eq!(stop, TxStop::Busy);
        busy += 1;
    }
    assert_eq!((seen, guest.tx_pump.stats().failed), (200, 0));
    assert!(busy > 1);
    let stats = queue.stats();
    assert_eq!((stats.busy, stats.sent, stats.errors.total()), (busy, 200, 0));
    assert_eq!(stats.writes, 200 + busy, "one call a frame");
}

#[test]
fn frames_of_any_number_of_segments_leave_whole() {
    let (mut queue, far) = pair();
    let mut segments = Segments::new();
    let header = [0; BACKEND_HEADER_LEN];
    // Header and head in one segment, so that every other one is a vector of its own.
    for (count, linearised) in [(1, 0), (2, 0), (3, 0), (64, 0), (65, 0), (1022, 0), (1023, 0), (1024, 1)] {
        let body = pattern(HEAD_LEN + (count - 1) * 60, count as u8);
        let front = [&header[..], &body[..HEAD_LEN]].concat();
        let mut pieces = vec![&front[..]];
        pieces.extend(body[HEAD_LEN..].chunks(60));
        assert_eq!(pieces.len(), count);
        let before = *queue.stats();
        segments.send(&pieces, &mut queue);
        let frame = take(&far).unwrap();
        assert!(frame == body, "{count} segments");
        assert_eq!(queue.stats().linearised - before.linearised, linearised, "{count} segments");
        assert_eq!(queue.stats().writes - before.writes, 1);
    }
    // One more than a chain may have: the ring refuses it, and goes on.
    let one = [1_u8];
    let mut pieces = vec![&header[..]];
    pieces.extend([&one[..]; 1024]);
    segments.send(&pieces, &mut queue);
    assert_eq!(take(&far), None);
    assert_eq!(segments.pump.stats().bad_chains, 1);
    // Header split from the frame, at any byte.
    let body = pattern(200, 9);
    for at in 1..BACKEND_HEADER_LEN {
        let rest = [&header[at..], &body].concat();
        segments.send(&[&header[..at], &rest], &mut queue);
        assert_eq!(take(&far).as_deref(), Some(&body[..]));
    }
}

#[test]
fn frames_of_every_length_arrive_and_none_is_lost_when_buffers_are_short() {
    for acked in [MERGING, PLAIN | Features::GUEST_CSUM | Features::GUEST_TSO4] {
        // Few, so that they run out in the middle of a frame; without merging they run out between frames.
        let buffers = if acked.contains(Features::MRG_RXBUF) { 40 } else { 2 };
        let mut guest = Guest::with_rx_buffers(64, buffers, acked);
        let (mut queue, far) = pair();
        let lengths = [14, 60, 127, 128, 129, 1514, 2164, 2165, 20_000, 65_535, MAX_FRAME, 64];
        let (mut wanted, mut seen) = (0, 0);
        while wanted < 300 {
            for _ in 0..6 {
                put(&far, &pattern(lengths[wanted % lengths.len()], wanted as u8));
                wanted += 1;
            }
            loop {
                let out = guest.pump_rx(&mut queue);
                assert!(out.error.is_none());
                while let Some((header, bytes)) = guest.driver.receive().unwrap() {
                    assert_eq!(header, NetHeader::NONE);
                    assert_eq!(bytes.len(), lengths[seen % lengths.len()]);
                    assert!(bytes == pattern(lengths[seen % lengths.len()], seen as u8), "frame {seen}");
                    seen += 1;
                }
                if out.stop == RxStop::Dry {
                    break;
                }
            }
        }
        assert_eq!(seen, wanted);
        let held = if acked.contains(Features::MRG_RXBUF) { 27 } else { 0 };
        assert_eq!(queue.stats().held, held, "{:?}", queue.stats());
        assert_eq!(guest.rx_pump.stats().no_room, 0);
    }
}

#[test]
fn a_frame_that_can_never_fit_is_dropped_and_counted() {
    let mut guest = Guest::new(64, PLAIN);
    let (mut queue, far) = pair();
    for len in [3000, 60, 65_589, 61, 70_000, 62] {
        put(&far, &pattern(len, 1));
    }
    let out = guest.pump_rx(&mut queue);
    assert_eq!((out.frames, out.stop), (3, RxStop::Dry));
    for len in [60, 61, 62] {
        assert!(guest.driver.receive().unwrap().unwrap().1 == pattern(len, 1));
    }
    let stats = guest.rx_pump.stats();
    assert_eq!((stats.too_long + stats.dropped, stats.no_room), (3, 0));
    assert_eq!(queue.stats().received, 6);
}

#[test]
fn a_dry_queue_costs_one_read_and_a_flood_of_rejects_is_bounded() {
    struct Nothing;
    impl virtio_net_core::rx::RxFilter for Nothing {
        fn accepts(&mut self, _head: &[u8]) -> bool {
            false
        }
    }
    let mut guest = Guest::new(64, PLAIN);
    let (mut queue, far) = pair();
    assert_eq!(guest.pump_rx(&mut queue).stop, RxStop::Dry);
    assert_eq!(queue.stats().reads, 1);
    // A filter that answers no uses up no buffers: only the queue's own bound ends the loop.
    let peer = std::thread::spawn(move || {
        let message = [0; 100];
        let mut sent = 0;
        while sent < 2 * MAX_READS {
            match rustix::io::write(&far, &message) {
                Ok(_) => sent += 1,
                Err(rustix::io::Errno::AGAIN) => std::thread::yield_now(),
                Err(_) => break,
            }
        }
        far
    });
    let mut reads = 0;
    while queue.stats().received < 2 * MAX_READS as u64 {
        let out = guest.pump_rx_through(&mut queue, &mut Nothing);
        assert_eq!((out.frames, out.stop), (0, RxStop::Dry));
        assert!(queue.stats().reads - reads <= MAX_READS as u64);
        reads = queue.stats().reads;
    }
    let _far = peer.join().unwrap();
    assert_eq!(guest.rx_pump.stats().filtered, 2 * MAX_READS as u64);
}

#[test]
fn a_peer_that_is_gone_is_reported_once() {
    let (mut queue, far) = pair();
    let mut guest = Guest::new(64, PLAIN);
    // A socket says EPIPE, of the frame; what a tap says is tested with a tap.
    drop(far);
    assert!(guest.driver.send(&NetHeader::NONE, &pattern(60, 0)).unwrap());
    let out = guest.pump_tx(&mut queue);
    assert_eq!((out.stop, guest.tx_pump.stats().failed), (TxStop::Empty, 1));
    assert_eq!(queue.stats().errors.iter().collect::<Vec<_>>(), [(libc::EPIPE, 1)]);
}

#[test]
fn becoming_active_throws_away_what_is_old() {
    let (mut queue, far) = pair();
    let mut guest = Guest::new(64, PLAIN);
    queue.set_active(false).unwrap();
    for i in 0..10 {
        put(&far, &pattern(60, i));
    }
    queue.set_active(true).unwrap();
    put(&far, &pattern(61, 0));
    assert_eq!(guest.pump_rx(&mut queue).frames, 1);
    assert!(guest.driver.receive().unwrap().unwrap().1 == pattern(61, 0));
    assert_eq!(queue.as_fd().as_raw_fd(), queue.fd.as_raw_fd());
}

/// Read and write calls that the kernel counted for this thread, reading this count included.
fn kernel_counts() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some((value("syscr:")?, value("syscw:")?))
}

/// What `act` does to the kernel's counts.
fn calls(act: impl FnOnce()) -> Option<(u64, u64)> {
    let first = kernel_counts()?;
    let second = kernel_counts()?;
    act();
    let third = kernel_counts()?;
    let looking = (second.0 - first.0, second.1 - first.1);
    Some((third.0 - second.0 - looking.0, third.1 - second.1 - looking.1))
}

#[test]
fn a_burst_costs_one_call_a_frame_and_one_to_see_the_end_of_it() {
    // Both the buffers of a driver that merges, and those of one that does not.
    for acked in [MERGING, PLAIN] {
        let mut guest = Guest::new(256, acked);
        let (mut queue, far) = pair();
        for i in 0..32 {
            put(&far, &pattern(1514, i));
            assert!(guest.driver.send(&NetHeader::NONE, &pattern(1514, i)).unwrap());
        }
        let rx = calls(|| assert_eq!(guest.pump_rx(&mut queue).frames, 32));
        let stats = *queue.stats();
        assert_eq!((stats.reads, stats.received, stats.held + stats.spilled), (33, 32, 0));
        // The kernel takes eight entries without allocating.
        assert!(stats.entries <= 33 * 8, "{} entries", stats.entries);
        let tx = calls(|| assert_eq!(guest.pump_tx(&mut queue).chains, 32));
        assert_eq!((queue.stats().writes, queue.stats().sent), (32, 32));
        // Header, head, and the rest, which is one segment.
        assert_eq!(queue.stats().entries - stats.entries, 32 * 3);
        match (rx, tx) {
            (Some(rx), Some(tx)) => assert_eq!((rx, tx), ((33, 0), (0, 32)), "as the kernel counts"),
            _ => println!("skipped: the kernel does not count calls (/proc/thread-self/io)"),
        }
    }
}

#[test]
fn a_long_frame_is_copied_once_more_and_the_next_ones_are_not() {
    let mut guest = Guest::new(256, MERGING);
    let (mut queue, far) = pair();
    let mut pass = |len: usize, seed: u8| {
        put(&far, &pattern(len, seed));
        assert_eq!(guest.pump_rx(&mut queue).frames, 1);
        assert!(guest.driver.receive().unwrap().unwrap().1 == pattern(len, seed));
        let stats = queue.stats();
        (stats.spilled, stats.held)
    };
    assert_eq!(pass(1514, 0), (0, 0));
    assert_eq!(pass(60_000, 1), (1, 0));
    assert_eq!(pass(MAX_FRAME, 2), (1, 0));
    // Between short ones as well.
    for i in 0..100 {
        assert_eq!(pass(if i % 30 == 29 { 60_000 } else { 60 }, i), (1, 0));
    }
    // For some time.
    for i in 0..40 {
        assert_eq!(pass(60, i), (1, 0));
    }
    assert_eq!(pass(60_000, 3), (2, 0));
}
