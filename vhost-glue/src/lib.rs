//! The device side of vhost-user for the virtio network device.

mod port;

pub use port::{Port, PortQueue};
