//! Drivers that do harm: bugs that were found in devices. The next driver must be served.

use super::super::frames::{self, Header, NONE};
use super::super::guest::{Guest, SIZE, plus};
use super::super::outcome::Check;
use super::super::plug::{Plug, Setup};
use super::super::ring::{Format, INDIRECT, NEXT, Piece, Ring, WRITE, indirect};
use super::super::suite::Case;
use super::super::target::Target;
use crate::front::memory::BASE;
use virtio_net_core::{Features, NEEDS_CSUM, NetHeader};
use virtio_ring::GuestAddr;

pub(super) const CASES: &[Case] = &[
    Case::hostile("hostile_chains_that_loop", loops),
    Case::hostile("hostile_places_outside_of_the_ring", outside),
    Case::hostile("hostile_indices_that_jump", jumps),
    Case::hostile("hostile_buffers_outside_of_memory", addresses),
    Case::hostile("hostile_tables_of_descriptors", tables),
    Case::hostile("hostile_frames_that_are_too_short", short),
    Case::hostile("hostile_frames_that_are_too_long", long),
    Case::hostile("hostile_headers", headers),
    Case::hostile("hostile_receive_buffers", buffers),
    Case::hostile("hostile_traffic_when_it_leaves", leaves),
];

const RX: usize = 0;
const TX: usize = 1;
/// Whose a descriptor is, in a packed ring's first lap.
const AVAILABLE: u16 = 1 << 7;

