//! Who is told of what: calls, their suppression, kicks that nobody needed.

use super::super::frames::{self, NONE};
use super::super::guest::plus;
use super::super::outcome::{Check, need, want};
use super::super::plug::{Plug, Setup};
use super::super::ring::{Calls, Format, Ring};
use super::super::suite::Case;
use super::super::target::Target;
use virtio_net_core::Features;

pub(super) const CASES: &[Case] = &[
    Case::rings("s7_without_event_idx_used_event_is_ignored", used_event_ignored),
    Case::rings("s8_p10_no_call_if_none_is_wanted", no_call),
    Case::rings("s9_p10_a_call_if_it_is_wanted", call),
    Case::rings("s10_with_event_idx_the_flag_is_ignored", flag_ignored),
    Case::rings("s11_p10_a_call_when_the_event_is_passed", event_passed),
    Case::rings("s12_p10_no_call_before_the_event", event_not_passed),
    Case::rings("s15_used_flags_are_0_or_1", used_flags),
    Case::rings("s16_with_event_idx_used_flags_are_0", used_flags_zero),
    Case::rings("s17_kicks_for_nothing_do_no_harm", spurious_kicks),
];

const TX: usize = 1;

fn plugged(target: &Target, format: Format, features: Features) -> Check<Plug<'_>> {
    Plug::start(target, Setup::new(target, format).with(features))
}

/// Sends as many frames at once, and waits until all are used.
fn burst(plug: &mut Plug<'_>, count: u64) -> Check {
    let mac = plug.target.mac;
    for number in 0..count {
        let bytes = [NONE.bytes(plug.header_len()), frames::plain(mac, mac, number)].concat();
        let pieces = plug.cut(&bytes, &[])?;
        let Plug { queues, guest, .. } = plug;
        if let Some(queue) = queues.get_mut(TX) {
            queue.ring.post(guest, &pieces)?;
        }
    }
    let Plug { queues, guest, .. } = plug;
    if let Some(queue) = queues.get_mut(TX) {
        queue.ring.publish(guest);
        queue.kick()?;
    }
    for _ in 0..count {
        plug.used(TX)?;
    }
    Ok(())
}

/// What a split ring's driver writes to `used_event`.
fn split_event(plug: &Plug<'_>, ahead: u16) -> Check {
    let Some(Ring::Split(split)) = plug.queues.get(TX).map(|queue| &queue.ring) else {
        need!(false, "a packed ring has no used_event");
        return Ok(());
    };
    split.used_event(&plug.guest, split.seen().wrapping_add(ahead));
    plug.guest.fence();
    Ok(())
}

fn used_event_ignored(target: &Target, format: Format) -> Check {
    let mut plug = plugged(target, format, Features::empty())?;
    for ahead in (0..64_u16).map(|n| n.wrapping_mul(1021)).chain([u16::MAX, 1, 0x7fff, 0x8000]) {
        plug.calls(TX, Calls::Always);
        split_event(&plug, ahead)?;
        burst(&mut plug, 1)?;
        want!(plug.called(TX)?, "no call with used_event {ahead} ahead of the used index");
    }
    Ok(())
}

fn no_call(target: &Target, format: Format) -> Check {
    let mut plug = plugged(target, format, Features::empty())?;
    plug.calls(TX, Calls::Never);
    for count in [1, 8, 40] {
        burst(&mut plug, count)?;
    }
    want!(plug.silent(TX)?, "a call came that was not wanted");
    Ok(())
}

fn call(target: &Target, format: Format) -> Check {
    let mut plug = plugged(target, format, Features::empty())?;
    for count in [1, 1, 8, 40, 1] {
        plug.calls(TX, Calls::Always);
        burst(&mut plug, count)?;
        want!(plug.called(TX)?, "no call for {count} used buffers");
    }
    drop(plug);
    if target.needs_returns().is_ok() {
        // Without the frames that found no buffer.
        let mut plug = plugged(target, format, Features::empty())?;
        plug.calls(0, Calls::Always);
        plug.still_works(1)?;
        want!(plug.called(0)?, "no call for a frame that came");
    }
    Ok(())
}

