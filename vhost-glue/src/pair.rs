//! A queue pair that runs: its two rings, its pumps, its queue of the host end; with pair 0, the control ring.
//!
//! It lives on a worker's thread, as its [`Seat`](crate::workers::Seat), and nothing else touches any of this.

mod control;
mod halves;
mod held;
mod inbox;
mod learn;
mod line;
mod shared;
mod steer;
mod turn;
mod wait;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use net_filter::SpoofCheck;
use virtio_net_core::rx::RxStats;
use virtio_net_core::tx::{TxFormat, TxStats};
use virtio_ring::{Notify, QueueConfig, QueueState, RingError};

use crate::memory::Memory;
use crate::port::PortQueue;
use crate::stats::{PairStats, Stats, read, sum_rx, sum_tx};
use control::CtrlHalf;
use halves::{RxHalf, TxHalf};
pub(crate) use learn::Learner;
use line::Line;
pub(crate) use line::{Setup, Signals};
pub(crate) use shared::Shared;
use shared::{Adopted, Control};
use steer::Gate;

/// Which ring of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Rx,
    Tx,
    Control,
}

/// What a pair is made from.
#[derive(Debug)]
pub(crate) struct Plan<Q> {
    pub(crate) pair: usize,
    pub(crate) port: Q,
    /// A descriptor of the port's that stays open for as long as a worker may wait at it.
    pub(crate) port_fd: Option<Arc<OwnedFd>>,
    /// How the driver lays out what it sends.
    pub(crate) tx_format: TxFormat,
    pub(crate) spoof_check: SpoofCheck,
    pub(crate) stats: Stats,
    pub(crate) cell: Arc<Mutex<PairStats>>,
    /// What is logged belongs to this, the embedder's word for the guest.
    pub(crate) span: tracing::Span,
    pub(crate) shared: Arc<Shared>,
    /// The driver suspended the device.
    pub(crate) suspended: bool,
}

/// One queue pair.
#[derive(Debug)]
pub(crate) struct Pair<Q> {
    plan: Plan<Q>,
    tx: Option<TxHalf>,
    rx: Option<RxHalf>,
    ctrl: Option<CtrlHalf>,
    control: Control,
    gate: Gate,
    /// What the driver commanded, as this pair goes by it.
    adopted: Adopted,
    /// The beginning of its clock.
    epoch: Instant,
    /// What rings that were stopped in this session did.
    tx_before: TxStats,
    rx_before: RxStats,
    /// The driver suspended the device: no ring is touched.
    suspended: bool,
    /// What the host end was told last.
    active: bool,
    /// Until when a failing host end is left alone.
    quiet_until: Option<Instant>,
    /// The host end failed, and that was logged.
    port_failed: bool,
    /// The port's descriptor cannot be waited at: it is looked at by the clock.
    port_ticks: bool,
    sleeps: u64,
    busy_cycles: u64,
}

impl<Q: PortQueue> Pair<Q> {
    /// A pair whose rings do not run yet. It counts on from what its cell has.
    pub(crate) fn new(plan: Plan<Q>) -> Self {
        let before = read(&plan.cell);
        let adopted = plan.shared.current();
        let suspended = plan.suspended;
        plan.shared.adopted(plan.pair, adopted.generation);
        Self {
            control: Control::new(Arc::clone(&plan.shared), plan.stats.clone()),
            gate: Gate::new(plan.pair, Arc::clone(&plan.shared), Arc::clone(&adopted.settings)),
            adopted,
            epoch: Instant::now(),
            plan,
            tx: None,
            rx: None,
            ctrl: None,
            tx_before: before.tx,
            rx_before: before.rx,
            suspended,
            active: false,
            quiet_until: None,
            port_failed: false,
            port_ticks: false,
            sleeps: before.sleeps,
            busy_cycles: before.busy_cycles,
        }
    }

    fn line(&mut self, side: Side) -> Option<&mut Line> {
        match side {
            Side::Rx => self.rx.as_mut().map(|rx| &mut rx.line),
            Side::Tx => self.tx.as_mut().map(|tx| &mut tx.line),
            Side::Control => self.ctrl.as_mut().map(|ctrl| &mut ctrl.line),
        }
    }

    /// Starts a ring that is not running.
    pub(crate) fn start(&mut self, side: Side, mem: &Memory, setup: Setup) -> Result<(), RingError> {
        self.adopt();
        match side {
            Side::Rx => self.rx = Some(RxHalf::start(mem, setup, self.adopted.rx)?),
            Side::Tx => self.tx = Some(TxHalf::start(mem, setup, self.plan.tx_format)?),
            Side::Control => self.ctrl = Some(CtrlHalf::start(mem, setup, &self.control)?),
        }
        self.moderate();
        self.changed();
        Ok(())
    }

    /// Stops a ring and says where it stands.
    pub(crate) fn stop(&mut self, side: Side) -> Option<QueueState> {
        let state = match side {
            Side::Rx => self.rx.take().map(|rx| {
                self.rx_before = sum_rx(&self.rx_before, rx.stats());
                rx.stop()
            }),
            Side::Tx => self.tx.take().map(|tx| {
                self.tx_before = sum_tx(&self.tx_before, tx.stats());
                tx.stop()
            }),
            Side::Control => self.ctrl.take().map(CtrlHalf::stop),
        };
        self.changed();
        state
    }

