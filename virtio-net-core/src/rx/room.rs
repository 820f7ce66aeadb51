//! Where a back end puts the frames for the guest: the receive buffers at the front of the ring.

use alloc::vec::Vec;

use net_filter::FrameHead;
use smallvec::SmallVec;
use virtio_ring::{Chain, GuestSlice, View};

use super::RxStats;
use crate::backend::{HEAD_LEN, MAX_FRAME};
use crate::header::{BACKEND_HEADER_LEN, DATA_VALID, GSO_ECN, GSO_NONE, NEEDS_CSUM, NetHeader};
use crate::offload::{Completion, csum_fits, resolve};
use crate::steering::FlowHash;

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// It is in the guest's buffers.
    Delivered,
    /// The filter rejected it; no buffer was used.
    Filtered,
    /// It went to another queue; no buffer of this one was used.
    Steered,
    /// It can never be delivered (longer than a buffer without merging, or than any frame; an offload that the driver
    /// did not acknowledge): dropped and counted.
    Dropped,
    /// There are not enough buffers for it now: keep it and offer it first the next time.
    NoRoom,
}

/// Decides which frames a guest gets, by the first bytes of the frame, and on which queue.
pub trait RxFilter {
    /// True if the guest is to have the frame.
    fn accepts(&mut self, head: &[u8]) -> bool;

    /// Which queue a frame that was accepted goes to. Only asked with [`RxFormat::steered`].
    fn steer(&mut self, frame: &Carried<'_>) -> Steer {
        let _ = frame;
        Steer::Here(FlowHash::default())
    }

    /// Takes a frame that goes to another queue. False: it is lost.
    fn hand_over(&mut self, queue: u16, header: &NetHeader, frame: &Carried<'_>) -> bool {
        let _ = (queue, header, frame);
        false
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Steer {
    /// To this queue, with this hash.
    Here(FlowHash),
    /// To the receive queue of this pair.
    To(u16),
}

/// A frame on its way to the guest: in host memory, or in the guest's, where it was read to already and where the guest may
/// change everything but the head.
#[derive(Clone, Copy, Debug)]
pub struct Carried<'r> {
    head: &'r [u8],
    rest: Rest<'r>,
    len: usize,
}

/// What follows the head of a frame.
#[derive(Clone, Copy, Debug)]
enum Rest<'r> {
    /// It is still to be written to its place.
    Host(&'r [u8]),
    /// It is in these segments already, one after the other.
    Placed(&'r [GuestSlice<'r>]),
}

impl Carried<'_> {
    /// Length of the frame in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame that passed the filter has an Ethernet header")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The host copy of its first [`HEAD_LEN`](crate::backend::HEAD_LEN) bytes.
    #[must_use]
    pub const fn head(&self) -> &[u8] {
        self.head
    }

    /// Puts a copy of the frame in place of what is in `to`.
    pub fn copy_to(&self, to: &mut Vec<u8>) {
        to.clear();
        to.extend_from_slice(self.head);
        match self.rest {
            Rest::Host(bytes) => to.extend_from_slice(bytes),
            Rest::Placed(segs) => {
                to.resize(self.len, 0);
                let mut left = to.get_mut(self.head.len()..).unwrap_or_default();
                for seg in segs {
                    let n = seg.read(left);
                    left = left.get_mut(n..).unwrap_or_default();
                }
            }
        }
    }
}

/// Sees the frames that a guest gets: for captures.
pub trait RxWatch {
    /// The frame of `len` bytes was delivered; `frame` goes over its bytes in guest memory, which the guest may change.
    fn delivered(&mut self, header: &NetHeader, len: usize, frame: &mut dyn Iterator<Item = GuestSlice<'_>>);
}

/// How frames are laid out for this driver: the header and merging are frozen when the queue starts, the rest commands change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RxFormat {
    /// Bytes of `struct virtio_net_hdr`: 10, 12 or 20.
    pub header_len: usize,
    /// `VIRTIO_NET_F_MRG_RXBUF` was acknowledged.
    pub mergeable: bool,
    /// `flags` bits that the driver may be shown.
    pub flags: u8,
    /// Bit n set: the driver takes `gso_type` n (without the ECN bit).
    pub gso_types: u8,
    /// The driver takes `gso_type` with the ECN bit.
    pub ecn: bool,
    /// Longest packet that is not to be segmented, in bytes behind the Ethernet header and its tags: the MTU, if that was
    /// acknowledged.
    pub mtu: Option<u16>,
    /// [`RxFilter::steer`] is asked for every frame.
    pub steered: bool,
}

