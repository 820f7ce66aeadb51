//! A worker's thread: its seats, and the loop that serves them.
//!
//! A seat that had work lately is *hot*: it is served in turn with the other hot ones, each within its budget. One that
//! has been idle for long enough is armed and goes to sleep: its descriptors are in the worker's one epoll set, and its
//! deadline in one sorted set. So a seat that sleeps costs nothing: only what is ready is looked at.
//!
//! The epoll set is level-triggered, and a descriptor stays in it from sleep to sleep: a change costs a system call, an
//! event for a seat that is awake anyway costs a look. While seats are hot the set is looked at every [`LOOK`] only,
//! and not at all if nobody sleeps.

use std::any::Any;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use slab::Slab;

use super::desk::{Desk, Seat, named};
use super::post::{Job, Post};
use super::stamp::stamp;

/// How often seats that sleep are looked after while others are hot, in cycles: about 20 microseconds, in which a
/// few hundred frames pass. How long exactly does not matter.
const LOOK: u64 = 50_000;
/// How long the counters of a seat that is never idle stay unseen, in cycles: a few milliseconds.
const SHOW: u64 = 8_000_000;
/// Jobs that are done before the seats have their turn.
const MOST_JOBS: usize = 16;
/// Events that are taken at a time; those that are left come first the next time.
const EVENTS: usize = 128;
/// What the set calls the worker's own descriptor: no seat's name is so large.
const JOBS: u64 = u64::MAX;

/// The state of one worker thread.
pub(crate) struct Crew {
    post: Arc<Post>,
    /// How long a seat polls at most.
    poll: Duration,
    set: OwnedFd,
    desks: Slab<Desk>,
    /// Seats that are polled.
    hot: Vec<usize>,
    /// Deadlines of seats that sleep.
    deadlines: BTreeSet<(Instant, usize)>,
    events: Vec<epoll::Event>,
    /// The end of the last seat's round.
    stamp: u64,
    /// When the set was last looked at.
    looked: u64,
    quit: bool,
}

