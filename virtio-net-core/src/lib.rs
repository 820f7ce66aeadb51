//! The virtio network device.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "the lint does not know the tests of proptest"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backend;
pub mod driver;
pub mod features;
mod header;
pub mod offload;
pub mod rx;
pub mod tx;

pub use features::Features;
pub use header::{
    BACKEND_HEADER_LEN, DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader,
};
pub use offload::{HeaderFault, TxOffloads, rx_format, tx_format};
