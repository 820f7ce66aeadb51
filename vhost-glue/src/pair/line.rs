//! What every running ring has, whatever flows through it: descriptors, counters, a fault.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use virtio_ring::{AnyDevice, Chains, DeviceRing, Format, MappedArea, Notify, QueueConfig, QueueState, RingError};

use crate::memory::{Mapping, Memory};
use crate::stats::RingStats;
use crate::stop::wake;

/// A ring of this crate.
pub(crate) type Ring = AnyDevice<MappedArea<Arc<Mapping>>>;

/// The descriptors of a ring.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Readable when the driver kicked; `None`: the ring is polled.
    pub(crate) kick: Option<Arc<OwnedFd>>,
    /// Written to call the driver; `None`: it polls.
    pub(crate) call: Option<Arc<OwnedFd>>,
    /// Written when the ring breaks.
    pub(crate) error: Option<Arc<OwnedFd>>,
}

/// All that is needed to start a ring.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) index: usize,
    pub(crate) format: Format,
    pub(crate) config: QueueConfig,
    pub(crate) state: QueueState,
    pub(crate) signals: Signals,
    pub(crate) enabled: bool,
    /// What is logged belongs to this.
    pub(crate) span: tracing::Span,
}

/// A running ring and its descriptors.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) ring: Ring,
    pub(crate) signals: Signals,
    pub(crate) enabled: bool,
    /// The driver kicked, or may have, since the ring was last found empty.
    pub(crate) kicked: bool,
    pub(crate) stats: RingStats,
    index: usize,
    span: tracing::Span,
    /// It has a fault that was not signalled yet.
    unannounced: bool,
}

impl Line {
    /// Starts a ring. Whatever kicks came before are honoured: the ring is looked at once in any case.
    pub(crate) fn start(mem: &Memory, setup: Setup) -> Result<Self, RingError> {
        let ring = Ring::resume(mem, setup.format, &setup.config, setup.state)?;
        let stats = RingStats { size: ring.size(), started: true, enabled: setup.enabled, ..RingStats::default() };
        let Setup { index, signals, enabled, state, span, .. } = setup;
        // Whoever served the ring before may have gone between completing buffers and calling.
        if let Some(fd) = signals.call.as_ref().filter(|_| state != setup.format.start()) {
            wake(fd.as_fd());
        }
        Ok(Self { ring, signals, enabled, kicked: true, stats, index, span, unannounced: false })
    }

    /// Gives back what is held, leaves the ring to whoever serves it next, and says where it stands.
    pub(crate) fn stop(mut self, held: &mut Chains<Memory>) -> QueueState {
        held.rewind(&mut self.ring);
        self.leave();
        self.ring.state()
    }

    /// Gives back what is held and opens the ring anew in another memory map, where it stands.
    ///
    /// A ring that the driver broke stays as it is, broken, until it is set up anew.
    pub(crate) fn reopen(
        &mut self,
        held: &mut Chains<Memory>,
        mem: &Memory,
        config: &QueueConfig,
    ) -> Result<(), RingError> {
        held.remap(&mut self.ring, mem.clone());
        if !self.is_sound() {
            return Ok(());
        }
        self.ring = Ring::new(mem, self.ring.format(), config, self.ring.state())?;
        self.kicked = true;
        Ok(())
    }

    /// Leaves the ring to whoever serves it next, with kicks wanted. A disabled ring was left so already, and the
    /// driver may have freed it since.
    fn leave(&mut self) {
        if self.enabled && self.is_sound() {
            let _ = self.ring.arm();
        }
    }

    /// True if the ring can still be served.
    pub(crate) fn is_sound(&self) -> bool {
        self.ring.fault().is_none()
    }

    /// True if there is no descriptor to wait for kicks at.
    pub(crate) const fn is_polled(&self) -> bool {
        self.signals.kick.is_none()
    }

    /// The kick descriptor is ready, for whatever reason.
    pub(crate) fn take_kick(&mut self) {
        self.kicked = true;
        let mut count = [0; 8];
        let read = self.signals.kick.as_ref().map(|fd| rustix::io::read(fd, &mut count));
        match read {
            Some(Ok(8)) => self.stats.kicks = self.stats.kicks.wrapping_add(u64::from_ne_bytes(count)),
            Some(Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)) | None => {}
            // No event descriptor, or its other end is gone: it would be ready for ever.
            Some(_) => self.no_kicks(),
        }
    }

    /// The kick descriptor tells nothing: the ring is looked at by the clock.
    pub(crate) fn no_kicks(&mut self) {
        tracing::warn!(parent: &self.span, "ring {}: the kick descriptor is of no use; the ring is polled", self.index);
        self.signals.kick = None;
    }

    /// Calls the driver if it wants that.
    pub(crate) fn notify(&mut self, notify: Notify) {
        if notify.is_needed()
            && let Some(fd) = &self.signals.call
        {
            self.stats.calls = self.stats.calls.wrapping_add(1);
            wake(fd.as_fd());
        }
    }

    /// The driver broke the ring: it stops, and everything else goes on.
    pub(crate) fn fail(&mut self, error: RingError, notify: Notify) {
        self.notify(notify);
        self.stats.fault = Some(error);
        self.unannounced = true;
        tracing::warn!(parent: &self.span, "ring {}: {error}; it is stopped until it is set up anew", self.index);
    }

    /// True if there is a fault that was not signalled yet.
    pub(crate) const fn has_news(&self) -> bool {
        self.unannounced
    }

    /// Signals a fault, once, when everybody can see it.
    pub(crate) fn announce(&mut self) {
        if std::mem::take(&mut self.unannounced)
            && let Some(fd) = &self.signals.error
        {
            wake(fd.as_fd());
        }
    }
}
