//! A look at a frame allocates nothing, whatever the filter finds; only commands do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

#[path = "../../virtio-ring/tests/common/heap.rs"]
mod heap;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use net_filter::{IpSources, Lease, MacAddr, ReceiveFilter, RxModes, RxRules, SpoofCheck, learn, may_teach};

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// Frames of every kind that one of the filters tells apart: addresses, tags, packets of the guest and of others, cut ones.
fn frames() -> Vec<Vec<u8>> {
    let addresses =
        [OWN, MacAddr::BROADCAST, MacAddr([2, 0, 0, 0, 0, 5]), MacAddr([3, 0, 0, 0, 0, 5]), MacAddr([9; 6])];
    let tags: [&[u8]; 3] = [&[], &[0x81, 0, 0, 100], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 100]];
    let packets: [&[u8]; 5] =
        [&[8, 0, 0x45], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58], &[0], &[]];
    let mut frames = Vec::new();
    for (dst, src) in addresses.into_iter().flat_map(|dst| [OWN, MacAddr([9; 6])].map(|src| (dst, src))) {
        for (tags, packet) in tags.into_iter().flat_map(|tags| packets.map(|packet| (tags, packet))) {
            for len in [20, 60, 128] {
                let mut frame = [&dst.0[..], &src.0, tags, packet].concat();
                frame.resize(len, 0);
                frames.push(frame);
            }
        }
    }
    frames
}

#[test]
fn looks_allocate_nothing() {
    let named = |first| (0..1024_u16).map(|i| MacAddr([first, 0, 0, 0, (i >> 8) as u8, i as u8])).collect::<Vec<_>>();
    let mut rules = RxRules::new(OWN);
    rules.begin(true, true);
    rules.set_vlan(100, true);
    let before = heap::COUNT.get();
    rules.set_tables(&named(2), &named(3));
    assert!(heap::COUNT.get() > before, "the allocator counts");
    let filters = (0..64).map(|bits| {
        let mut rules = rules.clone();
        rules.set_mode(RxModes::from_bits_truncate(bits), true);
        ReceiveFilter::new(Arc::new(rules))
    });
    let mut filters: Vec<_> = filters.collect();
    let addresses = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5))];
    let sources = Arc::new(IpSources::new(OWN, &addresses, Some(Arc::new(Lease::default()))));
    let mut checks = [SpoofCheck::off(), SpoofCheck::new(OWN), SpoofCheck::with_ip(OWN, sources)];
    let frames = frames();

    let before = heap::COUNT.get();
    let mut answers = [0_usize; 2];
    for frame in &frames {
        for filter in &mut filters {
            answers[usize::from(filter.accepts(frame))] += 1;
        }
        for check in &mut checks {
            answers[usize::from(check.permits(frame))] += 1;
        }
        let _ = (may_teach(frame), learn(frame, OWN));
    }
    assert_eq!(heap::COUNT.get(), before);
    assert!(answers.iter().all(|n| *n > 1000), "{answers:?}: both are there");
}
