//! Front ends that do harm: messages of vhost-user that no front end sends. The next one must be served.

use super::super::guest::Guest;
use super::super::outcome::{Check, at};
use super::super::plug::{Plug, Setup};
use super::super::ring::Format;
use super::super::suite::Case;
use super::super::target::Target;
use super::super::wire::{NEED_REPLY, longs, protocol, request, words};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::AsFd;

pub(super) const CASES: &[Case] = &[
    Case::hostile("hostile_messages_without_sense", nonsense),
    Case::hostile("hostile_rings_that_are_not_there", no_such_ring),
    Case::hostile("hostile_sizes_of_rings", sizes),
    Case::hostile("hostile_addresses_of_rings", ring_addresses),
    Case::hostile("hostile_memory_tables", memory_tables),
    Case::hostile("hostile_descriptors_too_many_and_too_few", descriptors),
    Case::hostile("hostile_messages_out_of_order", order),
    Case::hostile("hostile_config_reads", config),
];

/// Many times the same of this would be slow for no gain: messages do not know of formats.
fn once(format: Format) -> bool {
    format == Format::Split
}

fn nonsense(target: &Target, format: Format) -> Check {
    let headers = [
        words(&[1, 0, 0]),
        words(&[1, 2, 0]),
        words(&[1, 5, 0]),
        words(&[0, 1, 0]),
        words(&[200, 1, 8, 0, 0]),
        words(&[200, 1 | NEED_REPLY, 8, 0, 0]),
        words(&[u32::MAX, 1 | NEED_REPLY, 0]),
        words(&[2, 1, u32::MAX]),
        words(&[2, 1, 4, 0]),
        words(&[2, 1, 16, 0, 0, 0, 0]),
        words(&[2, 1]),
        vec![1],
        vec![0xff; 300],
    ];
    for bytes in headers.iter().filter(|_| once(format)) {
        let mut wire = target.open(protocol::REPLY_ACK)?;
        wire.raw(bytes, &[])?;
        wire.try_ask(request::GET_FEATURES, &[]).ok();
        drop(wire);
        // In two pieces.
        let wire = target.open(protocol::REPLY_ACK)?;
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        wire.raw(first, &[])?;
        wire.raw(rest, &[])?;
    }
    Ok(())
}

fn no_such_ring(target: &Target, format: Format) -> Check {
    for index in [2_u32, 8, 255, 256, 0x1_0000, 0x1_0001, 0x8000_0000, u32::MAX] {
        for number in
            [request::SET_VRING_NUM, request::SET_VRING_BASE, request::SET_VRING_ENABLE, request::GET_VRING_BASE]
        {
            let mut plug = Plug::start(target, Setup::new(target, format))?;
            plug.wire.try_tell(number, &words(&[index, 1]), &[]).ok();
            plug.still_works(1).ok();
        }
        let mut plug = Plug::start(target, Setup::new(target, format))?;
        let body = [words(&[index, 0]), longs(&[0, 0, 0, 0])].concat();
        plug.wire.try_tell(request::SET_VRING_ADDR, &body, &[]).ok();
        let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(at("eventfd"))?;
        for number in [request::SET_VRING_KICK, request::SET_VRING_CALL] {
            plug.wire.try_tell(number, &longs(&[index.into()]), &[event.as_fd()]).ok();
        }
    }
    Ok(())
}

fn sizes(target: &Target, format: Format) -> Check {
    for size in [0_u32, 1, 3, 0x8000, 0x8001, 0xffff, 0x1_0000, 0x1_0100, u32::MAX] {
        let mut plug = Plug::prepare(target, Setup::new(target, format))?;
        plug.wire.try_tell(request::SET_VRING_NUM, &words(&[1, size]), &[]).ok();
        plug.enable(true).ok();
        plug.driver_ok().ok();
        plug.still_works(1).ok();
        drop(plug);
        // While it runs.
        let mut plug = Plug::start(target, Setup::new(target, format))?;
        plug.wire.try_tell(request::SET_VRING_NUM, &words(&[1, size]), &[]).ok();
        plug.still_works(1).ok();
    }
    Ok(())
}

fn ring_addresses(target: &Target, format: Format) -> Check {
    for wrong in [0, 1, 0x1000, u64::MAX, u64::MAX.wrapping_sub(15), 1 << 63] {
        for field in 0..3 {
            let mut plug = Plug::prepare(target, Setup::new(target, format))?;
            let place = plug.queue(1)?.ring.place();
            let mut addresses = [place.desc, place.device, place.driver].map(|addr| plug.guest.mapping.user(addr));
            if let Some(address) = addresses.get_mut(field) {
                *address = wrong;
            }
            let body = [words(&[1, 0]), longs(&addresses), longs(&[0])].concat();
            plug.wire.try_tell(request::SET_VRING_ADDR, &body, &[]).ok();
            plug.enable(true).ok();
            plug.driver_ok().ok();
            plug.still_works(1).ok();
        }
    }
    Ok(())
}

/// A page before the end of all addresses.
const END: u64 = u64::MAX.wrapping_sub(4095);

