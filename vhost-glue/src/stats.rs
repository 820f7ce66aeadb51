//! What other threads can see of a device.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_filter::{RxFilterStats, SpoofStats};
use virtio_net_core::Features;
use virtio_net_core::ctrl::CtrlStats;
use virtio_net_core::rx::RxStats;
use virtio_net_core::tx::TxStats;
use virtio_ring::RingError;

/// One ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingStats {
    /// Entries; 0 if the ring was never started.
    pub size: u16,
    /// It is started.
    pub started: bool,
    /// It is enabled.
    pub enabled: bool,
    /// Kicks received. They are counted when the worker looks, so kicks while it was polling count as well.
    pub kicks: u64,
    /// Calls sent.
    pub calls: u64,
    /// What stopped it, if the driver broke it.
    pub fault: Option<RingError>,
}

/// One queue pair. Counters are of one session, from its beginning on. While frames flow they are brought up to date every
/// few milliseconds, and at once when the pair has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PairStats {
    /// The transmit ring.
    pub tx_ring: RingStats,
    /// What went through it.
    pub tx: TxStats,
    /// The receive ring.
    pub rx_ring: RingStats,
    /// What went through it.
    pub rx: RxStats,
    /// Received frames that the guest did not want, by reason.
    pub filter: RxFilterStats,
    /// Frames that the guest may not send, by reason.
    pub spoof: SpoofStats,
    /// How often it slept, with nothing to do.
    pub sleeps: u64,
    /// What its worker spent on it: cycles of the time stamp counter on x86-64, nanoseconds elsewhere, of rounds in which
    /// something was done. Rounds that find nothing do not count, nor do sleeps.
    pub busy_cycles: u64,
}

/// A device at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Sessions begun.
    pub sessions: u64,
    /// A front end is connected.
    pub connected: bool,
    /// Features that the driver acknowledged, once it has.
    pub features: Option<Features>,
    /// vhost-user protocol features that the front end acknowledged.
    pub protocol_features: u64,
    /// Requests refused.
    pub refusals: u64,
    /// Memory regions mapped.
    pub regions: usize,
    /// The control ring.
    pub control_ring: RingStats,
    /// Its commands, since the ring was started last.
    pub control: CtrlStats,
    /// The queue pairs.
    pub pairs: Vec<PairStats>,
}

#[derive(Debug, Default)]
struct Cells {
    session: Mutex<Snapshot>,
    pairs: Vec<Arc<Mutex<PairStats>>>,
}

/// Reads the statistics of a device from any thread, while it serves or not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stats {
    cells: Arc<Cells>,
}

/// Statistics are plain numbers: a panic elsewhere leaves none of them in between.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stats {
    pub(crate) fn new(pairs: u16) -> Self {
        let pairs = (0..pairs).map(|_| Arc::default()).collect();
        Self { cells: Arc::new(Cells { session: Mutex::default(), pairs }) }
    }

    /// The statistics of the session that runs, or of the last one. Each pair is consistent by itself.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = lock(&self.cells.session).clone();
        snapshot.pairs = self.cells.pairs.iter().map(|pair| *lock(pair)).collect();
        snapshot
    }

    /// Changes what belongs to no pair.
    pub(crate) fn session(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut lock(&self.cells.session));
    }

    /// A session begins: all counters at 0.
    pub(crate) fn begin(&self) {
        let mut session = lock(&self.cells.session);
        *session = Snapshot { sessions: session.sessions.wrapping_add(1), connected: true, ..Snapshot::default() };
        for pair in &self.cells.pairs {
            *lock(pair) = PairStats::default();
        }
    }

    /// True if the driver broke a ring of this session.
    pub(crate) fn is_broken(&self) -> bool {
        self.cells.pairs.iter().any(|pair| {
            let pair = lock(pair);
            pair.tx_ring.fault.or(pair.rx_ring.fault).is_some()
        }) || lock(&self.cells.session).control_ring.fault.is_some()
    }

    /// The driver begins anew: what it broke does not count any more.
    pub(crate) fn mend(&self) {
        for pair in &self.cells.pairs {
            let mut pair = lock(pair);
            (pair.tx_ring.fault, pair.rx_ring.fault) = (None, None);
        }
        lock(&self.cells.session).control_ring.fault = None;
    }

    /// Where the worker of a pair publishes.
    pub(crate) fn pair(&self, pair: usize) -> Arc<Mutex<PairStats>> {
        self.cells.pairs.get(pair).cloned().unwrap_or_default()
    }
}

/// One pair's numbers.
pub(crate) fn read(cell: &Mutex<PairStats>) -> PairStats {
    *lock(cell)
}

/// Writes one pair's numbers.
pub(crate) fn publish(cell: &Mutex<PairStats>, change: impl FnOnce(&mut PairStats)) {
    change(&mut lock(cell));
}

macro_rules! sum {
    ($(#[$doc:meta])* $name:ident, $type:ident { $($field:ident),* $(,)? }) => {
        $(#[$doc])*
        pub(crate) fn $name(a: &$type, b: &$type) -> $type {
            $type { $($field: a.$field.wrapping_add(b.$field)),* }
        }
    };
}

sum!(/// What two transmit pumps of a ring did.
sum_tx, TxStats {
    frames, bytes, bursts, calls, filtered, failed, bad_frames, bad_chains, needs_csum, gso_frames, gso_bytes,
});
sum!(/// What two receive pumps of a ring did.
sum_rx, RxStats {
    frames, bytes, buffers, bursts, calls, filtered, dropped, too_long, no_room, bad_chains, data_valid, needs_csum,
    gso_frames, gso_bytes, steered, lost,
});
