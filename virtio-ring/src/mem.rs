//! The two memory seams: ring areas, which need ordering, and buffers, which do not.
//!
//! *Ring areas* are few and fixed: they are translated once, when a queue is enabled, and then accessed by
//! offset without a check that could fail. *Buffers* are many and arbitrary: they are translated one element at
//! a time, longest accessible prefix first, so that a range over two regions is a loop and not a special case.

#![expect(unsafe_code, reason = "declares the unsafe contracts of the seams")]

mod copy;
mod heap;
mod ordered;
mod region;
mod slice;

pub use heap::{HeapBlock, HeapMemory};
pub use ordered::{Fences, Ordered, OrderedArea, PlatformFences, PlatformOrdered};
pub use region::{MappedArea, MappedView, Region, RegionMemory};
pub use slice::GuestSlice;

use crate::error::Fault;

/// A guest physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GuestAddr(pub u64);

impl GuestAddr {
    /// The address `bytes` further on, or `None` past the end of the address space.
    #[must_use]
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

impl core::fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl core::fmt::LowerHex for GuestAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::LowerHex::fmt(&self.0, f)
    }
}

/// What this side is going to do with a range of guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read only: a device-readable buffer seen from the device.
    Read,
    /// Written by this side: a device-writable buffer seen from the device.
    Write,
}

/// One translated ring area.
///
/// *Sync words* (the `load*`/`store*` accessors: 16 bits for the indices of a split ring, 32 and 64 for a packed one) may
/// be raced by the peer by design. *Payload words* (the `read*`/`write*` accessors) belong to one side at a time as long as
/// the peer keeps to the protocol; as the peer may not, an implementation over shared memory makes them relaxed atomics as well. All words are in the host's
/// byte order here: the rings convert from and to little-endian.
///
/// # Safety
/// An implementor guarantees that every access that keeps to the contract below is sound whatever the peer does
/// to the same memory meanwhile, that `len` and `is_aligned` never change their answer, and that `view` returns the same
/// area: the same bytes, with the same answers, accessible for as long as the view lives; views of views too.
///
/// The contract of every accessor: `off + size_of(word) <= self.len()`, and the address of the word is aligned to
/// its size.
pub unsafe trait RingMem {
    /// The same area for a loop over a burst, see [`view`](Self::view): a copy of where it is, or `&Self`.
    type View<'a>: RingMem
    where
        Self: 'a;

    /// The area by value. A compiler must assume that a store to shared memory changes everything that lives in memory, the
    /// area's own address included; of a value in registers it knows better.
    fn view(&self) -> Self::View<'_>;

    /// Length of the area in bytes.
    fn len(&self) -> usize;
    /// True if the area has no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// True if the area's first byte is aligned to `align` bytes (a power of two).
    fn is_aligned(&self, align: usize) -> bool;

    /// Loads a sync word without ordering.
    /// # Safety
    /// The contract of the trait.
    unsafe fn load_relaxed(&self, off: usize) -> u16;
    /// Loads a sync word; later accesses of this thread stay behind it.
    /// # Safety
    /// The contract of the trait.
    unsafe fn load_acquire(&self, off: usize) -> u16;
    /// Stores a sync word without ordering.
    /// # Safety
    /// The contract of the trait.
    unsafe fn store_relaxed(&self, off: usize, value: u16);
    /// Stores a sync word; earlier accesses of this thread stay before it.
    /// # Safety
    /// The contract of the trait.
    unsafe fn store_release(&self, off: usize, value: u16);

    /// Reads a 16-bit payload word.
    /// # Safety
    /// The contract of the trait.
    unsafe fn read16(&self, off: usize) -> u16;
    /// Reads a 32-bit payload word.
    /// # Safety
    /// The contract of the trait.
    unsafe fn read32(&self, off: usize) -> u32;
    /// Reads a 64-bit payload word.
    /// # Safety
    /// The contract of the trait.
    unsafe fn read64(&self, off: usize) -> u64;
    /// Writes a 16-bit payload word.
    /// # Safety
    /// The contract of the trait.
    unsafe fn write16(&self, off: usize, value: u16);
    /// Writes a 32-bit payload word.
    /// # Safety
    /// The contract of the trait.
    unsafe fn write32(&self, off: usize, value: u32);
    /// Writes a 64-bit payload word.
    /// # Safety
    /// The contract of the trait.
    unsafe fn write64(&self, off: usize, value: u64);

