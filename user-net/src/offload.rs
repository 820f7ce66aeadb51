//! Checksums and segments: what the header of a frame promises on the way in, and promises to keep on the way out.

use virtio_net_core::{Features, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, NetHeader};

use crate::bytes::{array, be16, fold, set, sum};
use crate::packet::{Kind, Odd, Packet, TCP, UDP, UDP_HEADER, ipv4_header_is_sound, option, parse, seal_ipv4, stretch};
use crate::phy::{Frame, LargeSegments};
use crate::stats::DropReason;

const TCP_HEADER: usize = 20;
const SYN: u8 = 0x02;
const TCP_CSUM: usize = 16;
const UDP_CSUM: usize = 6;
const OPTION_MSS: u8 = 2;
/// Datagrams that one frame may become, as in Linux.
const MOST_DATAGRAMS: usize = 128;
/// FIN and PSH: only the last segment carries them.
const LAST_FLAGS: u8 = 0x09;
/// CWR: only the first segment carries it.
const FIRST_FLAGS: u8 = 0x80;

/// What this crate can take from a guest and send to one.
pub(crate) const SUPPORTED: Features = Features::CSUM
    .union(Features::HOST_TSO4)
    .union(Features::HOST_TSO6)
    .union(Features::HOST_ECN)
    .union(Features::HOST_USO)
    .union(Features::GUEST_CSUM)
    .union(Features::GUEST_TSO4)
    .union(Features::GUEST_TSO6);

/// What a device that acknowledged these features takes from its driver, said as a receiver would say it: for [`finish`]
/// and [`large_segments`] on the driver's side.
#[must_use]
pub fn towards_host(acked: Features) -> Features {
    let pairs = [
        (Features::CSUM, Features::GUEST_CSUM),
        (Features::HOST_TSO4, Features::GUEST_TSO4),
        (Features::HOST_TSO6, Features::GUEST_TSO6),
    ];
    pairs.iter().filter(|(host, _)| acked.contains(*host)).fold(Features::empty(), |all, (_, guest)| all | *guest)
}

/// The large segments that a receiver takes which acknowledged these features (the driver's `GUEST_*`).
#[must_use]
pub fn large_segments(acked: Features) -> LargeSegments {
    let csum = acked.contains(Features::GUEST_CSUM);
    LargeSegments { v4: csum && acked.contains(Features::GUEST_TSO4), v6: csum && acked.contains(Features::GUEST_TSO6) }
}

/// Offset of the checksum in the transport header.
const fn checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(TCP_CSUM),
        UDP => Some(UDP_CSUM),
        _ => None,
    }
}

/// Prepares a frame for smoltcp, which trusts TCP and UDP checksums and IPv4 header checksums: they are verified here,
/// except for the one that the header leaves to the receiver. A segmentation frame is one large packet: its length
/// fields are made to say so.
///
/// # Errors
/// Why the frame is to be dropped.
pub fn admit(frame: &mut Frame) -> Result<Kind, DropReason> {
    let header = frame.header;
    let large = header.gso_type & !GSO_ECN != GSO_NONE;
    if large && !stretch(frame.bytes_mut()) {
        return Err(DropReason::BadHeader);
    }
    let packet = match parse(frame.bytes()) {
        Ok(Kind::Ip(packet)) => packet,
        Ok(Kind::Arp) => return Ok(Kind::Arp),
        Err(Odd::EtherType) => return Err(DropReason::UnknownEtherType),
        Err(Odd::Header) => return Err(DropReason::BadHeader),
    };
    if packet.fragment {
        return Err(DropReason::Fragment);
    }
    if packet.src.is_ipv4() {
        // The header's checksum is made for each segment anew; a sender need not have made one for the whole.
        if large {
            seal_ipv4(frame.bytes_mut(), packet.l4);
        } else if !ipv4_header_is_sound(frame.bytes(), packet.l4) {
            return Err(DropReason::BadChecksum);
        }
    }
    let bytes = frame.bytes();
    match packet.protocol {
        TCP => packet.tcp_header(bytes).map(drop),
        UDP => packet.datagram(bytes).map(drop),
        _ => return Ok(Kind::Ip(packet)),
    }
    .ok_or(DropReason::BadHeader)?;
    if !is_partial(&header, &packet) && !is_sound(bytes, &packet) {
        return Err(DropReason::BadChecksum);
    }
    Ok(Kind::Ip(packet))
}

/// True if the header leaves this packet's transport checksum to the receiver.
fn is_partial(header: &NetHeader, packet: &Packet) -> bool {
    header.flags & NEEDS_CSUM != 0
        && usize::from(header.csum_start) == packet.l4
        && checksum_offset(packet.protocol) == Some(header.csum_offset.into())
}

