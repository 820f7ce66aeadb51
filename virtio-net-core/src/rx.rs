//! The way to the guest: frames from a back end into the receive buffers.

pub(crate) mod room;

pub use room::{Carried, Placed, RxFilter, RxFormat, RxRoom, RxWatch, Steer};

use virtio_ring::{Chains, DeviceRing, GuestMemory, Notify, RingError};

use crate::backend::{FrameSource, Supply};
use room::Filled;

/// Most chains that are accepted ahead: enough for the longest frame in buffers of 128 bytes.
const DEPTH: usize = 512;
/// Chains that are accepted ahead as long as no frame needs more: a burst and another one. What is fetched long before it is
/// used is gone from the cache by then.
const AHEAD: usize = 64;

/// Counters of a receive queue. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxStats {
    /// Frames delivered.
    pub frames: u64,
    /// Their bytes, without the header.
    pub bytes: u64,
    /// Buffers they took.
    pub buffers: u64,
    /// Bursts: pumps that delivered something.
    pub bursts: u64,
    /// Calls that the driver wanted.
    pub calls: u64,
    /// Frames that the filter rejected.
    pub filtered: u64,
    /// Frames that named an offload which the driver did not acknowledge, or were longer than any frame.
    pub dropped: u64,
    /// Frames longer than what the driver's buffers can ever hold.
    pub too_long: u64,
    /// Frames that were read and did not fit the buffers posted at that moment.
    pub no_room: u64,
    /// Buffers that broke a rule and were given back empty.
    pub bad_chains: u64,
    /// Frames delivered as [`DATA_VALID`](crate::DATA_VALID).
    pub data_valid: u64,
    /// Frames delivered as [`NEEDS_CSUM`](crate::NEEDS_CSUM).
    pub needs_csum: u64,
    /// Frames delivered that are to be segmented.
    pub gso_frames: u64,
    /// Their bytes, without the header.
    pub gso_bytes: u64,
    /// Frames handed over to other queues, which the driver chose for them.
    pub steered: u64,
    /// Frames whose queue does not run or has no room: dropped.
    pub lost: u64,
}

/// Why a receive pump stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RxStop {
    /// The back end has nothing more.
    Dry,
    /// The driver has to post buffers first.
    NoBuffers,
    /// The next buffer waits for a translation, and what there is before it does not do: see [`DeviceRing::missing`] for
    /// what to ask for, and do not arm the ring but sleep until the answer. Only with a memory that translates later.
    Missing,
    /// The budget is used up; there may be more.
    Budget,
}

/// What a receive pump did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RxOutcome<E> {
    /// Frames delivered.
    pub frames: u64,
    /// Whether the driver wants a call for them.
    pub notify: Notify,
    /// Why it stopped.
    pub stop: RxStop,
    /// What failed in the back end, if something did.
    pub error: Option<E>,
}

/// Moves frames from a back end into one receive queue.
#[derive(Debug)]
pub struct RxPump<M> {
    chains: Chains<M>,
    format: RxFormat,
    plain_len: usize,
    filled: Filled,
    /// Calls are held back: see [`hold_calls`](RxPump::hold_calls).
    holds: bool,
    stats: RxStats,
}

