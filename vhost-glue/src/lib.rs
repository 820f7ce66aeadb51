//! The device side of vhost-user for the virtio network device.

mod config;
mod device;
mod error;
mod listen;
mod memory;
mod message;
mod port;
mod session;
mod stats;
mod stop;
mod worker;

pub use config::DeviceConfig;
pub use device::{Device, DeviceError, MAX_PAIRS};
pub use error::{Refusal, SessionEnd, SessionError};
pub use listen::{ListenError, Listener, connect, listen};
pub use memory::{MAX_REGIONS, Mapping, MemoryError, MemoryTable, RegionSpec};
pub use port::{Port, PortQueue};
pub use stats::{PairStats, RingStats, Snapshot, Stats};
pub use stop::Stop;
