//! Words of a ring at addresses of this process.
#![expect(unsafe_code, reason = "raw pointers are what is measured here")]

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use virtio_ring::GuestAddr;

use crate::Arena;

/// One area of a ring, as an address in this process, and what keeps it mapped.
#[derive(Debug, Clone)]
pub(super) struct Words {
    at: *mut u8,
    _arena: Arena,
}

// SAFETY: only an address and the owner of the mapping; what is behind the address is reached through atomics.
unsafe impl Send for Words {}

impl Words {
    pub(super) fn new(arena: &Arena, addr: GuestAddr) -> Self {
        Self { at: arena.host(addr), _arena: arena.clone() }
    }
}

macro_rules! word {
    ($load:ident, $store:ident, $word:ty, $atomic:ident) => {
        impl Words {
            #[inline(always)]
            pub(super) fn $load(&self, off: usize, order: Ordering) -> $word {
                // SAFETY: offsets are masked by the ring's size, and the arena is mapped while the owner lives.
                unsafe { $atomic::from_ptr(self.at.wrapping_add(off).cast()) }.load(order)
            }
            #[inline(always)]
            pub(super) fn $store(&self, off: usize, value: $word, order: Ordering) {
                // SAFETY: as in the load.
                unsafe { $atomic::from_ptr(self.at.wrapping_add(off).cast()) }.store(value, order);
            }
        }
    };
}
word!(load16, store16, u16, AtomicU16);
word!(load32, store32, u32, AtomicU32);
word!(load64, store64, u64, AtomicU64);
