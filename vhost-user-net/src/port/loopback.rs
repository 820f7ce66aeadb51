//! `--net loopback`.

use std::io;

use net_filter::MacAddr;
use virtio_net_core::NetHeader;
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst, TxFrame};
use virtio_net_core::rx::RxFilter;

/// Frames that wait for the guest at most: what is beyond is dropped, as by any network.
const MAX_FRAMES: usize = 1024;
/// Their bytes at most: as many frames of 1514 bytes, or 34 of the longest.
const MAX_BYTES: usize = MAX_FRAMES * 2176;
const MASK: usize = MAX_FRAMES - 1;
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
    /// Where those that wait are, by their number.
    places: Box<[Place; MAX_FRAMES]>,
    ends: Ends,
}

/// The two ends of what waits. Copied out for a loop over a burst: it costs no store a frame then.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    /// Numbers of the oldest frame that waits and of the next one that comes; they count on and on.
    first: usize,
    last: usize,
    /// Where the next one goes in the store.
    next: usize,
}

/// Where in the store a frame is.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    at: u32,
    len: u32,
}

impl LoopbackQueue {
    pub(super) fn new() -> Self {
        let places = Box::new([Place::default(); MAX_FRAMES]);
        Self { store: vec![0; MAX_BYTES].into(), places, ends: Ends::default() }
    }

    pub(super) fn clear(&mut self) {
        self.ends.first = self.ends.last;
    }

    /// Keeps the frame; false if there is no room.
    #[inline]
    fn reflect(&mut self, ends: &mut Ends, frame: &TxFrame<'_>) -> bool {
        let Some(at) = ends.reserve(&self.places, frame.len()) else { return false };
        let bytes = self.store.get_mut(at..at.saturating_add(frame.len())).unwrap_or_default();
        if bytes.len() == frame.head().len() {
            // Nothing to look for in guest memory.
            copy_short(bytes, frame.head());
        } else {
            frame.copy_to(bytes);
        }
        swap_addresses(bytes, frame.head());
        ends.push(&mut self.places, at, frame.len());
        true
    }
}

impl Ends {
    const fn waiting(&self) -> usize {
        self.last.wrapping_sub(self.first)
    }

    /// A place for a frame of `len` bytes, if there is room.
    #[inline]
    fn reserve(&mut self, places: &[Place; MAX_FRAMES], len: usize) -> Option<usize> {
        // The last place to end at: of the oldest frame's start and the store's end, what comes next.
        let mut end = MAX_BYTES;
        if self.waiting() == 0 {
            // Again at the start, which the caches still hold.
            self.next = 0;
        } else {
            let oldest = places.get(self.first & MASK)?.at as usize;
            if self.next <= oldest {
                end = oldest;
            } else if self.next.saturating_add(len) > end {
                end = oldest;
                self.next = 0;
            }
        }
        let at = self.next;
        (at.saturating_add(len) <= end && self.waiting() < MAX_FRAMES).then_some(at)
    }

    /// Notes that the next frame is at `at`.
    #[inline]
    fn push(&mut self, places: &mut [Place; MAX_FRAMES], at: usize, len: usize) {
        if let Some(place) = places.get_mut(self.last & MASK) {
            *place = Place { at: at as u32, len: len as u32 }; // both within the store
        }
        self.last = self.last.wrapping_add(1);
        self.next = at.saturating_add(len).next_multiple_of(LINE);
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
        let mut ends = self.ends;
        let failed = burst.iter().filter(|frame| !self.reflect(&mut ends, frame)).count();
        self.ends = ends;
        Taken { count: burst.len(), failed }
    }
}

impl FrameSource for LoopbackQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        let mut first = self.ends.first;
        let mut supply = Supply::Dry;
        while first != self.ends.last {
            let Place { at, len } = self.places.get(first & MASK).copied().unwrap_or_default();
            let (at, len) = (at as usize, len as usize);
            let frame = self.store.get(at..at.saturating_add(len)).unwrap_or_default();
            if room.put(&NetHeader::NONE, frame) == Placed::NoRoom {
                supply = Supply::More;
                break;
            }
            first = first.wrapping_add(1);
        }
        self.ends.first = first;
        Ok(supply)
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
        let mut places = Box::new([Place::default(); MAX_FRAMES]);
        let mut ends = Ends::default();
        let waiting = |ends: &Ends, places: &[Place; MAX_FRAMES]| -> Vec<(usize, usize)> {
            (ends.first..ends.last).map(|i| places[i & MASK]).map(|p| (p.at as usize, p.len as usize)).collect()
        };
        let mut refused = [0, 0];
        for i in 0..200_000_usize {
            // It fills with short frames, empties, fills with long ones, empties.
            let (filling, long) = ((i / 3000) % 2 == 0, (i / 6000) % 2 == 0);
            let len = [14, 64, 65, 1500, 2176, 9000, 65_589][if long { i % 7 } else { i % 3 }];
            match ends.reserve(&places, len) {
                Some(at) => {
                    assert!(at % LINE == 0 && at + len <= MAX_BYTES);
                    ends.push(&mut places, at, len);
                }
                None => {
                    let bytes: usize = waiting(&ends, &places).iter().map(|p| p.1.next_multiple_of(LINE)).sum();
                    // At most one frame's worth is lost at the end of the store, and one to the line.
                    assert!(ends.waiting() == MAX_FRAMES || bytes + 2 * 65_589 + 2 * LINE > MAX_BYTES);
                    refused[usize::from(ends.waiting() < MAX_FRAMES)] += 1;
                }
            }
            let gone = if filling { usize::from(i % 4 == 0) } else { 1 + i % 2 };
            ends.first += gone.min(ends.waiting());
            if i % 100 == 0 {
                let mut places = waiting(&ends, &places);
                places.sort_unstable();
                assert!(places.windows(2).all(|p| p[0].0 + p[0].1 <= p[1].0), "{places:?}");
            }
        }
        assert!(refused.iter().all(|n| *n > 100), "both bounds were met: {refused:?}");
    }
}
