//! `--net tap:NAME` and `--net tap-fd:N`.

use std::io;
use std::os::fd::RawFd;

use tap_io::{IfMissing, Tap, TapQueue};
use virtio_net_core::Features;

use crate::error::DaemonError;

/// A tap. Its queues are made once, and inactive while no guest uses them.
#[derive(Debug)]
pub(crate) struct TapPort {
    tap: Tap,
    idle: Vec<TapQueue>,
}

impl TapPort {
    pub(super) fn open(name: &str, pairs: u16) -> Result<Self, DaemonError> {
        Self::set_up(Tap::open(name, pairs, IfMissing::Fail)?, pairs)
    }

    #[expect(unsafe_code, reason = "takes over descriptors by number")]
    pub(super) fn inherit(first: RawFd, others: &[RawFd], pairs: u16) -> Result<Self, DaemonError> {
        let adopt = |fd| {
            if fd <= 2 {
                let found = "standard input, output or error".to_owned();
                return Err(tap_io::TapError::Descriptor { fd, found });
            }
            // SAFETY: the number came by the command line, which names each once: it is not one of the standard
            // streams, and this runs before the daemon opens anything under a number that it could not know.
            unsafe { tap_io::inherited(fd) }
        };
        let first = adopt(first)?;
        let others = others.iter().map(|fd| adopt(*fd)).collect::<Result<Vec<_>, _>>()?;
        Self::set_up(Tap::from_fds(first, others)?, pairs)
    }

    fn set_up(tap: Tap, pairs: u16) -> Result<Self, DaemonError> {
        let mut idle = tap.queues();
        if idle.len() < usize::from(pairs) {
            let name = tap.name().to_owned();
            return Err(DaemonError::TapQueues { name, has: idle.len(), asked: pairs });
        }
        for queue in &mut idle {
            queue.set_active(false).map_err(DaemonError::system("TUNSETQUEUE"))?;
        }
        if let Ok(false) = tap.is_up() {
            tracing::warn!("tap {} is down: nothing passes until it is up", tap.name());
        }
        Ok(Self { tap, idle })
    }

    pub(super) fn features(&self) -> Features {
        self.tap.features()
    }

    pub(super) fn mtu(&self) -> Option<u16> {
        self.tap.mtu().ok()
    }

    pub(super) fn start(&mut self, acked: Features, pairs: u16) -> io::Result<Vec<TapQueue>> {
        let pairs = usize::from(pairs);
        if self.idle.len() < pairs {
            let missing = format!("tap {} has {} queues at hand, {pairs} are needed", self.tap.name(), self.idle.len());
            return Err(io::Error::other(missing));
        }
        self.tap.set_offloads(acked).map_err(io::Error::other)?;
        Ok(self.idle.drain(..pairs).collect())
    }

    pub(super) fn stop(&mut self, queues: impl Iterator<Item = TapQueue>) {
        let mut back: Vec<TapQueue> = queues.collect();
        for queue in &mut back {
            // A queue whose interface is gone has nothing to switch off.
            if let Err(error) = queue.set_active(false).or_else(|e| if queue.is_gone() { Ok(()) } else { Err(e) }) {
                tracing::warn!("tap {}: queue cannot be detached: {error}", self.tap.name());
            }
        }
        back.append(&mut self.idle);
        self.idle = back;
        if let Err(error) = self.tap.set_offloads(Features::empty()) {
            tracing::warn!("{error}");
        }
    }
}
