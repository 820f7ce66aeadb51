//! What the embedder decides about a device.

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
    /// How long a worker polls after the last work before it sleeps, at most: after polling in vain it sleeps at once
    /// until work comes quickly again. Zero: it never polls.
    pub poll: Duration,
    /// CPUs to pin the workers to, one after the other; empty: wherever the system puts them.
    pub pin: Vec<usize>,
    /// Offer the packed ring; the driver decides.
    pub packed: bool,
    /// Offer the reset of single queues (`VIRTIO_F_RING_RESET`), for front ends that say so here: by `GET_VRING_BASE` of that
    /// ring before the driver is told that the reset is done, and its set-up anew later.
    ///
    /// Off by default, and not to be turned on for a QEMU whose `virtio_net_queue_reset` tells kernel back ends only (7.2 is
    /// one): it passes the feature on to the driver and keeps the resets to itself, so that the ring would go on in memory
    /// that the driver has freed.
    pub ring_reset: bool,
    /// Drop frames from the guest whose source address is not its own.
    pub spoof_check: bool,
}

impl DeviceConfig {
    /// Default of [`poll`](Self::poll).
    pub const DEFAULT_POLL: Duration = Duration::from_micros(50);
}

impl Default for DeviceConfig {
    /// One queue pair with the MAC address 52:54:00:00:00:01, spoof check on.
    fn default() -> Self {
        Self {
            mac: [0x52, 0x54, 0, 0, 0, 1],
            mtu: None,
            queues: 1,
            speed: None,
            poll: Self::DEFAULT_POLL,
            pin: Vec::new(),
            packed: true,
            ring_reset: false,
            spoof_check: true,
        }
    }
}
