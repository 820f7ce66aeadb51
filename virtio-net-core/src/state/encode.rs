//! States as bytes.

use alloc::vec::Vec;

use super::{CRITICAL, HashState, MAGIC, NetState, VERSION, flag, tag};
use crate::steering::RssConfig;

impl NetState {
    /// Its bytes, as the [module](crate::state) says.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        // Features, offloads and queues by hash change what the driver is given: who does not know them must not go on.
        section(&mut out, tag::FEATURES, CRITICAL, &self.acked.bits().to_le_bytes());
        section(&mut out, tag::DEVICE, CRITICAL, &self.device_bytes());
        section(&mut out, tag::RECEIVE, CRITICAL, &self.receive_bytes());
        if let Some(vlans) = &self.receive.vlans {
            section(&mut out, tag::VLANS, CRITICAL, &vlans.to_bytes());
        }
        let mut queues = self.used_pairs.to_le_bytes().to_vec();
        queues.extend(self.enabled.iter().map(|on| u8::from(*on)));
        section(&mut out, tag::QUEUES, CRITICAL, &queues);
        section(&mut out, tag::OFFLOADS, CRITICAL, &(self.offloads.bits() as u64).to_le_bytes()); // none above bit 55
        section(&mut out, tag::STEERING, CRITICAL, &self.steering_bytes());
        if !self.contexts.is_empty() {
            section(&mut out, tag::CONTEXTS, CRITICAL, &contexts(&self.contexts));
        }
        let all = &self.coalescing;
        let coalescing: Vec<u8> = [all.rx, all.tx].iter().chain(&all.queues).flat_map(|p| p.to_bytes()).collect();
        section(&mut out, tag::COALESCING, 0, &coalescing);
        let counters = [self.commands.commands, self.commands.ok].map(u64::to_le_bytes);
        section(&mut out, tag::COUNTERS, 0, counters.as_flattened());
        let rings: Vec<u8> = self
            .rings
            .iter()
            .flat_map(|ring| {
                let [i0, i1] = ring.index.to_le_bytes();
                let [s0, s1] = ring.size.to_le_bytes();
                let [p0, p1, p2, p3] = ring.state.0.to_le_bytes();
                [i0, i1, s0, s1, p0, p1, p2, p3]
            })
            .collect();
        section(&mut out, tag::RINGS, CRITICAL, &rings);
        out
    }

    fn device_bytes(&self) -> [u8; 3] {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = bit(self.commanded, flag::COMMANDED)
            | bit(self.suspended, flag::SUSPENDED)
            | bit(self.link_up, flag::LINK_UP)
            | bit(self.announce, flag::ANNOUNCE)
            | bit(self.link_later == Some(true), flag::LATER_UP)
            | bit(self.link_later == Some(false), flag::LATER_DOWN)
            | bit(self.announce_later, flag::LATER_ANNOUNCE);
        let [p0, p1] = self.pairs.to_le_bytes();
        [flags, p0, p1]
    }

    fn receive_bytes(&self) -> Vec<u8> {
        let receive = &self.receive;
        let mut bytes = receive.own.0.to_vec();
        bytes.push(receive.modes.bits());
        bytes.push(u8::from(receive.all_unicast) | u8::from(receive.all_multicast) << 1);
        bytes.extend(receive.addresses.iter().flat_map(|mac| mac.0));
        bytes
    }

    fn steering_bytes(&self) -> Vec<u8> {
        let mut bytes = self.tunnels.bits().to_le_bytes().to_vec();
        match &self.hash {
            HashState::Hash(hash) => {
                bytes.push(0);
                bytes.extend(hash.to_bytes());
            }
            HashState::Rss(rss) => {
                bytes.push(1);
                bytes.extend(rss.to_bytes());
            }
        }
        bytes
    }
}

fn contexts(contexts: &[(u16, RssConfig)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, rss) in contexts {
        let rss = rss.to_bytes();
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&(rss.len() as u16).to_le_bytes()); // at most 128 entries and 40 bytes of key
        bytes.extend_from_slice(&rss);
    }
    bytes
}

fn section(out: &mut Vec<u8>, tag: u16, flags: u16, bytes: &[u8]) {
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes()); // far below `MAX_LEN`
    out.extend_from_slice(bytes);
}
