//! What a station is asked to do, and what comes out.

use std::time::Duration;

use crate::lab::Buffer;
use crate::{Arena, BUFFER_LEN};

/// How buffers are moved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Work {
    /// Two pinned threads, both poll.
    Polled,
    /// Two pinned threads, each sleeps when it has nothing to do.
    Sleep,
    /// One thread is driver and device in turn.
    Alternating,
    /// One thread, the device's side alone.
    Device,
}

/// When the driver takes used buffers back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reaping {
    /// Late: it fills the ring, then reaps until half of what is under way is back. A line that carries several used
    /// entries then travels once.
    Lazy,
    /// After every publication.
    Greedy,
}

/// What a station is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Load {
    /// How.
    pub work: Work,
    /// Buffers that the driver publishes at once.
    pub burst: usize,
    /// Most buffers under way, at least `burst`.
    pub outstanding: usize,
    /// Most buffers that the device takes, and publishes, at once.
    pub take: usize,
    /// The driver's way.
    pub reaping: Reaping,
    /// Bytes that the driver writes to each buffer, and the device copies out; 0 if payload is not touched.
    pub payload: u32,
    /// How many bursts.
    pub bursts: u64,
}

impl Load {
    /// Polled, lazy, payload untouched, the device's bursts like the driver's.
    #[must_use]
    pub const fn new(burst: usize, outstanding: usize) -> Self {
        let outstanding = if outstanding < burst { burst } else { outstanding };
        let (work, reaping) = (Work::Polled, Reaping::Lazy);
        Self { work, burst, outstanding, take: burst, reaping, payload: 0, bursts: 1 }
    }

    /// Buffers in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.bursts.saturating_mul(self.burst as u64)
    }

    /// The same with about as many buffers as that, and at least one burst.
    #[must_use]
    pub fn of_about(self, buffers: u64) -> Self {
        Self { bursts: (buffers / self.burst as u64).max(1), ..self }
    }

    /// Length of each buffer.
    pub(super) const fn len(&self) -> u32 {
        if self.payload == 0 { BUFFER_LEN } else { self.payload }
    }
}

/// What came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// From before the first buffer is posted until the last one is reaped.
    pub took: Duration,
    /// Buffers moved.
    pub buffers: u64,
    /// Kicks sent; only with [`Work::Sleep`].
    pub kicks: u64,
    /// Calls sent; only with [`Work::Sleep`].
    pub calls: u64,
}

impl Sample {
    /// Nanoseconds a buffer.
    #[must_use]
    pub fn ns_per_buffer(&self) -> f64 {
        self.took.as_nanos() as f64 / self.buffers as f64
    }
}

/// Why a station stopped before it was done.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Nothing moved for a long time.
    #[error("nothing moved for {0:?}, {1} of {2} buffers done")]
    Stalled(Duration, u64, u64),
    /// The other side stopped.
    #[error("the other side stopped")]
    Abandoned,
    /// The driver refused a buffer though fewer than the ring's size are under way.
    #[error("the ring refused a buffer with {0} under way")]
    Refused(u64),
    /// The layout cannot be measured in this way.
    #[error("{0}")]
    Unable(&'static str),
    /// An eventfd, or a clock.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The buffers that the driver posts, in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    next: u16,
    mask: u16,
    len: u32,
}

impl Buffers {
    pub(super) const fn new(size: u16, len: u32) -> Self {
        Self { next: 0, mask: size - 1, len }
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Buffer {
        let addr = Arena::buffer(self.next & self.mask).0;
        self.next = self.next.wrapping_add(1);
        Buffer { addr, len: self.len }
    }
}
