//! What other threads have of a worker: the way to send it something to do, and its counters.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::crew::Crew;
use super::places::Place;
use super::stamp::stamp;
use crate::stop::{eventfd, wake};

/// Something for a worker to do.
pub(crate) type Job = Box<dyn FnOnce(&mut Crew) + Send>;

/// The way to a worker.
#[derive(Debug)]
pub(crate) struct Post {
    jobs: Sender<Job>,
    /// There are jobs: spares a busy worker the look into the channel.
    waiting: AtomicBool,
    /// Wakes it.
    event: OwnedFd,
    pub(super) place: Place,
    pub(super) tally: Tally,
}

impl Post {
    pub(super) fn new(place: Place) -> std::io::Result<(Self, Receiver<Job>)> {
        let (jobs, queue) = channel();
        let waiting = AtomicBool::new(false);
        Ok((Self { jobs, waiting, event: eventfd()?, place, tally: Tally::new() }, queue))
    }

    /// Sends a job. False if the worker is gone.
    pub(crate) fn send(&self, job: Job) -> bool {
        if self.jobs.send(job).is_err() {
            return false;
        }
        // After the job: the worker that sees this finds it.
        self.remind();
        true
    }

    /// True if there may be jobs; the worker takes all of them then, or says so.
    #[inline]
    pub(super) fn has_jobs(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::Acquire)
    }

    /// There may be more of them: the worker does not sleep before it has looked.
    pub(super) fn remind(&self) {
        self.waiting.store(true, Ordering::Release);
        wake(self.event.as_fd());
    }

    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// What a worker counts. Written by itself alone, but for `pairs`.
#[derive(Debug)]
pub(super) struct Tally {
    busy: AtomicU64,
    sleeps: AtomicU64,
    started: u64,
    /// Queue pairs that were given to it.
    pub(super) pairs: AtomicUsize,
    /// Its thread has ended.
    pub(super) gone: AtomicBool,
}

impl Tally {
    fn new() -> Self {
        let (busy, sleeps, pairs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        Self { busy, sleeps, started: stamp(), pairs, gone: AtomicBool::new(false) }
    }

    #[inline]
    pub(super) fn spent(&self, cycles: u64) {
        add(&self.busy, cycles);
    }

    pub(super) fn slept(&self) {
        add(&self.sleeps, 1);
    }

    /// Busy cycles, cycles since the start, sleeps.
    pub(super) fn read(&self) -> (u64, u64, u64) {
        let cycles = stamp().saturating_sub(self.started);
        (self.busy.load(Ordering::Relaxed), cycles, self.sleeps.load(Ordering::Relaxed))
    }
}

/// For counters with one writer: no locked instruction.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}
