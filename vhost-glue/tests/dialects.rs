//! Front ends as they are: the order of their messages, and what they leave out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use support::alone;
use support::back::{Back, each_kind, finish};
use support::front::{
    ADD_MEM_REG, BACKEND_REQ, CONFIG, Front, GET_CONFIG, GET_FEATURES, GET_MAX_MEM_SLOTS, GET_PROTOCOL_FEATURES,
    GET_QUEUE_NUM, GET_STATUS, MEM_SLOTS, MQ, PROTOCOL, REM_MEM_REG, REPLY_ACK, RESET, SET_BACKEND_REQ_FD,
    SET_FEATURES, SET_OWNER, SET_PROTOCOL_FEATURES, SET_STATUS, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL,
    SET_VRING_ERR, SET_VRING_NUM, STATUS, longs, words,
};
use support::guest::{BASE, Guest, KINDS, RING, SIZE, USER, event, format, memfd, place, ring, with_kind};
use vhost::vhost_user::message::VhostUserConfigFlags;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vhost_glue::{DeviceConfig, SessionEnd};
use virtio_net_core::Features;
use virtio_ring::Format;
use vmm_sys_util::eventfd::EventFd;

/// The published front end of rust-vmm, all of its messages that a net device meets.
#[test]
fn the_front_end_of_rust_vmm() {
    let _alone = alone();
    for kind in KINDS {
        rust_vmm(kind);
    }
}

fn rust_vmm(kind: u64) {
    let back = Back::with(DeviceConfig { mtu: Some(1400), speed: Some(10_000), ..DeviceConfig::default() });
    let mut front = Frontend::from_stream(back.connect(), 2);
    front.set_owner().unwrap();
    let offered = front.get_features().unwrap();
    let wanted = Features::MTU | Features::SPEED_DUPLEX | Features::MAC | Features::MRG_RXBUF | Features::VERSION_1;
    assert_eq!(offered & wanted.bits() as u64, wanted.bits() as u64);
    let acked = with_kind(offered, kind);
    front.set_features(acked).unwrap();
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

    let mut guest = Guest::new(acked);
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
        // It has 16 bits for that.
        front.set_vring_base(index, place(guest.acked, 0) as u16).unwrap();
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
    assert_eq!(front.get_vring_base(1).unwrap(), place(guest.acked, 1000));
    front.reset_device().unwrap();
    // The crate counts rings by this number; it does not reach beyond it.
    assert_eq!(front.get_queue_num().unwrap(), 3);
    drop(front);
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
}

/// The other crate's type for an event descriptor.
#[expect(unsafe_code, reason = "that crate has no other way")]
fn eventfd(fd: OwnedFd) -> EventFd {
    // SAFETY: the descriptor is an event descriptor and is owned by nobody else.
    unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) }
}

