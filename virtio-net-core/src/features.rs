//! Feature bits: what they are, what they need, how they are offered and acknowledged.

mod graph;
mod negotiation;

pub use graph::{DEPENDENCIES, Dependency, Needs};
pub use negotiation::{FeatureError, Offer, Withheld, WithheldReason, acknowledge, offer};

use core::fmt;

bitflags::bitflags! {
    /// Feature bits of the net device and of the ring (virtio 1.3, 5.1.3 and 6). 128 bits wide, as the net device
    /// has bits above 63.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Features: u128 {
        /// The device takes frames with a partial checksum.
        const CSUM = 1 << 0;
        /// The driver takes frames with a partial checksum.
        const GUEST_CSUM = 1 << 1;
        /// The driver may switch its receive offloads at run time.
        const CTRL_GUEST_OFFLOADS = 1 << 2;
        /// The config space has the MTU.
        const MTU = 1 << 3;
        /// The config space has the MAC address.
        const MAC = 1 << 5;
        /// The driver takes TSOv4 frames.
        const GUEST_TSO4 = 1 << 7;
        /// The driver takes TSOv6 frames.
        const GUEST_TSO6 = 1 << 8;
        /// The driver takes TSO frames with ECN.
        const GUEST_ECN = 1 << 9;
        /// The driver takes UFO frames.
        const GUEST_UFO = 1 << 10;
        /// The device takes TSOv4 frames.
        const HOST_TSO4 = 1 << 11;
        /// The device takes TSOv6 frames.
        const HOST_TSO6 = 1 << 12;
        /// The device takes TSO frames with ECN.
        const HOST_ECN = 1 << 13;
        /// The device takes UFO frames.
        const HOST_UFO = 1 << 14;
        /// The device may spread a frame over several receive buffers.
        const MRG_RXBUF = 1 << 15;
        /// The config space has the link status.
        const STATUS = 1 << 16;
        /// There is a control queue.
        const CTRL_VQ = 1 << 17;
        /// Receive modes by control command.
        const CTRL_RX = 1 << 18;
        /// VLAN filter by control command.
        const CTRL_VLAN = 1 << 19;
        /// More receive modes by control command.
        const CTRL_RX_EXTRA = 1 << 20;
        /// The device may ask the driver to announce itself.
        const GUEST_ANNOUNCE = 1 << 21;
        /// The device has several queue pairs.
        const MQ = 1 << 22;
        /// MAC address by control command.
        const CTRL_MAC_ADDR = 1 << 23;
        /// Descriptors may name a table of descriptors.
        const RING_INDIRECT_DESC = 1 << 28;
        /// Notification suppression by the peer's index in the ring.
        const RING_EVENT_IDX = 1 << 29;
        /// The device complies with virtio 1.0 or later.
        const VERSION_1 = 1 << 32;
        /// The ring is a packed one.
        const RING_PACKED = 1 << 34;
        /// The device uses buffers in the order in which they were made available.
        const IN_ORDER = 1 << 35;
        /// Single queues can be reset.
        const RING_RESET = 1 << 40;
        /// The driver can suspend the device (virtio 1.4).
        const SUSPEND = 1 << 43;
        /// Counters by control command (virtio 1.4).
        const DEVICE_STATS = 1 << 50;
        /// Hashes of inner headers.
        const HASH_TUNNEL = 1 << 51;
        /// Notification coalescing for single queues.
        const VQ_NOTF_COAL = 1 << 52;
        /// Notification coalescing.
        const NOTF_COAL = 1 << 53;
        /// The driver takes USOv4 frames.
        const GUEST_USO4 = 1 << 54;
        /// The driver takes USOv6 frames.
        const GUEST_USO6 = 1 << 55;
        /// The device takes USO frames.
        const HOST_USO = 1 << 56;
        /// Receive headers carry a hash of the flow.
        const HASH_REPORT = 1 << 57;
        /// The driver gives exact header lengths.
        const GUEST_HDRLEN = 1 << 59;
        /// Receive queues are chosen by hash.
        const RSS = 1 << 60;
        /// The device coalesces segments and says how many.
        const RSC_EXT = 1 << 61;
        /// The device stands in for another one.
        const STANDBY = 1 << 62;
        /// The config space has speed and duplex.
        const SPEED_DUPLEX = 1 << 63;
        /// Several hash configurations (virtio 1.4).
        const RSS_CONTEXT = 1 << 64;
        /// The driver takes segmentation in UDP tunnels (virtio 1.4).
        const GUEST_UDP_TUNNEL_GSO = 1 << 65;
        /// The same with a partial outer checksum (virtio 1.4).
        const GUEST_UDP_TUNNEL_GSO_CSUM = 1 << 66;
        /// The device takes segmentation in UDP tunnels (virtio 1.4).
        const HOST_UDP_TUNNEL_GSO = 1 << 67;
        /// The same with a partial outer checksum (virtio 1.4).
        const HOST_UDP_TUNNEL_GSO_CSUM = 1 << 68;
        /// Headers say where the outer network header is (virtio 1.4).
        const OUT_NET_HEADER = 1 << 69;
        /// IPsec offload (virtio 1.4).
        const IPSEC = 1 << 70;
    }
}

