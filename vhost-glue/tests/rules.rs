//! When a device may touch its rings, and when not: before they start, while nothing is in them, and after a reset.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use support::back::{Back, each_kind, finish};
use support::front::{
    Front, GET_STATUS, PROTOCOL, REPLY_ACK, RESET, RESET_DEVICE, SET_STATUS, SET_VRING_ADDR, SET_VRING_BASE,
    SET_VRING_CALL, SET_VRING_KICK, SET_VRING_NUM, STATUS, longs, words,
};
use support::guest::{BASE, Guest, RING, SIZE, place, take};
use support::until;
use virtio_ring::{Access, GuestAddr, GuestMemory};

/// Everything that device and driver share.
fn memory(guest: &Guest) -> Vec<u8> {
    let mut all = vec![0; SIZE as usize];
    guest.mem.translate(GuestAddr(BASE), all.len(), Access::Read).unwrap().read(&mut all);
    all
}

fn kick(guest: &Guest) {
    for kick in &guest.kicks {
        rustix::io::write(kick, &1_u64.to_ne_bytes()).unwrap();
    }
}

fn calls(guest: &Guest) -> u64 {
    guest.calls.iter().map(take).sum()
}

fn taken(back: &Back) -> u64 {
    back.seen.taken.load(Ordering::SeqCst)
}

/// A session that is ready to start its rings.
fn negotiated(back: &Back, want: u64) -> (Front, Guest) {
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(want, REPLY_ACK | STATUS | RESET);
    (front, Guest::new(acked))
}

fn start(front: &mut Front, guest: &Guest) {
    guest.start(front, true);
    front.settle();
}

/// Buffers are posted and the driver has kicked at every step that leads to a running ring: nothing happens until its kick
/// descriptor is there, which a front end sends when the driver says `DRIVER_OK`.
#[test]
fn g1_nothing_is_touched_before_the_driver_is_ready() {
    each_kind(1, |back, want| {
        for want in [want, want & !PROTOCOL] {
            let (mut front, mut guest) = negotiated(back, want);
            assert_eq!(guest.send(20, 60), 20);
            let before = memory(&guest);
            let nothing = |front: &mut Front, guest: &Guest, step: &str| {
                kick(guest);
                front.settle();
                assert!(memory(guest) == before, "{step}: memory was written");
                assert_eq!((calls(guest), taken(back)), (0, 0), "{step}");
            };
            let config = |index: u32| words(&[index, RING.into()]);
            front.ack(SET_STATUS, &longs(&[1]), &[]);
            nothing(&mut front, &guest, "acknowledged");
            front.ack(SET_STATUS, &longs(&[3]), &[]);
            front.ack(SET_STATUS, &longs(&[11]), &[]);
            nothing(&mut front, &guest, "features");
            guest.send_mem_table(&front);
            nothing(&mut front, &guest, "memory");
            for index in [0, 1] {
                front.ack(SET_VRING_NUM, &config(index), &[]);
                nothing(&mut front, &guest, "size");
                front.ack(SET_VRING_BASE, &words(&[index, place(guest.acked, 0)]), &[]);
                nothing(&mut front, &guest, "base");
                front.ack(SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
                nothing(&mut front, &guest, "addresses");
                let call = guest.calls[index as usize].as_fd();
                front.ack(SET_VRING_CALL, &longs(&[index.into()]), &[call]);
                nothing(&mut front, &guest, "call descriptor");
                if want & PROTOCOL != 0 {
                    front.enable(index, true);
                    nothing(&mut front, &guest, "enabled");
                }
            }
            for index in [0, 1_u32] {
                let kick = guest.kicks[index as usize].as_fd();
                front.ack(SET_VRING_KICK, &longs(&[index.into()]), &[kick]);
            }
            front.ack(SET_STATUS, &longs(&[15]), &[]);
            let mut got = 0;
            until("frames come back", || {
                got += guest.receive(60);
                got == 20
            });
            finish(back, front);
            back.seen.taken.store(0, Ordering::SeqCst);
        }
    });
}

/// Memory is the driver's again, which does with it what it likes. In the middle of a burst, by every way there is.
#[test]
fn g7_after_a_reset_nothing_is_touched() {
    type Way = (&'static str, fn(&mut Front));
    let ways: [Way; 3] = [
        ("reset", |front| front.ack(RESET_DEVICE, &[], &[])),
        ("status 0", |front| front.ack(SET_STATUS, &longs(&[0]), &[])),
        ("both rings stopped", |front| _ = [front.vring_base(0), front.vring_base(1)]),
    ];
    each_kind(1, |back, want| {
        let (mut front, mut guest) = negotiated(back, want);
        for round in 0..12 {
            let (name, way) = ways[round % ways.len()];
            front.ack(SET_STATUS, &longs(&[15]), &[]);
            start(&mut front, &guest);
            guest.exchange(10, 60);
            guest.send([0, 1, 7, 32, 200][round % 5], 60);
            way(&mut front);
            if name != "both rings stopped" {
                assert_eq!(front.number(GET_STATUS), 0, "{name}");
            }
            calls(&guest);
            let (poison, before) = (vec![0x99; SIZE as usize], taken(back));
            guest.mem.translate(GuestAddr(BASE), poison.len(), Access::Write).unwrap().write(&poison);
            for _ in 0..20 {
                kick(&guest);
                front.settle();
            }
            assert!(memory(&guest) == poison, "{name}, round {round}: memory was written");
            assert_eq!((calls(&guest), taken(back)), (0, before), "{name}, round {round}");
            // Whoever comes next begins with memory of its own.
            guest.mem.translate(GuestAddr(BASE), poison.len(), Access::Write).unwrap().write(&vec![0; poison.len()]);
            guest = guest.again();
        }
        finish(back, front);
    });
}

/// Many more kicks than there is work for: of a ring that is not set up, of one that is disabled, of one that is empty.
#[test]
fn s17_kicks_for_nothing_do_nothing() {
    const KICKS: usize = 3000;
    each_kind(1, |back, want| {
        let (mut front, mut guest) = negotiated(back, want);
        let storm = |front: &mut Front, guest: &Guest, (step, enabled): (&str, bool)| {
            // What a ring does for a message comes behind all that it has begun.
            let behind = |front: &mut Front| {
                [0, 1].iter().for_each(|index| front.enable(*index, enabled));
                front.settle();
            };
            behind(front);
            // A ring that gets a call descriptor, or another one, calls once: what it has to say may be older.
            calls(guest);
            let sent = taken(back);
            for n in 0..KICKS {
                kick(guest);
                if n % 100 == 0 {
                    behind(front);
                }
            }
            behind(front);
            assert_eq!((calls(guest), taken(back)), (0, sent), "{step}");
        };
        for index in [0, 1_u32] {
            let kick = guest.kicks[index as usize].as_fd();
            front.ack(SET_VRING_KICK, &longs(&[index.into()]), &[kick]);
        }
        let before = memory(&guest);
        storm(&mut front, &guest, ("not set up", false));
        assert!(memory(&guest) == before);
        guest.start(&front, false);
        storm(&mut front, &guest, ("disabled", false));
        storm(&mut front, &guest, ("empty", true));
        assert_eq!(guest.driver.receive().unwrap(), None, "nothing was used");
        guest.exchange(10, 60);
        storm(&mut front, &guest, ("empty again", true));
        guest.exchange(1000, 60);
        finish(back, front);
    });
}
