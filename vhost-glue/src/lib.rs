//! The device side of vhost-user for the virtio network device.
//!
//! A front end (QEMU, User Mode Linux, DPDK, any VMM built on rust-vmm) shares its guest's memory over a Unix socket
//! and says where the rings are; a [`Device`] serves them, with a [`Port`] as the other end of the wire: a tap, an
//! embedded network, whatever takes and gives frames. A few threads, [`Workers`], move the frames of any number of devices.
//!
//! ```
//! use std::io;
//! use std::os::fd::BorrowedFd;
//! use std::os::unix::net::UnixStream;
//!
//! use vhost_glue::{Device, DeviceConfig, Port, PortQueue, SessionEnd, Stop, Workers, WorkersConfig};
//! use virtio_net_core::Features;
//! use virtio_net_core::rx::RxFilter;
//! use virtio_net_core::backend::{FrameSink, FrameSource, RxRoom, Supply, Taken, TxBurst};
//!
//! /// Takes every frame and has none.
//! struct Null;
//!
//! impl Port for Null {
//!     type Queue = Null;
//!     fn features(&self) -> Features {
//!         Features::HOST_OFFLOADS
//!     }
//!     fn max_pairs(&self) -> u16 {
//!         16
//!     }
//!     fn start(&mut self, _acked: Features, pairs: u16) -> io::Result<Vec<Null>> {
//!         Ok((0..pairs).map(|_| Null).collect())
//!     }
//!     fn stop(&mut self, _queues: Vec<Null>) {}
//! }
//!
//! impl FrameSink for Null {
//!     fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
//!         Taken { count: burst.len(), failed: 0 }
//!     }
//! }
//!
//! impl FrameSource for Null {
//!     type Error = io::Error;
//!     fn receive<F: RxFilter + ?Sized>(&mut self, _room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
//!         Ok(Supply::Dry)
//!     }
//! }
//!
//! impl PortQueue for Null {
//!     fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
//!         None
//!     }
//! }
//!
//! let workers = Workers::start(&WorkersConfig { count: 1, ..WorkersConfig::default() })?;
//! let mut device = Device::new(DeviceConfig { queues: 2, ..DeviceConfig::default() }, Null, &workers)?;
//! let stop = Stop::new()?;
//! // Usually from `listen(path)?.accept(&stop)` or `connect(path, ..)`.
//! let (front_end, connection) = UnixStream::pair()?;
//! drop(front_end);
//! assert_eq!(device.serve(connection, &stop)?, SessionEnd::Disconnected);
//! assert_eq!(device.stats().snapshot().sessions, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Threads
//! [`Device::serve`] runs on a thread of the embedder's, one for each socket, and speaks the protocol: a front end that
//! stalls holds up nobody else. The rings, the pumps and the queues of the port are on the workers' threads, each queue
//! pair at one of them. A worker serves its pairs in turn, within a budget each, polls for a while after the last work,
//! and sleeps on one epoll set for all of them; pairs that sleep cost the others nothing.
//!
//! # What a front end can do
//! It is not trusted. Whatever it sends, the process survives, every descriptor is closed, and the next session starts
//! clean: a request that cannot be carried out is refused (with a failure if it asked for an answer, else ignored and
//! logged), and a stream that makes no sense ends the session. A driver that breaks a ring stops that ring only. What
//! a front end can still do is described at [`MemoryTable`].
//!
//! Descriptors for kicks and calls are made non-blocking, which their other holders see as well.
//!
//! # Status
//!
//! | vhost-user | state |
//! |---|---|
//! | `MQ`, `REPLY_ACK`, `CONFIG`, `CONFIGURE_MEM_SLOTS`, `STATUS`, `RESET_DEVICE` | yes |
//! | started but disabled rings, polling without descriptors, kicks before their descriptor | yes |
//! | `BACKEND_REQ` | the channel is taken, as User Mode Linux needs it; nothing is sent on it yet |
//! | `LOG_SHMFD`, `INFLIGHT_SHMFD`, postcopy, IOTLB, device state | not offered |
//! | split and packed rings, both used in order if the driver takes that; state of 16 and 32 bits | yes |
//! | packed rings started from 0 (User Mode Linux) or with the available half alone (DPDK, 16-bit front ends) | yes |
//!
//! Only the message structures of the `vhost` crate are used, not its rings and not its request handler.

mod config;
mod device;
mod error;
mod listen;
mod memory;
mod message;
mod pair;
mod port;
mod session;
mod stats;
mod stop;
mod workers;

pub use config::{DeviceConfig, SpoofPolicy, WorkersConfig};
pub use device::{Device, DeviceError, MAX_PAIRS};
pub use error::{Refusal, SessionEnd, SessionError};
pub use listen::{ListenError, Listener, connect, listen};
pub use memory::{MAX_REGIONS, Mapping, MemoryError, MemoryTable, RegionSpec, guard_against_truncation};
pub use port::{Port, PortQueue};
pub use stats::{PairStats, RingStats, Snapshot, Stats};
pub use stop::Stop;
pub use workers::{WorkerStats, Workers};
