//! What the queue pairs of a session share: the device, and the way of its settings to all of them.
//!
//! The control queue's commands change the device's settings under a lock. Every pair adopts the new ones at the start of
//! its next round and says so, and only then is the command's buffer used: from that moment on no frame is treated by the
//! settings before. Pairs that sleep are woken for it. On the way of a frame this costs one load of a number that
//! nobody writes meanwhile, once a round.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use virtio_net_core::ctrl::{Ack, Counters, CtrlHandler, Reply, RxCounters, TxCounters};
use virtio_net_core::{NetDevice, NetHeader, Settings};

use super::inbox::Inbox;
use super::learn::Learner;
use crate::stats::{PairStats, Stats, read};
use crate::workers::Bell;

/// What the pairs of a session share.
#[derive(Debug)]
pub(crate) struct Shared {
    net: Mutex<NetDevice>,
    /// Goes up with every change of the settings.
    generation: AtomicU64,
    seats: Vec<Seat>,
    /// Learns the guest's address, if that is to be known.
    learner: Option<Arc<Learner>>,
    /// Wakes each of them, once all are there.
    bells: OnceLock<Vec<Bell>>,
}

/// What others need of one pair.
#[derive(Debug, Default)]
struct Seat {
    /// The generation of settings that it goes by.
    adopted: AtomicU64,
    inbox: Inbox,
}

/// Settings to go by.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) generation: u64,
    pub(super) settings: Arc<Settings>,
    pub(super) rx: virtio_net_core::rx::RxFormat,
    /// Queue pairs that the driver uses; all of them while no control queue says otherwise.
    pub(super) pairs: u16,
}

impl Shared {
    /// For this device with so many pairs.
    pub(crate) fn new(net: NetDevice, pairs: u16, learner: Option<Arc<Learner>>) -> Self {
        let seats = (0..pairs).map(|_| Seat::default()).collect();
        Self { net: Mutex::new(net), generation: AtomicU64::new(1), seats, learner, bells: OnceLock::new() }
    }

    /// All pairs are there. To be called once.
    pub(crate) fn complete(&self, bells: Vec<Bell>) {
        let _ = self.bells.set(bells);
    }

    /// The device. A panic elsewhere leaves it as one command or none would.
    pub(crate) fn net(&self) -> MutexGuard<'_, NetDevice> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the device; tells the pairs if that changed what they go by.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut NetDevice) -> R) -> R {
        let mut net = self.net();
        let before = (net.settings(), net.active_pairs());
        let result = change(&mut net);
        if !Arc::ptr_eq(&before.0, &net.settings()) || before.1 != net.active_pairs() {
            // Under the lock: whoever sees the number finds these settings.
            self.generation.fetch_add(1, Ordering::Release);
            self.bells.get().into_iter().flatten().for_each(Bell::ring);
        }
        result
    }

    /// The settings to go by, if they are others than those of `generation`.
    #[inline]
    pub(super) fn news(&self, generation: u64) -> Option<Adopted> {
        if self.generation.load(Ordering::Acquire) == generation {
            return None;
        }
        Some(self.current())
    }

    /// The settings of now.
    pub(super) fn current(&self) -> Adopted {
        let net = self.net();
        let mut rx = net.rx_format();
        // Whoever learns has to see every frame whole.
        rx.steered |= self.learner.is_some();
        Adopted {
            generation: self.generation.load(Ordering::Acquire),
            settings: net.settings(),
            rx,
            pairs: net.active_pairs(),
        }
    }

    /// A pair goes by the settings of `generation` from now on.
    pub(super) fn adopted(&self, pair: usize, generation: u64) {
        if let Some(seat) = self.seats.get(pair) {
            seat.adopted.store(generation, Ordering::Release);
        }
        // The first one serves the control queue, and may wait for this.
        if pair != 0 {
            self.ring(0);
        }
    }

    /// True if all pairs go by the settings of now.
    pub(super) fn is_settled(&self) -> bool {
        let generation = self.generation.load(Ordering::Acquire);
        // As long as not all of them are there, none is served.
        self.bells.get().is_none() || self.seats.iter().all(|s| s.adopted.load(Ordering::Acquire) >= generation)
    }

    /// Who learns the guest's address, if anybody does.
    #[inline]
    pub(super) fn learner(&self) -> Option<&Learner> {
        self.learner.as_deref()
    }

    fn ring(&self, pair: usize) {
        self.bells.get().and_then(|bells| bells.get(pair)).into_iter().for_each(Bell::ring);
    }

    /// Where frames for a pair wait that came to another one.
    pub(super) fn inbox(&self, pair: usize) -> Option<&Inbox> {
        self.seats.get(pair).map(|seat| &seat.inbox)
    }

    /// Gives a frame to another pair. False: its receive ring does not run, or too many wait there.
    pub(super) fn hand_over(&self, pair: u16, header: &NetHeader, frame: &virtio_net_core::rx::Carried<'_>) -> bool {
        let pair = usize::from(pair);
        let Some(first) = self.inbox(pair).and_then(|inbox| inbox.put(header, frame)) else { return false };
        if first {
            self.ring(pair);
        }
        true
    }
}

/// Carries commands out. Survives the control ring: what the driver commanded is in force while it runs.
#[derive(Debug)]
pub(super) struct Control {
    shared: Arc<Shared>,
    stats: Stats,
}

impl Control {
    pub(super) const fn new(shared: Arc<Shared>, stats: Stats) -> Self {
        Self { shared, stats }
    }

    /// A control ring is here.
    pub(super) fn begin(&self) {
        self.shared.change(NetDevice::begin_commands);
    }
}

impl CtrlHandler for Control {
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8], reply: &mut Reply) -> Ack {
        self.shared.change(|net| net.commands(&Published(&self.stats)).handle(class, cmd, data, reply))
    }

    fn is_settled(&mut self) -> bool {
        self.shared.is_settled()
    }
}

/// The counters as their pairs published them last.
struct Published<'a>(&'a Stats);

impl Published<'_> {
    fn pair(&self, pair: u16) -> PairStats {
        read(&self.0.pair(pair.into()))
    }
}

impl Counters for Published<'_> {
    fn rx(&self, pair: u16) -> RxCounters {
        let PairStats { rx_ring, rx, .. } = self.pair(pair);
        RxCounters { notifications: rx_ring.kicks, interrupts: rx_ring.calls, pump: rx }
    }

    fn tx(&self, pair: u16) -> TxCounters {
        let PairStats { tx_ring, tx, .. } = self.pair(pair);
        TxCounters { notifications: tx_ring.kicks, interrupts: tx_ring.calls, pump: tx }
    }
}
