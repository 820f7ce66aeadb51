//! What a driver wants to receive (virtio 1.4, 5.1.6.5.1 to 5.1.6.5.3).

use alloc::vec::Vec;

use crate::addr::MacAddr;
use crate::table::MacTable;
use crate::vlan::VlanSet;
use crate::{ADDR_MASK, ETHER_LEN, ethertype};

bitflags::bitflags! {
    /// Receive modes.
    ///
    /// `PROMISC` beats all others, `NOMULTI` beats `ALLMULTI`, `NOUNI` beats `ALLUNI` and the own address, and `NOBCAST` beats
    /// `ALLMULTI`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RxModes: u8 {
        /// Everything, whatever its VLAN.
        const PROMISC = 1;
        /// Every group.
        const ALLMULTI = 1 << 1;
        /// Every station's unicast.
        const ALLUNI = 1 << 2;
        /// No group but broadcast.
        const NOMULTI = 1 << 3;
        /// No unicast, to the own address neither.
        const NOUNI = 1 << 4;
        /// No broadcast.
        const NOBCAST = 1 << 5;
    }
}

/// Why a guest is given a frame, or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RxDecision {
    /// It is for the guest's address.
    Own,
    /// It is for everybody.
    Broadcast,
    /// It is for a group that the guest joined.
    Multicast,
    /// It is for another address that the guest named.
    Unicast,
    /// A mode lets it pass.
    Mode,
    /// It has no whole Ethernet header: not delivered.
    TooShort,
    /// It is for another station, or the guest wants no unicast: not delivered.
    OtherUnicast,
    /// It is for a group that the guest did not join, or the guest wants none: not delivered.
    OtherMulticast,
    /// It is for everybody, and the guest does not want that: not delivered.
    NoBroadcast,
    /// It belongs to a VLAN that the guest did not name: not delivered.
    OtherVlan,
}

impl RxDecision {
    /// True if the guest is given the frame.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        matches!(self, Self::Own | Self::Broadcast | Self::Multicast | Self::Unicast | Self::Mode)
    }
}

/// Most addresses of each table; a driver that names more gets all of that kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableLimits {
    /// Unicast addresses.
    pub unicast: usize,
    /// Multicast addresses.
    pub multicast: usize,
}

impl Default for TableLimits {
    /// 1024 each.
    fn default() -> Self {
        Self { unicast: 1024, multicast: 1024 }
    }
}

/// Of the values of an address's lowest six bits, those of a unicast address.
const UNICAST: u64 = 0x5555_5555_5555_5555;

/// What becomes of frames of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    All,
    None,
    Named,
}

/// The rules for what a guest receives: plain data, that only commands change.
#[derive(Clone, Debug)]
pub struct RxRules {
    own: u64,
    limits: TableLimits,
    seed: u64,
    modes: RxModes,
    named: MacTable,
    /// More unicast addresses were named than there is room for.
    all_unicast: bool,
    /// More multicast addresses were, or none can be named.
    all_multicast: bool,
    vlans: Option<VlanSet>,
    // What the modes come to.
    unicast: Kind,
    multicast: Kind,
    broadcast: bool,
    // And what passes at once for that: the own address, whatever the VLAN, and without a tag.
    own_passes: bool,
    own_untagged: bool,
    /// Addresses that were named, whatever the VLAN: a bit for each value of an address's lowest six, so that neither asking
    /// whether it is a group's nor for one of two flags takes an instruction.
    named_passes: u64,
    /// The same without a tag: unicast, multicast.
    named_untagged: [bool; 2],
}

impl PartialEq for RxRules {
    /// Equal if they let the same frames pass: tables are compared as sets.
    fn eq(&self, other: &Self) -> bool {
        let fields = |r: &Self| (r.own, r.limits, r.modes, r.all_unicast, r.all_multicast);
        fields(self) == fields(other) && self.vlans == other.vlans && self.addresses() == other.addresses()
    }
}

impl Eq for RxRules {}

impl RxRules {
    /// The rules before a driver says anything: its own address, broadcast and every group, of every VLAN.
    #[must_use]
    pub fn new(own: MacAddr) -> Self {
        Self {
            own: own.to_word(),
            limits: TableLimits::default(),
            seed: 0,
            modes: RxModes::empty(),
            named: MacTable::empty(),
            all_unicast: false,
            all_multicast: true,
            vlans: None,
            unicast: Kind::Named,
            multicast: Kind::All,
            broadcast: true,
            own_passes: true,
            own_untagged: true,
            named_passes: UNICAST,
            named_untagged: [true, false],
        }
    }

