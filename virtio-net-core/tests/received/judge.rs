//! The rules for what a driver is given, each with the row that it is of.

use virtio_net_core::{Features, NEEDS_CSUM};

use crate::packets::{Packet, needed};
use crate::rig::Got;

/// What is wrong with a received frame, for a driver that acknowledged these features.
pub(crate) fn judge(acked: Features, got: &Got) -> Result<(), String> {
    let bit = |n: u32| acked.bits() >> n & 1 == 1;
    let header = got.header;
    let rule = |id: &str, holds: bool| if holds { Ok(()) } else { Err(format!("{id}: {header:?} with {acked}")) };
    rule("N27", bit(1) || header.flags == 0)?;
    rule("N43, N49, N33", header.flags & !3 == 0)?;
    rule("N32, N46", header.gso_type & 0x60 == 0)?;
    rule("N41", [7, 8, 10, 54, 55].into_iter().any(bit) || header.gso_type == 0)?;
    let Some(packet) = Packet::parse(&got.frame) else { return rule("N38", header.flags == 0) };
    let wanted = needed(header.gso_type, packet.is_v6());
    rule("N28 to N31, N34", wanted.iter().all(|n| bit(*n)))?;
    rule("N36", packet.ip_is_right() || header.flags & 1 == 0)?;
    if header.gso_type != 0 {
        rule("N42", header.flags & NEEDS_CSUM != 0 && header.gso_size != 0)?;
        rule("N44", usize::from(header.hdr_len) >= packet.payload)?;
        let tcp = matches!(header.gso_type & 0x7f, 1 | 4);
        rule("N28, N30", tcp == packet.is_tcp() && (header.gso_type & 0x7f != 1 || !packet.is_v6()))?;
    }
    if header.flags & NEEDS_CSUM == 0 {
        // Nobody completes it any more: it is there, whatever the flags say.
        return rule("N27, N45", packet.is_right());
    }
    rule("N37", packet.is_partial())?;
    rule("N38", complete(got) == Some(packet.complete()))
}

/// The checksum that a driver comes to by the header alone.
fn complete(got: &Got) -> Option<u16> {
    let from = got.frame.get(usize::from(got.header.csum_start)..)?;
    from.get(usize::from(got.header.csum_offset)..)?.first_chunk::<2>()?;
    let mut sum = 0_u32;
    for word in from.chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or_default()]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // As `Packet::complete`, which knows of one zero only.
    Some(if sum == 0xffff { 0xffff } else { !(sum as u16) })
}
