//! What can go wrong, and whose fault it is.

use crate::mem::{Access, GuestAddr};

/// A guest address range that cannot be accessed as asked for: not at all, or not yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("guest memory {addr:#x} (+{len} bytes) is not {} for {access:?}", lack(.missing))]
pub struct Fault {
    /// First address of the range.
    pub addr: GuestAddr,
    /// Bytes asked for.
    pub len: u64,
    /// What the access was for.
    pub access: Access,
    /// Nothing is known about the first address *yet*: ask whoever translates (vhost: an IOTLB miss), and try again. The
    /// peer did nothing wrong.
    #[doc(alias = "VHOST_IOTLB_MISS")]
    pub missing: bool,
}

impl Fault {
    /// The range is none that may be accessed so.
    #[must_use]
    pub const fn forbidden(addr: GuestAddr, len: u64, access: Access) -> Self {
        Self { addr, len, access, missing: false }
    }

    /// The range is not translated yet.
    #[must_use]
    pub const fn missing(addr: GuestAddr, len: u64, access: Access) -> Self {
        Self { addr, len, access, missing: true }
    }

    /// The fault, if it is that of a translation that is not there yet.
    const fn miss(self) -> Option<Self> {
        if self.missing { Some(self) } else { None }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "called by a derive with references to fields")]
const fn lack(missing: &bool) -> &'static str {
    if *missing { "translated yet" } else { "accessible" }
}

/// A memory map that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// A region of no bytes.
    #[error("memory region at {addr:#x} has no bytes")]
    Empty {
        /// Where it would begin.
        addr: GuestAddr,
    },
    /// A region that ends beyond the last address, or is larger than this process can hold.
    #[error("memory region at {addr:#x} of {len} bytes does not fit the address space")]
    Wraps {
        /// Where it begins.
        addr: GuestAddr,
        /// Its length in bytes.
        len: u64,
    },
    /// Two regions share an address.
    #[error("memory region at {addr:#x} overlaps the one before it")]
    Overlap {
        /// First shared address.
        addr: GuestAddr,
    },
}

/// The peer, or the caller who set the queue up, broke the ring as a whole.
///
/// A device that meets one stops the queue: the error is latched, the ring looks empty from then on, and the device
/// sets `DEVICE_NEEDS_RESET`. Nothing but a reset of the queue clears it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Set-up: a queue size that the format does not allow.
    #[error("queue size {size} is not a power of two from 1 to 32768")]
    Size {
        /// The size asked for.
        size: u16,
    },
    /// Set-up: a ring area that is not aligned as the format asks.
    #[error("ring area at {addr:#x} is not aligned to {align} bytes")]
    Misaligned {
        /// The area's guest address (0 if only the mapping is known).
        addr: GuestAddr,
        /// The alignment expected, in bytes.
        align: usize,
    },
    /// Set-up: a ring area shorter than the queue size asks for.
    #[error("ring area has {len} bytes, expected at least {expected}")]
    AreaTooShort {
        /// The area's length in bytes.
        len: usize,
        /// What the queue size asks for.
        expected: usize,
    },
    /// Set-up: a ring area outside of guest memory.
    #[error(transparent)]
    Unmapped(#[from] Fault),
    /// Set-up: restored indices that the ring in memory contradicts.
    #[error("restored next-available index {avail} is not within {size} of the used index {used}")]
    State {
        /// The restored next-available index.
        avail: u16,
        /// The used index found in the ring.
        used: u16,
        /// The queue size.
        size: u16,
    },
    /// Set-up: a queue size that the packed format does not allow.
    #[error("queue size {size} is not from 1 to 32768")]
    PackedSize {
        /// The size asked for.
        size: u16,
    },
    /// Set-up: a restored next-available place outside of the ring.
    #[error("restored next-available place {avail:#06x} has an offset that is not below the queue size {size}")]
    PackedAvail {
        /// The restored available offset and wrap counter.
        avail: u16,
        /// The queue size.
        size: u16,
    },
    /// Set-up: a restored next-used place outside of the ring.
    #[error("restored next-used place {used:#06x} has an offset that is not below the queue size {size}")]
    PackedUsed {
        /// The restored used offset and wrap counter.
        used: u16,
        /// The queue size.
        size: u16,
    },
    /// Set-up: restored places that contradict each other.
    #[error("restored next-available place {avail:#06x} is more than {size} ahead of the used place {used:#06x}")]
    PackedOrder {
        /// The restored available offset and wrap counter.
        avail: u16,
        /// The restored used offset and wrap counter.
        used: u16,
        /// The queue size.
        size: u16,
    },
    /// Set-up: restored places that the ring in memory contradicts.
    #[error("restored places {used:#06x} to {avail:#06x} are the device's, but slot {slot} was not made available")]
    PackedHeld {
        /// The restored available offset and wrap counter.
        avail: u16,
        /// The restored used offset and wrap counter.
        used: u16,
        /// The slot found.
        slot: u16,
    },
    /// The driver made a chain available that has no end among the slots that are not the device's already.
    #[error("chain at slot {slot} does not end within {most} descriptors")]
    PackedChain {
        /// Where the chain begins.
        slot: u16,
        /// Slots that it could take.
        most: u16,
    },
    /// The driver's available index moved by more than the ring holds.
    #[error("available index {idx} is not 0 to {size} ahead of the used index {used}")]
    AvailIndex {
        /// The index found.
        idx: u16,
        /// The used index last published.
        used: u16,
        /// The queue size.
        size: u16,
    },
    /// The driver named a head descriptor outside of the table.
    #[error("available ring names descriptor {head}, expected below {size}")]
    Head {
        /// The index found.
        head: u16,
        /// The queue size.
        size: u16,
    },
    /// The device's used index moved by more than is outstanding.
    #[error("used index {idx} is {ahead} ahead, but only {outstanding} chains are outstanding")]
    UsedIndex {
        /// The index found.
        idx: u16,
        /// How far ahead of the last one it is.
        ahead: u16,
        /// Chains that the device holds.
        outstanding: u16,
    },
    /// The device used a descriptor that is not the head of an outstanding chain.
    #[error("used ring names descriptor {id}, which is not the head of an outstanding chain")]
    UsedId {
        /// The id found.
        id: u32,
    },
    /// The device claims to have written more than the chain can hold.
    #[error("chain {id} holds {room} writable bytes, but the device claims to have written {len}")]
    UsedLen {
        /// Head of the chain.
        id: u16,
        /// Writable bytes of the chain.
        room: u32,
        /// Length claimed.
        len: u32,
    },
}

