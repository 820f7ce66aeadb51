//! A queue pair that runs: its two rings, its pumps, its queue of the host end; with pair 0, the control ring.
//!
//! It lives on a worker's thread, as its [`Seat`](crate::workers::Seat), and nothing else touches any of this.

mod control;
mod halves;
mod line;
mod turn;
mod wait;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use net_filter::{MacFilter, SpoofCheck};
use virtio_net_core::NetDevice;
use virtio_net_core::rx::RxStats;
use virtio_net_core::tx::TxStats;
use virtio_ring::{Notify, QueueConfig, QueueState, RingError};

use crate::memory::Memory;
use crate::port::PortQueue;
use crate::stats::{PairStats, Stats, read, sum_rx, sum_tx};
pub(crate) use control::Shared;
use control::{Control, CtrlHalf};
use halves::{RxHalf, TxHalf};
use line::Line;
pub(crate) use line::{Setup, Signals};

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
    /// The device with what the driver acknowledged.
    pub(crate) net: NetDevice,
    pub(crate) mac_filter: MacFilter,
    pub(crate) spoof_check: SpoofCheck,
    pub(crate) stats: Stats,
    pub(crate) cell: Arc<Mutex<PairStats>>,
    /// What is logged belongs to this, the embedder's word for the guest.
    pub(crate) span: tracing::Span,
    pub(crate) shared: Arc<Shared>,
}

/// One queue pair.
#[derive(Debug)]
pub(crate) struct Pair<Q> {
    plan: Plan<Q>,
    tx: Option<TxHalf>,
    rx: Option<RxHalf>,
    ctrl: Option<CtrlHalf>,
    control: Control,
    /// What rings that were stopped in this session did.
    tx_before: TxStats,
    rx_before: RxStats,
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
        Self {
            control: Control::new(plan.net.clone(), Arc::clone(&plan.shared)),
            plan,
            tx: None,
            rx: None,
            ctrl: None,
            tx_before: before.tx,
            rx_before: before.rx,
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
        match side {
            Side::Rx => self.rx = Some(RxHalf::start(mem, setup, self.plan.net.rx_format())?),
            Side::Tx => self.tx = Some(TxHalf::start(mem, setup, self.plan.net.tx_format())?),
            Side::Control => self.ctrl = Some(CtrlHalf::start(mem, setup, &self.control)?),
        }
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
            Side::Rx => self.rx.iter_mut().for_each(|rx| rx.enable(on)),
            Side::Tx => self.tx.iter_mut().for_each(|tx| tx.enable(on)),
            Side::Control => self.ctrl.iter_mut().for_each(|ctrl| ctrl.enable(on)),
        }
        self.changed();
    }

    /// Replaces the descriptors of a ring; those before are closed with their last user.
    pub(crate) fn set_signals(&mut self, side: Side, signals: Signals) {
        if let Some(line) = self.line(side) {
            line.signals = signals;
            // A kick may have gone to the descriptor before, and a call have found none.
            line.kicked = true;
            line.notify(Notify::Needed);
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

    /// Gives the host end's queue back. Rings that still run are left as they are.
    pub(crate) fn end(mut self) -> Q {
        drop((self.rx.take(), self.tx.take(), self.ctrl.take()));
        self.refresh_active();
        self.plan.port
    }

    /// Tells the host end whether it is in use, if that changed.
    fn refresh_active(&mut self) {
        let open = self.rx.as_ref().is_some_and(RxHalf::is_open);
        let active = open && self.plan.shared.uses(self.plan.pair);
        if active == self.active {
            return;
        }
        self.active = active;
        if let Err(e) = self.plan.port.set_active(active) {
            tracing::warn!(parent: &self.plan.span, "queue pair {}: host end is not switched: {e}", self.plan.pair);
        }
    }

    /// A job changed something.
    fn changed(&mut self) {
        self.refresh_active();
        self.show();
    }
}
