//! Commands of the control queue have their effect in every queue pair, from the moment on in which they are answered.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::sync::atomic::Ordering;

use support::back::{Back, finish, workers};
use support::front::{CONFIG, Front, GET_CONFIG, GET_STATUS, MQ, REPLY_ACK, SET_STATUS, STATUS, longs, words};
use support::guest::{Control, Guest, KINDS, OWN, SIZE, memfd, with_kind};
use support::{alone, until};
use vhost_glue::{DeviceConfig, SpoofPolicy};

const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// A front end with a guest of two queue pairs and a control queue, on two workers.
struct Rig {
    back: Back,
    front: Front,
    guests: [Guest; 2],
    control: Control,
}

impl Rig {
    fn new(kind: u64) -> Self {
        let config =
            DeviceConfig { queues: 2, spoof_check: SpoofPolicy::Off, suspend: true, ..DeviceConfig::default() };
        let back = Back::at(config, &workers(2));
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(with_kind(u64::MAX, kind), REPLY_ACK | MQ | CONFIG | STATUS);
        let file = memfd(SIZE);
        let guests = [0, 1].map(|pair| Guest::on(file.try_clone().unwrap(), acked, pair));
        let control = Control::new(&guests[0]);
        control.start(&front, &guests[0], 4);
        for guest in &guests {
            guest.start(&front, true);
        }
        front.settle();
        Self { back, front, guests, control }
    }

    fn ok(&mut self, command: &[u8]) {
        assert_eq!(self.control.command(command), 0, "{command:?}");
    }

    fn pair(&self, pair: usize) -> vhost_glue::PairStats {
        self.back.stats.snapshot().pairs[pair]
    }

    /// Sends frames on a pair; none of them comes back.
    fn lose(&mut self, pair: usize, count: u64) {
        let taken = self.back.seen.taken.load(Ordering::SeqCst) + count;
        let before = self.pair(pair);
        let guest = &mut self.guests[pair];
        assert_eq!(guest.send(count, 60), count);
        until("frames are rejected", || {
            let now = self.back.stats.snapshot().pairs[pair];
            now.rx.filtered + now.rx.lost == before.rx.filtered + before.rx.lost + count
        });
        assert_eq!(self.back.seen.taken.load(Ordering::SeqCst), taken);
        assert_eq!(self.guests[pair].receive(60), 0);
        self.guests[pair].forget();
    }
}

fn each_kind(test: impl Fn(Rig)) {
    let _alone = alone();
    for kind in KINDS {
        test(Rig::new(kind));
    }
}

