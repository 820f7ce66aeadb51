//! One queue of a tap: where the guest's frames go to and come from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use virtio_net_core::backend::{
    FrameSink, FrameSource, HEAD_LEN, MAX_FRAME, Placed, RxRoom, Supply, Taken, TxBurst, TxFrame,
};
use virtio_net_core::rx::RxFilter;
use virtio_net_core::{BACKEND_HEADER_LEN, Features, NetHeader};
use virtio_ring::GuestSlice;

use crate::held::Held;
use crate::offload;
use crate::stats::QueueStats;
use crate::sys::{self, MAX_VECTORS, Vectors};

/// The longest vnet header: with a hash and the fields of tunnels.
pub(crate) const MAX_HEADER: usize = 24;

/// Most frames read for one call of `receive`: frames that the filter rejects use up no room, so the room alone is no
/// bound.
const MAX_READS: usize = 512;

/// Places in guest memory that a read offers as a rule: with header, head and what is behind them eight entries, which
/// the kernel takes without allocating (`UIO_FASTIOV`). More cost as much as the frame itself.
const FEW: usize = 5;

/// Frames that are offered every place there is after one that needed more than [`FEW`]: putting a long frame together
/// again costs more than that many entries.
const LONG_LASTS: u32 = 32;

/// Frames that are thrown away at most when a queue becomes active: more than a tap holds.
const MAX_STALE: usize = 4096;

/// One queue of a tap, for one thread.
///
/// Its descriptor is readable while frames wait. Register it level-triggered: `receive` may leave some behind.
///
/// Once the interface is gone, [`receive`](FrameSource::receive) answers an error, once; after that the queue is dry and
/// every frame is taken and counted as failed. Its descriptor then shows an error state for good: wait for it no more.
pub struct TapQueue {
    fd: Arc<OwnedFd>,
    header_len: usize,
    multi_queue: bool,
    attached: bool,
    vectors: Vectors,
    held: Held,
    /// Frames that are still to be offered every place there is.
    long: u32,
    /// Where a frame of too many segments is put together.
    linear: Box<[u8]>,
    gone: Option<Gone>,
    stats: QueueStats,
}

/// Why the queue cannot be used any more.
#[derive(Clone, Copy, Debug)]
struct Gone {
    errno: i32,
    reported: bool,
}

/// What became of one write.
enum Sent {
    Yes,
    No,
    Busy,
}

/// What became of one read.
enum Step {
    /// There was nothing to read.
    Dry,
    /// A frame was read, and is gone: delivered or not.
    Placed(Placed),
    /// A frame was read and is held: there are not enough buffers for it, as it seems.
    Held,
    /// A frame was read and is held: it was not offered all the buffers there are.
    Spilled,
    /// What was read is no frame.
    Failed,
}