/// Messages in the order of QEMU 7.2's network device: descriptors for calls first, everything said again at each start.
#[test]
fn dialect_qemu() {
    each_kind(1, |back, want| {
        let mut front = Front::new(back.connect());
        assert_ne!(front.number(GET_FEATURES) & PROTOCOL, 0);
        let protocol = front.number(GET_PROTOCOL_FEATURES);
        let acked_protocol = protocol & (MQ | REPLY_ACK | MEM_SLOTS | STATUS | RESET);
        front.tell(SET_PROTOCOL_FEATURES, &longs(&[acked_protocol]), &[]);
        assert!(front.number(GET_QUEUE_NUM) >= 1);
        assert!(front.number(GET_MAX_MEM_SLOTS) >= 8);
        front.tell(SET_OWNER, &[], &[]);
        let acked = front.number(GET_FEATURES) & want;
        let masked = event();
        for index in [0_u32, 1] {
            front.tell(SET_VRING_CALL, &longs(&[index.into()]), &[masked.as_fd()]);
            front.tell(SET_VRING_ERR, &longs(&[index.into()]), &[masked.as_fd()]);
        }
        for index in [0, 1] {
            front.enable(index, true);
        }
        front.ack(SET_FEATURES, &longs(&[acked]), &[]);
        let mut guest = Guest::new(acked);
        let region = longs(&[0, BASE, SIZE, BASE + USER, 0]);
        for start in 0..4_u64 {
            if start > 0 {
                front.ack(SET_FEATURES, &longs(&[acked]), &[]);
                front.ack(REM_MEM_REG, &region, &[]);
            }
            front.ack(ADD_MEM_REG, &region, &[guest.file.as_fd()]);
            for index in [0, 1] {
                front.ack(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
                front.ack(SET_VRING_BASE, &words(&[index, place(guest.acked, start * 500)]), &[]);
                front.ack(SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
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
                assert_eq!(front.vring_base(index), place(guest.acked, (start + 1) * 500));
            }
            front.tell(SET_STATUS, &longs(&[0]), &[]);
            assert_eq!(front.number(GET_STATUS), 0);
        }
        finish(back, front);
    });
}

/// User Mode Linux: calls before sizes, log addresses of all ones, config space from 0, every ring from 0,
/// packed ones as well, no `GET_VRING_BASE`, five rings
/// without the MQ protocol feature; and the driver bound a second time.
#[test]
fn dialect_user_mode_linux() {
    each_kind(2, |back, want| {
        let mut front = Front::new(back.connect());
        front.tell(SET_OWNER, &[], &[]);
        let all = front.number(GET_FEATURES);
        let acked = all & want;
        let offered = front.number(GET_PROTOCOL_FEATURES);
        let protocol = offered & (REPLY_ACK | BACKEND_REQ | CONFIG);
        assert_ne!(protocol & BACKEND_REQ, 0, "without this channel it has no interrupt");
        front.tell(SET_PROTOCOL_FEATURES, &longs(&[protocol]), &[]);
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
            front.tell(SET_FEATURES, &longs(&[acked]), &[]);
            let mut guests = [0, 1].map(|pair| Guest::on(file.try_clone().unwrap(), acked, pair));
            if bind == 0 {
                guests[0].send_mem_table(&front);
            }
            for guest in &guests {
                for index in [guest.first, guest.first + 1] {
                    guest.send_call(&front, index);
                    front.tell(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
                    front.tell(SET_VRING_BASE, &words(&[index, 0]), &[]);
                    front.tell(SET_VRING_ADDR, &guest.addresses(index, u64::MAX), &[]);
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
            assert_eq!(front.number(GET_FEATURES), all);
            let before = back.stats.snapshot().refusals;
            assert_eq!(before, 0, "bind {bind}: nothing is refused");
        }
        finish(back, front);
    });
}

/// DPDK's virtio-user, with and without protocol features: rings are enabled either way, and one page of memory at an
/// address of the process.
#[test]
fn dialect_dpdk() {
    each_kind(1, |back, want| {
        for protocol in [0, MQ | REPLY_ACK | STATUS] {
            let mut front = Front::new(back.connect());
            front.tell(SET_OWNER, &[], &[]);
            let offered = front.number(GET_FEATURES) & want;
            let acked = if protocol == 0 { offered & !PROTOCOL } else { offered };
            if protocol != 0 {
                front.number(GET_PROTOCOL_FEATURES);
                front.tell(SET_PROTOCOL_FEATURES, &longs(&[protocol]), &[]);
            }
            let mut guest = Guest::new(acked);
            // The wrap counter of the available half, and nothing of the used one.
            let begin = if format(guest.acked) == Format::Packed { 0x8000 } else { 0 };
            for index in [0, 1] {
                guest.send_call(&front, index);
            }
            front.tell(SET_FEATURES, &longs(&[acked]), &[]);
            if protocol != 0 {
                front.ack(SET_STATUS, &longs(&[0xb]), &[]);
                assert_eq!(front.number(GET_STATUS), 0xb);
                assert_eq!(front.number(GET_STATUS), 0xb);
            }
            for _ in 0..3 {
                // The process makes its rings anew at each start.
                guest = guest.again();
                guest.send_mem_table(&front);
                for index in [0, 1] {
                    front.tell(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
                    front.tell(SET_VRING_BASE, &words(&[index, begin]), &[]);
                    front.tell(SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
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
                    assert_eq!(front.vring_base(index), place(guest.acked, 300));
                }
            }
            assert_eq!(back.stats.snapshot().refusals, 0);
            finish(back, front);
        }
    });
}
