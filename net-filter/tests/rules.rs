//! The receive rules against sentences of the specification and small models.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use net_filter::{MacAddr, ReceiveFilter, RxDecision, RxFilterStats, RxModes, RxRules, TableLimits};
use proptest::prelude::*;

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const NAMED: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 7]);
const OTHER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 8]);
const NAMED_GROUP: MacAddr = MacAddr([0x01, 0, 0x5e, 1, 2, 3]);
const OTHER_GROUP: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

fn frame(dst: MacAddr, behind: &[u16]) -> Vec<u8> {
    let mut frame = [&dst.0[..], &[0x02, 0xee, 0, 0, 0, 1]].concat();
    frame.extend(behind.iter().flat_map(|word| word.to_be_bytes()));
    frame.resize(60, 0xa5);
    frame
}

/// Frames of the rules' kinds, as the specification speaks of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Own,
    NamedUnicast,
    OtherUnicast,
    NamedGroup,
    OtherGroup,
    Broadcast,
}

const KINDS: [(Kind, MacAddr); 6] = [
    (Kind::Own, OWN),
    (Kind::NamedUnicast, NAMED),
    (Kind::OtherUnicast, OTHER),
    (Kind::NamedGroup, NAMED_GROUP),
    (Kind::OtherGroup, OTHER_GROUP),
    (Kind::Broadcast, MacAddr::BROADCAST),
];

/// The sentences of virtio 1.4, 5.1.6.5.1 and 5.1.6.5.2, one after the other.
fn sentences(modes: RxModes, kind: Kind) -> bool {
    let on = |mode| modes.contains(mode);
    let is_unicast = matches!(kind, Kind::Own | Kind::NamedUnicast | Kind::OtherUnicast);
    let is_group = matches!(kind, Kind::NamedGroup | Kind::OtherGroup);
    // "The device SHOULD receive all incoming packets" in promiscuous mode, which takes effect even if some of the others
    // are on.
    if on(RxModes::PROMISC) {
        return true;
    }
    // No unicast: takes effect even if all-unicast is on.
    if is_unicast && on(RxModes::NOUNI) {
        return false;
    }
    // No multicast: takes effect even if all-multicast is on; not for broadcast.
    if is_group && on(RxModes::NOMULTI) {
        return false;
    }
    // No broadcast: takes effect even if all-multicast is on.
    if kind == Kind::Broadcast {
        return !on(RxModes::NOBCAST);
    }
    if (is_unicast && on(RxModes::ALLUNI)) || (is_group && on(RxModes::ALLMULTI)) {
        return true;
    }
    // The own address and the tables.
    matches!(kind, Kind::Own | Kind::NamedUnicast | Kind::NamedGroup)
}

#[test]
fn n50_n51_n52_n53_n54_n55_n59_every_mode_with_every_kind_of_frame() {
    let mut accepted = 0;
    for bits in 0..64 {
        let modes = RxModes::from_bits(bits).unwrap();
        let mut rules = RxRules::new(OWN);
        rules.begin(true, false);
        rules.set_tables(&[NAMED], &[NAMED_GROUP]);
        // In any order, and with some that go again.
        rules.set_mode(RxModes::all(), true);
        rules.set_mode(RxModes::all().difference(modes), false);
        assert_eq!(rules.modes(), modes);
        for (kind, dst) in KINDS {
            let expected = sentences(modes, kind);
            let frame = frame(dst, &[0x0800]);
            assert_eq!(rules.accepts(&frame), expected, "{modes:?} {kind:?}");
            assert_eq!(rules.decide(&frame).is_accepted(), expected, "{modes:?} {kind:?}");
            accepted += usize::from(expected);
        }
    }
    assert!(accepted > 64 && accepted < 64 * 5, "both answers are there");
}

