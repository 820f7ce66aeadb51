//! A frame that was read and did not fit the guest's buffers.

use virtio_net_core::NetHeader;
use virtio_net_core::backend::{HEAD_LEN, MAX_FRAME, Placed, RxRoom};
use virtio_net_core::rx::RxFilter;
use virtio_ring::GuestSlice;

/// Room for one frame, made once.
///
/// While nothing is held, the room behind the places in guest memory catches what does not fit there.
pub(crate) struct Held {
    /// One byte more than the longest frame: a longer one shows by filling it.
    room: Box<[u8]>,
    header: NetHeader,
    /// Bytes of the frame held; 0 for none.
    len: usize,
}

impl Held {
    pub(crate) fn new() -> Self {
        let room = vec![0; MAX_FRAME.saturating_add(1)].into_boxed_slice();
        Self { room, header: NetHeader::NONE, len: 0 }
    }

    pub(crate) const fn is_some(&self) -> bool {
        self.len > 0
    }

    pub(crate) const fn clear(&mut self) {
        self.len = 0;
    }

    /// Where the frame goes on after `covered` bytes.
    pub(crate) fn spill(&mut self, covered: usize) -> &mut [u8] {
        self.room.get_mut(covered..).unwrap_or_default()
    }

    /// Keeps a frame of `len` bytes whose front went to `head` and `rest`, and the end to [`spill`](Self::spill).
    pub(crate) fn keep(&mut self, header: NetHeader, len: usize, head: &[u8; HEAD_LEN], rest: &[GuestSlice<'_>]) {
        if let Some(front) = self.room.first_chunk_mut() {
            *front = *head;
        }
        let mut at = HEAD_LEN;
        for seg in rest {
            at = at.saturating_add(seg.read(self.room.get_mut(at..).unwrap_or_default()));
        }
        self.keep_whole(header, len);
    }

    /// Keeps a frame of `len` bytes that went to `spill(0)`.
    pub(crate) const fn keep_whole(&mut self, header: NetHeader, len: usize) {
        self.header = header;
        self.len = len;
    }

    /// Offers the frame. `None` if there is none, or not enough room for it still.
    pub(crate) fn place<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Option<Placed> {
        let frame = self.room.get(..self.len).filter(|frame| !frame.is_empty())?;
        let placed = room.put(&self.header, frame);
        if placed == Placed::NoRoom {
            return None;
        }
        self.clear();
        Some(placed)
    }
}
