//! `--net user`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use user_net::{UserNet, UserNetConfig, UserNetQueue};
use virtio_net_core::Features;
use virtio_net_core::backend::{FrameSink, FrameSource, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;

use crate::error::DaemonError;

/// The embedded network.
#[derive(Debug)]
pub(super) struct UserPort {
    net: UserNet,
    /// Readable when another queue's frames brought about answers, which all leave by queue 0.
    answers: Arc<OwnedFd>,
}

impl UserPort {
    pub(super) fn new(mtu: Option<u16>) -> Result<Self, DaemonError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let answers = Arc::new(event.map_err(|e| DaemonError::system("eventfd")(e.into()))?);
        let wake = Arc::clone(&answers);
        let config = UserNetConfig { mtu, ..UserNetConfig::default() };
        let net = UserNet::with_wake(config, move || {
            // Full means that it is readable already.
            let _ = rustix::io::write(&wake, &1_u64.to_ne_bytes());
        })?;
        Ok(Self { net, answers })
    }

    pub(super) const fn features() -> Features {
        UserNet::features()
    }

    pub(super) fn start(&self, acked: Features, pairs: u16) -> Vec<UserQueue> {
        self.net.start(acked);
        let queue = |index| UserQueue {
            inner: self.net.queue(index),
            answers: (index == 0).then(|| Arc::clone(&self.answers)),
        };
        (0..pairs).map(queue).collect()
    }
}

/// One of its queues.
#[derive(Debug)]
pub(super) struct UserQueue {
    inner: UserNetQueue,
    answers: Option<Arc<OwnedFd>>,
}

impl UserQueue {
    pub(super) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.answers.as_ref().map(|event| event.as_fd())
    }

    pub(super) fn set_offloads(&self, on: Features) {
        self.inner.set_offloads(on);
    }

    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.inner.next_wake()
    }
}

impl FrameSink for UserQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        self.inner.submit(burst)
    }
}

impl FrameSource for UserQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        if let Some(event) = &self.answers {
            // Before the frames are looked at: what comes later makes it readable again.
            let _ = rustix::io::read(event, &mut [0_u8; 8]);
        }
        let Ok(supply) = self.inner.receive(room);
        Ok(supply)
    }
}