/// The same with VLANs, with the own address and broadcast in the tables, which changes nothing, and counted.
#[test]
fn n50_n51_n52_n53_n54_n55_n60_n61_every_mode_with_every_tag() {
    for (bits, limited, named) in
        (0..64).flat_map(|b| [(b, false, false), (b, false, true), (b, true, false), (b, true, true)])
    {
        let modes = RxModes::from_bits(bits).unwrap();
        let mut rules = RxRules::new(OWN);
        rules.begin(true, limited);
        let extra = if named { [OWN, MacAddr::BROADCAST] } else { [NAMED, NAMED_GROUP] };
        rules.set_tables(&[NAMED, extra[0]], &[NAMED_GROUP, extra[1]]);
        assert_eq!(rules.set_vlan(100, true), limited);
        rules.set_mode(modes, true);
        let mut filter = ReceiveFilter::new(Arc::new(rules));
        let mut refused = 0;
        for (kind, dst) in KINDS {
            for behind in [
                &[0x0800][..],
                &[0x8100, 100, 0x0800],
                &[0x88a8, 0xf064, 0x0800],
                &[0x8100, 7, 0x0800],
                &[0x88a8, 7, 0x8100, 100],
            ] {
                let frame = frame(dst, behind);
                let other = limited && behind.get(1) == Some(&7);
                let expected = modes.contains(RxModes::PROMISC) || (sentences(modes, kind) && !other);
                assert_eq!(filter.rules().accepts(&frame), expected, "{modes:?} {kind:?} {behind:x?} {limited}");
                assert_eq!(filter.rules().decide(&frame).is_accepted(), expected, "{modes:?} {kind:?} {behind:x?}");
                assert_eq!(filter.accepts(&frame), expected, "{modes:?} {kind:?} {behind:x?}");
                refused += u64::from(!expected);
            }
        }
        let RxFilterStats { too_short, other_unicast, other_multicast, no_broadcast, other_vlan } = *filter.stats();
        assert_eq!((too_short, other_unicast + other_multicast + no_broadcast + other_vlan), (0, refused));
        assert_eq!(
            no_broadcast,
            if modes.contains(RxModes::NOBCAST) && !modes.contains(RxModes::PROMISC) { 5 } else { 0 }
        );
    }
}

#[test]
fn n56_n59_the_tables_are_empty_at_first_and_groups_need_a_name_only_from_a_driver_that_names_them() {
    let mut rules = RxRules::new(OWN);
    for (names, groups) in [(false, true), (true, false), (false, true)] {
        rules.begin(names, false);
        let accepted = KINDS.map(|(_, dst)| rules.accepts(&frame(dst, &[0x0800])));
        assert_eq!(accepted, [true, false, false, groups, groups, true]);
    }
    for len in 0..14 {
        assert_eq!(rules.decide(&frame(OWN, &[])[..len]), RxDecision::TooShort);
        assert!(!rules.accepts(&frame(OWN, &[])[..len]));
    }
}

#[test]
fn n58_another_own_address_is_received_and_the_one_before_is_not() {
    let mut rules = RxRules::new(OWN);
    rules.set_own(OTHER);
    assert_eq!(rules.own(), OTHER);
    assert!(rules.accepts(&frame(OTHER, &[0x0800])) && !rules.accepts(&frame(OWN, &[0x0800])));
}

fn nth(n: usize, group: bool) -> MacAddr {
    let [.., a, b, c] = n.to_be_bytes();
    MacAddr([if group { 0x03 } else { 0x02 }, 0xff, 0, a, b, c])
}

#[test]
fn n57_n59_tables_of_any_size_are_exact_up_to_the_limit_and_all_behind_it() {
    for (n, limit) in [(0, 1024), (1, 1024), (64, 1024), (1023, 1024), (1024, 1024), (1025, 1024), (4096, 4096), (3, 2)]
    {
        let mut rules = RxRules::new(OWN).with_limits(TableLimits { unicast: limit, multicast: limit }, 0x1234_5678);
        rules.begin(true, false);
        let [unicast, multicast] = [false, true].map(|group| (0..n).map(|i| nth(i, group)).collect::<Vec<_>>());
        for (tables, over) in [
            ((&unicast[..], &[][..]), (n > limit, false)),
            ((&[], &multicast[..]), (false, n > limit)),
            ((&unicast[..], &multicast[..]), (n > limit, n > limit)),
        ] {
            rules.set_tables(tables.0, tables.1);
            assert_eq!(rules.overflows(), over);
            for (group, table, over) in [(false, tables.0, over.0), (true, tables.1, over.1)] {
                for i in 0..n {
                    let accepted = rules.accepts(&frame(nth(i, group), &[0x0800]));
                    assert_eq!(accepted, over || i < table.len(), "{n} of {limit}: {i}");
                }
                assert_eq!(rules.accepts(&frame(nth(n + 1, group), &[0x0800])), over);
            }
        }
        // It is as it was once there are fewer.
        rules.set_tables(&[NAMED], &[]);
        assert_eq!((rules.overflows(), rules.addresses()), ((false, false), vec![NAMED]));
        assert!(!rules.accepts(&frame(nth(0, false), &[0x0800])) && rules.accepts(&frame(NAMED, &[0x0800])));
    }
}

