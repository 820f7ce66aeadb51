//! What a pair that sleeps waits for.
//!
//! That changes from sleep to sleep: room in the host end while that is busy, kicks of the receive ring while buffers
//! are missing. The worker keeps what it waits at in an epoll set from one sleep to the next, and makes a system call
//! only for what changed: in a steady flow nothing does.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::{Line, Pair, Side};
use crate::port::PortQueue;
use crate::workers::{Seat, Source, Wanted};

/// How often a ring without a kick descriptor is looked at.
const RING_TICK: Duration = Duration::from_micros(500);
/// How often a busy host end is offered the frames again if it says nothing.
const BUSY_TICK: Duration = Duration::from_millis(1);

impl<Q: PortQueue> Seat for Pair<Q> {
    fn round(&mut self) -> bool {
        self.serve()
    }

    fn spent(&mut self, cycles: u64) {
        self.busy_cycles = self.busy_cycles.wrapping_add(cycles);
    }

    fn rest(&mut self) -> bool {
        self.arm()
    }

    fn wanted(&self, now: Instant) -> Wanted<'_> {
        if self.suspended {
            return [const { None }; 4];
        }
        let tx = self.tx.as_ref().map(|tx| &tx.line).filter(|line| line.is_sound());
        // Kicks of a receive ring matter while buffers are missing, and only then.
        let rx = self.rx.as_ref().filter(|rx| rx.starved && rx.is_open()).map(|rx| &rx.line);
        let ctrl = self.ctrl.as_ref().map(|ctrl| &ctrl.line).filter(|line| line.enabled && line.is_sound());
        let events = self.port_events(now);
        let port = self.plan.port_fd.as_ref().filter(|_| !events.is_empty() && !self.port_ticks);
        [kick(tx), kick(rx), kick(ctrl), port.map(|fd| (fd, events))]
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.suspended {
            return None;
        }
        let polled = |line: &Line| line.is_sound() && line.is_polled();
        let (tx, rx) = (self.tx.as_ref(), self.rx.as_ref());
        let ctrl = self.ctrl.as_ref().is_some_and(|ctrl| polled(&ctrl.line));
        let ticking =
            ctrl || tx.is_some_and(|tx| polled(&tx.line)) || rx.is_some_and(|rx| rx.starved && polled(&rx.line));
        let unwatched = self.port_ticks && !self.port_events(now).is_empty();
        let ring = (ticking || unwatched).then_some(RING_TICK);
        let busy = tx.is_some_and(|tx| tx.busy).then_some(BUSY_TICK);
        let hungry = self.active && rx.is_some_and(|rx| !rx.starved);
        // Once it has passed, it wakes nobody: it may be that nothing asks the host end again.
        let quiet = self.quiet_until.filter(|until| now < *until);
        let port = if hungry && quiet.is_none() { self.plan.port.next_wake() } else { None };
        let wait = [ring, busy, port].into_iter().flatten().min();
        let runs = |line: &Line| line.enabled && line.is_sound();
        let held = [
            tx.filter(|tx| runs(&tx.line)).and_then(|tx| tx.held.deadline()),
            rx.filter(|rx| runs(&rx.line)).and_then(|rx| rx.held.deadline()),
        ];
        let call = held.into_iter().flatten().min().and_then(|at| self.epoch.checked_add(Duration::from_nanos(at)));
        // One that is too far away to be told is as good as none.
        [wait.and_then(|wait| now.checked_add(wait)), quiet, call].into_iter().flatten().min()
    }

    fn ready(&mut self, source: Source, events: EventFlags, awake: bool) {
        match source {
            Source::Tx => self.line(Side::Tx).into_iter().for_each(Line::take_kick),
            Source::Rx => self.line(Side::Rx).into_iter().for_each(Line::take_kick),
            Source::Control => self.line(Side::Control).into_iter().for_each(Line::take_kick),
            Source::Port => {
                if let Some(tx) = self.tx.as_mut().filter(|tx| tx.busy) {
                    tx.retry |= events.contains(EventFlags::OUT);
                }
                if !awake && events.intersects(EventFlags::ERR | EventFlags::HUP) {
                    // It would stay ready for ever. Whatever can still be read is, at a slower pace.
                    self.quiet();
                }
            }
        }
    }

    fn unwatchable(&mut self, source: Source, errno: Errno) {
        match source {
            Source::Tx => self.line(Side::Tx).into_iter().for_each(Line::no_kicks),
            Source::Rx => self.line(Side::Rx).into_iter().for_each(Line::no_kicks),
            Source::Control => self.line(Side::Control).into_iter().for_each(Line::no_kicks),
            Source::Port => {
                let pair = self.plan.pair;
                tracing::warn!(parent: &self.plan.span, "queue pair {pair}: the host end cannot be waited for: {errno}");
                self.port_ticks = true;
            }
        }
    }

    fn publish(&mut self) {
        self.show();
    }

    fn slept(&mut self) {
        self.sleeps = self.sleeps.wrapping_add(1);
        self.show();
    }
}

impl<Q: PortQueue> Pair<Q> {
    /// What to wait for at the host end.
    fn port_events(&self, now: Instant) -> EventFlags {
        let mut events = EventFlags::empty();
        if self.quiet_until.is_some_and(|until| now < until) {
            return events;
        }
        if self.active && self.rx.as_ref().is_some_and(|rx| !rx.starved) {
            events |= EventFlags::IN;
        }
        if self.tx.as_ref().is_some_and(|tx| tx.busy && !tx.stalled) {
            events |= EventFlags::OUT;
        }
        events
    }
}

/// The descriptor at which kicks of a ring come.
fn kick(line: Option<&Line>) -> Option<(&Arc<OwnedFd>, EventFlags)> {
    Some((line?.signals.kick.as_ref()?, EventFlags::IN))
}