fn memory_tables(target: &Target, format: Format) -> Check {
    let guest = Guest::new()?;
    let whole = guest.mapping.describe();
    let region = |addr: u64, size: u64, user: u64, offset: u64| longs(&[addr, size, user, offset]);
    let good = region(whole.guest_phys_addr, whole.memory_size, whole.userspace_addr, 0);
    let tables = [
        (0, vec![]),
        (1, region(0, 0, 0, 0)),
        (1, region(END, whole.memory_size, whole.userspace_addr, 0)),
        (1, region(whole.guest_phys_addr, u64::MAX, whole.userspace_addr, 0)),
        (1, region(whole.guest_phys_addr, whole.memory_size, END, 0)),
        (1, region(whole.guest_phys_addr, whole.memory_size, whole.userspace_addr, END)),
        (1, region(whole.guest_phys_addr, whole.memory_size, whole.userspace_addr, 1 << 40)),
        (2, [good.clone(), good.clone()].concat()),
        (8, good.repeat(8)),
        (9, good.repeat(9)),
        (u32::MAX, good.clone()),
    ];
    for (count, regions) in tables.iter().filter(|_| once(format)) {
        let mut wire = target.open(protocol::REPLY_ACK)?;
        let body = [words(&[*count, 0]), regions.clone()].concat();
        let fds = vec![guest.mapping.file(); (regions.len() / 32).min(*count as usize)];
        wire.try_tell(request::SET_MEM_TABLE, &body, &fds).ok();
        drop(wire);
        // With rings that run on the table before.
        let mut plug = Plug::start(target, Setup::new(target, format))?;
        plug.wire.try_tell(request::SET_MEM_TABLE, &body, &fds).ok();
        plug.still_works(1).ok();
    }
    Ok(())
}

fn descriptors(target: &Target, format: Format) -> Check {
    let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(at("eventfd"))?;
    for count in [0_usize, 2, 8, 9, 32, 60].into_iter().filter(|_| once(format)) {
        let fds = vec![event.as_fd(); count];
        for (number, body) in [
            (request::GET_FEATURES, vec![]),
            (request::SET_FEATURES, longs(&[1 << 32])),
            (request::SET_OWNER, vec![]),
            (request::SET_VRING_NUM, words(&[0, 256])),
            (request::SET_VRING_KICK, longs(&[0])),
            (request::SET_VRING_CALL, longs(&[0])),
            (request::SET_MEM_TABLE, words(&[0, 0])),
            (request::SET_VRING_CALL, longs(&[0x100])),
        ] {
            let mut wire = target.open(protocol::REPLY_ACK)?;
            wire.message(number, NEED_REPLY, &body, &fds)?;
            wire.try_ask(request::GET_FEATURES, &[]).ok();
        }
    }
    Ok(())
}

fn order(target: &Target, format: Format) -> Check {
    let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(at("eventfd"))?;
    let tells: [(u32, Vec<u8>, bool); 8] = [
        (request::SET_VRING_KICK, longs(&[1]), true),
        (request::SET_VRING_ENABLE, words(&[1, 1]), false),
        (request::SET_VRING_ADDR, [words(&[1, 0]), longs(&[0x1000, 0x2000, 0x3000, 0])].concat(), false),
        (request::SET_VRING_BASE, words(&[1, 0xffff]), false),
        (request::SET_VRING_NUM, words(&[1, 256]), false),
        (request::GET_VRING_BASE, words(&[1, 0]), false),
        (request::SET_STATUS, longs(&[0xf]), false),
        (request::SET_STATUS, longs(&[0]), false),
    ];
    for first in 0..tells.len() {
        if !once(format) {
            break;
        }
        let mut wire = target.open(protocol::REPLY_ACK | protocol::STATUS)?;
        for (number, body, with) in tells.iter().cycle().skip(first).take(tells.len()) {
            let fds = [event.as_fd()];
            wire.try_tell(*number, body, if *with { &fds } else { &[] }).ok();
        }
    }
    // While a ring runs: everything about it once more, and other features.
    for (number, body, with) in &tells {
        let mut plug = Plug::start(target, Setup::new(target, format))?;
        let fds = [event.as_fd()];
        plug.wire.try_tell(*number, body, if *with { &fds } else { &[] }).ok();
        plug.wire.try_tell(request::SET_FEATURES, &longs(&[1 << 32]), &[]).ok();
        plug.still_works(1).ok();
    }
    Ok(())
}

fn config(target: &Target, format: Format) -> Check {
    for (offset, len) in [(0_u32, 0_u32), (256, 1), (255, 2), (u32::MAX, 2), (0, 257), (0, u32::MAX), (100, 156)] {
        if !once(format) {
            break;
        }
        let mut wire = target.open(protocol::CONFIG)?;
        let body = [words(&[offset, len, 0]), vec![0; (len as usize).min(300)]].concat();
        wire.try_ask(request::GET_CONFIG, &body).ok();
        wire.try_ask(request::GET_FEATURES, &[]).ok();
    }
    Ok(())
}
