//! Guest memory of a case: a memory file, handed out piece by piece.
#![expect(unsafe_code, reason = "checks bounds and alignment once for the unsafe accessors of the memory seam")]

use super::outcome::{Check, Stop, at};
use crate::front::memory::{BASE, Mapping, Memory};
use std::sync::Arc;
use virtio_ring::{Access, GuestAddr, GuestMemory, MappedArea, RingMem};

/// Bytes of all of it.
pub(super) const SIZE: u64 = 8 << 20;

/// All of the guest's memory.
pub(super) struct Guest {
    pub(super) mapping: Arc<Mapping>,
    memory: Memory,
    words: MappedArea<Arc<Mapping>>,
    next: u64,
}

/// The address `bytes` further on.
pub(super) const fn plus(addr: GuestAddr, bytes: u64) -> GuestAddr {
    GuestAddr(addr.0.wrapping_add(bytes))
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident($word:ty $(, $value:ident)?) $(-> $result:ty)? = $of:ident;)*) => {
        $(
            $(#[$doc])*
            pub(super) fn $name(&self, addr: GuestAddr $(, $value: $word)?) $(-> $result)? {
                let Some(offset) = self.offset(addr, size_of::<$word>()) else { return Default::default() };
                // SAFETY: in bounds and aligned, as `offset` checked.
                unsafe { self.words.$of(offset $(, $value)?) }
            }
        )*
    };
}

impl Guest {
    pub(super) fn new() -> Check<Self> {
        let mapping = Mapping::new(SIZE as usize).map_err(at("guest memory"))?;
        let memory = Mapping::memory(&mapping).map_err(at("guest memory"))?;
        let words = memory.ring_area(BASE, SIZE as usize).map_err(at("guest memory"))?;
        Ok(Self { mapping, memory, words, next: BASE.0 })
    }

    /// `len` bytes of zeros that nothing else has, at a multiple of `align`.
    pub(super) fn take(&mut self, len: u64, align: u64) -> Check<GuestAddr> {
        let addr = self.next.next_multiple_of(align.max(1));
        let end = addr.saturating_add(len);
        if end > BASE.0.saturating_add(SIZE) {
            return Err(Stop::NotApplicable("the case wants more guest memory than there is".to_owned()));
        }
        self.next = end;
        self.write(GuestAddr(addr), &vec![0; len as usize]);
        Ok(GuestAddr(addr))
    }

    /// How far memory is handed out; [`Guest::give_back`] takes it.
    pub(super) const fn mark(&self) -> u64 {
        self.next
    }

    /// All that was handed out since is free again.
    pub(super) const fn give_back(&mut self, mark: u64) {
        self.next = mark;
    }

    pub(super) fn write(&self, addr: GuestAddr, bytes: &[u8]) {
        if let Ok(slice) = self.memory.translate(addr, bytes.len(), Access::Write) {
            slice.write(bytes);
        }
    }

    pub(super) fn read(&self, addr: GuestAddr, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if let Ok(slice) = self.memory.translate(addr, len, Access::Read) {
            slice.read(&mut bytes);
        }
        bytes
    }

    fn offset(&self, addr: GuestAddr, len: usize) -> Option<usize> {
        let offset = usize::try_from(addr.0.checked_sub(BASE.0)?).ok()?;
        let fits = offset.checked_add(len)? <= self.words.len() && offset.is_multiple_of(len);
        debug_assert!(fits, "a word of {len} bytes at {addr}");
        fits.then_some(offset)
    }

    words! {
        load16(u16) -> u16 = load_acquire;
        store16(u16, value) = store_release;
        load32(u32) -> u32 = load32_relaxed;
        store32(u32, value) = store32_relaxed;
        load64(u64) -> u64 = load64_acquire;
        store64(u64, value) = store64_release;
    }

    /// Between a store that the device side reads and a load of what it stores.
    pub(super) fn fence(&self) {
        self.words.full_fence();
    }
}
