//! The rings of virtio 1.x: split and packed, device and driver side, without `std` and without an allocation after set-up.
//!
//! A [`DeviceRing`] takes chains of buffers from a driver and gives them back; a [`DriverRing`] is the other side. Both
//! reach the ring through [`RingMem`] and buffers through [`GuestMemory`], so that the same code runs in a VMM, in a
//! vhost-user back end, in a guest and under a model checker. The other side is never trusted: see [`RingError`] and
//! [`ChainFault`] for what it may do and what comes of it.
//!
//! ```
//! use virtio_ring::{
//!     Chains, DeviceRing, DriverRing, Element, Format, GuestAddr, HeapMemory, PackedDevice, PackedDriver, QueueConfig,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Memory that both sides see, and in it a ring of 64 entries. In a VMM it is the guest's, and the guest chose.
//! let mem = HeapMemory::zeroed(GuestAddr(0), 1 << 20)?;
//! let (config, _end) = QueueConfig::packed(GuestAddr(0x1000), 64);
//! let mut driver = PackedDriver::new(&mem, &config)?;
//! let mut device = PackedDevice::new(&mem, &config, Format::Packed.start())?;
//!
//! // The driver posts a buffer of 2048 bytes for the device to write to.
//! let posted = driver.add(&[Element { addr: GuestAddr(0x8000), len: 2048, writable: true }])?;
//! assert!(driver.flush().is_needed(), "the device wants a kick");
//!
//! // The device accepts what there is, writes, and completes; one flush makes the whole burst visible.
//! let mut chains = Chains::new(mem, 32);
//! chains.fill(&mut device)?;
//! let view = chains.view();
//! let chain = &view.chains()[0];
//! let written = view.writable(chain)[0].write(b"hello, driver");
//! let token = chains.pop().ok_or("a chain is there")?;
//! device.complete(token, written as u32);
//! assert!(device.flush().is_needed(), "the driver wants a call");
//!
//! // The driver reaps it.
//! let used = driver.poll_used()?.ok_or("the chain is used")?;
//! assert_eq!((used.handle, used.len), (posted, 13));
//! # Ok(())
//! # }
//! ```
//!
//! # What is there
//!
//! | of the specification (virtio 1.3) | split | packed |
//! |---|---|---|
//! | sizes | powers of two, 1 to 32768 | 1 to 32768 |
//! | chains, indirect tables (2.7.5, 2.8.7) | both sides | both sides |
//! | suppression by flags (2.7.7, 2.7.10; 2.8.10) | both sides | both sides |
//! | suppression by index (`VIRTIO_F_EVENT_IDX`) | both sides | both sides |
//! | `VIRTIO_F_IN_ORDER` (2.7.9, 2.8.9) | both sides | both sides |
//! | state in vhost's format | `QueueState` | `QueueState` |
//! | `VIRTIO_F_RING_RESET` (2.6.1): `reset` | both sides | both sides |
//! | `VIRTIO_F_NOTIFICATION_DATA` (2.9): `NotificationData` | both sides | both sides |
//! | `VIRTIO_F_ORDER_PLATFORM` (6.3): `PlatformOrdered` | both sides | both sides |
//! | `VIRTIO_F_ACCESS_PLATFORM` (6.3), translations that come later: `DeviceRing::missing` | device | device |
//!
//! One chain at a time ([`peek`](DeviceRing::peek), `accept`, `complete`; `add`, `poll_used`), or in loops over a burst whose
//! positions stay in registers ([`serve`](DeviceRing::serve); [`add_each`](DriverRing::add_each),
//! [`reap_each`](DriverRing::reap_each)). A flush is a publication and the question whether the peer wants to be told; the two
//! halves can be had apart ([`publish`](DeviceRing::publish), [`notify`](DeviceRing::notify)).
//!
//! On top of that, for those who want it: [`Reposting`] keeps used chains and posts them again with next to nothing written,
//! [`Reorder`] lets a back end finish out of order on a ring that is in order, [`Chains`] holds accepted chains ahead.
//!
//! # What is not here
//! Notifications themselves (eventfd, irqfd, MSI-X): a flush says whether the peer wants one. Devices: `virtio-net-core`
//! is one. Mapping guest memory: an embedder makes [`Region`]s of what it has mapped.
#![no_std]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod any;
mod chain;
mod cursor;
mod error;
mod free;
mod indirect;
mod mem;
mod notification;
mod packed;
mod pool;
mod protocol;
mod reorder;
mod repost;
mod ring;
mod split;

pub use any::{AnyDevice, AnyDriver, Format};
pub use chain::Front;
pub use error::{ChainFault, Fault, RegionError, RingError};
pub use mem::{
    Access, Fences, GuestAddr, GuestMemory, GuestSlice, HeapBlock, HeapMemory, MappedArea, MappedView, Ordered,
    OrderedArea, PlatformFences, PlatformOrdered, Region, RegionMemory, RingMem,
};
pub use notification::{HintError, NotificationData};
pub use packed::{PackedDevice, PackedDriver};
pub use pool::{Chain, Chains, MAX_SEGMENTS, View};
pub use reorder::{Reorder, Ticket};
#[doc(hidden)]
pub use repost::{Again, Keeping};
pub use repost::{KeepRing, KeptError, Reposting};
pub use ring::{
    ChainSink, DeviceRing, DriverRing, Element, Full, Handle, Notify, Peeked, QueueConfig, QueueState, Token, Used,
};
pub use split::{SplitDevice, SplitDriver, SplitSizes};
