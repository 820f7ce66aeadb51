use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use super::*;

/// The graph once more, from the specification's sentences and not from the table.
fn is_legal(f: Features) -> bool {
    let has = |bit: u32| f.bits() & (1 << bit) != 0;
    let needs = |bits: &[u32], on: u32| bits.iter().all(|&b| !has(b) || has(on));
    needs(&[7, 8, 10, 54, 55], 1)
        && needs(&[11, 12, 14, 56], 0)
        && (!has(9) || has(7) || has(8))
        && (!has(13) || has(11) || has(12))
        && needs(&[18, 19, 21, 22, 23, 51, 52, 53, 60, 64], 17)
        && (!has(51) || has(60) || has(57))
        && (!has(61) || has(11) || has(12))
        && needs(&[64], 60)
        && (!has(65) || (has(7) && has(8) && has(54) && has(55)))
        && needs(&[66], 65)
        && (!has(67) || (has(11) && has(12) && has(56)))
        && needs(&[68], 67)
}

/// Every subset of the offered features that the graph says something about.
fn subsets() -> impl Iterator<Item = Features> {
    let bits: Vec<_> = [0_u32, 1, 7, 8, 9, 10, 11, 12, 13, 14, 17, 21, 22, 54, 55, 56].into();
    (0..1_u32 << bits.len()).map(move |n| {
        let set =
            bits.iter().enumerate().filter(|(i, _)| n & (1 << i) != 0).fold(0, |set, (_, bit)| set | 1_u128 << bit);
        Features::from_bits_retain(set) | Features::VERSION_1
    })
}

#[test]
fn g3_every_offer_is_closed_under_the_graph() {
    for wanted in subsets() {
        let offer = offer(wanted, Features::all());
        assert!(is_legal(offer.features), "{wanted}");
        let withheld = offer.withheld.iter().fold(Features::empty(), |all, w| all | w.feature);
        assert_eq!(offer.features | withheld, wanted);
        assert!((offer.features & withheld).is_empty());
        assert_eq!(offer.withheld.is_empty(), is_legal(wanted), "{wanted}");
    }
}

#[test]
fn g3_a_feature_that_the_back_end_lacks_is_not_offered() {
    for back_end in subsets() {
        let offer = offer(Features::SUPPORTED, back_end);
        assert!(is_legal(offer.features));
        assert!(back_end.contains(offer.features & Features::BACK_END));
        let own = Features::SUPPORTED - Features::BACK_END;
        assert!(offer.features.contains(own), "what the back end has no part in stays");
    }
}

#[test]
fn g4_g5_every_legal_subset_is_accepted_and_every_other_refused() {
    let offered = offer(Features::SUPPORTED, Features::all()).features;
    for acked in subsets() {
        for acked in [acked, acked - Features::VERSION_1] {
            let answer = acknowledge(offered, acked);
            assert_eq!(answer.is_ok(), is_legal(acked), "{acked}");
            assert_eq!(answer, acknowledge(offered, acked), "the same again after a reset");
        }
    }
}

#[test]
fn g4_each_edge_is_named_when_broken() {
    for d in DEPENDENCIES {
        let whole = d.feature | closure(*d);
        assert_eq!(acknowledge(whole, whole), Ok(whole), "{}", d.feature);
        for lost in d.all_of.each() {
            let error = acknowledge(whole, whole - lost).unwrap_err();
            // Another feature may lack the same; the table's first one is named.
            let FeatureError::Dependency { needs, .. } = error else { unreachable!("{error}") };
            assert!(needs.all_of.contains(lost) || needs.any_of.contains(lost), "{error}");
        }
        if !d.any_of.is_empty() {
            assert!(acknowledge(whole, whole - d.any_of).is_err(), "{}", d.feature);
        }
    }
    let offered = Features::SUPPORTED;
    let acked = Features::HOST_TSO4 | Features::VERSION_1;
    let text = acknowledge(offered, acked).unwrap_err().to_string();
    assert_eq!(text, "driver acknowledged HOST_TSO4 without CSUM, expected both or neither");
    let text = acknowledge(offered, Features::HOST_ECN | Features::CSUM).unwrap_err().to_string();
    assert_eq!(text, "driver acknowledged HOST_ECN without one of HOST_TSO4, HOST_TSO6, expected both or neither");
}

/// Everything that `d` needs, directly and not.
fn closure(d: Dependency) -> Features {
    let mut all = d.all_of | d.any_of;
    while let Some(next) = DEPENDENCIES.iter().find(|d| all.contains(d.feature) && !all.contains(d.all_of | d.any_of)) {
        all |= next.all_of | next.any_of;
    }
    all
}

#[test]
fn g4_bits_that_were_not_offered_are_refused_up_to_the_last() {
    let offered = offer(Features::SUPPORTED, Features::all()).features;
    for bit in 0..128 {
        let feature = Features::from_bits_retain(1 << bit);
        let refused =
            acknowledge(offered, Features::VERSION_1 | feature) == Err(FeatureError::NotOffered { features: feature });
        assert_eq!(refused, !offered.contains(feature), "bit {bit}");
    }
}

