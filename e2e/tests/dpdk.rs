//! DPDK's virtio-user port as the front end, on a daemon that gives every frame back: each layout of rings, and each of
//! the driver's own paths. Counters of both sides must agree to the frame; contents are compared byte by byte.
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

use e2e::dpdk::{Counters, Dpdk, Pcap, PortSpec, Role, TestPmd, cycles_per_packet};
use e2e::{HostEnd, Workshop};
use std::path::{Path, PathBuf};
use support::{Bed, dpdk, wanted};

/// The daemon's `--mac`: with another source address its filter would drop what the port sends.
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// Frames of the loop, at least.
const LOOPED: u64 = 200_000;
/// Frames with contents. Not more than `--net loopback` keeps waiting for a slow guest.
const COMPARED: usize = 1000;
/// Buffers this small, less DPDK's headroom: longer frames are chains, and take several receive buffers.
const SMALL_BUFFER: usize = 640 - 128;

/// A layout of rings, and the driver's path for it.
struct Row {
    /// Of the test, and of the logs.
    name: &'static str,
    packed: bool,
    in_order: bool,
    mergeable: bool,
    vectorized: bool,
    /// What the driver says it takes: to the daemon, and from it.
    paths: [&'static str; 2],
}

impl Row {
    fn spec(&self, socket: PathBuf) -> PortSpec {
        let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
        let [packed, in_order, mergeable, vectorized] =
            [self.packed, self.in_order, self.mergeable, self.vectorized].map(u8::from);
        PortSpec {
            socket,
            parameters: format!(
                "mac={mac},packed_vq={packed},in_order={in_order},mrg_rxbuf={mergeable},vectorized={vectorized}"
            ),
            // The packed ring's vector path wants registers of 512 bits, which it does not use unless told so.
            dpdk_arguments: self.vectorized.then(|| "--force-max-simd-bitwidth=512".to_owned()).into_iter().collect(),
            ..PortSpec::default()
        }
    }

