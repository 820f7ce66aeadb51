//! Router advertisements (RFC 4861, 4.2), and teaching smoltcp which MAC address a guest has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::bytes::{array, set};
use crate::config::UserNetConfig;
use crate::packet::{Packet, Route};
use crate::phy::Frame;

const SOLICIT: u8 = 133;
const ADVERT: u8 = 134;
const NEIGHBOUR_ADVERT: u8 = 136;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// The longest that a router may promise to be there, in seconds.
const ROUTER_LIFETIME: u16 = 9000;
const PREFIX_BITS: u8 = 64;
/// On-link, autonomous.
const PREFIX_FLAGS: u8 = 0xc0;

/// True for a router solicitation that passes RFC 4861, 6.1.1.
pub(crate) fn is_solicitation(frame: &[u8], packet: &Packet) -> bool {
    let message = packet.transport(frame);
    packet.hop_limit == 255
        && matches!(message, [SOLICIT, 0, ..])
        && message.len() >= 8
        && packet.transport_is_sound(frame)
}

/// Writes the advertisement that answers a solicitation.
pub(crate) fn advertise(config: &UserNetConfig, frame: &[u8], packet: &Packet, reply: &mut Frame) {
    let [l0, l1] = ROUTER_LIFETIME.to_be_bytes();
    let mut message = vec![ADVERT, 0, 0, 0, 64, 0, l0, l1, 0, 0, 0, 0, 0, 0, 0, 0];
    // Source link-layer address.
    message.extend_from_slice(&[1, 1]);
    message.extend_from_slice(&config.mac);
    if config.mtu.is_some() {
        message.extend_from_slice(&[5, 1, 0, 0]);
        message.extend_from_slice(&u32::from(config.mtu()).to_be_bytes());
    }
    // The prefix, for ever: nothing announces it again.
    message.extend_from_slice(&[3, 4, PREFIX_BITS, PREFIX_FLAGS]);
    message.extend_from_slice(&[0xff; 8]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&config.prefix6().octets());
    // The DNS server (RFC 8106, 5.1), for ever as well.
    message.extend_from_slice(&[25, 3, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    message.extend_from_slice(&config.ipv6.octets());
    let mut route = Route::back(frame, packet, config.mac);
    route.src = config.link_local.into();
    if route.dst == Ipv6Addr::UNSPECIFIED {
        route.dst = ALL_NODES.into();
        route.dst_mac = ALL_NODES_MAC;
    }
    route.icmpv6(reply, &message);
}

/// How long smoltcp is sure to remember what it was told.
const FRESH: Duration = Duration::from_secs(30);
/// Guest addresses remembered.
const MOST: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Known {
    address: IpAddr,
    mac: [u8; 6],
    since: Instant,
}

/// Which guest addresses smoltcp knows.
///
/// smoltcp forgets a neighbour after a minute of silence and then loses the answer to the next echo request while it
/// asks for the address. Here the frame itself says where the answer has to go: smoltcp is told first, by an
/// advertisement made for that.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    known: Vec<Known>,
}

impl Neighbours {
    /// Writes to `told` what smoltcp has to be told before it sees `frame`. False if it knows.
    pub(crate) fn tell(&mut self, config: &UserNetConfig, frame: &[u8], packet: &Packet, told: &mut Frame) -> bool {
        let now = Instant::now();
        let mac: [u8; 6] = array(frame, 6).unwrap_or_default();
        let [first, ..] = mac;
        if first & 1 != 0 || !config.is_guest(packet.src) {
            return false;
        }
        let known = self.known.iter_mut().find(|k| k.address == packet.src);
        match known {
            Some(k) if k.mac == mac && now.saturating_duration_since(k.since) < FRESH => return false,
            Some(k) => *k = Known { address: packet.src, mac, since: now },
            None => {
                if self.known.len() >= MOST {
                    self.known.remove(0);
                }
                self.known.push(Known { address: packet.src, mac, since: now });
            }
        }
        match packet.src {
            IpAddr::V4(address) => arp_reply(config, address, mac, told),
            IpAddr::V6(address) => neighbour_advert(config, address, mac, told),
        }
        true
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }
}

fn arp_reply(config: &UserNetConfig, address: Ipv4Addr, mac: [u8; 6], told: &mut Frame) {
    told.set_len(42);
    let bytes = told.bytes_mut();
    set(bytes, 0, &config.mac);
    set(bytes, 6, &mac);
    set(bytes, 12, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    set(bytes, 22, &mac);
    set(bytes, 28, &address.octets());
    set(bytes, 32, &config.mac);
    set(bytes, 38, &config.ipv4.octets());
}

fn neighbour_advert(config: &UserNetConfig, address: Ipv6Addr, mac: [u8; 6], told: &mut Frame) {
    // Solicited, override.
    let mut message = vec![NEIGHBOUR_ADVERT, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    // Target link-layer address.
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac);
    let route = Route { src_mac: mac, dst_mac: config.mac, src: address.into(), dst: config.ipv6.into() };
    route.icmpv6(told, &message);
}