#[test]
fn g6_g13_n11_n16_only_what_is_implemented_is_offered() {
    let allowed: u128 = (0..4)
        .chain([5])
        .chain(7..24)
        .chain([28, 29, 32, 34, 35, 40, 43])
        .chain(50..58)
        .chain([60, 63, 64])
        .fold(0, |set, bit| set | 1_u128 << bit);
    let offer = offer(Features::from_bits_retain(u128::MAX), Features::from_bits_retain(u128::MAX));
    assert_eq!(offer.features.bits(), allowed);
    assert_eq!(offer.withheld.len(), 128 - allowed.count_ones() as usize);
    assert!(offer.withheld.iter().all(|w| w.reason == WithheldReason::NotImplemented));
}

#[test]
fn n11_hashes_and_more_receive_modes_come_with_a_control_queue() {
    let commanded = Features::HASH_REPORT | Features::CTRL_RX_EXTRA;
    for wanted in [Features::all(), Features::all() - Features::CTRL_VQ, commanded, commanded | Features::CTRL_VQ] {
        let offered = offer(wanted, Features::all()).features;
        assert!(!offered.intersects(commanded) || offered.contains(Features::CTRL_VQ), "{offered}");
    }
}

#[test]
fn g11_version_1_is_always_offered() {
    assert_eq!(offer(Features::empty(), Features::empty()).features, Features::VERSION_1);
}

#[test]
fn withheld_features_say_why() {
    let wanted = Features::HOST_TSO4 | Features::HOST_ECN | Features::MQ | Features::STANDBY;
    let offer = offer(wanted, Features::HOST_OFFLOADS);
    let texts: Vec<_> = offer.withheld.iter().map(ToString::to_string).collect();
    let expected = [
        "STANDBY: not implemented",
        "HOST_TSO4: needs CSUM",
        "HOST_ECN: needs one of HOST_TSO4, HOST_TSO6",
        "MQ: needs CTRL_VQ",
    ];
    assert_eq!(texts, expected);
    assert_eq!(offer.features, Features::VERSION_1);
}

#[test]
fn a_front_end_that_keeps_the_control_queue_can_still_be_acknowledged() {
    let offered = offer(Features::SUPPORTED, Features::all()).features;
    let passed_on = offered - Features::FRONT_END_MAY_KEEP;
    assert!(acknowledge(offered, passed_on).is_err());
    assert_eq!(acknowledge(offered, passed_on | (offered & Features::FRONT_END_MAY_KEEP)), Ok(offered));
}

#[test]
fn header_length_follows_what_was_acknowledged() {
    let table = [
        (Features::empty(), 10),
        (Features::CSUM | Features::HOST_TSO4, 10),
        (Features::MRG_RXBUF, 12),
        (Features::VERSION_1, 12),
        (Features::VERSION_1 | Features::MRG_RXBUF, 12),
        (Features::VERSION_1 | Features::HASH_REPORT, 20),
        (Features::VERSION_1 | Features::HOST_UDP_TUNNEL_GSO, 24),
        (Features::VERSION_1 | Features::GUEST_UDP_TUNNEL_GSO | Features::HASH_REPORT, 24),
        (Features::VERSION_1 | Features::OUT_NET_HEADER, 32),
        (Features::VERSION_1 | Features::IPSEC | Features::HOST_UDP_TUNNEL_GSO, 32),
    ];
    for (acked, len) in table {
        assert_eq!(acked.header_len(), len, "{acked}");
    }
    assert!(Features::MRG_RXBUF.is_legacy() && !Features::VERSION_1.is_legacy());
}

#[test]
fn features_print_by_name() {
    let set = Features::from_bits_retain(1 << 30 | 1 << 127) | Features::CSUM | Features::VERSION_1 | Features::IPSEC;
    assert_eq!(set.to_string(), "CSUM, bit 30, VERSION_1, IPSEC, bit 127");
    assert_eq!(Features::empty().to_string(), "none");
}

proptest! {
    #[test]
    fn g3_any_wish_with_any_back_end_gives_a_legal_offer_that_can_be_acknowledged(wanted: u128, back_end: u128) {
        let (wanted, back_end) = (Features::from_bits_retain(wanted), Features::from_bits_retain(back_end));
        let offer = offer(wanted, back_end);
        prop_assert!(is_legal(offer.features));
        prop_assert!(offer.features.contains(Features::VERSION_1));
        prop_assert!((wanted | Features::VERSION_1).contains(offer.features));
        prop_assert!(back_end.contains(offer.features & Features::BACK_END));
        prop_assert_eq!(acknowledge(offer.features, offer.features), Ok(offer.features));
    }

    #[test]
    fn g4_any_acknowledgement_is_judged_as_the_specification_says(offered: u128, mask: u128) {
        let (offered, acked) = (Features::from_bits_retain(offered), Features::from_bits_retain(offered & mask));
        prop_assert_eq!(acknowledge(offered, acked).is_ok(), is_legal(acked));
    }
}
