//! The two rings of a pair with their pumps.

use std::io;

use virtio_net_core::backend::FrameSource;
use virtio_net_core::coalesce::CoalesceParams;
use virtio_net_core::rx::{RxFilter, RxFormat, RxPump, RxStats, RxStop};
use virtio_net_core::tx::{TxFilter, TxFormat, TxPump, TxStats, TxStop};
use virtio_ring::{DeviceRing, QueueConfig, QueueState, RingError};

use super::held::Held;
use super::line::{Line, Ring, Setup};
use crate::memory::Memory;
use crate::port::PortQueue;

/// Frames that a ring may move before the others have their turn.
pub(super) const BUDGET: u64 = 64;
/// Rounds of discarding that a ring gets when it is disabled.
const DISCARD_ROUNDS: usize = 256;

/// A running transmit ring.
#[derive(Debug)]
pub(crate) struct TxHalf {
    pub(super) line: Line,
    pump: TxPump<Memory>,
    /// The host end took less than there was.
    pub(super) busy: bool,
    /// It said that it has room again.
    pub(super) retry: bool,
    /// It said so and took nothing all the same: only time helps.
    pub(super) stalled: bool,
    pub(super) held: Held,
}

impl TxHalf {
    pub(super) fn start(mem: &Memory, setup: Setup, format: TxFormat) -> Result<Self, RingError> {
        let pump = TxPump::new(mem.clone(), format);
        let line = Line::start(mem, setup)?;
        Ok(Self { line, pump, busy: false, retry: false, stalled: false, held: Held::default() })
    }

    /// Holds calls back by these parameters.
    pub(super) fn moderate(&mut self, params: CoalesceParams, now: u64) {
        self.held.set(params, now, &mut self.line, &mut self.pump);
    }

    pub(super) const fn stats(&self) -> &TxStats {
        self.pump.stats()
    }

    /// Makes the call that is held back, if one is.
    pub(super) fn release(&mut self) {
        self.held.release(&mut self.line, &mut self.pump);
    }

    /// Makes the call that is held back if it is due, whether anything flows or not.
    pub(super) fn make_due(&mut self, now: impl Fn() -> u64) {
        if self.held.deadline().is_some() && self.held.is_due(now()) {
            self.release();
        }
    }

    /// Sends what there is; true if anything was done.
    pub(super) fn serve<Q: PortQueue>(
        &mut self,
        port: &mut Q,
        filter: &mut impl TxFilter,
        now: impl Fn() -> u64,
    ) -> bool {
        if !self.line.is_sound() {
            return false;
        }
        if !self.line.enabled {
            return self.line.kicked && self.discard();
        }
        self.line.ring.disarm();
        // The format is looked at once a burst.
        let pumped = match &mut self.line.ring {
            Ring::Split(ring) => self.pump.pump(ring, port, filter, BUDGET),
            Ring::Packed(ring) => self.pump.pump(ring, port, filter, BUDGET),
        };
        match pumped {
            Ok(outcome) => {
                self.line.notify(outcome.notify);
                self.stalled = outcome.chains == 0 && (self.stalled || self.retry);
                self.retry = false;
                self.busy = outcome.stop == TxStop::Busy;
                if self.held.is_on() {
                    self.held.note(outcome.chains, now(), &mut self.line, &mut self.pump);
                }
                outcome.chains > 0
            }
            Err((error, notify)) => {
                // Nothing is offered to the host end any more.
                (self.busy, self.retry, self.stalled) = (false, false, false);
                self.held.forget();
                self.line.fail(error, notify);
                true
            }
        }
    }

    /// A ring that is started but disabled: what there is is consumed and not sent. The ring is left alone until the
    /// next kick then: a driver may free a ring that it disabled.
    fn discard(&mut self) -> bool {
        match self.pump.discard(&mut self.line.ring, BUDGET) {
            Ok(outcome) => {
                self.line.notify(outcome.notify);
                let idle = outcome.stop == TxStop::Empty && !self.line.is_polled() && self.line.ring.arm();
                self.line.kicked = !idle;
                outcome.chains > 0
            }
            Err((error, notify)) => {
                self.line.fail(error, notify);
                true
            }
        }
    }

    /// Enables or disables it; `quiet`: nothing of the ring is touched now.
    pub(super) fn enable(&mut self, on: bool, quiet: bool) {
        if !on && !quiet {
            self.release();
        }
        self.line.enabled = on;
        self.line.kicked = true;
        self.busy = false;
        self.pump.hold_calls(on && self.held.is_on());
        for _ in 0..DISCARD_ROUNDS {
            if on || quiet || !self.line.kicked || !self.line.is_sound() || !self.discard() {
                return;
            }
        }
    }

