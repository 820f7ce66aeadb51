//! The config space: `struct virtio_net_config` (virtio 1.3, 5.1.4).

use net_filter::{MacAddr, TableLimits};

use crate::features::Features;
use crate::steering::{HashTypes, MAX_KEY, MAX_TABLE, TunnelTypes};

/// Bytes of the config space.
#[doc(alias = "virtio_net_config")]
pub const CONFIG_LEN: usize = 28;

/// Least MTU in bytes that may be configured: what IPv4 asks of every link (virtio 1.3, 5.1.4.1).
pub const MIN_MTU: u16 = 68;
/// Most queue pairs.
pub const MAX_PAIRS: u16 = 0x8000;
/// Greatest speed in units of 1 Mbit/s.
pub const MAX_SPEED: u32 = 0x7fff_ffff;

const MAC: usize = 0;
const STATUS: usize = 6;
const PAIRS: usize = 8;
pub(crate) const MTU: usize = 10;
const SPEED: usize = 12;
const DUPLEX: usize = 16;
const RSS_KEY: usize = 17;
const RSS_TABLE: usize = 18;
const HASH_TYPES: usize = 20;
const TUNNEL_TYPES: usize = 24;

/// `status`: the link is up.
const LINK_UP: u16 = 1;
/// `status`: the driver should announce itself.
const ANNOUNCE: u16 = 2;
/// `speed` or `duplex` is not known.
const SPEED_UNKNOWN: u32 = 0xffff_ffff;

/// Whether a link carries both directions at once.
///
/// The specification's description of the field has 1 for full and 0 for half, its requirements have it the other way
/// round. This device does as Linux does: 1 is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Duplex {
    /// One direction at a time.
    Half,
    /// Both at once.
    Full,
    /// Not known.
    #[default]
    Unknown,
}

impl Duplex {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Half => 0,
            Self::Full => 1,
            Self::Unknown => 0xff,
        }
    }
}

/// What a device is configured with; [`ConfigSpace::new`] checks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetConfig {
    /// The guest's address: neither zero nor a group's.
    pub mac: MacAddr,
    /// The largest IP packet in bytes, 68 to 65535, better 1280 at least: IPv6 asks for that. `None` leaves it to the
    /// driver.
    pub mtu: Option<u16>,
    /// Queue pairs, 1 to 32768.
    pub pairs: u16,
    /// Whether the link is up at the start.
    pub link_up: bool,
    /// Speed in Mbit/s, at most 0x7fff_ffff. `None` if it is not known.
    pub speed: Option<u32>,
    /// Half or full duplex.
    pub duplex: Duplex,
    /// The driver may not choose another address: what it sends is checked for this one.
    pub fixed_mac: bool,
    /// Most addresses of the tables of addresses.
    pub tables: TableLimits,
    /// A number that guests do not know, for the places of addresses in them.
    pub seed: u64,
}

impl NetConfig {
    /// One queue pair, the link up, and nothing else known.
    #[must_use]
    pub const fn new(mac: MacAddr) -> Self {
        Self {
            mac,
            mtu: None,
            pairs: 1,
            link_up: true,
            speed: None,
            duplex: Duplex::Unknown,
            fixed_mac: false,
            tables: TableLimits { unicast: 1024, multicast: 1024 },
            seed: 0,
        }
    }

    /// The features that this configuration has no value for, or no use.
    pub(crate) const fn lacks(&self) -> Features {
        let mut lacks = Features::empty();
        if self.mtu.is_none() {
            lacks = lacks.union(Features::MTU);
        }
        if self.pairs < 2 {
            lacks = lacks.union(Features::MQ).union(Features::RSS);
        }
        if self.speed.is_none() && matches!(self.duplex, Duplex::Unknown) {
            lacks = lacks.union(Features::SPEED_DUPLEX);
        }
        lacks
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.mac.is_unicast() {
            return Err(ConfigError::Mac { mac: self.mac });
        }
        match self.mtu {
            Some(mtu) if mtu < MIN_MTU => return Err(ConfigError::Mtu { mtu }),
            _ => {}
        }
        if !(1..=MAX_PAIRS).contains(&self.pairs) {
            return Err(ConfigError::Pairs { pairs: self.pairs });
        }
        match self.speed {
            Some(speed) if speed > MAX_SPEED => Err(ConfigError::Speed { speed }),
            _ => Ok(()),
        }
    }
}

