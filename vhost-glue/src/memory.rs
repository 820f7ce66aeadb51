//! The memory table: which guest addresses are where in this process.

mod guard;
mod mapping;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vhost::vhost_user::message::VhostUserMemoryRegion;
use virtio_ring::{GuestAddr, RegionError, RegionMemory};

pub use guard::guard_against_truncation;
pub use mapping::Mapping;

/// Guest memory as the rings and pumps of this crate use it.
pub(crate) type Memory = RegionMemory<Arc<Mapping>>;

/// Regions that a front end may have at a time: what is answered to `GET_MAX_MEM_SLOTS`.
///
/// The message of the original protocol holds 8; front ends built on rust-vmm send up to 32 in it.
pub const MAX_REGIONS: usize = 32;

/// Why a memory table, or a change to it, was refused. The table is then as it was before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// More regions than [`MAX_REGIONS`], or none in a table.
    #[error("{count} memory regions, expected 1 to {MAX_REGIONS}")]
    Count {
        /// Regions that there would be.
        count: usize,
    },
    /// Not one descriptor for each region.
    #[error("{found} descriptors for {expected} memory regions")]
    Descriptors {
        /// Descriptors received.
        found: usize,
        /// Regions in the message.
        expected: usize,
    },
    /// An address or offset that wraps when the size is added.
    #[error("memory region at {addr:#x}, user address {user:#x}, offset {offset:#x}: {size:#x} bytes wrap around")]
    Wraps {
        /// Guest address.
        addr: u64,
        /// User address.
        user: u64,
        /// Offset into the file.
        offset: u64,
        /// Size in bytes.
        size: u64,
    },
    /// The descriptor is not a regular file (or one made by `memfd_create`).
    #[error("descriptor for the memory region at {addr:#x} has file type {mode:#o}, expected a regular file")]
    NotAFile {
        /// Guest address of the region.
        addr: u64,
        /// `st_mode`.
        mode: u32,
    },
    /// The file ends inside of the region.
    #[error("file for the memory region at {addr:#x} has {found:#x} bytes, expected at least {expected:#x}")]
    FileTooShort {
        /// Guest address of the region.
        addr: u64,
        /// Bytes of the file.
        found: u64,
        /// Offset plus size of the region.
        expected: u64,
    },
    /// The system refused to map the file: read-only, sealed, or no address space.
    #[error("file for the memory region at {addr:#x} cannot be mapped: {errno}")]
    Map {
        /// Guest address of the region.
        addr: u64,
        /// What the system said.
        errno: rustix::io::Errno,
    },
    /// Empty, beyond the last address, or overlapping another one.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// No such region to remove.
    #[error("no memory region at {addr:#x}, user address {user:#x}, of {size:#x} bytes")]
    Missing {
        /// Guest address.
        addr: u64,
        /// User address.
        user: u64,
        /// Size in bytes.
        size: u64,
    },
}

/// One region as the front end described it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionSpec {
    /// Guest physical address.
    pub guest: u64,
    /// Size in bytes.
    pub size: u64,
    /// Address in the front end's process, which ring addresses are given in.
    pub user: u64,
    /// Offset into the file.
    pub offset: u64,
}

impl From<VhostUserMemoryRegion> for RegionSpec {
    fn from(r: VhostUserMemoryRegion) -> Self {
        Self { guest: r.guest_phys_addr, size: r.memory_size, user: r.user_addr, offset: r.mmap_offset }
    }
}

impl RegionSpec {
    fn check(&self) -> Result<(), MemoryError> {
        let Self { guest, size, user, offset } = *self;
        if size == 0 {
            return Err(RegionError::Empty { addr: GuestAddr(guest) }.into());
        }
        if [guest, user, offset].iter().any(|start| start.checked_add(size).is_none()) {
            return Err(MemoryError::Wraps { addr: guest, user, offset, size });
        }
        Ok(())
    }

