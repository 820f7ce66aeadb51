//! What is asked of a device beside its chains: a new beginning, and whether a hint can be true.

use super::SplitDevice;
use crate::any::Format;
use crate::cursor::Cursor;
use crate::mem::RingMem;
use crate::notification::{HintError, NotificationData, Standing};
use crate::protocol::Unasked;
use crate::ring::QueueState;

impl<A: RingMem> SplitDevice<A> {
    pub(super) fn begin_anew(&mut self) {
        let start = Cursor::new(QueueState::SPLIT.0 as u16);
        self.next_avail = start;
        self.avail_idx = start;
        self.next_used = start;
        self.published = start;
        self.unasked = Unasked::default();
        // The driver clears the flags with the rest of the used ring.
        self.silent = false;
        self.unreported = false;
        self.run = None;
        self.fault = None;
        self.chain_fault = None;
    }

    pub(super) fn judge(&self, data: NotificationData) -> Result<u16, HintError> {
        let (size, avail) = (self.layout.size(), self.next_avail.get());
        if data.format() != Format::Split {
            return Err(HintError::Format { found: data.format(), expected: Format::Split });
        }
        // What the driver has not got back it cannot make available again.
        let held = avail.wrapping_sub(self.published.get());
        let ahead = data.index().wrapping_sub(avail).into();
        let behind = avail.wrapping_sub(data.index()).into();
        Standing { ahead, behind, room: size.saturating_sub(held), avail, size }.judge(data)
    }
}
