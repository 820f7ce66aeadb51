//! The host ends that `--net` can name.

mod loopback;
mod null;
mod sink;
mod slots;
mod source;
mod tap;
mod user;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use net_filter::MacAddr;
use vhost_glue::{Port, PortQueue};
use virtio_net_core::Features;
use virtio_net_core::backend::{FrameSink, FrameSource, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;

use crate::capture::{Capture, QueueCapture};
use crate::cli::{FrameSize, NetKind};
use crate::error::DaemonError;
use loopback::LoopbackQueue;
use null::NullQueue;
use sink::SinkQueue;
use source::SourceQueue;
pub(crate) use tap::TapPort;
use user::{UserPort, UserQueue};

/// A host end, and what sees its frames.
#[derive(Debug)]
pub(crate) struct HostEnd {
    kind: Kind,
    pairs: u16,
    capture: Option<Capture>,
}

#[derive(Debug)]
enum Kind {
    User(UserPort),
    Tap(TapPort),
    Null,
    Sink,
    Source { size: FrameSize, to: MacAddr },
    Loopback,
}

impl HostEnd {
    /// Opens what `net` names, for so many queue pairs of the guest with the address `mac`.
    ///
    /// # Errors
    /// [`DaemonError`]; nothing is left open then.
    pub(crate) fn open(net: &NetKind, pairs: u16, mac: MacAddr, mtu: Option<u16>) -> Result<Self, DaemonError> {
        let kind = match net {
            NetKind::User => Kind::User(UserPort::new(mtu)?),
            NetKind::Tap(name) => Kind::Tap(TapPort::open(name, pairs)?),
            NetKind::TapFds { first, others } => Kind::Tap(TapPort::inherit(*first, others, pairs)?),
            NetKind::Null => Kind::Null,
            NetKind::Sink => Kind::Sink,
            NetKind::Source(size) => Kind::Source { size: *size, to: mac },
            NetKind::Loopback => Kind::Loopback,
        };
        Ok(Self { kind, pairs, capture: None })
    }

    /// Lets `capture` see every frame from now on.
    pub(crate) fn capture_to(&mut self, capture: Capture) {
        self.capture = Some(capture);
    }

    /// The MTU that the host end has of itself.
    pub(crate) fn mtu(&self) -> Option<u16> {
        match &self.kind {
            Kind::Tap(tap) => tap.mtu(),
            Kind::User(_) | Kind::Null | Kind::Sink | Kind::Source { .. } | Kind::Loopback => None,
        }
    }
}

impl Port for HostEnd {
    type Queue = HostQueue;

    fn features(&self) -> Features {
        match &self.kind {
            Kind::User(_) => UserPort::features(),
            Kind::Tap(tap) => tap.features(),
            // Whatever the guest knows to send is as good as anything else.
            Kind::Null | Kind::Sink | Kind::Source { .. } => Features::HOST_OFFLOADS,
            // A frame goes back as it came: complete.
            Kind::Loopback => Features::empty(),
        }
    }

    fn max_pairs(&self) -> u16 {
        self.pairs
    }

    fn start(&mut self, acked: Features, pairs: u16) -> io::Result<Vec<HostQueue>> {
        let queues: Vec<AnyQueue> = match &mut self.kind {
            Kind::User(user) => user.start(acked, pairs).into_iter().map(AnyQueue::User).collect(),
            Kind::Tap(tap) => tap.start(acked, pairs)?.into_iter().map(|q| AnyQueue::Tap(Box::new(q))).collect(),
            Kind::Null => (0..pairs).map(|_| AnyQueue::Null(NullQueue)).collect(),
            Kind::Sink => (0..pairs).map(|_| AnyQueue::Sink(SinkQueue::new())).collect(),
            Kind::Source { size, to } => {
                (0..pairs).map(|_| AnyQueue::Source(Box::new(SourceQueue::new(*size, *to)))).collect()
            }
            Kind::Loopback => (0..pairs).map(|_| AnyQueue::Loopback(LoopbackQueue::new())).collect(),
        };
        let with_capture = |inner| HostQueue { inner, capture: self.capture.as_ref().map(Capture::queue) };
        Ok(queues.into_iter().map(with_capture).collect())
    }

    fn stop(&mut self, queues: Vec<HostQueue>) {
        if let Kind::Tap(tap) = &mut self.kind {
            tap.stop(queues.into_iter().filter_map(|queue| match queue.inner {
                AnyQueue::Tap(queue) => Some(*queue),
                _ => None,
            }));
        }
    }
}

/// One queue pair of a [`HostEnd`].
#[derive(Debug)]
pub(crate) struct HostQueue {
    inner: AnyQueue,
    capture: Option<QueueCapture>,
}

#[derive(Debug)]
enum AnyQueue {
    User(UserQueue),
    Tap(Box<tap_io::TapQueue>),
    Null(NullQueue),
    Sink(SinkQueue),
    Source(Box<SourceQueue>),
    Loopback(LoopbackQueue),
}

impl AnyQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        match self {
            Self::User(queue) => queue.submit(burst),
            Self::Tap(queue) => queue.submit(burst),
            Self::Null(queue) => queue.submit(burst),
            Self::Sink(queue) => queue.submit(burst),
            Self::Source(queue) => queue.submit(burst),
            Self::Loopback(queue) => queue.submit(burst),
        }
    }

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        match self {
            Self::User(queue) => queue.receive(room),
            Self::Tap(queue) => queue.receive(room),
            Self::Null(queue) => queue.receive(room),
            Self::Sink(queue) => queue.receive(room),
            Self::Source(queue) => queue.receive(room),
            Self::Loopback(queue) => queue.receive(room),
        }
    }
}

impl FrameSink for HostQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let taken = self.inner.submit(burst);
        if let Some(capture) = &mut self.capture {
            capture.sent(burst.iter().take(taken.count));
        }
        taken
    }
}

impl FrameSource for HostQueue {
    type Error = io::Error;

    fn at_once(&self) -> usize {
        if let AnyQueue::Tap(queue) = &self.inner { queue.at_once() } else { 0 }
    }

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        match &mut self.capture {
            Some(capture) => self.inner.receive(&mut room.watched(capture)),
            None => self.inner.receive(room),
        }
    }
}

impl PortQueue for HostQueue {
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        match &self.inner {
            AnyQueue::User(queue) => queue.poll_fd(),
            AnyQueue::Tap(queue) => Some(queue.as_fd()),
            // A source has frames whenever the guest has buffers, and it is the guest that tells of those.
            AnyQueue::Null(_) | AnyQueue::Sink(_) | AnyQueue::Source(_) | AnyQueue::Loopback(_) => None,
        }
    }

    fn next_wake(&self) -> Option<Duration> {
        match &self.inner {
            AnyQueue::User(queue) => queue.next_wake(),
            _ => None,
        }
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        match &mut self.inner {
            AnyQueue::Tap(queue) => queue.set_active(active),
            AnyQueue::Loopback(queue) => {
                queue.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn set_offloads(&mut self, on: Features) -> io::Result<()> {
        match &self.inner {
            AnyQueue::Tap(queue) => queue.set_offloads(on),
            AnyQueue::User(queue) => {
                queue.set_offloads(on);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
