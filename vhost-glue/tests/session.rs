//! Whole sessions: our driver and our device over a real socket.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use support::back::{Back, each_kind, finish};
use support::front::{
    ADD_MEM_REG, Front, GET_STATUS, MEM_SLOTS, MQ, PROTOCOL, REM_MEM_REG, REPLY_ACK, RESET, RESET_DEVICE, SET_FEATURES,
    SET_MEM_TABLE, SET_VRING_BASE, SET_VRING_ENABLE, SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM, STATUS, longs,
    words,
};
use support::guest::{
    BASE, Guest, KINDS, RING, SIZE, USER, break_transmit_ring, event, format, memfd, place, take, with_kind,
};
use support::{alone, guest_maps, open_fds, until};
use vhost_glue::{SessionEnd, connect, listen};
use virtio_net_core::Features;
use virtio_ring::{Format, RingError};

const ALL: u64 = u64::MAX;

/// A running session of one queue pair.
fn running(back: &Back, want: u64, protocol: u64) -> (Front, Guest) {
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(want, protocol);
    let guest = Guest::new(acked);
    guest.start(&front, acked & PROTOCOL != 0);
    front.settle();
    (front, guest)
}

fn taken(back: &Back) -> u64 {
    back.seen.taken.load(Ordering::SeqCst)
}

#[test]
fn frames_both_ways() {
    let _alone = alone();
    let back = Back::new(1);
    let no_event_idx = !(Features::RING_EVENT_IDX.bits() as u64);
    let wishes = [(ALL, REPLY_ACK), (ALL & !PROTOCOL, 0), (no_event_idx, MQ), (1 << 32, 0)];
    let every = KINDS.into_iter().flat_map(|kind| wishes.map(|(want, protocol)| (with_kind(want, kind), protocol)));
    for (want, protocol) in every.chain([(0, 0)]) {
        let (front, mut guest) = running(&back, want, protocol);
        guest.exchange(3000, 60);
        guest.exchange(500, 1514);
        until("counters are there", || back.stats.snapshot().pairs[0].rx.frames >= 3500);
        let stats = back.stats.snapshot();
        assert_eq!(stats.features, Some(guest.acked));
        assert_eq!((stats.pairs[0].tx.frames, stats.pairs[0].rx.frames), (3500, 3500));
        assert_eq!((stats.pairs[0].tx_ring.size, stats.pairs[0].rx_ring.size), (RING, RING));
        assert!(stats.connected && stats.pairs[0].tx_ring.started);
        finish(&back, front);
        assert!(!back.stats.snapshot().connected);
    }
}

#[test]
fn stop_says_where_and_start_goes_on_there() {
    each_kind(1, |back, want| {
        let (mut front, mut guest) = running(back, want, REPLY_ACK);
        let mut total = 0;
        // In the middle of a lap, at its end, and across it; on laps with either wrap counter.
        let stops =
            [100, 251, 256, 262, 507, 512, 519, 763, 768, 775, 1019, 1024, 1030, 1300, 1536, 1541, 65_536, 65_542];
        for (round, stop) in stops.into_iter().enumerate() {
            guest.exchange(stop - total, 100);
            total = stop;
            let bases = [front.vring_base(0), front.vring_base(1)];
            assert_eq!(bases[1], place(guest.acked, total), "every frame sent was taken");
            assert_eq!(bases[0], place(guest.acked, total), "every buffer not filled was given back");
            assert!(!back.stats.snapshot().pairs[0].tx_ring.started);
            // Nothing happens while stopped, kicks or not.
            let before = taken(back);
            assert_eq!(guest.send(5, 100), 5);
            rustix::io::write(&guest.kicks[1], &1_u64.to_ne_bytes()).unwrap();
            front.settle();
            assert_eq!(taken(back), before);
            for index in [0, 1] {
                let base = bases[index as usize];
                // With the base said again, all of it or what fits a split ring's, without it, with everything said again.
                match round % 4 {
                    0 => front.ack(SET_VRING_BASE, &words(&[index, base]), &[]),
                    1 => front.ack(SET_VRING_BASE, &words(&[index, base & 0xffff]), &[]),
                    2 => guest.describe(&front, index, base),
                    _ => {}
                }
                guest.send_kick(&front, index);
            }
            let mut got = 0;
            until("frames come back", || {
                got += guest.receive(100);
                got == 5
            });
            total += 5;
            until("counters are there", || back.stats.snapshot().pairs[0].rx.frames >= total);
            let stats = back.stats.snapshot().pairs[0];
            assert_eq!((stats.tx.frames, stats.rx.frames), (total, total), "counters survive a stop");
        }
        finish(back, front);
    });
}

