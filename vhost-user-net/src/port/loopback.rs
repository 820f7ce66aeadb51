//! `--net loopback`.

use std::collections::VecDeque;
use std::io;

use net_filter::MacAddr;
use virtio_net_core::NetHeader;
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst, TxFrame};
use virtio_net_core::rx::RxFilter;

/// Frames that wait for the guest at most: what is beyond is dropped, as by any network.
const MAX_FRAMES: usize = 1024;
/// Where frames to a group seem to come from: a group cannot be a source.
const REFLECTOR: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// Gives every frame back with its MAC addresses swapped.
#[derive(Debug)]
pub(super) struct LoopbackQueue {
    waiting: VecDeque<Vec<u8>>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

impl LoopbackQueue {
    pub(super) const fn new() -> Self {
        Self { waiting: VecDeque::new(), spare: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.spare.extend(self.waiting.drain(..));
    }

    fn reflect(&mut self, frame: &TxFrame<'_>) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(frame.len(), 0);
        frame.copy_to(&mut bytes);
        swap_addresses(&mut bytes);
        self.waiting.push_back(bytes);
    }
}

fn swap_addresses(frame: &mut [u8]) {
    let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = frame.first_chunk_mut::<12>() else { return };
    let to = [d0, d1, d2, d3, d4, d5];
    let from = [s0, s1, s2, s3, s4, s5];
    for (to, from) in to.into_iter().zip(from) {
        std::mem::swap(to, from);
    }
    if let Some([_, _, _, _, _, _, from @ ..]) = frame.first_chunk_mut::<12>()
        && MacAddr(*from).is_multicast()
    {
        *from = REFLECTOR.0;
    }
}

impl FrameSink for LoopbackQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let room = MAX_FRAMES.saturating_sub(self.waiting.len());
        for frame in burst.iter().take(room) {
            self.reflect(&frame);
        }
        Taken { count: burst.len(), failed: burst.len().saturating_sub(room) }
    }
}

impl FrameSource for LoopbackQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        while let Some(frame) = self.waiting.front() {
            if room.put(&NetHeader::NONE, frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.spare.extend(self.waiting.pop_front());
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
        swap_addresses(&mut frame);
        assert_eq!(frame, [12, 13, 14, 15, 16, 17, 2, 2, 3, 4, 5, 6, 8, 0]);
        frame[..6].copy_from_slice(&[0xff; 6]);
        swap_addresses(&mut frame);
        assert_eq!(frame, [2, 2, 3, 4, 5, 6, 2, 0, 0, 0, 0, 0xfe, 8, 0]);
    }
}
