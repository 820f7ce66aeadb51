//! When a ring is touched, and where it begins: status, reset, stopping, ownership in packed rings, order.

use super::super::frames::{self, NONE};
use super::super::guest::plus;
use super::super::outcome::{Check, need, want};
use super::super::plug::{Plug, Queue, Setup, status};
use super::super::ring::{Calls, Format, NEXT, Ring};
use super::super::suite::Case;
use super::super::target::{PROTOCOL_BIT, Target};
use super::super::wire::{protocol, request};

pub(super) const CASES: &[Case] = &[
    Case::rings("g1_nothing_is_used_before_the_ring_begins", before_begin),
    // A front end is to let rings begin only then; who is told of the status can hold to it as well.
    Case::rings("g1_nothing_is_used_before_driver_ok", before_driver_ok).should(),
    Case::rings("g1_nothing_is_received_before_the_ring_is_enabled", before_enabled),
    Case::rings("g2_a_broken_ring_needs_a_reset", needs_reset).should(),
    Case::rings("g7_a_reset_ends_everything", reset),
    // A front end is to stop the rings first.
    Case::rings("g7_a_status_of_0_ends_everything", status_0).should(),
    Case::rings("g9_nothing_is_used_in_a_stopped_ring", stopped),
    Case::rings("g10_a_ring_may_come_back_with_another_shape", another_shape),
    Case::rings("p1_p2_frames_are_taken_in_order", order),
    Case::rings("p4_only_available_descriptors_are_used", ownership),
];

const TX: usize = 1;

/// Makes a frame available in the tx ring and a buffer in the rx ring, and says so.
fn offer(plug: &mut Plug<'_>, number: u64) -> Check {
    let mac = plug.target.mac;
    plug.give(&[2048])?;
    let bytes = [NONE.bytes(plug.header_len()), frames::plain(mac, mac, number)].concat();
    let pieces = plug.cut(&bytes, &[])?;
    plug.post(TX, &pieces).map(|_| ())
}

/// All is there, and the driver has kicked, but for the descriptor to kick at.
fn before_begin(target: &Target, format: Format) -> Check {
    let mut plug = Plug::ready(target, Setup::new(target, format))?;
    offer(&mut plug, 1)?;
    for ring in [0, TX] {
        want!(plug.untouched(ring)?, "a buffer of ring {ring} is used before that begins");
    }
    plug.begin()?;
    plug.enable(true)?;
    plug.driver_ok()?;
    plug.queues.iter().try_for_each(Queue::kick)?;
    plug.used(TX).map(|_| ())
}

/// More than the ring has room for is made available; of a packed ring, a chain without an end.
fn needs_reset(target: &Target, format: Format) -> Check {
    need!(target.has(protocol::STATUS), "the status does not reach the device side");
    let mut plug = Plug::start(target, Setup { size: 16, ..Setup::new(target, format) })?;
    let place = plug.queue(TX)?.ring.place();
    if format == Format::Split {
        plug.guest.store16(plus(place.driver, 2), 0x4000_u16.to_le());
    } else {
        for slot in (0..16).rev() {
            let word = u64::from(1_u16 << 7 | NEXT) << 48 | 64;
            plug.guest.store64(plus(place.descriptor(slot), 8), word.to_le());
        }
    }
    plug.queue(TX)?.kick()?;
    let limit = target.patience;
    let broken = plug.until(limit, |plug| Ok(plug.status()? & status::NEEDS_RESET != 0))?;
    want!(broken, "DEVICE_NEEDS_RESET is not set for a ring that is broken");
    Ok(())
}

fn before_driver_ok(target: &Target, format: Format) -> Check {
    need!(target.has(protocol::STATUS), "the status does not reach the device side");
    let mut plug = Plug::prepare(target, Setup::new(target, format))?;
    plug.enable(true)?;
    for ring in [0, TX] {
        plug.calls(ring, Calls::Always);
    }
    offer(&mut plug, 1)?;
    for ring in [0, TX] {
        want!(plug.untouched(ring)?, "a buffer of ring {ring} is used before DRIVER_OK");
        want!(plug.silent(ring)?, "ring {ring} is called before DRIVER_OK");
    }
    plug.driver_ok()?;
    plug.queues.iter().try_for_each(Queue::kick)?;
    plug.used(TX).map(|_| ())
}

fn before_enabled(target: &Target, format: Format) -> Check {
    need!(target.offered & PROTOCOL_BIT != 0, "rings begin enabled");
    target.needs_returns()?;
    let mut plug = Plug::prepare(target, Setup::new(target, format))?;
    plug.driver_ok()?;
    offer(&mut plug, 1)?;
    want!(plug.untouched(0)?, "a buffer of the rx ring is used before that is enabled");
    Ok(())
}

