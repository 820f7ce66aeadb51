//! One seat's place at its worker: what it waits for, and how it is paced.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::pace::Pace;

/// Descriptors that a seat may wait at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The kick of the transmit ring.
    Tx,
    /// The kick of the receive ring.
    Rx,
    /// The kick of the control ring.
    Control,
    /// The host end.
    Port,
}

impl Source {
    /// In the order of [`Wanted`].
    pub(super) const ALL: [Self; 4] = [Self::Tx, Self::Rx, Self::Control, Self::Port];
}

/// What a seat wants to wait for, one entry for each [`Source`].
pub(crate) type Wanted<'a> = [Option<(&'a Arc<OwnedFd>, EventFlags)>; 4];

/// What a worker serves: a queue pair of some device.
pub(crate) trait Seat: Any {
    /// Serves, within a budget; true if anything was done.
    fn round(&mut self) -> bool;

    /// The last round, in which something was done, took so many cycles.
    fn spent(&mut self, cycles: u64);

    /// Arms what can be armed; false if work came meanwhile.
    fn rest(&mut self) -> bool;

    /// It sleeps from now on: what to wake it for.
    fn wanted(&self, now: Instant) -> Wanted<'_>;

    /// When to wake it in any case. Asked after [`wanted`](Self::wanted).
    fn deadline(&self, now: Instant) -> Option<Instant>;

    /// A descriptor is ready. While the seat works (`awake`) it is waited at for what was wanted earlier.
    fn ready(&mut self, source: Source, events: EventFlags, awake: bool);

    /// A descriptor cannot be waited at.
    fn unwatchable(&mut self, source: Source, errno: Errno);

    /// Lets other threads see the counters.
    fn publish(&mut self);

    /// It falls asleep.
    fn slept(&mut self);
}

/// A descriptor in the worker's epoll set. Kept open until it is taken out of the set: a descriptor that is closed
/// while the front end holds another one of the same file would stay in it, and could not be taken out any more.
#[derive(Debug)]
struct Watch {
    fd: Arc<OwnedFd>,
    events: EventFlags,
}

/// A seat and what belongs to it.
pub(super) struct Desk {
    pub(super) seat: Box<dyn Seat>,
    pub(super) pace: Pace,
    /// It is in the list of those that are polled.
    pub(super) hot: bool,
    /// When it is woken in any case, while it sleeps.
    pub(super) deadline: Option<Instant>,
    /// When its counters were last shown.
    pub(super) published: u64,
    watches: [Option<Watch>; 4],
}

impl Desk {
    pub(super) fn new(seat: Box<dyn Seat>, poll: Duration) -> Self {
        Self { seat, pace: Pace::new(poll), hot: false, deadline: None, published: 0, watches: [const { None }; 4] }
    }

    /// Puts what the seat wants to wait for into the set, and takes the rest out; makes no call where nothing changed.
    pub(super) fn watch(&mut self, set: &OwnedFd, number: usize, now: Instant) {
        let mut failed = [None; 4];
        let wanted = self.seat.wanted(now);
        for (((watch, source), wanted), failed) in self.watches.iter_mut().zip(Source::ALL).zip(wanted).zip(&mut failed)
        {
            *failed = renew(watch, set, name(number, source), wanted).err();
        }
        for (source, errno) in Source::ALL.into_iter().zip(failed) {
            if let Some(errno) = errno {
                self.seat.unwatchable(source, errno);
            }
        }
    }

    /// Takes out of the set what the seat does not use any more, so that it is closed.
    pub(super) fn tidy(&mut self, set: &OwnedFd, now: Instant) {
        for (watch, wanted) in self.watches.iter_mut().zip(self.seat.wanted(now)) {
            let same = |watch: &mut Watch| wanted.is_some_and(|(fd, _)| Arc::ptr_eq(fd, &watch.fd));
            if let Some(watch) = watch.take_if(|watch| !same(watch)) {
                forget(set, &watch);
            }
        }
    }

    /// Takes everything out of the set.
    pub(super) fn leave(&mut self, set: &OwnedFd) {
        self.watches.iter_mut().filter_map(Option::take).for_each(|watch| forget(set, &watch));
    }
}

fn renew(
    watch: &mut Option<Watch>,
    set: &OwnedFd,
    name: u64,
    wanted: Option<(&Arc<OwnedFd>, EventFlags)>,
) -> Result<(), Errno> {
    let data = EventData::new_u64(name);
    if let (Some(watch), Some((fd, events))) = (watch.as_mut(), wanted)
        && Arc::ptr_eq(&watch.fd, fd)
    {
        if watch.events != events {
            epoll::modify(set, fd, data, events)?;
            watch.events = events;
        }
        return Ok(());
    }
    if let Some(old) = watch.take() {
        forget(set, &old);
    }
    let Some((fd, events)) = wanted else { return Ok(()) };
    epoll::add(set, fd, data, events)?;
    *watch = Some(Watch { fd: Arc::clone(fd), events });
    Ok(())
}

fn forget(set: &OwnedFd, watch: &Watch) {
    if let Err(errno) = epoll::delete(set, &watch.fd) {
        tracing::error!("a descriptor is not taken out of the epoll set: {errno}");
    }
}

/// What the set calls a descriptor of a seat.
const fn name(number: usize, source: Source) -> u64 {
    (number as u64).wrapping_shl(2) | source as u64
}

/// Seat and descriptor of a name.
pub(super) fn named(name: u64) -> Option<(usize, Source)> {
    let source = Source::ALL.into_iter().find(|source| *source as u64 == name & 3)?;
    Some((usize::try_from(name.wrapping_shr(2)).ok()?, source))
}