    /// Loads a 32-bit sync word without ordering.
    /// # Safety
    /// The contract of the trait.
    unsafe fn load32_relaxed(&self, off: usize) -> u32;
    /// Stores a 32-bit sync word without ordering.
    /// # Safety
    /// The contract of the trait.
    unsafe fn store32_relaxed(&self, off: usize, value: u32);
    /// Loads a 64-bit sync word; later accesses of this thread stay behind it.
    /// # Safety
    /// The contract of the trait.
    unsafe fn load64_acquire(&self, off: usize) -> u64;
    /// Stores a 64-bit sync word; earlier accesses of this thread stay before it.
    /// # Safety
    /// The contract of the trait.
    unsafe fn store64_release(&self, off: usize, value: u64);

    /// A sequentially consistent fence between this side's earlier store and its later load.
    fn full_fence(&self);
}

macro_rules! by_reference {
    ($(fn $name:ident(off $(, $value:ident: $word:ty)?) $(-> $result:ty)?;)*) => {
        $(
            #[inline]
            unsafe fn $name(&self, off: usize $(, $value: $word)?) $(-> $result)? {
                // SAFETY: the contract of the trait, which the caller keeps to.
                unsafe { (**self).$name(off $(, $value)?) }
            }
        )*
    };
}

// SAFETY: everything is the area's own.
unsafe impl<A: RingMem> RingMem for &A {
    type View<'a>
        = Self
    where
        Self: 'a;

    fn view(&self) -> Self::View<'_> {
        self
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn is_aligned(&self, align: usize) -> bool {
        (**self).is_aligned(align)
    }

    by_reference! {
        fn load_relaxed(off) -> u16;
        fn load_acquire(off) -> u16;
        fn store_relaxed(off, value: u16);
        fn store_release(off, value: u16);
        fn read16(off) -> u16;
        fn read32(off) -> u32;
        fn read64(off) -> u64;
        fn write16(off, value: u16);
        fn write32(off, value: u32);
        fn write64(off, value: u64);
        fn load32_relaxed(off) -> u32;
        fn store32_relaxed(off, value: u32);
        fn load64_acquire(off) -> u64;
        fn store64_release(off, value: u64);
    }

    fn full_fence(&self) {
        (**self).full_fence();
    }
}

/// Guest memory as a device sees it: a map from guest addresses to host memory.
///
/// A value of this type is a *handle*: it owns what keeps the memory mapped.
///
/// # Safety
/// A slice that [`translate`](Self::translate) returned, and an area that [`ring_area`](Self::ring_area) returned,
/// must refer to memory that stays mapped and accessible as asked for as long as this handle or a clone of it
/// lives (an area also keeps it alive by itself), even when the handle is moved. The memory must not be borrowed
/// by any Rust reference meanwhile. A store to what was translated for [`Access::Read`] has to be sound as well, even if it
/// ends the process: [`GuestSlice::write`] does not ask.
pub unsafe trait GuestMemory {
    /// A translated ring area, which owns what keeps it mapped.
    type Area: RingMem;

    /// Translates the longest prefix of `[addr, addr + len)` that is contiguous in host memory and may be accessed
    /// so. The slice has at least one byte unless `len` is 0, and at most `len` bytes.
    ///
    /// # Errors
    /// [`Fault`] if not even the first byte is accessible; a [missing](Fault::missing) one if nothing is known about it
    /// yet and asking again later makes sense.
    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault>;

    /// Translates a ring area of exactly `len` bytes, all of them contiguous and writable.
    ///
    /// # Errors
    /// [`Fault`] if a byte of it is not accessible or it is not contiguous; a [missing](Fault::missing) one as above. An
    /// area that its translation is taken away from needs a new ring: its words are not translated again.
    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<Self::Area, Fault>;
}