/// The front end's process goes without a word, and another one takes the guest over, which went on meanwhile.
#[test]
fn a_ring_that_a_session_left_is_served_by_the_next() {
    each_kind(1, |back, want| {
        let (front, mut guest) = running(back, want, REPLY_ACK);
        let mut total = 0;
        let mut front = Some(front);
        for stop in [10, 256, 300, 512, 1000, 1025] {
            guest.exchange(stop - total, 60);
            finish(back, front.take().unwrap());
            assert_eq!(guest.send(16, 60), 16);
            let mut next = Front::new(back.connect());
            next.negotiate(want, REPLY_ACK);
            guest.send_mem_table(&next);
            for index in [0, 1] {
                // Disabled, the transmit ring would lose what was sent meanwhile.
                next.enable(index, true);
                guest.describe(&next, index, place(guest.acked, stop));
                guest.send_kick(&next, index);
            }
            next.settle();
            let mut got = 0;
            until("frames come back", || {
                got += guest.receive(60);
                got == 16
            });
            total = stop + 16;
            front = Some(next);
        }
        finish(back, front.unwrap());
    });
}

/// A driver that asks for another kind of ring than the one before it.
#[test]
fn the_kind_of_ring_changes_within_a_session() {
    let _alone = alone();
    let back = Back::new(1);
    let (mut front, mut guest) = running(&back, ALL, REPLY_ACK);
    for kind in KINDS.into_iter().chain(KINDS) {
        guest.exchange(300, 60);
        for index in [0, 1] {
            front.enable(index, false);
            front.vring_base(index);
        }
        let acked = with_kind(guest.acked.bits() as u64, kind) | PROTOCOL;
        front.ack(SET_FEATURES, &longs(&[acked]), &[]);
        let file = guest.file.try_clone().unwrap();
        guest = Guest::on(file, acked, 0);
        guest.start(&front, true);
        front.settle();
        assert_eq!(back.stats.snapshot().features, Some(guest.acked));
    }
    guest.exchange(300, 60);
    finish(&back, front);
}

#[test]
fn disabled_rings_discard_and_supply_nothing() {
    each_kind(1, |back, want| {
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(want, REPLY_ACK);
        let mut guest = Guest::new(acked);
        guest.start(&front, false);
        // Started, not enabled: sent frames are consumed, and go nowhere.
        assert_eq!(guest.send(100, 60), 100);
        until("frames are consumed", || back.stats.snapshot().pairs[0].tx.failed == 100);
        assert_eq!((taken(back), guest.receive(60)), (0, 0));
        assert_eq!(back.seen.active.load(Ordering::SeqCst), 0, "the host end is off");
        guest.forget();
        // Only the transmit ring: the frames wait in the port, whose queue is off.
        front.enable(1, true);
        front.settle();
        assert_eq!(guest.send(10, 60), 10);
        until("frames are taken", || taken(back) == 10);
        assert_eq!(guest.receive(60), 0);
        front.enable(0, true);
        let mut got = 0;
        until("frames come", || {
            got += guest.receive(60);
            got == 10
        });
        guest.exchange(500, 60);
        // Off again in the middle of traffic.
        for _ in 0..20 {
            guest.send(32, 60);
            front.enable(0, false);
            front.enable(1, false);
            front.settle();
            let consumed = taken(back) + back.stats.snapshot().pairs[0].tx.failed;
            assert_eq!(guest.send(7, 60), 7);
            until("all is consumed", || taken(back) + back.stats.snapshot().pairs[0].tx.failed == consumed + 7);
            let before = taken(back);
            while guest.driver.receive().unwrap().is_some() {}
            assert_eq!(guest.send(1, 60), 1);
            front.settle();
            assert_eq!(taken(back), before);
            assert!(guest.driver.receive().unwrap().is_none());
            front.enable(0, true);
            front.enable(1, true);
            front.settle();
            until("what the port held is delivered", || {
                while guest.driver.receive().unwrap().is_some() {}
                guest.flush();
                back.stats.snapshot().pairs[0].rx.frames == taken(back)
            });
            while guest.driver.receive().unwrap().is_some() {}
            guest.flush();
            guest.forget();
            guest.exchange(50, 60);
        }
        finish(back, front);
    });
}