impl Crew {
    /// An epoll set for a worker.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub(super) fn set(post: &Post) -> std::io::Result<OwnedFd> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&set, post.event(), EventData::new_u64(JOBS), EventFlags::IN)?;
        Ok(set)
    }

    /// A worker without seats. To be made on its own thread.
    pub(super) fn new(post: Arc<Post>, poll: Duration, set: OwnedFd) -> Self {
        Self {
            post,
            poll,
            set,
            desks: Slab::new(),
            hot: Vec::new(),
            deadlines: BTreeSet::new(),
            events: Vec::with_capacity(EVENTS),
            stamp: 0,
            looked: 0,
            quit: false,
        }
    }

    /// Serves until it is told to quit.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        self.stamp = stamp();
        loop {
            if self.post.has_jobs() {
                self.work_off(jobs);
            }
            if self.quit {
                return;
            }
            if self.hot.is_empty() {
                self.sleep();
                continue;
            }
            if !self.sweep() {
                std::hint::spin_loop();
            }
            let somebody_sleeps = self.hot.len() < self.desks.len();
            if somebody_sleeps && self.stamp.wrapping_sub(self.looked) > LOOK {
                self.look();
            }
        }
    }

    /// Does some of the jobs; the rest after the next turn of the seats, or front ends that send one request after the
    /// other could keep the worker for themselves.
    fn work_off(&mut self, jobs: &Receiver<Job>) {
        let mut left = MOST_JOBS;
        while let Some(job) = (left > 0).then(|| jobs.try_recv().ok()).flatten() {
            // A kick that came before the job is seen before it.
            self.look();
            job(self);
            left = left.wrapping_sub(1); // above 0
        }
        if left == 0 {
            self.post.remind();
        }
        self.stamp = stamp();
    }

    /// Ends the thread after this job.
    pub(super) const fn quit(&mut self) {
        self.quit = true;
    }

    /// A place for one seat more; its number.
    pub(super) fn seat(&mut self, seat: Box<dyn Seat>) -> usize {
        let number = self.desks.insert(Desk::new(seat, self.poll));
        self.stir(number);
        number
    }

    /// Lets somebody do something with a seat. `None` if it is not there any more.
    pub(super) fn with<S: Seat, R>(&mut self, number: usize, job: impl FnOnce(&mut S) -> R) -> Option<R> {
        let desk = self.desks.get_mut(number)?;
        // What was kicked for before still finds the seat as it was: frames sent to a disabled ring are discarded although
        // the ring is enabled now.
        desk.seat.round();
        let seat: &mut dyn Any = desk.seat.as_mut();
        let result = job(seat.downcast_mut()?);
        // Whoever asked for this may rely on it that descriptors that are not used any more are closed.
        desk.tidy(&self.set, Instant::now());
        self.stir(number);
        Some(result)
    }

    /// Takes a seat of this type away.
    pub(super) fn dismiss<S: Seat>(&mut self, number: usize) -> Option<S> {
        let seat: Box<dyn Any> = self.take(number)?;
        seat.downcast().ok().map(|seat| *seat)
    }

    /// Takes a seat away.
    pub(super) fn take(&mut self, number: usize) -> Option<Box<dyn Seat>> {
        let mut desk = self.desks.try_remove(number)?;
        desk.leave(&self.set);
        if let Some(deadline) = desk.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        self.hot.retain(|hot| *hot != number);
        Some(desk.seat)
    }

    /// Something about a seat changed: it has its turn soon.
    pub(crate) fn stir(&mut self, number: usize) {
        self.warm(number, None);
        if let Some(desk) = self.desks.get_mut(number) {
            desk.pace.stirred();
        }
    }

    /// Wakes a seat, if it sleeps.
    fn warm(&mut self, number: usize, now: Option<Instant>) {
        let Some(desk) = self.desks.get_mut(number).filter(|desk| !desk.hot) else { return };
        desk.hot = true;
        if let Some(deadline) = desk.deadline.take() {
            self.deadlines.remove(&(deadline, number));
        }
        desk.pace.wakes(now.unwrap_or_else(Instant::now));
        self.hot.push(number);
    }

    /// Gives every hot seat its turn; true if anything was done.
    fn sweep(&mut self) -> bool {
        let mut worked = false;
        let mut now = None;
        let mut turn = 0_usize;
        while let Some(number) = self.hot.get(turn).copied() {
            let Some(desk) = self.desks.get_mut(number) else {
                self.hot.swap_remove(turn);
                continue;
            };
            let busy = desk.seat.round();
            let end = stamp();
            let cycles = end.wrapping_sub(self.stamp);
            self.stamp = end;
            if busy {
                worked = true;
                desk.pace.worked();
                desk.seat.spent(cycles);
                self.post.tally.spent(cycles);
                if end.wrapping_sub(desk.published) > SHOW {
                    desk.published = end;
                    desk.seat.publish();
                }
            } else {
                let now = *now.get_or_insert_with(Instant::now);
                if !desk.pace.polls(now) && desk.seat.rest() {
                    // The one that comes to this place has its turn next.
                    self.hot.swap_remove(turn);
                    self.cool(number, now);
                    continue;
                }
            }
            turn = turn.wrapping_add(1); // below the number of seats
        }
        worked
    }

    /// Puts a seat to sleep: everything is armed.
    fn cool(&mut self, number: usize, now: Instant) {
        let Some(desk) = self.desks.get_mut(number) else { return };
        desk.hot = false;
        desk.pace.sleeps(now);
        desk.watch(&self.set, number, now);
        desk.deadline = desk.seat.deadline(now);
        if let Some(deadline) = desk.deadline {
            self.deadlines.insert((deadline, number));
        }
        desk.seat.slept();
        self.stamp = stamp();
    }

    /// Waits until a seat has something to do, or the worker itself.
    fn sleep(&mut self) {
        self.post.tally.slept();
        match self.deadlines.first() {
            None => self.take_events(None),
            Some((first, _)) => {
                let time = first.saturating_duration_since(Instant::now());
                // At the set itself, because the time-out here is in nanoseconds. Interrupted, it is a shorter wait.
                let time = Timespec::try_from(time).unwrap_or_default();
                let _ = rustix::event::poll(&mut [PollFd::new(&self.set, PollFlags::IN)], Some(&time));
                self.look();
            }
        }
        self.stamp = stamp();
    }

    /// Wakes those who have something to do.
    fn look(&mut self) {
        self.looked = self.stamp;
        self.take_events(Some(&Timespec::default()));
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((_, number)) = self.deadlines.first().copied().filter(|(first, _)| *first <= now) {
            self.warm(number, Some(now));
        }
    }

    fn take_events(&mut self, timeout: Option<&Timespec>) {
        let mut events = std::mem::take(&mut self.events);
        // Interrupted, it is a shorter wait.
        if epoll::wait(&self.set, rustix::buffer::spare_capacity(&mut events), timeout).is_err() {
            events.clear();
        }
        for event in events.drain(..) {
            let (name, flags) = (event.data.u64(), event.flags);
            if name == JOBS {
                // What it was written for is looked at in the next round.
                let _ = rustix::io::read(self.post.event(), &mut [0_u8; 8]);
            } else if let Some((number, source)) = named(name)
                && let Some(desk) = self.desks.get_mut(number)
            {
                let awake = desk.hot;
                desk.seat.ready(source, flags, awake);
                self.warm(number, None);
            }
        }
        self.events = events;
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (_, desk) in &mut self.desks {
            desk.leave(&self.set);
        }
    }
}