impl RxFormat {
    /// Bytes of the longest frame without offloads of which nothing has to be known but its length; 0 if there is none.
    pub(super) fn plain_len(&self) -> usize {
        let longest = self.mtu.map_or(MAX_FRAME, |mtu| usize::from(mtu).saturating_add(ETHERNET).min(MAX_FRAME));
        // Behind a header of another size it is placed as every other frame is.
        if self.header_len == BACKEND_HEADER_LEN && !self.steered { longest } else { 0 }
    }
}

/// Chains that were filled, from the front of the view.
#[derive(Debug)]
pub(super) struct Filled {
    /// Bytes written to each.
    pub(super) written: Vec<u32>,
    /// Of these, the chains that hold no plain frame: frames in other shapes, which are counted where they are placed, and
    /// buffers of no use.
    others: usize,
    /// Bytes written to those.
    other_bytes: u64,
}

impl Filled {
    pub(super) fn new(depth: usize) -> Self {
        Self { written: Vec::with_capacity(depth), others: 0, other_bytes: 0 }
    }

    /// Counts the plain frames, and forgets all chains. Counting them as they come would cost three stores for each, which
    /// queue up behind those to the guest's memory.
    pub(super) fn count(&mut self, stats: &mut RxStats) {
        let frames = self.written.len().wrapping_sub(self.others) as u64;
        let written = self.written.iter().fold(0_u64, |sum, n| sum.wrapping_add((*n).into()));
        let headers = frames.wrapping_mul(BACKEND_HEADER_LEN as u64);
        stats.frames = stats.frames.wrapping_add(frames);
        stats.buffers = stats.buffers.wrapping_add(frames);
        stats.bytes = stats.bytes.wrapping_add(written.wrapping_sub(self.other_bytes).wrapping_sub(headers));
        self.written.clear();
        (self.others, self.other_bytes) = (0, 0);
    }

    fn len(&self) -> usize {
        self.written.len()
    }

    fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Notes a chain without a plain frame.
    fn push_other(&mut self, written: u32) {
        self.written.push(written);
        self.others = self.others.wrapping_add(1); // no more than are in the list
        self.other_bytes = self.other_bytes.wrapping_add(written.into());
    }
}

/// Bytes of an Ethernet header without tags.
const ETHERNET: usize = 14;
/// Longest header: with a hash.
const MAX_HEADER: usize = 20;

/// Receive buffers that a [`FrameSource`](crate::backend::FrameSource) fills.
pub struct RxRoom<'a, F: ?Sized> {
    pub(super) view: View<'a>,
    /// The view holds as many buffers as it ever will.
    pub(super) complete: bool,
    pub(super) format: RxFormat,
    /// Longest frame that needs no look at what is in it: see [`RxFormat::plain_len`].
    pub(super) plain_len: usize,
    pub(super) filter: &'a mut F,
    pub(super) stats: &'a mut RxStats,
    pub(super) filled: &'a mut Filled,
    pub(super) watch: Option<&'a mut dyn RxWatch>,
}

impl<'a, F: RxFilter + ?Sized> RxRoom<'a, F> {
    /// The same room, with somebody watching.
    pub fn watched<'b>(&'b mut self, watch: &'b mut dyn RxWatch) -> RxRoom<'b, F> {
        RxRoom {
            view: self.view,
            complete: self.complete,
            format: self.format,
            plain_len: self.plain_len,
            filter: self.filter,
            stats: self.stats,
            filled: self.filled,
            watch: Some(watch),
        }
    }