#[test]
fn a_kick_before_its_descriptor_was_registered_counts() {
    each_kind(1, |back, want| {
        for written in [true, false] {
            let mut front = Front::new(back.connect());
            let acked = front.negotiate(want, REPLY_ACK);
            let mut guest = Guest::new(acked);
            assert_eq!(guest.send(20, 60), 20);
            if written {
                assert!(guest.kicked > 0, "the driver kicked before anybody listened");
            } else {
                guest.kicks.iter().for_each(|kick| assert!(take(kick) > 0));
            }
            // Disabled, the transmit ring would lose them.
            front.enable(0, true);
            front.enable(1, true);
            guest.start(&front, false);
            let mut got = 0;
            until("frames come back", || {
                got += guest.receive(60);
                got == 20
            });
            finish(back, front);
        }
    });
}

#[test]
fn rings_without_kick_and_call_descriptors_are_polled() {
    each_kind(1, |back, want| {
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(want, REPLY_ACK);
        let mut guest = Guest::new(acked);
        guest.send_mem_table(&front);
        for index in [0, 1] {
            guest.describe(&front, index, 0);
            front.ack(support::front::SET_VRING_CALL, &longs(&[u64::from(index) | 0x100]), &[]);
            front.ack(SET_VRING_KICK, &longs(&[u64::from(index) | 0x100]), &[]);
            front.ack(SET_VRING_ENABLE, &words(&[index, 1]), &[]);
        }
        for _ in 0..20 {
            guest.exchange(50, 60);
            // Long enough to fall asleep.
            let sleeps = back.stats.snapshot().pairs[0].sleeps;
            guest.exchange(1, 60);
            assert!(back.stats.snapshot().pairs[0].sleeps >= sleeps);
        }
        assert_eq!([take(&guest.calls[0]), take(&guest.calls[1])], [0, 0]);
        // Disabled, it is still looked at.
        front.enable(1, false);
        front.settle();
        assert_eq!(guest.send(3, 60), 3);
        until("discarded", || back.stats.snapshot().pairs[0].tx.failed == 3);
        finish(back, front);
    });
}

#[test]
fn the_memory_table_changes_under_traffic() {
    each_kind(1, |back, want| {
        let (mut front, mut guest) = running(back, want, REPLY_ACK | MEM_SLOTS);
        for round in 0..50 {
            guest.send(20, 300);
            if round % 2 == 0 {
                guest.send_mem_table(&front);
            } else {
                front.ack(SET_MEM_TABLE, &guest.mem_table(), &[guest.file.as_fd()]);
            }
            let mut got = 0;
            until("frames come back", || {
                got += guest.receive(300);
                got == 20
            });
            guest.exchange(40, 300);
        }
        assert_eq!(back.stats.snapshot().regions, 1);
        front.settle();
        // One mapping is the device's, one is the guest's.
        assert_eq!(guest_maps(), 2);
        finish(back, front);
    });
}

#[test]
fn regions_come_and_go() {
    each_kind(1, |back, want| {
        let (mut front, mut guest) = running(back, want, REPLY_ACK | MEM_SLOTS);
        let other = memfd(0x40_0000);
        let body = |at: u64, size: u64, offset: u64| longs(&[0, at, size, at + USER, offset]);
        for round in 0..8_u64 {
            guest.exchange(20, 300);
            let at = 0x1_0000_0000 + round * 0x10_0000;
            front.ack(ADD_MEM_REG, &body(at, 0x8_0000, round * 0x4_0000), &[other.as_fd()]);
        }
        assert_eq!(back.stats.snapshot().regions, 9);
        front.refused(ADD_MEM_REG, &body(0x1_0000_0000, 0x1000, 0), &[other.as_fd()]);
        front.refused(REM_MEM_REG, &body(0x1_0000_0000, 0x1000, 0), &[]);
        // With a descriptor, as older front ends do, and without.
        front.ack(REM_MEM_REG, &body(0x1_0000_0000, 0x8_0000, 0), &[other.as_fd()]);
        front.ack(REM_MEM_REG, &body(0x1_0010_0000, 0x8_0000, 0), &[]);
        assert_eq!(back.stats.snapshot().regions, 7);
        guest.exchange(100, 300);
        // The rings' own region goes: they stop where they are, and go on when it is back.
        front.ack(REM_MEM_REG, &body(BASE, SIZE, 0), &[]);
        assert!(!back.stats.snapshot().pairs[0].tx_ring.started);
        front.ack(ADD_MEM_REG, &body(BASE, SIZE, 0), &[guest.file.as_fd()]);
        assert!(back.stats.snapshot().pairs[0].tx_ring.started);
        guest.exchange(100, 300);
        finish(back, front);
        assert_eq!(guest_maps(), 1);
    });
}

