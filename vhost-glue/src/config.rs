//! What the embedder decides about a device, and about who serves it.

use std::net::IpAddr;
use std::time::Duration;

/// Settings of one network device.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// The guest's MAC address.
    pub mac: [u8; 6],
    /// The MTU that the guest is told, in bytes; `None`: it is not told.
    pub mtu: Option<u16>,
    /// Queue pairs; no more than the port has.
    pub queues: u16,
    /// Link speed that the guest is told, in Mbit/s; `None`: it is not told.
    pub speed: Option<u32>,
    /// Offer the packed ring; the driver decides.
    pub packed: bool,
    /// Offer the reset of single queues (`VIRTIO_F_RING_RESET`), for front ends that say so here: by `GET_VRING_BASE` of that
    /// ring before the driver is told that the reset is done, and its set-up anew later.
    ///
    /// Off by default, and not to be turned on for a QEMU whose `virtio_net_queue_reset` tells kernel back ends only (7.2 is
    /// one): it passes the feature on to the driver and keeps the resets to itself, so that the ring would go on in memory
    /// that the driver has freed.
    pub ring_reset: bool,
    /// Offer the suspension of the device (`VIRTIO_F_SUSPEND`), for front ends that pass the device status on
    /// (`VHOST_USER_PROTOCOL_F_STATUS`). Off by default: a front end that keeps the status to itself would leave the device
    /// running in the memory of a driver that believes it suspended.
    pub suspend: bool,
    /// Which frames of the guest are dropped because they are not its own.
    pub spoof_check: SpoofPolicy,
}

/// What is checked of the frames that a guest sends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SpoofPolicy {
    /// Nothing: for a guest that bridges or routes for others.
    Off,
    /// The source MAC address. The guest cannot choose another one by command either.
    #[default]
    Mac,
    /// The source MAC address, and what its packets say of IP addresses: see
    /// [`SpoofCheck::with_ip`](net_filter::SpoofCheck::with_ip).
    Ip {
        /// The guest's addresses, besides the link-local one of its MAC address. Without one of IPv4, the one that it gets by
        /// DHCP is learnt, for as long as its lease lasts.
        addresses: Vec<IpAddr>,
    },
}

impl Default for DeviceConfig {
    /// One queue pair with the MAC address 52:54:00:00:00:01, spoof check on.
    fn default() -> Self {
        Self {
            mac: [0x52, 0x54, 0, 0, 0, 1],
            mtu: None,
            queues: 1,
            speed: None,
            packed: true,
            ring_reset: false,
            suspend: false,
            spoof_check: SpoofPolicy::Mac,
        }
    }
}

/// Settings of the threads that serve devices.
#[derive(Clone, Debug)]
pub struct WorkersConfig {
    /// How many; more than the devices have queue pairs are of no use.
    pub count: usize,
    /// CPUs to pin them to, one after the other; empty: on a machine with several NUMA nodes they are spread over those,
    /// each kept to the CPUs of its node, else they are wherever the system puts them.
    pub pin: Vec<usize>,
    /// How long a queue pair is polled after its last work before it sleeps, at most: after polling in vain it sleeps at
    /// once until work comes quickly again. Zero: nothing is polled.
    pub poll: Duration,
}

impl WorkersConfig {
    /// Default of [`poll`](Self::poll).
    pub const DEFAULT_POLL: Duration = Duration::from_micros(50);
}

impl Default for WorkersConfig {
    /// One for each CPU that this process may use, pinned to none.
    fn default() -> Self {
        let count = std::thread::available_parallelism().map_or(1, Into::into);
        Self { count, pin: Vec::new(), poll: Self::DEFAULT_POLL }
    }
}
