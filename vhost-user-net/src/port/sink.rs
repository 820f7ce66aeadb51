//! `--net sink`.

use std::hint::black_box;
use std::io;

use virtio_net_core::backend::{FrameSink, FrameSource, RxRoom, Supply, Taken, TxBurst, TxFrame};
use virtio_net_core::rx::RxFilter;

use super::slots::Slots;

/// Copies every frame out of guest memory, whole, and forgets it.
///
/// That is what a receiver has to do at least, and what `rxonly` of DPDK's test program does behind its vhost port;
/// `null` does less than any receiver can. The head of a frame comes as a host copy and stays where it is, the rest
/// goes into buffers that are used again and again.
#[derive(Debug)]
pub(super) struct SinkQueue {
    buffers: Slots,
    /// Frames that went into them.
    turn: usize,
}

impl SinkQueue {
    pub(super) fn new() -> Self {
        Self { buffers: Slots::new(), turn: 0 }
    }

    #[inline]
    fn take(&mut self, frame: &TxFrame<'_>) {
        if frame.len() > frame.head().len() {
            self.turn = self.turn.wrapping_add(1);
            copy_rest(frame, self.buffers.get(self.turn));
        }
        // Nobody reads the bytes; they are to be there all the same.
        black_box(frame.head());
    }
}

/// A frame that is longer than the buffer goes on at its start: every byte is copied, not every one is kept.
#[inline]
fn copy_rest(frame: &TxFrame<'_>, buffer: &mut [u8]) {
    let mut at = 0_usize;
    for mut rest in frame.rest() {
        while !rest.is_empty() {
            let n = rest.read(buffer.get_mut(at..).unwrap_or_default());
            rest = rest.skip(n);
            at = at.saturating_add(n);
            if at >= buffer.len() {
                at = 0;
                if n == 0 {
                    return; // no buffer at all
                }
            }
        }
    }
    black_box(buffer);
}

impl FrameSink for SinkQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        for frame in burst.iter() {
            self.take(&frame);
        }
        Taken { count: burst.len(), failed: 0 }
    }
}

impl FrameSource for SinkQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, _room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        Ok(Supply::Dry)
    }
}

#[cfg(test)]
impl SinkQueue {
    /// What was copied last, from the start of its buffer.
    pub(super) fn last(&mut self) -> &[u8] {
        self.buffers.get(self.turn)
    }
}