/// A configuration that cannot be, or a write that the driver may not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An address that no station can have.
    #[error("MAC address {mac} is zero or a group's, expected a station's")]
    Mac {
        /// The address.
        mac: MacAddr,
    },
    /// An MTU that is too small.
    #[error("MTU {mtu}, expected 68 to 65535")]
    Mtu {
        /// The MTU in bytes.
        mtu: u16,
    },
    /// No queue pair, or too many.
    #[error("{pairs} queue pairs, expected 1 to 32768")]
    Pairs {
        /// Queue pairs.
        pairs: u16,
    },
    /// A speed that the field cannot hold.
    #[error("speed {speed} Mbit/s, expected 0 to 2147483647")]
    Speed {
        /// Mbit/s.
        speed: u32,
    },
    /// The driver wrote where it may only read: ignore the write (virtio 1.3, 5.1.4.2).
    #[error("driver wrote {len} bytes at offset {offset} of the read-only config space")]
    ReadOnly {
        /// Offset in bytes.
        offset: usize,
        /// Bytes written.
        len: usize,
    },
}

/// The config space as the driver sees it.
///
/// A field whose feature is not offered is zero; what the driver acknowledges changes nothing, as it may read before
/// that (virtio 1.3, 2.5.2). There is no way to change the MTU once it is set (5.1.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigSpace {
    bytes: [u8; CONFIG_LEN],
    has_mac: bool,
    has_status: bool,
    can_announce: bool,
    status: u16,
}

impl ConfigSpace {
    /// The config space of a device that offers `offered`.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that cannot be.
    pub fn new(config: &NetConfig, offered: Features) -> Result<Self, ConfigError> {
        config.check()?;
        let mut space = Self {
            bytes: [0; CONFIG_LEN],
            has_mac: offered.contains(Features::MAC),
            has_status: offered.contains(Features::STATUS),
            can_announce: offered.contains(Features::GUEST_ANNOUNCE.union(Features::STATUS)),
            status: 0,
        };
        if offered.contains(Features::MAC) {
            space.put(MAC, &config.mac.0);
        }
        if offered.intersects(Features::RSS.union(Features::HASH_REPORT)) {
            space.put(RSS_KEY, &[MAX_KEY as u8]);
            space.put(HASH_TYPES, &HashTypes::all().bits().to_le_bytes());
        }
        if offered.contains(Features::RSS) {
            space.put(RSS_TABLE, &MAX_TABLE.to_le_bytes());
        }
        if offered.contains(Features::HASH_TUNNEL) {
            space.put(TUNNEL_TYPES, &TunnelTypes::all().bits().to_le_bytes());
        }
        if offered.intersects(Features::MQ.union(Features::RSS)) {
            space.put(PAIRS, &config.pairs.to_le_bytes());
        }
        if let Some(mtu) = config.mtu
            && offered.contains(Features::MTU)
        {
            space.put(MTU, &mtu.to_le_bytes());
        }
        if offered.contains(Features::SPEED_DUPLEX) {
            space.put(SPEED, &config.speed.unwrap_or(SPEED_UNKNOWN).to_le_bytes());
            space.put(DUPLEX, &[config.duplex.to_byte()]);
        }
        space.set_link(config.link_up);
        Ok(space)
    }