    /// What the daemon says of the last session must be this row.
    fn negotiated(&self, stats: &serde_json::Value) {
        let has = |name: &str| stats["features"].as_array().unwrap().iter().any(|f| f == name);
        assert_eq!(stats["ring_format"], if self.packed { "packed" } else { "split" });
        assert_eq!(has("RING_PACKED"), self.packed);
        assert_eq!(has("IN_ORDER"), self.in_order);
        assert_eq!(has("MRG_RXBUF"), self.mergeable);
    }
}

/// Nothing but promiscuous mode, which the device does not offer, may have failed.
fn no_complaints(lines: &[String], paths: &[&str]) {
    for path in paths {
        let said = format!("virtio: using {path} path on port 0");
        assert!(lines.iter().any(|line| line.ends_with(&said)), "not {said:?}: {lines:#?}");
    }
    for line in lines {
        let small = line.to_lowercase();
        let failed = small.contains("fail") || small.contains("error ") || small.contains("cannot");
        assert!(!failed || small.contains("promiscuous"), "{line}");
    }
}

/// As many frames as a burst of `bursts` times 32 gets into the ring, there and back. Returns what is counted then.
fn burst(pmd: &mut TestPmd, bursts: u32) -> Counters {
    let before = pmd.counters(0).unwrap();
    pmd.say("set fwd rxonly").unwrap();
    pmd.say(&format!("start tx_first {bursts}")).unwrap();
    // Frames that found the ring full were never sent, and are not in this counter.
    let after = pmd.until(0, "frames come back", |now| now.rx == now.tx && now.tx.0 > before.tx.0).unwrap();
    pmd.say("stop").unwrap();
    let sent = after.tx.0 - before.tx.0;
    assert!((32..=u64::from(bursts) * 32).contains(&sent), "{sent} of {bursts} bursts");
    after
}

/// A burst, a long loop of 64 frames, and a burst after the port was stopped and started.
fn looped(row: &Row, bed: &Bed, dpdk: &Dpdk, shop: &Workshop) -> Counters {
    let log = shop.folder().join(format!("dpdk-{}-loop.log", row.name));
    let mut pmd = TestPmd::start(dpdk, &row.spec(bed.socket()), &log).unwrap();
    burst(&mut pmd, 32);
    // The daemon swaps the addresses, and so does this: a frame whose addresses are damaged is one that the daemon
    // drops, as forged or as not for this guest.
    pmd.say("set fwd macswap").unwrap();
    pmd.say("start tx_first 2").unwrap();
    pmd.until(0, "frames go round", |now| now.rx.0 > LOOPED).unwrap();
    pmd.say("stop").unwrap();
    // What is still under way comes in, and stays.
    pmd.say("set fwd rxonly").unwrap();
    pmd.say("start").unwrap();
    pmd.until(0, "the last frames come back", |now| now.rx == now.tx).unwrap();
    pmd.say("stop").unwrap();
    pmd.say("port stop 0").unwrap();
    pmd.say("port start 0").unwrap();
    let counted = burst(&mut pmd, 4);
    assert_eq!(counted.errors, 0);
    no_complaints(&pmd.quit().unwrap(), &row.paths);
    counted
}

/// Frames of every length from 60 bytes on, no two alike, each with the port's source address.
fn frames() -> Vec<Vec<u8>> {
    let frame = |i: usize| {
        let len = 60 + i * 37 % 1455;
        let mut frame = vec![2, 0, 0, 0, 0, 1];
        frame.extend(MAC);
        // IEEE 802, for experiments.
        frame.extend([0x88, 0xb5]);
        frame.extend((0..len - 14).map(|j| (i * 7 + j * 13 + j / 256) as u8));
        frame
    };
    (0..COMPARED).map(frame).collect()
}

/// The classic pcap format: a header of 24 bytes, and 16 bytes before each frame.
fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1]);
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        file.extend(words(&[0, 0, len, len]));
        file.extend(frame);
    }
    std::fs::write(path, file).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let file = std::fs::read(path).unwrap();
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        frames.push(behind[..len].to_vec());
        rest = &behind[len..];
    }
    frames
}

fn swapped(frame: &[u8]) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..]].concat()
}

/// Frames from a file through the rings, there and back, into another file. Returns what the port counted, and how
/// many frames the daemon must have refused.
fn compared(row: &Row, bed: &Bed, dpdk: &Dpdk, shop: &Workshop, small: bool) -> (Counters, u64) {
    let folder = tempfile::tempdir().unwrap();
    let files = ["in", "out"].map(|name| folder.path().join(name));
    let sent = frames();
    write_pcap(&files[0], &sent);
    let mut spec = row.spec(bed.socket());
    spec.pcap = Some(Pcap::Once(files[0].clone(), files[1].clone()));
    // Ports start with a buffer for the longest frame, unless told that several will do; of the two ports only this
    // one can that.
    spec.stopped = true;
    if small {
        spec.arguments = vec![format!("--mbuf-size={}", SMALL_BUFFER + 128)];
    }
    let kind = if small { "small" } else { "compare" };
    let log = shop.folder().join(format!("dpdk-{}-{kind}.log", row.name));
    let mut pmd = TestPmd::start(dpdk, &spec, &log).unwrap();
    if small {
        pmd.say("port config 0 rx_offload scatter on").unwrap();
    }
    pmd.say("port start all").unwrap();
    // A full ring is waited for.
    pmd.say("set burst tx delay 100 retry 100000").unwrap();
    pmd.say("set fwd io retry").unwrap();
    pmd.say("start").unwrap();
    // DPDK 22.11 marks the header in a packed ring's indirect table as writable, with readable elements behind it, which
    // virtio 1.3, 2.7.4.2 forbids a driver: such chains are given back and their frames dropped.
    let chains = sent.iter().filter(|frame| small && frame.len() > SMALL_BUFFER).count();
    let refused = if row.packed { chains } else { 0 };
    let want = (sent.len() - refused) as u64;
    pmd.until(1, "all frames have come back", |now| now.tx.0 == want).unwrap();
    let counted = pmd.until(0, "all frames are sent", |now| now.tx.0 == sent.len() as u64).unwrap();
    pmd.say("stop").unwrap();
    no_complaints(&pmd.quit().unwrap(), &row.paths);
    let back = read_pcap(&files[1]);
    let whole = |frame: &&Vec<u8>| refused == 0 || frame.len() <= SMALL_BUFFER;
    let expected: Vec<_> = sent.iter().filter(whole).map(|frame| swapped(frame)).collect();
    let differs = back.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!((back.len(), differs), (expected.len(), None), "frames, and the first that differs");
    (counted, refused as u64)
}