    /// Enables or disables a ring.
    pub(crate) fn enable(&mut self, side: Side, on: bool) {
        match side {
            Side::Rx => self.rx.iter_mut().for_each(|rx| rx.enable(on, self.suspended)),
            Side::Tx => self.tx.iter_mut().for_each(|tx| tx.enable(on, self.suspended)),
            Side::Control => self.ctrl.iter_mut().for_each(|ctrl| ctrl.enable(on)),
        }
        self.changed();
    }

    /// Replaces the descriptors of a ring; those before are closed with their last user.
    pub(crate) fn set_signals(&mut self, side: Side, signals: Signals) {
        let suspended = self.suspended;
        if let Some(line) = self.line(side) {
            line.signals = signals;
            // A kick may have gone to the descriptor before, and a call have found none.
            line.kicked = true;
            if !suspended {
                line.notify(Notify::Needed);
            }
        }
    }

    /// Goes on in another memory map. The ring stops if its areas are not in it: then it says where it stands.
    pub(crate) fn remap(&mut self, side: Side, mem: &Memory, config: Option<QueueConfig>) -> Option<QueueState> {
        let moved = config.is_some_and(|config| {
            let moved = match side {
                Side::Rx => self.rx.as_mut().map(|rx| rx.remap(mem, &config)),
                Side::Tx => self.tx.as_mut().map(|tx| tx.remap(mem, &config)),
                Side::Control => self.ctrl.as_mut().map(|ctrl| ctrl.remap(mem, &config)),
            };
            matches!(moved, Some(Ok(())))
        });
        if moved { None } else { self.stop(side) }
    }

    /// Suspends it, once what is under way is done with and the driver is called for it, or lets it go on.
    pub(crate) fn set_suspended(&mut self, on: bool) {
        if on {
            self.drain();
        }
        self.suspended = on;
        for side in [Side::Rx, Side::Tx, Side::Control] {
            let Some(line) = self.line(side) else { continue };
            // What was kicked meanwhile was kicked in vain, and what was to be called for was not.
            line.kicked = true;
            if !on && line.enabled {
                line.notify(Notify::Needed);
            }
        }
        self.show();
    }

    /// Gives the host end's queue back. Rings that still run are left as they are.
    pub(crate) fn end(mut self) -> Q {
        drop((self.rx.take(), self.tx.take(), self.ctrl.take()));
        self.refresh_active();
        self.plan.port
    }

    /// Tells the host end whether it is in use, if that changed.
    fn refresh_active(&mut self) {
        let open = self.rx.as_ref().is_some_and(RxHalf::is_open);
        let active = open && self.plan.pair < usize::from(self.adopted.pairs);
        if active == self.active {
            return;
        }
        self.active = active;
        if let Some(rx) = self.rx.as_mut().filter(|_| !active) {
            rx.release();
        }
        if let Some(inbox) = self.plan.shared.inbox(self.plan.pair) {
            inbox.set_open(active);
        }
        if let Err(e) = self.plan.port.set_active(active) {
            tracing::warn!(parent: &self.plan.span, "queue pair {}: host end is not switched: {e}", self.plan.pair);
        }
    }

    /// Goes by what the driver commanded last, if that is news.
    #[inline]
    fn adopt(&mut self) {
        if let Some(news) = self.plan.shared.news(self.adopted.generation) {
            self.go_by(news);
        }
    }

    #[cold]
    fn go_by(&mut self, news: Adopted) {
        let before = std::mem::replace(&mut self.adopted, news);
        let settings = &self.adopted.settings;
        self.gate.adopt(Arc::clone(settings));
        if let Some(rx) = &mut self.rx {
            rx.set_format(self.adopted.rx);
        }
        // The host end has one state for all of its queues.
        if self.plan.pair == 0
            && settings.offloads != before.settings.offloads
            && let Err(e) = self.plan.port.set_offloads(settings.offloads)
        {
            tracing::warn!(parent: &self.plan.span, "queue pair {}: offloads are not switched: {e}", self.plan.pair);
        }
        self.moderate();
        self.refresh_active();
        self.plan.shared.adopted(self.plan.pair, self.adopted.generation);
    }

    /// Holds calls back as the driver commanded; those that are due by that are made.
    fn moderate(&mut self) {
        let now = self.clock()();
        let coalescing = &self.adopted.settings.coalescing;
        let index = (self.plan.pair as u16).wrapping_mul(2); // at most 254
        if let Some(rx) = &mut self.rx {
            rx.moderate(coalescing.queue(index), now);
        }
        if let Some(tx) = &mut self.tx {
            tx.moderate(coalescing.queue(index.wrapping_add(1)), now);
        }
    }

    /// Nanoseconds of its clock, asked for when they are needed and without the pair.
    fn clock(&self) -> impl Fn() -> u64 + Copy + use<Q> {
        let epoch = self.epoch;
        move || u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A job changed something.
    fn changed(&mut self) {
        self.refresh_active();
        self.show();
    }
}
