//! Bytes as states.

use alloc::vec::Vec;

use net_filter::{MacAddr, RxModes, VlanSet};
use virtio_ring::QueueState;

use super::{CRITICAL, HashState, MAGIC, MAX_LEN, NetState, ReceiveState, RingState, StateError, VERSION, flag, tag};
use crate::coalesce::{CoalesceParams, Coalescing, MAX_DELAY};
use crate::config::MAX_PAIRS;
use crate::ctrl::CommandCounters;
use crate::features::Features;
use crate::steering::{HashConfig, HashTypes, MAX_CONTEXTS, MAX_KEY, MAX_TABLE, RssConfig, RssLimits, TunnelTypes};

/// Most addresses that a state may name: more than any device has room for.
const MAX_ADDRESSES: usize = 1 << 16;
/// Most rings: a control queue and 32768 pairs.
const MAX_RINGS: usize = 65_537;

/// What is left of a section.
struct Bytes<'a> {
    field: &'static str,
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let short = StateError::Short { field: self.field, found: self.rest.len(), expected: N };
        let (taken, rest) = self.rest.split_first_chunk().ok_or(short)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn take_slice(&mut self, len: usize) -> Result<&'a [u8], StateError> {
        let short = StateError::Short { field: self.field, found: self.rest.len(), expected: len };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left, in entries of this size.
    fn entries<const N: usize>(&mut self, most: usize) -> Result<&'a [[u8; N]], StateError> {
        let (entries, rest) = self.rest.as_chunks();
        if !rest.is_empty() {
            return Err(StateError::Short { field: self.field, found: rest.len(), expected: N });
        }
        if entries.len() > most {
            return Err(value(self.field, entries.len() as u128, "fewer entries"));
        }
        self.rest = &[];
        Ok(entries)
    }

    fn end(&self) -> Result<(), StateError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(value(self.field, self.rest.len() as u128, "no bytes behind its end"))
    }
}

fn value(field: &'static str, found: u128, expected: &'static str) -> StateError {
    StateError::Value { field, found, expected }
}

impl NetState {
    /// What sections are read into. Nothing of it is left but what may be left out.
    fn initial() -> Self {
        Self {
            acked: Features::empty(),
            commanded: false,
            suspended: false,
            link_up: true,
            announce: false,
            link_later: None,
            announce_later: false,
            pairs: 1,
            receive: ReceiveState {
                own: MacAddr::ZERO,
                modes: RxModes::empty(),
                all_unicast: false,
                all_multicast: true,
                addresses: Vec::new(),
                vlans: None,
            },
            used_pairs: 1,
            enabled: Vec::new(),
            offloads: Features::empty(),
            tunnels: TunnelTypes::empty(),
            hash: HashState::Hash(HashConfig { types: HashTypes::empty(), key: Vec::new() }),
            contexts: Vec::new(),
            coalescing: Coalescing::default(),
            commands: CommandCounters::default(),
            rings: Vec::new(),
        }
    }

