//! Many front ends in one process, each a guest of its own with memory of its own.

use super::Layout;
use super::port::{Front, FrontSpec, frame_to_itself};
use super::trips::pin;
use crate::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Frames of a burst.
const BURST: usize = 32;
/// Bytes of a frame.
const FRAME: usize = 64;
/// Frames of one guest that are under way at most: half of a ring, so that neither side ever waits for room.
const WINDOW: usize = 128;
/// Before the first sample.
const WARM_UP: Duration = Duration::from_millis(200);
/// Turns between two looks at the clock.
const GLANCE: u32 = 64;
/// Frames that are not back within this time are lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
pub struct Crowd {
    members: Vec<Member>,
    frames: Vec<Vec<u8>>,
}

struct Member {
    front: Front,
    under_way: usize,
}

/// How a crowd sends.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The first so many members send, in turn.
    pub active: usize,
    /// CPUs of the sending threads, one thread on each; the members are shared out among them.
    pub cpus: Vec<usize>,
    /// Length of a sample.
    pub window: Duration,
    /// How many samples.
    pub samples: usize,
}

impl Crowd {
    /// One front end for each socket, one after the other; their rings run when this returns. Buffers are for frames of 64
    /// bytes, so that a thousand guests fit into a small machine.
    ///
    /// # Errors
    /// As [`Front::plug`].
    pub fn connect(sockets: &[PathBuf], layout: Layout) -> Result<Self, Error> {
        let member = |socket: &PathBuf| {
            let spec = FrontSpec { frame: FRAME, room: FRAME, ..FrontSpec::new(socket, layout) };
            Ok(Member { front: Front::plug(&spec)?, under_way: 0 })
        };
        let members = sockets.iter().map(member).collect::<Result<_, Error>>()?;
        let frames = (0..BURST as u64).map(|n| frame_to_itself(crate::daemon::DEFAULT_MAC, n, FRAME)).collect();
        Ok(Self { members, frames })
    }

    /// Sends bursts of 32 frames of 64 bytes from each active member in turn, to a back end that gives them back, as fast as
    /// they come back. Frames per second that came back to all of them, for each sample.
    ///
    /// # Errors
    /// A member's device broke its ring, or frames were lost.
    pub fn send(&mut self, traffic: &Traffic) -> Result<Vec<f64>, Error> {
        let active = self.members.get_mut(..traffic.active).unwrap_or_default();
        let share = active.len().div_ceil(traffic.cpus.len().max(1)).max(1);
        let frames = &self.frames;
        let results: Vec<Result<Vec<f64>, Error>> = std::thread::scope(|scope| {
            let threads: Vec<_> = active
                .chunks_mut(share)
                .zip(&traffic.cpus)
                .map(|(members, cpu)| scope.spawn(move || on_one_cpu(members, frames, *cpu, traffic)))
                .collect();
            let panicked = || Err(Error::Unsupported("a sending thread panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let mut sums = vec![0.0; traffic.samples];
        for rates in results {
            for (sum, rate) in sums.iter_mut().zip(rates?) {
                *sum += rate;
            }
        }
        Ok(sums)
    }

    /// How often the back end was kicked so far.
    pub fn kicks(&self) -> u64 {
        self.members.iter().fold(0, |sum, member| sum.wrapping_add(member.front.kicks()))
    }

    /// Stops all rings in good order and hangs up.
    ///
    /// # Errors
    /// A back end refused.
    pub fn leave(self) -> Result<(), Error> {
        self.members.into_iter().try_for_each(|member| member.front.unplug())
    }
}

impl Member {
    /// Takes what came, and sends a burst if few frames are under way. How many came.
    fn turn(&mut self, frames: &[Vec<u8>], sending: bool) -> Result<usize, Error> {
        let mut odd = None;
        let came = self.front.receive(WINDOW, |frame| {
            if frame.len() != FRAME {
                odd = Some(frame.len());
            }
        })?;
        if let Some(len) = odd {
            return Err(self.front.failed(format!("a frame of {len} bytes came back, expected {FRAME}")));
        }
        if came > 0 {
            self.front.flush_rx()?;
        }
        self.under_way = self.under_way.saturating_sub(came);
        if sending && self.under_way.saturating_add(BURST) <= WINDOW {
            let sent = self.front.send(frames.iter().map(Vec::as_slice))?;
            self.front.flush_tx()?;
            self.under_way = self.under_way.saturating_add(sent);
        }
        Ok(came)
    }
}

/// Frames per second in each sample, of these members.
fn on_one_cpu(members: &mut [Member], frames: &[Vec<u8>], cpu: usize, traffic: &Traffic) -> Result<Vec<f64>, Error> {
    pin(cpu)?;
    rate(members, frames, WARM_UP)?;
    let rates = (0..traffic.samples).map(|_| rate(members, frames, traffic.window)).collect::<Result<_, _>>()?;
    let begin = Instant::now();
    for member in members {
        while member.under_way > 0 {
            member.turn(frames, false)?;
            if begin.elapsed() > PATIENCE {
                let reason = format!("{} frames did not come back within {PATIENCE:?}", member.under_way);
                return Err(member.front.failed(reason));
            }
        }
    }
    Ok(rates)
}

/// Sends for this long; frames per second that came.
fn rate(members: &mut [Member], frames: &[Vec<u8>], window: Duration) -> Result<f64, Error> {
    let begin = Instant::now();
    let (mut came, mut turns) = (0_usize, 0_u32);
    loop {
        for member in &mut *members {
            came = came.saturating_add(member.turn(frames, true)?);
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(GLANCE) && begin.elapsed() >= window {
                return Ok(came as f64 / begin.elapsed().as_secs_f64());
            }
        }
        if members.is_empty() {
            return Ok(0.0);
        }
    }
}
