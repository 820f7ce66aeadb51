//! Receive buffers: posted, reposted, kept by the caller, in sizes that follow the frames.

use alloc::vec::Vec;

use virtio_ring::{DriverRing, Element, GuestAddr, Handle, KeepRing, KeptError, Notify, Reposting, RingError};

use super::average::Average;
use super::cutter::{self, Cutter, Piece};
use crate::backend::MAX_FRAME;

/// Longest mergeable buffer, in bytes: 63 cachelines, as near to a page as an odd number of them comes.
const LONGEST: u32 = 4032;

/// Shortest mergeable buffer, in bytes without the header: a full Ethernet frame with a tag needs one buffer.
#[doc(alias = "GOOD_PACKET_LEN")]
const SHORTEST: u32 = 1518;

/// How long receive buffers are, header included: between two bounds, as the average frame needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferSizes {
    header: u32,
    shortest: u32,
    longest: u32,
}

impl BufferSizes {
    /// Buffers that frames are spread over (virtio 1.3, 5.1.6.3.1 and 5.1.6.4, `VIRTIO_NET_F_MRG_RXBUF`): at most a page,
    /// at least a full Ethernet frame, and as far as a page goes so long that three quarters of `count` hold the longest
    /// frame: 22 buffers and more do.
    #[must_use]
    pub fn mergeable(header_len: usize, count: u16) -> Self {
        let header = header_len as u32; // at most 20
        let whole = (MAX_FRAME as u32).saturating_add(header);
        let share = whole.div_ceil(u32::from(enough(count)).max(1));
        let shortest = cutter::stride(share.max(SHORTEST.saturating_add(header))).min(LONGEST);
        Self { header, shortest, longest: LONGEST }
    }

    /// Buffers of one length, for at least `len` bytes with header.
    #[must_use]
    pub fn fixed(len: usize) -> Self {
        let len = cutter::stride(u32::try_from(len).unwrap_or(u32::MAX));
        Self { header: 0, shortest: len, longest: len }
    }

    /// Bytes of memory for `count` buffers, even if all are the longest.
    #[must_use]
    pub fn memory_len(&self, count: u16) -> u64 {
        cutter::memory_len(self.longest, count)
    }

    /// The length for frames of `average` bytes: an odd number of cachelines.
    fn suit(&self, average: u32) -> u32 {
        cutter::stride(average.saturating_add(self.header)).clamp(self.shortest, self.longest)
    }
}

/// A buffer that the device has written to; to be given to [`ReceivePool::repost`] or [`ReceivePool::hold`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a buffer that is neither posted again nor held is lost"]
pub struct Filled {
    handle: Handle,
    piece: Piece,
    len: u32,
}

impl Filled {
    /// Where the bytes are.
    #[must_use]
    pub const fn addr(&self) -> GuestAddr {
        self.piece.addr
    }

    /// How many the device wrote.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a number that a device claims")]
    pub const fn len(&self) -> u32 {
        self.len
    }
}

/// A buffer that is the caller's until [`ReceivePool::give_back`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a buffer that is not given back is lost to the pool"]
pub struct Held {
    piece: Piece,
    skip: u32,
    len: u32,
}

impl Held {
    /// Where the bytes of the frame are.
    #[must_use]
    pub fn addr(&self) -> GuestAddr {
        GuestAddr(self.piece.addr.0.saturating_add(self.skip.into()))
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a number that a device claims")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Without the first `bytes`: the header.
    pub(super) const fn skip(mut self, bytes: u32) -> Self {
        let bytes = if bytes < self.len { bytes } else { self.len };
        self.skip = self.skip.saturating_add(bytes);
        self.len = self.len.saturating_sub(bytes);
        self
    }
}

/// The receive buffers of one ring, in a fixed piece of guest memory.
///
/// A buffer whose bytes were copied out is posted again as it is: see [`Reposting`]. Once the average frame wants other
/// sizes (more than an eighth away), it is exchanged for a new one; a quarter of the buffers may be missing until there is
/// memory for that. A buffer that is [held](Self::hold) is replaced at once while there is memory, and else when one is
/// given back. Nothing is allocated after [`new`](Self::new).
#[derive(Debug)]
#[doc(alias = "receive_mergeable")]
pub struct ReceivePool<R> {
    ring: Reposting<R>,
    cutter: Cutter,
    sizes: BufferSizes,
    average: Average,
    /// The buffer of each handle.
    posted: Vec<Option<Piece>>,
    /// Buffers to be posted.
    count: u16,
}

impl<R: KeepRing> ReceivePool<R> {
    /// Posts `count` buffers, at most one for each entry of `ring`, in `len` bytes of memory from `base` on, which is not
    /// looked at: see [`BufferSizes::memory_len`]. The device sees them after the first [`flush`](Self::flush).
    ///
    /// `base` is best aligned to 64 bytes.
    #[must_use]
    pub fn new(ring: R, base: GuestAddr, len: u64, count: u16, sizes: BufferSizes) -> Self {
        let size = ring.size();
        let mut pool = Self {
            ring: Reposting::new(ring),
            cutter: Cutter::new(base, len, sizes.longest),
            sizes,
            average: Average::default(),
            posted: alloc::vec![None; size.into()],
            count: count.min(size),
        };
        pool.fill();
        pool
    }

    /// The length in bytes that new buffers have now.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        self.sizes.suit(self.average.get())
    }