#[test]
fn n57_n58_n59_addresses_and_modes_hold_in_every_pair_when_their_command_is_answered() {
    each_kind(|mut rig| {
        rig.ok(&[4, 0, 2, 0]);
        let config =
            |front: &mut Front| front.ask(GET_CONFIG, &[words(&[0, 6, 0]), vec![0; 6]].concat())[12..18].to_vec();
        assert_eq!(config(&mut rig.front), OWN);
        rig.guests.iter_mut().for_each(|guest| guest.exchange(50, 60));
        for _ in 0..10 {
            rig.ok(&[&[1, 1][..], &OTHER].concat());
            assert_eq!(config(&mut rig.front), OTHER, "the front end reads it");
            rig.lose(0, 5);
            rig.lose(1, 5);
            // Promiscuous; no unicast at all; the address in the table.
            for (on, off) in [
                (vec![0, 0, 1], vec![0, 0, 0]),
                (vec![0, 2, 1], vec![0, 2, 0]),
                ([&[1, 0, 1, 0, 0, 0][..], &OWN, &[0; 4]].concat(), vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ] {
                rig.ok(&on);
                rig.guests.iter_mut().for_each(|guest| guest.exchange(5, 60));
                rig.ok(&off);
                rig.lose(1, 3);
                rig.lose(0, 3);
            }
            rig.ok(&[&[1, 1][..], &OWN].concat());
            rig.guests.iter_mut().for_each(|guest| guest.exchange(5, 60));
        }
        assert_ne!(rig.pair(1).filter.other_unicast, 0, "counted by reason");
        finish(&rig.back, rig.front);
    });
}

/// Takes all frames that came, whichever they are.
fn take(guest: &mut Guest) -> u64 {
    let mut count = 0;
    while guest.driver.receive().unwrap().is_some() {
        count += 1;
    }
    guest.flush();
    count
}

#[test]
fn n64_a_pair_that_is_not_used_any_more_gets_nothing_although_frames_flow() {
    each_kind(|mut rig| {
        let (mut sent, mut came) = (0, 0);
        for _ in 0..50 {
            rig.ok(&[4, 0, 2, 0]);
            sent += rig.guests[1].send(60, 60);
            // On their way when the command comes.
            rig.ok(&[4, 0, 1, 0]);
            came += take(&mut rig.guests[1]);
            rig.guests[0].exchange(10, 60);
            assert_eq!(take(&mut rig.guests[1]), 0, "none after the command was answered");
        }
        rig.ok(&[4, 0, 2, 0]);
        until("the rest comes when the pair is used again", || {
            came += take(&mut rig.guests[1]);
            came == sent
        });
        finish(&rig.back, rig.front);
    });
}

/// Who chooses the queue is the host end: one whose receive ring does not run is none that it can choose.
#[test]
fn n65_a_receive_queue_that_does_not_run_is_not_chosen_and_without_any_frames_are_dropped() {
    each_kind(|mut rig| {
        rig.ok(&[4, 0, 2, 0]);
        let active = |rig: &Rig| rig.back.seen.active.load(Ordering::SeqCst);
        assert_eq!(active(&rig), 2);
        rig.front.vring_base(2);
        assert_eq!(active(&rig), 1, "frames of that queue go to the other one, or are lost");
        rig.guests[0].exchange(20, 60);
        rig.front.vring_base(0);
        assert_eq!(active(&rig), 0);
        let taken = rig.back.seen.taken.load(Ordering::SeqCst);
        assert_eq!(rig.guests[0].send(10, 60), 10);
        until("what is sent is taken", || rig.back.seen.taken.load(Ordering::SeqCst) == taken + 10);
        assert_eq!(rig.guests[0].receive(60), 0);
        finish(&rig.back, rig.front);
    });
}

/// `struct virtio_net_rss_config` without types: every frame is unclassified.
fn rss(unclassified: u8) -> [u8; 15] {
    [4, 1, 0, 0, 0, 0, 0, 0, unclassified, 0, 0, 0, 2, 0, 0]
}

#[test]
fn n66_frames_of_one_host_queue_go_to_the_receive_queue_that_the_driver_chose() {
    each_kind(|mut rig| {
        rig.ok(&rss(1));
        for _ in 0..20 {
            // Sent on pair 0, they come back on pair 1.
            let [first, second] = &mut rig.guests;
            let from = second.received;
            second.received = first.sent;
            let mut got = 0;
            assert_eq!(first.send(40, 100), 40);
            until("frames come on the other pair", || {
                got += second.receive(100);
                got == 40
            });
            assert_eq!(first.receive(100), 0);
            first.forget();
            second.received = from;
        }
        assert!(rig.pair(0).rx.steered >= 800 && rig.pair(0).rx.lost == 0);
        rig.ok(&rss(0));
        rig.guests[0].exchange(100, 60);
        // Back to the host end's choice.
        rig.ok(&[4, 0, 2, 0]);
        rig.guests.iter_mut().for_each(|guest| guest.exchange(100, 60));
        finish(&rig.back, rig.front);
    });
}

#[test]
fn n67_frames_for_a_receive_queue_that_does_not_run_are_dropped() {
    each_kind(|mut rig| {
        rig.ok(&rss(1));
        rig.front.vring_base(2);
        rig.lose(0, 20);
        assert_eq!(rig.pair(0).rx.lost, 20);
        finish(&rig.back, rig.front);
    });
}

/// Asks for a call after the next frame, and says how many came.
fn calls(guest: &Guest) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(&guest.calls[0], &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(_) => 0,
    }
}

