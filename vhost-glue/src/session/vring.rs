//! What the front end has said of a ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_net_core::QueueRole;
use virtio_ring::QueueState;

use crate::pair::Signals;

/// How the driver kicks.
#[derive(Clone, Debug, Default)]
pub(super) enum Kick {
    /// Not said yet, or the ring was stopped since: it does not run.
    #[default]
    Unset,
    /// Not at all: the ring is polled.
    Polled,
    /// By this descriptor.
    Event(Arc<OwnedFd>),
}

/// Addresses of the three areas in the front end's process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) desc: u64,
    pub(super) avail: u64,
    pub(super) used: u64,
}

/// One ring. Nothing here is read by a running ring: its worker has a copy.
#[derive(Debug, Default)]
pub(super) struct Vring {
    /// Entries; 0: not said yet.
    pub(super) size: u16,
    pub(super) addresses: Option<Addresses>,
    /// Where the ring begins when it is started, or stood when it was stopped; `None`: at its beginning.
    pub(super) base: Option<QueueState>,
    pub(super) kick: Kick,
    pub(super) call: Option<Arc<OwnedFd>>,
    pub(super) error: Option<Arc<OwnedFd>>,
    /// What `SET_VRING_ENABLE` said, if it came.
    pub(super) enabled: Option<bool>,
    /// It was stopped because its areas left the memory table, and starts again when they are back.
    pub(super) suspended: bool,
    /// A worker serves it, as this.
    pub(super) running: Option<QueueRole>,
}

impl Vring {
    pub(super) fn signals(&self) -> Signals {
        let kick = match &self.kick {
            Kick::Event(fd) => Some(Arc::clone(fd)),
            Kick::Unset | Kick::Polled => None,
        };
        Signals { kick, call: self.call.clone(), error: self.error.clone() }
    }

    /// As at the beginning, but for the descriptors that go to the driver: no front end sends them again.
    pub(super) fn reset(&mut self) {
        *self = Self { call: self.call.take(), error: self.error.take(), ..Self::default() };
    }
}