    /// The ring.
    #[must_use]
    pub const fn ring(&self) -> &R {
        self.ring.ring()
    }

    /// Counts a frame of `len` bytes without header.
    pub fn learn(&mut self, len: usize) {
        self.average.add(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// The next buffer that the device has used, or `None`.
    ///
    /// # Errors
    /// [`RingError`] once, when the device broke the ring.
    pub fn poll(&mut self) -> Result<Option<Filled>, RingError> {
        while let Some(used) = self.ring.poll_kept()? {
            if let Some(piece) = self.posted.get(usize::from(used.handle.0)).copied().flatten() {
                return Ok(Some(Filled { handle: used.handle, piece, len: used.len }));
            }
            // Added before the ring was this pool's.
            let _ = self.ring.release(used.handle);
        }
        Ok(None)
    }

    /// Posts a buffer again whose bytes are not needed any more, or another one in its place.
    ///
    /// # Errors
    /// The buffer, if it is none of this pool's that was polled.
    pub fn repost(&mut self, filled: Filled) -> Result<(), Filled> {
        if !self.is_polled(&filled) {
            return Err(filled);
        }
        if self.suits(filled.piece) || self.taken() <= enough(self.count) && !self.has_room() {
            match self.ring.repost(filled.handle) {
                Ok(handle) => {
                    self.set(filled.handle, None);
                    self.set(handle, Some(filled.piece));
                }
                // In order, behind a buffer that the caller has not decided about: another one comes in its place.
                Err(KeptError::OutOfTurn { .. }) => self.exchange(&filled),
                Err(_) => return Err(filled),
            }
        } else {
            self.exchange(&filled);
        }
        self.fill();
        Ok(())
    }

    /// Leaves a buffer to the caller, until it is [given back](Self::give_back).
    ///
    /// # Errors
    /// The buffer, if it is none of this pool's that was polled.
    pub fn hold(&mut self, filled: Filled) -> Result<Held, Filled> {
        if !self.is_polled(&filled) {
            return Err(filled);
        }
        self.drop_posted(&filled);
        self.fill();
        Ok(Held { piece: filled.piece, skip: 0, len: filled.len })
    }

    /// Takes a buffer back.
    ///
    /// # Errors
    /// The buffer, if it is from another pool.
    pub fn give_back(&mut self, held: Held) -> Result<(), Held> {
        if !self.cutter.give_back(held.piece) {
            return Err(held);
        }
        self.fill();
        Ok(())
    }

    /// Makes everything posted visible, and says whether the device wants a kick.
    pub fn flush(&mut self) -> Notify {
        self.ring.flush()
    }

    /// Asks the device for calls. False if buffers were used meanwhile.
    #[must_use = "false means that there are frames to receive before sleeping"]
    pub fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    /// Tells the device that calls are not needed.
    pub fn disarm(&mut self) {
        self.ring.disarm();
    }

    /// True for a buffer that was polled here and is not decided about.
    fn is_polled(&self, filled: &Filled) -> bool {
        self.posted.get(usize::from(filled.handle.0)).copied().flatten() == Some(filled.piece)
    }

    fn suits(&self, piece: Piece) -> bool {
        cutter::suits(piece.len, self.wanted())
    }

    /// True if there is memory for a buffer of the length wanted.
    fn has_room(&self) -> bool {
        self.cutter.has_room(self.wanted())
    }

    /// Buffers that have a descriptor.
    fn taken(&self) -> u16 {
        self.ring.size().saturating_sub(self.ring.free_slots())
    }

    /// Frees a buffer and its descriptors, to be replaced when there is room.
    fn exchange(&mut self, filled: &Filled) {
        self.drop_posted(filled);
        self.cutter.give_back(filled.piece);
    }

    /// Frees the descriptors of a buffer.
    fn drop_posted(&mut self, filled: &Filled) {
        // A `Filled` of this pool is kept: there is only one, and it is taken here.
        let _ = self.ring.release(filled.handle);
        self.set(filled.handle, None);
    }

    fn set(&mut self, handle: Handle, piece: Option<Piece>) {
        if let Some(posted) = self.posted.get_mut(usize::from(handle.0)) {
            *posted = piece;
        }
    }

    /// Posts a buffer; false if the ring has no room, and then it is free again.
    fn post(&mut self, piece: Piece) -> bool {
        match self.ring.add(&[Element { addr: piece.addr, len: piece.len, writable: true }]) {
            Ok(handle) => {
                self.set(handle, Some(piece));
                true
            }
            Err(_) => {
                self.cutter.give_back(piece);
                false
            }
        }
    }

    /// Posts new buffers until there are all, or no memory is left. The last quarter of them waits for memory in which
    /// they have the length wanted: else buffers of a length that is not wanted any more would hold on to it forever.
    fn fill(&mut self) {
        while self.taken() < self.count {
            let wanted = self.wanted();
            let piece = self.cutter.cut(wanted);
            let piece =
                if self.taken() < enough(self.count) { piece.or_else(|| self.cutter.cut_any(wanted)) } else { piece };
            let Some(piece) = piece else { break };
            if !self.post(piece) {
                break;
            }
        }
    }
}

/// How many of `count` buffers have to be posted always: three quarters.
const fn enough(count: u16) -> u16 {
    count.saturating_sub(count / 4)
}

#[cfg(test)]
mod tests;
