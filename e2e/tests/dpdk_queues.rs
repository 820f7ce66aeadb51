//! DPDK's virtio-user port with several queue pairs: frames by each of them, both ways.
//!
//! The port keeps the control queue to itself: `VQ_PAIRS_SET` becomes `SET_VRING_ENABLE`, and commands for addresses and
//! modes are answered with success and go nowhere. It knows neither `RSS` nor `HASH_REPORT`: its list of features that a
//! back end may have (`VIRTIO_USER_SUPPORTED_FEATURES` in virtio_user_dev.c of 22.11) lacks both, so hashes are not to be
//! had through it, which is tested as well.
//!
//! Needs `VNET_GUEST_TESTS=1`, which `cargo xtask test` sets.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use e2e::Workshop;
use e2e::dpdk::{PortSpec, TestPmd};
use support::frames::plain;
use support::rig::OWN;
use support::served::Served;
use support::{dpdk, wanted};
use vhost_glue::DeviceConfig;
use virtio_net_core::{Features, NetHeader};

const PAIRS: u16 = 4;
/// Frames of a burst from each queue.
const BURST: usize = 32;

/// What `show port xstats` says of this counter.
fn counter(lines: &[String], name: &str) -> usize {
    let value = lines.iter().rev().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name}: {lines:#?}")).parse().unwrap()
}

fn frames_by_every_queue(packed: bool) {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let Some(dpdk) = dpdk(&shop) else { return };
    let served = Served::start(DeviceConfig { mac: OWN, queues: PAIRS, ..DeviceConfig::default() });
    let spec = PortSpec {
        socket: served.socket(),
        queues: PAIRS,
        parameters: format!("mac=52:54:00:12:34:56,packed_vq={}", u8::from(packed)),
        ..PortSpec::default()
    };
    let rings = if packed { "packed" } else { "split" };
    let log = shop.folder().join(format!("dpdk-queues-{rings}.log"));
    let mut pmd = TestPmd::start(&dpdk, &spec, &log).unwrap();
    // It does not wait for an answer, and what it sends before is thrown away.
    let enabled = |pair: &vhost_glue::PairStats| pair.rx_ring.enabled && pair.tx_ring.enabled;
    served.until("all pairs are enabled", |stats| stats.pairs.iter().all(enabled));
    pmd.say("set fwd rxonly").unwrap();
    pmd.say("start tx_first 1").unwrap();
    let all = (BURST * usize::from(PAIRS)) as u64;
    served.until("its frames come", |stats| stats.pairs.iter().map(|pair| pair.tx.frames).sum::<u64>() == all);
    // As many frames to each queue as it has a number, and one.
    for pair in 0..usize::from(PAIRS) {
        served.wire.give(pair, NetHeader::NONE, vec![plain(OWN, &[], 0); pair + 1]);
    }
    pmd.until(0, "frames arrive", |now| now.rx.0 == 1 + 2 + 3 + 4).unwrap();
    pmd.say("stop").unwrap();
    pmd.say("show port xstats 0").unwrap();
    let lines = pmd.quit().unwrap();
    let sent = served.wire.sent();
    let stats = served.end();
    for (pair, counted) in stats.pairs.iter().enumerate() {
        assert_eq!(counter(&lines, &format!("rx_q{pair}_good_packets")), pair + 1, "to queue {pair}");
        assert_eq!(counted.rx.frames, pair as u64 + 1);
        assert_eq!(counter(&lines, &format!("tx_q{pair}_good_packets")), BURST, "from queue {pair}");
        assert_eq!(sent.iter().filter(|sent| sent.pair == pair).count(), BURST);
    }
    let features = stats.features.unwrap();
    assert_eq!(features.contains(Features::RING_PACKED), packed);
    assert!(features.contains(Features::MQ), "{features:?}");
    assert!(!features.intersects(Features::RSS | Features::HASH_REPORT), "{features:?}");
}

#[test]
fn split_frames_go_by_every_queue() {
    frames_by_every_queue(false);
}

#[test]
fn packed_frames_go_by_every_queue() {
    frames_by_every_queue(true);
}
