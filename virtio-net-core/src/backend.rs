//! The seam to a back end: where frames go to and come from.
//!
//! A back end sees bursts, not one frame at a time, and reaches guest memory itself: a tap writes a frame with one
//! `writev` straight from the guest's buffers and reads one straight into them.

use virtio_ring::{GuestSlice, View};

use crate::header::NetHeader;
use crate::rx::RxFilter;
pub use crate::rx::room::{Placed, RxRoom};

/// Bytes of a frame that are copied to the host before anything looks at them.
///
/// Holds Ethernet with two VLAN tags, IPv6 and TCP with all options. What was checked is this copy, and this copy
/// is what leaves: a guest that changes its buffer meanwhile changes nothing.
pub const HEAD_LEN: usize = 128;

/// The longest frame, in bytes from the Ethernet header on: a 65535-byte IP packet with two VLAN tags, and room for
/// the jumbo payload that Linux builds (virtio 1.3, 5.1.6.3.1).
pub const MAX_FRAME: usize = 65_589;

/// One frame from the guest: a host copy of its head, and the rest in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// The checked header: names nothing outside of the frame and no offload that was not negotiated.
    pub header: NetHeader,
    pub(crate) head: &'a [u8],
    /// Segments of guest memory; the head covers the first `skip` bytes of them.
    pub(crate) segs: &'a [GuestSlice<'a>],
    pub(crate) skip: usize,
    pub(crate) len: usize,
}

impl<'a> TxFrame<'a> {
    /// Length of the frame in bytes, the Ethernet header included.
    #[must_use]
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a frame has at least an Ethernet header")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The host copy of the first [`HEAD_LEN`] bytes, or of the whole frame if it is no longer.
    #[must_use]
    #[inline]
    pub const fn head(&self) -> &'a [u8] {
        self.head
    }

    /// What follows the head, in guest memory. The guest may change it at any time.
    #[inline]
    pub fn rest(&self) -> impl Iterator<Item = GuestSlice<'a>> + Clone + use<'a> {
        let left = self.len.saturating_sub(self.head.len());
        // The head is usually the whole frame, or ends in the first segments: walk past what it covers.
        let segs = if left == 0 { &[] } else { self.segs };
        segs.iter()
            .scan(self.skip, |skip, seg| {
                let rest = seg.skip(*skip);
                *skip = skip.saturating_sub(seg.len());
                Some(rest)
            })
            .filter(|seg| !seg.is_empty())
    }

    /// Copies the frame until either side ends; returns how many bytes.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let n = self.head.len().min(to.len());
        let (front, mut back) = to.split_at_mut(n);
        front.copy_from_slice(self.head.get(..n).unwrap_or_default());
        let mut copied = n;
        for seg in self.rest() {
            let n = seg.read(back);
            copied = copied.saturating_add(n);
            back = back.get_mut(n..).unwrap_or_default();
        }
        copied
    }
}

/// How much of a burst a [`FrameSink`] took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Frames taken, from the front of the burst. The others stay in the ring and are offered again.
    pub count: usize,
    /// How many of those could not be sent and were dropped.
    pub failed: usize,
}

/// Frames from the guest, in the order in which it sent them. Each is put together when it is asked for, so that a sink
/// pays for what it looks at. The default is none at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxBurst<'a> {
    pub(crate) view: View<'a>,
    /// Beside each chain of the view, what the host knows of it.
    pub(crate) fronts: &'a [Front],
    pub(crate) header_len: usize,
    /// Chains that are frames to send.
    pub(crate) count: usize,
}

/// What is kept of a chain on the host, in lines of its own.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Front {
    /// A copy of the frame's head, or of the whole frame.
    pub(crate) head: [u8; HEAD_LEN],
    /// What may leave of the header, if that is more than [`NetHeader::NONE`].
    pub(crate) header: NetHeader,
    pub(crate) mark: Mark,
}

impl Front {
    pub(crate) const NONE: Self = Self { head: [0; HEAD_LEN], header: NetHeader::NONE, mark: Mark::BadChain };
}

/// What a chain of a burst is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// A complete frame.
    Plain,
    /// A frame with a header.
    Offload,
    /// A chain that broke a rule.
    BadChain,
    /// No frame, or one that its header is not true of.
    BadFrame,
    /// What the filter does not let out.
    Filtered,
}

impl<'a> TxBurst<'a> {
    /// How many frames.
    #[must_use]
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a sink is never offered nothing")]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// The frames.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = TxFrame<'a>> + Clone + use<'a> {
        let (view, header_len) = (self.view, self.header_len);
        view.chains().iter().zip(self.fronts).filter_map(move |(chain, front)| {
            let header = match front.mark {
                Mark::Plain => NetHeader::NONE,
                Mark::Offload => front.header,
                Mark::BadChain | Mark::BadFrame | Mark::Filtered => return None,
            };
            let len = (chain.readable_len() as usize).wrapping_sub(header_len); // checked where it was marked
            let head = front.head.get(..len).unwrap_or(&front.head);
            let skip = header_len.wrapping_add(head.len());
            Some(TxFrame { header, head, segs: view.readable(chain), skip, len })
        })
    }
}

/// Where the guest's frames go.
pub trait FrameSink {
    /// Takes frames from the front of the burst: all of them, or as many as there is room for now.
    ///
    /// A frame that can never be sent is taken and counted in [`Taken::failed`]; taking fewer than there are means
    /// *busy*: the pump stops and comes again when the embedder says that there is room.
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken;
}

/// What a [`FrameSource`] has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Supply {
    /// Nothing more at the moment.
    Dry,
    /// More than the room could take, or it did not look.
    More,
}

/// Where the guest's frames come from.
pub trait FrameSource {
    /// Why nothing more can be had from this source.
    type Error;

    /// Bytes of room, headers included, that [`receive`](Self::receive) wants to find if there are buffers for that: what the
    /// longest frame takes that comes by [`RxRoom::read_with`], which cuts off what does not fit. 0, the default, for sources
    /// that [`put`](RxRoom::put) frames and keep what has no room yet.
    #[inline]
    fn at_once(&self) -> usize {
        0
    }

    /// Places frames until the room is full or the source is dry.
    ///
    /// A frame whose placing answered [`Placed::NoRoom`] is still the source's: it offers it first the next time.
    ///
    /// # Errors
    /// A fault of the source itself, not of a frame. What was placed before it counts.
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Self::Error>;
}