/// A driver for itself: what it does, and time for the device side to come to grief. The connection is closed then: a device
/// side may serve one at a time.
fn alone(target: &Target, format: Format, harm: impl FnOnce(&mut Plug<'_>) -> Check) -> Check {
    let setup = Setup::new(target, format).with(target.of(Features::RING_INDIRECT_DESC));
    let mut plug = Plug::start(target, setup)?;
    // What comes of it is its own affair.
    harm(&mut plug).ok();
    for ring in [RX, TX] {
        plug.untouched(ring).ok();
    }
    Ok(())
}

/// Writes descriptors at the beginning of a ring, with what links them, and makes the first available. Of a chain that is
/// left unfinished nothing will ever be used.
fn raw(plug: &mut Plug<'_>, ring: usize, descriptors: &[(GuestAddr, u32, u16, u16)]) -> Check {
    let packed = plug.format() == Format::Packed;
    let Plug { queues, guest, .. } = plug;
    let Some(queue) = queues.get_mut(ring) else { return Ok(()) };
    let place = queue.ring.place();
    for (i, (addr, len, flags, next)) in descriptors.iter().enumerate().rev() {
        let at = place.descriptor(i as u16);
        guest.store64(at, addr.0.to_le());
        let word = if packed {
            u64::from(*len) | u64::from(*next) << 32 | u64::from(flags | AVAILABLE) << 48
        } else {
            u64::from(*len) | u64::from(*flags) << 32 | u64::from(*next) << 48
        };
        guest.store64(plus(at, 8), word.to_le());
    }
    if let Ring::Split(split) = &mut queue.ring {
        split.offer(guest, 0);
    }
    queue.ring.publish(guest);
    queue.kick()
}

fn loops(target: &Target, format: Format) -> Check {
    for (ring, write) in [(TX, 0), (RX, WRITE)] {
        // To itself, to each other, and, of a packed ring, round and round.
        for count in [1, 2, 256_u16] {
            alone(target, format, |plug| {
                let at = plug.buffer(64)?;
                let next = |n: u16| n.wrapping_add(1).checked_rem(count).unwrap_or(0);
                let all: Vec<_> = (0..count).map(|n| (at, 64, NEXT | write, next(n))).collect();
                raw(plug, ring, &all)?;
                reach(plug, ring)
            })?;
        }
    }
    Ok(())
}

fn outside(target: &Target, format: Format) -> Check {
    for place in [256, 257, 0x7fff, 0x8000, u16::MAX] {
        alone(target, format, |plug| {
            let at = plug.buffer(64)?;
            raw(plug, TX, &[(at, 64, NEXT, place), (at, 64, 0, place)])
        })?;
        alone(target, format, |plug| {
            let Plug { queues, guest, .. } = plug;
            if let Some(queue) = queues.get_mut(TX)
                && let Ring::Split(split) = &mut queue.ring
            {
                split.offer(guest, place);
                queue.ring.publish(guest);
                queue.kick()?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn jumps(target: &Target, format: Format) -> Check {
    for index in [257, 0x7fff, 0x8000, 0xfffe, u16::MAX] {
        for ring in [RX, TX] {
            alone(target, format, |plug| {
                plug.still_works(1)?;
                let place = plug.queue(ring)?.ring.place();
                // A packed ring has no index: its event structure gets nonsense instead.
                let (index_at, flags_at) = if format == Format::Split { (2, 0) } else { (0, 2) };
                plug.guest.store16(plus(place.driver, index_at), index);
                plug.guest.store16(plus(place.driver, flags_at), 3);
                plug.queue(ring)?.kick()?;
                reach(plug, ring)
            })?;
        }
    }
    Ok(())
}

fn addresses(target: &Target, format: Format) -> Check {
    let end = BASE.0.saturating_add(SIZE);
    let places = [
        (0, 64),
        (BASE.0.wrapping_sub(1), 64),
        (BASE.0.wrapping_sub(60), 61),
        (end.wrapping_sub(10), 64),
        (end.wrapping_sub(64), 65),
        (end, 64),
        (u64::MAX, 64),
        (u64::MAX.wrapping_sub(63), 64),
        (BASE.0, u32::MAX),
        (BASE.0, 0x8000_0000),
        (1 << 63, 64),
        (0, 0),
    ];
    for (ring, write) in [(TX, 0), (RX, WRITE)] {
        for (addr, len) in places {
            alone(target, format, |plug| {
                raw(plug, ring, &[(GuestAddr(addr), len, write, 0)])?;
                reach(plug, ring)
            })?;
            // Behind a good one, where a header has been found already.
            alone(target, format, |plug| {
                let at = plug.buffer(64)?;
                raw(plug, ring, &[(at, 64, NEXT | write, 1), (GuestAddr(addr), len, write, 1)])?;
                reach(plug, ring)
            })?;
        }
    }
    Ok(())
}

/// Lets something come to the rx ring, so that its buffers are looked at.
fn reach(plug: &mut Plug<'_>, ring: usize) -> Check {
    if ring == RX {
        let mac = plug.target.mac;
        plug.send(&NONE, &frames::plain_of(mac, mac, 1, 1000)).ok();
    }
    Ok(())
}

fn tables(target: &Target, format: Format) -> Check {
    target.needs(Features::RING_INDIRECT_DESC)?;
    for len in [0, 1, 8, 15, 17, 24, 0xffff_fff0, u32::MAX] {
        alone(target, format, |plug| {
            let at = plug.buffer(64)?;
            raw(plug, TX, &[(at, len, INDIRECT, 0)])
        })?;
    }
    let far = [GuestAddr(0), plus(BASE, SIZE), GuestAddr(u64::MAX), plus(BASE, SIZE.wrapping_sub(16))];
    for at in far {
        alone(target, format, |plug| raw(plug, TX, &[(at, 32, INDIRECT, 0)]))?;
    }
    // A table in a table, one that leads to itself, and one with another descriptor behind it.
    for (flags, outer) in [(INDIRECT, INDIRECT), (NEXT, INDIRECT), (0, INDIRECT | NEXT)] {
        alone(target, format, |plug| {
            let at = plug.buffer(64)?;
            let table = indirect(&mut plug.guest, format, &[Piece { addr: at, len: 64, flags }])?;
            let word = u64::from(64_u32) | u64::from(flags) << if format == Format::Split { 32 } else { 48 };
            plug.guest.store64(plus(table.addr, 8), word.to_le());
            raw(plug, TX, &[(table.addr, 16, outer, 1), (at, 64, 0, 0)])
        })?;
    }
    Ok(())
}

fn short(target: &Target, format: Format) -> Check {
    for len in 0..=27_u32 {
        for pieces in [vec![len], vec![len / 2, len.div_ceil(2)]] {
            alone(target, format, |plug| {
                let at = plug.buffer(64)?;
                plug.guest.write(at, &[0; 64]);
                let chain: Vec<Piece> = pieces.iter().map(|len| Piece::readable(at, *len)).collect();
                plug.post(TX, &chain).map(|_| ())
            })?;
        }
    }
    // Good ones among bad ones: a device side that works on a burst at once sees both.
    for bad in 0..5_u64 {
        alone(target, format, |plug| {
            for n in 0..5_u64 {
                let bytes = [NONE.bytes(plug.header_len()), frames::plain(target.mac, target.mac, n)].concat();
                let pieces = if n == bad { vec![Piece::readable(GuestAddr(0), 0)] } else { plug.cut(&bytes, &[])? };
                let Plug { queues, guest, .. } = &mut *plug;
                if let Some(queue) = queues.get_mut(TX) {
                    queue.ring.post(guest, &pieces)?;
                }
            }
            let Plug { queues, guest, .. } = plug;
            if let Some(queue) = queues.get_mut(TX) {
                queue.ring.publish(guest);
                queue.kick()?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn long(target: &Target, format: Format) -> Check {
    for len in [65_590_u32, 100_000, 1 << 20, SIZE as u32] {
        // Whatever is in memory from its beginning on.
        alone(target, format, |plug| raw(plug, TX, &[(BASE, len, 0, 0)]))?;
    }
    // More than 32 bits in all, almost.
    let most = SIZE as u32;
    let all: Vec<_> = (0..255_u16).map(|n| (BASE, most, if n == 254 { 0 } else { NEXT }, n.wrapping_add(1))).collect();
    alone(target, format, |plug| raw(plug, TX, &all))?;
    // To a driver with one small buffer.
    alone(target, format, |plug| {
        plug.give(&[80])?;
        plug.send(&NONE, &frames::plain_of(target.mac, target.mac, 1, 60_000)).map(|_| ())
    })
}

const STARTS: [(u16, u16); 10] = [
    (0, 0),
    (0, 0xffff),
    (59, 0),
    (60, 0),
    (58, 1),
    (34, 0xffff),
    (0xffff, 0xffff),
    (0x8000, 0x8000),
    (0xfffe, 2),
    (14, 0),
];

fn headers(target: &Target, format: Format) -> Check {
    let offloads = target.of(Features::HOST_OFFLOADS | Features::GUEST_OFFLOADS);
    for features in [Features::empty(), offloads] {
        for (csum_start, csum_offset) in STARTS {
            for gso_type in [0, 1, 3, 4, 5, 0x81, 0x21, 0x61, 0x7f, 0xff] {
                let mut plug = Plug::start(target, Setup::new(target, format).with(features))?;
                for gso_size in [0, 1, 7, 65_535] {
                    let net = NetHeader { flags: NEEDS_CSUM, gso_type, hdr_len: 0, gso_size, csum_start, csum_offset };
                    let kind = frames::Kind { v6: gso_type == 4, tcp: gso_type != 5 };
                    let frame = kind.packet(target.mac, 200, frames::Sum::Partial);
                    plug.give(&[4096]).ok();
                    if plug.send(&Header { net, num_buffers: 0 }, &frame).is_err() {
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Makes a chain.
type Shape = fn(&mut Guest) -> Check<Vec<Piece>>;

fn buffers(target: &Target, format: Format) -> Check {
    let shapes: [Shape; 6] = [
        // Nothing to write to; no room; less than a header; many without room; readable behind writable; a header in three
        // pieces, the second of them the last byte of memory.
        |guest| Ok(vec![Piece::readable(guest.take(64, 64)?, 64)]),
        |guest| Ok(vec![Piece::writable(guest.take(64, 64)?, 0)]),
        |guest| Ok(vec![Piece::writable(guest.take(64, 64)?, 5)]),
        |guest| Ok(vec![Piece::writable(guest.take(64, 64)?, 0); 200]),
        |guest| Ok(vec![Piece::writable(guest.take(64, 64)?, 64), Piece::readable(guest.take(64, 64)?, 64)]),
        |guest| {
            let last = plus(BASE, SIZE.wrapping_sub(1));
            let [first, rest] = [guest.take(64, 64)?, guest.take(2048, 64)?];
            Ok(vec![Piece::writable(first, 1), Piece::writable(last, 1), Piece::writable(rest, 2048)])
        },
    ];
    for shape in shapes {
        alone(target, format, |plug| {
            let pieces = shape(&mut plug.guest)?;
            plug.post(RX, &pieces)?;
            reach(plug, RX)
        })?;
    }
    Ok(())
}

/// Gone in the middle of it, with much under way, again and again.
fn leaves(target: &Target, format: Format) -> Check {
    for _ in 0..8 {
        let mut plug = Plug::start(target, Setup::new(target, format))?;
        for number in 0..100_u64 {
            plug.give(&[2048])?;
            let frame = frames::plain_of(target.mac, target.mac, number, 1500);
            let bytes = [NONE.bytes(plug.header_len()), frame].concat();
            let pieces = plug.cut(&bytes, &[])?;
            plug.post(TX, &pieces)?;
        }
    }
    Ok(())
}
