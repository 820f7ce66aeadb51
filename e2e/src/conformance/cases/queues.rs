//! Commands about queues: pairs, hashes, coalescing, statistics, offloads, announcements.

use super::super::frames::{self, Kind, NONE, Sum};
use super::super::outcome::{Check, need, want};
use super::super::plug::{Plug, Setup};
use super::super::ring::{Calls, Format};
use super::super::suite::Case;
use super::super::target::{Target, read_config};
use super::control::controlled;
use std::time::{Duration, Instant};
use virtio_net_core::Features;

pub(super) const CASES: &[Case] = &[
    Case::rings("n62_an_announcement_is_over_when_acknowledged", announce),
    Case::rings("n63_n64_only_queues_in_use_receive", pairs),
    Case::rings("pairs_that_cannot_be_are_refused", pairs_refused),
    Case::rings("n68_n70_n71_hashes_that_cannot_be_are_refused", hashes),
    Case::rings("n68_hash_report_has_the_hash", hash_values),
    Case::rings("n66_rss_chooses_the_queue", steering),
    Case::rings("n74_n76_n77_coalescing_of_a_queue", coalescing),
    Case::rings("n81_coalescing_is_off_after_a_reset", coalescing_reset),
    Case::rings("n78_n79_a_queue_that_is_enabled_has_what_was_set_for_all", enabled_later),
    Case::rings("n80_calls_are_held_back", held_back),
    Case::rings("n82_n84_statistics_are_as_they_should_be", statistics),
    Case::rings("n83_n85_one_bad_entry_fails_all", bad_statistics),
    Case::rings("receive_offloads_are_switched_within_what_was_acknowledged", offloads),
];

const ANNOUNCE: u8 = 3;
const MQ: u8 = 4;
const OFFLOADS: u8 = 5;
const COALESCING: u8 = 6;
const TUNNEL: u8 = 7;
const STATS: u8 = 8;

fn announce(target: &Target, format: Format) -> Check {
    target.needs(Features::GUEST_ANNOUNCE | Features::STATUS)?;
    target.config()?;
    let mut plug = controlled(target, format, Features::GUEST_ANNOUNCE | Features::STATUS)?;
    plug.done(ANNOUNCE, 0, &[])?;
    let status = read_config(&mut plug.wire, 6, 2)?;
    want!(status.first().is_some_and(|low| low & 2 == 0), "ANNOUNCE is set after it was acknowledged: {status:02x?}");
    Ok(())
}

/// A driver with two queue pairs.
fn two(target: &Target, format: Format) -> Check<Plug<'_>> {
    target.needs(Features::MQ | Features::CTRL_VQ)?;
    need!(target.control, "commands are not answered: a front end is expected to serve the control queue");
    need!(target.max_pairs()? > 1, "there is one queue pair");
    let setup = Setup { pairs: 2, ..Setup::new(target, format) };
    Plug::start(target, setup.with(Features::MQ | Features::CTRL_VQ))
}

const SECOND_RX: usize = 2;
const SECOND_TX: usize = 3;

/// Sends frames on each tx queue, and says how many come in the second rx queue.
fn at_the_second(plug: &mut Plug<'_>, queues: &[usize]) -> Check<usize> {
    let mac = plug.target.mac;
    for number in 0..8_u64 {
        plug.give_to(0, &[2048])?;
        plug.give_to(SECOND_RX, &[2048])?;
        for tx in queues {
            let bytes = [NONE.bytes(plug.header_len()), frames::plain(mac, mac, number)].concat();
            let pieces = plug.cut(&bytes, &[])?;
            plug.post(*tx, &pieces)?;
        }
    }
    let mut count = 0_usize;
    while plug.receive_at(SECOND_RX, plug.target.quiet)?.is_some() {
        count = count.saturating_add(1);
    }
    Ok(count)
}

