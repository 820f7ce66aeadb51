//! What a DHCP server gives to a guest (RFC 2131, RFC 2132).

use core::net::Ipv4Addr;

use crate::addr::MacAddr;
use crate::{FrameHead, ethertype};

/// An address that a server has given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DhcpAck {
    /// The address.
    pub address: Ipv4Addr,
    /// For how many seconds; `None`: for ever.
    pub seconds: Option<u32>,
}

/// `op` of what a server sends.
const BOOTREPLY: u8 = 2;
/// Bytes of a message before its options: the fixed fields and the cookie.
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;
const ACK: u8 = 5;
const END: u8 = 255;

/// True if the frame with this head may be one that [`learn`] learns something from: UDP from a server's port to a client's.
#[must_use]
pub fn may_teach(head: &[u8]) -> bool {
    datagram(head).is_some()
}

/// The address that this frame, on its way to the guest with the MAC address `own`, gives to it. `None` for every other frame,
/// for one that is cut off, and for a message that breaks a rule.
///
/// Nothing tells a server from somebody who claims to be one: who can send to the guest from port 67 can give it an address. The
/// network has to keep those out, as this crate keeps a guest from being one. The address itself is among the first 128 bytes of
/// the frame; where the rest is read from memory that the guest can write, it can make an acknowledgement of an offer, or its
/// lease longer, but no other address.
#[must_use]
pub fn learn(frame: &[u8], own: MacAddr) -> Option<DhcpAck> {
    let (len, message) = datagram(frame)?;
    // What fills up the frame behind the datagram is not the message's.
    let (fixed, mut options) = message.get(..len)?.split_first_chunk::<FIXED>()?;
    let [op, 1, 6, ..] = fixed else { return None };
    let mac = fixed.get(28..34)?.first_chunk()?;
    if *op != BOOTREPLY || MacAddr(*mac) != own || *fixed.last_chunk::<4>()? != COOKIE {
        return None;
    }
    let (mut kind, mut seconds) = (None, None);
    loop {
        options = match options {
            [PAD, rest @ ..] => rest,
            [END, ..] => break,
            [code, len, rest @ ..] => {
                let (value, rest) = rest.split_at_checked((*len).into())?;
                match (*code, value) {
                    (MESSAGE_TYPE, [value]) if kind.is_none() => kind = Some(*value),
                    (LEASE_TIME, value) if seconds.is_none() => {
                        seconds = Some(u32::from_be_bytes(value.try_into().ok()?))
                    }
                    // Options in other fields, or twice: nobody needs that, and it hides something.
                    (MESSAGE_TYPE | LEASE_TIME | OVERLOAD, _) => return None,
                    _ => {}
                }
                rest
            }
            _ => return None,
        };
    }
    let address = Ipv4Addr::from(*fixed.get(16..20)?.first_chunk::<4>()?);
    let usable = !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast();
    // An answer to an `INFORM` is an acknowledgement without a lease: nothing is given.
    let seconds = seconds?;
    let forever = seconds == u32::MAX;
    (kind == Some(ACK) && usable).then_some(DhcpAck { address, seconds: (!forever).then_some(seconds) })
}

/// What is behind the UDP header of a packet from a server to a client, as far as it is there, and how long it is.
fn datagram(frame: &[u8]) -> Option<(usize, &[u8])> {
    let head = FrameHead::parse(frame)?;
    let packet = frame.get(head.l3..)?;
    let fixed = packet.first_chunk::<20>()?;
    let len = usize::from(fixed[0] & 15).wrapping_mul(4); // at most 60
    let whole = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff == 0;
    if head.ethertype != ethertype::IPV4 || fixed[0] >> 4 != 4 || len < 20 || !whole || fixed[9] != 17 {
        return None;
    }
    let (udp, message) = packet.get(len..)?.split_first_chunk::<8>()?;
    let [0, 67, 0, 68, l0, l1, ..] = *udp else { return None };
    Some((usize::from(u16::from_be_bytes([l0, l1])).checked_sub(8)?, message))
}
