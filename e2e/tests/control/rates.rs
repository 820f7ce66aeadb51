//! `ethtool -C` and `-K`: how often the guest is called, and how large the frames are that it gets.

use crate::support::frames::{Flow, Mac, SENDER, TCP, plain};
use crate::support::rig::{OWN, Rig};
use crate::{boot, config};
use std::time::{Duration, Instant};
use virtio_net_core::{Features, GSO_TCPV4, NEEDS_CSUM, NetHeader};

/// The longest that the device holds a call back.
const LONGEST: Duration = Duration::from_secs(1);
/// How often something that is to be quicker than that is tried, on a machine that may do something else meanwhile.
const TRIES: usize = 20;

/// Calls for frames that arrived, and for frames that left.
fn calls(rig: &Rig) -> (u64, u64) {
    let pair = rig.served.stats().pairs[0];
    (pair.rx_ring.calls, pair.tx_ring.calls)
}

/// Gives the guest so many frames; waits until they are in its memory, whether it knows of them or not. The last one's
/// number.
fn give(rig: &mut Rig, count: usize) -> u32 {
    let before = rig.served.stats().pairs[0].rx.frames;
    let numbers = rig.numbers(count);
    let frames = numbers.clone().map(|number| plain(OWN, &[], number)).collect();
    rig.served.wire.give(0, NetHeader::NONE, frames);
    rig.served.until("frames are in the guest's memory", |stats| stats.pairs[0].rx.frames == before + count as u64);
    numbers.end - 1
}

/// So many frames of the guest's, one by one, gone.
fn send(rig: &mut Rig, count: usize) {
    for number in rig.numbers(count) {
        let before = rig.served.stats().pairs[0].tx.frames;
        let mut frame = plain(SENDER, &[], number);
        frame[6..12].copy_from_slice(&OWN);
        rig.send(&frame);
        rig.served.until("the frame has left", |stats| stats.pairs[0].tx.frames > before);
    }
}

/// Sets how calls are held back, and does something that is over before the first of them has to come.
fn before_any_is_due<T>(rig: &mut Rig, settings: &str, mut act: impl FnMut(&mut Rig) -> T) -> T {
    for _ in 0..TRIES {
        // Linux 6.1 takes `tx-frames 0` for a wish to have no NAPI for sending, and that is what it begins with.
        rig.run("ethtool -C eth0 rx-usecs 0 rx-frames 0 tx-usecs 0 tx-frames 1");
        rig.run(&format!("ethtool -C eth0 {settings}"));
        let begin = Instant::now();
        let done = act(rig);
        if begin.elapsed() < LONGEST {
            return done;
        }
    }
    panic!("{TRIES} times not done within {LONGEST:?}");
}

pub(crate) fn interrupts_are_held_back(packed: bool) {
    let Some(mut rig) = boot("coalescing", config(packed, 1), &["NOTF_COAL"]) else { return };
    // Without a word, single frames are worth calls.
    let before = calls(&rig);
    let last = give(&mut rig, 1);
    rig.frames(&format!("frames {last}"));
    send(&mut rig, 4);
    assert!(calls(&rig).0 > before.0 && calls(&rig).1 > before.1, "{before:?} {:?}", calls(&rig));

    // 31 frames, and the one for which the call is due.
    let held = before_any_is_due(&mut rig, "rx-usecs 1000000 rx-frames 32", |rig| {
        let before = calls(rig).0;
        give(rig, 31);
        let between = calls(rig).0;
        let last = give(rig, 1);
        let arrived = rig.frames(&format!("frames {last}")).len();
        [between - before, calls(rig).0 - before, arrived as u64]
    });
    assert_eq!(held, [0, 1, 32], "calls for 31 frames and for 32, and frames");

    let held = before_any_is_due(&mut rig, "tx-usecs 1000000 tx-frames 64", |rig| {
        let before = calls(rig).1;
        send(rig, 20);
        calls(rig).1 - before
    });
    assert_eq!(held, 0, "calls for 20 frames of 64");

    // The time alone: it passes, and the guest hears of them.
    rig.run("ethtool -C eth0 rx-usecs 20000 rx-frames 1000 tx-usecs 20000 tx-frames 1000");
    let before = calls(&rig);
    let last = give(&mut rig, 3);
    rig.frames(&format!("frames {last}"));
    send(&mut rig, 3);
    rig.served.until("a call for frames that left", |stats| stats.pairs[0].tx_ring.calls > before.1);

    // More than the device can.
    assert!(rig.try_run("ethtool -C eth0 rx-usecs 1000001 rx-frames 32 tx-frames 1").status != 0.0);
    rig.end();
}

/// A TCP segment of 4000 bytes to be cut, as a neighbour's stack gives it.
fn large(to: Mac, number: u32) -> (NetHeader, Vec<u8>) {
    let flow = Flow { protocol: TCP, from: "192.0.2.1:1000".parse().unwrap(), to: "198.51.100.7:80".parse().unwrap() };
    let mut frame = flow.frame(to, number);
    frame.resize(4054, 0x5a);
    frame[16..18].copy_from_slice(&4040_u16.to_be_bytes());
    let gso = NetHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1400,
        csum_start: 34,
        csum_offset: 16,
    };
    (gso, frame)
}

pub(crate) fn large_frames_end(packed: bool) {
    let Some(mut rig) = boot("offloads", config(packed, 1), &["CTRL_GUEST_OFFLOADS", "GUEST_TSO4"]) else { return };
    let one = rig.numbers(1).start;
    let (header, frame) = large(OWN, one);
    rig.served.wire.give(0, header, vec![frame]);
    let seen = rig.frames(&format!("frames {one}"));
    assert_eq!(seen.iter().map(|frame| frame.len).max(), Some(4054), "in one piece");

    assert!(rig.served.wire.offloads(0).contains(Features::GUEST_TSO4));
    rig.run("ethtool -K eth0 rx-gro-hw off");
    // A host end that heeds what it is told has no such frame any more; this one tries.
    assert!(!rig.served.wire.offloads(0).intersects(Features::GUEST_TSO4 | Features::GUEST_TSO6));
    let dropped = rig.served.stats().pairs[0].rx.dropped;
    let numbers = rig.numbers(2);
    let (header, frame) = large(OWN, numbers.start);
    rig.served.wire.give(0, header, vec![frame]);
    rig.served.wire.give(0, NetHeader::NONE, vec![plain(OWN, &[], numbers.end - 1)]);
    let seen = rig.frames(&format!("frames {}", numbers.end - 1));
    assert!(seen.iter().all(|frame| frame.len <= 1514), "{seen:?}");
    rig.served.until("the large frame is counted", |stats| stats.pairs[0].rx.dropped == dropped + 1);

    rig.run("ethtool -K eth0 rx-gro-hw on");
    assert!(rig.served.wire.offloads(0).contains(Features::GUEST_TSO4));
    let one = rig.numbers(1).start;
    let (header, frame) = large(OWN, one);
    rig.served.wire.give(0, header, vec![frame]);
    let seen = rig.frames(&format!("frames {one}"));
    assert_eq!(seen.iter().map(|frame| frame.len).max(), Some(4054), "in one piece again");
    rig.end();
}
