//! What an embedder holds: the network, and its queues.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use virtio_net_core::Features;
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;

use crate::config::{ConfigError, UserNetConfig};
use crate::offload::SUPPORTED;
use crate::stack::Stack;
use crate::stats::UserNetStats;

/// Called when frames wait for queue 0 that another queue's frames brought about.
type Wake = Box<dyn Fn() + Send + Sync>;

struct Shared {
    stack: Mutex<Stack>,
    wake: Option<Wake>,
}

impl Shared {
    fn stack(&self) -> MutexGuard<'_, Stack> {
        // A panic elsewhere leaves at worst a connection in an odd state: the guest's own.
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An embedded network.
#[derive(Clone)]
pub struct UserNet {
    shared: Arc<Shared>,
}

impl UserNet {
    /// A network with nobody in it.
    ///
    /// # Errors
    /// [`ConfigError`] if there can be no such network.
    pub fn new(config: UserNetConfig) -> Result<Self, ConfigError> {
        Self::build(config, None)
    }

    /// The same for several queue pairs. All frames for the guest go through queue 0; `wake` is called, by whoever
    /// submits to another queue, when there are any. It must not call back into this network.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_wake(config: UserNetConfig, wake: impl Fn() + Send + Sync + 'static) -> Result<Self, ConfigError> {
        Self::build(config, Some(Box::new(wake)))
    }

    fn build(config: UserNetConfig, wake: Option<Wake>) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { shared: Arc::new(Shared { stack: Mutex::new(Stack::new(config)), wake }) })
    }

    /// The offloads that this network takes and makes.
    #[must_use]
    pub const fn features() -> Features {
        SUPPORTED
    }

    /// To be called when a guest's driver has acknowledged its features, before its queues run: connections and waiting
    /// frames of the guest before it are forgotten, leases and counters stay.
    pub fn start(&self, acked: Features) {
        self.shared.stack().start(acked);
    }

    /// A queue for the queue pair of this index. Frames for the guest come out of queue 0 only.
    #[must_use]
    pub fn queue(&self, index: u16) -> UserNetQueue {
        UserNetQueue { shared: Arc::clone(&self.shared), index }
    }

    /// The counters, leases and connections at this moment.
    #[must_use]
    pub fn stats(&self) -> UserNetStats {
        self.shared.stack().stats()
    }
}

impl core::fmt::Debug for UserNet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UserNet").finish_non_exhaustive()
    }
}

/// The back end of one queue pair.
///
/// After [`submit`](FrameSink::submit) the answers wait in [`receive`](FrameSource::receive) of queue 0, which also
/// does what timers have made due.
pub struct UserNetQueue {
    shared: Arc<Shared>,
    index: u16,
}

impl UserNetQueue {
    /// From now on the guest takes these of [`Features::GUEST_OFFLOADS`].
    pub fn set_offloads(&self, on: Features) {
        self.shared.stack().set_offloads(on);
    }

    /// How long the worker may sleep before it has to call [`receive`](FrameSource::receive) although the guest is
    /// silent. `None`: until the guest does something. Only queue 0 has timers.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        if self.index == 0 { self.shared.stack().next_wake() } else { None }
    }
}

impl core::fmt::Debug for UserNetQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UserNetQueue").field("index", &self.index).finish_non_exhaustive()
    }
}

impl FrameSink for UserNetQueue {
    /// Takes every frame, always: what cannot be used is dropped and counted.
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let mut stack = self.shared.stack();
        let failed = stack.submit(burst);
        let waits = stack.waits();
        drop(stack);
        if let Some(wake) = self.shared.wake.as_ref().filter(|_| waits && self.index != 0) {
            wake();
        }
        Taken { count: burst.len(), failed }
    }
}

impl FrameSource for UserNetQueue {
    type Error = Infallible;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        if self.index != 0 {
            return Ok(Supply::Dry);
        }
        let mut stack = self.shared.stack();
        while stack.poll() {
            while let Some(frame) = stack.next() {
                match room.put(&frame.header, frame.bytes()) {
                    Placed::Delivered | Placed::Filtered | Placed::Steered => stack.delivered(frame),
                    Placed::Dropped => stack.undeliverable(frame),
                    Placed::NoRoom => {
                        stack.put_back(frame);
                        return Ok(Supply::More);
                    }
                }
            }
        }
        Ok(Supply::Dry)
    }
}