impl RingError {
    /// Set-up: what is not translated yet. Nothing was written; try again once it is.
    #[must_use]
    pub const fn missing(self) -> Option<Fault> {
        match self {
            Self::Unmapped(fault) => fault.miss(),
            _ => None,
        }
    }
}

/// The driver made a chain that breaks a rule, or the chain names memory that it may not.
///
/// The chain still has a [`Token`](crate::Token): the device completes it with length 0, counts it, and goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// `next` points outside of the table.
    #[error("descriptor names descriptor {next} as its next, expected below {size}")]
    Next {
        /// The index found.
        next: u16,
        /// Entries of the table.
        size: u16,
    },
    /// More elements than the queue has entries: a loop, or a chain longer than allowed (virtio 1.3, 2.7.5).
    #[error("chain has more than {max} elements")]
    TooLong {
        /// Elements allowed.
        max: u16,
    },
    /// A device-readable element behind a device-writable one (virtio 1.3, 2.7.4.2).
    #[error("readable element {addr:#x} behind a writable one")]
    ReadableBehindWritable {
        /// The element's address.
        addr: GuestAddr,
    },
    /// An indirect table inside of an indirect table, `NEXT` beside `INDIRECT`, or `INDIRECT` not negotiated
    /// (virtio 1.3, 2.7.5.3.1).
    #[error("indirect descriptor where none is allowed")]
    Indirect,
    /// An indirect table whose length is 0 or not a multiple of 16, or with more than 32768 entries.
    #[error("indirect table of {len} bytes, expected a multiple of 16 from 16 to 524288")]
    IndirectLen {
        /// The length found, in bytes.
        len: u32,
    },
    /// The lengths of the elements add up to 2^32 or more (virtio 1.3, 2.7.5).
    #[error("elements of the chain add up to 2^32 bytes or more")]
    TooManyBytes,
    /// An element, or an indirect table, outside of guest memory.
    #[error(transparent)]
    Unmapped(#[from] Fault),
}

impl ChainFault {
    /// What is not translated yet. A sink that returns such a fault lets the chain stay where it is: see
    /// [`DeviceRing::missing`](crate::DeviceRing::missing).
    #[must_use]
    pub const fn missing(self) -> Option<Fault> {
        match self {
            Self::Unmapped(fault) => fault.miss(),
            _ => None,
        }
    }
}
