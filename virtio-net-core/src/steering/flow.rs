//! What is hashed of a packet.

use net_filter::{FrameHead, ethertype};

use super::HashTypes;

/// Most extension headers that are looked at; a packet with more is taken for one without a transport.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ENCRYPTED: u8 = 50;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;
/// Home address (RFC 6275, 6.3).
const HOME_ADDRESS: u8 = 0xc9;

/// What flows differ by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flow<'h> {
    network: Network<'h>,
    /// The transport's number, and source and destination port; none for fragments, the first one too.
    ports: Option<(u8, &'h [u8; 4])>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Network<'h> {
    /// Source and destination, side by side as they are in the header.
    V4(&'h [u8; 8]),
    /// Source and destination, and what extension headers have in their place, if there are any.
    V6 { addresses: &'h [u8; 32], extended: bool, home: Option<&'h [u8; 16]>, last: Option<&'h [u8; 16]> },
}

/// Bytes to hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Input {
    bytes: [u8; 36],
    len: usize,
}

impl Input {
    fn of<const N: usize>(parts: [&[u8]; N]) -> Self {
        let mut input = Self { bytes: [0; 36], len: 0 };
        for part in parts {
            let place = input.bytes.get_mut(input.len..).unwrap_or_default();
            place.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            input.len = input.len.saturating_add(part.len()).min(36);
        }
        input
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// A packet's network header, and what is behind it.
pub(super) struct Payload<'h> {
    pub(super) protocol: u8,
    pub(super) bytes: &'h [u8],
}

impl<'h> Flow<'h> {
    /// The flow of a frame.
    pub(super) fn of_frame(head: &'h [u8]) -> Option<Self> {
        let frame = FrameHead::parse(head)?;
        Self::of_packet(frame.ethertype, head.get(frame.l3..)?)
    }

    /// The flow of a packet.
    pub(super) fn of_packet(ethertype: u16, packet: &'h [u8]) -> Option<Self> {
        match ethertype {
            ethertype::IPV4 => Self::of_v4(packet),
            ethertype::IPV6 => Self::of_v6(packet),
            _ => None,
        }
    }

    fn of_v4(packet: &'h [u8]) -> Option<Self> {
        let addresses = packet.get(12..)?.first_chunk()?;
        if packet.first()? >> 4 != 4 {
            return None;
        }
        let ports = v4_payload(packet).and_then(|payload| ports(&payload));
        Some(Self { network: Network::V4(addresses), ports })
    }

    fn of_v6(packet: &'h [u8]) -> Option<Self> {
        let V6 { addresses, extended, home, last, payload } = V6::parse(packet)?;
        let ports = payload.and_then(|payload| ports(&payload));
        Some(Self { network: Network::V6 { addresses, extended, home, last }, ports })
    }

    /// What is hashed of it, by the first of the types that fits.
    pub(super) fn input(&self, types: HashTypes) -> Option<(Input, HashTypes)> {
        let [tcp, udp] = [TCP, UDP].map(|number| self.ports.filter(|(n, _)| *n == number).map(|(_, ports)| ports));
        match self.network {
            Network::V4(addresses) => {
                let on = |kind| types.contains(kind);
                match (tcp, udp) {
                    (Some(ports), _) if on(HashTypes::TCPV4) => Some((Input::of([addresses, ports]), HashTypes::TCPV4)),
                    (_, Some(ports)) if on(HashTypes::UDPV4) => Some((Input::of([addresses, ports]), HashTypes::UDPV4)),
                    _ if on(HashTypes::IPV4) => Some((Input::of([addresses]), HashTypes::IPV4)),
                    _ => None,
                }
            }
            Network::V6 { addresses, extended, home, last } => {
                let (source, destination) = addresses.split_at(16);
                let (outer, final_one) = (home.map_or(source, |h| h), last.map_or(destination, |l| l));
                let with = [
                    (tcp, HashTypes::TCP_EX, outer, final_one, extended),
                    (udp, HashTypes::UDP_EX, outer, final_one, extended),
                    (Some(&[0; 4]), HashTypes::IP_EX, outer, final_one, extended),
                    (tcp, HashTypes::TCPV6, source, destination, true),
                    (udp, HashTypes::UDPV6, source, destination, true),
                    (Some(&[0; 4]), HashTypes::IPV6, source, destination, true),
                ];
                let fits = |ports: Option<_>, kind, applies| ports.is_some() && applies && types.contains(kind);
                let (ports, kind, from, to, _) =
                    with.into_iter().find(|(ports, kind, _, _, applies)| fits(*ports, *kind, *applies))?;
                let without = kind.intersects(HashTypes::IPV6.union(HashTypes::IP_EX));
                let ports: &[u8] = ports.filter(|_| !without).map_or(&[], |ports| ports);
                Some((Input::of([from, to, ports]), kind))
            }
        }
    }
}

/// What is behind an IPv4 header; nothing of a fragment.
pub(super) fn v4_payload(packet: &[u8]) -> Option<Payload<'_>> {
    let fixed = packet.first_chunk::<20>()?;
    let len = usize::from(fixed[0] & 15).wrapping_mul(4); // at most 60
    // Neither an offset nor more to come.
    if fixed[0] >> 4 != 4 || len < 20 || u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0 {
        return None;
    }
    Some(Payload { protocol: fixed[9], bytes: packet.get(len..)? })
}

/// An IPv6 header and its extension headers.
pub(super) struct V6<'h> {
    /// Source and destination.
    addresses: &'h [u8; 32],
    /// There are extension headers.
    extended: bool,
    /// What the home address option says.
    home: Option<&'h [u8; 16]>,
    /// What the routing header of type 2 says.
    last: Option<&'h [u8; 16]>,
    /// What is behind them; nothing of a fragment.
    pub(super) payload: Option<Payload<'h>>,
}

impl<'h> V6<'h> {
    pub(super) fn parse(packet: &'h [u8]) -> Option<Self> {
        let (fixed, bytes) = packet.split_first_chunk::<40>()?;
        if fixed[0] >> 4 != 6 {
            return None;
        }
        let mut this = Self { addresses: fixed.last_chunk()?, extended: false, home: None, last: None, payload: None };
        let mut behind = Payload { protocol: fixed[6], bytes };
        for _ in 0..MAX_EXTENSIONS {
            let Some((next, len)) = extension(&behind) else { break };
            this.extended = true;
            let Some((header, bytes)) = behind.bytes.split_at_checked(len) else { return Some(this) };
            match behind.protocol {
                ROUTING => this.last = this.last.or_else(|| routing_2(header)),
                DESTINATION => this.home = this.home.or_else(|| home_address(header)),
                // What is behind the header of a real fragment is the middle of something, or not all of it.
                FRAGMENT if !is_atomic(header) => return Some(this),
                _ => {}
            }
            behind = Payload { protocol: next, bytes };
        }
        this.extended |= is_extension(behind.protocol);
        this.payload = Some(behind);
        Some(this)
    }
}

fn ports<'h>(payload: &Payload<'h>) -> Option<(u8, &'h [u8; 4])> {
    match payload.protocol {
        TCP | UDP => Some((payload.protocol, payload.bytes.first_chunk()?)),
        _ => None,
    }
}

