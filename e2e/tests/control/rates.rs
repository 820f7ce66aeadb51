//! `ethtool -C` and `-K`: how often the guest is called, and how large the frames are that it gets.

use crate::boot;
use crate::support::frames::{Flow, Mac, SENDER, TCP, plain};
use crate::support::rig::{OWN, Rig};
use virtio_net_core::NetHeader;
use virtio_net_core::{GSO_TCPV4, NEEDS_CSUM};

/// Longer than any test: calls come for frames or not at all.
const LONG: &str = "1000000000";

/// Frames that arrived and calls for them, once the device has worked off what it was given.
fn received(rig: &Rig) -> (u64, u64) {
    let pair = rig.served.stats().pairs[0];
    (pair.rx.frames, pair.rx_ring.calls)
}

/// Gives the guest so many frames; waits until they are in its memory, whether it knows of them or not.
fn give(rig: &mut Rig, count: usize) -> std::ops::Range<u32> {
    let before = received(rig).0;
    let numbers = rig.numbers(count);
    let frames = numbers.clone().map(|number| plain(OWN, &[], number)).collect();
    rig.served.wire.give(0, NetHeader::NONE, frames);
    rig.served.until("frames are in the guest's memory", |stats| stats.pairs[0].rx.frames == before + count as u64);
    numbers
}

/// A frame of the guest's, gone.
fn send(rig: &mut Rig, number: u32) {
    let before = rig.served.stats().pairs[0].tx.frames;
    let mut frame = plain(SENDER, &[], number);
    frame[6..12].copy_from_slice(&OWN);
    rig.send(&frame);
    rig.served.until("the frame has left", |stats| stats.pairs[0].tx.frames > before);
}

pub(crate) fn interrupts_are_held_back(packed: bool) {
    let Some(mut rig) = boot("coalescing", packed, 1, &["NOTF_COAL"]) else { return };
    // Without a word, the first frame is worth a call.
    let calls = received(&rig).1;
    let first = give(&mut rig, 1).start;
    rig.frames(&format!("frames {first}"));
    assert!(received(&rig).1 > calls);

    rig.run(&format!("ethtool -C eth0 rx-usecs {LONG} rx-frames 32"));
    let calls = received(&rig).1;
    give(&mut rig, 31);
    assert_eq!(received(&rig).1, calls, "calls for 31 frames of 32");
    let last = give(&mut rig, 1).start;
    assert_eq!(rig.frames(&format!("frames {last}")).len(), 32);
    assert_eq!(received(&rig).1, calls + 1);

    // The time alone: it passes, and the frames are there.
    rig.run("ethtool -C eth0 rx-usecs 20000 rx-frames 1000");
    let last = give(&mut rig, 3).end - 1;
    assert_eq!(rig.frames(&format!("frames {last}")).len(), 3);

    rig.run("ethtool -C eth0 rx-usecs 0 rx-frames 0");
    let first = give(&mut rig, 1).start;
    rig.frames(&format!("frames {first}"));
    sending(&mut rig);
    rig.end();
}

fn sending(rig: &mut Rig) {
    let calls = |rig: &Rig| rig.served.stats().pairs[0].tx_ring.calls;
    let numbers = rig.numbers(40);
    let mut numbers = numbers.into_iter();
    let before = calls(rig);
    for number in numbers.by_ref().take(4) {
        send(rig, number);
    }
    assert!(calls(rig) > before, "no call for any of four frames");
    rig.run(&format!("ethtool -C eth0 tx-usecs {LONG} tx-frames 64"));
    // One that was due before.
    let before = calls(rig);
    for number in numbers.by_ref().take(20) {
        send(rig, number);
    }
    assert_eq!(calls(rig), before, "calls for 20 frames of 64");
    rig.run("ethtool -C eth0 tx-usecs 0 tx-frames 1");
    for number in numbers {
        send(rig, number);
    }
    assert!(calls(rig) > before);
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
    let Some(mut rig) = boot("offloads", packed, 1, &["CTRL_GUEST_OFFLOADS", "GUEST_TSO4"]) else { return };
    let one = rig.numbers(1).start;
    let (header, frame) = large(OWN, one);
    rig.served.wire.give(0, header, vec![frame]);
    let seen = rig.frames(&format!("frames {one}"));
    assert_eq!(seen.iter().map(|frame| frame.len).max(), Some(4054), "in one piece");

    rig.run("ethtool -K eth0 rx-gro-hw off");
    let dropped = rig.served.stats().pairs[0].rx.dropped;
    let numbers = rig.numbers(2);
    let (header, frame) = large(OWN, numbers.start);
    rig.served.wire.give(0, header, vec![frame]);
    rig.served.wire.give(0, NetHeader::NONE, vec![plain(OWN, &[], numbers.end - 1)]);
    let seen = rig.frames(&format!("frames {}", numbers.end - 1));
    assert!(seen.iter().all(|frame| frame.len <= 1514), "{seen:?}");
    assert_eq!(rig.served.stats().pairs[0].rx.dropped, dropped + 1);

    rig.run("ethtool -K eth0 rx-gro-hw on");
    let one = rig.numbers(1).start;
    let (header, frame) = large(OWN, one);
    rig.served.wire.give(0, header, vec![frame]);
    let seen = rig.frames(&format!("frames {one}"));
    assert_eq!(seen.iter().map(|frame| frame.len).max(), Some(4054), "in one piece again");
    rig.end();
}
