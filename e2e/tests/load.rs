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

/// A guest on a tap, before its first load.
struct Loaded {
    wire: Wire,
    bed: Bed,
    guest: Guest,
    lines: Vec<Line>,
}

impl Loaded {
    /// With these loads to come, a second each; `None`, and a word why, if this machine cannot.
    fn boot(name: &str, loads: &[Check]) -> Option<Self> {
        if !wanted() {
            return None;
        }
        let shop = Workshop::of_repository().unwrap();
        let assets = shop.prepare(&[Kind::Uml], &mut support::say).unwrap();
        let net = tap_net(&shop)?;
        let wire = Wire::open(&net).unwrap();
        let bed = Bed::new(HostEnd::Tap(net));
        let loads = loads.iter().map(|check| Step::new(*check).with("secs", 1));
        let plan = Plan::new(std::iter::once(Step::new(Check::Dhcp)).chain(loads).collect());
        let mut spec = GuestSpec::new(Kind::Uml, Nic::vhost_user(bed.socket()), plan);
        spec.console = console(&shop, name);
        let mut guest = Guest::boot(&spec, &assets).unwrap();
        let lines = (0..2).map(|_| guest.next_line().unwrap().unwrap()).collect();
        Some(Self { wire, bed, guest, lines })
    }

    /// Sends until the guest's next line; how many frames.
    fn send(&mut self, pace: Pace) -> u64 {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.wire.send(pace, &stop));
            self.lines.push(self.guest.next_line().unwrap().unwrap());
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap().unwrap()
        })
    }

    /// Nothing more comes, and all that came is good.
    fn end(mut self) {
        assert_eq!(self.guest.run_to_end().unwrap(), []);
        all_passed(&self.lines);
        self.bed.stop();
    }
}

#[test]
fn frames_are_counted_alike_everywhere() {
    let Some(mut loaded) = Loaded::boot("load", &[Check::UdpFlood, Check::UdpSink]) else { return };
    let before = loaded.wire.count().unwrap();
    loaded.lines.push(loaded.guest.next_line().unwrap().unwrap());
    let up = loaded.wire.count().unwrap().since(&before);
    let sent = figure(&loaded.lines[2]);
    assert!(sent > 100 && (sent..=sent + OTHERS).contains(&up.up_frames), "{sent} sent, {up:?}");
    assert!(up.up_bytes >= sent * (PAYLOAD as u64 + HEADERS), "{up:?}");

    // The guest looks at its counters at both ends of its step, and what is sent in between is what it can say.
    let before = loaded.wire.count().unwrap();
    let sent = loaded.send(Pace::PerSecond(1000));
    let down = loaded.wire.count().unwrap().since(&before);
    let seen = figure(&loaded.lines[3]);
    assert!(seen > 100 && seen <= down.down_frames, "{seen} seen, {down:?}");
    assert!((sent..=sent + OTHERS).contains(&(down.down_frames + down.dropped)), "{sent} sent, {down:?}");
    assert_eq!(down.dropped, 0);

    loaded.end();
}

/// As fast as the device takes them, and no faster.
#[test]
fn a_flood_loses_nothing() {
    let Some(mut loaded) = Loaded::boot("flood", &[Check::UdpSink]) else { return };
    let before = loaded.wire.count().unwrap();
    let sent = loaded.send(Pace::Full);
    let down = loaded.wire.count().unwrap().since(&before);
    let seen = figure(&loaded.lines[2]);
    assert_eq!(down.dropped, 0, "{down:?}");
    assert!(seen > 1000 && seen <= sent + OTHERS, "{seen} of {sent}");
    loaded.end();
}
