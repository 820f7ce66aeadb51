//! Guest memory made of mapped regions.
#![expect(unsafe_code, reason = "accesses memory that is shared with a guest through raw pointers")]

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::{Access, GuestAddr, GuestMemory, GuestSlice, RingMem};
use crate::error::{Fault, RegionError};

/// One run of guest addresses that is contiguous in host memory.
#[derive(Debug)]
pub struct Region<K> {
    guest: u64,
    len: u64,
    host: *mut u8,
    keep: K,
}

// SAFETY: `host` is only an address here; what it points to is reached through `GuestSlice` and `MappedArea`, both of
// which may be used from any thread. `keep` is asked for `Send` by the bound.
unsafe impl<K: Send> Send for Region<K> {}
// SAFETY: as for `Send`.
unsafe impl<K: Sync> Sync for Region<K> {}

impl<K> Region<K> {
    /// A region of `len` bytes from guest address `guest` on, found at `host` in this process, readable and writable.
    ///
    /// # Safety
    /// `len` bytes at `host` are mapped, readable and writable for as long as `keep` or a clone of it lives, and no
    /// Rust reference to them exists meanwhile.
    ///
    /// # Errors
    /// [`RegionError::Empty`] and [`RegionError::Wraps`].
    pub unsafe fn new(guest: GuestAddr, len: usize, host: *mut u8, keep: K) -> Result<Self, RegionError> {
        let len = len as u64;
        if len == 0 {
            return Err(RegionError::Empty { addr: guest });
        }
        if guest.0.checked_add(len).is_none() {
            return Err(RegionError::Wraps { addr: guest, len });
        }
        Ok(Self { guest: guest.0, len, host, keep })
    }

    /// The region's first guest address.
    pub const fn guest_addr(&self) -> GuestAddr {
        GuestAddr(self.guest)
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Never true: a region has at least one byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What keeps the region mapped.
    pub const fn keep(&self) -> &K {
        &self.keep
    }

    /// Host address and bytes left from `addr` on, if `addr` is inside.
    #[inline]
    fn at(&self, addr: GuestAddr) -> Option<(*mut u8, usize)> {
        let offset = addr.0.wrapping_sub(self.guest);
        // Below the region the difference wraps to something not below `len`, as the region does not wrap.
        (offset < self.len).then(|| {
            // `len` came from a `usize`, so both casts are exact.
            (self.host.wrapping_add(offset as usize), self.len.wrapping_sub(offset) as usize)
        })
    }
}

/// Guest memory made of regions that do not overlap; a cheap handle to clone.
#[derive(Debug)]
pub struct RegionMemory<K> {
    regions: Arc<[Region<K>]>,
}

impl<K> Clone for RegionMemory<K> {
    fn clone(&self) -> Self {
        Self { regions: Arc::clone(&self.regions) }
    }
}

impl<K> RegionMemory<K> {
    /// Memory of these regions, in any order.
    ///
    /// # Errors
    /// [`RegionError::Overlap`] if two of them share an address.
    pub fn new(mut regions: Vec<Region<K>>) -> Result<Self, RegionError> {
        regions.sort_unstable_by_key(|r| r.guest);
        for pair in regions.windows(2) {
            if let [low, high] = pair
                && high.guest.wrapping_sub(low.guest) < low.len
            {
                return Err(RegionError::Overlap { addr: GuestAddr(high.guest) });
            }
        }
        // The largest first: most buffers are in it, and the walk below is in this order.
        regions.sort_by_key(|r| core::cmp::Reverse(r.len));
        Ok(Self { regions: regions.into() })
    }

    /// The regions, the largest first.
    #[must_use]
    pub fn regions(&self) -> &[Region<K>] {
        &self.regions
    }

    #[inline]
    fn find(&self, addr: GuestAddr) -> Option<(&Region<K>, *mut u8, usize)> {
        self.regions.iter().find_map(|r| r.at(addr).map(|(host, left)| (r, host, left)))
    }
}

// SAFETY: the regions live behind an `Arc` that every handle shares, and each holds its `keep`, which keeps it mapped
// (contract of `Region::new`); an area clones that `keep`.
unsafe impl<K: Clone> GuestMemory for RegionMemory<K> {
    type Area = MappedArea<K>;

