//! The control queue, which the first pair's worker serves.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use virtio_net_core::NetDevice;
use virtio_net_core::ctrl::{Ack, CtrlHandler, CtrlPump, CtrlStats};
use virtio_ring::{DeviceRing, QueueConfig, QueueState, RingError};

use super::line::{Line, Setup};
use crate::memory::Memory;
use crate::workers::Bell;

/// Commands that are carried out before the frames have their turn.
const BUDGET: usize = 16;

/// What the pairs of a session share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Queue pairs that the driver uses; all of them while no control queue says otherwise.
    pairs: AtomicU16,
    /// Wakes each of them, once all are there.
    bells: OnceLock<Vec<Bell>>,
}

impl Shared {
    pub(crate) const fn new() -> Self {
        Self { pairs: AtomicU16::new(u16::MAX), bells: OnceLock::new() }
    }

    /// All pairs are there. To be called once.
    pub(crate) fn complete(&self, bells: Vec<Bell>) {
        let _ = self.bells.set(bells);
    }

    /// True if the driver uses this pair.
    #[inline]
    pub(super) fn uses(&self, pair: usize) -> bool {
        pair < usize::from(self.pairs.load(Ordering::Relaxed))
    }

    fn use_pairs(&self, pairs: u16) {
        if self.pairs.swap(pairs, Ordering::Relaxed) != pairs {
            self.bells.get().into_iter().flatten().for_each(Bell::ring);
        }
    }
}

/// Carries commands out. Survives the control ring: what the driver commanded is in force while it runs.
#[derive(Debug)]
pub(super) struct Control {
    net: NetDevice,
    shared: Arc<Shared>,
}

impl Control {
    pub(super) const fn new(net: NetDevice, shared: Arc<Shared>) -> Self {
        Self { net, shared }
    }
}

impl CtrlHandler for Control {
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8]) -> Ack {
        let ack = self.net.handle(class, cmd, data);
        self.shared.use_pairs(self.net.enabled_pairs());
        ack
    }
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
        control.shared.use_pairs(control.net.enabled_pairs());
        Ok(Self { line, pump: CtrlPump::new(mem.clone()) })
    }

    pub(super) const fn stats(&self) -> &CtrlStats {
        self.pump.stats()
    }

    /// Carries out what there is; true if anything was done. A disabled ring keeps its commands.
    pub(super) fn serve(&mut self, control: &mut Control) -> bool {
        if !self.line.enabled || !self.line.is_sound() {
            return false;
        }
        match self.pump.pump(&mut self.line.ring, control, BUDGET) {
            Ok(outcome) => {
                self.line.notify(outcome.notify);
                outcome.chains > 0
            }
            Err((error, notify)) => {
                self.line.fail(error, notify);
                true
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
