//! What a guest says of its IP addresses, packet by packet.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::SpoofReason as R;
use super::addresses::IpSources;
use crate::addr::MacAddr;
use crate::{FrameHead, ethertype};

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION: u8 = 60;
const AUTHENTICATION: u8 = 51;

/// Most extension headers of a packet that leaves.
const MAX_EXTENSIONS: usize = 8;

/// Ports of DHCP: server and client, and those of DHCPv6.
const BOOTPS: u16 = 67;
const BOOTPC: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;

/// Why a frame from the guest with the MAC address `own` must not leave.
pub(super) fn check(head: &[u8], own: MacAddr, sources: &IpSources) -> Result<(), R> {
    let frame = FrameHead::parse(head).ok_or(R::TooShort)?;
    let packet = head.get(frame.l3..).unwrap_or_default();
    match frame.ethertype {
        ethertype::IPV4 => v4(packet, own, sources),
        ethertype::IPV6 => v6(packet, own, sources),
        ethertype::ARP => arp(packet, own, sources),
        _ => Err(R::Unreadable),
    }
}

/// RFC 826. A sender without an address asks whether somebody has one (RFC 5227).
fn arp(packet: &[u8], own: MacAddr, sources: &IpSources) -> Result<(), R> {
    let Some([0, 1, 8, 0, 6, 4, 0, op @ (1 | 2), rest @ ..]) = packet.first_chunk::<28>() else { return Err(R::Arp) };
    let [h0, h1, h2, h3, h4, h5, p0, p1, p2, p3, ..] = *rest;
    let sender = Ipv4Addr::new(p0, p1, p2, p3);
    let known = if sender.is_unspecified() {
        // Whoever asks for a neighbour's address that way makes it believe in a conflict.
        let target = packet.get(24..).and_then(<[u8]>::first_chunk::<4>).ok_or(R::Arp)?;
        *op == 1 && sources.has_v4(Ipv4Addr::from(*target))
    } else {
        sources.has_v4(sender)
    };
    if MacAddr([h0, h1, h2, h3, h4, h5]) == own && known { Ok(()) } else { Err(R::Arp) }
}

fn v4(packet: &[u8], own: MacAddr, sources: &IpSources) -> Result<(), R> {
    let fixed = packet.first_chunk::<20>().ok_or(R::Unreadable)?;
    let len = usize::from(fixed[0] & 15).wrapping_mul(4); // at most 60
    if fixed[0] >> 4 != 4 || len < 20 {
        return Err(R::Unreadable);
    }
    let source = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let (protocol, fragment) = (fixed[9], u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff);
    let known = sources.has_v4(source);
    if protocol != UDP {
        return if known { Ok(()) } else { Err(R::ForeignIp) };
    }
    // A later fragment has no ports to look at; one that begins inside of a header could replace them (RFC 1858).
    if fragment & 0x1fff != 0 {
        return match (known, fragment & 0x1fff) {
            (false, _) => Err(R::ForeignIp),
            (true, 1) => Err(R::Fragment),
            (true, _) => Ok(()),
        };
    }
    let ports = packet.get(len..).and_then(<[u8]>::first_chunk::<8>);
    let Some([s0, s1, d0, d1, ..]) = ports else {
        return Err(if fragment == 0 { R::Unreadable } else { R::Fragment });
    };
    let (from, to) = (u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1]));
    // Many clients take an answer from any port: what goes to theirs is a server's as well.
    if from == BOOTPS || to == BOOTPC {
        return Err(R::Dhcp);
    }
    if to == BOOTPS {
        let message = packet.get(len..).and_then(|udp| udp.get(8..)).unwrap_or_default();
        if fragment != 0 || !asks_for_itself(message, own, sources) {
            return Err(R::Dhcp);
        }
    }
    // A guest without an address asks for one.
    let asks = source.is_unspecified() && fragment == 0 && (from, to) == (BOOTPC, BOOTPS);
    if known || asks { Ok(()) } else { Err(R::ForeignIp) }
}

