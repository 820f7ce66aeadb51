//! A driver's rings, written down from the specification once more: what a case finds must not be our own driver's fault, and a
//! hostile case has to say what no driver says.

mod packed;
mod split;

use super::guest::{Guest, plus};
use super::outcome::Check;
pub(super) use packed::Packed;
pub(super) use split::Split;
use virtio_ring::GuestAddr;

/// Bits of a descriptor's flags.
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Split,
    Packed,
}

/// One descriptor to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) addr: GuestAddr,
    pub(super) len: u32,
    /// Without what links it to the next one.
    pub(super) flags: u16,
}

impl Piece {
    pub(super) const fn readable(addr: GuestAddr, len: u32) -> Self {
        Self { addr, len, flags: 0 }
    }

    pub(super) const fn writable(addr: GuestAddr, len: u32) -> Self {
        Self { addr, len, flags: WRITE }
    }
}

/// Where a ring's areas are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) desc: GuestAddr,
    pub(super) driver: GuestAddr,
    pub(super) device: GuestAddr,
    pub(super) size: u16,
}

impl Place {
    pub(super) fn take(guest: &mut Guest, size: u16) -> Check<Self> {
        let entries = u64::from(size);
        let desc = guest.take(entries.saturating_mul(16), 64)?;
        let driver = guest.take(entries.saturating_mul(2).saturating_add(64), 64)?;
        let device = guest.take(entries.saturating_mul(8).saturating_add(64), 64)?;
        Ok(Self { desc, driver, device, size })
    }

    /// The descriptor at this place of the table or ring.
    pub(super) fn descriptor(&self, slot: u16) -> GuestAddr {
        plus(self.desc, u64::from(slot).wrapping_mul(16))
    }

    /// All descriptors, byte by byte.
    pub(super) fn table(&self, guest: &Guest) -> Vec<u8> {
        guest.read(self.desc, usize::from(self.size).wrapping_mul(16))
    }
}

/// A buffer that the device side has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) id: u16,
    pub(super) len: u32,
}

/// When the driver wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    Always,
    Never,
    /// When this many more buffers (packed: descriptors) are used and then one.
    Behind(u16),
}

/// A ring of either format.
pub(super) enum Ring {
    Split(Split),
    Packed(Packed),
}

macro_rules! either {
    ($(fn $name:ident($($mutable:ident)? ; $($arg:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        $(
            pub(super) fn $name(& $($mutable)? self $(, $arg: $kind)*) $(-> $result)? {
                match self {
                    Self::Split(ring) => ring.$name($($arg),*),
                    Self::Packed(ring) => ring.$name($($arg),*),
                }
            }
        )*
    };
}

impl Ring {
    pub(super) fn new(format: Format, place: Place) -> Self {
        match format {
            Format::Split => Self::Split(Split::new(place)),
            Format::Packed => Self::Packed(Packed::new(place)),
        }
    }

    pub(super) const fn place(&self) -> Place {
        match self {
            Self::Split(ring) => ring.place,
            Self::Packed(ring) => ring.place,
        }
    }

    either! {
        fn post(mut; guest: &Guest, pieces: &[Piece]) -> Check<u16>;
        fn publish(mut; guest: &Guest);
        fn used(mut; guest: &Guest) -> Check<Option<Used>>;
        fn used_in_order(mut; guest: &Guest) -> Check<Vec<u16>>;
        fn calls(; guest: &Guest, when: Calls);
        fn base(;) -> u32;
    }
}

/// The second word of a descriptor.
fn word(len: u32, high: u16, higher: u16) -> u64 {
    u64::from(len) | u64::from(high) << 32 | u64::from(higher) << 48
}

/// A table of indirect descriptors for these pieces, which their own flags go into.
pub(super) fn indirect(guest: &mut Guest, format: Format, pieces: &[Piece]) -> Check<Piece> {
    let len = (pieces.len() as u64).saturating_mul(16);
    let table = guest.take(len, 16)?;
    let last = pieces.len().saturating_sub(1);
    for (i, piece) in pieces.iter().enumerate() {
        let at = plus(table, (i as u64).wrapping_mul(16));
        let next = if i == last { 0 } else { NEXT };
        guest.store64(at, piece.addr.0.to_le());
        let word = match format {
            Format::Split => word(piece.len, piece.flags | next, (i as u16).wrapping_add(1)),
            // Only one flag counts in a packed ring, and no id (2.8.7 and 2.8.20).
            Format::Packed => word(piece.len, 0xdead, piece.flags),
        };
        guest.store64(plus(at, 8), word.to_le());
    }
    Ok(Piece { addr: table, len: len as u32, flags: INDIRECT })
}