    #[inline]
    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        match self.find(addr) {
            // SAFETY: `left` bytes from `host` on are mapped, readable and writable while `self` lives.
            Some((_, host, left)) => Ok(unsafe { GuestSlice::new(host, left.min(len)) }),
            None if len == 0 => Ok(GuestSlice::EMPTY),
            None => Err(Fault::forbidden(addr, len as u64, access)),
        }
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<Self::Area, Fault> {
        match self.find(addr) {
            Some((region, host, left)) if left >= len => Ok(MappedArea { ptr: host, len, _keep: region.keep.clone() }),
            _ => Err(Fault::forbidden(addr, len as u64, Access::Write)),
        }
    }
}

/// A ring area in mapped memory that a peer may change at any time.
///
/// Every access, of payload words too, is a relaxed atomic of the word's size: one plain instruction on the machines
/// this runs on, and sound whatever the peer does.
#[derive(Debug)]
pub struct MappedArea<K> {
    ptr: *mut u8,
    len: usize,
    _keep: K,
}

// SAFETY: `ptr` is reached through atomics only; `keep` is asked for `Send` by the bound.
unsafe impl<K: Send> Send for MappedArea<K> {}
// SAFETY: as for `Send`.
unsafe impl<K: Sync> Sync for MappedArea<K> {}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $word:ty, $atomic:ident, load $order:ident) => {
        #[inline]
        unsafe fn $name(&self, off: usize) -> $word {
            debug_assert!(off.saturating_add(size_of::<$word>()) <= self.len);
            // SAFETY: in bounds and aligned (contract of `RingMem`), mapped while the area lives; every other access by
            // this process is an atomic as well.
            let word = unsafe { $atomic::from_ptr(self.ptr.wrapping_add(off).cast()) };
            word.load(Ordering::$order)
        }
    };
    ($(#[$doc:meta])* $name:ident, $word:ty, $atomic:ident, store $order:ident) => {
        #[inline]
        unsafe fn $name(&self, off: usize, value: $word) {
            debug_assert!(off.saturating_add(size_of::<$word>()) <= self.len);
            // SAFETY: as in the loads; writable by the contract of `Region::new`.
            let word = unsafe { $atomic::from_ptr(self.ptr.wrapping_add(off).cast()) };
            word.store(value, Ordering::$order);
        }
    };
}

/// A [`MappedArea`] by value, for a loop over a burst.
#[derive(Clone, Copy, Debug)]
pub struct MappedView<'a> {
    ptr: *mut u8,
    len: usize,
    area: PhantomData<&'a ()>,
}

macro_rules! ring_mem {
    () => {
        #[inline]
        fn view(&self) -> Self::View<'_> {
            MappedView { ptr: self.ptr, len: self.len, area: PhantomData }
        }

        #[inline]
        fn len(&self) -> usize {
            self.len
        }

        #[inline]
        fn is_aligned(&self, align: usize) -> bool {
            self.ptr.addr().is_multiple_of(align)
        }

        word!(load_relaxed, u16, AtomicU16, load Relaxed);
        word!(load_acquire, u16, AtomicU16, load Acquire);
        word!(store_relaxed, u16, AtomicU16, store Relaxed);
        word!(store_release, u16, AtomicU16, store Release);
        word!(load32_relaxed, u32, AtomicU32, load Relaxed);
        word!(store32_relaxed, u32, AtomicU32, store Relaxed);
        word!(load64_acquire, u64, AtomicU64, load Acquire);
        word!(store64_release, u64, AtomicU64, store Release);
        word!(read16, u16, AtomicU16, load Relaxed);
        word!(read32, u32, AtomicU32, load Relaxed);
        word!(read64, u64, AtomicU64, load Relaxed);
        word!(write16, u16, AtomicU16, store Relaxed);
        word!(write32, u32, AtomicU32, store Relaxed);
        word!(write64, u64, AtomicU64, store Relaxed);

        #[inline]
        fn full_fence(&self) {
            full_fence();
        }
    };
}

// SAFETY: atomics tolerate any concurrent access by the peer; `ptr` and `len` never change.
unsafe impl<K> RingMem for MappedArea<K> {
    type View<'a>
        = MappedView<'a>
    where
        Self: 'a;
    ring_mem!();
}

// SAFETY: as for the area, which the lifetime keeps in place.
unsafe impl RingMem for MappedView<'_> {
    type View<'a>
        = MappedView<'a>
    where
        Self: 'a;
    ring_mem!();
}

/// A sequentially consistent fence.
///
/// On x86-64 this is a locked instruction on the stack, which costs about a third of the `mfence` that
/// `atomic::fence` becomes and orders ordinary memory just as well.
#[inline]
pub(crate) fn full_fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: adds nothing to a word of this thread's own stack; no `nomem`, so the compiler keeps memory accesses on
    // their side of it.
    unsafe {
        core::arch::asm!("lock or dword ptr [rsp], 0");
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    core::sync::atomic::fence(Ordering::SeqCst);
}
