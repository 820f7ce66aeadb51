//! Ordering towards a device that is not another CPU core: `VIRTIO_F_ORDER_PLATFORM` (virtio 1.3, 6.3).
//!
//! Between two CPU cores the C++ memory model's acquire, release and fence are enough, and that is what [`Region`]s give.
//! A device behind a bus is no thread of that model: it may be outside of the domain that such instructions reach. The
//! feature says so, and this wrapper makes of any memory one whose ordering reaches further. Whoever does not wrap pays
//! nothing.
//!
//! What is chosen (Linux makes the same choice by `weak_barriers`, in `virtio_mb`, `virtio_rmb` and `virtio_wmb`):
//!
//! | architecture | after an acquire load | before a release store | full fence |
//! |---|---|---|---|
//! | x86-64 | nothing but the compiler's order | the same | `mfence` |
//! | aarch64 | `dmb oshld` | `dmb osh` | `dsb sy` |
//! | others | sequentially consistent fence | the same | the same |
//!
//! - x86-64: stores to ordinary memory reach the bus in order and loads are taken in order (`dma_rmb` and `dma_wmb` are
//!   compiler barriers there). Only a load may pass an earlier store; `mfence` stops that for every type of memory, which
//!   the locked instruction that is used between cores does not promise.
//! - aarch64: the fences between cores (`ish`) end at the inner shareable domain; devices are in the outer one. `oshld`
//!   keeps later loads and stores behind the load. A release here also keeps earlier *loads* before the store, as buffers
//!   are given back by it: so `osh`, where Linux has `oshst`. `dsb sy`, as Linux's `mb`, is complete before anything
//!   later begins, a write to a notification register among it.
//! - Others: the strongest that the language has.
//!
//! The notification itself, a store to a register, is the embedder's: it comes after `flush`, whose full fence is before.
//!
//! [`Region`]: super::Region
#![expect(unsafe_code, reason = "implements the unsafe contracts of the seams, and fences in assembly")]

use core::marker::PhantomData;

use super::{Access, GuestAddr, GuestMemory, GuestSlice, RingMem};
use crate::error::Fault;

/// The fences of one platform.
pub trait Fences {
    /// Later loads and stores stay behind the load just done.
    fn after_load();
    /// Earlier loads and stores stay before the store that comes.
    fn before_store();
    /// Earlier stores are visible before later loads are done.
    fn full();
}

/// Fences towards devices on this machine's buses; which, says the table in the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlatformFences;

#[cfg(all(target_arch = "x86_64", not(miri)))]
impl Fences for PlatformFences {
    #[inline]
    fn after_load() {
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }

    #[inline]
    fn before_store() {
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }

