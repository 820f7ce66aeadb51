//! One region's file, mapped into this process.
#![expect(unsafe_code, reason = "maps and unmaps files, and vouches for the mapping to the memory seam")]

use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::Arc;

use rustix::fs::{FileType, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use virtio_ring::{GuestAddr, Region, RegionError};

use super::{MemoryError, RegionSpec, guard};

/// Largest page that files of memory come in.
const MAX_PAGE: u64 = 1 << 30;

/// A file mapped into this process for reading and writing, shared with the front end. Dropping it unmaps.
#[derive(Debug)]
pub struct Mapping {
    base: *mut c_void,
    /// Bytes mapped, from `base` on.
    mapped: usize,
    /// Bytes before the region that alignment asked for.
    lead: usize,
    /// Bytes of the region.
    len: usize,
    sealed: bool,
    guard: &'static guard::Slot,
}

// SAFETY: only addresses; what they point to is reached through `Region`, which tolerates any thread.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the region. The descriptor is not needed any more afterwards.
    pub(super) fn of_file(file: &OwnedFd, spec: &RegionSpec) -> Result<Self, MemoryError> {
        let addr = spec.guest;
        let map_error = |errno| MemoryError::Map { addr, errno };
        let stat = rustix::fs::fstat(file).map_err(map_error)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(MemoryError::NotAFile { addr, mode: stat.st_mode });
        }
        let found = u64::try_from(stat.st_size).unwrap_or(0);
        let end = spec.offset.checked_add(spec.size).filter(|end| *end <= found);
        let Some(end) = end else {
            let expected = spec.offset.saturating_add(spec.size);
            return Err(MemoryError::FileTooShort { addr, found, expected });
        };
        // A file of huge pages can only be mapped and unmapped in whole ones; its block size tells.
        let block = u64::try_from(stat.st_blksize).unwrap_or(0);
        let page = rustix::param::page_size() as u64;
        let align = if block.is_power_of_two() { block.clamp(page, MAX_PAGE) } else { page };
        let start = spec.offset & !align.wrapping_sub(1);
        let whole = end.checked_next_multiple_of(align).and_then(|end| end.checked_sub(start));
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| map_error(rustix::io::Errno::OVERFLOW));
        let mapped = size(whole.unwrap_or(u64::MAX))?;
        let align = size(align)?;
        let (lead, len) = (size(spec.offset.wrapping_sub(start))?, size(spec.size)?);
        // Not every file knows seals: then it is as good as not sealed.
        let sealed = rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), mapped, prot, flags, file, start) }.map_err(map_error)?;
        let guard = guard::enter(base.expose_provenance(), mapped, align);
        Ok(Self { base, mapped, lead, len, sealed, guard })
    }

    /// The region as guest memory.
    pub(super) fn region(this: &Arc<Self>, guest: GuestAddr) -> Result<Region<Arc<Self>>, RegionError> {
        let host = this.base.cast::<u8>().wrapping_add(this.lead);
        // SAFETY: `lead + len <= mapped`, as `of_file` rounded outwards; mapped read-write until the last clone of
        // `this` is dropped; nothing in this crate makes a reference to it.
        unsafe { Region::new(guest, this.len, host, Arc::clone(this)) }
    }

    /// The file cannot be cut short any more.
    pub(super) const fn is_sealed(&self) -> bool {
        self.sealed
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        guard::leave(self.guard);
        // SAFETY: `base` and `mapped` are what `mmap` was given and gave; whoever uses the memory holds an `Arc` of this.
        let unmapped = unsafe { rustix::mm::munmap(self.base, self.mapped) };
        if let Err(errno) = unmapped {
            tracing::error!("guest memory at {:p} cannot be unmapped: {errno}", self.base);
        }
    }
}