/// A client's message of RFC 2131 that speaks of the guest alone: a server takes an address away, or gives it, by what is said
/// here. The option that names a client (61) lies behind what is looked at.
fn asks_for_itself(message: &[u8], own: MacAddr, sources: &IpSources) -> bool {
    let Some(fixed) = message.first_chunk::<34>() else { return false };
    let [1, 1, 6, _, _, _, _, _, _, _, _, _, c0, c1, c2, c3, ..] = *fixed else { return false };
    let ciaddr = Ipv4Addr::new(c0, c1, c2, c3);
    let (relayed, mac) = (fixed.get(24..28), fixed.last_chunk::<6>());
    let known = ciaddr.is_unspecified() || sources.has_v4(ciaddr);
    known && relayed == Some(&[0; 4]) && mac == Some(&own.0)
}

/// True if a checksum that begins at `start` and is put `offset` bytes behind that is the one of TCP or of UDP. Any other would be
/// put over something that was looked at.
pub(super) fn is_transports(head: &[u8], start: usize, offset: u16) -> bool {
    let found = transport(head);
    found == Some((start, TCP)) && offset == 16 || found == Some((start, UDP)) && offset == 6
}

/// Where the transport's header is, from the frame's start on, and which one it is.
fn transport(head: &[u8]) -> Option<(usize, u8)> {
    let frame = FrameHead::parse(head)?;
    let packet = head.get(frame.l3..)?;
    let first = *packet.first()?;
    if frame.ethertype == ethertype::IPV4 {
        let len = usize::from(first & 15).wrapping_mul(4); // at most 60
        return (first >> 4 == 4 && len >= 20).then_some((frame.l3.saturating_add(len), *packet.get(9)?));
    }
    if frame.ethertype != ethertype::IPV6 || first >> 4 != 6 {
        return None;
    }
    let (mut protocol, mut at) = (*packet.get(6)?, 40_usize);
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
            break;
        }
        let [next, units, ..] = *packet.get(at..)? else { return None };
        (protocol, at) = (next, at.saturating_add(usize::from(units).saturating_add(1).saturating_mul(8)));
    }
    Some((frame.l3.saturating_add(at), protocol))
}

fn v6(packet: &[u8], own: MacAddr, sources: &IpSources) -> Result<(), R> {
    let (fixed, payload) = packet.split_first_chunk::<40>().ok_or(R::Unreadable)?;
    let (_, source) = fixed.split_first_chunk::<8>().ok_or(R::Unreadable)?;
    let source = Ipv6Addr::from(*source.first_chunk::<16>().ok_or(R::Unreadable)?);
    if fixed[0] >> 4 != 6 {
        return Err(R::Unreadable);
    }
    let known = sources.has_v6(&source);
    if !known && !source.is_unspecified() {
        return Err(R::ForeignIp);
    }
    let mut protocol = fixed[6];
    let mut cut = false;
    let mut rest = payload;
    for _ in 0..MAX_EXTENSIONS {
        let [next, units, ..] = *rest else { break };
        let len = match protocol {
            FRAGMENT => {
                let [_, _, o0, o1, ..] = *rest else { return Err(R::Fragment) };
                cut = true;
                if u16::from_be_bytes([o0, o1]) >> 3 != 0 {
                    // What comes later is of no use without the first one, which is looked at.
                    return if known { Ok(()) } else { Err(R::ForeignIp) };
                }
                8
            }
            AUTHENTICATION => usize::from(units).wrapping_add(2).wrapping_mul(4), // at most 1028
            HOP_BY_HOP | ROUTING | DESTINATION => usize::from(units).wrapping_add(1).wrapping_mul(8), // at most 2048
            _ => break,
        };
        protocol = next;
        rest = rest.get(len..).ok_or(if cut { R::Fragment } else { R::Unreadable })?;
    }
    match protocol {
        ICMPV6 if cut => cut_icmp_v6(rest, known),
        ICMPV6 => {
            let headers = payload.len().saturating_sub(rest.len());
            let len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]])).checked_sub(headers);
            // None: the packet says that it ends elsewhere than in the head.
            icmp_v6(rest, len.and_then(|len| rest.get(..len)), known, own, sources)
        }
        _ if !known => Err(R::ForeignIp),
        UDP => match *rest {
            [s0, s1, d0, d1, ..] => match (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])) {
                (DHCPV6_SERVER, _) | (_, DHCPV6_CLIENT) => Err(R::Dhcp),
                _ => Ok(()),
            },
            _ => Err(if cut { R::Fragment } else { R::Unreadable }),
        },
        HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT | AUTHENTICATION => Err(R::Unreadable),
        _ => Ok(()),
    }
}

