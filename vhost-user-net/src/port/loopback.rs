//! `--net loopback`.

use std::collections::VecDeque;
use std::io;

use net_filter::MacAddr;
use virtio_net_core::NetHeader;
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst, TxFrame};
use virtio_net_core::rx::RxFilter;

/// Frames that wait for the guest at most: what is beyond is dropped, as by any network.
const MAX_FRAMES: usize = 1024;
/// Their bytes at most: as many frames of 1514 bytes, or 34 of the longest.
const MAX_BYTES: usize = MAX_FRAMES * 2176;
/// Frames begin with a cache line.
const LINE: usize = 64;
/// Where frames to a group seem to come from: a group cannot be a source.
const REFLECTOR: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// Gives every frame back with its MAC addresses swapped.
#[derive(Debug)]
pub(super) struct LoopbackQueue {
    /// Where frames are kept, one behind the other, round and round. A frame is in one piece: what is too short at the
    /// end is left out.
    store: Box<[u8]>,
    waiting: VecDeque<Place>,
    /// Where the next frame goes.
    next: usize,
}

/// Where in the store a frame is.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    len: usize,
}

impl LoopbackQueue {
    pub(super) fn new() -> Self {
        Self { store: vec![0; MAX_BYTES].into(), waiting: VecDeque::with_capacity(MAX_FRAMES), next: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// A place for a frame of `len` bytes, if there is room.
    #[inline]
    fn reserve(&mut self, len: usize) -> Option<Place> {
        // The last place to end at: of the oldest frame's start and the store's end, what comes next.
        let mut end = self.store.len();
        match self.waiting.front() {
            // Again at the start, which the caches still hold.
            None => self.next = 0,
            Some(oldest) if self.next <= oldest.at => end = oldest.at,
            Some(oldest) if self.next.saturating_add(len) > end => {
                end = oldest.at;
                self.next = 0;
            }
            Some(_) => {}
        }
        let at = self.next;
        if at.saturating_add(len) > end || self.waiting.len() >= MAX_FRAMES {
            return None;
        }
        self.next = at.saturating_add(len).next_multiple_of(LINE);
        Some(Place { at, len })
    }

    /// Keeps the frame; false if there is no room.
    #[inline]
    fn reflect(&mut self, frame: &TxFrame<'_>) -> bool {
        let Some(place) = self.reserve(frame.len()) else { return false };
        let bytes = self.store.get_mut(place.at..place.at.saturating_add(place.len)).unwrap_or_default();
        if bytes.len() == frame.head().len() {
            // Nothing to look for in guest memory.
            copy_short(bytes, frame.head());
        } else {
            frame.copy_to(bytes);
        }
        swap_addresses(bytes, frame.head());
        self.waiting.push_back(place);
        true
    }
}

/// Copies a frame that is all head, without a call for it: 16 bytes at a time, the last of which may overlap.
#[inline]
fn copy_short(to: &mut [u8], from: &[u8]) {
    let (places, _) = to.as_chunks_mut::<16>();
    let (chunks, _) = from.as_chunks::<16>();
    for (place, chunk) in places.iter_mut().zip(chunks) {
        *place = *chunk;
    }
    match (to.last_chunk_mut::<16>(), from.last_chunk::<16>()) {
        (Some(place), Some(chunk)) => *place = *chunk,
        _ => to.copy_from_slice(from),
    }
}

/// Writes the addresses of `head`, swapped, to the front of its copy. Nothing is read back that was just written.
#[inline]
fn swap_addresses(copy: &mut [u8], head: &[u8]) {
    let (Some(place), Some(addresses)) = (copy.first_chunk_mut::<12>(), head.first_chunk::<12>()) else { return };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *addresses;
    let MacAddr([f0, f1, f2, f3, f4, f5]) = if d0 & 1 == 1 { REFLECTOR } else { MacAddr([d0, d1, d2, d3, d4, d5]) };
    *place = [s0, s1, s2, s3, s4, s5, f0, f1, f2, f3, f4, f5];
}

impl FrameSink for LoopbackQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let failed = burst.iter().filter(|frame| !self.reflect(frame)).count();
        Taken { count: burst.len(), failed }
    }
}

impl FrameSource for LoopbackQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        while let Some(Place { at, len }) = self.waiting.front().copied() {
            let frame = self.store.get(at..at.saturating_add(len)).unwrap_or_default();
            if room.put(&NetHeader::NONE, frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.waiting.pop_front();
        }
        Ok(Supply::Dry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_swapped_and_a_group_is_never_a_source() {
        let mut frame = [1_u8, 2, 3, 4, 5, 6, 12, 13, 14, 15, 16, 17, 8, 0];
        frame[0] = 2;
        let mut copy = frame;
        swap_addresses(&mut copy, &frame);
        assert_eq!(copy, [12, 13, 14, 15, 16, 17, 2, 2, 3, 4, 5, 6, 8, 0]);
        frame[..6].copy_from_slice(&[0xff; 6]);
        swap_addresses(&mut copy, &frame);
        assert_eq!(copy, [12, 13, 14, 15, 16, 17, 2, 0, 0, 0, 0, 0xfe, 8, 0]);
    }

    #[test]
    fn short_frames_of_every_length_are_copied_whole() {
        let from: Vec<u8> = (1..=128).collect();
        for len in 0..=128 {
            let mut to = [0; 129];
            copy_short(&mut to[..len], &from[..len]);
            assert_eq!((&to[..len], to[len]), (&from[..len], 0));
        }
    }

    /// Frames of all lengths come and go, with the queue ever fuller and emptier: no two share a byte, and none that
    /// has room is refused.
    #[test]
    fn places_never_overlap() {
        let mut queue = LoopbackQueue::new();
        let mut refused = [0, 0];
        for i in 0..200_000_usize {
            // It fills with short frames, empties, fills with long ones, empties.
            let (filling, long) = ((i / 3000) % 2 == 0, (i / 6000) % 2 == 0);
            let len = [14, 64, 65, 1500, 2176, 9000, 65_589][if long { i % 7 } else { i % 3 }];
            match queue.reserve(len) {
                Some(place) => {
                    assert!(place.at % LINE == 0 && place.at + place.len <= MAX_BYTES);
                    queue.waiting.push_back(place);
                }
                None => {
                    let bytes: usize = queue.waiting.iter().map(|p| p.len.next_multiple_of(LINE)).sum();
                    // At most one frame's worth is lost at the end of the store, and one to the line.
                    assert!(queue.waiting.len() == MAX_FRAMES || bytes + 2 * 65_589 + 2 * LINE > MAX_BYTES);
                    refused[usize::from(queue.waiting.len() < MAX_FRAMES)] += 1;
                }
            }
            let gone = if filling { usize::from(i % 4 == 0) } else { 1 + i % 2 };
            queue.waiting.drain(..gone.min(queue.waiting.len()));
            if i % 100 == 0 {
                let mut places: Vec<_> = queue.waiting.iter().copied().collect();
                places.sort_by_key(|place| place.at);
                assert!(places.windows(2).all(|p| p[0].at + p[0].len <= p[1].at), "{places:?}");
            }
        }
        assert!(refused.iter().all(|n| *n > 100), "both bounds were met: {refused:?}");
    }
}
