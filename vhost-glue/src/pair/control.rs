//! The control queue, which the first pair's worker serves.

use virtio_net_core::ctrl::{CtrlPump, CtrlStats};
use virtio_ring::{DeviceRing, QueueConfig, QueueState, RingError};

use super::line::{Line, Setup};
use super::shared::Control;
use crate::memory::Memory;

/// Commands that are carried out before the frames have their turn.
const BUDGET: usize = 16;

/// What came of serving it.
#[derive(Clone, Copy, Default)]
pub(super) struct Served {
    /// Something was done.
    pub(super) any: bool,
    /// A command is not in force everywhere yet.
    pub(super) settling: bool,
}

/// A running control ring.
#[derive(Debug)]
pub(super) struct CtrlHalf {
    pub(super) line: Line,
    pump: CtrlPump<Memory>,
}

impl CtrlHalf {
    pub(super) fn start(mem: &Memory, setup: Setup, control: &Control) -> Result<Self, RingError> {
        let line = Line::start(mem, setup)?;
        control.begin();
        Ok(Self { line, pump: CtrlPump::new(mem.clone()) })
    }

    pub(super) const fn stats(&self) -> &CtrlStats {
        self.pump.stats()
    }

    /// Carries out what there is. A disabled ring keeps its commands.
    pub(super) fn serve(&mut self, control: &mut Control) -> Served {
        if !self.line.enabled || !self.line.is_sound() {
            return Served::default();
        }
        match self.pump.pump(&mut self.line.ring, control, BUDGET) {
            Ok(outcome) => {
                self.line.notify(outcome.notify);
                Served { any: outcome.chains > 0, settling: outcome.settling }
            }
            Err((error, notify)) => {
                self.line.fail(error, notify);
                Served { any: true, settling: false }
            }
        }
    }

    pub(super) fn enable(&mut self, on: bool) {
        self.line.enabled = on;
        self.line.kicked = true;
        if !on {
            self.pump.chains().rewind(&mut self.line.ring);
        }
    }

    pub(super) fn stop(mut self) -> QueueState {
        self.line.stop(self.pump.chains())
    }

    pub(super) fn remap(&mut self, mem: &Memory, config: &QueueConfig) -> Result<(), RingError> {
        self.line.reopen(self.pump.chains(), mem, config)
    }

    pub(super) fn rest(&mut self) -> bool {
        !self.line.enabled || !self.line.is_sound() || self.line.ring.arm()
    }
}