fn pairs(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = two(target, format)?;
    let count = at_the_second(&mut plug, &[1])?;
    want!(count == 0, "{count} frames come in the second queue, which no command has taken into use");
    drop(plug);
    let mut plug = two(target, format)?;
    plug.done(MQ, 0, &2_u16.to_le_bytes())?;
    at_the_second(&mut plug, &[1, SECOND_TX])?;
    plug.done(MQ, 0, &1_u16.to_le_bytes())?;
    // What came before the command was used is there by now.
    while plug.look(SECOND_RX)?.is_some() {}
    let count = at_the_second(&mut plug, &[1])?;
    want!(count == 0, "{count} frames come in the second queue after it was taken out of use");
    Ok(())
}

fn pairs_refused(target: &Target, format: Format) -> Check {
    let most = target.max_pairs()?;
    let mut plug = two(target, format)?;
    for wrong in [0, most.saturating_add(1), 0x8000, 0xffff] {
        if wrong > most || wrong == 0 {
            plug.refused(MQ, 0, &(wrong as u16).to_le_bytes())?;
        }
    }
    plug.refused(MQ, 0, &[1])?;
    plug.done(MQ, 0, &1_u16.to_le_bytes())
}

/// A hash configuration of no queues: types and a key of this length.
fn hash_config(types: u32, key: usize) -> Vec<u8> {
    [&types.to_le_bytes()[..], &[0; 8], &[key as u8], &vec![0x5a; key]].concat()
}

