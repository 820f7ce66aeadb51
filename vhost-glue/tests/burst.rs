//! What a burst of 32 frames costs in notifications and system calls: one kick, one call for each ring at most, and no other
//! write.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use support::back::{Back, each_kind, finish};
use support::front::{Front, REPLY_ACK};
use support::guest::{Guest, take};
use support::until;

const BURST: u64 = 32;
const ROUNDS: u64 = 50;

/// Calls of `write` that the worker of this process made so far; `None` if the kernel does not count them.
fn writes() -> Option<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_worker = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("vhost-w"))
    };
    let worker = tasks.into_iter().find(is_worker).unwrap();
    let io = std::fs::read_to_string(worker.join("io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("syscw: "))?.parse().ok()
}

#[test]
fn a_burst_is_one_notification_a_ring() {
    each_kind(1, |back: &Back, want| {
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(want, REPLY_ACK);
        let mut guest = Guest::new(acked);
        guest.start(&front, true);
        front.settle();
        guest.exchange(BURST, 64);
        guest.calls.iter().for_each(|call| _ = take(call));
        let (kicked, before) = (guest.kicked, writes());
        for round in 1..=ROUNDS {
            guest.exchange(BURST, 64);
            let calls = [0, 1].map(|ring| take(&guest.calls[ring]));
            assert!(
                calls[0] <= 1 && calls[1] <= 1,
                "round {round}: {calls:?} calls of the receive and the transmit ring"
            );
        }
        assert!(guest.kicked - kicked <= ROUNDS, "{} kicks", guest.kicked - kicked);
        match before.zip(writes()) {
            // Two calls, and the one write by which the host end of this test tells itself of its frames.
            Some((before, after)) => assert!(after - before <= 3 * ROUNDS, "{} writes", after - before),
            None => println!("skipped: this kernel does not count a thread's system calls"),
        }
        let frames = (ROUNDS + 1) * BURST;
        until("counters are shown", || back.stats.snapshot().pairs[0].rx.frames == frames);
        let pair = back.stats.snapshot().pairs[0];
        assert_eq!((pair.tx.frames, pair.tx.bursts, pair.rx.bursts), (frames, ROUNDS + 1, ROUNDS + 1), "whole bursts");
        finish(back, front);
    });
}