/// An address is what it is, whichever table a driver puts it in: a table with too many of one kind loses none of the other.
#[test]
fn n57_addresses_in_the_other_table_count_as_what_they_are() {
    let limits = TableLimits { unicast: 2, multicast: 2 };
    let of = |unicast: &[MacAddr], multicast: &[MacAddr]| {
        let mut rules = RxRules::new(OWN).with_limits(limits, 9);
        rules.begin(true, false);
        rules.set_tables(unicast, multicast);
        rules
    };
    let swapped = of(&[NAMED_GROUP], &[NAMED, NAMED]);
    assert_eq!((swapped.overflows(), swapped.addresses()), ((false, false), vec![NAMED_GROUP, NAMED]));
    // Three stations and a group in the first table: every station, and that group.
    let many: Vec<_> = (0..3).map(|i| nth(i, false)).chain([NAMED_GROUP]).collect();
    for rules in [of(&many, &[]), of(&[], &many)] {
        assert_eq!(rules.overflows(), (true, false));
        let accepted = KINDS.map(|(_, dst)| rules.accepts(&frame(dst, &[0x0800])));
        assert_eq!(accepted, [true, true, true, true, false, true]);
    }
    // Both tables together are what counts.
    assert_eq!(of(&[nth(0, false), nth(1, false)], &[nth(2, false)]).overflows(), (true, false));
    assert_eq!(of(&[nth(0, true), nth(1, true)], &[nth(2, true)]).overflows(), (false, true));
}

/// With a filter of VLANs and every mode: the own address as any other, and frames that are everything's whatever their tag.
#[test]
fn n50_n54_n61_modes_and_vlans_together() {
    for bits in 0..64 {
        let modes = RxModes::from_bits(bits).unwrap();
        let mut rules = RxRules::new(OWN);
        rules.begin(true, true);
        rules.set_tables(&[NAMED], &[NAMED_GROUP]);
        assert!(rules.set_vlan(100, true));
        rules.set_mode(modes, true);
        for (kind, dst) in KINDS {
            for (tags, passes) in [(&[0x0800][..], true), (&[0x8100, 100, 0x0800], true), (&[0x88a8, 7, 0x0800], false)]
            {
                let expected = modes.contains(RxModes::PROMISC) || (passes && sentences(modes, kind));
                let frame = frame(dst, tags);
                assert_eq!(rules.accepts(&frame), expected, "{modes:?} {kind:?} {tags:x?}");
                let refused = rules.decide(&frame);
                if !expected {
                    let by_vlan = sentences(modes, kind);
                    assert_eq!(refused == RxDecision::OtherVlan, by_vlan, "{modes:?} {kind:?} {refused:?}");
                }
            }
        }
    }
}

#[test]
fn n59_what_is_rejected_is_counted_by_reason_and_what_is_accepted_is_not() {
    let mut rules = RxRules::new(OWN);
    rules.begin(true, true);
    rules.set_mode(RxModes::NOBCAST, true);
    let mut filter = ReceiveFilter::new(Arc::new(rules.clone()));
    let plain = &[0x0800][..];
    let frames = [
        frame(OWN, plain),
        frame(OTHER, plain),
        frame(OTHER_GROUP, plain),
        frame(MacAddr::BROADCAST, plain),
        frame(OWN, &[0x8100, 7, 0x0800]),
        vec![0; 13],
    ];
    let one_more = |stats: RxFilterStats| {
        let RxFilterStats { too_short, other_unicast, other_multicast, no_broadcast, other_vlan } = stats;
        [0, other_unicast, other_multicast, no_broadcast, other_vlan, too_short]
    };
    for (at, frame) in frames.iter().enumerate() {
        let before = one_more(*filter.stats());
        assert_eq!(filter.accepts(frame), at == 0);
        let mut expected = before;
        expected[at] += u64::from(at != 0);
        assert_eq!(one_more(*filter.stats()), expected, "frame {at}");
    }
    // Counters outlive the rules.
    rules.set_mode(RxModes::PROMISC, true);
    filter.set_rules(Arc::new(rules));
    assert!(frames[..5].iter().all(|frame| filter.accepts(frame)));
    assert_eq!(one_more(*filter.stats()), [0, 1, 1, 1, 1, 1]);
}

#[test]
fn n60_without_a_vlan_filter_every_tag_passes() {
    let rules = RxRules::new(OWN);
    for tpid in [0x8100, 0x88a8] {
        for tci in 0..=u16::MAX {
            assert!(rules.accepts(&frame(OWN, &[tpid, tci, 0x0800])), "{tpid:#x} {tci:#x}");
        }
    }
}