    #[inline]
    fn full() {
        // SAFETY: a fence; no `nomem`, so the compiler keeps memory accesses on their side of it.
        unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
impl Fences for PlatformFences {
    #[inline]
    fn after_load() {
        // SAFETY: a fence; no `nomem`, so the compiler keeps memory accesses on their side of it.
        unsafe { core::arch::asm!("dmb oshld", options(nostack, preserves_flags)) };
    }

    #[inline]
    fn before_store() {
        // SAFETY: as above.
        unsafe { core::arch::asm!("dmb osh", options(nostack, preserves_flags)) };
    }

    #[inline]
    fn full() {
        // SAFETY: as above.
        unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
    }
}

#[cfg(any(not(any(target_arch = "x86_64", target_arch = "aarch64")), miri))]
impl Fences for PlatformFences {
    #[inline]
    fn after_load() {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }

    #[inline]
    fn before_store() {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }

    #[inline]
    fn full() {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }
}

/// Memory whose rings are ordered by `F`: see [`PlatformOrdered`].
#[derive(Debug)]
pub struct Ordered<M, F> {
    inner: M,
    fences: PhantomData<fn() -> F>,
}

/// Memory whose rings are ordered for a device that is not another CPU core: to be used once
/// `VIRTIO_F_ORDER_PLATFORM` was negotiated.
///
/// ```
/// # use virtio_ring::{Format, GuestAddr, HeapMemory, PlatformOrdered, QueueConfig, SplitDriver};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mem = PlatformOrdered::new(HeapMemory::zeroed(GuestAddr(0), 1 << 16)?);
/// let (config, _end) = QueueConfig::split(GuestAddr(0x1000), 64);
/// let driver = SplitDriver::new(&mem, &config)?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "VIRTIO_F_ORDER_PLATFORM")]
pub type PlatformOrdered<M> = Ordered<M, PlatformFences>;

impl<M, F> Ordered<M, F> {
    /// The same memory with these fences.
    #[must_use]
    pub const fn new(inner: M) -> Self {
        Self { inner, fences: PhantomData }
    }

    /// The memory without the fences.
    #[must_use]
    pub const fn inner(&self) -> &M {
        &self.inner
    }
}

impl<M: Clone, F> Clone for Ordered<M, F> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

// SAFETY: every translation is `inner`'s, which lives as long.
unsafe impl<M: GuestMemory, F: Fences> GuestMemory for Ordered<M, F> {
    type Area = OrderedArea<M::Area, F>;

    #[inline]
    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        self.inner.translate(addr, len, access)
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<Self::Area, Fault> {
        Ok(OrderedArea { inner: self.inner.ring_area(addr, len)?, fences: PhantomData })
    }
}

/// A ring area of an [`Ordered`] memory.
#[derive(Debug)]
pub struct OrderedArea<A, F> {
    inner: A,
    fences: PhantomData<fn() -> F>,
}

/// Accesses that are handed on as they are.
macro_rules! plain {
    ($(load $load:ident: $loaded:ty;)* $(store $store:ident: $stored:ty;)*) => {
        $(#[inline]
        unsafe fn $load(&self, off: usize) -> $loaded {
            // SAFETY: the caller's contract.
            unsafe { self.inner.$load(off) }
        })*
        $(#[inline]
        unsafe fn $store(&self, off: usize, value: $stored) {
            // SAFETY: the caller's contract.
            unsafe { self.inner.$store(off, value) }
        })*
    };
}

// SAFETY: every access is `inner`'s, with the same arguments.
unsafe impl<A: RingMem, F: Fences> RingMem for OrderedArea<A, F> {
    type View<'a>
        = OrderedArea<A::View<'a>, F>
    where
        Self: 'a;

    #[inline]
    fn view(&self) -> Self::View<'_> {
        OrderedArea { inner: self.inner.view(), fences: PhantomData }
    }

    #[inline]
    fn len(&self) -> usize {
        self.inner.len()
    }

    #[inline]
    fn is_aligned(&self, align: usize) -> bool {
        self.inner.is_aligned(align)
    }

    plain! {
        load load_relaxed: u16;
        load load32_relaxed: u32;
        load read16: u16;
        load read32: u32;
        load read64: u64;
        store store_relaxed: u16;
        store store32_relaxed: u32;
        store write16: u16;
        store write32: u32;
        store write64: u64;
    }

    #[inline]
    unsafe fn load_acquire(&self, off: usize) -> u16 {
        // SAFETY: the caller's contract.
        let value = unsafe { self.inner.load_acquire(off) };
        F::after_load();
        value
    }

    #[inline]
    unsafe fn load64_acquire(&self, off: usize) -> u64 {
        // SAFETY: the caller's contract.
        let value = unsafe { self.inner.load64_acquire(off) };
        F::after_load();
        value
    }

    #[inline]
    unsafe fn store_release(&self, off: usize, value: u16) {
        F::before_store();
        // SAFETY: the caller's contract.
        unsafe { self.inner.store_release(off, value) };
    }

    #[inline]
    unsafe fn store64_release(&self, off: usize, value: u64) {
        F::before_store();
        // SAFETY: the caller's contract.
        unsafe { self.inner.store64_release(off, value) };
    }

    #[inline]
    fn full_fence(&self) {
        // In place of `inner`'s, as it is stronger.
        F::full();
    }
}