impl Features {
    /// Everything that lets the *driver* receive frames other than complete ones of at most MTU size.
    pub const GUEST_OFFLOADS: Self = Self::GUEST_CSUM
        .union(Self::GUEST_TSO4)
        .union(Self::GUEST_TSO6)
        .union(Self::GUEST_ECN)
        .union(Self::GUEST_UFO)
        .union(Self::GUEST_USO4)
        .union(Self::GUEST_USO6);

    /// Everything that lets the driver *send* frames other than complete ones of at most MTU size.
    pub const HOST_OFFLOADS: Self = Self::CSUM
        .union(Self::HOST_TSO4)
        .union(Self::HOST_TSO6)
        .union(Self::HOST_ECN)
        .union(Self::HOST_UFO)
        .union(Self::HOST_USO);

    /// What depends on the back end: it takes or gives such frames, or it does not.
    pub const BACK_END: Self = Self::GUEST_OFFLOADS.union(Self::HOST_OFFLOADS);

    /// What this crate and the rings implement. Nothing else is ever offered, bit 30 least of all: the vhost-user
    /// protocol uses it for itself.
    pub const SUPPORTED: Self = Self::BACK_END
        .union(Self::MTU)
        .union(Self::MAC)
        .union(Self::STATUS)
        .union(Self::MRG_RXBUF)
        .union(Self::CTRL_VQ)
        .union(Self::CTRL_RX)
        .union(Self::CTRL_RX_EXTRA)
        .union(Self::CTRL_VLAN)
        .union(Self::CTRL_MAC_ADDR)
        .union(Self::CTRL_GUEST_OFFLOADS)
        .union(Self::NOTF_COAL)
        .union(Self::VQ_NOTF_COAL)
        .union(Self::DEVICE_STATS)
        .union(Self::RSS)
        .union(Self::HASH_REPORT)
        .union(Self::HASH_TUNNEL)
        .union(Self::RSS_CONTEXT)
        .union(Self::GUEST_ANNOUNCE)
        .union(Self::MQ)
        .union(Self::SPEED_DUPLEX)
        .union(Self::RING_INDIRECT_DESC)
        .union(Self::RING_EVENT_IDX)
        .union(Self::RING_PACKED)
        .union(Self::IN_ORDER)
        .union(Self::RING_RESET)
        .union(Self::SUSPEND)
        .union(Self::VERSION_1);

    /// What depends on the transport as well, which has to tell the device: to be wanted only if it does.
    ///
    /// `RING_RESET`: a queue that the driver has reset is never touched again. A transport that does not pass a reset on
    /// lets the device write to memory that the driver has freed. `SUSPEND`: the same, of a device that the driver believes
    /// to be suspended.
    pub const TRANSPORT: Self = Self::RING_RESET.union(Self::SUSPEND);

    /// What a vhost-user front end may serve by itself and then not pass on, although the driver acknowledged it.
    ///
    /// QEMU keeps the control queue to itself but passes `MQ` on. Whoever receives features from such a front end adds
    /// those of this set that were offered before it calls [`acknowledge`].
    pub const FRONT_END_MAY_KEEP: Self = Self::CTRL_VQ;

    /// True if no `VERSION_1` is among these: the driver is a legacy one.
    ///
    /// Its header then has 10 bytes unless it acknowledged `MRG_RXBUF`, and the device is transitional.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        !self.contains(Self::VERSION_1)
    }

    /// Size of `struct virtio_net_hdr` in bytes once these features are acknowledged (virtio 1.4, 5.1.6): the same for
    /// receiving and sending.
    #[must_use]
    pub const fn header_len(self) -> usize {
        if self.intersects(Self::OUT_NET_HEADER.union(Self::IPSEC)) {
            32
        } else if self.intersects(Self::HOST_UDP_TUNNEL_GSO.union(Self::GUEST_UDP_TUNNEL_GSO)) {
            24
        } else if self.contains(Self::HASH_REPORT) {
            20
        } else if self.intersects(Self::VERSION_1.union(Self::MRG_RXBUF)) {
            12
        } else {
            10
        }
    }

    /// Each feature on its own, lowest bit first.
    fn each(self) -> impl Iterator<Item = Self> {
        (0..u128::BITS).map(|n| Self::from_bits_retain(1_u128.wrapping_shl(n))).filter(move |f| self.contains(*f))
    }
}

/// The names of the specification without their prefix, lowest bit first: `CSUM, MAC, VERSION_1`. Bits without a name
/// are `bit 30`.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        for feature in self.each() {
            f.write_str(separator)?;
            separator = ", ";
            match feature.iter_names().next() {
                Some((name, _)) => f.write_str(name)?,
                None => write!(f, "bit {}", feature.bits().trailing_zeros())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
