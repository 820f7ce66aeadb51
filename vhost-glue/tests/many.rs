//! Several guests at a time on few workers: what one does is no affair of another.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use support::back::{Back, finish, workers};
use support::front::{
    Front, MQ, REPLY_ACK, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_ERR, SET_VRING_KICK, longs, words,
};
use support::guest::{Guest, KINDS, SIZE, break_transmit_ring, event, memfd, take, with_kind};
use support::{alone, guest_maps, open_fds, until};
use vhost_glue::{DeviceConfig, SessionEnd, Workers};

const ALL: u64 = u64::MAX;

/// A device of `queues` pairs at these workers.
fn device(workers: &Workers, queues: u16) -> Back {
    Back::at(DeviceConfig { queues, ..DeviceConfig::default() }, workers)
}

/// A running session of one queue pair.
fn running(back: &Back, want: u64) -> (Front, Guest) {
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(want, REPLY_ACK);
    let guest = Guest::new(acked);
    guest.start(&front, true);
    front.settle();
    (front, guest)
}

fn pairs(workers: &Workers) -> Vec<usize> {
    workers.stats().iter().map(|worker| worker.pairs).collect()
}

/// A guest that exchanges frames all the time, on a thread of its own.
struct Busy {
    stop: Arc<AtomicBool>,
    frames: Arc<AtomicU64>,
    thread: JoinHandle<Guest>,
}

