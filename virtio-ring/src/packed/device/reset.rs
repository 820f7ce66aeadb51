//! What is asked of a device beside its chains: a new beginning, and whether a hint can be true.

use super::PackedDevice;
use crate::any::Format;
use crate::cursor::Cursor;
use crate::mem::RingMem;
use crate::notification::{HintError, NotificationData, Standing};
use crate::packed::place::Place;
use crate::protocol::Unasked;

impl<A: RingMem> PackedDevice<A> {
    pub(super) fn begin_anew(&mut self) {
        self.next_avail = Place::START;
        self.next_used = Place::START;
        self.published = Place::START;
        self.unasked = Unasked::default();
        self.held = Cursor::new(0);
        self.limit = Cursor::new(self.layout.size());
        self.first = None;
        self.run = None;
        // The driver clears the event words with the rest of the ring.
        self.silent = false;
        self.unreported = false;
        self.fault = None;
        self.chain_fault = None;
    }

    pub(super) fn judge(&self, data: NotificationData) -> Result<u16, HintError> {
        let size = self.layout.size();
        if data.format() != Format::Packed {
            return Err(HintError::Format { found: data.format(), expected: Format::Packed });
        }
        let next = Place::from_bits(data.index(), size).ok_or(HintError::Offset { offset: data.offset(), size })?;
        // What the driver has not got back it cannot make available again.
        let held = self.next_avail.since(self.published, size) as u16; // at most `size`
        let (ahead, behind) = (next.since(self.next_avail, size), self.next_avail.since(next, size));
        let avail = self.next_avail.to_bits();
        Standing { ahead, behind, room: size.saturating_sub(held), avail, size }.judge(data)
    }
}
