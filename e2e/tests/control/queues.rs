//! `ethtool -L`, `-x`, `-X`, `-N`, `-K rxhash`, `-S`: which queue a frame goes by, and which hash it brings.

use crate::support::frames::{Flow, SENDER, TCP, UDP, plain, toeplitz};
use crate::support::rig::{OWN, Rig};
use crate::{boot, config};
use e2e::agent::{Marked, frame::number};
use std::collections::BTreeSet;
use virtio_net_core::NetHeader;

/// Queue pairs of the device.
const PAIRS: u16 = 4;

/// The queue by which a frame that the port gives to `pair` arrives.
fn queue_of(rig: &mut Rig, pair: usize) -> Option<u32> {
    let one = rig.numbers(1).start;
    rig.served.wire.give(pair, NetHeader::NONE, vec![plain(OWN, &[], one)]);
    rig.frames(&format!("frames {one}")).last().unwrap().queue
}

/// The pairs by which frames of many flows leave.
fn pairs_used(rig: &mut Rig) -> BTreeSet<usize> {
    let numbers = rig.numbers(16);
    let last = numbers.end - 1;
    for one in numbers {
        let mut frame = flow(UDP, 4, one as u16).frame(SENDER, one);
        frame[6..12].copy_from_slice(&OWN);
        rig.send(&frame);
    }
    let sent = rig.served.wire.sent_until("the last flow", |sent| number(&sent.frame) == Some(last));
    sent.iter().filter(|sent| number(&sent.frame).is_some()).map(|sent| sent.pair).collect()
}

pub(crate) fn n63_n64_the_queues_in_use_are_those_of_ethtool(packed: bool) {
    let Some(mut rig) = boot("channels", config(packed, PAIRS), &["MQ"]) else { return };
    // One processor, so the driver begins with one pair.
    assert_eq!(rig.served.wire.active(), [true, false, false, false]);
    assert_eq!(pairs_used(&mut rig), BTreeSet::from([0]));
    rig.run("ethtool -L eth0 combined 4");
    assert_eq!(rig.served.wire.active(), [true; 4]);
    assert_eq!([0, 1, 2, 3].map(|pair| queue_of(&mut rig, pair)), [0, 1, 2, 3].map(Some));
    assert!(pairs_used(&mut rig).len() > 1, "16 flows by one pair of four");
    let counters = rig.run("ethtool -S eth0");
    for queue in 0..PAIRS {
        // Its own counters: the driver asks the device for some from Linux 6.10 on.
        let line = counters.lines().find_map(|l| l.trim().strip_prefix(&format!("rx_queue_{queue}_packets: ")));
        assert_ne!(line.unwrap(), "0", "queue {queue}");
    }
    rig.run("ethtool -L eth0 combined 2");
    assert_eq!(rig.served.wire.active(), [true, true, false, false]);
    assert_eq!([0, 1].map(|pair| queue_of(&mut rig, pair)), [0, 1].map(Some));
    assert!(pairs_used(&mut rig).is_subset(&BTreeSet::from([0, 1])));
    assert!(rig.try_run("ethtool -L eth0 combined 5").status != 0.0);
    rig.end();
}

/// A flow from one of many addresses.
fn flow(protocol: u8, version: u8, n: u16) -> Flow {
    let (from, to) = match version {
        4 => (format!("192.0.2.{}:{}", n % 250, 1000 + n), "198.51.100.7:4000".to_owned()),
        _ => (format!("[2001:db8::{n:x}]:{}", 1000 + n), "[2001:db8:1::7]:4000".to_owned()),
    };
    Flow { protocol, from: from.parse().unwrap(), to: to.parse().unwrap() }
}

/// Eight flows of each kind.
fn flows() -> Vec<Flow> {
    let kinds = [(TCP, 4), (UDP, 4), (TCP, 6), (UDP, 6)];
    kinds.iter().flat_map(|(protocol, version)| (0..8).map(|n| flow(*protocol, *version, n))).collect()
}

/// What `ethtool -x` shows.
#[derive(Debug, PartialEq)]
struct Table {
    queues: Vec<u32>,
    key: Vec<u8>,
}

impl Table {
    fn read(rig: &mut Rig) -> Self {
        let text = rig.run("ethtool -x eth0");
        let row = |line: &str| {
            let (at, queues) = line.split_once(':')?;
            at.trim().parse::<usize>().ok()?;
            queues.split_ascii_whitespace().map(|q| q.parse::<u32>().ok()).collect::<Option<Vec<_>>>()
        };
        let queues = text.lines().filter_map(row).flatten().collect();
        let key = text.lines().find(|line| line.matches(':').count() == 39).unwrap();
        let key = key.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        Self { queues, key }
    }

    /// The hash of this flow, and the queue for it: without a table, the first.
    fn of(&self, flow: &Flow, ports: bool) -> (u32, u32) {
        let hash = toeplitz(&self.key, &flow.hashed(ports));
        (hash, (hash as usize).checked_rem(self.queues.len()).map_or(0, |slot| self.queues[slot]))
    }
}

