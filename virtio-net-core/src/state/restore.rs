//! From a device to its state and back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{HashState, NetState, ReceiveState, StateError};
use net_filter::RxModes;

use crate::device::NetDevice;
use crate::features::Features;
use crate::settings::Settings;
use crate::steering::{HashConfig, RssConfig, Steering};

impl NetDevice {
    /// Its whole state but for the rings, which are the embedder's: [`NetState::rings`] is empty.
    #[must_use]
    pub fn save(&self) -> NetState {
        let settings = self.settings();
        let (filter, steering) = (&settings.filter, &settings.steering);
        let (all_unicast, all_multicast) = filter.overflows();
        let (link_later, announce_later) = self.later();
        NetState {
            acked: self.acked(),
            commanded: self.is_commanded(),
            suspended: self.is_suspended(),
            link_up: self.config().link_up(),
            announce: self.config().is_announcing(),
            link_later,
            announce_later,
            pairs: self.pairs(),
            receive: ReceiveState {
                own: filter.own(),
                modes: filter.modes(),
                all_unicast,
                all_multicast,
                addresses: filter.addresses(),
                vlans: filter.vlans().cloned(),
            },
            used_pairs: settings.pairs,
            enabled: self.enabled_queues().to_vec(),
            offloads: settings.offloads,
            tunnels: steering.tunnels(),
            hash: match steering.rss() {
                Some(rss) => HashState::Rss(rss.clone()),
                None => HashState::Hash(HashConfig { types: steering.types(), key: steering.key().to_vec() }),
            },
            contexts: steering.contexts.iter().map(|(id, rss)| (id, rss.clone())).collect(),
            coalescing: settings.coalescing.clone(),
            commands: self.command_counters(),
            rings: Vec::new(),
        }
    }

    /// What a state says has to be what a driver with its features could have asked for.
    fn check_features(state: &NetState) -> Result<(), StateError> {
        let (hashes, rss) = match &state.hash {
            HashState::Hash(hash) => (!hash.types.is_empty() || !hash.key.is_empty(), false),
            HashState::Rss(_) => (true, true),
        };
        let extra = RxModes::ALLUNI | RxModes::NOMULTI | RxModes::NOUNI | RxModes::NOBCAST;
        let modes = state.receive.modes;
        let several = Features::MQ.union(Features::RSS);
        let table = [
            ("commanded", state.commanded, Features::CTRL_VQ),
            ("suspended", state.suspended, Features::SUSPEND),
            ("used_pairs", state.used_pairs > 1, several),
            ("receive.modes", modes.intersects(RxModes::PROMISC | RxModes::ALLMULTI), Features::CTRL_RX),
            ("receive.modes", modes.intersects(extra), Features::CTRL_RX_EXTRA),
            ("receive.addresses", !state.receive.addresses.is_empty(), Features::CTRL_RX),
            ("receive.vlans", state.receive.vlans.is_some(), Features::CTRL_VLAN),
            ("hash", hashes, Features::RSS.union(Features::HASH_REPORT)),
            ("hash.kind", rss, Features::RSS),
            ("tunnels", !state.tunnels.is_empty(), Features::HASH_TUNNEL),
            ("contexts", !state.contexts.is_empty(), Features::RSS_CONTEXT),
        ];
        if let Some((field, _, needs)) =
            table.iter().find(|(_, is_set, needs)| *is_set && !state.acked.intersects(*needs))
        {
            let expected = "nothing of a feature that was not acknowledged";
            return Err(StateError::Value { field, found: needs.bits(), expected });
        }
        Ok(())
    }

    /// Goes on from a state, as if its driver had negotiated and commanded all that here.
    ///
    /// # Errors
    /// [`StateError`] names what this device cannot be; it stays as it is then.
    pub fn restore(&mut self, state: &NetState) -> Result<(), StateError> {
        let value = |field, found, expected| StateError::Value { field, found, expected };
        if state.pairs != self.pairs() {
            return Err(value("pairs", state.pairs.into(), "as many as the device has"));
        }
        let queues = usize::from(self.pairs()).saturating_mul(2);
        if state.enabled.len() != queues {
            return Err(value("enabled", state.enabled.len() as u128, "one for each queue"));
        }
        if state.coalescing.queues.len() != queues {
            return Err(value("coalescing", state.coalescing.queues.len() as u128, "one for each queue"));
        }
        if !(1..=self.pairs()).contains(&state.used_pairs) {
            return Err(value("used_pairs", state.used_pairs.into(), "1 to the pairs of the device"));
        }
        if !state.acked.contains(state.offloads) {
            return Err(value("offloads", state.offloads.bits(), "features that were acknowledged"));
        }
        let mut device = self.clone();
        device.acknowledge(state.acked)?;
        Self::check_features(state)?;
        let limits = self.rss_limits();
        let wrong = |field| move |error| StateError::Steering { field, error };
        let mut steering = Steering::default();
        match &state.hash {
            HashState::Hash(hash) => {
                steering.set_hash(HashConfig::parse(&hash.to_bytes(), &limits).map_err(wrong("hash"))?);
            }
            HashState::Rss(rss) => {
                steering.set_rss(RssConfig::parse(&rss.to_bytes(), &limits).map_err(wrong("hash"))?);
            }
        }
        if steering.rss().is_some_and(|rss| state.used_pairs < rss.pairs()) {
            return Err(value("used_pairs", state.used_pairs.into(), "those that the table of queues names"));
        }
        steering.set_tunnels(state.tunnels);
        for (id, rss) in &state.contexts {
            let rss = RssConfig::parse(&rss.to_bytes(), &limits).map_err(wrong("contexts"))?;
            steering.contexts.insert(*id, rss);
        }
        let receive = &state.receive;
        if device.has_fixed_mac() && receive.own != device.settings().filter.own() {
            let found = receive.own.0.iter().fold(0, |n, b| n << 8 | u128::from(*b));
            return Err(value("receive.own", found, "the address that the host insists on"));
        }
        let mut filter = (*device.settings().filter).clone();
        filter.restore(receive.own, receive.modes, &receive.addresses, (receive.all_unicast, receive.all_multicast));
        filter.set_vlans(receive.vlans.clone());
        device.go_on(
            state,
            Arc::new(Settings {
                pairs: state.used_pairs,
                filter: Arc::new(filter),
                offloads: state.offloads,
                steering,
                coalescing: state.coalescing.clone(),
            }),
        );
        *self = device;
        Ok(())
    }
}