fn is_sound(frame: &[u8], packet: &Packet) -> bool {
    // A sender of UDP over IPv4 may do without (RFC 768); the length is that of the datagram, not of the packet.
    let Some(len) = be16(frame, packet.l4.saturating_add(4)).filter(|_| packet.protocol == UDP) else {
        return packet.transport_is_sound(frame);
    };
    let none = packet.src.is_ipv4() && be16(frame, packet.l4.saturating_add(UDP_CSUM)) == Some(0);
    none || Packet { end: packet.l4.saturating_add(len.into()), ..*packet }.transport_is_sound(frame)
}

/// Splits a UDP segmentation frame into its datagrams (virtio 1.3, 5.1.6.2: `gso_size` bytes of payload each, the last
/// may be shorter). Their checksums stay undone, as in the frame.
///
/// # Errors
/// Why the frame is to be dropped.
pub(crate) fn split_udp(frame: &mut Frame, mut piece: impl FnMut(&[u8], NetHeader)) -> Result<(), DropReason> {
    if !stretch(frame.bytes_mut()) {
        return Err(DropReason::BadHeader);
    }
    let Ok(Kind::Ip(packet)) = parse(frame.bytes()) else { return Err(DropReason::BadHeader) };
    let size = usize::from(frame.header.gso_size);
    if packet.protocol != UDP || size == 0 || !is_partial(&frame.header, &packet) {
        return Err(DropReason::BadHeader);
    }
    let (headers, payload) = frame.bytes().split_at(packet.l4.saturating_add(UDP_HEADER).min(packet.end));
    if payload.len().div_ceil(size) > MOST_DATAGRAMS {
        return Err(DropReason::BadHeader);
    }
    let header = NetHeader { gso_type: GSO_NONE, gso_size: 0, ..frame.header };
    let mut one = Vec::with_capacity(headers.len().saturating_add(size));
    for chunk in payload.chunks(size) {
        one.clear();
        one.extend_from_slice(headers);
        one.extend_from_slice(chunk);
        stretch(&mut one);
        if packet.src.is_ipv4() {
            seal_ipv4(&mut one, packet.l4);
        }
        let len = chunk.len().saturating_add(UDP_HEADER) as u16; // a chunk has at most 65507 bytes
        set(&mut one, packet.l4.saturating_add(4), &len.to_be_bytes());
        piece(&one, header);
    }
    Ok(())
}

/// True for a UDP segmentation frame.
pub(crate) const fn is_uso(header: &NetHeader) -> bool {
    header.gso_type & !GSO_ECN == GSO_UDP_L4
}

/// Limits the MSS that a TCP SYN names to what an IP packet of `mtu` bytes holds. Not to be called once the checksum was
/// made: it changes what it covers.
///
/// smoltcp names what its device could take, which for [`QueueDevice`](crate::phy::QueueDevice) is 64 KiB.
pub fn clamp_mss(frame: &mut Frame, mtu: u16) {
    let Ok(Kind::Ip(packet)) = parse(frame.bytes()) else { return };
    let syn = frame.bytes().get(packet.l4.saturating_add(13)).is_some_and(|flags| flags & SYN != 0);
    if packet.protocol != TCP || !syn {
        return;
    }
    let Some(header) = packet.tcp_header(frame.bytes()) else { return };
    let start = packet.l4.saturating_add(TCP_HEADER);
    let options = frame.bytes().get(start..packet.l4.saturating_add(header)).unwrap_or_default();
    let most = mtu.saturating_sub(headers(&packet));
    if let Some((at, _)) = mss_option(options).filter(|(_, mss)| *mss > most) {
        set(frame.bytes_mut(), start.saturating_add(at), &most.to_be_bytes());
    }
}

/// Bytes of IP and TCP header without options.
pub(crate) const fn headers(packet: &Packet) -> u16 {
    if packet.src.is_ipv4() { 40 } else { 60 }
}

