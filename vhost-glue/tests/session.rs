//! Whole sessions: our driver and our device over a real socket.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use support::back::Back;
use support::front::{
    ADD_MEM_REG, BACKEND_REQ, CONFIG, Front, GET_CONFIG, GET_STATUS, MEM_SLOTS, MQ, PROTOCOL, REM_MEM_REG, REPLY_ACK,
    RESET, RESET_DEVICE, SET_BACKEND_REQ_FD, SET_MEM_TABLE, SET_STATUS, SET_VRING_ENABLE, SET_VRING_ERR,
    SET_VRING_KICK, SET_VRING_NUM, STATUS, longs, words,
};
use support::guest::{BASE, Guest, RING, SIZE, USER, event, memfd, ring, take};
use support::{alone, guest_maps, open_fds, until};
use vhost::vhost_user::message::VhostUserConfigFlags;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vhost_glue::{DeviceConfig, SessionEnd, connect, listen};
use virtio_net_core::Features;
use virtio_ring::RingError;
use vmm_sys_util::eventfd::EventFd;

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

fn finish(back: &Back, front: Front) {
    drop(front);
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
    assert_eq!(back.seen.starts.load(Ordering::SeqCst), back.seen.stops.load(Ordering::SeqCst));
    assert_eq!(back.seen.active.load(Ordering::SeqCst), 0);
}

fn taken(back: &Back) -> u64 {
    back.seen.taken.load(Ordering::SeqCst)
}

#[test]
fn frames_both_ways() {
    let _alone = alone();
    let back = Back::new(1);
    let no_event_idx = !(Features::RING_EVENT_IDX.bits() as u64);
    for (want, protocol) in [(ALL, REPLY_ACK), (ALL & !PROTOCOL, 0), (no_event_idx, MQ), (1 << 32, 0), (0, 0)] {
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

/// The published front end of rust-vmm, all of its messages that a net device meets.
#[test]
fn the_front_end_of_rust_vmm() {
    let _alone = alone();
    let back = Back::with(DeviceConfig { mtu: Some(1400), speed: Some(10_000), ..DeviceConfig::default() });
    let mut front = Frontend::from_stream(back.connect(), 2);
    front.set_owner().unwrap();
    let offered = front.get_features().unwrap();
    let wanted = Features::MTU | Features::SPEED_DUPLEX | Features::MAC | Features::MRG_RXBUF | Features::VERSION_1;
    assert_eq!(offered & wanted.bits() as u64, wanted.bits() as u64);
    front.set_features(offered).unwrap();
    let protocol = front.get_protocol_features().unwrap();
    assert!(!protocol.intersects(VhostUserProtocolFeatures::LOG_SHMFD | VhostUserProtocolFeatures::INFLIGHT_SHMFD));
    front.set_protocol_features(protocol).unwrap();
    front.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);

    assert_eq!(front.get_max_mem_slots().unwrap(), 32);
    let (_, config) = front.get_config(0, 20, VhostUserConfigFlags::empty(), &[0; 20]).unwrap();
    assert_eq!(config[..6], support::guest::OWN);
    assert_eq!(config[6..8], [1, 0]);
    assert_eq!(config[10..12], 1400_u16.to_le_bytes());
    assert_eq!(config[12..17], [0x10, 0x27, 0, 0, 1]);
    assert_eq!(front.get_config(250, 6, VhostUserConfigFlags::empty(), &[0; 6]).unwrap().1, [0; 6]);
    front.set_config(0, VhostUserConfigFlags::WRITABLE, &[9; 6]).unwrap_err();

    let mut guest = Guest::new(offered);
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: BASE,
        memory_size: SIZE,
        userspace_addr: BASE + USER,
        mmap_offset: 0,
        mmap_handle: guest.file.as_raw_fd(),
    };
    front.set_mem_table(&[region]).unwrap();
    let call = eventfd(event());
    for index in 0..2 {
        let geometry = ring(index as u32, guest.acked);
        front.set_vring_num(index, RING).unwrap();
        front.set_vring_base(index, 0).unwrap();
        let addresses = VringConfigData {
            queue_max_size: RING,
            queue_size: RING,
            flags: 0,
            desc_table_addr: geometry.desc.0 + USER,
            used_ring_addr: geometry.device.0 + USER,
            avail_ring_addr: geometry.driver.0 + USER,
            log_addr: None,
        };
        front.set_vring_addr(index, &addresses).unwrap();
        front.set_vring_call(index, &call).unwrap();
        front.set_vring_err(index, &call).unwrap();
        let kick = eventfd(guest.kicks[index].try_clone().unwrap());
        front.set_vring_kick(index, &kick).unwrap();
        front.set_vring_enable(index, true).unwrap();
    }
    guest.exchange(1000, 200);
    assert!(call.read().unwrap() > 0, "calls came");
    assert_eq!(front.get_vring_base(1).unwrap(), 1000);
    front.reset_device().unwrap();
    // The crate counts rings by this number; it does not reach beyond it.
    assert_eq!(front.get_queue_num().unwrap(), 2);
    drop(front);
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
}

