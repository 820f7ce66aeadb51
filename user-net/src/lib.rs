//! user-net
mod bytes;
mod config;
mod dhcp;
mod dns;
mod neighbours;
mod net;
pub mod offload;
mod packet;
mod pattern;
pub mod phy;
mod stack;
mod stats;
mod tcp;
mod udp;

pub use config::{ConfigError, UserNetConfig};
pub use net::{UserNet, UserNetQueue};
pub use packet::{Kind, Packet};
pub use stats::{DropReason, Lease, Service, ServiceStats, UserNetStats};