    /// Reads the bytes of a state, as the [module](crate::state) says. Whether a device can go on with it is asked when it is
    /// restored.
    ///
    /// # Errors
    /// [`StateError`] names the field that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.len() > MAX_LEN {
            return Err(StateError::Length { len: bytes.len() });
        }
        let mut bytes = Bytes { field: "header", rest: bytes };
        let magic = bytes.take()?;
        if magic != MAGIC {
            return Err(StateError::Magic { found: magic });
        }
        let version = u32::from_le_bytes(bytes.take()?);
        if version != VERSION {
            return Err(StateError::Version { found: version });
        }
        let mut state = Self::initial();
        let mut seen = 0_u64;
        while !bytes.rest.is_empty() {
            bytes.field = "section";
            let tag = u16::from_le_bytes(bytes.take()?);
            let flags = u16::from_le_bytes(bytes.take()?);
            let len = u32::from_le_bytes(bytes.take()?) as usize;
            let section = bytes.take_slice(len)?;
            let bit = 1_u64.checked_shl(tag.into()).unwrap_or(0);
            if seen & bit != 0 {
                return Err(StateError::Twice { tag });
            }
            seen |= bit;
            if !state.section(tag, section)? && flags & CRITICAL != 0 {
                return Err(StateError::Unknown { tag });
            }
        }
        match tag::ALWAYS.into_iter().find(|tag| seen & 1_u64.wrapping_shl((*tag).into()) == 0) {
            Some(tag) => Err(StateError::Missing { tag }),
            None => Ok(state),
        }
    }

    /// Takes in one section. False: it is not known.
    fn section(&mut self, tag: u16, section: &[u8]) -> Result<bool, StateError> {
        let mut bytes = Bytes { field: "", rest: section };
        match tag {
            tag::FEATURES => {
                bytes.field = "acked";
                self.acked = Features::from_bits_retain(u128::from_le_bytes(bytes.take()?));
            }
            tag::DEVICE => self.device(&mut bytes)?,
            tag::RECEIVE => self.received(&mut bytes)?,
            tag::VLANS => {
                bytes.field = "receive.vlans";
                self.receive.vlans = Some(VlanSet::from_bytes(&bytes.take()?));
            }
            tag::QUEUES => self.queues(&mut bytes)?,
            tag::OFFLOADS => {
                bytes.field = "offloads";
                let bits = u64::from_le_bytes(bytes.take()?);
                let offloads = Features::from_bits_retain(bits.into());
                if !Features::GUEST_OFFLOADS.contains(offloads) {
                    return Err(value("offloads", bits.into(), "receive offloads"));
                }
                self.offloads = offloads;
            }
            tag::STEERING => self.steering(&mut bytes)?,
            tag::CONTEXTS => self.contexts(&mut bytes)?,
            tag::COALESCING => self.coalescing(&mut bytes)?,
            tag::COUNTERS => {
                bytes.field = "commands";
                let [commands, ok] = [bytes.take()?, bytes.take()?].map(u64::from_le_bytes);
                self.commands = CommandCounters { commands, ok };
            }
            tag::RINGS => {
                bytes.field = "rings";
                let rings = bytes.entries::<8>(MAX_RINGS)?;
                self.rings = rings
                    .iter()
                    .map(|[i0, i1, s0, s1, p0, p1, p2, p3]| RingState {
                        index: u16::from_le_bytes([*i0, *i1]),
                        size: u16::from_le_bytes([*s0, *s1]),
                        state: QueueState(u32::from_le_bytes([*p0, *p1, *p2, *p3])),
                    })
                    .collect();
            }
            _ => return Ok(false),
        }
        bytes.end()?;
        Ok(true)
    }

    fn device(&mut self, bytes: &mut Bytes<'_>) -> Result<(), StateError> {
        bytes.field = "device";
        let [flags] = bytes.take()?;
        let on = |bit| flags & bit != 0;
        if flags & !flag::ALL != 0 || (on(flag::LATER_UP) && on(flag::LATER_DOWN)) {
            return Err(value("device.flags", flags.into(), "known flags, and one state of the link"));
        }
        (self.commanded, self.suspended) = (on(flag::COMMANDED), on(flag::SUSPENDED));
        (self.link_up, self.announce) = (on(flag::LINK_UP), on(flag::ANNOUNCE));
        self.link_later = (on(flag::LATER_UP) || on(flag::LATER_DOWN)).then_some(on(flag::LATER_UP));
        self.announce_later = on(flag::LATER_ANNOUNCE);
        self.pairs = u16::from_le_bytes(bytes.take()?);
        if !(1..=MAX_PAIRS).contains(&self.pairs) {
            return Err(value("pairs", self.pairs.into(), "1 to 32768"));
        }
        Ok(())
    }

    fn received(&mut self, bytes: &mut Bytes<'_>) -> Result<(), StateError> {
        bytes.field = "receive";
        let own = MacAddr(bytes.take()?);
        if !own.is_unicast() {
            return Err(value(
                "receive.own",
                own.0.iter().fold(0, |n, b| n << 8 | u128::from(*b)),
                "a station's address",
            ));
        }
        let [modes, flags] = bytes.take()?;
        let modes = RxModes::from_bits(modes).ok_or(value("receive.modes", modes.into(), "modes that there are"))?;
        if flags & !3 != 0 {
            return Err(value("receive.flags", flags.into(), "at most 3"));
        }
        bytes.field = "receive.addresses";
        let addresses: Vec<MacAddr> = bytes.entries(MAX_ADDRESSES)?.iter().copied().map(MacAddr).collect();
        if !addresses.is_sorted_by(|a, b| a < b) {
            return Err(value("receive.addresses", addresses.len() as u128, "ascending order, each once"));
        }
        let vlans = self.receive.vlans.take();
        let (all_unicast, all_multicast) = (flags & 1 != 0, flags & 2 != 0);
        self.receive = ReceiveState { own, modes, all_unicast, all_multicast, addresses, vlans };
        Ok(())
    }

    fn queues(&mut self, bytes: &mut Bytes<'_>) -> Result<(), StateError> {
        bytes.field = "used_pairs";
        self.used_pairs = u16::from_le_bytes(bytes.take()?);
        bytes.field = "enabled";
        let enabled = bytes.entries(MAX_RINGS)?;
        if let Some([other]) = enabled.iter().find(|[on]| *on > 1) {
            return Err(value("enabled", (*other).into(), "0 or 1"));
        }
        self.enabled = enabled.iter().map(|[on]| *on == 1).collect();
        Ok(())
    }

    fn steering(&mut self, bytes: &mut Bytes<'_>) -> Result<(), StateError> {
        bytes.field = "tunnels";
        let tunnels = u32::from_le_bytes(bytes.take()?);
        self.tunnels =
            TunnelTypes::from_bits(tunnels).ok_or(value("tunnels", tunnels.into(), "tunnels that there are"))?;
        bytes.field = "hash";
        let [kind] = bytes.take()?;
        let data = core::mem::take(&mut bytes.rest);
        let wrong = |error| StateError::Steering { field: "hash", error };
        self.hash = match kind {
            0 => HashState::Hash(HashConfig::parse(data, &WIDEST).map_err(wrong)?),
            1 => HashState::Rss(RssConfig::parse(data, &WIDEST).map_err(wrong)?),
            _ => return Err(value("hash.kind", kind.into(), "0 or 1")),
        };
        Ok(())
    }

    fn contexts(&mut self, bytes: &mut Bytes<'_>) -> Result<(), StateError> {
        bytes.field = "contexts";
        while !bytes.rest.is_empty() {
            let id = u16::from_le_bytes(bytes.take()?);
            let len = u16::from_le_bytes(bytes.take()?);
            let ascends = self.contexts.last().is_none_or(|(last, _)| *last < id);
            if !(1..=MAX_CONTEXTS).contains(&id) || !ascends {
                return Err(value("contexts.id", id.into(), "1 to 16 in ascending order"));
            }
            let rss = RssConfig::parse(bytes.take_slice(len.into())?, &WIDEST)
                .map_err(|error| StateError::Steering { field: "contexts", error })?;
            self.contexts.push((id, rss));
        }
        Ok(())
    }

    fn coalescing(&mut self, bytes: &mut Bytes<'_>) -> Result<(), StateError> {
        bytes.field = "coalescing";
        let mut all = Vec::new();
        for entry in bytes.entries::<{ CoalesceParams::LEN }>(MAX_RINGS)? {
            let params = CoalesceParams::parse(entry);
            all.push(params.ok_or(value(
                "coalescing.max_usecs",
                u128::from(MAX_DELAY).wrapping_add(1),
                "at most 1000000",
            ))?);
        }
        let [rx, tx, queues @ ..] = all.as_slice() else {
            let found = all.len().wrapping_mul(CoalesceParams::LEN); // at most 8
            return Err(StateError::Short { field: "coalescing", found, expected: 16 });
        };
        self.coalescing = Coalescing { rx: *rx, tx: *tx, queues: queues.to_vec() };
        Ok(())
    }
}

/// What configurations may be as far as no device is known.
const WIDEST: RssLimits = RssLimits { pairs: MAX_PAIRS, table: MAX_TABLE, key: MAX_KEY as u8 };
