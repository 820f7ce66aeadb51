//! The session's end of a seat.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use super::Workers;
use super::crew::Crew;
use super::desk::Seat;
use super::post::Post;
use crate::error::SessionError;

/// A seat at a worker. Dropped, the seat is gone as well.
pub(crate) struct Handle<S> {
    pair: usize,
    post: Arc<Post>,
    /// `None` once it was dismissed.
    seat: Option<usize>,
    kind: PhantomData<fn() -> S>,
}

/// Wakes a seat, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    post: Arc<Post>,
    seat: usize,
    /// It rings already: a guest that commands faster than the worker listens does not fill the worker's list of jobs.
    rings: Arc<AtomicBool>,
}

impl Bell {
    /// The seat has its turn soon. Does nothing if it is gone.
    pub(crate) fn ring(&self) {
        if self.rings.swap(true, Ordering::AcqRel) {
            return;
        }
        let (seat, rings) = (self.seat, Arc::clone(&self.rings));
        self.post.send(Box::new(move |crew| {
            // Before the seat looks: what is rung for later rings again.
            rings.swap(false, Ordering::AcqRel);
            crew.stir(seat);
        }));
    }
}

impl<S: Seat> Handle<S> {
    /// Gives a queue pair to a worker, near `node` if there is one. `make` makes the seat, on the worker's thread, so
    /// that what it allocates is near that.
    pub(crate) fn new(
        workers: &Workers,
        pair: usize,
        node: Option<usize>,
        make: impl FnOnce() -> S + Send + 'static,
    ) -> Result<Self, SessionError> {
        let post = workers.choose(node).ok_or(SessionError::NoWorker)?;
        // From here on its drop gives the place back.
        let mut handle = Self { pair, post, seat: None, kind: PhantomData };
        handle.seat = Some(handle.run(move |crew| crew.seat(Box::new(make())))?);
        Ok(handle)
    }

    /// Lets the worker do something with the seat and waits for the answer.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, SessionError> {
        let pair = self.pair;
        let seat = self.seat.ok_or(SessionError::Seat { pair })?;
        self.run(move |crew| crew.with(seat, job))?.ok_or(SessionError::Seat { pair })
    }

    /// Takes the seat away, and gives back what `end` makes of it, unless the worker died.
    pub(crate) fn finish<R: Send + 'static>(mut self, end: impl FnOnce(S) -> R + Send + 'static) -> Option<R> {
        let seat = self.seat.take()?;
        let ended = self.run(move |crew| crew.dismiss(seat).map(end)).ok().flatten();
        if ended.is_none() {
            tracing::error!("worker of queue pair {} died", self.pair);
        }
        ended
    }

    /// `None` if the seat is gone.
    pub(crate) fn bell(&self) -> Option<Bell> {
        self.seat.map(|seat| Bell { post: Arc::clone(&self.post), seat, rings: Arc::default() })
    }

    fn run<R: Send + 'static>(&self, job: impl FnOnce(&mut Crew) -> R + Send + 'static) -> Result<R, SessionError> {
        let gone = || SessionError::Worker { pair: self.pair };
        let (answer, answered) = channel();
        let job = Box::new(move |crew: &mut Crew| {
            // If nobody waits for the answer any more, nobody misses it.
            let _ = answer.send(job(crew));
        });
        if !self.post.send(job) {
            return Err(gone());
        }
        answered.recv().map_err(|_| gone())
    }
}

impl<S> Drop for Handle<S> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.post.send(Box::new(move |crew| drop(crew.take(seat))));
        }
        self.post.tally.pairs.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("pair", &self.pair).field("seat", &self.seat).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl<S: Seat> Handle<S> {
    /// Takes the seat away behind the back of the handle.
    pub(crate) fn forget_seat(&self) {
        let seat = self.seat;
        self.run(move |crew| drop(seat.and_then(|seat| crew.take(seat)))).unwrap();
    }
}