fn flag_ignored(target: &Target, format: Format) -> Check {
    let mut plug = plugged(target, format, Features::RING_EVENT_IDX)?;
    for count in [1, 8, 1] {
        plug.calls(TX, Calls::Never);
        split_event(&plug, 0)?;
        burst(&mut plug, count)?;
        want!(plug.called(TX)?, "no call with flag 1, which EVENT_IDX makes meaningless");
    }
    Ok(())
}

fn event_passed(target: &Target, format: Format) -> Check {
    let mut plug = plugged(target, format, Features::RING_EVENT_IDX)?;
    // Many times round the ring.
    for round in 0..60_u16 {
        let count = round.wrapping_rem(9).wrapping_add(1);
        let ahead = round.wrapping_mul(7).checked_rem(count).unwrap_or(0);
        plug.calls(TX, Calls::Behind(ahead));
        burst(&mut plug, count.into())?;
        want!(plug.called(TX)?, "no call for {count} used buffers, wanted when {ahead} are used and one more");
    }
    Ok(())
}

fn event_not_passed(target: &Target, format: Format) -> Check {
    let mut plug = plugged(target, format, Features::RING_EVENT_IDX)?;
    // A device side may call once because it does not know yet when it did last.
    burst(&mut plug, 1)?;
    for (count, ahead) in [(1, 1), (1, 100), (8, 8), (8, 200), (40, 40)] {
        plug.calls(TX, Calls::Behind(ahead));
        burst(&mut plug, count)?;
        want!(plug.silent(TX)?, "a call for {count} used buffers, wanted when {ahead} are used and one more");
    }
    Ok(())
}

/// Watches the flags of both rings while frames pass.
fn flags(target: &Target, format: Format, features: Features, allowed: &[u16]) -> Check {
    need!(format == Format::Split, "a packed ring has an event suppression structure instead");
    let mut plug = plugged(target, format, features)?;
    for round in 0..200_u64 {
        burst(&mut plug, round.wrapping_rem(5).wrapping_add(1))?;
        for queue in &plug.queues {
            let Ring::Split(split) = &queue.ring else { continue };
            let flags = split.device_flags(&plug.guest);
            want!(allowed.contains(&flags), "used.flags of ring {} are {flags:#x}", queue.index);
        }
    }
    Ok(())
}

fn used_flags(target: &Target, format: Format) -> Check {
    flags(target, format, Features::empty(), &[0, 1])
}

fn used_flags_zero(target: &Target, format: Format) -> Check {
    flags(target, format, Features::RING_EVENT_IDX, &[0])
}

fn spurious_kicks(target: &Target, format: Format) -> Check {
    let mut plug = Plug::prepare(target, Setup::new(target, format))?;
    let storm = |plug: &Plug<'_>| -> Check {
        for _ in 0..200 {
            plug.queues.iter().try_for_each(|queue| queue.kick())?;
        }
        Ok(())
    };
    storm(&plug)?;
    plug.enable(true)?;
    plug.driver_ok()?;
    storm(&plug)?;
    plug.still_works(1)?;
    storm(&plug)?;
    for ring in [0, TX] {
        want!(plug.look(ring)?.is_none(), "ring {ring}: a buffer is used that was not made available");
    }
    // Out of turn, with an index that says nothing new.
    let place = plug.queue(TX)?.ring.place();
    let before = plug.guest.load16(plus(place.device, 2));
    storm(&plug)?;
    plug.still_works(2)?;
    if format == Format::Split {
        let after = plug.guest.load16(plus(place.device, 2));
        want!(after == before.wrapping_add(1), "one frame was sent and the used index moved from {before} to {after}");
    }
    Ok(())
}
