//! Guests come and go on one daemon, and nothing of them is left behind: no descriptor, no mapping, no thread, no
//! memory.
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

use e2e::inprocess::visit;
use e2e::{Check, Event, Guest, GuestSpec, HostEnd, Kind, Nic, Plan, Step, Workshop};
use std::time::{Duration, Instant};
use support::{Bed, all_passed, console, say, tap_net, wanted};

const WARM_UP: usize = 20;
const CYCLES: usize = 200;
/// Resident memory may differ by this much: the allocator's own affair.
const SLACK_KIB: u64 = 1024;

fn cycles(host: HostEnd) {
    let bed = Bed::new(host);
    let idle = bed.holdings();
    let cycle = |n: usize| visit(&bed.socket(), n.is_multiple_of(2)).unwrap_or_else(|e| panic!("visit {n}: {e}"));
    (0..WARM_UP).for_each(cycle);
    let before = bed.settled(&idle);
    let begin = Instant::now();
    (0..CYCLES).for_each(cycle);
    let after = bed.settled(&before);
    println!("{CYCLES} cycles in {:.2} s: {before:?} before, {after:?} after", begin.elapsed().as_secs_f64());
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    assert_eq!(after.descriptors, idle.descriptors, "a daemon without a guest holds what it held at first");
    assert!(after.maps <= before.maps, "{} mappings, {} before", after.maps, before.maps);
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    assert!(grown <= SLACK_KIB, "{grown} KiB more resident after {CYCLES} cycles");
    let stats = bed.stop();
    assert_eq!(stats["sessions"], WARM_UP + CYCLES);
    assert_eq!(stats["refused_requests"], 0);
}

#[test]
fn two_hundred_cycles_on_user() {
    if wanted() {
        cycles(HostEnd::User);
    }
}

#[test]
fn two_hundred_cycles_on_tap() {
    if !wanted() {
        return;
    }
    if let Some(net) = tap_net(&Workshop::of_repository().unwrap()) {
        cycles(HostEnd::Tap(net));
    }
}

/// Kernels that power off, and one that is killed in the middle of a transfer.
#[test]
fn uml_comes_and_goes() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let assets = shop.prepare(&[Kind::Uml], &mut say).unwrap();
    let bed = Bed::new(HostEnd::User);
    let idle = bed.holdings();
    let boot = |steps: &[Step], name: &str| {
        let mut spec = GuestSpec::new(Kind::Uml, Nic::vhost_user(bed.socket()), Plan::new(steps.to_vec()));
        spec.console = console(&shop, name);
        Guest::boot(&spec, &assets).unwrap()
    };
    let short = [Check::Dhcp, Check::Ping4, Check::Ping6, Check::TcpEcho].map(Step::new);
    all_passed(&boot(&short, "coming-1").run_to_end().unwrap());

    let mut killed = boot(&[Step::new(Check::Dhcp), Step::new(Check::TcpUp).with("secs", 60)], "coming-killed");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match killed.wait(Duration::from_millis(100)).unwrap() {
            Event::Line(line) if line.check == "dhcp" => break,
            other => assert!(Instant::now() < until && other != Event::End, "{other:?}"),
        }
    }
    drop(killed);
    let after = bed.settled(&idle);
    assert_eq!((after.descriptors, after.threads), (idle.descriptors, idle.threads));

    all_passed(&boot(&short, "coming-2").run_to_end().unwrap());
    let after = bed.settled(&idle);
    assert_eq!((after.descriptors, after.threads), (idle.descriptors, idle.threads));
    assert_eq!(bed.stop()["sessions"], 3);
}