    /// The same with other limits of the tables, and another seed for the places of addresses in them: if the guest does
    /// not know it, it cannot make up addresses that need the same place.
    #[must_use]
    pub fn with_limits(self, limits: TableLimits, seed: u64) -> Self {
        Self { limits, seed, ..self }
    }

    /// For a driver that names its groups (`VIRTIO_NET_F_CTRL_RX`) or its VLANs (`VIRTIO_NET_F_CTRL_VLAN`): none at first.
    pub fn begin(&mut self, names_groups: bool, names_vlans: bool) {
        self.all_multicast = !names_groups;
        self.vlans = names_vlans.then_some(VlanSet::EMPTY);
        self.refresh();
    }

    /// The own address.
    #[must_use]
    pub const fn own(&self) -> MacAddr {
        MacAddr::from_word(self.own)
    }

    /// Sets the own address (`VIRTIO_NET_CTRL_MAC_ADDR_SET`).
    pub const fn set_own(&mut self, own: MacAddr) {
        self.own = own.to_word();
    }

    /// The modes that are on.
    #[must_use]
    pub const fn modes(&self) -> RxModes {
        self.modes
    }

    /// Switches modes on or off (class `VIRTIO_NET_CTRL_RX`).
    pub fn set_mode(&mut self, modes: RxModes, on: bool) {
        self.modes.set(modes, on);
        self.refresh();
    }

    /// Replaces both tables (`VIRTIO_NET_CTRL_MAC_TABLE_SET`). If there are more addresses of one kind than its limit, all of that
    /// kind are received from then on.
    ///
    /// An address counts for what it is, in whichever table it comes, and as often as it comes.
    pub fn set_tables(&mut self, unicast: &[MacAddr], multicast: &[MacAddr]) {
        let named = || unicast.iter().chain(multicast);
        let groups = named().filter(|mac| mac.is_multicast()).count();
        self.all_unicast = named().count().saturating_sub(groups) > self.limits.unicast;
        self.all_multicast = groups > self.limits.multicast;
        let all = |mac: &MacAddr| if mac.is_multicast() { self.all_multicast } else { self.all_unicast };
        let words: Vec<u64> = named().filter(|mac| !all(mac)).map(|mac| mac.to_word()).collect();
        match MacTable::build(&words, self.seed) {
            Some(table) => self.named = table,
            // Made up to share one place, whatever the hash: the driver gets more than it named.
            None => (self.named, self.all_unicast, self.all_multicast) = (MacTable::empty(), true, true),
        }
        self.refresh();
    }

    /// Sets everything but the VLANs as it was saved elsewhere: own address, modes, the addresses of both tables, and
    /// whether they were too many, unicast and multicast.
    pub fn restore(&mut self, own: MacAddr, modes: RxModes, addresses: &[MacAddr], overflows: (bool, bool)) {
        self.set_own(own);
        self.modes = modes;
        self.set_tables(addresses, &[]);
        self.all_unicast |= overflows.0;
        self.all_multicast |= overflows.1;
        self.refresh();
    }

    /// Limits the VLANs to a set, or not at all.
    pub fn set_vlans(&mut self, vlans: Option<VlanSet>) {
        self.vlans = vlans;
        self.refresh();
    }

    /// The addresses of the tables, in ascending order.
    #[must_use]
    pub fn addresses(&self) -> Vec<MacAddr> {
        let mut all: Vec<_> = self.named.iter().collect();
        all.sort_unstable();
        all
    }

    /// Which kinds of address, unicast and multicast, were more than there is room for.
    #[must_use]
    pub const fn overflows(&self) -> (bool, bool) {
        (self.all_unicast, self.all_multicast)
    }

    /// The VLANs that are received, if that is limited.
    #[must_use]
    pub const fn vlans(&self) -> Option<&VlanSet> {
        self.vlans.as_ref()
    }

    /// Lets frames of a VLAN pass or not (class `VIRTIO_NET_CTRL_VLAN`). False: there is no such VLAN, or no such limit.
    pub fn set_vlan(&mut self, id: u16, on: bool) -> bool {
        self.vlans.as_mut().is_some_and(|vlans| vlans.set(id, on))
    }