#[test]
fn n61_with_a_vlan_filter_listed_ids_pass_and_no_others_and_it_starts_empty() {
    let mut rules = RxRules::new(OWN);
    rules.begin(true, true);
    let mut model = BTreeSet::new();
    let check = |rules: &RxRules, model: &BTreeSet<u16>| {
        assert!(rules.accepts(&frame(OWN, &[0x0800])), "no tag");
        assert!(rules.accepts(&frame(OWN, &[0x9100, 7, 0x0800])), "no tag that counts");
        for tpid in [0x8100, 0x88a8] {
            for id in 0..4096 {
                for priority in [0, 0xf000] {
                    let tagged = frame(OWN, &[tpid, priority | id, 0x0800]);
                    assert_eq!(rules.accepts(&tagged), model.contains(&id), "{tpid:#x} {id}");
                    let decision = if model.contains(&id) { RxDecision::Own } else { RxDecision::OtherVlan };
                    assert_eq!(rules.decide(&tagged), decision);
                }
            }
        }
        assert_eq!(rules.vlans().unwrap().iter().collect::<BTreeSet<_>>(), *model);
    };
    check(&rules, &model);
    for id in [0, 1, 63, 64, 100, 4095] {
        assert!(rules.set_vlan(id, true));
        model.insert(id);
    }
    check(&rules, &model);
    for id in [63, 4094, 0] {
        assert!(rules.set_vlan(id, false), "also one that is not in it");
        model.remove(&id);
    }
    check(&rules, &model);
    // The outer tag counts; broadcast and groups have VLANs as well; everything has if everything is wanted.
    assert!(rules.accepts(&frame(OWN, &[0x88a8, 100, 0x8100, 7, 0x0800])));
    assert!(!rules.accepts(&frame(OWN, &[0x88a8, 7, 0x8100, 100, 0x0800])));
    assert!(!rules.accepts(&frame(MacAddr::BROADCAST, &[0x8100, 7, 0x0800])));
    assert_eq!(rules.decide(&frame(MacAddr::BROADCAST, &[0x8100, 7])), RxDecision::OtherVlan);
    for len in 14..16 {
        assert!(!rules.accepts(&frame(OWN, &[0x8100, 100])[..len]), "cut inside the tag");
    }
    rules.set_mode(RxModes::PROMISC, true);
    assert!(rules.accepts(&frame(OWN, &[0x8100, 7, 0x0800])));
    for id in [4096, 0xffff] {
        assert!(!rules.set_vlan(id, true), "{id}");
    }
}

proptest! {
    #[test]
    fn n61_any_sequence_of_adding_and_removing(steps in prop::collection::vec((0..4200_u16, any::<bool>()), 0..200), seen in prop::collection::vec(0..4096_u16, 20)) {
        let mut rules = RxRules::new(OWN);
        rules.begin(false, true);
        let mut model = BTreeSet::new();
        for (id, on) in steps {
            prop_assert_eq!(rules.set_vlan(id, on), id < 4096);
            if id < 4096 && on { model.insert(id); } else { model.remove(&id); }
        }
        for id in seen.into_iter().chain(model.iter().copied().take(20)) {
            prop_assert_eq!(rules.accepts(&frame(OWN, &[0x8100, id, 0x0800])), model.contains(&id));
        }
    }

    #[test]
    fn n57_any_tables_are_the_set_that_was_named(
        unicast in prop::collection::vec(any::<[u8; 6]>().prop_map(MacAddr), 0..80),
        multicast in prop::collection::vec(any::<[u8; 6]>().prop_map(MacAddr), 0..80),
        others in prop::collection::vec(any::<[u8; 6]>().prop_map(MacAddr), 20),
        seed: u64,
    ) {
        let mut rules = RxRules::new(OWN).with_limits(TableLimits::default(), seed);
        rules.begin(true, false);
        rules.set_tables(&unicast, &multicast);
        let named: BTreeSet<_> = unicast.iter().chain(&multicast).copied().collect();
        prop_assert_eq!(rules.addresses(), named.iter().copied().collect::<Vec<_>>());
        for dst in named.iter().chain(&others) {
            let expected = named.contains(dst) || dst.is_broadcast() || *dst == OWN;
            prop_assert_eq!(rules.accepts(&frame(*dst, &[0x0800])), expected);
        }
    }

    #[test]
    fn any_bytes_are_decided_and_both_answers_agree(bytes in prop::collection::vec(any::<u8>(), 0..40), modes in 0..64_u8, vlans: bool) {
        let mut rules = RxRules::new(OWN);
        rules.begin(true, vlans);
        rules.set_mode(RxModes::from_bits_truncate(modes), true);
        prop_assert_eq!(rules.accepts(&bytes), rules.decide(&bytes).is_accepted());
    }
}
