//! A run of guest bytes that is contiguous in host memory.
#![expect(unsafe_code, reason = "the one place that copies to and from guest bytes")]

use core::marker::PhantomData;

use super::copy;

/// Bytes of a cacheline.
const LINE: usize = 64;

/// A run of guest bytes that is contiguous in host memory.
///
/// The guest may change the bytes at any time, so no Rust reference to them is ever made: they are copied in or
/// out, or handed to the kernel. The type has the layout of the C `struct iovec` (pointer, then length in bytes), so
/// a slice of these can be passed to `readv` and `writev` as it is.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GuestSlice<'m> {
    ptr: *mut u8,
    len: usize,
    mem: PhantomData<&'m ()>,
}

// SAFETY: the bytes are shared with the guest anyway; this type reaches them only through `copy`, which tolerates
// concurrent change, so it matters as little which thread does it as for a `&[AtomicU8]`.
unsafe impl Send for GuestSlice<'_> {}
// SAFETY: as for `Send`; no method needs exclusive access.
unsafe impl Sync for GuestSlice<'_> {}

impl<'m> GuestSlice<'m> {
    /// The slice of no bytes.
    pub const EMPTY: Self = Self { ptr: core::ptr::dangling_mut(), len: 0, mem: PhantomData };

    /// A slice of `len` bytes at `ptr`.
    ///
    /// # Safety
    /// For the whole of `'m`, `len` bytes at `ptr` are mapped, readable, and writable if anything is going to write
    /// to the slice, and no Rust reference to them exists.
    #[must_use]
    pub const unsafe fn new(ptr: *mut u8, len: usize) -> Self {
        Self { ptr, len, mem: PhantomData }
    }

    /// Length in bytes.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if the slice has no byte.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first byte's address, for system calls that take an I/O vector.
    #[must_use]
    #[inline]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// The slice without its first `bytes` bytes (empty if it has no more).
    #[must_use]
    #[inline]
    pub fn skip(&self, bytes: usize) -> Self {
        let bytes = bytes.min(self.len);
        // `bytes <= self.len`: the address stays inside the run or one past its end.
        Self { ptr: self.ptr.wrapping_add(bytes), len: self.len.wrapping_sub(bytes), mem: PhantomData }
    }

    /// The first `bytes` bytes of the slice (all of it if it has no more).
    #[must_use]
    #[inline]
    pub fn take(&self, bytes: usize) -> Self {
        Self { ptr: self.ptr, len: bytes.min(self.len), mem: PhantomData }
    }

    /// Asks the processor for the first bytes, which are going to be read. Changes nothing but what that takes.
    #[inline]
    pub fn prefetch(&self) {
        copy::prefetch(self.ptr);
        copy::prefetch(self.ptr.wrapping_add(LINE));
    }

    /// Asks the processor for the first bytes, which are going to be written.
    #[inline]
    pub fn prefetch_write(&self) {
        copy::prefetch_write(self.ptr);
        copy::prefetch_write(self.ptr.wrapping_add(LINE));
    }

    /// The first eight bytes as a little-endian number; `None` if there are not that many.
    #[inline]
    #[must_use]
    pub fn load64(&self) -> Option<u64> {
        if self.len < size_of::<u64>() {
            return None;
        }
        // SAFETY: eight bytes are inside of the run, which is mapped (contract of `new`).
        Some(u64::from_le(unsafe { copy::load64(self.ptr) }))
    }

    /// Stores twelve bytes at the front: the header of most frames, in two stores. False, and nothing, if there are not
    /// that many.
    #[inline]
    #[must_use]
    pub fn store96(&self, low: u64, high: u32) -> bool {
        if self.len < 12 {
            return false;
        }
        // SAFETY: twelve bytes are mapped (contract of `new`); writable as in `write`.
        unsafe { copy::store96(self.ptr, low.to_le(), high.to_le()) };
        true
    }

    /// Copies bytes out of guest memory until either side ends; returns how many.
    #[inline]
    pub fn read(&self, to: &mut [u8]) -> usize {
        let n = self.len.min(to.len());
        // SAFETY: `n` bytes at `ptr` are mapped (contract of `new`, kept by `skip` and `take`); `to` is a host slice,
        // so the two do not overlap.
        unsafe { copy::copy(to.as_mut_ptr(), self.ptr, n) };
        n
    }

    /// Copies bytes out of guest memory until either side ends; returns what was copied.
    #[inline]
    pub fn read_front<'t, const N: usize>(&self, to: &'t mut [u8; N]) -> &'t [u8] {
        let n = self.len.min(N);
        // SAFETY: as in `read`.
        unsafe { copy::copy(to.as_mut_ptr(), self.ptr, n) };
        to.get(..n).unwrap_or_default()
    }

    /// Copies bytes into guest memory until either side ends; returns how many.
    #[inline]
    pub fn write(&self, from: &[u8]) -> usize {
        let n = self.len.min(from.len());
        // SAFETY: as in `read`; writable because whoever made the slice for writing said so in `new`.
        unsafe { copy::copy(self.ptr, from.as_ptr(), n) };
        n
    }

    /// Copies from another guest slice until either side ends; returns how many bytes.
    ///
    /// The two may overlap if a guest arranged it so: which of its own bytes it then finds is its own affair.
    #[inline]
    pub fn copy_from(&self, from: GuestSlice<'_>) -> usize {
        let n = self.len.min(from.len);
        // SAFETY: `n` bytes are mapped on both sides (contract of `new`), `self` writable as in `write`; `copy`
        // tolerates overlap.
        unsafe { copy::copy(self.ptr, from.ptr, n) };
        n
    }

    /// The same run without the lifetime.
    ///
    /// # Safety
    /// The result must not be used after the memory handle that this slice came from, and all clones of it, are gone.
    #[must_use]
    pub(crate) const unsafe fn detach(self) -> GuestSlice<'static> {
        GuestSlice { ptr: self.ptr, len: self.len, mem: PhantomData }
    }
}

impl core::fmt::Debug for GuestSlice<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GuestSlice").field("len", &self.len).finish_non_exhaustive()
    }
}