fn hashes(target: &Target, format: Format) -> Check {
    target.needs(Features::HASH_REPORT)?;
    let tunnel = target.of(Features::HASH_TUNNEL);
    let mut plug = controlled(target, format, Features::HASH_REPORT | tunnel)?;
    if target.needs_returns().is_ok() {
        let frame = Kind::ALL.map(|kind| kind.packet(target.mac, 64, Sum::Full));
        for frame in frame {
            let packet = plug.there_and_back(&NONE, &frame)?;
            let report = packet.header.get(16..18).unwrap_or_default().to_vec();
            want!(report == [0, 0], "hash_report is {report:02x?} although no type was enabled");
        }
    }
    let config = target.config()?;
    let word = |at: usize| config.get(at..).and_then(|c| c.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    let (types, most) = (word(20), config.get(17).copied().unwrap_or(0));
    plug.done(MQ, 2, &hash_config(types, most.into()))?;
    plug.done(MQ, 2, &hash_config(0, 40))?;
    plug.refused(MQ, 2, &hash_config(!types, 40))?;
    if most < u8::MAX {
        plug.refused(MQ, 2, &hash_config(types, usize::from(most).saturating_add(1)))?;
    }
    plug.refused(MQ, 2, hash_config(types, 40).get(..30).unwrap_or_default())?;
    if !tunnel.is_empty() {
        let supported = word(24);
        plug.done(TUNNEL, 0, &supported.to_le_bytes())?;
        plug.done(TUNNEL, 0, &[0; 4])?;
        plug.refused(TUNNEL, 0, &(!supported).to_le_bytes())?;
        plug.refused(TUNNEL, 0, &[0; 3])?;
    }
    Ok(())
}

/// One bit of every kind of hash, in the order of `Kind::ALL`, and what `hash_report` says of it.
const HASHES: [(u32, u16); 4] = [(1 << 1, 2), (1 << 4, 5), (1 << 2, 3), (1 << 5, 6)];

/// A frame of this kind and its hash by its addresses and ports.
fn hashed(target: &Target, kind: Kind, port: u16) -> (Vec<u8>, u32) {
    let mut frame = kind.packet(target.mac, 64, Sum::Full);
    let transport = kind.start();
    if let Some(place) = frame.get_mut(transport..).and_then(|f| f.first_chunk_mut()) {
        *place = port.to_be_bytes();
    }
    let addresses = if kind.v6 { 22..54 } else { 26..34 };
    let ports = transport..transport.saturating_add(4);
    let input = [addresses, ports].map(|range| frame.get(range).unwrap_or_default()).concat();
    let hash = frames::toeplitz(&[0x5a; 40], &input);
    (frame, hash)
}

/// Types of hashes that are said to be supported.
fn hash_types(target: &Target) -> Check<u32> {
    let types = target.config()?.get(20..).and_then(|c| c.first_chunk());
    Ok(types.map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}

fn hash_values(target: &Target, format: Format) -> Check {
    target.needs(Features::HASH_REPORT)?;
    target.needs_returns()?;
    let types = hash_types(target)?;
    let mut plug = controlled(target, format, Features::HASH_REPORT)?;
    plug.done(MQ, 2, &hash_config(types, 40))?;
    for (kind, (bit, report)) in Kind::ALL.into_iter().zip(HASHES) {
        for port in [1, 80, 12345, 65535] {
            if types & bit == 0 {
                continue;
            }
            let (frame, hash) = hashed(target, kind, port);
            let packet = plug.there_and_back(&NONE, &frame)?;
            let expected = [&hash.to_le_bytes()[..], &report.to_le_bytes()].concat();
            let found = packet.header.get(12..18).unwrap_or_default();
            want!(
                found == expected,
                "{kind:?} from port {port}: hash and report {found:02x?}, expected {expected:02x?}"
            );
        }
    }
    Ok(())
}

/// Entries of the table are queue pairs; the mask is 7.
const TABLE: [u16; 8] = [1, 0, 1, 1, 0, 0, 1, 0];

fn steering(target: &Target, format: Format) -> Check {
    target.needs(Features::RSS | Features::CTRL_VQ)?;
    target.needs_returns()?;
    need!(target.control, "commands are not answered: a front end is expected to serve the control queue");
    let types = hash_types(target)?;
    let setup = Setup { pairs: 2, ..Setup::new(target, format) };
    let mut plug = Plug::start(target, setup.with(Features::RSS | Features::CTRL_VQ))?;
    // Frames without a hash go to the second queue.
    let head = [&types.to_le_bytes()[..], &7_u16.to_le_bytes(), &1_u16.to_le_bytes()].concat();
    let table = TABLE.map(u16::to_le_bytes).as_flattened().to_vec();
    let config = [head, table, 2_u16.to_le_bytes().to_vec(), vec![40], vec![0x5a; 40]].concat();
    plug.done(MQ, 1, &config)?;
    let plain = (frames::plain(target.mac, target.mac, 5), 1);
    let frames = Kind::ALL.into_iter().zip(HASHES).filter(|(_, (bit, _))| types & bit != 0);
    let frames = frames.flat_map(|(kind, _)| (1..12).map(move |port: u16| (kind, port.wrapping_mul(977))));
    let frames = frames.map(|(kind, port)| {
        let (frame, hash) = hashed(target, kind, port);
        let pair = TABLE.get(hash as usize & 7).copied().unwrap_or(0);
        (frame, pair)
    });
    for (frame, pair) in frames.chain([plain]).collect::<Vec<_>>() {
        for ring in [0, SECOND_RX] {
            plug.give_to(ring, &[2048])?;
        }
        plug.send(&NONE, &frame)?;
        let packet = plug.receive_at(usize::from(pair).wrapping_mul(2), target.patience)?;
        let right = packet.is_some_and(|packet| packet.frame.get(12..) == frame.get(12..));
        want!(right, "a frame of {} bytes does not come in queue {pair}, to which its hash belongs", frame.len());
    }
    Ok(())
}

/// Payload of `VQ_GET`: queue, something reserved.
fn address(queue: u16, reserved: u16) -> Vec<u8> {
    [queue.to_le_bytes(), reserved.to_le_bytes()].concat()
}

/// Payload of `VQ_SET`: queue, something reserved, parameters.
fn queue_parameters(queue: u16, reserved: u16, packets: u32, micros: u32) -> Vec<u8> {
    let words = [packets, micros].map(u32::to_le_bytes);
    [&address(queue, reserved), words.as_flattened()].concat()
}

/// What `VQ_GET` says.
fn parameters(plug: &mut Plug<'_>, queue: u16) -> Check<Vec<u8>> {
    let (ack, result) = plug.command(COALESCING, 3, &address(queue, 0xaaaa), 8)?;
    want!(ack == 0, "VQ_GET of queue {queue} is answered with {ack}");
    want!(result.len() == 8, "VQ_GET gives {} bytes, expected 8", result.len());
    Ok(result)
}

fn coalescing(target: &Target, format: Format) -> Check {
    let features = Features::VQ_NOTF_COAL | target.of(Features::NOTF_COAL);
    target.needs(features)?;
    let mut plug = controlled(target, format, features)?;
    for queue in [0, 1] {
        let set = queue_parameters(queue, 0xffff, 3, 100);
        plug.done(COALESCING, 2, &set)?;
        let now = parameters(&mut plug, queue)?;
        want!(set.get(4..) == Some(&now[..]), "queue {queue}: set to {:02x?}, and it is {now:02x?}", set.get(4..));
    }
    // The control queue, and those that are not there.
    for queue in [2, 3, 4, 100, 0x7fff, 0x8000, u16::MAX] {
        plug.refused(COALESCING, 2, &queue_parameters(queue, 0, 1, 1))?;
        let (ack, _) = plug.command(COALESCING, 3, &address(queue, 0), 8)?;
        want!(ack == 1, "VQ_GET of queue {queue}, which is no enabled rx or tx queue, is answered with {ack}");
    }
    plug.refused(COALESCING, 2, &address(0, 0))
}

fn coalescing_reset(target: &Target, format: Format) -> Check {
    target.needs(Features::VQ_NOTF_COAL)?;
    let mut plug = controlled(target, format, Features::VQ_NOTF_COAL)?;
    plug.done(COALESCING, 2, &queue_parameters(1, 0, 9, 900))?;
    drop(plug);
    let mut plug = controlled(target, format, Features::VQ_NOTF_COAL)?;
    for queue in [0, 1] {
        let now = parameters(&mut plug, queue)?;
        want!(now == [0; 8], "queue {queue} has {now:02x?} after a reset");
    }
    Ok(())
}

fn enabled_later(target: &Target, format: Format) -> Check {
    let features = Features::MQ | Features::CTRL_VQ | Features::NOTF_COAL | Features::VQ_NOTF_COAL;
    target.needs(features)?;
    need!(target.control, "commands are not answered: a front end is expected to serve the control queue");
    need!(target.max_pairs()? > 1, "there is one queue pair");
    let mut plug = Plug::start(target, Setup { pairs: 2, ..Setup::new(target, format) }.with(features))?;
    let of = |packets: u32, micros: u32| [packets, micros].map(u32::to_le_bytes).as_flattened().to_vec();
    let (tx, rx) = (of(5, 50), of(7, 70));
    plug.done(COALESCING, 0, &tx)?;
    plug.done(COALESCING, 1, &rx)?;
    plug.done(MQ, 0, &2_u16.to_le_bytes())?;
    for (queue, expected) in [(2, &rx), (3, &tx)] {
        let now = parameters(&mut plug, queue)?;
        want!(now == *expected, "queue {queue} has {now:02x?} when it is enabled, expected {expected:02x?}");
    }
    Ok(())
}

fn held_back(target: &Target, format: Format) -> Check {
    target.needs(Features::NOTF_COAL)?;
    let mut plug = controlled(target, format, Features::NOTF_COAL)?;
    plug.calls(1, Calls::Always);
    // Eight packets, or a second: more a device may refuse.
    let parameters = [8_u32, 1_000_000].map(u32::to_le_bytes);
    plug.done(COALESCING, 0, parameters.as_flattened())?;
    plug.queue(1)?.called();
    let frame = frames::plain(target.mac, target.mac, 1);
    let begin = Instant::now();
    for _ in 0..7 {
        plug.send(&NONE, &frame)?;
    }
    let silent = plug.silent(1)?;
    need!(begin.elapsed() < Duration::from_millis(900), "this machine is too busy to send 7 frames in a second");
    want!(silent, "a call for 7 frames, wanted for 8");
    plug.send(&NONE, &frame)?;
    want!(plug.called(1)?, "no call for 8 frames, wanted for 8");
    Ok(())
}

/// Bits of types that are said to be supported.
fn supported(plug: &mut Plug<'_>) -> Check<u64> {
    let (ack, result) = plug.command(STATS, 0, &[], 8)?;
    want!(ack == 0 && result.len() == 8, "STATS_QUERY: {ack}, {} bytes, expected 0 and 8", result.len());
    Ok(result.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

/// One entry of `STATS_GET`.
fn entry(queue: u16, types: u64) -> Vec<u8> {
    [&queue.to_le_bytes()[..], &[0; 6], &types.to_le_bytes()].concat()
}

/// Types that are of no queue but the control queue's, of rx queues, of tx queues: the lowest of each is their basis.
const CONTROL: u64 = 1 << 32;
const RX_BASIC: u64 = 1;
const TX_BASIC: u64 = 1 << 16;

fn statistics(target: &Target, format: Format) -> Check {
    target.needs(Features::DEVICE_STATS)?;
    let mut plug = controlled(target, format, Features::DEVICE_STATS)?;
    let types = supported(&mut plug)?;
    for (queue, basic) in [(0_u16, RX_BASIC), (1, TX_BASIC), (2, CONTROL)] {
        if types & basic == 0 {
            continue;
        }
        let (ack, result) = plug.command(STATS, 1, &entry(queue, basic), 1024)?;
        want!(ack == 0, "STATS_GET of type {basic:#x} of queue {queue} is answered with {ack}");
        let index = result.get(2..4).unwrap_or_default();
        want!(index == queue.to_le_bytes(), "the answer for queue {queue} names {index:02x?}");
        let size = result.get(6..8).and_then(|s| s.first_chunk()).map_or(0, |b| usize::from(u16::from_le_bytes(*b)));
        want!(size == result.len(), "the answer says {size} bytes and has {}", result.len());
    }
    Ok(())
}

fn bad_statistics(target: &Target, format: Format) -> Check {
    target.needs(Features::DEVICE_STATS)?;
    let mut plug = controlled(target, format, Features::DEVICE_STATS)?;
    let types = supported(&mut plug)?;
    need!(types & RX_BASIC != 0, "no basic counters of rx queues");
    let good = entry(0, RX_BASIC);
    for bad in [entry(1, RX_BASIC), entry(100, RX_BASIC), entry(0, TX_BASIC), entry(0, 1 << 63)] {
        let (ack, _) = plug.command(STATS, 1, &[good.clone(), bad.clone()].concat(), 1024)?;
        want!(ack == 1, "a good entry and {bad:02x?} are answered with {ack}");
    }
    // Room for less than the answer: no more than that is written, whatever it is.
    let (_, whole) = plug.command(STATS, 1, &good, 1024)?;
    for room in 0..whole.len() {
        // `command` looks at the length that is reported.
        plug.command(STATS, 1, &good, room)?;
    }
    Ok(())
}

fn offloads(target: &Target, format: Format) -> Check {
    target.needs(Features::CTRL_GUEST_OFFLOADS)?;
    let sums = target.of(Features::GUEST_CSUM | Features::GUEST_TSO4);
    let mut plug = controlled(target, format, Features::CTRL_GUEST_OFFLOADS | sums)?;
    let bits = sums.bits() as u64;
    for set in [0, bits] {
        plug.done(OFFLOADS, 0, &set.to_le_bytes())?;
    }
    for wrong in [1_u64 << 9, 1 << 0, 1 << 63, u64::MAX] {
        plug.refused(OFFLOADS, 0, &wrong.to_le_bytes())?;
    }
    plug.refused(OFFLOADS, 0, &[0; 7])
}