impl Busy {
    fn new(mut guest: Guest) -> Self {
        let (stop, frames) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&frames));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                guest.exchange(64, 300);
                count.fetch_add(64, Ordering::SeqCst);
            }
            guest
        });
        Self { stop, frames, thread }
    }

    /// Waits until so many frames more came back.
    fn goes_on(&self, frames: u64) {
        let before = self.frames.load(Ordering::SeqCst);
        until("the other guest goes on", || self.frames.load(Ordering::SeqCst) >= before + frames);
    }

    fn end(self) -> Guest {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

#[test]
fn guests_share_a_worker() {
    let _alone = alone();
    let workers = workers(1);
    let backs: Vec<Back> = KINDS.iter().map(|_| device(&workers, 1)).collect();
    let mut all: Vec<_> = backs.iter().zip(KINDS).map(|(back, kind)| running(back, with_kind(ALL, kind))).collect();
    assert_eq!(pairs(&workers), [4]);
    for _ in 0..20 {
        // All of them have frames on the way at the same time.
        all.iter_mut().for_each(|(_, guest)| assert_eq!(guest.send(40, 200), 40));
        for (_, guest) in &mut all {
            let mut got = 0;
            until("frames come back", || {
                got += guest.receive(200);
                got == 40
            });
        }
    }
    for (back, (front, _guest)) in backs.iter().zip(all) {
        until("counters are there", || back.stats.snapshot().pairs[0].rx.frames == 800);
        finish(back, front);
    }
    assert_eq!(pairs(&workers), [0]);
}

#[test]
fn what_one_guest_does_to_itself_does_not_touch_another() {
    let _alone = alone();
    for kind in KINDS {
        let workers = workers(1);
        let (good, bad) = (device(&workers, 1), device(&workers, 1));
        let (front, guest) = running(&good, ALL);
        let busy = Busy::new(guest);
        busy.goes_on(64);
        let (fds, maps) = (open_fds(), guest_maps());
        for act in 0..4 {
            let (mut theirs, mut guest) = running(&bad, with_kind(ALL, kind));
            guest.exchange(10, 60);
            match act {
                // It breaks its ring.
                0 => {
                    let error = event();
                    guest.event_message(&theirs, SET_VRING_ERR, 1, error.as_fd());
                    theirs.settle();
                    break_transmit_ring(&guest);
                    rustix::io::write(&guest.kicks[1], &1_u64.to_ne_bytes()).unwrap();
                    until("the fault is signalled", || take(&error) > 0);
                    assert!(bad.stats.snapshot().pairs[0].tx_ring.fault.is_some());
                }
                // It hangs up in the middle of traffic.
                1 => drop(guest.send(50, 60)),
                // Its front end stalls inside of a message.
                2 => assert!(theirs.raw(&[5, 0, 0], &[])),
                // It takes nothing of what comes: the receive ring fills up, the host end, the transmit ring.
                _ => until("its ring is full", || guest.send(1, 60) == 0),
            }
            busy.goes_on(640);
            drop((theirs, guest));
            let _ = bad.end();
            busy.goes_on(640);
            assert_eq!((open_fds(), guest_maps()), (fds, maps), "act {act} left something behind");
        }
        assert_eq!(good.stats.snapshot().pairs[0].tx_ring.fault, None);
        drop(busy.end());
        finish(&good, front);
    }
}

#[test]
fn a_flood_leaves_others_their_turns() {
    let _alone = alone();
    let workers = workers(1);
    let (flooded, back) = (device(&workers, 1), device(&workers, 1));
    let (front, guest) = running(&flooded, ALL);
    let busy = Busy::new(guest);
    busy.goes_on(64);
    let (theirs, mut guest) = running(&back, ALL);
    for _ in 0..50 {
        guest.exchange(1, 60);
    }
    busy.goes_on(64);
    drop(busy.end());
    finish(&flooded, front);
    finish(&back, theirs);
}

#[test]
fn more_pairs_than_workers() {
    let _alone = alone();
    let workers = workers(2);
    let backs = [0, 1, 2].map(|_| device(&workers, 2));
    let mut sessions = Vec::new();
    for back in &backs {
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(ALL, REPLY_ACK | MQ);
        let file = memfd(SIZE);
        let guests = [0, 1].map(|pair| Guest::on(file.try_clone().unwrap(), acked, pair));
        guests.iter().for_each(|guest| guest.start(&front, true));
        front.settle();
        sessions.push((front, guests));
    }
    assert_eq!(pairs(&workers), [3, 3], "each goes where there are the fewest");
    for _ in 0..3 {
        sessions.iter_mut().flat_map(|(_, guests)| guests).for_each(|guest| guest.exchange(200, 60));
    }
    for (back, (front, _guests)) in backs.iter().zip(sessions) {
        assert_eq!(back.seen.active.load(Ordering::SeqCst), 2);
        finish(back, front);
    }
    assert_eq!(pairs(&workers), [0, 0]);
}

#[test]
fn polled_rings_of_several_guests() {
    let _alone = alone();
    let workers = workers(1);
    let backs: Vec<Back> = KINDS.iter().map(|_| device(&workers, 1)).collect();
    let mut all = Vec::new();
    for (back, kind) in backs.iter().zip(KINDS) {
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(with_kind(ALL, kind), REPLY_ACK);
        let guest = Guest::new(acked);
        guest.send_mem_table(&front);
        for index in [0, 1] {
            guest.describe(&front, index, 0);
            front.ack(SET_VRING_CALL, &longs(&[u64::from(index) | 0x100]), &[]);
            front.ack(SET_VRING_KICK, &longs(&[u64::from(index) | 0x100]), &[]);
            front.ack(SET_VRING_ENABLE, &words(&[index, 1]), &[]);
        }
        all.push((front, guest));
    }
    for _ in 0..20 {
        all.iter_mut().for_each(|(_, guest)| guest.exchange(40, 60));
        // Asleep, they are looked at by the clock.
        let sleeps = |back: &Back| back.stats.snapshot().pairs[0].sleeps;
        let before: Vec<u64> = backs.iter().map(sleeps).collect();
        until("all of them slept", || backs.iter().zip(&before).all(|(back, before)| sleeps(back) > *before));
    }
    backs.iter().zip(all).for_each(|(back, (front, _guest))| finish(back, front));
}

#[test]
fn cycles_are_those_of_the_guest_that_had_work() {
    let _alone = alone();
    let workers = workers(1);
    let (back, idle) = (device(&workers, 1), device(&workers, 1));
    let (front, mut guest) = running(&back, ALL);
    let (other, _nothing) = running(&idle, ALL);
    guest.exchange(1000, 60);
    until("counters are there", || back.stats.snapshot().pairs[0].rx.frames == 1000);
    let spent = back.stats.snapshot().pairs[0].busy_cycles;
    let worker = workers.stats()[0];
    assert!(spent > 0 && spent <= worker.busy_cycles && worker.busy_cycles <= worker.cycles, "{spent} {worker:?}");
    assert_eq!(idle.stats.snapshot().pairs[0].busy_cycles, 0);
    guest.exchange(1, 60);
    finish(&back, front);
    finish(&idle, other);
    let stats = back.stats.snapshot().pairs[0];
    assert_eq!((stats.tx.frames, stats.rx.frames), (1001, 1001));
    assert!(stats.busy_cycles >= spent);
}

#[test]
fn sessions_come_and_go_beside_a_busy_one() {
    let _alone = alone();
    let workers = workers(2);
    let (good, others) = (device(&workers, 1), [0, 1, 2].map(|_| device(&workers, 1)));
    let (front, guest) = running(&good, ALL);
    let busy = Busy::new(guest);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let mut counts = Vec::new();
    for cycle in 0..80 {
        let mut sessions = others.each_ref().map(|back| running(back, ALL));
        sessions.iter_mut().for_each(|(_, guest)| guest.exchange(5, 60));
        drop(sessions);
        others.iter().for_each(|back| assert_eq!(back.end().unwrap(), SessionEnd::Disconnected));
        if cycle >= 10 {
            counts.push((open_fds(), guest_maps(), threads()));
        }
    }
    assert!(counts.iter().all(|c| c == &counts[0]), "descriptors, mappings and threads stay the same: {counts:?}");
    busy.goes_on(640);
    drop(busy.end());
    finish(&good, front);
    assert_eq!(guest_maps(), 0);
}