    /// The guest address of a user address inside of the region.
    fn guest_addr(&self, user: u64) -> Option<GuestAddr> {
        let inside = user.wrapping_sub(self.user);
        (inside < self.size).then(|| GuestAddr(self.guest.wrapping_add(inside)))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    spec: RegionSpec,
    mapping: Arc<Mapping>,
}

/// The regions of guest memory, mapped. Changing it makes a new one: rings that still use the old one keep its
/// mappings alive, and the last of them to go unmaps.
///
/// Descriptors are closed as soon as their file is mapped.
///
/// A file that is cut short after it was mapped makes every access to the missing pages end the process with
/// `SIGBUS`, unless [`guard_against_truncation`] was called: then they read as zeros. A front end that sealed its file
/// with `F_SEAL_SHRINK` cannot do that; [`unsealed`](Self::unsealed) counts the regions whose file is not sealed.
///
/// A file on a file system that the front end serves itself (FUSE) can make an access wait for ever, and with it the
/// worker and the end of the session. Where front ends are not trusted with that, keep such file systems out of their
/// reach.
#[derive(Debug)]
pub struct MemoryTable {
    entries: Vec<Entry>,
    memory: Memory,
}

impl MemoryTable {
    /// The table without a region.
    ///
    /// # Errors
    /// None in practice: no regions cannot overlap.
    pub fn empty() -> Result<Self, MemoryError> {
        Self::of(Vec::new())
    }

    fn of(entries: Vec<Entry>) -> Result<Self, MemoryError> {
        let regions: Result<Vec<_>, _> =
            entries.iter().map(|e| Mapping::region(&e.mapping, GuestAddr(e.spec.guest))).collect();
        Ok(Self { memory: RegionMemory::new(regions?)?, entries })
    }

    /// A table of these regions, each with its file (`SET_MEM_TABLE`).
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn new(specs: &[RegionSpec], files: Vec<OwnedFd>) -> Result<Self, MemoryError> {
        if specs.is_empty() || specs.len() > MAX_REGIONS {
            return Err(MemoryError::Count { count: specs.len() });
        }
        if specs.len() != files.len() {
            return Err(MemoryError::Descriptors { found: files.len(), expected: specs.len() });
        }
        let entries: Result<Vec<_>, _> = specs.iter().zip(files).map(|(spec, file)| Entry::map(*spec, file)).collect();
        Self::of(entries?)
    }

    /// This table and one region more (`ADD_MEM_REG`).
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn with(&self, spec: RegionSpec, file: OwnedFd) -> Result<Self, MemoryError> {
        if self.entries.len() >= MAX_REGIONS {
            return Err(MemoryError::Count { count: self.entries.len().saturating_add(1) });
        }
        let mut entries = self.entries.clone();
        entries.push(Entry::map(spec, file)?);
        Self::of(entries)
    }

    /// This table without one region (`REM_MEM_REG`): that of the same guest address, user address and size.
    ///
    /// # Errors
    /// [`MemoryError::Missing`].
    pub fn without(&self, spec: RegionSpec) -> Result<Self, MemoryError> {
        let RegionSpec { guest, size, user, .. } = spec;
        let same = |e: &Entry| (e.spec.guest, e.spec.size, e.spec.user) == (guest, size, user);
        if !self.entries.iter().any(same) {
            return Err(MemoryError::Missing { addr: guest, user, size });
        }
        Self::of(self.entries.iter().filter(|e| !same(e)).cloned().collect())
    }

    /// The guest address of an address of the front end's process, if it is in a region.
    pub fn guest_addr(&self, user: u64) -> Option<GuestAddr> {
        self.entries.iter().find_map(|e| e.spec.guest_addr(user))
    }

    /// Regions in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no region.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Regions whose file may still be cut short by the front end.
    pub fn unsealed(&self) -> usize {
        self.entries.iter().filter(|e| !e.mapping.is_sealed()).count()
    }

    /// The guest memory that the table describes.
    pub fn memory(&self) -> &RegionMemory<Arc<Mapping>> {
        &self.memory
    }
}

impl Entry {
    fn map(spec: RegionSpec, file: OwnedFd) -> Result<Self, MemoryError> {
        spec.check()?;
        let mapping = Mapping::of_file(&file, &spec)?;
        Ok(Self { spec, mapping: Arc::new(mapping) })
    }
}
