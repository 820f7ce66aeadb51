//! smoltcp's view of the wire: a queue of frames in, a queue of frames out.
//!
//! Nothing here knows which end of the wire it is: the embedded network uses it, and so can a guest that is a thread.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use virtio_net_core::NetHeader;

/// Ethernet header, in bytes.
pub(crate) const ETHERNET: usize = 14;

/// The longest IP packet.
const LONGEST_IP: usize = 65_535;

/// At least as long as all headers that smoltcp writes.
const HEADERS: usize = 128;

/// Buffers kept for reuse by each queue.
const SPARES: usize = 64;

/// One frame and what its header says of it. The buffer keeps its size, so that reuse clears nothing.
#[derive(Debug, Default)]
pub struct Frame {
    /// True of the frame: offloads that are still to be done.
    pub header: NetHeader,
    /// [`finish`](crate::offload::finish) has been here, or nothing is left to do.
    pub(crate) finished: bool,
    bytes: Vec<u8>,
    len: usize,
}

impl Frame {
    /// The frame from its Ethernet header on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The same, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }

    /// Makes the frame `len` bytes long. Bytes that are new have any value that was there before.
    pub fn set_len(&mut self, len: usize) {
        if len > self.bytes.len() {
            self.bytes.resize(len, 0);
        }
        self.len = len;
    }
}

/// A bounded queue of frames that reuses its buffers.
#[derive(Debug)]
pub struct FrameQueue {
    frames: VecDeque<Frame>,
    spare: Vec<Frame>,
    bytes: usize,
    max_frames: usize,
    max_bytes: usize,
    dropped: u64,
}

impl FrameQueue {
    /// A queue that reports itself full at `max_frames` frames or `max_bytes` bytes, and that drops what comes when it
    /// is twice as full.
    #[must_use]
    pub const fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self { frames: VecDeque::new(), spare: Vec::new(), bytes: 0, max_frames, max_bytes, dropped: 0 }
    }

    /// Frames in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True if there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// True while more may be added by those who can wait.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.frames.len() < self.max_frames && self.bytes < self.max_bytes
    }

    /// Frames that were dropped because the queue was twice as full as it may be.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A frame to fill, of length 0.
    pub fn take(&mut self) -> Frame {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.header = NetHeader::NONE;
        frame.finished = false;
        frame.len = 0;
        frame
    }

    /// Gives a frame back that is not needed any more.
    pub fn recycle(&mut self, frame: Frame) {
        if self.spare.len() < SPARES {
            self.spare.push(frame);
        }
    }

    /// Adds a frame at the end.
    pub fn push(&mut self, frame: Frame) {
        let full =
            self.frames.len() >= self.max_frames.saturating_mul(2) || self.bytes >= self.max_bytes.saturating_mul(2);
        if full {
            self.dropped = self.dropped.wrapping_add(1);
            return self.recycle(frame);
        }
        self.bytes = self.bytes.saturating_add(frame.len);
        self.frames.push_back(frame);
    }

    /// Puts a frame in front of all others, whatever the limits.
    pub fn push_front(&mut self, frame: Frame) {
        self.bytes = self.bytes.saturating_add(frame.len);
        self.frames.push_front(frame);
    }

    /// Takes the first frame.
    pub fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.len);
        Some(frame)
    }

    /// Empties the queue.
    pub fn clear(&mut self) {
        while let Some(frame) = self.pop() {
            self.recycle(frame);
        }
    }
}

/// Which large segments the stack may make: those for which the peer acknowledged the offload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LargeSegments {
    /// TCP over IPv4.
    pub v4: bool,
    /// TCP over IPv6.
    pub v6: bool,
}

/// A [`Device`] on two [`FrameQueue`]s.
///
/// TCP and UDP checksums are neither made nor verified by smoltcp, and packets of up to 65535 bytes pass:
/// [`offload`](crate::offload) prepares frames before they go in and finishes those that came out.
#[derive(Debug)]
pub struct QueueDevice {
    /// Frames for smoltcp.
    pub rx: FrameQueue,
    /// Frames from smoltcp.
    pub tx: FrameQueue,
    large: LargeSegments,
}

impl QueueDevice {
    /// A device without frames.
    #[must_use]
    pub const fn new(rx: FrameQueue, tx: FrameQueue, large: LargeSegments) -> Self {
        Self { rx, tx, large }
    }

    /// Changes which large segments may be made. smoltcp asks only once, in `Interface::new`.
    pub const fn set_large(&mut self, large: LargeSegments) {
        self.large = large;
    }
}

impl Device for QueueDevice {
    type RxToken<'a> = Arrival<'a>;
    type TxToken<'a> = Departure<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Arrival<'_>, Departure<'_>)> {
        let frame = self.rx.pop()?;
        Some((Arrival { frame, queue: &mut self.rx }, Departure { queue: &mut self.tx }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Departure<'_>> {
        self.tx.has_room().then_some(Departure { queue: &mut self.tx })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        let whole = LONGEST_IP.saturating_add(ETHERNET);
        caps.medium = Medium::Ethernet;
        // How long segments and datagrams are is decided by the peer's MSS and by the services, not by this limit;
        // and smoltcp 0.14 makes no large IPv6 segments unless they fit here.
        caps.max_transmission_unit = whole;
        caps.checksum.tcp = Checksum::None;
        caps.checksum.udp = Checksum::None;
        caps.checksum.ipv4 = Checksum::Tx;
        caps.segmentation.tcpv4 = if self.large.v4 { NonZeroUsize::new(whole) } else { None };
        caps.segmentation.tcpv6 = if self.large.v6 { NonZeroUsize::new(whole) } else { None };
        caps
    }
}

/// A frame on its way into smoltcp.
#[derive(Debug)]
pub struct Arrival<'a> {
    frame: Frame,
    queue: &'a mut FrameQueue,
}

impl RxToken for Arrival<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(self.frame.bytes());
        self.queue.recycle(self.frame);
        result
    }
}

/// The place for a frame from smoltcp.
#[derive(Debug)]
pub struct Departure<'a> {
    queue: &'a mut FrameQueue,
}

impl TxToken for Departure<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = self.queue.take();
        frame.set_len(len);
        // smoltcp leaves fields unwritten that have no meaning: what the buffer held before is nobody's business.
        frame.bytes_mut().iter_mut().take(HEADERS).for_each(|byte| *byte = 0);
        let result = f(frame.bytes_mut());
        self.queue.push(frame);
        result
    }
}
