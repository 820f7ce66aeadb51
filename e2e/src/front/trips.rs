//! Round trips: a frame there, the same frame back, both sides polled.

use super::Layout;
use super::port::{Front, FrontSpec, frame_to_itself, number};
use crate::Error;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A frame that is not back within this time is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// Frames before the first that counts.
const WARM_UP: usize = 2000;
/// How often the clock is asked whether a frame is late.
const GLANCE: u32 = 1 << 14;

/// What is sent, and how often.
#[derive(Clone, Debug)]
pub struct Trips {
    /// Where the back end listens. It must give each frame back to the same port.
    pub socket: PathBuf,
    /// What is negotiated.
    pub layout: Layout,
    /// Source and destination of the frames: the address that the back end lets pass.
    pub mac: [u8; 6],
    /// Bytes of a frame.
    pub frame: usize,
    /// Frames on their way at any time.
    pub outstanding: usize,
    /// Trips that count.
    pub samples: usize,
    /// CPU to run on; the back end is best on another one.
    pub cpu: Option<usize>,
}

impl Trips {
    /// Frames of 64 bytes, one at a time, on whatever CPU, with the address that is the daemon's default.
    pub fn new(socket: impl Into<PathBuf>, layout: Layout, samples: usize) -> Self {
        Self {
            socket: socket.into(),
            layout,
            mac: crate::daemon::DEFAULT_MAC,
            frame: 64,
            outstanding: 1,
            samples,
            cpu: None,
        }
    }

    /// Connects, sends, measures and hangs up in good order.
    ///
    /// # Errors
    /// [`Error::Front`]: the back end refused something, or a frame did not come back.
    pub fn run(&self) -> Result<Samples, Error> {
        // On a thread of its own: what is pinned stays pinned.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.cpu.map_or(Ok(()), pin)?;
                let mut front = Front::plug(&FrontSpec::new(&self.socket, self.layout))?;
                let samples = Run::new(self).measure(&mut front)?;
                front.unplug()?;
                Ok(samples)
            });
            thread.join().unwrap_or(Err(Error::Unsupported("the measuring thread panicked")))
        })
    }
}

/// Round trips of single frames of 64 bytes: see [`Trips`].
///
/// # Errors
/// As [`Trips::run`].
pub fn round_trips(socket: &Path, layout: Layout, samples: usize) -> Result<Samples, Error> {
    Trips::new(socket, layout, samples).run()
}

/// Keeps the calling thread on one CPU.
pub(super) fn pin(cpu: usize) -> Result<(), Error> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(Error::Unsupported("a CPU with so high a number cannot be pinned to"));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    let failed = |e| Error::Command { command: format!("sched_setaffinity to CPU {cpu}"), reason: format!("{e}") };
    sched_setaffinity(None, &set).map_err(failed)
}

/// A measurement under way.
struct Run<'t> {
    trips: &'t Trips,
    /// A frame for each number modulo their count. The numbers in them go up.
    frames: Vec<Vec<u8>>,
    /// When each was sent.
    sent: Vec<Instant>,
    /// The number of the next one, and of those that have come back.
    next: u64,
    back: u64,
    times: Vec<u64>,
}

impl<'t> Run<'t> {
    fn new(trips: &'t Trips) -> Self {
        let count = trips.outstanding.max(1);
        Self {
            trips,
            frames: (0..count as u64).map(|n| frame_to_itself(trips.mac, n, trips.frame)).collect(),
            sent: vec![Instant::now(); count],
            next: 0,
            back: 0,
            times: Vec::with_capacity(trips.samples.saturating_add(count)),
        }
    }

    fn measure(mut self, front: &mut Front) -> Result<Samples, Error> {
        let total = self.trips.samples.saturating_add(WARM_UP);
        self.send(front, self.frames.len())?;
        while self.back < total as u64 {
            let count = self.receive(front)?;
            // Receive buffers become visible while nothing is being timed, with one outstanding.
            front.flush_rx()?;
            self.send(front, count)?;
        }
        // The last ones are still under way, and must not be taken for lost by whoever counts.
        while self.back < self.next {
            self.receive(front)?;
        }
        let counted = self.times.get(WARM_UP..total).unwrap_or_default();
        Ok(Samples::new(counted.to_vec()))
    }

