//! The host's end of the wire, as the device sees it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use virtio_net_core::Features;
use virtio_net_core::backend::{FrameSink, FrameSource};

/// A host end: a tap, an embedded network, a loopback.
///
/// A port outlives sessions. [`start`](Self::start) is called when the first ring of a session starts, and
/// [`stop`](Self::stop) before the driver may negotiate anew and when the session ends.
pub trait Port: Send {
    /// One queue pair's worth of the host end, used by one worker thread at a time.
    type Queue: PortQueue;

    /// The offloads that the host end can do: a subset of [`Features::HOST_OFFLOADS`] and
    /// [`Features::GUEST_OFFLOADS`]. What is missing here is not offered to the driver.
    fn features(&self) -> Features;

    /// Queue pairs that the host end can serve; at least 1.
    fn max_pairs(&self) -> u16;

    /// Makes exactly `pairs` queues, in the order of the driver's queue pairs. `acked` is everything that the driver
    /// acknowledged. Queues begin inactive, so that nothing piles up before the driver has posted buffers:
    /// [`PortQueue::set_active`] comes first.
    ///
    /// # Errors
    /// Whatever keeps the host end from working; the rings of this session then do not start.
    fn start(&mut self, acked: Features, pairs: u16) -> io::Result<Vec<Self::Queue>>;

    /// Takes the queues back, in the same order.
    fn stop(&mut self, queues: Vec<Self::Queue>);
}

/// One queue pair of a [`Port`].
pub trait PortQueue: FrameSink + FrameSource<Error = io::Error> + Send + 'static {
    /// A descriptor that is readable while frames wait for the guest, and writable while there is room for frames
    /// from it. `None` for a queue that never has frames of its own accord and is never busy, or that tells by
    /// [`next_wake`](Self::next_wake) alone. It must stay the same until the queue is dropped.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// How long the worker may sleep before it asks [`FrameSource::receive`] again although
    /// [`poll_fd`](Self::poll_fd) is not readable. `None`: as long as it likes.
    fn next_wake(&self) -> Option<Duration> {
        None
    }

    /// Switches the queue on or off: off while its receive ring is not started or not enabled, or while the driver
    /// uses fewer queue pairs. Frames for a queue that is off are lost or go to another one.
    ///
    /// # Errors
    /// Whatever the host end says; it is logged, and the queue goes on as it was.
    fn set_active(&mut self, active: bool) -> io::Result<()> {
        let _ = active;
        Ok(())
    }

    /// Told to the first queue, for all of them: from now on the guest takes `on` of [`Features::GUEST_OFFLOADS`], some of
    /// those that it acknowledged. At first that is all of them. Frames that need others are not delivered.
    ///
    /// # Errors
    /// As [`set_active`](Self::set_active).
    fn set_offloads(&mut self, on: Features) -> io::Result<()> {
        let _ = on;
        Ok(())
    }
}