const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const LISTENER_REPORT_2: u8 = 143;

/// RFC 4861, 4.1 to 4.5. `head` is what is there of the message; `whole` is the message, if all of it is there. `known`: the
/// source is the guest's, else it is the unspecified address.
fn icmp_v6(head: &[u8], whole: Option<&[u8]>, known: bool, own: MacAddr, sources: &IpSources) -> Result<(), R> {
    let kind = *head.first().ok_or(R::Unreadable)?;
    let (fixed, option) = match kind {
        ROUTER_ADVERTISEMENT | REDIRECT => return Err(R::Neighbour),
        ROUTER_SOLICITATION => (8, 1),
        SOLICITATION => (24, 1),
        ADVERTISEMENT => (24, 2),
        _ => return other_icmp_v6(kind, known),
    };
    let message = whole.ok_or(R::Neighbour)?;
    if kind == SOLICITATION && !known {
        // Whether somebody has an address that the guest is about to take: its own, or its neighbour believes in a conflict.
        let target = message.get(8..).and_then(<[u8]>::first_chunk::<16>).ok_or(R::Neighbour)?;
        if !sources.has_v6(&Ipv6Addr::from(*target)) {
            return Err(R::Neighbour);
        }
    }
    if kind == ADVERTISEMENT {
        let target = message.get(8..).and_then(<[u8]>::first_chunk::<16>).ok_or(R::Neighbour)?;
        if !known || !sources.has_v6(&Ipv6Addr::from(*target)) {
            return Err(R::Neighbour);
        }
    }
    link_layer(message.get(fixed..).ok_or(R::Neighbour)?, option, known, own)
}

/// The first fragment of a message. Neighbour discovery is never cut (RFC 6980).
fn cut_icmp_v6(head: &[u8], known: bool) -> Result<(), R> {
    match *head.first().ok_or(R::Fragment)? {
        ROUTER_ADVERTISEMENT | REDIRECT => Err(R::Neighbour),
        ROUTER_SOLICITATION | SOLICITATION | ADVERTISEMENT => Err(R::Fragment),
        kind => other_icmp_v6(kind, known),
    }
}

/// A host without an address joins and leaves the group of the one that it is going to ask for (RFC 3590).
fn other_icmp_v6(kind: u8, known: bool) -> Result<(), R> {
    let joins = matches!(kind, LISTENER_REPORT | LISTENER_DONE | LISTENER_REPORT_2);
    if known || joins { Ok(()) } else { Err(R::ForeignIp) }
}

/// The link-layer address among the options is the guest's, if there is one; who has no address yet says none.
fn link_layer(mut options: &[u8], wanted: u8, known: bool, own: MacAddr) -> Result<(), R> {
    while let [kind, units, rest @ ..] = options {
        let len = usize::from(*units).wrapping_mul(8); // at most 2040
        if len == 0 {
            return Err(R::Neighbour);
        }
        if *kind == wanted {
            let mac = rest.first_chunk().ok_or(R::Neighbour)?;
            if MacAddr(*mac) != own || !known || len != 8 {
                return Err(R::Neighbour);
            }
        }
        options = options.get(len..).ok_or(R::Neighbour)?;
    }
    if options.is_empty() { Ok(()) } else { Err(R::Neighbour) }
}
