//! The packed ring (virtio 1.3, 2.8): one ring of descriptors that both sides write in turn.

mod device;
mod driver;
mod layout;
mod place;

pub use device::PackedDevice;
pub use driver::PackedDriver;

use crate::mem::GuestAddr;
use crate::ring::QueueConfig;

impl QueueConfig {
    /// A packed ring of `size` entries laid out from `base` on (aligned to 16 bytes), without features; and the first
    /// address behind it. The event words have a cacheline each. For drivers, which choose where their rings are.
    ///
    /// ```
    /// # use virtio_ring::{GuestAddr, QueueConfig};
    /// let (config, end) = QueueConfig::packed(GuestAddr(0x1000), 100);
    /// assert_eq!((config.driver, config.device, end), (GuestAddr(0x1640), GuestAddr(0x1680), GuestAddr(0x16c0)));
    /// ```
    #[must_use]
    pub fn packed(base: GuestAddr, size: u16) -> (Self, GuestAddr) {
        let descs = u64::from(size).saturating_mul(crate::chain::DESC_LEN as u64);
        let driver = base.0.saturating_add(descs).next_multiple_of(64);
        let device = driver.saturating_add(64);
        let config = Self { size, desc: base, driver: GuestAddr(driver), device: GuestAddr(device), ..Self::default() };
        (config, GuestAddr(device.saturating_add(64)))
    }
}

#[cfg(test)]
mod tests;