/// Nothing of either ring is used after a reset.
fn rests(plug: &mut Plug<'_>) -> Check {
    offer(plug, 2)?;
    for ring in [0, TX] {
        want!(plug.untouched(ring)?, "a buffer of ring {ring} is used after a reset");
    }
    Ok(())
}

fn reset(target: &Target, format: Format) -> Check {
    need!(target.has(protocol::RESET), "there is no request for a reset");
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    plug.still_works(1)?;
    plug.wire.tell(request::RESET_DEVICE, &[], &[])?;
    rests(&mut plug)
}

fn status_0(target: &Target, format: Format) -> Check {
    need!(target.has(protocol::STATUS), "the status does not reach the device side");
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    plug.still_works(1)?;
    plug.set_status(0)?;
    let now = plug.status()?;
    want!(now == 0, "the status after a reset is {now:#x}");
    rests(&mut plug)
}

fn stopped(target: &Target, format: Format) -> Check {
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    plug.still_works(1)?;
    let expected = plug.queue(TX)?.ring.base();
    let base = plug.stop(TX)?;
    // Older back ends say of a packed ring only where it is available.
    let right = base == expected || format == Format::Packed && base == expected & 0xffff;
    want!(right, "a stopped ring is said to stand at {base:#x}, expected {expected:#x}");
    offer(&mut plug, 2)?;
    want!(plug.untouched(TX)?, "a buffer of a stopped ring is used");
    // From where it stood on.
    plug.set_up(TX, Some(base))?;
    plug.enable_ring(TX, true)?;
    plug.queue(TX)?.kick()?;
    plug.used(TX).map(|_| ())
}

fn another_shape(target: &Target, format: Format) -> Check {
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    plug.still_works(1)?;
    for size in [64, 128, 16] {
        // All at once: a single one comes back alone only with RING_RESET.
        for ring in [0, TX] {
            plug.stop(ring)?;
            plug.renew(ring, size)?;
        }
        for ring in [0, TX] {
            plug.set_up(ring, None)?;
            plug.enable_ring(ring, true)?;
        }
        for number in 0..40 {
            plug.still_works(number)?;
        }
    }
    Ok(())
}

fn order(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for round in 0..4_u64 {
        let numbers = || (0..32_u64).map(|n| n.wrapping_add(round.wrapping_mul(32)));
        for _ in numbers() {
            plug.give(&[2048])?;
        }
        let mut sent = Vec::new();
        for number in numbers() {
            let frame = frames::plain(target.mac, target.mac, number);
            let bytes = [NONE.bytes(plug.header_len()), frame.clone()].concat();
            let pieces = plug.cut(&bytes, &[12])?;
            plug.post(TX, &pieces)?;
            sent.push(frame);
        }
        for frame in &sent {
            plug.comes_back(frame)?;
        }
        for _ in &sent {
            plug.used(TX)?;
        }
    }
    Ok(())
}

/// Every place of two laps: the flags that do not make a descriptor available, then those that do.
fn ownership(target: &Target, format: Format) -> Check {
    need!(format == Format::Packed, "a split ring has an index for that");
    const BOTH: u16 = 1 << 7 | 1 << 15;
    let mut plug = Plug::start(target, Setup { size: 8, ..Setup::new(target, format) })?;
    for number in 0..16_u64 {
        let frame = frames::plain(target.mac, target.mac, number);
        let bytes = [NONE.bytes(plug.header_len()), frame].concat();
        let pieces = plug.cut(&bytes, &[])?;
        let (at, owner) = {
            let Some(Ring::Packed(ring)) = plug.queues.get(TX).map(|queue| &queue.ring) else { return Ok(()) };
            (ring.place.descriptor(ring.slot()), ring.owner())
        };
        let piece = *pieces.first().unwrap_or(&super::super::ring::Piece::readable(at, 0));
        for wrong in [0, BOTH, owner ^ BOTH] {
            plug.guest.store64(at, piece.addr.0.to_le());
            let word = u64::from(piece.len) | u64::from(wrong) << 48;
            plug.guest.store64(plus(at, 8), word.to_le());
            plug.queue(TX)?.kick()?;
            let limit = target.quiet;
            let changed = plug.until(limit, |plug| Ok(u64::from_le(plug.guest.load64(plus(at, 8))) != word))?;
            want!(!changed, "a descriptor with flags {wrong:#06x} is used where {owner:#06x} is available");
        }
        plug.send_pieces(&pieces)?;
    }
    Ok(())
}
