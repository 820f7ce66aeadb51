//! Queue pairs, hashes, offloads, coalescing.

use virtio_net_core::coalesce::{CoalesceParams, MAX_DELAY};
use virtio_net_core::ctrl::Ack;
use virtio_net_core::steering::{FlowHash, HashTypes, MAX_CONTEXTS};
use virtio_net_core::{Features, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4};

use crate::rig::{PAIRS, Rig, rss};

#[test]
fn n63_n64_pairs_are_set_within_what_there_is_and_a_reset_leaves_one() {
    let mut rig = Rig::new(Features::all());
    assert_eq!(rig.device.enabled_pairs(), 1);
    for pairs in 0..=u16::MAX {
        let before = rig.device.enabled_pairs();
        let good = (1..=PAIRS).contains(&pairs);
        assert_eq!(rig.run(4, 0, &pairs.to_le_bytes()).0 == Ack::Ok, good, "{pairs}");
        assert_eq!(rig.device.enabled_pairs(), if good { pairs } else { before });
    }
    assert_eq!(rig.device.enabled_pairs(), PAIRS);
    rig.device.reset();
    assert_eq!(rig.device.enabled_pairs(), 1);
}

/// The last command decides: pairs by the host end, or queues by hash.
#[test]
fn n66_queues_are_chosen_as_the_last_command_has_it() {
    let mut rig = Rig::new(Features::all());
    let hash = |value| FlowHash { value, report: 1 };
    let queue = |rig: &Rig, hash| rig.device.settings().steering.queue(hash);
    assert_eq!((queue(&rig, hash(3)), rig.device.rx_format().steered), (None, false));
    assert_eq!(rig.run(4, 1, &rss(&[0, 2, 1, 3], 2, 1)).0, Ack::Ok);
    assert_eq!(rig.device.enabled_pairs(), 4, "all queues of the table");
    for (value, expected) in [(0, 0), (1, 2), (2, 1), (3, 3), (4, 0), (0xffff_ffff, 3)] {
        assert_eq!(queue(&rig, hash(value)), Some(expected));
    }
    assert_eq!(queue(&rig, FlowHash::default()), Some(2), "unclassified");
    assert!(rig.device.rx_format().steered);
    assert_eq!(rig.run(4, 0, &[2, 0]).0, Ack::Ok);
    assert_eq!((queue(&rig, hash(3)), rig.device.enabled_pairs()), (None, 2));
    assert_eq!(rig.run(4, 1, &rss(&[1], 0, 2)).0, Ack::Ok);
    assert_eq!((queue(&rig, hash(7)), rig.device.enabled_pairs()), (Some(1), 2));
    // `HASH_CONFIG`: hashes are reported, queues are not chosen by them.
    let config = [&[1, 0, 0, 0][..], &[9; 8], &[2, 7, 7]].concat();
    assert_eq!(rig.run(4, 2, &config).0, Ack::Ok);
    let settings = rig.device.settings();
    assert_eq!((settings.steering.types(), settings.steering.key()), (HashTypes::IPV4, &[7, 7][..]));
    assert_eq!((queue(&rig, hash(3)), rig.device.rx_format().steered), (None, true));
}

