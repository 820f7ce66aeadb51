//! Guest memory on the heap, for peers in one process.
#![expect(unsafe_code, reason = "owns a raw allocation that two sides share")]

use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use alloc::sync::Arc;
use alloc::vec;

use super::{GuestAddr, Region, RegionMemory};
use crate::error::RegionError;

/// A zeroed allocation aligned to a page, shared by whoever holds a clone of its `Arc`.
#[derive(Debug)]
pub struct HeapBlock {
    ptr: *mut u8,
    layout: Layout,
}

// SAFETY: the block is only an allocation; its bytes are reached through `GuestSlice` and `MappedArea`.
unsafe impl Send for HeapBlock {}
// SAFETY: as for `Send`.
unsafe impl Sync for HeapBlock {}

impl HeapBlock {
    fn new(len: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len, 4096).ok().filter(|l| l.size() > 0)?;
        // SAFETY: the layout's size is not zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() {
            handle_alloc_error(layout);
        }
        Some(Self { ptr, layout })
    }
}

impl Drop for HeapBlock {
    fn drop(&mut self) {
        // SAFETY: `ptr` was allocated with this layout in `new` and is freed here only.
        unsafe { dealloc(self.ptr, self.layout) };
    }
}

/// Guest memory on the heap: what an in-process driver and device share.
pub type HeapMemory = RegionMemory<Arc<HeapBlock>>;

impl HeapMemory {
    /// One zeroed region of `len` bytes from guest address `guest` on.
    ///
    /// # Errors
    /// [`RegionError::Empty`], or [`RegionError::Wraps`] if `len` is more than can be allocated or addressed.
    pub fn zeroed(guest: GuestAddr, len: usize) -> Result<Self, RegionError> {
        if len == 0 {
            return Err(RegionError::Empty { addr: guest });
        }
        let Some(block) = HeapBlock::new(len) else {
            return Err(RegionError::Wraps { addr: guest, len: len as u64 });
        };
        let host = block.ptr;
        // SAFETY: the block holds `len` bytes at `host` until it is dropped, and hands out no reference to them.
        let region = unsafe { Region::new(guest, len, host, Arc::new(block)) }?;
        Self::new(vec![region])
    }
}
