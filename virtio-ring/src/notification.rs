//! What a driver says with a kick: `VIRTIO_F_NOTIFICATION_DATA` (virtio 1.3, 2.9, 4.1.5.2 and 4.2.3.3).

use crate::any::Format;

/// How far a driver has come with a queue: what it writes to notify the device, instead of the queue's number alone.
///
/// A hint, nothing else: it may be late, and a hostile driver writes what it likes. The ring itself says what is
/// available; [`DeviceRing::hint`](crate::DeviceRing::hint) says whether the data can be true at all.
///
/// ```
/// # use virtio_ring::{Format, NotificationData};
/// let data = NotificationData::from_bits(0x8003_0001, Format::Packed);
/// assert_eq!((data.queue(), data.offset(), data.wrap()), (1, 3, true));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NotificationData {
    queue: u16,
    /// Split: the available index. Packed: offset in the low 15 bits, wrap counter above.
    next: u16,
    format: Format,
}

impl NotificationData {
    pub(crate) const fn new(queue: u16, next: u16, format: Format) -> Self {
        Self { queue, next, format }
    }

    /// From the 32 bits that were written (little-endian on the wire), for a queue of this format.
    #[must_use]
    pub const fn from_bits(bits: u32, format: Format) -> Self {
        Self::new(bits as u16, (bits >> 16) as u16, format)
    }

    /// `vqn` in bits 0 to 15, `next_off` in 16 to 30, `next_wrap` in 31: to be written as a little-endian word.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.queue as u32 | (self.next as u32) << 16
    }

    /// Number of the queue; with `VIRTIO_F_NOTIF_CONFIG_DATA` whatever the device chose instead.
    #[doc(alias = "vqn")]
    #[must_use]
    pub const fn queue(self) -> u16 {
        self.queue
    }

    /// Format of the queue.
    #[must_use]
    pub const fn format(self) -> Format {
        self.format
    }

    /// Packed: slot where the next descriptor will be made available. Split: the low 15 bits of the available index.
    #[doc(alias = "next_off")]
    #[must_use]
    pub const fn offset(self) -> u16 {
        self.next & 0x7fff
    }

    /// Packed: wrap counter of that slot. Split: the top bit of the available index.
    #[doc(alias = "next_wrap")]
    #[must_use]
    pub const fn wrap(self) -> bool {
        self.next & 0x8000 != 0
    }

    /// Both in one: the available index of a split ring.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.next
    }
}

/// Why the data of a notification cannot be true of a ring. Such data is to be counted and ignored: the notification
/// itself is as good as any, so look at the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HintError {
    /// It was read as that of a ring of another format.
    #[error("notification data of a {found:?} ring for a {expected:?} one")]
    Format {
        /// The format of the data.
        found: Format,
        /// The format of the ring.
        expected: Format,
    },
    /// A slot that the ring has not.
    #[error("notification names slot {offset}, expected below {size}")]
    Offset {
        /// The slot named.
        offset: u16,
        /// The queue size.
        size: u16,
    },
    /// Neither what was made available lately nor what could have been since. (Not a proof: a notification could be on its
    /// way for more than a lap.)
    #[error("notification says {next:#06x}, which is not within {size} of the next available {avail:#06x}")]
    Distance {
        /// What the notification says, in the format of [`NotificationData::index`].
        next: u16,
        /// Where the device stands, in the same format.
        avail: u16,
        /// The queue size.
        size: u16,
    },
}

/// Where a device stands, as far as a hint is concerned.
pub(crate) struct Standing {
    /// From the device to where the hint says, forwards.
    pub(crate) ahead: u32,
    /// The same backwards.
    pub(crate) behind: u32,
    /// What the driver can have made available that was not accepted.
    pub(crate) room: u16,
    /// In the format of [`NotificationData::index`].
    pub(crate) avail: u16,
    pub(crate) size: u16,
}

impl Standing {
    /// How much more there is than was accepted, or that this cannot be.
    pub(crate) fn judge(&self, data: NotificationData) -> Result<u16, HintError> {
        if self.ahead <= self.room.into() {
            return Ok(self.ahead as u16); // at most `room`
        }
        if self.behind <= self.size.into() {
            return Ok(0);
        }
        Err(HintError::Distance { next: data.index(), avail: self.avail, size: self.size })
    }
}