/// QEMU CVE-2024-6505: entries that name queues which are not there.
#[test]
fn n66_n68_a_configuration_that_cannot_be_is_refused_and_the_one_before_stays() {
    let mut rig = Rig::new(Features::all());
    assert_eq!(rig.run(4, 1, &rss(&[3, 2], 1, 4)).0, Ack::Ok);
    let before = rig.device.settings();
    let good = rss(&[0, 1], 0, 4);
    let with = |at: usize, value: u16| {
        let mut bytes = good.clone();
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let mut bad = vec![
        with(0, 0x200),
        with(2, 1),
        with(4, 0),
        with(4, 2),
        with(4, 3),
        with(4, 127),
        with(4, 0xffff),
        with(6, 4),
        with(6, 0x7fff),
        with(6, 0x8000),
        with(8, 4),
        with(10, 0x7fff),
        with(10, 0x8001),
        with(12, 0),
        with(12, 5),
        rss(&[0; 256], 0, 1),
        rss(&[0; 3], 0, 1),
    ];
    for klen in [0, 39, 41, 255] {
        let mut bytes = good.clone();
        bytes[14] = klen;
        bad.push(bytes);
    }
    let mut long = good.clone();
    long[14] = 41;
    long.push(0);
    bad.push(long);
    for data in bad {
        assert_eq!(rig.run(4, 1, &data).0, Ack::Err, "{data:?}");
        assert_eq!(rig.device.settings(), before);
    }
    assert_eq!(rig.run(4, 1, &rss(&[3; 128], 3, 1)).0, Ack::Ok, "the largest table");
    let mut no_key = good[..14].to_vec();
    no_key.push(0);
    assert_eq!(rig.run(4, 1, &no_key).0, Ack::Ok, "a key may be short");
}

#[test]
fn n68_hashes_are_off_at_first() {
    let rig = Rig::new(Features::all());
    assert!(rig.device.settings().steering.types().is_empty() && !rig.device.rx_format().steered);
    let tcp =
        [&[0; 12][..], &[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 0, 81]].concat();
    assert_eq!(rig.device.settings().steering.hash(&tcp), FlowHash::default());
}

#[test]
fn n70_n71_tunnels_are_those_of_the_config_space_and_none_at_first() {
    let mut rig = Rig::new(Features::all());
    let mut supported = [0; 4];
    rig.device.config().read(24, &mut supported);
    let supported = u32::from_le_bytes(supported);
    assert_eq!(rig.device.settings().steering.tunnels().bits(), 0);
    for bit in 0..32 {
        let before = rig.device.settings().steering.tunnels();
        let known = supported >> bit & 1 == 1;
        assert_eq!(rig.run(7, 0, &(1_u32 << bit).to_le_bytes()).0 == Ack::Ok, known, "bit {bit}");
        let after = rig.device.settings().steering.tunnels();
        assert_eq!(after.bits(), if known { 1 << bit } else { before.bits() });
    }
    assert_eq!(rig.run(7, 0, &[0; 4]).0, Ack::Ok);
    assert_eq!(rig.device.settings().steering.tunnels().bits(), 0);
}

#[test]
fn n72_n73_contexts_are_added_changed_and_deleted_by_id() {
    let mut rig = Rig::new(Features::all());
    assert_eq!(rig.run(9, 0, &[]), (Ack::Ok, MAX_CONTEXTS.to_le_bytes().to_vec()));
    let context = |id: u16, table: &[u16]| [&id.to_le_bytes()[..], &[9; 6], &rss(table, 0, 1)].concat();
    for id in 0..=MAX_CONTEXTS + 1 {
        let good = (1..=MAX_CONTEXTS).contains(&id);
        assert_eq!(rig.run(9, 2, &context(id, &[0])).0, Ack::Err, "not there yet");
        assert_eq!(rig.run(9, 3, &id.to_le_bytes()).0, Ack::Err, "not there yet");
        assert_eq!(rig.run(9, 1, &context(id, &[0])).0 == Ack::Ok, good, "{id}");
        assert_eq!(rig.run(9, 1, &context(id, &[0])).0, Ack::Err, "there already");
        assert_eq!(rig.run(9, 2, &context(id, &[1, 2])).0 == Ack::Ok, good, "{id}");
        assert_eq!(rig.run(9, 2, &context(id, &[4])).0, Ack::Err, "no such queue");
    }
    let settings = rig.device.settings();
    let all: Vec<_> = settings.steering.contexts.iter().map(|(id, rss)| (id, rss.table.clone())).collect();
    assert_eq!(all, (1..=MAX_CONTEXTS).map(|id| (id, vec![1, 2])).collect::<Vec<_>>());
    assert_eq!(rig.run(4, 0, &[1, 0]).0, Ack::Err, "not with contexts (virtio 1.4, 5.1.6.5.8)");
    for id in 1..=MAX_CONTEXTS {
        assert_eq!(rig.run(9, 3, &id.to_le_bytes()).0, Ack::Ok);
        assert_eq!(rig.run(9, 3, &id.to_le_bytes()).0, Ack::Err);
    }
    assert_eq!(rig.run(4, 0, &[1, 0]).0, Ack::Ok);
}

#[test]
fn n28_n29_n30_n31_n34_offloads_that_are_switched_off_are_not_shown_to_the_driver() {
    let mut rig = Rig::new(Features::all());
    let all = [1, 7, 8, 9, 10, 54, 55].into_iter().fold(0_u64, |set, bit| set | 1 << bit);
    for bit in 0..64 {
        let known = all >> bit & 1 == 1;
        assert_eq!(rig.run(5, 0, &(1_u64 << bit).to_le_bytes()).0 == Ack::Ok, known, "bit {bit}");
    }
    let kinds = [(7, GSO_TCPV4), (8, GSO_TCPV6), (10, GSO_UDP)];
    for n in 0..1_u64 << 7 {
        let set = [1, 7, 8, 9, 10, 54, 55]
            .iter()
            .enumerate()
            .filter(|(i, _)| n >> i & 1 == 1)
            .fold(0, |s, (_, b)| s | 1_u64 << b);
        assert_eq!(rig.run(5, 0, &set.to_le_bytes()).0, Ack::Ok);
        let format = rig.device.rx_format();
        let on = |bit: u32| set >> bit & 1 == 1;
        assert_eq!(format.flags != 0, on(1));
        for (bit, kind) in kinds {
            assert_eq!(format.gso_types >> kind & 1 == 1, on(bit), "{set:#x} {kind}");
        }
        assert_eq!(format.gso_types >> GSO_UDP_L4 & 1 == 1, on(54) && on(55));
        assert_eq!(format.ecn, on(9));
    }
    let mut some = Rig::new(Features::all() - Features::GUEST_UFO);
    assert_eq!(some.run(5, 0, &(1_u64 << 10).to_le_bytes()).0, Ack::Err, "not acknowledged");
    assert_eq!(some.run(5, 0, &(1_u64 << 1).to_le_bytes()).0, Ack::Ok);
}

fn params(max_packets: u32, max_usecs: u32) -> CoalesceParams {
    CoalesceParams { max_packets, max_usecs }
}

fn vq(index: u16, reserved: u16, rest: &[u8]) -> Vec<u8> {
    [&index.to_le_bytes()[..], &reserved.to_le_bytes(), rest].concat()
}

/// The specification's own example of six commands.
#[test]
fn n74_n76_the_last_parameters_of_a_queue_hold_whichever_command_set_them() {
    let mut rig = Rig::new(Features::all());
    let get = |rig: &mut Rig, index| rig.run(6, 3, &vq(index, 0xffff, &[]));
    assert_eq!(rig.run(6, 1, &params(1, 2).to_bytes()).0, Ack::Ok);
    assert_eq!(rig.run(6, 2, &vq(0, 0xdead, &params(3, 4).to_bytes())).0, Ack::Ok);
    assert_eq!(get(&mut rig, 0), (Ack::Ok, params(3, 4).to_bytes().to_vec()));
    assert_eq!(get(&mut rig, 2), (Ack::Ok, params(1, 2).to_bytes().to_vec()));
    assert_eq!(rig.run(6, 2, &vq(1, 0, &params(5, 6).to_bytes())).0, Ack::Ok);
    assert_eq!(get(&mut rig, 3), (Ack::Ok, vec![0; 8]));
    assert_eq!(rig.run(6, 0, &params(7, 8).to_bytes()).0, Ack::Ok);
    for index in [1, 3] {
        assert_eq!(get(&mut rig, index), (Ack::Ok, params(7, 8).to_bytes().to_vec()));
    }
}

#[test]
fn n75_n76_a_delay_that_is_too_long_is_refused() {
    let mut rig = Rig::new(Features::all());
    for (usecs, ack) in [(MAX_DELAY, Ack::Ok), (MAX_DELAY + 1, Ack::Err), (u32::MAX, Ack::Err)] {
        let bytes = params(1, usecs).to_bytes();
        assert_eq!(rig.run(6, 0, &bytes).0, ack);
        assert_eq!(rig.run(6, 1, &bytes).0, ack);
        assert_eq!(rig.run(6, 2, &vq(0, 0, &bytes)).0, ack);
        assert_eq!(rig.device.settings().coalescing.queue(0), params(1, MAX_DELAY));
    }
}

#[test]
fn n77_only_an_enabled_receive_or_transmit_queue_has_parameters() {
    let mut rig = Rig::new(Features::all());
    rig.device.set_enabled(3, false);
    for index in 0..=u16::MAX {
        let good = index < 8 && index != 3;
        let expected = if good { Ack::Ok } else { Ack::Err };
        assert_eq!(rig.run(6, 2, &vq(index, 0, &params(1, 1).to_bytes())).0, expected, "{index}");
        let (ack, reply) = rig.run(6, 3, &vq(index, 0, &[]));
        assert_eq!((ack, reply.len()), (expected, if good { 8 } else { 0 }), "{index}");
    }
}

#[test]
fn n78_n79_a_queue_that_comes_back_has_what_was_set_for_all_or_nothing() {
    let mut rig = Rig::new(Features::all());
    for (index, all) in [(0, 1), (1, 0), (6, 1), (7, 0)] {
        assert_eq!(rig.run(6, 2, &vq(index, 0, &params(9, 9).to_bytes())).0, Ack::Ok);
        rig.device.set_enabled(index, false);
        rig.device.set_enabled(index, true);
        assert_eq!(rig.device.settings().coalescing.queue(index), params(0, 0));
        assert_eq!(rig.run(6, all, &params(4, 5).to_bytes()).0, Ack::Ok);
        assert_eq!(rig.run(6, 2, &vq(index, 0, &params(9, 9).to_bytes())).0, Ack::Ok);
        rig.device.set_enabled(index, true);
        assert_eq!(rig.device.settings().coalescing.queue(index), params(9, 9), "it did not go");
        rig.device.set_enabled(index, false);
        rig.device.set_enabled(index, true);
        assert_eq!(rig.device.settings().coalescing.queue(index), params(4, 5));
        assert_eq!(rig.run(6, all, &params(0, 0).to_bytes()).0, Ack::Ok);
    }
}