impl<M: GuestMemory> RxPump<M> {
    /// A pump for a ring of `size` entries whose buffers are in `mem`.
    #[must_use]
    pub fn new(mem: M, size: u16, format: RxFormat) -> Self {
        let depth = DEPTH.min(size.into()).max(1);
        Self {
            chains: Chains::to_write(mem, depth),
            plain_len: format.plain_len(),
            format,
            filled: Filled::new(depth),
            holds: false,
            stats: RxStats::default(),
        }
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &RxStats {
        &self.stats
    }

    /// The chains held ahead, to be rewound before the queue stops or its memory changes.
    pub const fn chains(&mut self) -> &mut Chains<M> {
        &mut self.chains
    }

    /// Goes on in another way: other offloads, or steering. The header stays as long as it is, which was frozen when the
    /// queue started.
    pub fn set_format(&mut self, format: RxFormat) {
        self.format = RxFormat { header_len: self.format.header_len, mergeable: self.format.mergeable, ..format };
        self.plain_len = self.format.plain_len();
    }

    /// Lets [`pump`](Self::pump) make no calls but leave them to [`call`](Self::call), or not any more.
    pub const fn hold_calls(&mut self, on: bool) {
        self.holds = on;
    }

    /// Says whether the driver wants a call for all that became visible while calls were held back.
    pub fn call<R: DeviceRing>(&mut self, ring: &mut R) -> Notify {
        let notify = ring.notify();
        self.stats.calls = self.stats.calls.wrapping_add(u64::from(notify.is_needed()));
        notify
    }

    /// Delivers at least `budget` frames if there are that many: a publication with each burst of the source, and one look at
    /// whether the driver wants a call at the end.
    ///
    /// # Errors
    /// [`RingError`] when the driver broke the ring. What was delivered before is published.
    pub fn pump<R: DeviceRing, S: FrameSource, F: RxFilter + ?Sized>(
        &mut self,
        ring: &mut R,
        source: &mut S,
        filter: &mut F,
        budget: u64,
    ) -> Result<RxOutcome<S::Error>, (RingError, Notify)> {
        let before = self.stats.frames;
        let mut error = None;
        let mut fault = None;
        let (mut most, mut given) = (AHEAD, 0_usize);
        let stop = loop {
            let held = self.chains.len();
            // A broken ring gives nothing new; what is held already can still be used.
            fault = fault.or(self.chains.fill_to(ring, most).err());
            let grew = self.chains.len() > held;
            if self.chains.is_empty() {
                break self.short();
            }
            if most < DEPTH && self.lacks(source.at_once()) {
                most = DEPTH;
                continue;
            }
            let supply = self.receive(source, filter).unwrap_or_else(|e| {
                error = Some(e);
                Supply::Dry
            });
            let used = self.chains.complete(ring, &self.filled.written);
            self.filled.count(&mut self.stats);
            // The driver goes on with these while the next burst is on its way. Whether it wants a call is asked at the end.
            ring.publish();
            if supply == Supply::Dry {
                break RxStop::Dry;
            }
            given = given.saturating_add(used);
            // Buffers of no use count as well: a driver could post them as fast as they are given back.
            if self.stats.frames.wrapping_sub(before) >= budget || given as u64 >= budget.max(DEPTH as u64) {
                break RxStop::Budget;
            }
            if used == 0 {
                // The next frame is longer than all that is held.
                if most == DEPTH && !grew {
                    break self.short();
                }
                most = DEPTH;
            }
        };
        let notify = if self.holds { Notify::Suppressed } else { self.call(ring) };
        let frames = self.stats.frames.wrapping_sub(before);
        self.stats.bursts = self.stats.bursts.wrapping_add(u64::from(frames > 0));
        match fault {
            Some(fault) => Err((fault, notify)),
            None => Ok(RxOutcome { frames, notify, stop, error }),
        }
    }

    /// True if what is held has not so many bytes in all.
    #[inline]
    fn lacks(&self, bytes: usize) -> bool {
        bytes > 0 && self.format.mergeable && {
            let view = self.chains.view();
            view.chains().iter().fold(0_usize, |n, chain| n.saturating_add(chain.writable_len() as usize)) < bytes
        }
    }

    /// Why there are not enough buffers.
    const fn short(&self) -> RxStop {
        if self.chains.is_waiting() { RxStop::Missing } else { RxStop::NoBuffers }
    }

    #[inline]
    fn receive<S: FrameSource, F: RxFilter + ?Sized>(
        &mut self,
        source: &mut S,
        filter: &mut F,
    ) -> Result<Supply, S::Error> {
        let mut room = RxRoom {
            view: self.chains.view(),
            complete: self.chains.is_full(),
            format: self.format,
            plain_len: self.plain_len,
            filter,
            stats: &mut self.stats,
            filled: &mut self.filled,
            watch: None,
        };
        source.receive(&mut room)
    }
}
