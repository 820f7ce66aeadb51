//! The split ring (virtio 1.3, 2.7): a descriptor table, an available ring and a used ring.

mod device;
mod driver;
mod layout;

pub use device::SplitDevice;
pub use driver::SplitDriver;
pub(crate) use driver::describe;
pub use layout::SplitSizes;

#[cfg(test)]
mod tests;
