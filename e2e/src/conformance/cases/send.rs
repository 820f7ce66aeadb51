//! Headers of frames that are sent, as far as what comes back shows what was made of them.

use super::super::frames::{self, Header, Kind, NONE, Sum};
use super::super::outcome::{Check, want};
use super::super::plug::{Plug, Setup};
use super::super::ring::Format;
use super::super::suite::Case;
use super::super::target::Target;
use virtio_net_core::{Features, GSO_TCPV4, NetHeader};

pub(super) const CASES: &[Case] = &[
    Case::rings("n4_no_frame_beyond_the_mtu_is_received", beyond_mtu),
    Case::rings("n5_frames_of_mtu_size_are_forwarded_whole", up_to_mtu),
    Case::rings("n12_unknown_flags_are_ignored", unknown_flags),
    Case::rings("n13_without_needs_csum_its_fields_are_unused", unused_fields),
    Case::rings("n15_hdr_len_is_a_hint", hint),
    Case::rings("n20_n45_a_sum_that_nobody_checked_is_not_called_valid", not_valid),
];

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// `mtu` of config space.
fn mtu(target: &Target) -> Check<usize> {
    target.needs(Features::MTU)?;
    let config = target.config()?;
    let mtu = config.get(10..).and_then(|c| c.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b));
    Ok(mtu.into())
}

fn up_to_mtu(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let most = mtu(target)?.saturating_add(ETHERNET);
    let mut plug = Plug::start(target, Setup::new(target, format).with(Features::MTU))?;
    for len in [60, 1000, most.saturating_sub(1), most] {
        let frame = frames::plain_of(target.mac, target.mac, len as u64, len);
        plug.give(&[most.saturating_add(100)])?;
        plug.send_cut(&NONE, &frame, &[12, 700])?;
        plug.comes_back(&frame)?;
    }
    Ok(())
}

/// A driver must not send them; what of them comes back must be none the less within.
fn beyond_mtu(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let most = mtu(target)?.saturating_add(ETHERNET);
    let mut plug = Plug::start(target, Setup::new(target, format).with(Features::MTU))?;
    for more in [1_usize, 4, 5, 100] {
        let frame = frames::plain_of(target.mac, target.mac, 1, most.saturating_add(more));
        plug.give(&[most.saturating_add(200)])?;
        plug.send(&NONE, &frame)?;
        let back = plug.receive(target.quiet)?;
        let len = back.map_or(0, |packet| packet.frame.len());
        want!(len <= most, "a frame of {len} bytes comes, {most} are the most");
    }
    plug.still_works(9)
}

fn header(net: NetHeader) -> Header {
    Header { net, num_buffers: 0 }
}

/// The frame comes back as it is with this header.
fn passes(plug: &mut Plug<'_>, number: u64, net: NetHeader) -> Check {
    let mac = plug.target.mac;
    let frame = frames::plain(mac, mac, number);
    plug.there_and_back(&header(net), &frame).map(|_| ())
}

fn unknown_flags(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    passes(&mut plug, 1, NetHeader { flags: 0x80, ..NetHeader::NONE })
}

fn unused_fields(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let offloads = target.of(Features::CSUM | Features::GUEST_CSUM);
    for features in [Features::empty(), offloads] {
        let mut plug = Plug::start(target, Setup::new(target, format).with(features))?;
        for (number, (csum_start, csum_offset)) in
            [(0xffff, 0xffff), (0, 0xffff), (59, 7), (14, 2)].into_iter().enumerate()
        {
            passes(&mut plug, number as u64, NetHeader { csum_start, csum_offset, ..NetHeader::NONE })?;
        }
        passes(&mut plug, 9, NetHeader { gso_size: 7, ..NetHeader::NONE })?;
    }
    Ok(())
}

const HINTS: [u16; 7] = [0, 1, 13, 54, 60, 1000, u16::MAX];

fn hint(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, Setup::new(target, format))?;
    for hdr_len in HINTS {
        passes(&mut plug, hdr_len.into(), NetHeader { hdr_len, ..NetHeader::NONE })?;
    }
    drop(plug);
    let tso = Features::CSUM | Features::GUEST_CSUM | Features::HOST_TSO4 | Features::GUEST_TSO4;
    if target.needs(tso).is_err() {
        return Ok(());
    }
    let kind = Kind { v6: false, tcp: true };
    for hdr_len in HINTS {
        let mut plug = Plug::start(target, Setup::new(target, format).with(tso))?;
        let frame = kind.packet(target.mac, 3000, Sum::Partial);
        let net = NetHeader { hdr_len, ..kind.segmented(GSO_TCPV4, 1000) };
        for _ in 0..8 {
            plug.give(&[4096])?;
        }
        plug.send(&header(net), &frame)?;
        let mut payload = 0_usize;
        while payload < 3000 {
            let Some(packet) = plug.receive(target.patience)? else { break };
            payload = payload.saturating_add(kind.payload(&packet.frame));
        }
        want!(payload == 3000, "of 3000 bytes of payload with hdr_len {hdr_len}, {payload} come back");
    }
    Ok(())
}

fn not_valid(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let sums = Features::CSUM | Features::GUEST_CSUM;
    let mut plug = Plug::start(target, Setup::new(target, format).with(sums))?;
    for kind in Kind::ALL {
        let frame = kind.packet(target.mac, 200, Sum::Wrong);
        plug.give(&[4096])?;
        plug.send(&NONE, &frame)?;
        // It may also be dropped.
        if let Some(packet) = plug.receive(target.quiet)? {
            let flags = packet.parsed().net.flags;
            want!(flags & 3 == 0, "a frame with a wrong checksum comes with flags {flags:#x}");
        }
    }
    Ok(())
}
