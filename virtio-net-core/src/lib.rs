//! The virtio network device: everything between a ring and a back end.
//!
//! - [`NetDevice`]: what is offered, what the driver acknowledged, the config space, the queue numbers.
//! - [`tx::TxPump`] and [`rx::RxPump`]: frames from and to the guest, in bursts, with the header of the negotiated
//!   size; [`ctrl::CtrlPump`]: commands, which change the device's [`Settings`].
//! - [`steering`]: hashes and receive queues by hash; [`coalesce`]: calls that are held back; [`state`]: all of it in a form that
//!   outlives builds.
//! - [`backend`]: what a back end implements to take and give frames.
//! - [`offload`]: the check of what a guest says of its frames.
//! - [`driver`]: the other side, a net driver for guests that are a thread.
//!
//! The crate makes no system call, starts no thread and needs no `std`. Nothing that a guest writes makes it panic: a
//! bad frame or chain is counted and given back, a broken ring is an error of the pump.
//!
//! ```
//! use virtio_net_core::backend::{FrameSink, Taken, TxBurst};
//! use virtio_net_core::{Features, NetConfig, NetDevice, tx::TxPump};
//! use virtio_ring::{DriverRing, Element, GuestAddr, HeapMemory, QueueConfig, SplitDevice, SplitDriver};
//!
//! struct Wire(Vec<usize>);
//! impl FrameSink for Wire {
//!     fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
//!         self.0.extend(burst.iter().map(|frame| frame.len()));
//!         Taken { count: burst.len(), failed: 0 }
//!     }
//! }
//!
//! let own = net_filter::MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
//! let mut device = NetDevice::new(&NetConfig::new(own), Features::SUPPORTED, Features::empty())?;
//! assert!(!device.offer().features.contains(Features::CSUM), "this back end takes no partial checksum");
//! device.acknowledge(Features::VERSION_1 | Features::MAC)?;
//!
//! // The guest sends a frame: 12 bytes of header, then 60 of Ethernet.
//! let mem = HeapMemory::zeroed(GuestAddr(0), 0x1_0000)?;
//! let [desc, driver, area] = [0x1000, 0x2000, 0x3000].map(GuestAddr);
//! let queue = QueueConfig { size: 4, desc, driver, device: area, ..QueueConfig::default() };
//! let mut guest = SplitDriver::new(&mem, &queue)?;
//! guest.add(&[Element { addr: GuestAddr(0x8000), len: 72, writable: false }])?;
//! assert!(guest.flush().is_needed());
//!
//! let (mut ring, mut wire) = (SplitDevice::new(&mem, &queue, Default::default())?, Wire(Vec::new()));
//! let mut pump = TxPump::new(mem, device.tx_format());
//! let outcome = pump.pump(&mut ring, &mut wire, &mut net_filter::SpoofCheck::off(), 64).map_err(|e| e.0)?;
//! assert_eq!((outcome.chains, wire.0), (1, vec![60]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is not here
//! Transports (registers, status, vhost messages), threads, and whatever a back end does with a frame. Software
//! segmentation: a back end that lacks it says so, and it is not offered. Checksums that a back end leaves open are completed for
//! a driver that does not do so.
//!
//! | virtio 1.4 | clause | state |
//! |---|---|---|
//! | feature dependencies, offering and acknowledging | 5.1.3.1, 2.2 | yes; legacy drivers without `VERSION_1` too |
//! | `MAC`, `STATUS`, `MTU`, `SPEED_DUPLEX` | 5.1.4 | yes; 1 is full duplex, as in Linux |
//! | `CSUM`, `HOST_TSO4`, `TSO6`, `ECN`, `UFO`, `USO` | 5.1.6.2 | checked, and handed to the back end |
//! | `GUEST_CSUM`, `GUEST_TSO4`, `TSO6`, `ECN`, `UFO`, `USO4`, `USO6` | 5.1.6.4 | if the back end has them |
//! | `MRG_RXBUF` | 5.1.6.3, 5.1.6.4 | yes |
//! | `CTRL_VQ` with `CTRL_RX`, `CTRL_RX_EXTRA`, `CTRL_VLAN`, `CTRL_MAC_ADDR`, `GUEST_ANNOUNCE`, `MQ` | 5.1.6.5 | yes |
//! | `RSS`, `HASH_REPORT`, `HASH_TUNNEL` | 5.1.6.4.3, 5.1.6.5.6, 5.1.6.5.7 | yes |
//! | `RSS_CONTEXT` | 5.1.6.5.8 | kept and checked; no flow filter refers to them |
//! | `CTRL_GUEST_OFFLOADS`, `NOTF_COAL`, `VQ_NOTF_COAL`, `DEVICE_STATS` | 5.1.6.5 | yes |
//! | `SUSPEND` | 2.1.2 | the config space; queues are the embedder's to stop |
//! | UDP tunnels, flow filters, IPsec | new in 1.4 | no |
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "the lint does not know the tests of proptest"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backend;
pub mod coalesce;
pub mod config;
pub mod ctrl;
mod device;
pub mod driver;
pub mod features;
mod filter;
mod header;
pub mod offload;
pub mod rx;
mod settings;
pub mod state;
pub mod steering;
pub mod tx;

pub use config::{ConfigSpace, Duplex, NetConfig};
pub use device::{Commands, NetDevice, QueueRole};
pub use features::Features;
pub use header::{
    BACKEND_HEADER_LEN, DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader,
};
pub use offload::{HeaderFault, TxOffloads, rx_format, tx_format};
pub use settings::Settings;