    /// Gives back what is held. A disabled ring is not written to any more.
    pub(super) fn stop(mut self) -> QueueState {
        self.release();
        self.line.stop(self.pump.chains())
    }

    pub(super) fn remap(&mut self, mem: &Memory, config: &QueueConfig) -> Result<(), RingError> {
        self.release();
        self.line.reopen(self.pump.chains(), mem, config)
    }

    /// True if the worker may sleep as far as this ring is concerned.
    pub(super) fn rest(&mut self) -> bool {
        if !self.line.is_sound() || self.busy {
            return true;
        }
        if !self.line.enabled {
            return !self.line.kicked || self.line.is_polled();
        }
        self.line.ring.arm()
    }
}

/// A running receive ring.
#[derive(Debug)]
pub(crate) struct RxHalf {
    pub(super) line: Line,
    pump: RxPump<Memory>,
    /// The driver has to post buffers first.
    pub(super) starved: bool,
    pub(super) held: Held,
}

impl RxHalf {
    pub(super) fn start(mem: &Memory, setup: Setup, format: RxFormat) -> Result<Self, RingError> {
        let pump = RxPump::new(mem.clone(), setup.config.size, format);
        Ok(Self { line: Line::start(mem, setup)?, pump, starved: false, held: Held::default() })
    }

    /// Holds calls back by these parameters.
    pub(super) fn moderate(&mut self, params: CoalesceParams, now: u64) {
        self.held.set(params, now, &mut self.line, &mut self.pump);
    }

    /// Shows the driver other offloads, or asks for the queue of each frame.
    pub(super) fn set_format(&mut self, format: RxFormat) {
        self.pump.set_format(format);
    }

    pub(super) const fn stats(&self) -> &RxStats {
        self.pump.stats()
    }

    /// Makes the call that is held back, if one is.
    pub(super) fn release(&mut self) {
        self.held.release(&mut self.line, &mut self.pump);
    }

    /// Makes the call that is held back if it is due, whether anything flows or not.
    pub(super) fn make_due(&mut self, now: impl Fn() -> u64) {
        if self.held.deadline().is_some() && self.held.is_due(now()) {
            self.release();
        }
    }

    /// True if frames may be asked for.
    pub(super) fn is_open(&self) -> bool {
        self.line.enabled && self.line.is_sound()
    }

    /// Delivers what there is; true if anything was done, and what failed in the host end.
    pub(super) fn serve<S: FrameSource<Error = io::Error>>(
        &mut self,
        source: &mut S,
        filter: &mut impl RxFilter,
        now: impl Fn() -> u64,
    ) -> (bool, Option<io::Error>) {
        if !self.is_open() {
            return (false, None);
        }
        self.line.ring.disarm();
        let pumped = match &mut self.line.ring {
            Ring::Split(ring) => self.pump.pump(ring, source, filter, BUDGET),
            Ring::Packed(ring) => self.pump.pump(ring, source, filter, BUDGET),
        };
        match pumped {
            Ok(outcome) => {
                self.line.notify(outcome.notify);
                self.starved = outcome.stop == RxStop::NoBuffers;
                if self.held.is_on() {
                    self.held.note(outcome.frames, now(), &mut self.line, &mut self.pump);
                }
                // With its budget used up for buffers of no use it has to come again as well: the frame still waits.
                (outcome.frames > 0 || outcome.stop == RxStop::Budget, outcome.error)
            }
            Err((error, notify)) => {
                self.held.forget();
                self.line.fail(error, notify);
                (true, None)
            }
        }
    }

    /// As [`TxHalf::enable`].
    pub(super) fn enable(&mut self, on: bool, quiet: bool) {
        if !on && !quiet {
            self.release();
        }
        self.line.enabled = on;
        self.starved = false;
        self.pump.hold_calls(on && self.held.is_on());
        if !on && !quiet {
            // Nothing is to be in flight in a ring that the driver may free.
            self.pump.chains().rewind(&mut self.line.ring);
            let _ = self.line.ring.arm();
        }
    }

    /// As [`TxHalf::stop`].
    pub(super) fn stop(mut self) -> QueueState {
        self.release();
        self.line.stop(self.pump.chains())
    }

    pub(super) fn remap(&mut self, mem: &Memory, config: &QueueConfig) -> Result<(), RingError> {
        self.release();
        self.line.reopen(self.pump.chains(), mem, config)
    }

    /// True if the worker may sleep as far as this ring is concerned: kicks matter only while buffers are missing.
    pub(super) fn rest(&mut self) -> bool {
        !self.is_open() || !self.starved || self.line.ring.arm()
    }
}
