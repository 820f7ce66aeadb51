//! The worker's loop: serve until idle, poll for a while, arm, sleep.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::handle::Job;
use super::line::Line;
use super::{CtrlHalf, RxHalf, Side, TxHalf, Worker};
use crate::port::PortQueue;
use crate::stats::{RingStats, publish, sum_rx, sum_tx};

/// Short sleeps before polling is tried again.
const SKIPPED: u32 = 16;
/// How long a host end that fails is left alone.
const QUIET: Duration = Duration::from_millis(100);

impl<Q: PortQueue> Worker<Q> {
    /// Serves until it is told to quit; gives the port's queue back.
    pub(super) fn run(mut self, jobs: &Receiver<Job<Q>>) -> Q {
        let mut idle_since: Option<Instant> = None;
        loop {
            match jobs.try_recv() {
                Ok(job) => {
                    job(&mut self);
                    idle_since = None;
                }
                Err(TryRecvError::Empty) => {}
                // The control thread is gone: nothing can start or stop a ring any more.
                Err(TryRecvError::Disconnected) => self.quit = true,
            }
            if self.quit {
                drop((self.rx.take(), self.tx.take(), self.ctrl.take()));
                self.refresh_active();
                return self.plan.port;
            }
            if self.round() {
                idle_since = None;
                continue;
            }
            let since = *idle_since.get_or_insert_with(Instant::now);
            if self.skip_polls == 0 && since.elapsed() < self.plan.poll {
                std::hint::spin_loop();
            } else if self.may_sleep() {
                self.rest();
                idle_since = None;
            }
        }
    }

    /// Sleeps, and learns from it whether to poll before the next sleep.
    ///
    /// After polling in vain, the next [`SKIPPED`] idle times begin with a sleep, and only sleeps short enough for
    /// polling to have spared them count. So a guest that is slow costs no polling, nor does one that needs this very
    /// CPU to get on.
    fn rest(&mut self) {
        if self.skip_polls == 0 {
            self.skip_polls = SKIPPED;
        }
        let start = Instant::now();
        self.sleep();
        if start.elapsed() < self.plan.poll {
            self.skip_polls = self.skip_polls.saturating_sub(1);
        }
    }

    /// Gives every ring its turn; true if anything was done.
    fn round(&mut self) -> bool {
        self.refresh_active();
        let plan = &mut self.plan;
        let sent = self.tx.as_mut().is_some_and(|tx| tx.serve(&mut plan.port, &mut plan.spoof_check));
        let mut received = false;
        if self.active
            && self.is_port_awake()
            && let Some(rx) = &mut self.rx
        {
            let (done, error) = rx.serve(&mut self.plan.port, &mut self.plan.mac_filter);
            received = done;
            self.port_result(error, done);
        }
        let commanded = self.ctrl.as_mut().is_some_and(|ctrl| ctrl.serve(&mut self.control));
        let busy = sent || received || commanded;
        if busy {
            self.publish();
        }
        busy
    }

    /// False while a failing host end is left alone.
    pub(super) fn is_port_awake(&mut self) -> bool {
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.quiet_until = None;
        true
    }

    fn port_result(&mut self, error: Option<io::Error>, done: bool) {
        match error {
            Some(e) => {
                if !self.port_failed {
                    tracing::warn!("queue pair {}: host end fails: {e}", self.plan.pair);
                }
                self.port_failed = true;
                self.quiet();
            }
            None if done => self.port_failed = false,
            None => {}
        }
    }

    /// Leaves the host end alone for a while.
    pub(super) fn quiet(&mut self) {
        self.quiet_until = Instant::now().checked_add(QUIET);
    }

    /// Arms what can be armed; false if work came meanwhile.
    fn may_sleep(&mut self) -> bool {
        self.tx.as_mut().is_none_or(TxHalf::rest)
            && self.rx.as_mut().is_none_or(RxHalf::rest)
            && self.ctrl.as_mut().is_none_or(CtrlHalf::rest)
    }

    /// Lets other threads see the counters, and then the front end know of faults.
    pub(super) fn publish(&mut self) {
        publish(&self.plan.cell, |stats| {
            stats.sleeps = self.sleeps;
            stats.tx = self.tx.as_ref().map_or(self.tx_before, |tx| sum_tx(&self.tx_before, tx.stats()));
            stats.rx = self.rx.as_ref().map_or(self.rx_before, |rx| sum_rx(&self.rx_before, rx.stats()));
            show(self.tx.as_ref().map(|tx| &tx.line), &mut stats.tx_ring);
            show(self.rx.as_ref().map(|rx| &rx.line), &mut stats.rx_ring);
        });
        if let Some(ctrl) = &self.ctrl {
            self.plan.stats.session(|session| {
                session.control = *ctrl.stats();
                show(Some(&ctrl.line), &mut session.control_ring);
            });
        }
        for side in [Side::Rx, Side::Tx, Side::Control] {
            self.line(side).into_iter().for_each(Line::announce);
        }
    }
}

/// What is counted of a ring, and whether it runs at all.
fn show(line: Option<&Line>, to: &mut RingStats) {
    match line {
        Some(line) => *to = RingStats { enabled: line.enabled, ..line.stats },
        None => to.started = false,
    }
}
