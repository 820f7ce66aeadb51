//! The commands of the control queue, carried out on a device (virtio 1.4, 5.1.6.5).

use alloc::sync::Arc;
use alloc::vec::Vec;

use net_filter::{MacAddr, RxModes, RxRules};

use super::{NetDevice, Settings};
use crate::coalesce::CoalesceParams;
use crate::ctrl::{self, Ack, Counters, CtrlHandler, Reply, Source, stats};
use crate::features::Features;
use crate::steering::{HashConfig, RssConfig, TunnelTypes};

/// Carries commands out on a device.
///
/// A command that needs a feature which the driver did not acknowledge is unknown to it.
pub struct Commands<'a> {
    pub(super) device: &'a mut NetDevice,
    pub(super) counters: &'a dyn Counters,
}

impl CtrlHandler for Commands<'_> {
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8], reply: &mut Reply) -> Ack {
        let counts = &mut self.device.commands;
        // The command itself is among those that it may ask for.
        (counts.commands, counts.ok) = (counts.commands.wrapping_add(1), counts.ok.wrapping_add(1));
        let done = match class {
            ctrl::CLASS_RX => self.device.receive_mode(cmd, data),
            ctrl::CLASS_MAC => self.device.mac(cmd, data),
            ctrl::CLASS_VLAN => self.device.vlan(cmd, data),
            ctrl::CLASS_ANNOUNCE => self.device.announced(cmd, data),
            ctrl::CLASS_MQ => self.device.queues_of(cmd, data),
            ctrl::CLASS_GUEST_OFFLOADS => self.device.guest_offloads(cmd, data),
            ctrl::CLASS_NOTF_COAL => self.device.coalesce(cmd, data, reply),
            ctrl::CLASS_HASH_TUNNEL => self.device.hash_tunnel(cmd, data),
            ctrl::CLASS_STATS => self.statistics(cmd, data, reply),
            ctrl::CLASS_RSS_CTX => self.device.rss_context(cmd, data, reply),
            _ => None,
        };
        if done.is_none() {
            let ok = &mut self.device.commands.ok;
            *ok = ok.wrapping_sub(1);
        }
        if done.is_some() { Ack::Ok } else { Ack::Err }
    }
}

impl Commands<'_> {
    fn statistics(&self, cmd: u8, data: &[u8], reply: &mut Reply) -> Option<()> {
        let device = &*self.device;
        device.needs(Features::DEVICE_STATS)?;
        match cmd {
            ctrl::STATS_QUERY if data.is_empty() => stats::query(reply),
            ctrl::STATS_GET => {
                let source = Source {
                    counters: self.counters,
                    commands: device.commands,
                    acked: device.acked,
                    queues: device.queues(device.acked) as usize,
                    role: &|index| device.queue_role(index.into(), device.acked),
                };
                return stats::get(data, &source, reply);
            }
            _ => return None,
        }
        Some(())
    }
}

impl NetDevice {
    /// `None` unless the driver acknowledged one of these.
    fn needs(&self, features: Features) -> Option<()> {
        self.acked.intersects(features).then_some(())
    }

    /// Virtio 1.4, 5.1.6.5.1.
    fn receive_mode(&mut self, cmd: u8, data: &[u8]) -> Option<()> {
        let (mode, feature) = match cmd {
            ctrl::RX_PROMISC => (RxModes::PROMISC, Features::CTRL_RX),
            ctrl::RX_ALLMULTI => (RxModes::ALLMULTI, Features::CTRL_RX),
            ctrl::RX_ALLUNI => (RxModes::ALLUNI, Features::CTRL_RX_EXTRA),
            ctrl::RX_NOMULTI => (RxModes::NOMULTI, Features::CTRL_RX_EXTRA),
            ctrl::RX_NOUNI => (RxModes::NOUNI, Features::CTRL_RX_EXTRA),
            ctrl::RX_NOBCAST => (RxModes::NOBCAST, Features::CTRL_RX_EXTRA),
            _ => return None,
        };
        self.needs(feature)?;
        let [on @ 0..=1] = *data else { return None };
        self.filter_mut().set_mode(mode, on == 1);
        Some(())
    }

    /// Virtio 1.4, 5.1.6.5.2. The specification has `MAC_ADDR_SET` depend on one feature here and on the other there.
    fn mac(&mut self, cmd: u8, data: &[u8]) -> Option<()> {
        match cmd {
            ctrl::MAC_TABLE_SET => {
                self.needs(Features::CTRL_RX)?;
                let (unicast, rest) = table(data)?;
                let (multicast, rest) = table(rest)?;
                if !rest.is_empty() {
                    return None;
                }
                self.filter_mut().set_tables(&unicast, &multicast);
            }
            ctrl::MAC_ADDR_SET => {
                self.needs(Features::CTRL_MAC_ADDR.union(Features::CTRL_RX))?;
                let own = MacAddr(<[u8; 6]>::try_from(data).ok()?);
                if !own.is_unicast() || (self.fixed_mac && own != self.settings.filter.own()) {
                    return None;
                }
                self.filter_mut().set_own(own);
                self.config.set_mac(own);
            }
            _ => return None,
        }
        Some(())
    }

    /// Virtio 1.4, 5.1.6.5.3.
    fn vlan(&mut self, cmd: u8, data: &[u8]) -> Option<()> {
        self.needs(Features::CTRL_VLAN)?;
        let id = u16::from_le_bytes(data.try_into().ok()?);
        let on = match cmd {
            ctrl::VLAN_ADD => true,
            ctrl::VLAN_DEL => false,
            _ => return None,
        };
        self.filter_mut().set_vlan(id, on).then_some(())
    }

