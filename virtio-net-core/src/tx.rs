//! The way from the guest: frames from the transmit ring to a back end.

mod look;

use alloc::boxed::Box;

use virtio_ring::{Chains, DeviceRing, GuestMemory, Notify, RingError};

use crate::backend::{FrameSink, Front, Mark, Taken, TxBurst};
use crate::header::{GSO_NONE, NEEDS_CSUM};
use crate::offload::TxOffloads;
use look::Looked;

/// Most frames that a back end is offered at once.
pub const BURST: usize = 64;

/// Decides which frames a guest may send, by the host copy of their first bytes.
pub trait TxFilter {
    /// True if the frame may leave.
    fn permits(&mut self, head: &[u8]) -> bool;

    /// True if the host end may put a checksum of what is from byte `start` of the frame on `offset` bytes behind that. Asked for
    /// frames that may leave otherwise and are not to be segmented.
    fn permits_checksum(&mut self, head: &[u8], start: u16, offset: u16) -> bool {
        let _ = (head, start, offset);
        true
    }
}

/// How the driver lays frames out: frozen when the queue starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxFormat {
    /// Bytes of `struct virtio_net_hdr`: 10, 12 or 20.
    pub header_len: usize,
    /// The offloads that the driver acknowledged.
    pub offloads: TxOffloads,
}

/// Counters of a transmit queue. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxStats {
    /// Frames that the back end took and did not drop.
    pub frames: u64,
    /// Bytes of all frames that the back end took, those it dropped included; without the header.
    pub bytes: u64,
    /// Bursts: pumps that took something from the ring.
    pub bursts: u64,
    /// Calls that the driver wanted.
    pub calls: u64,
    /// Frames that the filter rejected.
    pub filtered: u64,
    /// Frames that the back end could not send.
    pub failed: u64,
    /// Frames whose header is not true of them, or that are too short or too long.
    pub bad_frames: u64,
    /// Chains that broke a rule.
    pub bad_chains: u64,
    /// Frames whose checksum was left to the host end, those it dropped included.
    pub needs_csum: u64,
    /// Frames to be segmented, likewise.
    pub gso_frames: u64,
    /// Their bytes.
    pub gso_bytes: u64,
}

/// Why a transmit pump stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TxStop {
    /// The driver had made nothing more available when its index was read.
    Empty,
    /// The next chain waits for a translation: see [`DeviceRing::missing`] for what to ask for, and do not arm the ring
    /// but sleep until the answer. Only with a memory that translates later.
    Missing,
    /// The back end is busy: come again when it has room.
    Busy,
    /// The budget is used up; there may be more.
    Budget,
}

/// What a transmit pump did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxOutcome {
    /// Chains taken from the ring.
    pub chains: u64,
    /// Whether the driver wants a call for them.
    pub notify: Notify,
    /// Why it stopped.
    pub stop: TxStop,
}

/// Moves frames from one transmit queue to a back end.
#[derive(Debug)]
pub struct TxPump<M> {
    chains: Chains<M>,
    fronts: Box<[Front; BURST]>,
    format: TxFormat,
    /// Calls are held back: see [`hold_calls`](TxPump::hold_calls).
    holds: bool,
    stats: TxStats,
}

