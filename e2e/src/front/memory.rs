//! The guest's memory: a memory file, mapped here and, once its descriptor is there, by the device side too.
#![expect(unsafe_code, reason = "maps and unmaps a file, and vouches for the mapping to the memory seam")]

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use vhost::VhostUserMemoryRegionInfo;
use virtio_ring::{GuestAddr, Region, RegionMemory};

/// Where the memory begins for the guest: not at 0, so that a forgotten translation shows.
pub(crate) const BASE: GuestAddr = GuestAddr(0x4000_0000);

/// A memory file mapped for reading and writing. Dropping it unmaps.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: *mut c_void,
    len: usize,
    file: OwnedFd,
}

// SAFETY: only an address; what it points to is reached through `Region`, which tolerates any thread.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

/// All of the guest's memory.
pub(crate) type Memory = RegionMemory<Arc<Mapping>>;

impl Mapping {
    /// `len` bytes of zeros in a file that cannot become shorter.
    pub(crate) fn new(len: usize) -> rustix::io::Result<Arc<Self>> {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, len as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base =
            unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)? };
        Ok(Arc::new(Self { base, len, file }))
    }

    /// As the rings and the driver use it.
    pub(crate) fn memory(this: &Arc<Self>) -> Result<Memory, virtio_ring::RegionError> {
        // SAFETY: `len` bytes at `base` are mapped read-write until the last clone of `this` is dropped, and nothing
        // here makes a reference to them.
        let region = unsafe { Region::new(BASE, this.len, this.base.cast(), Arc::clone(this)) };
        RegionMemory::new(vec![region?])
    }

    /// As the device side is told of it.
    pub(crate) fn describe(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: BASE.0,
            memory_size: self.len as u64,
            userspace_addr: self.base.addr() as u64,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }

    /// The memory file.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The address in this process of a guest address: vhost-user names rings so.
    pub(crate) fn user(&self, addr: GuestAddr) -> u64 {
        (self.base.addr() as u64).wrapping_add(addr.0.wrapping_sub(BASE.0))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what `mmap` gave and was given; whoever uses the memory holds an `Arc` of this.
        let unmapped = unsafe { munmap(self.base, self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