    /// Virtio 1.4, 5.1.6.5.4.
    fn announced(&mut self, cmd: u8, data: &[u8]) -> Option<()> {
        self.needs(Features::GUEST_ANNOUNCE)?;
        if cmd != ctrl::ANNOUNCE_ACK || !data.is_empty() {
            return None;
        }
        self.config.announced();
        Some(())
    }

    /// Virtio 1.4, 5.1.6.5.5 to 5.1.6.5.7. The last command decides how queues are chosen.
    fn queues_of(&mut self, cmd: u8, data: &[u8]) -> Option<()> {
        match cmd {
            ctrl::VQ_PAIRS_SET => {
                self.needs(Features::MQ)?;
                let pairs = u16::from_le_bytes(data.try_into().ok()?);
                if !(1..=self.pairs).contains(&pairs) || !self.settings.steering.contexts.is_empty() {
                    return None;
                }
                let settings = self.settings_mut();
                settings.pairs = pairs;
                settings.steering.clear_rss();
            }
            ctrl::RSS_CONFIG => {
                self.needs(Features::RSS)?;
                let rss = RssConfig::parse(data, &self.rss_limits()).ok()?;
                let settings = self.settings_mut();
                settings.pairs = rss.pairs();
                settings.steering.set_rss(rss);
            }
            ctrl::HASH_CONFIG => {
                self.needs(Features::HASH_REPORT)?;
                let hash = HashConfig::parse(data, &self.rss_limits()).ok()?;
                self.settings_mut().steering.set_hash(hash);
            }
            _ => return None,
        }
        Some(())
    }

    /// Virtio 1.4, 5.1.6.5.8.
    fn guest_offloads(&mut self, cmd: u8, data: &[u8]) -> Option<()> {
        self.needs(Features::CTRL_GUEST_OFFLOADS)?;
        let wanted = Features::from_bits_retain(u64::from_le_bytes(data.try_into().ok()?).into());
        if cmd != ctrl::GUEST_OFFLOADS_SET || !self.acked.intersection(Features::GUEST_OFFLOADS).contains(wanted) {
            return None;
        }
        self.settings_mut().offloads = wanted;
        Some(())
    }

    /// Virtio 1.4, 5.1.6.5.9.
    fn coalesce(&mut self, cmd: u8, data: &[u8], reply: &mut Reply) -> Option<()> {
        match cmd {
            ctrl::NOTF_COAL_TX_SET | ctrl::NOTF_COAL_RX_SET => {
                self.needs(Features::NOTF_COAL)?;
                let params = CoalesceParams::parse(data)?;
                let coalescing = &mut self.settings_mut().coalescing;
                if cmd == ctrl::NOTF_COAL_TX_SET { coalescing.set_tx(params) } else { coalescing.set_rx(params) }
            }
            ctrl::NOTF_COAL_VQ_SET | ctrl::NOTF_COAL_VQ_GET => {
                self.needs(Features::VQ_NOTF_COAL)?;
                // The reserved half is ignored.
                let ([i0, i1, _, _], rest) = data.split_first_chunk()?;
                let index = u16::from_le_bytes([*i0, *i1]);
                if !self.is_enabled(index) {
                    return None;
                }
                if cmd == ctrl::NOTF_COAL_VQ_SET {
                    let params = CoalesceParams::parse(rest)?;
                    return self.settings_mut().coalescing.set_queue(index, params).then_some(());
                }
                if !rest.is_empty() {
                    return None;
                }
                reply.put(&self.settings.coalescing.queue(index).to_bytes());
            }
            _ => return None,
        }
        Some(())
    }

    /// Virtio 1.4, 5.1.6.4.4.
    fn hash_tunnel(&mut self, cmd: u8, data: &[u8]) -> Option<()> {
        self.needs(Features::HASH_TUNNEL)?;
        let types = TunnelTypes::parse(data).ok()?;
        if cmd != ctrl::HASH_TUNNEL_SET {
            return None;
        }
        self.settings_mut().steering.set_tunnels(types);
        Some(())
    }

    /// Virtio 1.4, 5.1.6.5.11.
    fn rss_context(&mut self, cmd: u8, data: &[u8], reply: &mut Reply) -> Option<()> {
        self.needs(Features::RSS_CONTEXT)?;
        let limits = self.rss_limits();
        match cmd {
            ctrl::RSS_CTX_CAP_GET if data.is_empty() => reply.put(&crate::steering::MAX_CONTEXTS.to_le_bytes()),
            ctrl::RSS_CTX_ADD => self.settings_mut().steering.contexts.add(data, &limits).ok()?,
            ctrl::RSS_CTX_MOD => self.settings_mut().steering.contexts.modify(data, &limits).ok()?,
            ctrl::RSS_CTX_DEL => self.settings_mut().steering.contexts.delete(data).ok()?,
            _ => return None,
        }
        Some(())
    }

    pub(super) fn filter_mut(&mut self) -> &mut RxRules {
        Arc::make_mut(&mut self.settings_mut().filter)
    }

    /// The settings, to be changed: whoever has a picture of them keeps that.
    pub(super) fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

/// One of the two tables of a command: a count, and as many addresses (virtio 1.4, 5.1.6.5.2). The count is the driver's:
/// what it comes to may not fit a number.
fn table(data: &[u8]) -> Option<(Vec<MacAddr>, &[u8])> {
    let (count, rest) = data.split_first_chunk()?;
    let bytes = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(size_of::<MacAddr>())?;
    let (table, rest) = rest.split_at_checked(bytes)?;
    Some((table.as_chunks().0.iter().copied().map(MacAddr).collect(), rest))
}