    /// Sends that many frames as one burst. They count from here.
    fn send(&mut self, front: &mut Front, count: usize) -> Result<(), Error> {
        let frames = self.frames.len() as u64;
        let numbers = self.next..self.next.saturating_add(count as u64);
        for number in numbers.clone() {
            let slot = slot(number, frames);
            let bytes = self.frames.get_mut(slot).and_then(|f| f.get_mut(14..)).and_then(|f| f.first_chunk_mut());
            if let Some(bytes) = bytes {
                *bytes = number.to_le_bytes();
            }
        }
        let now = Instant::now();
        for number in numbers {
            if let Some(sent) = self.sent.get_mut(slot(number, frames)) {
                *sent = now;
            }
        }
        let all = &self.frames;
        let first = self.next;
        let burst =
            (0..count).map(|i| all.get(slot(first.saturating_add(i as u64), frames)).map_or(&[][..], Vec::as_slice));
        let added = front.send(burst)?;
        if added != count {
            return Err(front.failed(format!("room for {added} frames, expected {count}")));
        }
        front.flush_tx()?;
        self.next = self.next.saturating_add(count as u64);
        Ok(())
    }

    /// Waits for frames; all that came at once have the same time.
    fn receive(&mut self, front: &mut Front) -> Result<usize, Error> {
        let (mut spins, begin) = (0_u32, Instant::now());
        let frames = self.frames.len() as u64;
        let (mut expected, mut odd) = (self.back, None);
        loop {
            let count = front.receive(self.frames.len(), |frame| {
                let number = number(frame);
                odd = odd.or((number != Some(expected) || frame.len() != self.trips.frame).then_some(number));
                expected = expected.saturating_add(1);
            })?;
            if let Some(found) = odd {
                return Err(front.failed(format!("frame {found:?} came back where number {} was expected", self.back)));
            }
            if count > 0 {
                let now = Instant::now();
                for number in self.back..expected {
                    let sent = self.sent.get(slot(number, frames)).copied().unwrap_or(now);
                    self.times.push(u64::try_from(now.duration_since(sent).as_nanos()).unwrap_or(u64::MAX));
                }
                self.back = expected;
                return Ok(count);
            }
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(GLANCE) && begin.elapsed() > PATIENCE {
                return Err(front.failed(format!("frame {} did not come back within {PATIENCE:?}", self.back)));
            }
            std::hint::spin_loop();
        }
    }
}

/// Where a number's frame and time are kept.
fn slot(number: u64, frames: u64) -> usize {
    number.checked_rem(frames).and_then(|slot| usize::try_from(slot).ok()).unwrap_or(0)
}

/// Every time of a measurement, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    sorted: Vec<u64>,
}

impl Samples {
    fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    /// How many.
    pub const fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The time that this many of a thousand trips do not exceed (nearest rank).
    pub fn per_mille(&self, part: usize) -> u64 {
        let rank = self.sorted.len().saturating_mul(part).div_ceil(1000).max(1);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// The usual three.
    pub fn quantiles(&self) -> Quantiles {
        let [p50, p99, p999] = [500, 990, 999].map(|part| self.per_mille(part) as f64);
        Quantiles { p50, p99, p999 }
    }
}

/// Times that one in two, ninety-nine in a hundred and 999 in a thousand trips do not exceed, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the type says it")]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let samples = Samples::new((1..=1000).rev().collect());
        assert_eq!(samples.quantiles(), Quantiles { p50: 500.0, p99: 990.0, p999: 999.0 });
        assert_eq!((samples.count(), samples.per_mille(1000), samples.per_mille(0)), (1000, 1000, 1));
        assert_eq!(Samples::new(vec![7]).quantiles(), Quantiles { p50: 7.0, p99: 7.0, p999: 7.0 });
        assert_eq!(Samples::default().per_mille(500), 0);
    }
}
