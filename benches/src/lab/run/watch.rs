//! Ends a run in which nothing moves any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::load::Stop;

/// How long nothing may move. A busy machine may take a core away for a second or two.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Looks in vain between two looks at the clock.
const LOOKS: u32 = 1 << 14;

/// Shared by both sides.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    stop: AtomicBool,
}

impl Watch {
    /// True if a side gave up.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A side gives up.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One side's waiting.
#[derive(Debug)]
pub(super) struct Idle<'a> {
    watch: &'a Watch,
    looks: u32,
    since: Option<Instant>,
}

impl<'a> Idle<'a> {
    pub(super) const fn new(watch: &'a Watch) -> Self {
        Self { watch, looks: 0, since: None }
    }

    /// Something moved.
    #[inline(always)]
    pub(super) const fn moved(&mut self) {
        self.looks = 0;
    }

    /// Nothing moved: waits a moment.
    #[inline(always)]
    pub(super) fn wait(&mut self, done: u64, total: u64) -> Result<(), Stop> {
        std::hint::spin_loop();
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) { self.think(done, total) } else { Ok(()) }
    }

    #[cold]
    fn think(&mut self, done: u64, total: u64) -> Result<(), Stop> {
        // The other side may want this core.
        std::thread::yield_now();
        if self.watch.stopped() {
            return Err(Stop::Abandoned);
        }
        let now = Instant::now();
        let since = if self.looks == LOOKS { now } else { self.since.unwrap_or(now) };
        self.since = Some(since);
        if now - since > PATIENCE {
            self.watch.stop();
            return Err(Stop::Stalled(PATIENCE, done, total));
        }
        Ok(())
    }
}