fn serves(row: &Row) {
    if !wanted() {
        return;
    }
    if row.packed && row.vectorized && !e2e::dpdk::avx512() {
        return println!("skipped: this processor has no AVX-512, which DPDK's vector path for packed rings needs");
    }
    let shop = Workshop::of_repository().unwrap();
    let Some(dpdk) = dpdk(&shop) else { return };
    let bed = Bed::new(HostEnd::Loopback);
    let idle = bed.holdings();
    // Each is a session of its own: the daemon goes on with the next front end on the same socket.
    let mut all = vec![(looped(row, &bed, &dpdk, &shop), 0), compared(row, &bed, &dpdk, &shop, false)];
    // DPDK 22.11's vector path leaves in a frame's header what its buffer held before, and buffers that were not the
    // first of a received frame held payload there: the daemon drops such frames as promising what was not negotiated.
    if row.mergeable && !row.vectorized {
        all.push(compared(row, &bed, &dpdk, &shop, true));
    }
    let after = bed.settled(&idle);
    assert_eq!(
        (after.descriptors, after.threads),
        (idle.descriptors, idle.threads),
        "left by front ends that have gone"
    );
    let stats = bed.stop();
    row.negotiated(&stats);
    assert_eq!((&stats["sessions"], &stats["refused_requests"]), (&all.len().into(), &0.into()));
    let sum = |number: fn(&Counters) -> u64| all.iter().map(|(counted, _)| number(counted)).sum::<u64>();
    let refused: u64 = all.iter().map(|(_, refused)| refused).sum();
    let (tx, rx) = (&stats["pairs"][0]["tx"], &stats["pairs"][0]["rx"]);
    assert_eq!(tx["drops"]["bad_chain"], refused);
    assert_eq!(tx["frames"], sum(|c| c.tx.0) - refused, "all that was sent has come");
    assert_eq!(rx["frames"], tx["frames"], "all that came was given back");
    assert_eq!((&rx["frames"], &rx["bytes"]), (&sum(|c| c.rx.0).into(), &sum(|c| c.rx.1).into()), "and has come back");
    for (way, reasons) in [
        (tx, &["spoofed", "not_sent", "bad_frame"][..]),
        (rx, &["not_for_guest", "offload", "too_long", "no_room", "bad_chain"]),
    ] {
        for reason in reasons {
            assert_eq!(way["drops"][reason], 0, "{reason} in {way}");
        }
    }
    println!("{}: {} frames there and back", row.name, tx["frames"]);
}

/// A port that sends, or takes, as fast as it can. Returns what it has counted, at rest.
fn driven(pmd: &mut TestPmd, mode: &str, wanted: impl Fn(&Counters) -> bool) -> Counters {
    pmd.say(&format!("set fwd {mode}")).unwrap();
    pmd.say("start").unwrap();
    pmd.until(0, "frames move", wanted).unwrap();
    pmd.stop().unwrap();
    pmd.counters(0).unwrap()
}