    /// Reads at any offset in any width. Bytes behind the end are zero, as a driver may know a longer structure.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        for (i, byte) in to.iter_mut().enumerate() {
            *byte = rest.get(i).copied().unwrap_or(0);
        }
    }

    /// Writes for the driver, which may only set the address, and only if it is a legacy one: `acked` is what it
    /// acknowledged so far.
    ///
    /// Such a driver writes the address byte by byte; filters are not told.
    ///
    /// # Errors
    /// [`ConfigError::ReadOnly`]: nothing was written.
    pub fn write(&mut self, offset: usize, data: &[u8], acked: Features) -> Result<(), ConfigError> {
        let len = data.len();
        let inside = offset.checked_add(len).is_some_and(|end| end <= STATUS);
        if !inside || !acked.is_legacy() {
            return Err(ConfigError::ReadOnly { offset, len });
        }
        self.put(offset, data);
        Ok(())
    }

    /// Shows another address, if it shows one at all.
    pub(crate) fn set_mac(&mut self, mac: MacAddr) {
        if self.has_mac {
            self.put(MAC, &mac.0);
        }
    }

    /// Sets the link up or down. True if the driver is to get a configuration change notification.
    pub fn set_link(&mut self, up: bool) -> bool {
        self.set_status(if up { self.status | LINK_UP } else { self.status & !LINK_UP })
    }

    /// True if the link is up.
    #[must_use]
    pub const fn link_up(&self) -> bool {
        self.status & LINK_UP != 0
    }

    /// Asks the driver to announce itself, if that was offered. True if it is to get a configuration change
    /// notification.
    pub fn announce(&mut self) -> bool {
        self.can_announce && self.set_status(self.status | ANNOUNCE)
    }

    /// True if the driver is asked to announce itself.
    #[must_use]
    pub const fn is_announcing(&self) -> bool {
        self.status & ANNOUNCE != 0
    }

    /// The driver has seen the request (virtio 1.3, 5.1.6.5.4): to be called before its command is used.
    pub fn announced(&mut self) {
        self.set_status(self.status & !ANNOUNCE);
    }

    fn set_status(&mut self, status: u16) -> bool {
        let changed = status != self.status;
        self.status = status;
        if self.has_status {
            self.put(STATUS, &status.to_le_bytes());
        }
        changed && self.has_status
    }

    fn put(&mut self, offset: usize, data: &[u8]) {
        let place = self.bytes.get_mut(offset..).unwrap_or_default();
        for (to, from) in place.iter_mut().zip(data) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn full() -> NetConfig {
        NetConfig { mtu: Some(1500), pairs: 4, speed: Some(10_000), duplex: Duplex::Full, ..NetConfig::new(OWN) }
    }

    fn bytes(space: &ConfigSpace) -> [u8; CONFIG_LEN] {
        let mut bytes = [0xee; CONFIG_LEN];
        space.read(0, &mut bytes);
        bytes
    }

    fn build(config: NetConfig) -> Result<ConfigSpace, ConfigError> {
        ConfigSpace::new(&config, Features::SUPPORTED)
    }

    /// What the bytes must be, feature by feature.
    fn expected(offered: Features) -> [u8; CONFIG_LEN] {
        let mut all = [0; CONFIG_LEN];
        let fields: [(Features, usize, &[u8]); 11] = [
            (Features::MAC, 0, &OWN.0),
            (Features::STATUS, 6, &[1, 0]),
            (Features::MQ, 8, &[4, 0]),
            (Features::MTU, 10, &[0xdc, 0x05]),
            (Features::SPEED_DUPLEX, 12, &[0x10, 0x27, 0, 0]),
            (Features::SPEED_DUPLEX, 16, &[1]),
            (Features::RSS, 8, &[4, 0]),
            (Features::RSS | Features::HASH_REPORT, 17, &[40]),
            (Features::RSS, 18, &[128, 0]),
            (Features::RSS | Features::HASH_REPORT, 20, &[0xff, 1, 0, 0]),
            (Features::HASH_TUNNEL, 24, &[0xff, 1, 0, 0]),
        ];
        for (feature, at, value) in fields {
            if offered.intersects(feature) {
                all[at..at + value.len()].copy_from_slice(value);
            }
        }
        all
    }

    #[test]
    fn g8_every_offset_and_width_reads_and_behind_the_end_is_zero() {
        let whole = expected(Features::SUPPORTED);
        let space = build(full()).unwrap();
        for offset in (0..64).chain([usize::MAX - 7, usize::MAX]) {
            for width in [0, 1, 2, 3, 4, 8, 28, 256] {
                let mut data = vec![0xee; width];
                space.read(offset, &mut data);
                let expected: Vec<_> = whole.iter().copied().skip(offset).chain([0; 256]).take(width).collect();
                assert_eq!(data, expected, "offset {offset}, width {width}");
            }
        }
    }

    #[test]
    fn n6_n7_g8_fields_follow_what_is_offered() {
        let bits = [
            Features::MAC,
            Features::STATUS,
            Features::MQ,
            Features::MTU,
            Features::SPEED_DUPLEX,
            Features::CTRL_VQ,
            Features::RSS,
            Features::HASH_REPORT,
            Features::HASH_TUNNEL,
        ];
        for n in 0..1_usize << bits.len() {
            let offered = bits.iter().enumerate().filter(|(i, _)| n >> i & 1 == 1).map(|(_, f)| *f).collect();
            assert_eq!(bytes(&ConfigSpace::new(&full(), offered).unwrap()), expected(offered), "{offered}");
        }
    }

    #[test]
    fn n1_n2_n8_values_that_cannot_be_are_refused_by_name() {
        let own = full();
        for pairs in [0, 0x8001, 0xffff] {
            assert_eq!(build(NetConfig { pairs, ..own }), Err(ConfigError::Pairs { pairs }));
        }
        for pairs in [1, 0x8000] {
            assert_eq!(bytes(&build(NetConfig { pairs, ..own }).unwrap())[8..10], pairs.to_le_bytes());
        }
        for mtu in [0, 67] {
            assert_eq!(build(NetConfig { mtu: Some(mtu), ..own }), Err(ConfigError::Mtu { mtu }));
        }
        for mtu in [68, 1279, 65535] {
            assert_eq!(bytes(&build(NetConfig { mtu: Some(mtu), ..own }).unwrap())[10..12], mtu.to_le_bytes());
        }
        for speed in [0x8000_0000, 0xffff_fffe, 0xffff_ffff] {
            assert_eq!(build(NetConfig { speed: Some(speed), ..own }), Err(ConfigError::Speed { speed }));
        }
        for (speed, word) in [(Some(0), 0), (Some(0x7fff_ffff), 0x7fff_ffff_u32), (None, 0xffff_ffff)] {
            assert_eq!(bytes(&build(NetConfig { speed, ..own }).unwrap())[12..16], word.to_le_bytes());
        }
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
            assert_eq!(build(NetConfig { mac, ..own }), Err(ConfigError::Mac { mac }));
        }
    }

    #[test]
    fn n9_duplex_is_0_1_or_ff_with_1_for_full() {
        for (duplex, byte) in [(Duplex::Half, 0), (Duplex::Full, 1), (Duplex::Unknown, 0xff)] {
            assert_eq!(bytes(&build(NetConfig { duplex, ..full() }).unwrap())[16], byte);
        }
    }

    #[test]
    fn n10_link_and_announcement_change_the_status_and_nothing_else() {
        let mut space = build(full()).unwrap();
        let before = bytes(&space);
        fn seen(space: &mut ConfigSpace) -> bool {
            space.announced();
            false
        }
        // step, changed, status
        type Step = (fn(&mut ConfigSpace) -> bool, bool, u8);
        let steps: [Step; 8] = [
            (|s| s.set_link(true), false, 1),
            (|s| s.set_link(false), true, 0),
            (|s| s.set_link(false), false, 0),
            (ConfigSpace::announce, true, 2),
            (ConfigSpace::announce, false, 2),
            (|s| s.set_link(true), true, 3),
            (seen, false, 1),
            (seen, false, 1),
        ];
        for (i, (step, changed, status)) in steps.into_iter().enumerate() {
            assert_eq!(step(&mut space), changed, "step {i}");
            assert_eq!(bytes(&space)[6..8], [status, 0], "step {i}");
            assert_eq!(bytes(&space)[12..17], before[12..17], "speed and duplex, link up or not");
            assert_eq!(space.link_up(), status & 1 == 1);
        }
        assert_eq!(bytes(&space), before);

        let mut silent = ConfigSpace::new(&full(), Features::MAC).unwrap();
        assert!(!silent.set_link(false) && !silent.announce(), "no field, no notification");
        assert_eq!(bytes(&silent)[6..8], [0, 0]);
    }

    #[test]
    fn only_a_legacy_driver_writes_and_only_the_address() {
        let mut space = build(full()).unwrap();
        let before = bytes(&space);
        for (offset, len) in [(0, 6), (0, 1), (5, 1), (6, 1), (6, 2), (10, 2), (27, 1), (28, 1), (usize::MAX, 2)] {
            let answer = space.write(offset, &[7; 6][..len], Features::VERSION_1);
            assert_eq!(answer, Err(ConfigError::ReadOnly { offset, len }));
        }
        for (offset, len) in [(1, 6), (5, 2), (6, 1), (28, 1), (usize::MAX, 2)] {
            let answer = space.write(offset, &[7; 6][..len], Features::empty());
            assert_eq!(answer, Err(ConfigError::ReadOnly { offset, len }));
        }
        assert_eq!(bytes(&space), before);
        for (offset, byte) in [2, 4, 6, 8, 10, 12].into_iter().enumerate() {
            space.write(offset, &[byte], Features::MRG_RXBUF).unwrap();
        }
        assert_eq!(bytes(&space)[..6], [2, 4, 6, 8, 10, 12]);
        assert_eq!(bytes(&space)[6..], before[6..]);
    }

    proptest! {
        #[test]
        fn n3_nothing_a_driver_does_changes_the_mtu(
            writes in prop::collection::vec((0..40_usize, prop::collection::vec(any::<u8>(), 0..9), any::<bool>()), 0..20),
        ) {
            let mut space = build(full()).unwrap();
            let before = bytes(&space);
            for (offset, data, legacy) in writes {
                let acked = if legacy { Features::empty() } else { Features::VERSION_1 };
                let _ = space.write(offset, &data, acked);
            }
            prop_assert_eq!(&bytes(&space)[6..], &before[6..]);
        }
    }
}
