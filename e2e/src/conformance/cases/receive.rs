//! Receive buffers: how many, how full, when they are seen.

use super::super::frames::{self, NONE};
use super::super::outcome::{Check, need, want};
use super::super::plug::{Packet, Plug, Setup};
use super::super::ring::Format;
use super::super::suite::Case;
use super::super::target::Target;
use virtio_net_core::Features;

pub(super) const CASES: &[Case] = &[
    Case::rings("n22_n25_num_buffers_counts_and_all_but_the_last_are_full", many_buffers),
    Case::rings("n23_one_buffer_without_mergeable_ones", one_buffer),
    Case::rings("n23_a_frame_too_long_for_its_buffer_is_dropped", too_long).should(),
    Case::rings("n24_the_header_may_be_a_buffer_of_its_own", header_alone),
    Case::rings("n26_p9_buffers_of_a_frame_are_seen_together", together),
];

/// Sends a frame of this length into buffers of these, and looks at what it came in.
fn into(plug: &mut Plug<'_>, number: u64, len: usize, buffers: &[usize]) -> Check<Packet> {
    let mac = plug.target.mac;
    let frame = frames::plain_of(mac, mac, number, len);
    for room in buffers {
        plug.give(&[*room])?;
    }
    plug.send(&NONE, &frame)?;
    plug.comes_back(&frame)
}

/// All but the last are full, and there are as many as the header says: that was looked at when they came.
fn filled(packet: &Packet) -> Check {
    let count = packet.parsed().num_buffers;
    want!(usize::from(count) == packet.buffers.len(), "num_buffers is {count}, {} are used", packet.buffers.len());
    let (_, rest) = packet.buffers.split_last().unwrap_or((&(0, 0), &[]));
    let full = rest.iter().all(|(used, room)| used == room);
    want!(full, "buffers of a frame (bytes used, room): {:?}", packet.buffers);
    Ok(())
}

fn many_buffers(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format).with(Features::MRG_RXBUF))?;
    for (number, room) in [2048, 1514, 700, 333, 128, 60, 40].into_iter().enumerate() {
        for len in [60, 300, 1000, 1514] {
            let whole: usize = len;
            // What is left of the last frame is room for the next one as well.
            let count = whole.saturating_add(12).div_ceil(room).saturating_add(1);
            let packet = into(&mut plug, number as u64, len, &vec![room; count])?;
            filled(&packet)?;
            let least = whole.saturating_add(12).div_ceil(room);
            want!(packet.buffers.len() == least, "{} buffers of {room} for {len} bytes", packet.buffers.len());
        }
        // Buffers left over have the size of this row.
        drop(plug);
        plug = Plug::start(target, Setup::new(target, format).with(Features::MRG_RXBUF))?;
    }
    for len in [60, 700, 1514] {
        let packet = into(&mut plug, len as u64, len, &[40, 100, 13, 500, 64, 1500])?;
        filled(&packet)?;
        drop(plug);
        plug = Plug::start(target, Setup::new(target, format).with(Features::MRG_RXBUF))?;
    }
    Ok(())
}

fn one_buffer(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format).without(Features::MRG_RXBUF))?;
    for (number, len) in [60, 61, 500, 1514].into_iter().enumerate() {
        // `num_buffers` is looked at whenever a frame comes.
        let packet = into(&mut plug, number as u64, len, &[2048])?;
        want!(packet.buffers.len() == 1, "{} buffers", packet.buffers.len());
    }
    Ok(())
}

fn too_long(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format).without(Features::MRG_RXBUF))?;
    let long = frames::plain_of(target.mac, target.mac, 1, 1400);
    plug.give(&[300])?;
    plug.send(&NONE, &long)?;
    let short = frames::plain(target.mac, target.mac, 2);
    plug.send(&NONE, &short)?;
    let first = plug.receive(target.quiet)?;
    if first.is_none() {
        // The long one may be waiting for a buffer that has room for it.
        need!(false, "a frame longer than its buffer is kept back");
    }
    let frame = first.map(|packet| packet.frame).unwrap_or_default();
    want!(frame.get(12..) == short.get(12..), "a frame of 1400 bytes comes as {} in a buffer of 300", frame.len());
    Ok(())
}

fn header_alone(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    for rest in [60, 100, 1514] {
        let mut plug = Plug::start(target, Setup::new(target, format).with(Features::MRG_RXBUF))?;
        let header = plug.header_len();
        let count = 300_usize.div_ceil(rest);
        let buffers: Vec<usize> = [header].into_iter().chain(std::iter::repeat_n(rest, count)).collect();
        let packet = into(&mut plug, rest as u64, 300, &buffers)?;
        filled(&packet)?;
        let first = packet.buffers.first();
        want!(first == Some(&(header as u32, header as u32)), "the first buffer (bytes used, room): {first:?}");
    }
    Ok(())
}

/// Looks at the ring all the time while the device side writes: the first buffer is never seen without the others, which is
/// looked at whenever a frame comes.
fn together(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format).with(Features::MRG_RXBUF))?;
    for number in 0..200 {
        let frame = frames::plain_of(target.mac, target.mac, number, 1514);
        for _ in 0..16 {
            plug.give(&[100])?;
        }
        let bytes = [NONE.bytes(plug.header_len()), frame.clone()].concat();
        let pieces = plug.cut(&bytes, &[])?;
        plug.post(1, &pieces)?;
        plug.comes_back(&frame)?;
        plug.used(1)?;
    }
    Ok(())
}
