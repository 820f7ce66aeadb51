//! What headers of received frames say: every set of offloads that a driver may take, and every kind of frame that it may send.

use super::super::frames::{self, Header, Kind, NONE, Sum};
use super::super::outcome::{Check, Stop};
use super::super::plug::{Packet, Plug, Setup};
use super::super::ring::Format;
use super::super::suite::Case;
use super::super::target::Target;
use virtio_net_core::{
    DATA_VALID, Features, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader,
};

pub(super) const CASES: &[Case] = &[
    Case::rings("n27_without_guest_csum_flags_are_0", |t, f| matrix(t, f, no_flags)),
    Case::rings("n27_without_guest_csum_sums_are_complete", |t, f| matrix(t, f, complete)).should(),
    Case::rings("n28_n29_n30_n31_n41_only_acknowledged_segmentation", |t, f| matrix(t, f, segmentation)),
    Case::rings("n34_ecn_only_if_acknowledged", |t, f| matrix(t, f, ecn)),
    Case::rings("n32_n33_n43_n46_n49_no_flag_that_was_not_acknowledged", |t, f| matrix(t, f, known_flags)),
    Case::rings("n36_n37_a_partial_sum_is_that_of_the_pseudo_header", |t, f| matrix(t, f, partial)),
    Case::rings("n38_start_and_offset_complete_the_sum", |t, f| matrix(t, f, places)),
    Case::rings("n42_a_frame_to_segment_has_a_size_and_a_partial_sum", |t, f| matrix(t, f, sized)),
    Case::rings("n44_hdr_len_covers_the_headers", |t, f| matrix(t, f, covers)),
    Case::rings("n45_a_valid_sum_is_valid", |t, f| matrix(t, f, valid)),
];

/// What is wrong with a frame that came to a driver with these features.
type Judge = fn(&Header, &[u8], Features) -> Option<String>;

/// What the driver may choose among, beside checksums.
const CHOICES: [Features; 6] = [
    Features::GUEST_TSO4,
    Features::GUEST_TSO6,
    Features::GUEST_ECN,
    Features::GUEST_UFO,
    Features::GUEST_USO4,
    Features::GUEST_USO6,
];

/// Sets of receive offloads that a driver may acknowledge.
fn sets(target: &Target) -> Vec<Features> {
    let mut sets = vec![Features::empty()];
    if !target.offers(Features::GUEST_CSUM) {
        return sets;
    }
    let choices: Vec<Features> = CHOICES.into_iter().filter(|choice| target.offers(*choice)).collect();
    for n in 0..1_u32.wrapping_shl(choices.len() as u32) {
        let chosen = choices.iter().enumerate().filter(|(i, _)| n.wrapping_shr(*i as u32) & 1 == 1);
        let set = chosen.fold(Features::GUEST_CSUM, |set, (_, choice)| set | *choice);
        let needs_tso = set.contains(Features::GUEST_ECN);
        if !needs_tso || set.intersects(Features::GUEST_TSO4 | Features::GUEST_TSO6) {
            sets.push(set);
        }
    }
    sets
}

/// A frame to send: what it needs, header, contents.
fn frames_to_send(target: &Target) -> Vec<(Features, NetHeader, Vec<u8>)> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.push((Features::empty(), NetHeader::NONE, kind.packet(target.mac, 300, Sum::Full)));
        all.push((Features::CSUM, kind.partial(), kind.packet(target.mac, 301, Sum::Partial)));
        let (feature, gso) = match (kind.tcp, kind.v6) {
            (true, false) => (Features::HOST_TSO4, GSO_TCPV4),
            (true, true) => (Features::HOST_TSO6, GSO_TCPV6),
            (false, _) => (Features::HOST_USO, GSO_UDP_L4),
        };
        let large = kind.packet(target.mac, 3000, Sum::Partial);
        all.push((feature, kind.segmented(gso, 1000), large.clone()));
        if kind.tcp {
            all.push((feature | Features::HOST_ECN, kind.segmented(gso | GSO_ECN, 1000), large));
        } else {
            all.push((Features::HOST_UFO, kind.segmented(GSO_UDP, 1000), large));
        }
    }
    all
}

/// All frames to a driver with each of the sets.
fn matrix(target: &Target, format: Format, judge: Judge) -> Check {
    target.needs_returns()?;
    let sends = target.of(Features::HOST_OFFLOADS);
    for set in sets(target) {
        let mut plug = Plug::start(target, Setup::new(target, format).with(set | sends))?;
        for (needed, net, frame) in frames_to_send(target) {
            if !sends.contains(needed) {
                continue;
            }
            for packet in loop_of(&mut plug, &Header { net, num_buffers: 0 }, &frame)? {
                if let Some(wrong) = judge(&packet.parsed(), &packet.frame, set) {
                    let sent = format!("sent with {net:?}, acknowledged of receive offloads {set}");
                    return Err(Stop::Fail(format!("{wrong} ({:?}; {sent})", packet.parsed().net)));
                }
            }
        }
    }
    Ok(())
}

