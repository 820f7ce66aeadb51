//! Counters over all sessions.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use net_filter::{RxFilterStats, SpoofStats};
use vhost_glue::{PairStats, RingStats, Snapshot, Stats, WorkerStats, Workers};

/// Names of [`Way::drops`] on the way from the guest.
pub(crate) const TX_DROPS: [&str; 4] = ["spoofed", "not_sent", "bad_frame", "bad_chain"];
/// Names of [`Way::drops`] on the way to the guest.
pub(crate) const RX_DROPS: [&str; 5] = ["not_for_guest", "offload", "too_long", "no_room", "bad_chain"];
/// Names of [`Way::filtered`] on the way from the guest: what `spoofed` is made of.
pub(crate) const TX_FILTERED: [&str; 7] =
    ["foreign_mac", "foreign_ip", "arp", "neighbour", "dhcp", "fragment", "unreadable"];
/// Names of [`Way::filtered`] on the way to the guest: what `not_for_guest` is made of.
pub(crate) const RX_FILTERED: [&str; 4] = ["other_unicast", "other_multicast", "broadcast", "other_vlan"];

/// One direction of one queue pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Way {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) bursts: u64,
    pub(crate) kicks: u64,
    pub(crate) calls: u64,
    /// By reason: [`TX_DROPS`] or [`RX_DROPS`].
    pub(crate) drops: [u64; 5],
    /// What the filter rejected, by reason: [`TX_FILTERED`] or [`RX_FILTERED`].
    pub(crate) filtered: [u64; 7],
}

impl Way {
    fn with_ring(self, ring: &RingStats) -> Self {
        Self { kicks: ring.kicks, calls: ring.calls, ..self }
    }

    fn tx(pair: &PairStats) -> Self {
        let tx = &pair.tx;
        let drops = [tx.filtered, tx.failed, tx.bad_frames, tx.bad_chains, 0];
        let SpoofStats { too_short, group, foreign, foreign_ip, arp, neighbour, dhcp, fragment, unreadable } =
            pair.spoof;
        let foreign_mac = too_short.wrapping_add(group).wrapping_add(foreign);
        let filtered = [foreign_mac, foreign_ip, arp, neighbour, dhcp, fragment, unreadable];
        Self { frames: tx.frames, bytes: tx.bytes, bursts: tx.bursts, drops, filtered, ..Self::default() }
            .with_ring(&pair.tx_ring)
    }

    fn rx(pair: &PairStats) -> Self {
        let rx = &pair.rx;
        // Frames for a queue that does not run have no room either.
        let drops = [rx.filtered, rx.dropped, rx.too_long, rx.no_room.wrapping_add(rx.lost), rx.bad_chains];
        let RxFilterStats { too_short, other_unicast, other_multicast, no_broadcast, other_vlan } = pair.filter;
        let filtered = [other_unicast.wrapping_add(too_short), other_multicast, no_broadcast, other_vlan, 0, 0, 0];
        Self { frames: rx.frames, bytes: rx.bytes, bursts: rx.bursts, drops, filtered, ..Self::default() }
            .with_ring(&pair.rx_ring)
    }

    /// Applies `op` to each counter of both.
    fn zip(&self, other: &Self, op: fn(u64, u64) -> u64) -> Self {
        let (mut drops, mut filtered) = (self.drops, self.filtered);
        for (a, b) in drops.iter_mut().zip(other.drops).chain(filtered.iter_mut().zip(other.filtered)) {
            *a = op(*a, b);
        }
        Self {
            frames: op(self.frames, other.frames),
            bytes: op(self.bytes, other.bytes),
            bursts: op(self.bursts, other.bursts),
            kicks: op(self.kicks, other.kicks),
            calls: op(self.calls, other.calls),
            drops,
            filtered,
        }
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    /// What was added since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::wrapping_sub)
    }
}

/// One queue pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pair {
    pub(crate) tx: Way,
    pub(crate) rx: Way,
    /// In the unit of [`PairStats::busy_cycles`].
    pub(crate) busy_cycles: u64,
}

