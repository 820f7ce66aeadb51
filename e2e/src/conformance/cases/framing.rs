//! Chains of any shape: message framing, indirect tables, what is written where.

use super::super::frames::{self, NONE};
use super::super::outcome::{Check, want};
use super::super::plug::{Plug, Setup};
use super::super::ring::{Format, INDIRECT, Piece, Ring, WRITE, indirect};
use super::super::suite::Case;
use super::super::target::{Returns, Target};
use virtio_net_core::Features;

pub(super) const CASES: &[Case] = &[
    Case::rings("s1_p6_sent_frames_may_be_cut_anywhere", cut_anywhere),
    Case::rings("s1_p6_sent_frames_may_be_single_bytes", single_bytes),
    Case::rings("s1_receive_buffers_may_be_cut_anywhere", cut_room),
    Case::rings("s1_receive_headers_may_be_in_many_pieces", header_in_pieces),
    Case::rings("s1_receive_buffers_may_be_single_bytes", single_bytes_of_room),
    Case::rings("s2_p3_readable_buffers_are_never_written", readable),
    Case::rings("s4_p5_descriptors_are_never_written_but_to_use_them", descriptors),
    Case::rings("s5_write_on_a_descriptor_of_a_table_is_ignored", write_on_table),
    Case::rings("s6_p8_tables_may_follow_descriptors", tables),
    Case::rings("s13_s14_lengths_are_what_was_written", lengths),
    Case::rings("p7_ids_and_sizes_may_be_any", any_size),
    Case::rings("g12_with_in_order_buffers_are_used_in_order", in_order),
];

const TX: usize = 1;

/// Sends it cut like this and, if frames come back, compares it.
fn exchange(plug: &mut Plug<'_>, number: u64, lengths: &[usize]) -> Check {
    let mac = plug.target.mac;
    let frame = frames::plain(mac, mac, number);
    if plug.target.returns != Returns::Never {
        plug.give(&[2048])?;
    }
    plug.send_cut(&NONE, &frame, lengths)?;
    if plug.target.returns == Returns::Never { Ok(()) } else { plug.comes_back(&frame).map(|_| ()) }
}

fn cut_anywhere(target: &Target, format: Format) -> Check {
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for at in 1..=plug.header_len().saturating_add(20) {
        exchange(&mut plug, at as u64, &[at])?;
        exchange(&mut plug, at as u64, &[at, 1])?;
    }
    Ok(())
}

fn single_bytes(target: &Target, format: Format) -> Check {
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for count in [2, 11, 12, 13, 40, 71] {
        exchange(&mut plug, count as u64, &vec![1; count])?;
    }
    Ok(())
}

/// One buffer of these pieces, and a frame into it.
fn into(plug: &mut Plug<'_>, number: u64, lengths: &[usize]) -> Check {
    let mac = plug.target.mac;
    let frame = frames::plain(mac, mac, number);
    plug.give(lengths)?;
    plug.send(&NONE, &frame)?;
    plug.comes_back(&frame).map(|_| ())
}

fn cut_room(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for at in 1..=plug.header_len().saturating_add(20) {
        into(&mut plug, at as u64, &[at, 2048])?;
    }
    Ok(())
}

fn header_in_pieces(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for at in 1..=10 {
        into(&mut plug, at as u64, &[at, 1, 2048])?;
    }
    into(&mut plug, 11, &[1, 1, 1, 1, 1, 2048])
}

fn single_bytes_of_room(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for count in [2, 11, 12, 13, 40, 71, 100] {
        let lengths: Vec<usize> = std::iter::repeat_n(1, count).chain([1600]).collect();
        into(&mut plug, count as u64, &lengths)?;
    }
    Ok(())
}

fn readable(target: &Target, format: Format) -> Check {
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for number in 0..64 {
        let frame = frames::plain_of(target.mac, target.mac, number, frames::length(number, 20));
        let bytes = [&NONE.bytes(plug.header_len()), &frame[..]].concat();
        let pieces = plug.cut(&bytes, &[7, 20])?;
        if target.returns != Returns::Never {
            plug.give(&[2048])?;
        }
        plug.send_pieces(&pieces)?;
        if target.returns != Returns::Never {
            plug.comes_back(&frame)?;
        }
        let after: Vec<u8> = pieces.iter().flat_map(|p| plug.guest.read(p.addr, p.len as usize)).collect();
        want!(after == bytes, "a frame of {} bytes was changed in the driver's memory", frame.len());
    }
    Ok(())
}

/// Of a packed ring, the first descriptor of a chain is overwritten to mark it used, and nothing else.
fn descriptors(target: &Target, format: Format) -> Check {
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    let ring = |plug: &mut Plug<'_>| -> Check<Vec<u8>> {
        let place = plug.queue(TX)?.ring.place();
        Ok(place.table(&plug.guest))
    };
    let mut known: Vec<u8> = Vec::new();
    for number in 0..40_u16 {
        let frame = frames::plain(target.mac, target.mac, number.into());
        let bytes = [&NONE.bytes(plug.header_len()), &frame[..]].concat();
        let pieces = plug.cut(&bytes, &[12, 9])?;
        plug.post(TX, &pieces)?;
        let before = ring(&mut plug)?;
        plug.used(TX)?;
        let after = ring(&mut plug)?;
        if format == Format::Split {
            want!(before == after, "the descriptor table was written");
            continue;
        }
        // Chains of three, one behind the other; what lies before this one was used earlier.
        let first = usize::from(number.wrapping_mul(3)).wrapping_mul(16);
        let (old, rest) = after.split_at(first.min(after.len()));
        want!(old == known, "descriptors that were used before were changed");
        let second = first.saturating_add(16);
        want!(before.get(second..) == after.get(second..), "a descriptor behind the first of a chain was written");
        known = [old, rest.get(..48).unwrap_or_default()].concat();
    }
    Ok(())
}

