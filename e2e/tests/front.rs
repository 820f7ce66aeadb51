//! Our own front end on the daemon, and on DPDK's vhost port: each layout of rings, every frame compared byte by byte.
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

use e2e::daemon::DEFAULT_MAC;
use e2e::dpdk::{Memory, TestPmd, processors};
use e2e::front::contest::reflector;
use e2e::front::crowd::{Crowd, Traffic};
use e2e::front::{Front, FrontSpec, Layout, Trips, frame_to_itself, round_trips};
use e2e::{HostEnd, Workshop};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Bed, dpdk, wanted};

const FRAMES: usize = 3000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Frames of many lengths, no two alike, and none longer than this.
fn frames(longest: usize) -> Vec<Vec<u8>> {
    (0..FRAMES).map(|i| frame_to_itself(DEFAULT_MAC, i as u64, 60 + i * 37 % (longest - 59))).collect()
}

/// All of them there and back in bursts of up to 32, so few at a time that even with three buffers each they find room in
/// the ring: DPDK drops what does not. With `sleeping`, calls are waited for.
fn exchange(spec: &FrontSpec, frames: &[Vec<u8>], sleeping: bool) {
    let mut front = Front::plug(spec).unwrap();
    let layout = spec.layout;
    let (mut sent, mut back, begin) = (0, 0, Instant::now());
    while back < frames.len() {
        let burst = frames[sent..].iter().take(32.min(80 - (sent - back))).map(Vec::as_slice);
        sent += front.send(burst).unwrap();
        front.flush().unwrap();
        if sleeping {
            front.wait(PATIENCE).unwrap();
        }
        front
            .receive(64, |frame| {
                assert!(frame == frames[back], "{layout}: frame {back} of {} bytes is another one", frames[back].len());
                back += 1;
            })
            .unwrap();
        assert!(begin.elapsed() < PATIENCE, "{layout}: {back} of {sent} frames came back");
    }
    assert!(!sleeping || front.kicks() > 1, "{layout}: the daemon polled");
    front.unplug().unwrap();
}

/// Every layout on a back end that gives frames back. With mergeable buffers also frames of several buffers.
fn every_layout(socket: &Path) {
    for layout in Layout::all() {
        let spec = FrontSpec::new(socket, layout);
        exchange(&spec, &frames(1514), false);
        if layout.mergeable {
            exchange(&FrontSpec { room: 700, ..spec }, &frames(1514), false);
        }
    }
}

#[test]
fn every_layout_on_the_daemon() {
    if !wanted() {
        return;
    }
    let bed = Bed::new(HostEnd::Loopback);
    every_layout(&bed.socket());
    bed.stop();
}

#[test]
fn every_layout_on_dpdk() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let Some(dpdk) = dpdk(&shop) else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("dpdk.sock");
    let spec = reflector(&socket, processors().last().unwrap(), Memory::default());
    let mut pmd = TestPmd::start(&dpdk, &spec, &shop.folder().join("front-dpdk.log")).unwrap();
    pmd.say("start").unwrap();
    every_layout(&socket);
    let trips = Trips { outstanding: 32, ..Trips::new(&socket, Layout::default(), 5000) }.run().unwrap();
    assert_eq!(trips.count(), 5000);
    pmd.stop().unwrap();
    pmd.quit().unwrap();
}

/// A daemon that does not poll has to be kicked, and a front end that sleeps has to be called.
#[test]
fn both_sides_sleep() {
    if !wanted() {
        return;
    }
    let bed = Bed::with(HostEnd::Loopback, &["--poll-us", "0"]);
    for layout in Layout::all() {
        exchange(&FrontSpec::new(bed.socket(), layout), &frames(200), true);
    }
    bed.stop();
}

#[test]
fn rings_of_other_sizes() {
    if !wanted() {
        return;
    }
    let bed = Bed::new(HostEnd::Loopback);
    for packed in [false, true] {
        for ring in [2, 16, 1024] {
            let layout = Layout { packed, mergeable: true, ..Layout::default() };
            exchange(&FrontSpec { ring, ..FrontSpec::new(bed.socket(), layout) }, &frames(1514), false);
        }
    }
    bed.stop();
}

#[test]
fn what_is_not_offered_is_named() {
    if !wanted() {
        return;
    }
    let bed = Bed::with(HostEnd::Loopback, &["--packed", "off"]);
    let packed = Layout { packed: true, ..Layout::default() };
    let error = Front::plug(&FrontSpec::new(bed.socket(), packed)).err().unwrap().to_string();
    assert!(error.contains("RING_PACKED"), "{error}");
    let error = Front::plug(&FrontSpec::new("/nonexistent", packed)).err().unwrap().to_string();
    assert!(error.contains("/nonexistent"), "{error}");
    bed.stop();
}

#[test]
fn trips_are_counted_and_a_lost_frame_is_an_error() {
    if !wanted() {
        return;
    }
    let bed = Bed::new(HostEnd::Loopback);
    let samples = round_trips(&bed.socket(), Layout::default(), 3000).unwrap();
    assert_eq!(samples.count(), 3000);
    let quantiles = samples.quantiles();
    assert!(0.0 < quantiles.p50 && quantiles.p50 <= quantiles.p99 && quantiles.p99 <= quantiles.p999, "{quantiles:?}");
    // The filter drops what comes from another station.
    let other = Trips { mac: [2, 0, 0, 0, 0, 9], ..Trips::new(bed.socket(), Layout::default(), 10) };
    let error = other.run().unwrap_err().to_string();
    assert!(error.contains("did not come back"), "{error}");
    bed.stop();
}

/// Everybody's frames come back, and of those that only watch nothing is sent.
#[test]
fn a_crowd_sends() {
    if !wanted() {
        return;
    }
    let beds: Vec<Bed> = (0..3).map(|_| Bed::new(HostEnd::Loopback)).collect();
    let sockets: Vec<_> = beds.iter().map(Bed::socket).collect();
    let layout = Layout { packed: true, in_order: true, mergeable: true, ..Layout::default() };
    let mut crowd = Crowd::connect(&sockets, layout).unwrap();
    let mut traffic =
        Traffic { active: 3, cpus: processors().collect(), window: Duration::from_millis(100), samples: 2 };
    let all = crowd.send(&traffic).unwrap();
    assert!(all.len() == 2 && all.iter().all(|rate| *rate > 0.0), "{all:?}");
    traffic.active = 1;
    let one = crowd.send(&traffic).unwrap();
    assert!(one.len() == 2 && one.iter().all(|rate| *rate > 0.0), "{one:?}");
    crowd.leave().unwrap();
    for bed in beds {
        bed.stop();
    }
}