/// What comes back of a frame: all that comes before one that is sent behind it.
fn loop_of(plug: &mut Plug<'_>, header: &Header, frame: &[u8]) -> Check<Vec<Packet>> {
    let mac = plug.target.mac;
    let last = frames::plain(mac, mac, 99);
    for _ in 0..8 {
        plug.give(&[4096])?;
    }
    plug.send(header, frame)?;
    plug.send(&NONE, &last)?;
    let mut packets = Vec::new();
    loop {
        let late = || Stop::Fail("a frame that was sent behind a larger one does not come back".to_owned());
        let packet = plug.receive(plug.target.patience)?.ok_or_else(late)?;
        if packet.frame.get(12..) == last.get(12..) {
            return Ok(packets);
        }
        packets.push(packet);
    }
}

fn no_flags(header: &Header, _: &[u8], set: Features) -> Option<String> {
    let flags = header.net.flags;
    (!set.contains(Features::GUEST_CSUM) && flags != 0).then(|| format!("flags {flags:#x}"))
}

fn complete(header: &Header, frame: &[u8], set: Features) -> Option<String> {
    let kind = Kind::of(frame)?;
    let whole = set.contains(Features::GUEST_CSUM) || header.net.gso_type != GSO_NONE || kind.is_right(frame);
    (!whole).then(|| "the checksum is not complete".to_owned())
}

fn segmentation(header: &Header, _: &[u8], set: Features) -> Option<String> {
    let needed = match header.net.gso_type & !GSO_ECN {
        GSO_NONE => return None,
        GSO_TCPV4 => Features::GUEST_TSO4,
        GSO_TCPV6 => Features::GUEST_TSO6,
        GSO_UDP => Features::GUEST_UFO,
        GSO_UDP_L4 => Features::GUEST_USO4 | Features::GUEST_USO6,
        other => return Some(format!("gso_type {other:#x}, which nothing stands for")),
    };
    (!set.intersects(needed)).then(|| format!("gso_type {:#x}", header.net.gso_type))
}

fn ecn(header: &Header, _: &[u8], set: Features) -> Option<String> {
    let marked = header.net.gso_type & GSO_ECN != 0;
    (marked && !set.contains(Features::GUEST_ECN)).then(|| format!("gso_type {:#x}", header.net.gso_type))
}

fn known_flags(header: &Header, _: &[u8], _: Features) -> Option<String> {
    let flags = header.net.flags & !(NEEDS_CSUM | DATA_VALID);
    (flags != 0 || header.net.gso_type & 0x60 != 0).then(|| format!("flags {:#x}", header.net.flags))
}

fn needs(header: &Header) -> bool {
    header.net.flags & NEEDS_CSUM != 0
}

fn partial(header: &Header, frame: &[u8], _: Features) -> Option<String> {
    let (field, pseudo) = Kind::of(frame)?.sums(frame);
    (needs(header) && field != pseudo).then(|| format!("the field has {field:#06x}, the pseudo-header {pseudo:#06x}"))
}

fn places(header: &Header, frame: &[u8], _: Features) -> Option<String> {
    let kind = Kind::of(frame)?;
    let expected = (kind.start(), kind.offset());
    let found = (header.net.csum_start.into(), header.net.csum_offset.into());
    (needs(header) && found != expected).then(|| format!("start and offset are {found:?}, expected {expected:?}"))
}

fn sized(header: &Header, _: &[u8], _: Features) -> Option<String> {
    let net = header.net;
    (net.gso_type != GSO_NONE && (net.gso_size == 0 || !needs(header))).then(|| "a frame to segment".to_owned())
}

fn covers(header: &Header, frame: &[u8], _: Features) -> Option<String> {
    let head = Kind::of(frame)?.head();
    let short = header.net.gso_type != GSO_NONE && usize::from(header.net.hdr_len) < head;
    short.then(|| format!("hdr_len {}, the headers have {head} bytes", header.net.hdr_len))
}

fn valid(header: &Header, frame: &[u8], _: Features) -> Option<String> {
    let claimed = header.net.flags & DATA_VALID != 0 && !needs(header);
    (claimed && !Kind::of(frame)?.is_right(frame)).then(|| "DATA_VALID on a wrong checksum".to_owned())
}