/// All flows, by the port's first queue; in the order of [`flows`], how they arrived.
fn arrive(rig: &mut Rig) -> Vec<Marked> {
    let flows = flows();
    let numbers = rig.numbers(flows.len());
    let frames = flows.iter().zip(numbers.clone()).map(|(flow, number)| flow.frame(OWN, number)).collect();
    rig.served.wire.give(0, NetHeader::NONE, frames);
    let seen = rig.frames(&format!("count {}", flows.len()));
    numbers.map(|number| *seen.iter().find(|frame| frame.number == number).unwrap()).collect()
}

/// Every flow must have come by the queue that its hash says, with that hash. `ports` says for which flows those count.
fn steered(rig: &mut Rig, table: &Table, ports: impl Fn(&Flow) -> bool) {
    for (flow, seen) in flows().iter().zip(arrive(rig)) {
        let (hash, queue) = table.of(flow, ports(flow));
        assert_eq!((seen.hash, seen.queue), (Some(hash), Some(queue)), "{flow:?}");
    }
}

pub(crate) fn n66_n68_frames_go_where_ethtool_says_with_their_hashes(packed: bool) {
    let Some(mut rig) = boot("steering", config(packed, PAIRS), &["MQ", "RSS", "HASH_REPORT"]) else { return };
    rig.run("ethtool -L eth0 combined 4");
    // Nothing is asked for yet: no hash is reported.
    assert!(arrive(&mut rig).iter().all(|frame| frame.hash == Some(0)));

    rig.run("ethtool -K eth0 rxhash on");
    rig.run("ethtool -X eth0 equal 4");
    let table = Table::read(&mut rig);
    assert_eq!((table.queues.len() % 128, table.key.len()), (0, 40));
    assert_eq!(table.queues.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2, 3]));
    steered(&mut rig, &table, |_| true);

    rig.run("ethtool -X eth0 weight 1 0 0 3");
    let table = Table::read(&mut rig);
    assert_eq!(table.queues.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 3]));
    steered(&mut rig, &table, |_| true);

    // Another key, other hashes.
    let key: Vec<u8> = (0..40).map(|n| n * 5 + 1).collect();
    let words: Vec<String> = key.iter().map(|byte| format!("{byte:02x}")).collect();
    rig.run(&format!("ethtool -X eth0 hkey {}", words.join(":")));
    let table = Table::read(&mut rig);
    assert_eq!(table.key, key);
    steered(&mut rig, &table, |_| true);

    // Addresses alone for UDP over IPv4, and ports again.
    rig.run("ethtool -N eth0 rx-flow-hash udp4 sd");
    assert!(!rig.run("ethtool -n eth0 rx-flow-hash udp4").contains("L4"));
    steered(&mut rig, &table, |flow| flow.protocol != UDP || flow.from.is_ipv6());
    rig.run("ethtool -N eth0 rx-flow-hash udp4 sdfn");
    steered(&mut rig, &table, |_| true);

    // What has no flow goes to the first queue, without a hash.
    assert_eq!(queue_of(&mut rig, 0), Some(0));

    // Linux lets nobody take queues away that its table names; with fewer pairs, the device chooses among those.
    assert!(rig.try_run("ethtool -L eth0 combined 2").status != 0.0);
    rig.run("ethtool -X eth0 default");
    rig.run("ethtool -L eth0 combined 2");
    assert!(arrive(&mut rig).iter().all(|frame| frame.queue.is_some_and(|queue| queue < 2)));
    rig.run("ethtool -X eth0 equal 2");
    let table = Table::read(&mut rig);
    assert_eq!(table.queues.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
    steered(&mut rig, &table, |_| true);

    // No type is hashed then: every frame goes where those without a hash go, to the first queue.
    rig.run("ethtool -K eth0 rxhash off");
    assert!(arrive(&mut rig).iter().all(|frame| (frame.hash, frame.queue) == (Some(0), Some(0))));
    rig.end();
}

/// A device with one pair reports hashes all the same (`HASH_CONFIG` instead of `RSS_CONFIG`).
pub(crate) fn n68_hashes_without_a_choice_of_queues(packed: bool) {
    let Some(mut rig) = boot("hashes", config(packed, 1), &["HASH_REPORT"]) else { return };
    assert!(!rig.has("RSS"));
    assert!(arrive(&mut rig).iter().all(|frame| frame.hash == Some(0)));
    rig.run("ethtool -K eth0 rxhash on");
    let table = Table::read(&mut rig);
    assert_eq!((table.queues.len(), table.key.len()), (0, 40));
    steered(&mut rig, &table, |_| true);
    rig.run("ethtool -N eth0 rx-flow-hash tcp6 sd");
    steered(&mut rig, &table, |flow| flow.protocol != TCP || flow.from.is_ipv4());
    rig.run("ethtool -K eth0 rxhash off");
    assert!(arrive(&mut rig).iter().all(|frame| frame.hash == Some(0)));
    rig.end();
}
