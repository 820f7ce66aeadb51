//! The split ring (virtio 1.3, 2.7): a descriptor table, an available ring and a used ring.

mod device;
mod driver;
mod layout;

pub use device::SplitDevice;
pub use driver::SplitDriver;
pub(crate) use driver::describe;
pub use layout::SplitSizes;

use crate::mem::GuestAddr;
use crate::ring::QueueConfig;

impl QueueConfig {
    /// A split ring of `size` entries laid out from `base` on (aligned to 16 bytes), without features; and the first
    /// address behind it. For drivers, which choose where their rings are.
    ///
    /// ```
    /// # use virtio_ring::{GuestAddr, QueueConfig};
    /// let (config, end) = QueueConfig::split(GuestAddr(0x1000), 256);
    /// assert_eq!(config.driver, GuestAddr(0x2000));
    /// assert_eq!(end, GuestAddr(0x2a10));
    /// ```
    #[must_use]
    pub fn split(base: GuestAddr, size: u16) -> (Self, GuestAddr) {
        let sizes = SplitSizes::new(size);
        let behind = |addr: u64, len: usize, align: u64| addr.saturating_add(len as u64).next_multiple_of(align);
        let driver = behind(base.0, sizes.desc, 2);
        let device = behind(driver, sizes.driver, 4);
        let end = behind(device, sizes.device, 16);
        let config = Self { size, desc: base, driver: GuestAddr(driver), device: GuestAddr(device), ..Self::default() };
        (config, GuestAddr(end))
    }
}

#[cfg(test)]
pub(crate) mod tests;