#[test]
fn n80_calls_are_held_back_for_packets_or_time() {
    each_kind(|mut rig| {
        // One call for 16 packets, or after a second.
        rig.ok(&[&[6, 1][..], &16_u32.to_le_bytes(), &1_000_000_u32.to_le_bytes()].concat());
        let before = rig.pair(0).rx_ring.calls;
        let guest = &mut rig.guests[0];
        while guest.receive(60) > 0 || !guest.driver.arm_rx() {}
        calls(guest);
        assert_eq!(guest.send(15, 60), 15);
        let mut got = 0;
        while got < 15 {
            got += guest.driver.receive().unwrap().is_some() as u64;
        }
        // Fewer than that: other parameters make the call due at once.
        let now = rig.back.stats.snapshot().pairs[0].rx_ring.calls;
        rig.ok(&[&[6, 1][..], &8_u32.to_le_bytes(), &1_000_000_u32.to_le_bytes()].concat());
        until("the call that is due by the new parameters", || rig.pair(0).rx_ring.calls > now);
        let guest = &mut rig.guests[0];
        assert!(calls(guest) >= 1);
        guest.forget();
        // Time alone: one packet, and nothing after it.
        while guest.receive(60) > 0 || !guest.driver.arm_rx() {}
        calls(guest);
        rig.ok(&[&[6, 1][..], &1000_u32.to_le_bytes(), &1000_u32.to_le_bytes()].concat());
        assert_eq!(rig.guests[0].send(1, 60), 1);
        until("the call comes with time", || calls(&rig.guests[0]) == 1);
        assert!(rig.pair(0).rx_ring.calls > before);
        rig.guests[0].forget();
        while rig.guests[0].driver.receive().unwrap().is_some() {}
        rig.ok(&[6, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        finish(&rig.back, rig.front);
    });
}

#[test]
fn g14_g15_g17_a_suspended_device_is_drained_and_silent_and_goes_on_when_it_resumes() {
    each_kind(|mut rig| {
        rig.ok(&[4, 0, 2, 0]);
        let set = |front: &mut Front, status: u64| front.tell(SET_STATUS, &longs(&[status]), &[]);
        // Before DRIVER_OK it is ignored.
        set(&mut rig.front, 0x1b);
        assert_eq!(rig.front.number(GET_STATUS), 0xb);
        rig.guests[0].exchange(10, 60);
        set(&mut rig.front, 0xf);
        for round in 0..5 {
            let sent = rig.guests[1].send(20, 60);
            set(&mut rig.front, 0x1f);
            assert_eq!(rig.front.number(GET_STATUS), 0x1f, "done");
            // What was under way is done with; the mirror sends it back.
            assert_eq!(rig.guests[1].receive(60), sent, "{round}");
            let before = rig.back.stats.snapshot();
            let taken = rig.back.seen.taken.load(Ordering::SeqCst);
            for guest in &mut rig.guests {
                assert_eq!(guest.send(10, 60), 10);
                guest.kicks.iter().for_each(|kick| _ = rustix::io::write(kick, &1_u64.to_ne_bytes()).unwrap());
            }
            rig.front.settle();
            assert_eq!(rig.back.seen.taken.load(Ordering::SeqCst), taken, "not touched");
            let now = rig.back.stats.snapshot();
            for (a, b) in before.pairs.iter().zip(&now.pairs) {
                assert_eq!(
                    (a.tx_ring.calls, a.rx_ring.calls, a.tx.frames),
                    (b.tx_ring.calls, b.rx_ring.calls, b.tx.frames)
                );
            }
            set(&mut rig.front, 0xf);
            assert_eq!(rig.front.number(GET_STATUS), 0xf);
            for guest in &mut rig.guests {
                let mut got = 0;
                until("it goes on", || {
                    got += guest.receive(60);
                    got == 10
                });
            }
        }
        finish(&rig.back, rig.front);
    });
}

/// A back end that comes back: the front end goes on with its rings, the driver repeats no command.
#[test]
fn a_session_that_goes_on_where_the_last_one_ended_has_what_was_commanded_there() {
    each_kind(|mut rig| {
        rig.ok(&[4, 0, 2, 0]);
        rig.ok(&[&[1, 1][..], &OTHER].concat());
        rig.guests.iter_mut().for_each(|guest| _ = guest.send(8, 60));
        until("frames are rejected", || (0..2).all(|pair| rig.pair(pair).rx.filtered == 8));
        for guest in &mut rig.guests {
            assert_eq!(guest.receive(60), 0);
            guest.forget();
        }
        let Rig { back, mut front, mut guests, mut control } = rig;
        for again in [true, false] {
            let bases = [0, 1, 2, 3, 4].map(|index| front.vring_base(index));
            finish(&back, front);
            front = Front::new(back.connect());
            let acked = guests[0].acked.bits() as u64 | support::front::PROTOCOL;
            assert_eq!(front.negotiate(acked, REPLY_ACK | MQ | CONFIG | STATUS), acked);
            if !again {
                // A guest that boots, in the same memory.
                guests = guests.map(Guest::again);
                control = Control::new(&guests[0]);
            }
            let at = |index: u32| if again { bases[index as usize] } else { support::guest::place(guests[0].acked, 0) };
            for guest in &guests {
                guest.send_mem_table(&front);
                for index in [guest.first, guest.first + 1] {
                    guest.describe(&front, index, at(index));
                    guest.send_kick(&front, index);
                    front.enable(index, true);
                }
            }
            control.start_at(&front, &guests[0], 4, at(4));
            front.settle();
            let mac = front.ask(GET_CONFIG, &[words(&[0, 6, 0]), vec![0; 6]].concat())[12..18].to_vec();
            assert_eq!(mac, if again { OTHER } else { OWN });
            assert_eq!(back.seen.active.load(Ordering::SeqCst), if again { 2 } else { 1 });
            if !again {
                guests[0].exchange(20, 60);
                break;
            }
            let before = back.stats.snapshot().pairs[1].rx.filtered;
            assert_eq!(guests[1].send(8, 60), 8);
            until("frames are rejected", || back.stats.snapshot().pairs[1].rx.filtered == before + 8);
            assert_eq!(control.command(&[&[1, 1][..], &OTHER].concat()), 0, "commands go on as well");
            guests.iter_mut().for_each(Guest::forget);
        }
        finish(&back, front);
    });
}

/// User Mode Linux, whose driver goes and another comes: rings are disabled and set up anew, and nothing else is said.
#[test]
fn n56_n63_another_driver_in_the_same_session_begins_anew_and_the_same_one_goes_on() {
    each_kind(|mut rig| {
        let mac = |front: &mut Front| front.ask(GET_CONFIG, &[words(&[0, 6, 0]), vec![0; 6]].concat())[12..18].to_vec();
        for another in [false, true] {
            rig.ok(&[&[1, 1][..], &OTHER].concat());
            assert_eq!(mac(&mut rig.front), OTHER);
            let base = rig.front.vring_base(4);
            (0..4).for_each(|index| rig.front.enable(index, false));
            let acked = rig.guests[0].acked.bits() as u64 | support::front::PROTOCOL;
            rig.front.tell(support::front::SET_FEATURES, &longs(&[acked]), &[]);
            if another {
                rig.guests = rig.guests.map(Guest::again);
                rig.control = Control::new(&rig.guests[0]);
                rig.control.start(&rig.front, &rig.guests[0], 4);
                rig.guests.iter().for_each(|guest| guest.start(&rig.front, true));
            } else {
                rig.control.start_at(&rig.front, &rig.guests[0], 4, base);
            }
            rig.front.settle();
            assert_eq!(mac(&mut rig.front), if another { OWN } else { OTHER });
        }
        rig.guests[0].exchange(20, 60);
        finish(&rig.back, rig.front);
    });
}