impl<M: GuestMemory> TxPump<M> {
    /// A pump for a ring whose buffers are in `mem`.
    #[must_use]
    pub fn new(mem: M, format: TxFormat) -> Self {
        Self {
            chains: Chains::new(mem, BURST),
            fronts: Box::new([Front::NONE; BURST]),
            format,
            holds: false,
            stats: TxStats::default(),
        }
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &TxStats {
        &self.stats
    }

    /// The chains held ahead, to be rewound before the queue stops or its memory changes.
    pub const fn chains(&mut self) -> &mut Chains<M> {
        &mut self.chains
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

    /// Sends at least `budget` frames if there are that many: a publication with each burst, and one look at whether the
    /// driver wants a call at the end.
    ///
    /// # Errors
    /// [`RingError`] when the driver broke the ring. What was taken before is published.
    pub fn pump<R: DeviceRing, S: FrameSink, F: TxFilter + ?Sized>(
        &mut self,
        ring: &mut R,
        sink: &mut S,
        filter: &mut F,
        budget: u64,
    ) -> Result<TxOutcome, (RingError, Notify)> {
        let mut taken = 0_u64;
        let mut fault = None;
        let stop = loop {
            fault = fault.or(self.chains.fill(ring).err());
            let held = self.chains.len();
            if held == 0 {
                break self.short();
            }
            let done = self.burst(ring, sink, filter);
            // The driver goes on with these while the next burst is on its way. Whether it wants a call is asked at the end.
            ring.publish();
            taken = taken.saturating_add(done as u64);
            if done < held {
                break TxStop::Busy;
            }
            if taken >= budget {
                break TxStop::Budget;
            }
            if held < BURST {
                // What the driver has added since is for the next time: its index is read once a burst.
                break self.short();
            }
        };
        let notify = if self.holds { Notify::Suppressed } else { self.call(ring) };
        self.stats.bursts = self.stats.bursts.wrapping_add(u64::from(taken > 0));
        match fault {
            Some(fault) => Err((fault, notify)),
            None => Ok(TxOutcome { chains: taken, notify, stop }),
        }
    }

    /// Why there was no more.
    const fn short(&self) -> TxStop {
        if self.chains.is_waiting() { TxStop::Missing } else { TxStop::Empty }
    }

    /// Consumes every available chain without sending it: a ring that is started but disabled.
    ///
    /// # Errors
    /// As [`pump`](Self::pump).
    pub fn discard<R: DeviceRing>(&mut self, ring: &mut R, budget: u64) -> Result<TxOutcome, (RingError, Notify)> {
        struct Nothing;
        impl FrameSink for Nothing {
            fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
                Taken { count: burst.len(), failed: burst.len() }
            }
        }
        struct Anything;
        impl TxFilter for Anything {
            fn permits(&mut self, _head: &[u8]) -> bool {
                true
            }
        }
        self.pump(ring, &mut Nothing, &mut Anything, budget)
    }

    /// Offers what is held to the sink; returns how many chains were completed.
    ///
    /// In stages, each a loop over the burst: by now all chains are walked and what they point to is on its way here; then
    /// headers and heads are copied and looked at; then the sink has its turn.
    #[inline]
    fn burst<R: DeviceRing, S: FrameSink, F: TxFilter + ?Sized>(
        &mut self,
        ring: &mut R,
        sink: &mut S,
        filter: &mut F,
    ) -> usize {
        let view = self.chains.view();
        let held = view.chains().len();
        let Looked { count, offloads, bytes } = look::look(&view, &mut *self.fronts, &self.format, filter);
        let burst = TxBurst { view, fronts: &*self.fronts, header_len: self.format.header_len, count };
        let took = if count == 0 { Taken::default() } else { sink.submit(&burst) };
        let good = took.count.min(count);
        let bytes = if good == count { bytes } else { look::bytes_of(&burst, good) };
        self.stats.failed = self.stats.failed.wrapping_add(took.failed as u64);
        self.stats.frames = self.stats.frames.wrapping_add(good.saturating_sub(took.failed) as u64);
        self.stats.bytes = self.stats.bytes.wrapping_add(bytes);
        let done = if good == count && count == held { held } else { self.pass(held, good) };
        if offloads {
            self.count_offloads(done);
        }
        // The device writes nothing to a transmit chain.
        self.chains.complete_unwritten(ring, done)
    }

    /// Counts what the first `done` chains of a burst asked of the host end.
    #[cold]
    fn count_offloads(&mut self, done: usize) {
        let view = self.chains.view();
        for (front, chain) in self.fronts.iter().zip(view.chains()).take(done).filter(|(f, _)| f.mark == Mark::Offload)
        {
            let header = front.header;
            self.stats.needs_csum = self.stats.needs_csum.wrapping_add(u64::from(header.flags & NEEDS_CSUM));
            if header.gso_type != GSO_NONE {
                let len = u64::from(chain.readable_len()).wrapping_sub(self.format.header_len as u64);
                self.stats.gso_frames = self.stats.gso_frames.wrapping_add(1);
                self.stats.gso_bytes = self.stats.gso_bytes.wrapping_add(len);
            }
        }
    }

    /// How many chains of a burst are done with if the sink took the first `left` of its frames; counts the others among
    /// them.
    #[cold]
    fn pass(&mut self, held: usize, mut left: usize) -> usize {
        for (done, front) in self.fronts.iter().take(held).enumerate() {
            let counter = match front.mark {
                Mark::Plain | Mark::Offload if left == 0 => return done,
                Mark::Plain | Mark::Offload => {
                    left = left.wrapping_sub(1);
                    continue;
                }
                Mark::BadChain => &mut self.stats.bad_chains,
                Mark::BadFrame => &mut self.stats.bad_frames,
                Mark::Filtered => &mut self.stats.filtered,
            };
            *counter = counter.wrapping_add(1);
        }
        held
    }
}
