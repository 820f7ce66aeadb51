//! What a device's side of a ring has to say when it gives no chain.

use crate::error::{ChainFault, Fault, RingError};

/// Looked at whenever there is no chain to take: a ring without trouble pays for one comparison then, and for nothing as
/// long as there are chains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum News {
    /// The ring is empty.
    #[default]
    Nothing,
    /// The driver broke the ring, and nobody was told yet.
    Broken,
    /// This very look found a chain that is not translated yet.
    Missed,
    /// The look before this one did.
    Missing,
}

impl News {
    /// Takes note of a chain's fault; true if it is the driver's, false if the chain has to wait for a translation.
    #[cold]
    pub(crate) const fn note(&mut self, fault: ChainFault) -> bool {
        if fault.missing().is_none() {
            return true;
        }
        *self = Self::Missed;
        false
    }

    /// Why a look gave no chain, if that is a violation that nobody was told of yet.
    #[cold]
    pub(crate) fn tell(&mut self, fault: Option<RingError>) -> Result<(), RingError> {
        let news = *self;
        *self = if news == Self::Missed { Self::Missing } else { Self::Nothing };
        match fault {
            Some(error) if news == Self::Broken => Err(error),
            _ => Ok(()),
        }
    }

    /// What the last look missed; `fault` is that of the last bad chain.
    pub(crate) fn missing(self, fault: Option<ChainFault>) -> Option<Fault> {
        matches!(self, Self::Missed | Self::Missing).then(|| fault.and_then(ChainFault::missing)).flatten()
    }
}