/// The extension headers of IANA's list but for the two experimental ones.
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | ENCRYPTED | AUTHENTICATION | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6
    )
}

/// What follows an extension header, and the header's length in bytes; `None` if it is none, or not there, or if nobody can
/// say what follows.
fn extension(at: &Payload<'_>) -> Option<(u8, usize)> {
    if !is_extension(at.protocol) || at.protocol == ENCRYPTED {
        return None;
    }
    let [next, units, ..] = *at.bytes else { return None };
    let units = usize::from(units);
    // RFC 8200, 4.5: eight bytes; RFC 4302, 2.2: in words less two; the others in eight bytes less one.
    let len = match at.protocol {
        FRAGMENT => 8,
        AUTHENTICATION => units.wrapping_add(2).wrapping_mul(4), // at most 1028
        _ => units.wrapping_add(1).wrapping_mul(8),              // at most 2048
    };
    Some((next, len))
}

/// True if a fragment header says that the packet is whole (RFC 6946).
fn is_atomic(header: &[u8]) -> bool {
    // Neither an offset nor more to come.
    matches!(*header, [_, _, o0, o1, ..] if u16::from_be_bytes([o0, o1]) & 0xfff9 == 0)
}

/// The address in a routing header of type 2 (RFC 6275, 6.4).
fn routing_2(header: &[u8]) -> Option<&[u8; 16]> {
    match header {
        [_, 2, 2, _, _, _, _, _, address @ ..] => address.first_chunk(),
        _ => None,
    }
}

/// The home address among the options of a destination options header.
fn home_address(header: &[u8]) -> Option<&[u8; 16]> {
    let mut options = header.get(2..)?;
    loop {
        options = match options {
            [0, rest @ ..] => rest,
            [HOME_ADDRESS, 16, rest @ ..] => return rest.first_chunk(),
            [_, len, rest @ ..] => rest.get(usize::from(*len)..)?,
            _ => return None,
        };
    }
}
