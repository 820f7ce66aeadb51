//! The way from the guest: frames from the transmit ring to a back end.

use alloc::boxed::Box;

use smallvec::SmallVec;
use virtio_ring::{Chain, Chains, DeviceRing, GuestMemory, GuestSlice, Notify, RingError, View};

use crate::backend::{FrameSink, HEAD_LEN, MAX_FRAME, Taken, TxFrame};
use crate::header::{BACKEND_HEADER_LEN, NetHeader};
use crate::offload::TxOffloads;

/// Most frames that a back end is offered at once.
pub const BURST: usize = 64;

/// Shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Longest header: with a hash.
const MAX_HEADER: usize = 20;

/// Decides which frames a guest may send, by the host copy of their first bytes.
pub trait TxFilter {
    /// True if the frame may leave.
    fn permits(&mut self, head: &[u8]) -> bool;
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
}

/// Why a transmit pump stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TxStop {
    /// The driver has made nothing more available.
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

/// Header and head of one frame, copied to the host.
type Front = [u8; MAX_HEADER + HEAD_LEN];

/// Why a chain is not a frame to send.
#[derive(Clone, Copy)]
enum Reject {
    Chain,
    Frame,
    Filter,
}

/// Moves frames from one transmit queue to a back end.
#[derive(Debug)]
pub struct TxPump<M> {
    chains: Chains<M>,
    fronts: Box<[Front; BURST]>,
    format: TxFormat,
    stats: TxStats,
}

impl<M: GuestMemory> TxPump<M> {
    /// A pump for a ring whose buffers are in `mem`.
    #[must_use]
    pub fn new(mem: M, format: TxFormat) -> Self {
        Self {
            chains: Chains::new(mem, BURST),
            fronts: Box::new([[0; MAX_HEADER + HEAD_LEN]; BURST]),
            format,
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

    /// Sends at least `budget` frames if there are that many, with one publication at the end.
    ///
    /// # Errors
    /// [`RingError`] when the driver broke the ring. What was taken before is published.
    pub fn pump<R: DeviceRing, S: FrameSink>(
        &mut self,
        ring: &mut R,
        sink: &mut S,
        filter: &mut dyn TxFilter,
        budget: u64,
    ) -> Result<TxOutcome, (RingError, Notify)> {
        let mut taken = 0_u64;
        let mut fault = None;
        let stop = loop {
            fault = fault.or(self.chains.fill(ring).err());
            let held = self.chains.len();
            if held == 0 {
                break if ring.missing().is_some() { TxStop::Missing } else { TxStop::Empty };
            }
            let done = self.burst(ring, sink, filter);
            taken = taken.saturating_add(done as u64);
            if done < held {
                break TxStop::Busy;
            }
            if taken >= budget {
                break TxStop::Budget;
            }
        };
        let notify = ring.flush();
        self.stats.bursts = self.stats.bursts.wrapping_add(u64::from(taken > 0));
        self.stats.calls = self.stats.calls.wrapping_add(u64::from(notify.is_needed()));
        match fault {
            Some(fault) => Err((fault, notify)),
            None => Ok(TxOutcome { chains: taken, notify, stop }),
        }
    }

    /// Consumes every available chain without sending it: a ring that is started but disabled.
    ///
    /// # Errors
    /// As [`pump`](Self::pump).
    pub fn discard<R: DeviceRing>(&mut self, ring: &mut R, budget: u64) -> Result<TxOutcome, (RingError, Notify)> {
        struct Nothing;
        impl FrameSink for Nothing {
            fn submit(&mut self, burst: &[TxFrame<'_>]) -> Taken {
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
    #[inline]
    fn burst<R: DeviceRing, S: FrameSink>(&mut self, ring: &mut R, sink: &mut S, filter: &mut dyn TxFilter) -> usize {
        let view = self.chains.view();
        let held = view.chains().len();
        let mut frames: SmallVec<[TxFrame<'_>; BURST]> = SmallVec::new();
        let mut rejects = [None; BURST];
        for ((chain, front), reject) in view.chains().iter().zip(self.fronts.iter_mut()).zip(&mut rejects) {
            match frame(&view, chain, front, &self.format) {
                Ok(frame) if filter.permits(frame.head) => frames.push(frame),
                Ok(_) => *reject = Some(Reject::Filter),
                Err(broken) => *reject = Some(broken),
            }
        }
        let took = if frames.is_empty() { Taken::default() } else { sink.submit(&frames) };
        let good = took.count.min(frames.len());
        let bytes = frames.iter().take(good).fold(0_u64, |n, f| n.wrapping_add(f.len as u64));
        drop(frames);
        self.stats.failed = self.stats.failed.wrapping_add(took.failed as u64);
        self.stats.frames = self.stats.frames.wrapping_add(good.saturating_sub(took.failed) as u64);
        self.stats.bytes = self.stats.bytes.wrapping_add(bytes);
        let mut left = good;
        let mut done = 0_usize;
        for reject in rejects.iter().take(held) {
            match reject {
                None if left == 0 => break,
                None => left = left.wrapping_sub(1),
                Some(reject) => self.count(*reject),
            }
            if let Some(token) = self.chains.pop() {
                // The device writes nothing to a transmit chain.
                ring.complete(token, 0);
            }
            done = done.wrapping_add(1);
        }
        done
    }

    #[cold]
    fn count(&mut self, reject: Reject) {
        let counter = match reject {
            Reject::Chain => &mut self.stats.bad_chains,
            Reject::Frame => &mut self.stats.bad_frames,
            Reject::Filter => &mut self.stats.filtered,
        };
        *counter = counter.wrapping_add(1);
    }
}

/// Copies header and head to `front` and checks them.
#[inline]
fn frame<'a>(view: &View<'a>, chain: &Chain, front: &'a mut Front, format: &TxFormat) -> Result<TxFrame<'a>, Reject> {
    if chain.is_faulty() {
        return Err(Reject::Chain);
    }
    let total = chain.readable_len() as usize;
    let len = total.wrapping_sub(format.header_len);
    if total < format.header_len || !(MIN_FRAME..=MAX_FRAME).contains(&len) {
        return Err(Reject::Frame);
    }
    let segs = view.readable(chain);
    let head_len = len.min(HEAD_LEN);
    let copied = gather(segs, front.get_mut(..total.min(format.header_len.wrapping_add(HEAD_LEN))).unwrap_or_default());
    // Behind a header of ten bytes the last two of these are the frame's: they are not looked at.
    let header = front.first_chunk::<BACKEND_HEADER_LEN>().map_or(NetHeader::NONE, NetHeader::from_bytes);
    let head = front.get(format.header_len..).and_then(|f| f.get(..head_len)).unwrap_or_default();
    let header = format.offloads.check(header, head, len).map_err(|_| Reject::Frame)?;
    Ok(TxFrame { header, head, segs, skip: copied, len })
}

/// Copies the first bytes of the segments until `to` is full.
#[inline]
fn gather(segs: &[GuestSlice<'_>], to: &mut [u8]) -> usize {
    // Most frames are one segment, or their head is.
    match segs.first() {
        Some(seg) if seg.len() >= to.len() => seg.read(to),
        _ => gather_wide(segs, to),
    }
}

#[inline(never)]
fn gather_wide(segs: &[GuestSlice<'_>], mut to: &mut [u8]) -> usize {
    let mut copied = 0_usize;
    for seg in segs {
        if to.is_empty() {
            break;
        }
        let n = seg.read(to);
        copied = copied.saturating_add(n);
        to = to.get_mut(n..).unwrap_or_default();
    }
    copied
}
