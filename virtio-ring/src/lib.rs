//! The rings of virtio 1.x.
#![no_std]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod any;
mod chain;
mod cursor;
mod error;
mod indirect;
mod mem;
mod packed;
mod pool;
mod protocol;
mod ring;
mod split;

pub use any::{AnyDevice, AnyDriver, Format};
pub use chain::Front;
pub use error::{ChainFault, Fault, RegionError, RingError};
pub use mem::{
    Access, GuestAddr, GuestMemory, GuestSlice, HeapBlock, HeapMemory, MappedArea, Region, RegionMemory, RingMem,
};
pub use packed::{PackedDevice, PackedDriver};
pub use pool::{Chain, Chains, MAX_SEGMENTS, View};
pub use ring::{
    ChainSink, DeviceRing, DriverRing, Element, Full, Handle, Notify, Peeked, QueueConfig, QueueState, Token, Used,
};
pub use split::{SplitDevice, SplitDriver, SplitSizes};
