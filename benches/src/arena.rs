//! The memory that both sides of a benchmark share.
#![expect(unsafe_code, reason = "hands a mapping of vm-memory to virtio-ring")]

use std::error::Error;
use std::sync::Arc;

use virtio_ring::{GuestAddr, MappedArea, QueueConfig, Region, RegionMemory, SplitSizes};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// rust-vmm's memory.
pub type Mmap = GuestMemoryMmap<()>;
/// The same memory as virtio-ring sees it.
pub type Memory = RegionMemory<Arc<Mmap>>;
/// A ring area in it.
pub type Area = MappedArea<Arc<Mmap>>;

/// Bytes of one posted buffer.
pub const BUFFER_LEN: u32 = 2048;
/// From one buffer to the next: no power of two, so that they do not all fall into the same cache set.
const STRIDE: u64 = 2176;
const RINGS: u64 = 0x1000;
const BUFFERS: u64 = 0x20_0000;
const LEN: usize = 128 << 20;

/// One piece of memory with room for one ring of any size and its buffers.
#[derive(Debug, Clone)]
pub struct Arena {
    /// For virtio-queue.
    pub mmap: Arc<Mmap>,
    /// For virtio-ring.
    pub memory: Memory,
    /// Geometry of a split ring in it.
    pub config: QueueConfig,
}

impl Arena {
    /// Maps fresh memory for a ring of `size` entries, no features.
    ///
    /// # Errors
    /// Whatever `mmap` says.
    pub fn new(size: u16) -> Result<Self, Box<dyn Error>> {
        let mmap = Arc::new(Mmap::from_ranges(&[(GuestAddress(0), LEN)])?);
        let host = mmap.get_host_address(GuestAddress(0))?;
        // SAFETY: `LEN` bytes at `host` are mapped for as long as `mmap` lives, and vm-memory makes no references.
        let region = unsafe { Region::new(GuestAddr(0), LEN, host, Arc::clone(&mmap)) }?;
        let memory = Memory::new(vec![region])?;
        let sizes = SplitSizes::new(size);
        let driver = (RINGS + sizes.desc as u64 + 256).next_multiple_of(128);
        let device = (driver + sizes.driver as u64 + 256).next_multiple_of(128);
        let (desc, driver, device) = (GuestAddr(RINGS), GuestAddr(driver), GuestAddr(device));
        Ok(Self { mmap, memory, config: QueueConfig { size, desc, driver, device, ..QueueConfig::default() } })
    }

    /// Geometry of a packed ring of the same size, in the same place.
    #[must_use]
    pub fn packed(&self) -> QueueConfig {
        let (config, _end) = QueueConfig::packed(GuestAddr(RINGS), self.config.size);
        // Two lines between the event words, and between them and the ring: lines are fetched in pairs.
        let driver = (config.driver.0 + 128).next_multiple_of(128);
        QueueConfig { driver: GuestAddr(driver), device: GuestAddr(driver + 128), ..config }
    }

    /// Guest address of buffer `index`.
    #[must_use]
    #[inline]
    pub const fn buffer(index: u16) -> GuestAddr {
        GuestAddr(BUFFERS + index as u64 * STRIDE)
    }

    /// Writes bytes into a buffer.
    ///
    /// # Errors
    /// None for the buffers of an arena.
    pub(crate) fn fill(&self, addr: GuestAddr, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        Ok(self.mmap.write_slice(bytes, GuestAddress(addr.0))?)
    }

    /// Host address of a guest address, or null if it is not mapped.
    pub(crate) fn host(&self, addr: GuestAddr) -> *mut u8 {
        self.mmap.get_host_address(GuestAddress(addr.0)).unwrap_or(std::ptr::null_mut())
    }
}
