//! A request to stop, from any thread or a signal handler's thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags};

/// Ends [`Device::serve`](crate::Device::serve), [`Listener::accept`](crate::Listener::accept) and
/// [`connect`](crate::connect) in an orderly way. Cheap to clone; once requested, it stays so.
#[derive(Clone, Debug)]
pub struct Stop {
    event: Arc<OwnedFd>,
}

impl Stop {
    /// One that nobody has requested yet.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: Arc::new(eventfd()?) })
    }

    /// Requests it.
    pub fn request(&self) {
        wake(self.event.as_fd());
    }

    /// True if it was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        let mut fds = [PollFd::new(&self.event, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).is_ok_and(|n| n > 0)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// A new event descriptor that does not block.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Adds 1 to an event descriptor. One that is full, or whose reader is gone, needs no more waking.
pub(crate) fn wake(event: BorrowedFd<'_>) {
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

/// Waits until `fd` is ready for `events` (true) or a stop is requested (false).
pub(crate) fn wait_for(fd: BorrowedFd<'_>, events: PollFlags, stop: &Stop) -> io::Result<bool> {
    loop {
        let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::from_borrowed_fd(fd, events)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let [stopped, ready] = fds;
        if !stopped.revents().is_empty() {
            return Ok(false);
        }
        if !ready.revents().is_empty() {
            return Ok(true);
        }
    }
}
