//! `--net user`: an embedded network for a guest, on [smoltcp].
//!
//! A guest behind it finds a host that gives it addresses and answers on a few ports, as if there were a small Linux
//! machine at the other end of the wire. There is no privilege, no tap and no thread behind it: frames go in by
//! [`FrameSink::submit`], answers come out by [`FrameSource::receive`], and [`UserNetQueue::next_wake`] says when a
//! timer is due.
//!
//! # What is there
//! The host is 10.0.2.2, `fd00:2::2` and `fe80::2` unless [`UserNetConfig`] says otherwise.
//!
//! | service | what it does |
//! |---|---|
//! | ARP, NDP | answer for the host's addresses |
//! | ICMP, ICMPv6 | echo |
//! | DHCPv4 | 10.0.2.15 and upwards, one for each MAC address, with mask, router, DNS, lease time, and MTU if one is set |
//! | router advertisements | in answer to solicitations: prefix `fd00:2::/64`, DNS, and MTU if one is set |
//! | UDP 53 | DNS: A and AAAA of `host.virtio.internal`; NXDOMAIN for all other names |
//! | TCP 7, UDP 7 | echo (RFC 862) |
//! | TCP 9, UDP 9 | discard (RFC 863) |
//! | TCP 19 | the pattern of RFC 864 from its first byte on, without end |
//! | UDP 19 | `SEND count size`: that many datagrams (1 to 256) of that size (8 up to what fits the MTU), each beginning with its number as a big-endian u32 |
//! | TCP 4809 | lower-case SHA-256 of what came until the half-close, and a line end |
//! | UDP 4809 | counts datagrams by source; `REPORT` is answered with `packets bytes` and a line end, and starts anew |
//!
//! # Offloads
//! [`UserNet::features`]: partial checksums both ways, TSO both ways, and USO from the guest (split in software). A TSO
//! frame from the guest is one packet of up to 64 KiB to smoltcp, and the other way smoltcp makes such packets if the
//! driver acknowledged them; they leave as segmentation frames with the guest's own MSS. Without `NEEDS_CSUM` every
//! checksum from the guest is verified. DHCP replies always have theirs.
//!
//! # What is not there
//! - No way to the outside world.
//! - No IP fragments: an echo request or a datagram longer than the MTU is dropped and counted.
//! - No answer to duplicate address detection: a guest that takes one of the host's addresses is not told.
//! - Advertisements are not repeated; the prefix is announced for ever, the default route for 9000 seconds.
//! - No VLAN tags, no DHCPv6, no DNS over TCP.
//!
//! # What a hostile guest can do
//! Nothing but to itself. Memory is bounded: connections ([`UserNetConfig::max_connections`], each with a window), frames
//! that wait ([`UserNetConfig::max_backlog`], answers up to twice as many), leases, counters and neighbours. Half-open
//! connections give way to new ones. What is dropped is counted by [`DropReason`].
//!
//! # Example
//! A driver asks who has 10.0.2.2, through rings in memory that both sides share:
//! ```
//! use user_net::{UserNet, UserNetConfig};
//! use virtio_net_core::driver::{BufferPlan, NetDriver};
//! use virtio_net_core::{Features, NetHeader, rx_format, tx_format};
//! use virtio_net_core::{rx::{RxFilter, RxPump}, tx::{TxFilter, TxPump}};
//! use virtio_ring::{GuestAddr, HeapMemory, QueueConfig, QueueState, SplitDevice, SplitDriver};
//!
//! struct Everything;
//! impl RxFilter for Everything { fn accepts(&mut self, _head: &[u8]) -> bool { true } }
//! impl TxFilter for Everything { fn permits(&mut self, _head: &[u8]) -> bool { true } }
//!
//! // What the driver acknowledged, two rings of 64 entries, and its buffers.
//! let acked = Features::VERSION_1 | Features::MRG_RXBUF | UserNet::features();
//! let mem = HeapMemory::zeroed(GuestAddr(0), 8 << 20)?;
//! let (rx, _) = QueueConfig::split(GuestAddr(0), 64);
//! let (tx, _) = QueueConfig::split(GuestAddr(0x1_0000), 64);
//! let plan = BufferPlan { base: GuestAddr(0x2_0000), rx: 64, tx: 64, tx_frame: 2048 };
//! let (rx_driver, tx_driver) = (SplitDriver::new(&mem, &rx)?, SplitDriver::new(&mem, &tx)?);
//! let mut driver = NetDriver::new(mem.clone(), rx_driver, tx_driver, &plan, acked)?;
//! let mut rx_ring = SplitDevice::new(&mem, &rx, QueueState::default())?;
//! let mut tx_ring = SplitDevice::new(&mem, &tx, QueueState::default())?;
//! let mut rx_pump = RxPump::new(mem.clone(), 64, rx_format(acked));
//! let mut tx_pump = TxPump::new(mem, tx_format(acked));
//!
//! // The network behind the device.
//! let net = UserNet::new(UserNetConfig::default())?;
//! net.start(acked);
//! let mut queue = net.queue(0);
//!
//! let own = [2, 0, 0, 0, 0, 1];
//! let mut request = [[0xff; 6], own].concat();
//! request.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
//! request.extend(own.into_iter().chain([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]));
//! driver.send(&NetHeader::NONE, &request)?;
//! let _kicks = driver.flush();
//! tx_pump.pump(&mut tx_ring, &mut queue, &mut Everything, 64).map_err(|(e, _)| e)?;
//! rx_pump.pump(&mut rx_ring, &mut queue, &mut Everything, 64).map_err(|(e, _)| e)?;
//! let (_, reply) = driver.receive()?.expect("the host answers");
//! assert_eq!(reply[22..28], UserNetConfig::default().mac);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A guest in the same process
//! [`phy`] and [`offload`] know nothing of this network: [`phy::QueueDevice`] is a smoltcp device between two queues of
//! frames, and serves as well as the guest's end of the wire. `examples/throughput.rs` does that.
//!
//! [`FrameSink::submit`]: virtio_net_core::backend::FrameSink::submit
//! [`FrameSource::receive`]: virtio_net_core::backend::FrameSource::receive
#![forbid(unsafe_code)]

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
