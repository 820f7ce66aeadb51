//! What is offered, what is accepted, config space.

use super::super::frames;
use super::super::outcome::{Check, need, want};
use super::super::plug::{Plug, Setup, status};
use super::super::ring::Format;
use super::super::suite::Case;
use super::super::target::{CONFIG, PROTOCOL_BIT, Target, read_config};
use super::super::wire::{Answer, longs, protocol, request};
use virtio_net_core::Features;

pub(super) const CASES: &[Case] = &[
    Case::once("g3_offers_are_closed", offers_are_closed),
    Case::once("g4_bits_not_offered_are_refused", not_offered),
    Case::once("g4_sets_that_lack_what_they_need_are_refused", broken_edges).should(),
    Case::once("g5_valid_sets_are_accepted_and_again", valid_sets),
    Case::once("g6_g13_nothing_reserved_is_offered", reserved),
    Case::once("g6_bit_30_is_the_transports_own", bit_30),
    Case::once("g8_config_space_is_read_alike_at_all_offsets", config_reads),
    Case::once("g11_version_1_is_offered", version_1),
    Case::once("n1_n2_n6_n7_n8_n9_config_fields_are_in_range", config_values),
    Case::once("n11_hash_report_and_rx_extra_come_with_a_control_queue", with_control),
];

/// A feature, and what it needs: all of the first, and one of the second. Bits as in 5.1.3.1, once more written down from the
/// specification.
const NEEDS: &[(u32, &[u32], &[u32])] = &[
    (7, &[1], &[]),
    (8, &[1], &[]),
    (9, &[], &[7, 8]),
    (10, &[1], &[]),
    (11, &[0], &[]),
    (12, &[0], &[]),
    (13, &[], &[11, 12]),
    (14, &[0], &[]),
    (18, &[17], &[]),
    (19, &[17], &[]),
    (21, &[17], &[]),
    (22, &[17], &[]),
    (23, &[17], &[]),
    (51, &[17], &[57, 60]),
    (52, &[17], &[]),
    (53, &[17], &[]),
    (54, &[1], &[]),
    (55, &[1], &[]),
    (56, &[0], &[]),
    (60, &[17], &[]),
    // The letter names the host's TSO; the guest's may be meant.
    (61, &[], &[7, 8, 11, 12]),
];

/// Bits that no net device offers over vhost-user: reserved ones (25, 31, 42, 44 to 49), and what only PCI has (37, 41). 24, 27
/// and 6 are for legacy drivers, 26 is the transport's (logging), 4 had no meaning yet.
const NEVER: [u32; 11] = [4, 25, 31, 37, 41, 42, 44, 45, 46, 47, 48];

const fn bit(n: u32) -> u64 {
    1_u64.wrapping_shl(n)
}

fn lacks(set: u64, all: &[u32], any: &[u32]) -> bool {
    all.iter().any(|n| set & bit(*n) == 0) || !any.is_empty() && any.iter().all(|n| set & bit(*n) == 0)
}

/// The set without what lacks something it needs.
fn closed(mut set: u64) -> u64 {
    // Nothing in the table is more than three steps deep.
    for _ in 0..4 {
        for (feature, all, any) in NEEDS {
            if lacks(set, all, any) {
                set &= !bit(*feature);
            }
        }
    }
    set
}

fn name(bits: u64) -> Features {
    Features::from_bits_retain(bits.into())
}

fn offers_are_closed(target: &Target) -> Check {
    for (feature, all, any) in NEEDS {
        let whole = target.offered & bit(*feature) == 0 || !lacks(target.offered, all, any);
        want!(whole, "{} is offered without what it needs: all of {all:?}, one of {any:?}", name(bit(*feature)));
    }
    Ok(())
}

/// What becomes of this set: refused, or accepted.
fn offer(target: &Target, set: u64) -> Check<bool> {
    let mut wire = target.open(protocol::REPLY_ACK | protocol::STATUS)?;
    let statuses = target.has(protocol::STATUS);
    let before = status::ACKNOWLEDGE | status::DRIVER;
    if statuses {
        wire.tell(request::SET_STATUS, &longs(&[before]), &[])?;
    }
    if wire.try_tell(request::SET_FEATURES, &longs(&[set | target.offered & PROTOCOL_BIT]), &[])? != Answer::Done {
        return Ok(false);
    }
    if !statuses {
        return Ok(true);
    }
    let ready = longs(&[before | status::FEATURES_OK]);
    if wire.try_tell(request::SET_STATUS, &ready, &[])? != Answer::Done {
        return Ok(false);
    }
    Ok(wire.number(request::GET_STATUS)? & status::FEATURES_OK != 0)
}

fn not_offered(target: &Target) -> Check {
    need!(
        target.has(protocol::REPLY_ACK) || target.has(protocol::STATUS),
        "without REPLY_ACK and STATUS a refusal cannot be told"
    );
    for n in 0..64 {
        if target.offered & bit(n) == 0 && n != 30 {
            let accepted = offer(target, Features::VERSION_1.bits() as u64 | bit(n))?;
            want!(!accepted, "{}, which is not offered, is accepted", name(bit(n)));
        }
    }
    Ok(())
}

