//! Loads on a tap: what the guest says of them, what the tap counts, and what was sent, are the same frames.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

mod support;

use e2e::load::{PAYLOAD, Pace, Wire};
use e2e::{Check, Guest, GuestSpec, HostEnd, Kind, Line, Nic, Plan, Step, Workshop};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Bed, all_passed, console, tap_net, wanted};

/// Ethernet, IPv4 and UDP headers.
const HEADERS: u64 = 14 + 20 + 8;
/// Frames beside a load: address resolution, router solicitations and the like.
const OTHERS: u64 = 20;

fn figure(line: &Line) -> u64 {
    line.value.unwrap() as u64
}

#[test]
fn frames_are_counted_alike_everywhere() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let assets = shop.prepare(&[Kind::Uml], &mut support::say).unwrap();
    let Some(net) = tap_net(&shop) else { return };
    let wire = Wire::open(&net).unwrap();
    let bed = Bed::new(HostEnd::Tap(net));
    let step = |check| Step::new(check).with("secs", 1);
    let plan = Plan::new(vec![Step::new(Check::Dhcp), step(Check::UdpFlood), step(Check::UdpSink)]);
    let mut spec = GuestSpec::new(Kind::Uml, Nic::vhost_user(bed.socket()), plan);
    spec.console = console(&shop, "load");
    let mut guest = Guest::boot(&spec, &assets).unwrap();
    let mut lines: Vec<Line> = (0..2).map(|_| guest.next_line().unwrap().unwrap()).collect();

    let before = wire.count().unwrap();
    lines.push(guest.next_line().unwrap().unwrap());
    let up = wire.count().unwrap().since(&before);
    let sent = figure(&lines[2]);
    assert!(sent > 100 && (sent..=sent + OTHERS).contains(&up.up_frames), "{sent} sent, {up:?}");
    assert!(up.up_bytes >= sent * (PAYLOAD as u64 + HEADERS), "{up:?}");

    // The guest looks at its counters at both ends of its step, and what is sent in between is what it can say.
    let (before, stop) = (wire.count().unwrap(), AtomicBool::new(false));
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| wire.send(Pace::PerSecond(1000), &stop));
        lines.push(guest.next_line().unwrap().unwrap());
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap().unwrap()
    });
    let down = wire.count().unwrap().since(&before);
    let seen = figure(&lines[3]);
    assert!(seen > 100 && seen <= down.down_frames, "{seen} seen, {down:?}");
    assert!((sent..=sent + OTHERS).contains(&(down.down_frames + down.dropped)), "{sent} sent, {down:?}");
    assert_eq!(down.dropped, 0);

    assert_eq!(guest.run_to_end().unwrap(), []);
    all_passed(&lines);
    bed.stop();
}

/// As fast as the device takes them, and no faster.
#[test]
fn a_flood_loses_nothing() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let assets = shop.prepare(&[Kind::Uml], &mut support::say).unwrap();
    let Some(net) = tap_net(&shop) else { return };
    let wire = Wire::open(&net).unwrap();
    let bed = Bed::new(HostEnd::Tap(net));
    let plan = Plan::new(vec![Step::new(Check::Dhcp), Step::new(Check::UdpSink).with("secs", 1)]);
    let mut spec = GuestSpec::new(Kind::Uml, Nic::vhost_user(bed.socket()), plan);
    spec.console = console(&shop, "flood");
    let mut guest = Guest::boot(&spec, &assets).unwrap();
    let mut lines: Vec<Line> = (0..2).map(|_| guest.next_line().unwrap().unwrap()).collect();
    let (before, stop) = (wire.count().unwrap(), AtomicBool::new(false));
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| wire.send(Pace::Full, &stop));
        lines.push(guest.next_line().unwrap().unwrap());
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap().unwrap()
    });
    let down = wire.count().unwrap().since(&before);
    let seen = figure(&lines[2]);
    assert_eq!(down.dropped, 0, "{down:?}");
    assert!(seen > 1000 && seen <= sent + OTHERS, "{seen} of {sent}");
    assert_eq!(guest.run_to_end().unwrap(), []);
    all_passed(&lines);
    bed.stop();
}
