//! Feature bits.

bitflags::bitflags! {
    /// Feature bits of the net device and of the ring (virtio 1.3, 5.1.3 and 6). 128 bits wide, as the net device
    /// has bits above 63.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Features: u128 {
        /// The device takes frames with a partial checksum.
        const CSUM = 1 << 0;
        /// The driver takes frames with a partial checksum.
        const GUEST_CSUM = 1 << 1;
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
        /// The device has several queue pairs.
        const MQ = 1 << 22;
        /// Descriptors may name a table of descriptors.
        const RING_INDIRECT_DESC = 1 << 28;
        /// Notification suppression by the peer's index in the ring.
        const RING_EVENT_IDX = 1 << 29;
        /// The device complies with virtio 1.0 or later.
        const VERSION_1 = 1 << 32;
        /// The driver takes USOv4 frames.
        const GUEST_USO4 = 1 << 54;
        /// The driver takes USOv6 frames.
        const GUEST_USO6 = 1 << 55;
        /// The device takes USO frames.
        const HOST_USO = 1 << 56;
        /// Receive headers carry a hash of the flow.
        const HASH_REPORT = 1 << 57;
        /// The config space has speed and duplex.
        const SPEED_DUPLEX = 1 << 63;
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

    /// Size of `struct virtio_net_hdr` in bytes once these features are acknowledged (virtio 1.3, 5.1.6).
    #[must_use]
    pub const fn header_len(self) -> usize {
        if self.contains(Self::HASH_REPORT) {
            20
        } else if self.intersects(Self::VERSION_1.union(Self::MRG_RXBUF)) {
            12
        } else {
            10
        }
    }
}
