//! The control queue (virtio 1.4, 5.1.6.5).
//!
//! [`CtrlPump`] takes commands from the ring and answers them; a [`CtrlHandler`] carries them out, for a net device that of
//! [`NetDevice::commands`](crate::NetDevice::commands).

mod number;
mod pump;
pub(crate) mod stats;

pub use number::*;
pub use pump::{CtrlOutcome, CtrlPump, CtrlStats};
pub(crate) use stats::Source;
pub use stats::{
    CommandCounters, Counters, RxCounters, STATS_CVQ, STATS_RX_BASIC, STATS_RX_CSUM, STATS_RX_GSO, STATS_TX_BASIC,
    STATS_TX_CSUM, STATS_TX_GSO, TxCounters,
};

use alloc::vec::Vec;

/// Most bytes of data of one command; more is answered with [`Ack::Err`].
pub const MAX_COMMAND: usize = 65_536;

/// The answer to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ack {
    /// Done, and in force.
    #[doc(alias = "VIRTIO_NET_OK")]
    Ok = 0,
    /// Unknown, malformed or impossible: nothing has changed.
    #[doc(alias = "VIRTIO_NET_ERR")]
    Err = 1,
}

/// What a command answers besides its [`Ack`]: `command-specific-result`, as far as the driver has room for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reply {
    bytes: Vec<u8>,
    room: usize,
}

impl Reply {
    /// An empty one for a driver with room for `room` bytes.
    #[must_use]
    pub const fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), room }
    }

    /// Bytes that the driver has still room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    /// Appends `bytes`, cut off where the driver's room ends (virtio 1.4, 5.1.6.5.10.3).
    pub fn put(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(self.room());
        self.bytes.extend_from_slice(bytes.get(..n).unwrap_or_default());
    }

    /// What there is so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes it as good as new.
    fn renew(&mut self, room: usize) {
        self.bytes.clear();
        self.room = room;
    }
}

/// Carries commands out.
pub trait CtrlHandler {
    /// Carries one command out. `data` is a host copy; what the command answers besides the [`Ack`] goes to `reply`, and
    /// is not shown to the driver unless the answer is [`Ack::Ok`].
    ///
    /// Whatever is unknown or malformed is answered with [`Ack::Err`] and changes nothing.
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8], reply: &mut Reply) -> Ack;

    /// True once the last command is in force everywhere. Its buffer is not used before: the driver may rely on it from
    /// then on.
    fn is_settled(&mut self) -> bool {
        true
    }
}