#[test]
fn geometry_and_features_are_frozen_while_a_ring_runs() {
    each_kind(1, |back, want| {
        let (mut front, mut guest) = running(back, want, REPLY_ACK);
        let acked = guest.acked.bits() as u64 | PROTOCOL;
        for index in [0, 1] {
            front.refused(SET_VRING_NUM, &words(&[index, 128]), &[]);
            front.refused(SET_VRING_BASE, &words(&[index, 7]), &[]);
            front.refused(support::front::SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
            // Not asked for an answer, it gets none, and nothing changes either.
            front.tell(SET_VRING_NUM, &words(&[index, 128]), &[]);
        }
        front.refused(SET_FEATURES, &longs(&[acked & !1]), &[]);
        front.refused(SET_FEATURES, &longs(&[acked | 1 << 26]), &[]);
        front.ack(SET_FEATURES, &longs(&[acked]), &[]);
        guest.exchange(1000, 60);
        let refused = back.stats.snapshot().refusals;
        assert_eq!(refused, 10);
        // Another kick and call descriptor are fine, and the ones before are closed.
        let fds = open_fds();
        for _ in 0..50 {
            for index in [0, 1] {
                guest.kicks[index as usize] = event();
                guest.calls[index as usize] = event();
                guest.send_kick(&front, index);
                guest.send_call(&front, index);
            }
            front.settle();
            guest.exchange(10, 60);
        }
        assert_eq!(open_fds(), fds);
        finish(back, front);
    });
}

#[test]
fn g2_a_broken_ring_stops_alone_and_says_so() {
    each_kind(1, |back, want| {
        let (mut front, mut guest) = running(back, want, REPLY_ACK | STATUS | RESET);
        guest.exchange(10, 60);
        let error = event();
        guest.event_message(&front, SET_VRING_ERR, 1, error.as_fd());
        front.settle();
        break_transmit_ring(&guest);
        rustix::io::write(&guest.kicks[1], &1_u64.to_ne_bytes()).unwrap();
        until("the fault is signalled", || take(&error) > 0);
        let stats = back.stats.snapshot().pairs[0];
        let expected = match format(guest.acked) {
            Format::Split => RingError::AvailIndex { idx: 2000, used: 10, size: RING },
            Format::Packed => RingError::PackedChain { slot: 10, most: RING },
        };
        assert_eq!(stats.tx_ring.fault, Some(expected));
        assert_eq!(stats.rx_ring.fault, None);
        assert_eq!(front.number(GET_STATUS) & 64, 64, "the device needs a reset");
        // It stays quiet: no second signal for the next kick.
        rustix::io::write(&guest.kicks[1], &1_u64.to_ne_bytes()).unwrap();
        front.settle();
        assert_eq!(take(&error), 0);
        // Reset, and a driver that begins anew is served.
        front.ack(RESET_DEVICE, &[], &[]);
        assert_eq!(front.number(GET_STATUS), 0);
        let mut guest = Guest::new(guest.acked.bits() as u64 | PROTOCOL);
        guest.start(&front, true);
        front.settle();
        guest.exchange(100, 60);
        finish(back, front);
    });
}

#[test]
fn two_pairs_and_the_control_queue() {
    each_kind(2, |back, want| {
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(want, REPLY_ACK | MQ);
        assert_eq!(front.number(support::front::GET_QUEUE_NUM), 5);
        let file = memfd(SIZE);
        let mut guests = [0, 1].map(|pair| Guest::on(file.try_clone().unwrap(), acked, pair));
        for guest in &guests {
            guest.start(&front, true);
        }
        front.settle();
        guests.iter_mut().for_each(|guest| guest.exchange(300, 60));
        assert_eq!(back.seen.active.load(Ordering::SeqCst), 2, "without a control queue every enabled pair is used");
        let mut control = support::guest::Control::new(&guests[0]);
        control.start(&front, &guests[0], 4);
        front.settle();
        until("only the first pair is used", || back.seen.active.load(Ordering::SeqCst) == 1);
        for (command, answer, active) in [
            (&[4, 0, 2, 0][..], 0, 2),
            (&[4, 0, 1, 0], 0, 1),
            (&[4, 0, 0, 0], 1, 1),
            (&[4, 0, 3, 0], 1, 1),
            (&[4, 0, 2], 1, 1),
            (&[1, 0, 2, 0], 1, 1),
            (&[4, 0, 2, 0], 0, 2),
        ] {
            assert_eq!(control.command(command), answer, "{command:?}");
            assert_eq!(back.seen.active.load(Ordering::SeqCst), active, "in force when it is answered");
        }
        guests.iter_mut().for_each(|guest| guest.exchange(300, 60));
        let stats = back.stats.snapshot();
        assert_eq!((stats.control.done, stats.control.refused), (3, 4));
        // Stopped and started again, what was commanded is still in force.
        let base = front.vring_base(4);
        // Each command is two descriptors.
        let slots = if format(guests[0].acked) == Format::Packed { 14 } else { 7 };
        assert_eq!(base, place(guests[0].acked, slots));
        control.start_at(&front, &guests[0], 4, base);
        front.settle();
        assert_eq!(control.command(&[4, 0, 5, 0]), 1);
        assert_eq!(back.seen.active.load(Ordering::SeqCst), 2);
        finish(back, front);
    });
}

#[test]
fn a_stop_ends_the_session_in_good_order() {
    let _alone = alone();
    let path = std::env::temp_dir().join(format!("vhost-glue-{}.sock", std::process::id()));
    let back = Back::new(1);
    let listener = listen(&path).unwrap();
    assert!(listen(&path).unwrap_err().to_string().contains("another process is listening"));
    let client = connect(&path, std::time::Duration::from_millis(1), &back.stop).unwrap().unwrap();
    // The one that found the socket in use, and gone again.
    back.serve(listener.accept(&back.stop).unwrap().unwrap());
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
    back.serve(listener.accept(&back.stop).unwrap().unwrap());
    let mut front = Front::new(client);
    let acked = front.negotiate(ALL, REPLY_ACK);
    let mut guest = Guest::new(acked);
    guest.start(&front, true);
    front.settle();
    guest.exchange(100, 60);
    // In the middle of a message as well.
    front.raw(&[1, 0, 0], &[]);
    back.stop.request();
    assert_eq!(back.end().unwrap(), SessionEnd::Stopped);
    assert!(listener.accept(&back.stop).unwrap().is_none());
    drop(listener);
    assert!(!path.exists());
    assert!(connect(&path, std::time::Duration::from_secs(9), &back.stop).unwrap().is_none());
    // A dead process's socket is replaced, a file is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(listen(&path).unwrap());
    std::fs::write(&path, "x").unwrap();
    assert!(listen(&path).unwrap_err().to_string().contains("is not a socket"));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn front_ends_come_and_go_and_leave_nothing() {
    let _alone = alone();
    let back = Back::new(1);
    let mut counts = Vec::new();
    for cycle in 0..300 {
        let (mut front, mut guest) = running(&back, ALL, REPLY_ACK | MEM_SLOTS);
        guest.exchange(20, 60);
        match cycle % 4 {
            // Orderly, in the middle of traffic, with half a message, with everything at once.
            0 => drop([front.vring_base(0), front.vring_base(1)]),
            1 => drop(guest.send(50, 60)),
            2 => drop(front.raw(&[5, 0, 0, 0, 1, 0], &[guest.file.as_fd()])),
            _ => guest.send_mem_table(&front),
        }
        drop((front, guest));
        let _ = back.end();
        if cycle >= 100 {
            counts.push((open_fds(), guest_maps()));
        }
    }
    assert!(counts.iter().all(|c| c == &counts[0]), "descriptors and mappings stay the same: {counts:?}");
    assert_eq!(guest_maps(), 0);
}