/// The host ends that stand in for DPDK's own back end in `cargo xtask dpdk` do their part. What is in a ring when a port
/// goes is lost.
#[test]
fn a_sink_takes_all_and_a_source_gives_as_long_as_there_are_buffers() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let Some(dpdk) = dpdk(&shop) else { return };
    let row = |name| Row {
        name,
        packed: true,
        in_order: true,
        mergeable: true,
        vectorized: false,
        paths: ["packed ring standard Tx", "packed ring mergeable buffer Rx"],
    };
    for (net, mode) in [("sink", "txonly"), ("source:mix", "rxonly")] {
        let row = row(mode);
        let bed = Bed::new(HostEnd::Bench(net));
        let log = shop.folder().join(format!("dpdk-{mode}.log"));
        let mut pmd = TestPmd::start(&dpdk, &row.spec(bed.socket()), &log).unwrap();
        let counted = driven(&mut pmd, mode, |now| now.tx.0 + now.rx.0 > LOOPED);
        no_complaints(&pmd.quit().unwrap(), &row.paths);
        let stats = bed.stop();
        row.negotiated(&stats);
        let (tx, rx) = (&stats["pairs"][0]["tx"], &stats["pairs"][0]["rx"]);
        let [taken, given] = [tx, rx].map(|way| way["frames"].as_u64().unwrap());
        assert!(taken <= counted.tx.0 && counted.tx.0 <= taken + 256, "{net}: {taken} taken, {counted:?}");
        assert!(counted.rx.0 <= given && given <= counted.rx.0 + 256, "{net}: {given} given, {counted:?}");
        assert_eq!(tx["bytes"], taken * 64);
    }
}

/// The back end that the daemon is measured beside.
#[test]
fn dpdk_serves_dpdk() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let Some(dpdk) = dpdk(&shop) else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vhost.sock");
    let back = PortSpec { role: Role::BackEnd, socket: socket.clone(), ..PortSpec::default() };
    let mut back = TestPmd::start(&dpdk, &back, &shop.folder().join("dpdk-back.log")).unwrap();
    let front = PortSpec { socket, parameters: "packed_vq=1".to_owned(), ..PortSpec::default() };
    let mut front = TestPmd::start(&dpdk, &front, &shop.folder().join("dpdk-front.log")).unwrap();
    back.say("set fwd rxonly").unwrap();
    back.say("set record-core-cycles on").unwrap();
    back.say("start").unwrap();
    let sent = driven(&mut front, "txonly", |now| now.tx.0 > LOOPED).tx;
    back.until(0, "all that was sent has come", |now| now.rx == sent).unwrap();
    let cycles = cycles_per_packet(back.stop().unwrap());
    assert!(cycles.is_some_and(|cycles| cycles > 0.0), "{cycles:?}");
    front.quit().unwrap();
    back.quit().unwrap();
}

macro_rules! rows {
    ($($test:ident: $tx:literal $rx:literal $($flag:literal)*;)*) => {$(
        #[test]
        fn $test() {
            let paths = [concat!($tx, " Tx"), concat!($rx, " Rx")];
            let has = |flag: &str| [$($flag),*].contains(&flag);
            serves(&Row {
                name: stringify!($test),
                packed: has("packed"),
                in_order: has("in_order"),
                mergeable: has("mergeable"),
                vectorized: has("vectorized"),
                paths,
            });
        }
    )*};
}

rows! {
    split: "standard" "standard";
    split_mergeable: "standard" "mergeable buffer" "mergeable";
    split_in_order: "inorder" "inorder" "in_order";
    split_in_order_mergeable: "inorder" "inorder" "in_order" "mergeable";
    split_vectorized: "standard" "vectorized" "vectorized";
    packed: "packed ring standard" "packed ring standard" "packed";
    packed_mergeable: "packed ring standard" "packed ring mergeable buffer" "packed" "mergeable";
    packed_in_order: "packed ring standard" "packed ring standard" "packed" "in_order";
    packed_in_order_mergeable: "packed ring standard" "packed ring mergeable buffer" "packed" "in_order" "mergeable";
    packed_vectorized: "packed ring vectorized" "packed ring vectorized" "packed" "in_order" "vectorized";
    packed_vectorized_mergeable:
        "packed ring vectorized" "packed ring mergeable buffer" "packed" "in_order" "vectorized" "mergeable";
}