    /// True if no buffer is left.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.filled.len() >= self.view.chains().len()
    }

    /// Bytes of the longest frame that fits now.
    #[must_use]
    pub fn capacity(&mut self) -> usize {
        self.skip_unusable();
        let chains = self.chains();
        let room = if self.format.mergeable {
            chains.iter().filter(|c| self.usable(c)).fold(0_usize, |n, c| n.saturating_add(c.writable_len() as usize))
        } else {
            chains.first().map_or(0, |c| c.writable_len() as usize)
        };
        room.saturating_sub(self.format.header_len).min(MAX_FRAME)
    }

    /// Places a frame that is in host memory. `header` must be true of it.
    // Always inline: the stores of a call would queue up behind those to the guest's memory.
    #[inline(always)]
    pub fn put(&mut self, header: &NetHeader, frame: &[u8]) -> Placed {
        if header.flags == 0
            && header.gso_type == GSO_NONE
            // At least one byte, at most so many.
            && frame.len().wrapping_sub(1) < self.plain_len
            && let Some(seg) = self.view.chains().get(self.filled.len()).and_then(Chain::usual)
            && seg.len() >= frame.len().wrapping_add(BACKEND_HEADER_LEN)
        {
            return self.put_plain(seg, frame);
        }
        self.put_any(header, frame)
    }

    /// Places a complete frame in a buffer of one segment that is long enough, behind a header of twelve bytes: what most
    /// frames come to.
    #[inline(always)]
    fn put_plain(&mut self, seg: GuestSlice<'a>, frame: &[u8]) -> Placed {
        if !self.filter.accepts(frame.get(..HEAD_LEN).unwrap_or(frame)) {
            self.stats.filtered = self.stats.filtered.wrapping_add(1);
            return Placed::Filtered;
        }
        // A header of zeros, and `num_buffers` 1 (virtio 1.3, 5.1.6.4.1).
        let _ = seg.store96(0, 1 << 16);
        seg.skip(BACKEND_HEADER_LEN).write(frame);
        // At most the segment's length. Counted at the end of the burst.
        self.filled.written.push(frame.len().wrapping_add(BACKEND_HEADER_LEN) as u32);
        if self.watch.is_some() {
            let chain = self.view.chains().get(self.filled.len().wrapping_sub(1)..).unwrap_or_default();
            self.show(&NetHeader::NONE, chain.get(..1).unwrap_or_default(), frame.len());
        }
        Placed::Delivered
    }

    #[inline(never)]
    fn put_any(&mut self, header: &NetHeader, frame: &[u8]) -> Placed {
        let head = frame.get(..HEAD_LEN).unwrap_or(frame);
        let rest = frame.get(HEAD_LEN..).unwrap_or_default();
        self.place(header, &Carried { head, rest: Rest::Host(rest), len: frame.len() })
    }

    /// Lets `read` read one frame straight into the guest's buffers.
    ///
    /// `read` gets three places, to be filled in this order: the back end's header, the frame's head, and guest memory
    /// for what follows the head. It answers the frame's length in bytes without the header, or `None` if there is no
    /// frame. A length beyond the places it got means that the frame was cut off: it is dropped.
    ///
    /// `Ok(None)` means that no frame was read. [`Placed::NoRoom`] cannot come back from here.
    ///
    /// # Errors
    /// Whatever `read` returns.
    pub fn read_with<E>(
        &mut self,
        read: impl FnOnce(&mut [u8; BACKEND_HEADER_LEN], &mut [u8; HEAD_LEN], &[GuestSlice<'a>]) -> Result<Option<usize>, E>,
    ) -> Result<Option<Placed>, E> {
        self.skip_unusable();
        let mut header = [0; BACKEND_HEADER_LEN];
        let mut head = [0; HEAD_LEN];
        let mut rest: SmallVec<[GuestSlice<'a>; 64]> = SmallVec::new();
        self.tail(self.format.header_len.saturating_add(HEAD_LEN), &mut rest);
        let Some(len) = read(&mut header, &mut head, &rest)? else { return Ok(None) };
        let places = rest.iter().fold(HEAD_LEN, |n, seg| n.saturating_add(seg.len()));
        if len > places {
            return Ok(Some(self.cut_off(self.format.header_len.saturating_add(len))));
        }
        let header = NetHeader::from_bytes(&header);
        let head = head.get(..len).unwrap_or(&head);
        let placed = self.place(&header, &Carried { head, rest: Rest::Placed(&rest), len });
        if placed == Placed::NoRoom {
            self.stats.no_room = self.stats.no_room.wrapping_add(1);
            return Ok(Some(Placed::Dropped));
        }
        Ok(Some(placed))
    }

    /// Drops a frame that was cut off where its places ended, even if there is room behind a buffer that cannot be used:
    /// its bytes are not there. That buffer is given back, or the next long frame would end there as well.
    #[cold]
    fn cut_off(&mut self, total: usize) -> Placed {
        if !matches!(self.pick(total), Err(Placed::Dropped)) {
            self.stats.no_room = self.stats.no_room.wrapping_add(1);
        }
        Placed::Dropped
    }

    /// The chains not filled yet.
    #[inline]
    fn chains(&self) -> &'a [Chain] {
        self.view.chains().get(self.filled.len()..).unwrap_or_default()
    }

    #[inline]
    fn usable(&self, chain: &Chain) -> bool {
        !chain.is_faulty() && chain.writable_len() as usize >= self.format.header_len
    }

    /// Completes buffers that cannot hold anything with length 0.
    #[inline]
    fn skip_unusable(&mut self) {
        while let Some(chain) = self.chains().first()
            && !self.usable(chain)
        {
            self.filled.push_other(0);
            self.stats.bad_chains = self.stats.bad_chains.wrapping_add(1);
        }
    }

    /// Filters the frame, finds its queue and its buffers, and writes what is not there yet.
    #[inline]
    fn place(&mut self, header: &NetHeader, frame: &Carried<'_>) -> Placed {
        let (head, len) = (frame.head, frame.len);
        if !self.filter.accepts(head) {
            self.stats.filtered = self.stats.filtered.wrapping_add(1);
            return Placed::Filtered;
        }
        let mut hash = FlowHash::default();
        if self.format.steered {
            match self.filter.steer(frame) {
                Steer::Here(found) => hash = found,
                Steer::To(queue) => return self.hand_over(queue, header, frame),
            }
        }
        let resolved = resolve(header, self.format.flags, head, len);
        let shown = resolved.filter(|(header, _)| len <= MAX_FRAME && self.shows(header, head, len));
        let Some((header, mut csum)) = shown else {
            self.stats.dropped = self.stats.dropped.wrapping_add(1);
            return Placed::Dropped;
        };
        let total = self.format.header_len.saturating_add(len);
        self.skip_unusable();
        let chains = match self.pick(total) {
            Ok(chains) => chains,
            Err(placed) => return placed,
        };
        if let Some(csum) = &mut csum {
            csum.add(head);
            match frame.rest {
                Rest::Host(rest) => csum.add(rest),
                Rest::Placed(rest) => csum.add_placed(rest, len.saturating_sub(HEAD_LEN)),
            }
        }
        if let Rest::Host(rest) = frame.rest {
            self.scatter(chains, self.format.header_len.saturating_add(head.len()), rest);
        }
        self.write_front(&header, hash, chains, head);
        if let Some((field, sum)) = csum.as_ref().map(Completion::finish) {
            self.scatter(chains, self.format.header_len.saturating_add(field), &sum);
        }
        self.record(chains, total);
        self.stats.frames = self.stats.frames.wrapping_add(1);
        self.stats.bytes = self.stats.bytes.wrapping_add(len as u64);
        if header != NetHeader::NONE {
            self.count_offloads(&header, len);
        }
        if self.watch.is_some() {
            self.show(&header, chains, len);
        }
        Placed::Delivered
    }

    /// Gives a frame to the queue that it belongs to.
    #[cold]
    fn hand_over(&mut self, queue: u16, header: &NetHeader, frame: &Carried<'_>) -> Placed {
        if frame.len <= MAX_FRAME && self.filter.hand_over(queue, header, frame) {
            self.stats.steered = self.stats.steered.wrapping_add(1);
            return Placed::Steered;
        }
        self.stats.lost = self.stats.lost.wrapping_add(1);
        Placed::Dropped
    }

    /// Counts what the driver is told of a frame.
    #[cold]
    fn count_offloads(&mut self, header: &NetHeader, len: usize) {
        if header.flags & NEEDS_CSUM != 0 {
            self.stats.needs_csum = self.stats.needs_csum.wrapping_add(1);
        } else if header.flags & DATA_VALID != 0 {
            self.stats.data_valid = self.stats.data_valid.wrapping_add(1);
        }
        if header.gso_type != GSO_NONE {
            self.stats.gso_frames = self.stats.gso_frames.wrapping_add(1);
            self.stats.gso_bytes = self.stats.gso_bytes.wrapping_add(len as u64);
        }
    }

    /// Lets the watcher see a frame that is in the guest's buffers.
    #[cold]
    fn show(&mut self, header: &NetHeader, chains: &'a [Chain], len: usize) {
        let (view, mut skip, mut left) = (self.view, self.format.header_len, len);
        let mut segments = chains.iter().flat_map(|c| view.writable(c)).map(|seg| {
            let part = seg.skip(skip).take(left);
            skip = skip.saturating_sub(seg.len());
            left = left.saturating_sub(part.len());
            part
        });
        if let Some(watch) = &mut self.watch {
            watch.delivered(header, len, &mut segments);
        }
    }

    /// True if the driver may be given a frame like this (virtio 1.3, 5.1.6.4.1 and 5.1.4.1).
    #[inline]
    fn shows(&self, header: &NetHeader, head: &[u8], len: usize) -> bool {
        if header.flags & !self.format.flags != 0 || (header.flags & NEEDS_CSUM != 0 && !csum_fits(header, len)) {
            return false;
        }
        if header.gso_type != GSO_NONE {
            return self.shows_gso(header);
        }
        self.format.mtu.is_none_or(|mtu| len <= usize::from(mtu).saturating_add(ETHERNET) || fits_mtu(mtu, head, len))
    }

    /// True if the driver acknowledged the kind of large frame, and the header has what goes with one.
    fn shows_gso(&self, header: &NetHeader) -> bool {
        let kind = header.gso_type & !GSO_ECN;
        kind < 8
            && self.format.gso_types & 1_u8.wrapping_shl(kind.into()) != 0
            && (header.gso_type & GSO_ECN == 0 || self.format.ecn)
            && header.flags & NEEDS_CSUM != 0
            && header.gso_size != 0
    }

    /// The chains that `total` bytes take.
    #[inline]
    fn pick(&mut self, total: usize) -> Result<&'a [Chain], Placed> {
        let chains = self.chains();
        let first = chains.first().map_or(0, |c| c.writable_len() as usize);
        if first >= total {
            return Ok(chains.get(..1).unwrap_or_default());
        }
        if chains.is_empty() {
            return Err(Placed::NoRoom);
        }
        if !self.format.mergeable {
            self.stats.too_long = self.stats.too_long.wrapping_add(1);
            return Err(Placed::Dropped);
        }
        self.merge(total)
    }

    /// The run of buffers that `total` bytes take, more than one of them.
    fn merge(&mut self, total: usize) -> Result<&'a [Chain], Placed> {
        let mut chains = self.chains();
        let mut room = 0_usize;
        let mut taken = 0_usize;
        while let Some(chain) = chains.get(taken) {
            taken = taken.saturating_add(1);
            if !self.usable(chain) {
                // A frame cannot go around a buffer: those before it are given back empty together with it.
                (0..taken).for_each(|_| self.filled.push_other(0));
                self.stats.bad_chains = self.stats.bad_chains.wrapping_add(1);
                chains = self.chains();
                (room, taken) = (0, 0);
                continue;
            }
            room = room.saturating_add(chain.writable_len() as usize);
            if room >= total {
                return Ok(chains.get(..taken).unwrap_or_default());
            }
        }
        if self.complete && self.filled.is_empty() {
            // The driver has posted all that it can, and it is not enough.
            self.stats.too_long = self.stats.too_long.wrapping_add(1);
            return Err(Placed::Dropped);
        }
        Err(Placed::NoRoom)
    }

    /// Notes how much of each chain was written: every one but the last is full (virtio 1.3, 5.1.6.4).
    #[inline]
    fn record(&mut self, chains: &[Chain], total: usize) {
        let mut left = total;
        for chain in chains {
            let n = left.min(chain.writable_len() as usize);
            self.filled.push_other(n as u32); // at most `writable_len`, which is a u32
            left = left.saturating_sub(n);
        }
        self.stats.buffers = self.stats.buffers.wrapping_add(chains.len() as u64);
    }

    #[inline]
    fn write_front(&self, header: &NetHeader, hash: FlowHash, chains: &'a [Chain], head: &[u8]) {
        let mut front = [0_u8; MAX_HEADER];
        let (common, behind) = front.split_at_mut(BACKEND_HEADER_LEN);
        // One buffer without merging (virtio 1.3, 5.1.6.4.1); a frame takes at most 65535 of them.
        common.copy_from_slice(&header.to_bytes(chains.len() as u16));
        // `hash_value`, `hash_report`, and two reserved bytes, if the header is so long.
        if let Some((value, [report @ .., _, _])) = behind.split_first_chunk_mut::<4>() {
            *value = hash.value.to_le_bytes();
            report.copy_from_slice(&hash.report.to_le_bytes());
        }
        self.scatter(chains, 0, front.get(..self.format.header_len).unwrap_or_default());
        self.scatter(chains, self.format.header_len, head);
    }

    /// Writes host bytes from byte `at` of the chains on.
    #[inline]
    fn scatter(&self, chains: &'a [Chain], at: usize, bytes: &[u8]) {
        // Most buffers are one segment.
        match chains.first().map(|c| self.view.writable(c)) {
            Some([seg, ..]) if seg.len() >= at.saturating_add(bytes.len()) => _ = seg.skip(at).write(bytes),
            _ => self.scatter_wide(chains, at, bytes),
        }
    }

    #[inline(never)]
    fn scatter_wide(&self, chains: &'a [Chain], at: usize, mut bytes: &[u8]) {
        let mut skip = at;
        for seg in chains.iter().flat_map(|c| self.view.writable(c)) {
            if bytes.is_empty() {
                return;
            }
            let n = seg.skip(skip).write(bytes);
            skip = skip.saturating_sub(seg.len());
            bytes = bytes.get(n..).unwrap_or_default();
        }
    }

    /// The segments from byte `at` of the free room on, as much as the longest frame may take.
    fn tail(&self, at: usize, to: &mut SmallVec<[GuestSlice<'a>; 64]>) {
        let mut skip = at;
        let mut left = MAX_FRAME.saturating_sub(HEAD_LEN);
        let most = if self.format.mergeable { usize::MAX } else { 1 };
        let chains = self.chains().iter().take(most).take_while(|c| self.usable(c));
        for seg in chains.flat_map(|c| self.view.writable(c)) {
            let rest = seg.skip(skip).take(left);
            skip = skip.saturating_sub(seg.len());
            if !rest.is_empty() {
                to.push(rest);
                left = left.saturating_sub(rest.len());
            }
            if left == 0 {
                return;
            }
        }
    }
}

/// True if a frame that is too long for a plain Ethernet header is so because of its VLAN tags.
#[cold]
fn fits_mtu(mtu: u16, head: &[u8], len: usize) -> bool {
    FrameHead::parse(head).is_some_and(|frame| len <= usize::from(mtu).saturating_add(frame.l3))
}