/// A chain that is a table, whose own descriptor has these flags as well.
fn table_of(plug: &mut Plug<'_>, pieces: &[Piece], flags: u16) -> Check<Piece> {
    let format = plug.format();
    let table = indirect(&mut plug.guest, format, pieces)?;
    Ok(Piece { flags: INDIRECT | flags, ..table })
}

/// A frame there and back, its chain and that of its buffer made by these.
fn exchange_by(plug: &mut Plug<'_>, number: u64, direct: usize, flags: u16) -> Check {
    let mac = plug.target.mac;
    let frame = frames::plain(mac, mac, number);
    let returns = plug.target.returns != Returns::Never;
    let chain = |plug: &mut Plug<'_>, mut pieces: Vec<Piece>| -> Check<Vec<Piece>> {
        let rest = pieces.split_off(direct.min(pieces.len()));
        pieces.push(table_of(plug, &rest, flags)?);
        Ok(pieces)
    };
    if returns {
        let buffers = plug.room(&[5, 7, 14, 2048])?;
        let pieces = chain(plug, buffers.clone())?;
        plug.give_pieces(0, &pieces, &buffers)?;
    }
    let bytes = [&NONE.bytes(plug.header_len()), &frame[..]].concat();
    let pieces = plug.cut(&bytes, &[5, 7, 14])?;
    let pieces = chain(plug, pieces)?;
    plug.send_pieces(&pieces)?;
    if returns { plug.comes_back(&frame).map(|_| ()) } else { Ok(()) }
}

fn write_on_table(target: &Target, format: Format) -> Check {
    let setup = Setup::new(target, format).with(Features::RING_INDIRECT_DESC);
    let mut plug = Plug::start(target, setup)?;
    for (number, flags) in [0, WRITE, 0, WRITE].into_iter().enumerate() {
        exchange_by(&mut plug, number as u64, 0, flags)?;
    }
    Ok(())
}

fn tables(target: &Target, format: Format) -> Check {
    let setup = Setup::new(target, format).with(Features::RING_INDIRECT_DESC);
    let mut plug = Plug::start(target, setup)?;
    // A packed ring's table is a chain of its own (2.8.19).
    let most = if format == Format::Split { 3 } else { 0 };
    for direct in 0..=most {
        exchange_by(&mut plug, direct as u64, direct, 0)?;
    }
    Ok(())
}

fn lengths(target: &Target, format: Format) -> Check {
    let mut plug = Plug::prepare(target, Setup::new(target, format))?;
    for ring in [0, TX] {
        if let Some(Ring::Split(split)) = plug.queues.get(ring).map(|queue| &queue.ring) {
            split.blank(&plug.guest);
        }
    }
    plug.enable(true)?;
    plug.driver_ok()?;
    for number in 0..100_u64 {
        let len = frames::length(number, 14);
        let frame = frames::plain_of(target.mac, target.mac, number, len);
        if target.returns != Returns::Never {
            plug.give(&[(number as usize % 12).saturating_add(1), 2048])?;
        }
        let written = plug.send(&NONE, &frame)?;
        want!(written == 0, "{written} bytes are reported as written to a buffer that is only readable");
        if target.returns != Returns::Never {
            let packet = plug.comes_back(&frame)?;
            let reported: u32 = packet.buffers.iter().map(|(used, _)| used).sum();
            let expected = len.saturating_add(plug.header_len());
            want!(reported as usize == expected, "{reported} bytes are reported of {expected} that were written");
        }
    }
    Ok(())
}

fn any_size(target: &Target, format: Format) -> Check {
    let sizes: &[u16] = if format == Format::Split { &[2, 4, 8, 32768] } else { &[3, 7, 255, 1000, 8] };
    for size in sizes {
        // A frame of one descriptor and a buffer of one: more do not fit in the smallest.
        let mut plug = Plug::start(target, Setup { size: *size, ..Setup::new(target, format) })?;
        for number in 0..40 {
            exchange(&mut plug, number, if number % 2 == 0 { &[] } else { &[12] })?;
        }
    }
    Ok(())
}

fn in_order(target: &Target, format: Format) -> Check {
    let mut plug = Plug::prepare(target, Setup::new(target, format).with(Features::IN_ORDER))?;
    if let Some(Ring::Split(split)) = plug.queues.get(TX).map(|queue| &queue.ring) {
        split.blank(&plug.guest);
    }
    plug.enable(true)?;
    plug.driver_ok()?;
    for round in 0..40_u64 {
        let mut sent = Vec::new();
        for number in 0..round.wrapping_rem(17).wrapping_add(1) {
            let frame = frames::plain_of(target.mac, target.mac, number, frames::length(number, 50));
            let bytes = [&NONE.bytes(plug.header_len()), &frame[..]].concat();
            let pieces = plug.cut(&bytes, &[12])?;
            let guest = &plug.guest;
            if let Some(queue) = plug.queues.get_mut(TX) {
                sent.push(queue.ring.post(guest, &pieces)?);
            }
        }
        let Plug { queues, guest, .. } = &mut plug;
        if let Some(queue) = queues.get_mut(TX) {
            queue.ring.publish(guest);
            queue.kick()?;
        }
        let mut used = Vec::new();
        let limit = target.patience;
        plug.until(limit, |plug| {
            if let Some(queue) = plug.queues.get_mut(TX) {
                used.extend(queue.ring.used_in_order(&plug.guest)?);
            }
            Ok(used.len() >= sent.len())
        })?;
        want!(used == sent, "buffers {sent:?} were made available, {used:?} were used");
    }
    Ok(())
}