impl Pair {
    fn new(pair: &PairStats) -> Self {
        Self { tx: Way::tx(pair), rx: Way::rx(pair), busy_cycles: pair.busy_cycles }
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            tx: self.tx.plus(&other.tx),
            rx: self.rx.plus(&other.rx),
            busy_cycles: self.busy_cycles.wrapping_add(other.busy_cycles),
        }
    }
}

/// Everything of all guests at one moment.
#[derive(Clone, Debug)]
pub(crate) struct All {
    /// Seconds since the start.
    pub(crate) seconds: f64,
    pub(crate) workers: Vec<WorkerStats>,
    /// With their sockets.
    pub(crate) guests: Vec<(PathBuf, Totals)>,
}

/// The ledgers of all guests.
#[derive(Debug)]
pub(crate) struct Book {
    started: Instant,
    workers: Workers,
    ledgers: Vec<Arc<Ledger>>,
}

impl Book {
    pub(crate) fn new(ledgers: Vec<Arc<Ledger>>, workers: Workers) -> Self {
        Self { started: Instant::now(), workers, ledgers }
    }

    pub(crate) fn totals(&self) -> All {
        All {
            guests: self.ledgers.iter().map(|ledger| (ledger.socket.clone(), ledger.totals())).collect(),
            workers: self.workers.stats(),
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }
}

/// Everything of one guest at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) pairs: Vec<Pair>,
    /// What does not add up over sessions.
    pub(crate) now: Snapshot,
    /// Seconds since the start.
    pub(crate) seconds: f64,
}

/// The device counts from 0 in each session; this adds sessions up.
#[derive(Debug)]
pub(crate) struct Ledger {
    socket: PathBuf,
    stats: Stats,
    started: Instant,
    closed: Mutex<Closed>,
}

#[derive(Debug, Default)]
struct Closed {
    pairs: Vec<Pair>,
    /// Sessions that are in `pairs`.
    sessions: u64,
}

impl Ledger {
    pub(crate) fn new(socket: &Path, stats: Stats) -> Self {
        Self { socket: socket.to_owned(), stats, started: Instant::now(), closed: Mutex::default() }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// To be called after each session, before the next one.
    pub(crate) fn close_session(&self) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.stats.snapshot();
        *closed = Closed { pairs: add(&closed, &now), sessions: now.sessions };
    }

    pub(crate) fn totals(&self) -> Totals {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.stats.snapshot();
        Totals { pairs: add(&closed, &now), seconds: self.started.elapsed().as_secs_f64(), now }
    }
}

fn add(closed: &Closed, now: &Snapshot) -> Vec<Pair> {
    let open = now.sessions > closed.sessions;
    let pair = |(i, pair): (usize, &PairStats)| {
        let before = closed.pairs.get(i).copied().unwrap_or_default();
        if open { before.plus(&Pair::new(pair)) } else { before }
    };
    now.pairs.iter().enumerate().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(sessions: u64, frames: u64) -> Snapshot {
        let mut pair = PairStats::default();
        pair.tx.frames = frames;
        pair.tx_ring.kicks = 2 * frames;
        pair.rx.no_room = 3 * frames;
        pair.busy_cycles = 5 * frames;
        Snapshot { sessions, pairs: vec![pair], ..Snapshot::default() }
    }

    #[test]
    fn a_session_counts_once() {
        let mut closed = Closed::default();
        let open = snapshot(1, 5);
        assert_eq!(add(&closed, &open)[0].tx.frames, 5);
        closed = Closed { pairs: add(&closed, &open), sessions: 1 };
        assert_eq!(add(&closed, &open)[0].tx.frames, 5, "closed: not again");
        let total = add(&closed, &snapshot(2, 7))[0];
        assert_eq!((total.tx.frames, total.tx.kicks, total.rx.drops[3], total.busy_cycles), (12, 24, 36, 60));
        let rate = total.tx.since(&closed.pairs[0].tx);
        assert_eq!((rate.frames, rate.kicks), (7, 14));
    }
}
