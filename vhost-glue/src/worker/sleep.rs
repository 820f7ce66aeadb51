//! Waiting for the next thing to do.
//!
//! `poll` with a list made anew each time, not `epoll`: what is waited for changes from sleep to sleep (room in the
//! host end, buffers from the driver), and a list of four costs less than one change to an epoll set.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Worker;
use crate::port::PortQueue;

/// How often a ring without a kick descriptor is looked at.
const RING_TICK: Duration = Duration::from_micros(500);
/// How often a busy host end is offered the frames again if it says nothing.
const BUSY_TICK: Duration = Duration::from_millis(1);

/// What became ready.
struct Ready {
    tx: PollFlags,
    rx: PollFlags,
    ctrl: PollFlags,
    port: PollFlags,
    job: PollFlags,
}

impl Ready {
    const NOTHING: Self = {
        let none = PollFlags::empty();
        Self { tx: none, rx: none, ctrl: none, port: none, job: none }
    };
}

impl<Q: PortQueue> Worker<Q> {
    /// Sleeps until something may have changed. Every ring that matters is armed.
    pub(super) fn sleep(&mut self) {
        self.sleeps = self.sleeps.wrapping_add(1);
        let timeout = self.timeout();
        let ready = self.wait(timeout);
        if let Some(event) = self.plan.shared.event(self.plan.pair).filter(|_| !ready.job.is_empty()) {
            let mut count = [0; 8];
            // What it was written for is looked at in the next round.
            let _ = rustix::io::read(event, &mut count);
        }
        if let Some(tx) = &mut self.tx {
            tx.line.kicked(ready.tx);
            tx.retry |= ready.port.contains(PollFlags::OUT);
        }
        if let Some(rx) = &mut self.rx {
            rx.line.kicked(ready.rx);
        }
        if let Some(ctrl) = &mut self.ctrl {
            ctrl.line.kicked(ready.ctrl);
        }
        if ready.port.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            // It would stay ready for ever. Whatever can still be read is, at a slower pace.
            self.quiet();
        }
    }

    /// What to wait for at the host end.
    fn port_events(&mut self) -> PollFlags {
        let awake = self.is_port_awake();
        let mut events = PollFlags::empty();
        if awake && self.active && self.rx.as_ref().is_some_and(|rx| !rx.starved) {
            events |= PollFlags::IN;
        }
        if awake && self.tx.as_ref().is_some_and(|tx| tx.busy && !tx.stalled) {
            events |= PollFlags::OUT;
        }
        events
    }

    fn timeout(&mut self) -> Option<Duration> {
        let polled = |line: &super::Line| line.is_sound() && line.is_polled();
        let tx = self.tx.as_ref();
        let rx = self.rx.as_ref();
        let ctrl = self.ctrl.as_ref().is_some_and(|ctrl| polled(&ctrl.line));
        let ticking =
            ctrl || tx.is_some_and(|tx| polled(&tx.line)) || rx.is_some_and(|rx| rx.starved && polled(&rx.line));
        let ring = ticking.then_some(RING_TICK);
        let busy = tx.is_some_and(|tx| tx.busy).then_some(BUSY_TICK);
        let hungry = self.active && rx.is_some_and(|rx| !rx.starved);
        let quiet = self.quiet_until.map(|until| until.saturating_duration_since(Instant::now()));
        let port = if hungry && quiet.is_none() { self.plan.port.next_wake() } else { None };
        [ring, busy, quiet, port].into_iter().flatten().min()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Ready {
        let events = self.port_events();
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        // Kicks of a receive ring matter while buffers are missing, and only then.
        let rx_wanted = self.rx.as_ref().filter(|rx| rx.starved && rx.is_open());
        let Some(job) = self.plan.shared.event(self.plan.pair).map(AsFd::as_fd) else { return Ready::NOTHING };
        // A descriptor that is not there is stood in for by one that is asked for nothing.
        let tx = self.tx.as_ref().filter(|tx| tx.line.is_sound()).and_then(|tx| tx.line.kick_fd());
        let rx = rx_wanted.and_then(|rx| rx.line.kick_fd());
        let ctrl = self.ctrl.as_ref().filter(|c| c.line.enabled && c.line.is_sound()).and_then(|c| c.line.kick_fd());
        let port = self.plan.port.poll_fd().filter(|_| !events.is_empty());
        let entry = |fd: Option<_>, events| match fd {
            Some(fd) => PollFd::from_borrowed_fd(fd, events),
            None => PollFd::from_borrowed_fd(job, PollFlags::empty()),
        };
        let mut fds = [
            PollFd::from_borrowed_fd(job, PollFlags::IN),
            entry(tx, PollFlags::IN),
            entry(rx, PollFlags::IN),
            entry(ctrl, PollFlags::IN),
            entry(port, events),
        ];
        // An interrupted wait is a short one.
        if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
            return Ready::NOTHING;
        }
        let [job, tx, rx, ctrl, port] = fds.map(|fd| fd.revents());
        Ready { tx, rx, ctrl, port, job }
    }
}