/// A front end may serve the control queue itself and keep that bit, so nothing is made of it alone.
fn broken_edges(target: &Target) -> Check {
    need!(
        target.has(protocol::REPLY_ACK) || target.has(protocol::STATUS),
        "without REPLY_ACK and STATUS a refusal cannot be told"
    );
    let mut accepted = Vec::new();
    for (feature, all, any) in NEEDS {
        let set = bit(*feature) | Features::VERSION_1.bits() as u64 | bit(17) & target.offered;
        if target.offered & bit(*feature) != 0 && lacks(set, all, any) && offer(target, set)? {
            accepted.push(name(bit(*feature)).to_string());
        }
    }
    want!(accepted.is_empty(), "accepted without what they need: {}", accepted.join(", "));
    Ok(())
}

fn valid_sets(target: &Target) -> Check {
    let all = closed(target.offered & !PROTOCOL_BIT);
    let version = Features::VERSION_1.bits() as u64;
    let without = (0..64).map(|n| closed(all & !bit(n)) | version);
    let alone = (0..64).map(|n| closed((bit(n) | version) & all));
    let sets = [version, all].into_iter().chain(without).chain(alone);
    for set in sets {
        want!(offer(target, set)?, "{} is refused", name(set));
    }
    for set in [all, version, all] {
        want!(offer(target, set)?, "{} is refused when it comes again", name(set));
    }
    Ok(())
}

fn reserved(target: &Target) -> Check {
    let found: Vec<u32> = NEVER.into_iter().chain([49]).filter(|n| target.offered & bit(*n) != 0).collect();
    want!(found.is_empty(), "bits {found:?} are offered");
    Ok(())
}

/// Without it rings begin enabled, and protocol features are not asked for; with it they begin disabled.
fn bit_30(target: &Target) -> Check {
    need!(target.offered & PROTOCOL_BIT != 0, "the bit is not offered");
    target.needs_returns()?;
    let plain = Target { offered: target.offered & !PROTOCOL_BIT, protocol: 0, ..target.clone() };
    let mut plug = Plug::prepare(&plain, Setup::new(&plain, Format::Split))?;
    plug.still_works(1)?;
    drop(plug);
    let mut plug = Plug::prepare(target, Setup::new(target, Format::Split))?;
    plug.driver_ok()?;
    plug.give(&[2048])?;
    let frame = frames::plain(target.mac, target.mac, 2);
    let pieces = plug.cut(&[&frames::NONE.bytes(plug.header_len()), &frame[..]].concat(), &[])?;
    plug.post(1, &pieces)?;
    want!(plug.untouched(0)?, "a receive buffer is used although its ring was not enabled");
    Ok(())
}

fn config_reads(target: &Target) -> Check {
    target.config()?;
    let mut wire = target.open(protocol::CONFIG)?;
    let whole = read_config(&mut wire, 0, CONFIG)?;
    for width in [1_u32, 2, 4, 8] {
        for offset in 0..=CONFIG.saturating_sub(width) {
            let part = read_config(&mut wire, offset, width)?;
            let end = offset.saturating_add(width) as usize;
            let expected = whole.get(offset as usize..end).unwrap_or_default();
            want!(
                part == expected,
                "{width} bytes at {offset} are {part:02x?}, of the whole they were {expected:02x?}"
            );
        }
    }
    Ok(())
}

fn version_1(target: &Target) -> Check {
    want!(target.offers(Features::VERSION_1), "VERSION_1 is not offered");
    Ok(())
}

fn with_control(target: &Target) -> Check {
    let found = target.of(Features::HASH_REPORT | Features::CTRL_RX_EXTRA);
    want!(found.is_empty() || target.offers(Features::CTRL_VQ), "{found} without CTRL_VQ");
    Ok(())
}

fn config_values(target: &Target) -> Check {
    let config = target.config()?;
    let at16 = |i: usize| config.get(i..).and_then(|c| c.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b));
    let at32 = |i: usize| config.get(i..).and_then(|c| c.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    let at8 = |i: usize| config.get(i).copied().unwrap_or(0);
    if target.offers(Features::MAC) {
        want!(at8(0) & 1 == 0, "the address {:02x?} is a group's", target.mac);
    }
    if target.offers(Features::MQ) || target.offers(Features::RSS) {
        want!((1..=0x8000).contains(&at16(8)), "max_virtqueue_pairs is {}", at16(8));
    }
    if target.offers(Features::MTU) {
        want!(at16(10) >= 68, "mtu is {}", at16(10));
    }
    if target.offers(Features::SPEED_DUPLEX) {
        want!(at32(12) <= 0x7fff_ffff || at32(12) == u32::MAX, "speed is {:#x}", at32(12));
        want!(matches!(at8(16), 0 | 1 | 0xff), "duplex is {}", at8(16));
    }
    if target.offers(Features::RSS) || target.offers(Features::HASH_REPORT) {
        want!(at8(17) >= 40, "rss_max_key_size is {}", at8(17));
    }
    if target.offers(Features::RSS) {
        want!(at16(18) >= 128, "rss_max_indirection_table_length is {}", at16(18));
    }
    Ok(())
}