/// The other crate's type for an event descriptor.
#[expect(unsafe_code, reason = "that crate has no other way")]
fn eventfd(fd: OwnedFd) -> EventFd {
    // SAFETY: the descriptor is an event descriptor and is owned by nobody else.
    unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) }
}

#[test]
fn stop_says_where_and_start_goes_on_there() {
    let _alone = alone();
    let back = Back::new(1);
    let (mut front, mut guest) = running(&back, ALL, REPLY_ACK);
    let mut total = 0;
    for round in 0..20_u64 {
        guest.exchange(100 + round, 100);
        total += 100 + round;
        let bases = [front.vring_base(0), front.vring_base(1)];
        assert_eq!(u64::from(bases[1]), total, "every frame sent was taken");
        assert_eq!(u64::from(bases[0]), total, "every buffer not filled was given back");
        assert!(!back.stats.snapshot().pairs[0].tx_ring.started);
        // Nothing happens while stopped, kicks or not.
        let before = taken(&back);
        assert_eq!(guest.send(5, 100), 5);
        rustix::io::write(&guest.kicks[1], &1_u64.to_ne_bytes()).unwrap();
        front.settle();
        assert_eq!(taken(&back), before);
        for index in [0, 1] {
            // With the base said again, without it, with everything said again.
            match round % 3 {
                0 => front.ack(support::front::SET_VRING_BASE, &words(&[index, bases[index as usize]]), &[]),
                1 => guest.describe(&front, index, bases[index as usize]),
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
    finish(&back, front);
}

#[test]
fn disabled_rings_discard_and_supply_nothing() {
    let _alone = alone();
    let back = Back::new(1);
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(ALL, REPLY_ACK);
    let mut guest = Guest::new(acked);
    guest.start(&front, false);
    // Started, not enabled: sent frames are consumed, and go nowhere.
    assert_eq!(guest.send(100, 60), 100);
    until("frames are consumed", || back.stats.snapshot().pairs[0].tx.failed == 100);
    assert_eq!((taken(&back), guest.receive(60)), (0, 0));
    assert_eq!(back.seen.active.load(Ordering::SeqCst), 0, "the host end is off");
    guest.forget();
    // Only the transmit ring: the frames wait in the port, whose queue is off.
    front.enable(1, true);
    front.settle();
    assert_eq!(guest.send(10, 60), 10);
    until("frames are taken", || taken(&back) == 10);
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
        let consumed = taken(&back) + back.stats.snapshot().pairs[0].tx.failed;
        assert_eq!(guest.send(7, 60), 7);
        until("all is consumed", || taken(&back) + back.stats.snapshot().pairs[0].tx.failed == consumed + 7);
        let before = taken(&back);
        while guest.driver.receive().unwrap().is_some() {}
        assert_eq!(guest.send(1, 60), 1);
        front.settle();
        assert_eq!(taken(&back), before);
        assert!(guest.driver.receive().unwrap().is_none());
        front.enable(0, true);
        front.enable(1, true);
        front.settle();
        until("what the port held is delivered", || {
            while guest.driver.receive().unwrap().is_some() {}
            guest.flush();
            back.stats.snapshot().pairs[0].rx.frames == taken(&back)
        });
        while guest.driver.receive().unwrap().is_some() {}
        guest.flush();
        guest.forget();
        guest.exchange(50, 60);
    }
    finish(&back, front);
}

#[test]
fn a_kick_before_its_descriptor_was_registered_counts() {
    let _alone = alone();
    let back = Back::new(1);
    for written in [true, false] {
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(ALL, REPLY_ACK);
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
        finish(&back, front);
    }
}

#[test]
fn rings_without_kick_and_call_descriptors_are_polled() {
    let _alone = alone();
    let back = Back::new(1);
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(ALL, REPLY_ACK);
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
    finish(&back, front);
}

#[test]
fn the_memory_table_changes_under_traffic() {
    let _alone = alone();
    let back = Back::new(1);
    let (mut front, mut guest) = running(&back, ALL, REPLY_ACK | MEM_SLOTS);
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
    finish(&back, front);
}

#[test]
fn regions_come_and_go() {
    let _alone = alone();
    let back = Back::new(1);
    let (mut front, mut guest) = running(&back, ALL, REPLY_ACK | MEM_SLOTS);
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
    finish(&back, front);
    assert_eq!(guest_maps(), 1);
}

/// Messages in the order of QEMU 7.2's network device: descriptors for calls first, everything said again at each start.
#[test]
fn dialect_qemu() {
    let _alone = alone();
    let back = Back::new(1);
    let mut front = Front::new(back.connect());
    assert_ne!(front.number(support::front::GET_FEATURES) & PROTOCOL, 0);
    let protocol = front.number(support::front::GET_PROTOCOL_FEATURES);
    let acked_protocol = protocol & (MQ | REPLY_ACK | MEM_SLOTS | STATUS | RESET);
    front.tell(support::front::SET_PROTOCOL_FEATURES, &longs(&[acked_protocol]), &[]);
    assert!(front.number(support::front::GET_QUEUE_NUM) >= 1);
    assert!(front.number(support::front::GET_MAX_MEM_SLOTS) >= 8);
    front.tell(support::front::SET_OWNER, &[], &[]);
    let offered = front.number(support::front::GET_FEATURES);
    let masked = event();
    for index in [0_u32, 1] {
        front.tell(support::front::SET_VRING_CALL, &longs(&[index.into()]), &[masked.as_fd()]);
        front.tell(SET_VRING_ERR, &longs(&[index.into()]), &[masked.as_fd()]);
    }
    for index in [0, 1] {
        front.enable(index, true);
    }
    front.ack(support::front::SET_FEATURES, &longs(&[offered]), &[]);
    let mut guest = Guest::new(offered);
    let region = longs(&[0, BASE, SIZE, BASE + USER, 0]);
    for start in 0..4_u32 {
        if start > 0 {
            front.ack(support::front::SET_FEATURES, &longs(&[offered]), &[]);
            front.ack(REM_MEM_REG, &region, &[]);
        }
        front.ack(ADD_MEM_REG, &region, &[guest.file.as_fd()]);
        for index in [0, 1] {
            front.ack(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
            front.ack(support::front::SET_VRING_BASE, &words(&[index, start * 500]), &[]);
            front.ack(support::front::SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
            guest.send_kick(&front, index);
            guest.send_call(&front, index);
        }
        for index in [0, 1] {
            front.enable(index, true);
        }
        let status = front.number(GET_STATUS);
        front.tell(SET_STATUS, &longs(&[status | 7]), &[]);
        assert_eq!(front.number(GET_STATUS), status | 7);
        guest.exchange(500, 1000);
        for index in [0, 1] {
            front.enable(index, false);
            assert_eq!(front.vring_base(index), (start + 1) * 500);
        }
        front.tell(SET_STATUS, &longs(&[0]), &[]);
        assert_eq!(front.number(GET_STATUS), 0);
    }
    finish(&back, front);
}

/// User Mode Linux: calls before sizes, log addresses of all ones, config space from 0, no `GET_VRING_BASE`, five rings
/// without the MQ protocol feature; and the driver bound a second time.
#[test]
fn dialect_user_mode_linux() {
    let _alone = alone();
    let back = Back::new(2);
    let mut front = Front::new(back.connect());
    front.tell(support::front::SET_OWNER, &[], &[]);
    let acked = front.number(support::front::GET_FEATURES);
    let offered = front.number(support::front::GET_PROTOCOL_FEATURES);
    let protocol = offered & (REPLY_ACK | BACKEND_REQ | CONFIG);
    assert_ne!(protocol & BACKEND_REQ, 0, "without this channel it has no interrupt");
    front.tell(support::front::SET_PROTOCOL_FEATURES, &longs(&[protocol]), &[]);
    let (_requests, channel) = std::os::unix::net::UnixStream::pair().unwrap();
    front.ack(SET_BACKEND_REQ_FD, &[], &[channel.as_fd()]);
    let file = memfd(SIZE);
    for bind in 0..3 {
        for len in [6_usize, 8, 10, 12] {
            let mut body = words(&[0, len as u32, 0]);
            body.resize(12 + len, 0);
            let reply = front.ask(GET_CONFIG, &body);
            assert_eq!((reply.len(), &reply[12..18]), (12 + len, &support::guest::OWN[..]));
        }
        front.tell(support::front::SET_FEATURES, &longs(&[acked]), &[]);
        let mut guests = [0, 1].map(|pair| Guest::on(file.try_clone().unwrap(), acked, pair));
        if bind == 0 {
            guests[0].send_mem_table(&front);
        }
        for guest in &guests {
            for index in [guest.first, guest.first + 1] {
                guest.send_call(&front, index);
                front.tell(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
                front.tell(support::front::SET_VRING_BASE, &words(&[index, 0]), &[]);
                front.tell(support::front::SET_VRING_ADDR, &guest.addresses(index, u64::MAX), &[]);
                guest.send_kick(&front, index);
            }
        }
        for index in 0..4 {
            front.enable(index, true);
        }
        front.settle();
        guests[0].exchange(500, 1000);
        guests[1].exchange(500, 1000);
        // The driver goes: rings off from the last on, then it frees them.
        for index in (0..4).rev() {
            front.enable(index, false);
        }
        assert_eq!(front.number(support::front::GET_FEATURES), acked);
        let before = back.stats.snapshot().refusals;
        assert_eq!(before, 0, "bind {bind}: nothing is refused");
    }
    finish(&back, front);
}

/// DPDK's virtio-user, with and without protocol features: rings are enabled either way, and one page of memory at an
/// address of the process.
#[test]
fn dialect_dpdk() {
    let _alone = alone();
    let back = Back::new(1);
    for protocol in [0, MQ | REPLY_ACK | STATUS] {
        let mut front = Front::new(back.connect());
        front.tell(support::front::SET_OWNER, &[], &[]);
        let offered = front.number(support::front::GET_FEATURES);
        let acked = if protocol == 0 { offered & !PROTOCOL } else { offered };
        if protocol != 0 {
            front.number(support::front::GET_PROTOCOL_FEATURES);
            front.tell(support::front::SET_PROTOCOL_FEATURES, &longs(&[protocol]), &[]);
        }
        let mut guest = Guest::new(acked);
        for index in [0, 1] {
            guest.send_call(&front, index);
        }
        front.tell(support::front::SET_FEATURES, &longs(&[acked]), &[]);
        if protocol != 0 {
            front.ack(SET_STATUS, &longs(&[0xb]), &[]);
            assert_eq!(front.number(GET_STATUS), 0xb);
            assert_eq!(front.number(GET_STATUS), 0xb);
        }
        for start in 0..3 {
            guest.send_mem_table(&front);
            for index in [0, 1] {
                front.tell(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
                front.tell(support::front::SET_VRING_BASE, &words(&[index, start * 300]), &[]);
                front.tell(support::front::SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
                guest.send_kick(&front, index);
            }
            for index in [0, 1] {
                front.enable(index, true);
            }
            if protocol != 0 {
                front.ack(SET_STATUS, &longs(&[0xf]), &[]);
            }
            front.settle();
            guest.exchange(300, 64);
            for index in [0, 1] {
                front.enable(index, false);
                assert_eq!(front.vring_base(index), (start + 1) * 300);
            }
        }
        assert_eq!(back.stats.snapshot().refusals, 0);
        finish(&back, front);
    }
}

#[test]
fn geometry_and_features_are_frozen_while_a_ring_runs() {
    let _alone = alone();
    let back = Back::new(1);
    let (mut front, mut guest) = running(&back, ALL, REPLY_ACK);
    let acked = guest.acked.bits() as u64 | PROTOCOL;
    for index in [0, 1] {
        front.refused(SET_VRING_NUM, &words(&[index, 128]), &[]);
        front.refused(support::front::SET_VRING_BASE, &words(&[index, 7]), &[]);
        front.refused(support::front::SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
        // Not asked for an answer, it gets none, and nothing changes either.
        front.tell(SET_VRING_NUM, &words(&[index, 128]), &[]);
    }
    front.refused(support::front::SET_FEATURES, &longs(&[acked & !1]), &[]);
    front.refused(support::front::SET_FEATURES, &longs(&[acked | 1 << 26]), &[]);
    front.ack(support::front::SET_FEATURES, &longs(&[acked]), &[]);
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
    finish(&back, front);
}

#[test]
fn a_broken_ring_stops_alone_and_says_so() {
    let _alone = alone();
    let back = Back::new(1);
    let (mut front, mut guest) = running(&back, ALL, REPLY_ACK | STATUS | RESET);
    guest.exchange(10, 60);
    let error = event();
    guest.event_message(&front, SET_VRING_ERR, 1, error.as_fd());
    front.settle();
    // The available index jumps by more than the ring holds.
    let idx = virtio_ring::GuestAddr(ring(1, guest.acked).driver.0 + 2);
    let mem = guest.mem.clone();
    let place = virtio_ring::GuestMemory::translate(&mem, idx, 2, virtio_ring::Access::Write).unwrap();
    place.write(&2000_u16.to_le_bytes());
    rustix::io::write(&guest.kicks[1], &1_u64.to_ne_bytes()).unwrap();
    until("the fault is signalled", || take(&error) > 0);
    let stats = back.stats.snapshot().pairs[0];
    assert!(matches!(stats.tx_ring.fault, Some(RingError::AvailIndex { idx: 2000, .. })));
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
    finish(&back, front);
}

#[test]
fn two_pairs_and_the_control_queue() {
    let _alone = alone();
    let back = Back::new(2);
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(ALL, REPLY_ACK | MQ);
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
        until("pairs are switched", || back.seen.active.load(Ordering::SeqCst) == active);
    }
    guests.iter_mut().for_each(|guest| guest.exchange(300, 60));
    let stats = back.stats.snapshot();
    assert_eq!((stats.control.done, stats.control.refused), (3, 4));
    // Stopped and started again, what was commanded is still in force.
    let base = front.vring_base(4);
    assert_eq!(base, 7);
    control.start_at(&front, &guests[0], 4, base);
    front.settle();
    assert_eq!(control.command(&[4, 0, 5, 0]), 1);
    assert_eq!(back.seen.active.load(Ordering::SeqCst), 2);
    finish(&back, front);
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
