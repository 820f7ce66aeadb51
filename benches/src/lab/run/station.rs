//! An open layout with its types hidden: what the runner and `cargo bench` give their loads to.

use std::error::Error;

use super::latency::{self, Way};
use super::load::{Load, Sample, Stop, Work};
use super::touch::{Copied, Untouched};
use super::{polled, sleep};
use crate::Arena;
use crate::lab::{Layout, Poster, Setup};

/// An open layout.
pub trait Station {
    /// Moves buffers.
    ///
    /// # Errors
    /// Nothing moves, or the layout cannot be measured so.
    fn run(&mut self, load: &Load) -> Result<Sample, Stop>;

    /// Latencies of `count` buffers, one at a time, in nanoseconds.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    fn latencies(&mut self, way: Way, count: usize) -> Result<Vec<f64>, Stop>;
}

/// Keeps the sides' private state on lines of their own.
#[repr(align(128))]
struct Apart<T>(T);

struct Pair<L: Layout> {
    driver: Apart<L::Driver>,
    device: Apart<L::Device>,
    arena: Arena,
    sleeps: bool,
    poster: Option<Poster>,
}

/// An open layout, or why it does not open.
pub type Opened = Result<Box<dyn Station>, Box<dyn Error>>;

/// Opens a layout in memory of its own.
///
/// # Errors
/// As [`Layout::open`].
pub fn open<L: Layout + 'static>(size: u16, sleeps: bool) -> Opened {
    let arena = Arena::new(size)?;
    let (driver, device) = L::open(&Setup { arena: &arena, size, sleeps })?;
    Ok(Box::new(Pair::<L> { driver: Apart(driver), device: Apart(device), arena, sleeps, poster: None }))
}

impl<L: Layout> Pair<L> {
    const fn size(&self) -> u16 {
        self.arena.config.size
    }

    fn alone(&mut self, load: &Load) -> Result<Sample, Stop> {
        if self.poster.is_none() {
            self.poster = L::poster(&Setup { arena: &self.arena, size: self.size(), sleeps: self.sleeps });
        }
        let poster = self.poster.as_mut().ok_or(Stop::Unable("no poster: the device is not measured alone"))?;
        if load.payload == 0 {
            polled::device_alone(&mut self.device.0, poster, load, Untouched::default())
        } else {
            polled::device_alone(&mut self.device.0, poster, load, Copied::new(&self.arena.memory))
        }
    }
}

/// Calls a function of both sides with the payload's treatment.
macro_rules! with_touch {
    ($pair:ident, $load:ident, $function:path) => {{
        let (size, driver, device) = ($pair.size(), &mut $pair.driver.0, &mut $pair.device.0);
        if $load.payload == 0 {
            $function(driver, device, size, $load, (Untouched::default(), Untouched::default()))
        } else {
            let memory = &$pair.arena.memory;
            $function(driver, device, size, $load, (Copied::new(memory), Copied::new(memory)))
        }
    }};
}

impl<L: Layout> Station for Pair<L> {
    fn run(&mut self, load: &Load) -> Result<Sample, Stop> {
        if load.burst == 0 || load.burst > load.outstanding || load.outstanding > self.size().into() || load.take == 0 {
            return Err(Stop::Unable("a burst has to fit what may be under way, and that the ring"));
        }
        match load.work {
            Work::Polled => with_touch!(self, load, polled::two_threads),
            Work::Alternating => with_touch!(self, load, polled::alternating),
            Work::Sleep if !self.sleeps => Err(Stop::Unable("opened for polling")),
            Work::Sleep => with_touch!(self, load, sleep::two_threads),
            Work::Device => self.alone(load),
        }
    }

    fn latencies(&mut self, way: Way, count: usize) -> Result<Vec<f64>, Stop> {
        let size = self.size();
        latency::of_layout(&mut self.driver.0, &mut self.device.0, size, way, count)
    }
}