/// The maximum segment size among TCP options: where it is, and its value.
pub(crate) fn mss_option(options: &[u8]) -> Option<(usize, u16)> {
    match option(options, OPTION_MSS)? {
        (at, [high, low]) => Some((at, u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// Completes a frame whose TCP or UDP checksum was not made: leaves it to a receiver that acknowledged partial
/// checksums, else computes it. A TCP payload longer than `mss` becomes a segmentation frame if the receiver
/// acknowledged those (virtio 1.3, 5.1.6.4.1: checksum partial, `gso_size` and `hdr_len` set).
///
/// Does nothing to a frame that was finished before.
pub fn finish(frame: &mut Frame, acked: Features, mss: u16) {
    if core::mem::replace(&mut frame.finished, true) {
        return;
    }
    let Ok(Kind::Ip(packet)) = parse(frame.bytes()) else { return };
    let Some(offset) = checksum_offset(packet.protocol) else { return };
    let field = packet.l4.saturating_add(offset);
    if !acked.contains(Features::GUEST_CSUM) {
        return checksum(frame.bytes_mut(), &packet);
    }
    let partial = fold(packet.pseudo());
    set(frame.bytes_mut(), field, &partial.to_be_bytes());
    let mut header = NetHeader {
        flags: NEEDS_CSUM,
        csum_start: packet.l4 as u16, // behind an IP header of at most 60 bytes
        csum_offset: offset as u16,
        ..NetHeader::NONE
    };
    if packet.protocol == TCP
        && let Some(tcp) = packet.tcp_header(frame.bytes())
    {
        let headers = packet.l4.saturating_add(tcp);
        let large = large_segments(acked);
        let (kind, taken) = if packet.src.is_ipv4() { (GSO_TCPV4, large.v4) } else { (GSO_TCPV6, large.v6) };
        if taken && packet.end.saturating_sub(headers) > mss.into() {
            header.gso_type = kind;
            header.gso_size = mss;
            header.hdr_len = headers as u16; // at most 14 + 60 + 60
        }
    }
    frame.header = header;
}

/// Computes the transport's checksum in full.
fn checksum(frame: &mut [u8], packet: &Packet) {
    let Some(offset) = checksum_offset(packet.protocol) else { return };
    let field = packet.l4.saturating_add(offset);
    set(frame, field, &[0, 0]);
    let check = match !fold(packet.pseudo().wrapping_add(sum(packet.transport(frame)))) {
        // Zero would mean that there is none (RFC 768).
        0 if packet.protocol == UDP => 0xffff,
        check => check,
    };
    set(frame, field, &check.to_be_bytes());
}

/// Splits a TCP segmentation frame into complete segments with full checksums, for a receiver whose buffers cannot
/// hold the whole.
pub fn split_tcp(frame: &Frame, mut piece: impl FnMut(&[u8])) {
    let bytes = frame.bytes();
    let Ok(Kind::Ip(packet)) = parse(bytes) else { return };
    let size = usize::from(frame.header.gso_size);
    let Some(tcp) = packet.tcp_header(bytes).filter(|_| packet.protocol == TCP && size > 0) else { return };
    let start = packet.l4.saturating_add(tcp);
    let (headers, payload) = bytes.get(..packet.end).unwrap_or_default().split_at(start.min(packet.end));
    let seq = array(bytes, packet.l4.saturating_add(4)).map_or(0, u32::from_be_bytes);
    let flags = bytes.get(packet.l4.saturating_add(13)).copied().unwrap_or_default();
    let count = payload.len().div_ceil(size);
    let mut one = Vec::with_capacity(start.saturating_add(size));
    for (n, chunk) in payload.chunks(size).enumerate() {
        one.clear();
        one.extend_from_slice(headers);
        one.extend_from_slice(chunk);
        let mut flags = flags;
        if n > 0 {
            flags &= !FIRST_FLAGS;
        }
        if n.saturating_add(1) < count {
            flags &= !LAST_FLAGS;
        }
        let seq = seq.wrapping_add(n.saturating_mul(size) as u32); // sequence numbers wrap
        set(&mut one, packet.l4.saturating_add(4), &seq.to_be_bytes());
        set(&mut one, packet.l4.saturating_add(13), &[flags]);
        stretch(&mut one);
        if packet.src.is_ipv4() {
            seal_ipv4(&mut one, packet.l4);
        }
        let end = one.len();
        checksum(&mut one, &Packet { end, ..packet });
        piece(&one);
    }
}

#[cfg(test)]
mod tests {
    use super::mss_option;

    #[test]
    fn options_of_any_form_are_read_to_their_end() {
        assert_eq!(mss_option(&[2, 4, 5, 0xb4]), Some((2, 1460)));
        assert_eq!(mss_option(&[1, 3, 3, 7, 4, 2, 2, 4, 5, 0xb4]), Some((8, 1460)));
        for none in [&[][..], &[0, 2, 4, 5, 0xb4], &[2], &[2, 4, 5], &[3, 0, 0], &[8, 200, 1], &[9]] {
            assert_eq!(mss_option(none), None, "{none:?}");
        }
    }
}