impl std::fmt::Debug for TapQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TapQueue").field("fd", &self.fd).field("gone", &self.gone).finish_non_exhaustive()
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TapQueue {
    pub(crate) fn new(fd: Arc<OwnedFd>, header_len: usize, multi_queue: bool) -> Self {
        Self {
            fd,
            header_len: header_len.min(MAX_HEADER),
            multi_queue,
            attached: true,
            vectors: Vectors::new(),
            held: Held::new(),
            long: 0,
            linear: vec![0; MAX_FRAME].into_boxed_slice(),
            gone: None,
            stats: QueueStats::default(),
        }
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &QueueStats {
        &self.stats
    }

    /// True once the interface is gone.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Attaches the queue to its interface or detaches it: the kernel then sends its frames to the other queues, or
    /// drops them if there are none. A tap that was opened with one queue cannot be detached; when it becomes active,
    /// what has piled up is thrown away, so that the guest never sees old frames.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn set_active(&mut self, active: bool) -> io::Result<()> {
        if self.multi_queue && self.attached != active {
            let mode = if active { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
            let mut req = sys::IfReq::new("");
            req.set_flags(crate::descriptor::flag(mode));
            sys::ioctl_ifreq(self.fd.as_fd(), libc::TUNSETQUEUE, &mut req)?;
        }
        self.attached = active;
        self.held.clear();
        if active {
            self.throw_away();
        }
        Ok(())
    }

    /// Tells the kernel what the guest can receive from now on: for all queues of the tap. See
    /// [`Tap::set_offloads`](crate::Tap::set_offloads).
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn set_offloads(&self, acked: Features) -> io::Result<()> {
        sys::ioctl_value(self.fd.as_fd(), libc::TUNSETOFFLOAD, offload::flags(acked).into())
    }

    fn throw_away(&mut self) {
        for _ in 0..MAX_STALE {
            let mut batch = self.vectors.read();
            batch.host(self.held.spill(0));
            if batch.receive(self.fd.as_fd()).unwrap_or(0) == 0 {
                return;
            }
        }
    }

    fn send(&mut self, frame: &TxFrame<'_>) -> Sent {
        let mut header = [0; MAX_HEADER];
        for (to, from) in header.iter_mut().zip(frame.header.to_bytes(0)) {
            *to = from;
        }
        let header = header.get(..self.header_len).unwrap_or_default();
        let mut batch = self.vectors.write();
        let whole = batch.host(header) && batch.host(frame.head()) && frame.rest().all(|segment| batch.guest(segment));
        if !whole {
            self.stats.linearised = self.stats.linearised.wrapping_add(1);
            let copied = frame.copy_to(&mut self.linear);
            batch = self.vectors.write();
            batch.host(header);
            batch.host(self.linear.get(..copied).unwrap_or_default());
        }
        self.stats.writes = self.stats.writes.wrapping_add(1);
        self.stats.entries = self.stats.entries.wrapping_add(batch.len() as u64);
        match batch.send(self.fd.as_fd()) {
            Ok(n) if n == self.header_len.saturating_add(frame.len()) => Sent::Yes,
            Ok(_) => self.not_sent(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.stats.busy = self.stats.busy.wrapping_add(1);
                Sent::Busy
            }
            Err(error) => self.not_sent(error.raw_os_error().unwrap_or(0)),
        }
    }

    #[cold]
    fn not_sent(&mut self, errno: i32) -> Sent {
        self.stats.errors.count(errno);
        if is_final(errno) {
            self.gone = Some(Gone { errno, reported: false });
        }
        Sent::No
    }

    /// Reads one frame straight into the room, or into [`Held`] if it does not fit.
    fn read<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Step> {
        let mut step = Step::Dry;
        let Self { fd, header_len, vectors, held, long, stats, .. } = self;
        // Two entries for header and head, one for what does not fit.
        let most = if *long > 0 { MAX_VECTORS.saturating_sub(3) } else { FEW };
        let placed = room.read_with(|header, head, all| {
            let rest = all.get(..most).unwrap_or(all);
            // Without a place behind the head, the head itself may have none.
            let straight = !rest.is_empty();
            let covered = if straight { reach(rest) } else { 0 };
            let mut front = [0; MAX_HEADER];
            let mut batch = vectors.read();
            batch.host(front.get_mut(..*header_len).unwrap_or_default());
            if straight {
                batch.host(head);
                rest.iter().all(|segment| batch.guest(*segment));
            }
            batch.host(held.spill(covered));
            stats.reads = stats.reads.wrapping_add(1);
            stats.entries = stats.entries.wrapping_add(batch.len() as u64);
            let n = match batch.receive(fd.as_fd()) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(len) = n.checked_sub(*header_len).filter(|len| *len > 0) else {
                step = Step::Failed;
                return Ok(None);
            };
            stats.received = stats.received.wrapping_add(1);
            let is_long = len > reach(all.get(..FEW).unwrap_or(all));
            *long = if is_long { LONG_LASTS } else { long.saturating_sub(1) };
            // A tap has no `num_buffers` of use, and what is behind it is for other seams than this.
            *header = front.first_chunk::<BACKEND_HEADER_LEN>().copied().unwrap_or_default();
            if straight && (len <= covered || len > MAX_FRAME) {
                return Ok(Some(len));
            }
            step = if rest.len() < all.len() { Step::Spilled } else { Step::Held };
            let header = NetHeader::from_bytes(header);
            if straight {
                held.keep(header, len, head, rest);
            } else {
                held.keep_whole(header, len);
            }
            Ok(None)
        })?;
        Ok(placed.map_or(step, Step::Placed))
    }

    /// What a failed read means.
    #[cold]
    fn not_read(&mut self, error: io::Error) -> io::Result<()> {
        let errno = error.raw_os_error().unwrap_or(0);
        self.stats.errors.count(errno);
        if errno == libc::EFAULT || errno == libc::ENOMEM || errno == libc::ENOBUFS {
            return Ok(()); // of this frame, not of the tap
        }
        self.gone = Some(Gone { errno, reported: true });
        Err(error)
    }
}

/// Bytes of a frame that these places and the head's hold.
fn reach(rest: &[GuestSlice<'_>]) -> usize {
    rest.iter().fold(HEAD_LEN, |n, segment| n.saturating_add(segment.len()))
}

/// True for errors that say that the interface, and not the frame, is at fault. EIO is not one of them: the interface
/// is down and may come up again.
const fn is_final(errno: i32) -> bool {
    matches!(errno, libc::EBADFD | libc::EBADF | libc::ENODEV | libc::ENXIO | libc::ENOLINK)
}

impl FrameSink for TapQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let mut taken = Taken::default();
        for frame in burst.iter() {
            if self.gone.is_some() {
                // Nobody will ever take them; left in the ring, they would only block it.
                taken.count = taken.count.saturating_add(1);
                taken.failed = taken.failed.saturating_add(1);
                continue;
            }
            match self.send(&frame) {
                Sent::Yes => self.stats.sent = self.stats.sent.wrapping_add(1),
                Sent::No => taken.failed = taken.failed.saturating_add(1),
                Sent::Busy => break,
            }
            taken.count = taken.count.saturating_add(1);
        }
        taken
    }
}

impl FrameSource for TapQueue {
    type Error = io::Error;

    fn at_once(&self) -> usize {
        MAX_FRAME.saturating_add(MAX_HEADER)
    }

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, io::Error> {
        if let Some(gone) = &mut self.gone {
            let first = !core::mem::replace(&mut gone.reported, true);
            return if first { Err(io::Error::from_raw_os_error(gone.errno)) } else { Ok(Supply::Dry) };
        }
        let mut delivered = false;
        for _ in 0..MAX_READS {
            if room.is_full() {
                return Ok(Supply::More);
            }
            if self.held.is_some() {
                let Some(placed) = self.held.place(room) else { return Ok(Supply::More) };
                delivered |= placed == Placed::Delivered;
                continue;
            }
            match self.read(room) {
                Ok(Step::Dry) => return Ok(Supply::Dry),
                Ok(Step::Placed(placed)) => delivered |= placed == Placed::Delivered,
                Ok(Step::Held) => self.stats.held = self.stats.held.wrapping_add(1),
                Ok(Step::Spilled) => self.stats.spilled = self.stats.spilled.wrapping_add(1),
                Ok(Step::Failed) => self.stats.errors.count(0),
                Err(error) => self.not_read(error)?,
            }
        }
        // `More` without anything delivered would mean that the guest has to post buffers first.
        Ok(if delivered || self.held.is_some() { Supply::More } else { Supply::Dry })
    }
}

#[cfg(test)]
mod tests;