    /// What the modes come to, so that no frame has to ask for each.
    fn refresh(&mut self) {
        let on = |mode| self.modes.contains(mode);
        let kind = |none, all| match (none, all) {
            (true, _) => Kind::None,
            (false, true) => Kind::All,
            (false, false) => Kind::Named,
        };
        self.unicast = kind(on(RxModes::NOUNI), on(RxModes::ALLUNI) || self.all_unicast);
        self.multicast = kind(on(RxModes::NOMULTI), on(RxModes::ALLMULTI) || self.all_multicast);
        self.broadcast = !on(RxModes::NOBCAST);
        let promiscuous = on(RxModes::PROMISC);
        let unlimited = self.vlans.is_none();
        self.own_untagged = promiscuous || !on(RxModes::NOUNI);
        self.own_passes = promiscuous || (unlimited && self.own_untagged);
        // Broadcast may have been named as well, and is not wanted for that.
        self.named_untagged = [self.unicast == Kind::Named, self.multicast == Kind::Named && self.broadcast];
        let bits = |wanted: bool, bits| if wanted && unlimited { bits } else { 0 };
        let [unicast, multicast] = self.named_untagged;
        self.named_passes = bits(unicast, UNICAST) | bits(multicast, !UNICAST);
    }

    /// True if the guest is to have the frame, by its first bytes: 22 are enough.
    #[must_use]
    #[inline]
    pub fn accepts(&self, head: &[u8]) -> bool {
        let Some(dst) = crate::dst_word(head) else { return false };
        self.accepts_own(head, dst) || self.accepts_named(head, dst) || self.refusal(head, dst).is_none()
    }

    /// True for the own address, if that is all there is to say. Most frames are for the guest: one comparison and one flag.
    #[inline]
    pub(crate) fn accepts_own(&self, head: &[u8], dst: u64) -> bool {
        dst == self.own && (self.own_passes || (self.own_untagged && !is_tagged(head)))
    }

    /// True for an address that was named, if that is all there is to say.
    #[inline]
    pub(crate) fn accepts_named(&self, head: &[u8], dst: u64) -> bool {
        let passes = self.named_passes.wrapping_shr(dst as u32) & 1 == 1; // modulo 64
        (passes || (self.named_untagged_for(dst) && !is_tagged(head))) && self.named.contains(dst)
    }

    #[inline]
    const fn named_untagged_for(&self, dst: u64) -> bool {
        let [unicast, multicast] = self.named_untagged;
        if dst & 1 == 0 { unicast } else { multicast }
    }

    /// Why a frame is not wanted, by everything that was said; `None` if it is.
    #[inline]
    pub(crate) fn refusal(&self, head: &[u8], dst: u64) -> Option<RxDecision> {
        if self.modes.contains(RxModes::PROMISC) {
            return None;
        }
        if self.wants(dst) {
            return if self.accepts_vlan(head) { None } else { Some(RxDecision::OtherVlan) };
        }
        Some(match dst {
            ADDR_MASK => RxDecision::NoBroadcast,
            dst if dst & 1 == 1 => RxDecision::OtherMulticast,
            _ => RxDecision::OtherUnicast,
        })
    }

    /// True if frames for this address are wanted, of some VLAN at least.
    #[inline]
    fn wants(&self, dst: u64) -> bool {
        if dst == ADDR_MASK {
            return self.broadcast;
        }
        match if dst & 1 == 0 { self.unicast } else { self.multicast } {
            Kind::All => true,
            Kind::None => false,
            Kind::Named => dst == self.own || self.named.contains(dst),
        }
    }

    /// True if the frame has no tag, or that of a VLAN that the guest named. The outer tag counts. A tag for priority
    /// alone has id 0, and that is one of the VLANs of Linux: its driver names it.
    #[inline]
    fn accepts_vlan(&self, head: &[u8]) -> bool {
        let Some(vlans) = &self.vlans else { return true };
        if !is_tagged(head) {
            return true;
        }
        let tag = head.get(ETHER_LEN..).and_then(|rest| rest.first_chunk());
        tag.is_some_and(|tag| vlans.contains(u16::from_be_bytes(*tag) & 0xfff))
    }

    /// The same decision with its reason.
    #[must_use]
    pub fn decide(&self, head: &[u8]) -> RxDecision {
        let Some(dst) = crate::dst_word(head) else { return RxDecision::TooShort };
        self.refusal(head, dst).unwrap_or_else(|| match dst {
            dst if dst == self.own => RxDecision::Own,
            ADDR_MASK => RxDecision::Broadcast,
            dst if !self.named.contains(dst) => RxDecision::Mode,
            dst if dst & 1 == 1 => RxDecision::Multicast,
            _ => RxDecision::Unicast,
        })
    }
}

/// True if a tag follows the addresses.
#[inline]
fn is_tagged(head: &[u8]) -> bool {
    let tpid = head.first_chunk::<ETHER_LEN>().and_then(|ether| ether.last_chunk()).copied();
    tpid.is_some_and(|tpid| matches!(u16::from_be_bytes(tpid), ethertype::VLAN | ethertype::SERVICE_VLAN))
}
