//! A pair's turn: every ring is served within its budget, and what came of it is shown.

use std::io;
use std::time::{Duration, Instant};

use super::inbox::Fed;
use super::line::Line;
use super::{CtrlHalf, Pair, RxHalf, Side, TxHalf};
use crate::port::PortQueue;
use crate::stats::{RingStats, publish, sum_rx, sum_tx};

/// Rounds that a pair gets before it is suspended: a host end that always has more does not keep it from that.
const DRAIN_ROUNDS: usize = 64;
/// Commands that change something, carried out before the frames have their turn.
const COMMANDS: usize = 16;
/// How long a host end that fails is left alone.
const QUIET: Duration = Duration::from_millis(100);

impl<Q: PortQueue> Pair<Q> {
    /// Gives every ring its turn; true if anything was done.
    pub(super) fn serve(&mut self) -> bool {
        if self.suspended {
            return false;
        }
        self.adopt();
        if let Some(learner) = self.plan.shared.learner() {
            learner.expire();
        }
        let now = self.clock();
        self.tx.iter_mut().for_each(|tx| tx.make_due(now));
        self.rx.iter_mut().for_each(|rx| rx.make_due(now));
        let plan = &mut self.plan;
        let sent = self.tx.as_mut().is_some_and(|tx| tx.serve(&mut plan.port, &mut plan.spoof_check, now));
        let mut received = false;
        if self.active
            && self.is_port_awake()
            && let Some(rx) = &mut self.rx
            && let Some(inbox) = self.plan.shared.inbox(self.plan.pair)
        {
            let mut source = Fed { inbox, queue: &mut self.plan.port };
            let (done, error) = rx.serve(&mut source, &mut self.gate, now);
            received = done;
            self.port_result(error, done);
        }
        let commanded = self.command();
        if self.lines().any(Line::has_news) {
            self.show();
        }
        sent || received || commanded
    }

    /// Carries commands out; true if anything was done. What each changes this pair goes by at once.
    fn command(&mut self) -> bool {
        let mut any = false;
        for _ in 0..COMMANDS {
            let Some(ctrl) = &mut self.ctrl else { break };
            let served = ctrl.serve(&mut self.control);
            any |= served.any;
            if !served.settling {
                break;
            }
            self.adopt();
            if !self.plan.shared.is_settled() {
                // The last of the others that goes by it rings.
                break;
            }
        }
        any
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        let tx = self.tx.as_ref().map(|tx| &tx.line);
        let rx = self.rx.as_ref().map(|rx| &rx.line);
        let ctrl = self.ctrl.as_ref().map(|ctrl| &ctrl.line);
        [tx, rx, ctrl].into_iter().flatten()
    }

    /// Serves what the driver has made available, as long as the host end takes it, and makes every call that is held back.
    pub(super) fn drain(&mut self) {
        for _ in 0..DRAIN_ROUNDS {
            if !self.serve() {
                break;
            }
        }
        if let Some(tx) = &mut self.tx {
            tx.release();
        }
        if let Some(rx) = &mut self.rx {
            rx.release();
        }
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
                    tracing::warn!(parent: &self.plan.span, "queue pair {}: host end fails: {e}", self.plan.pair);
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
    pub(super) fn arm(&mut self) -> bool {
        if self.suspended {
            return true;
        }
        !self.has_mail()
            && self.tx.as_mut().is_none_or(TxHalf::rest)
            && self.rx.as_mut().is_none_or(RxHalf::rest)
            && self.ctrl.as_mut().is_none_or(CtrlHalf::rest)
    }

    /// True if frames wait that came to other pairs, and there are buffers for them.
    fn has_mail(&self) -> bool {
        self.active
            && self.quiet_until.is_none_or(|until| until <= Instant::now())
            && self.rx.as_ref().is_some_and(|rx| !rx.starved && rx.is_open())
            && self.plan.shared.inbox(self.plan.pair).is_some_and(|inbox| !inbox.is_empty())
    }

    /// Lets other threads see the counters, and then the front end know of faults.
    pub(super) fn show(&mut self) {
        publish(&self.plan.cell, |stats| {
            (stats.sleeps, stats.busy_cycles) = (self.sleeps, self.busy_cycles);
            stats.filter = *self.gate.stats();
            stats.spoof = *self.plan.spoof_check.stats();
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
