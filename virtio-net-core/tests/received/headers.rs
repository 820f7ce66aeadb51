//! What a driver is told of a frame.

use virtio_net_core::backend::Placed;
use virtio_net_core::{
    DATA_VALID, Features, GSO_ECN, GSO_TCPV4, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader, TxOffloads, rx_format,
};

use crate::judge::judge;
use crate::packets::{Packet, kinds, needed};
use crate::rig::{Way, deliver, deliver_after, layouts, mergeable};

const GUEST: [Features; 7] = [
    Features::GUEST_CSUM,
    Features::GUEST_TSO4,
    Features::GUEST_TSO6,
    Features::GUEST_ECN,
    Features::GUEST_UFO,
    Features::GUEST_USO4,
    Features::GUEST_USO6,
];

/// Every set of receive offloads; not those alone that can be acknowledged, as a driver may switch any of them off later.
fn subsets() -> impl Iterator<Item = Features> {
    (0..1_u32 << GUEST.len()).map(|n| {
        let on = GUEST.iter().enumerate().filter(|(i, _)| n >> i & 1 == 1);
        on.map(|(_, f)| *f).collect::<Features>() | Features::VERSION_1
    })
}

#[test]
fn n27_n28_n29_n30_n31_n34_n36_n37_n38_n41_n42_n44_n45_every_kind_of_frame_for_every_driver() {
    let (kinds, layouts) = (kinds(), layouts());
    let (mut turn, mut partial, mut large) = (0, 0, 0);
    for acked in subsets() {
        for (name, header, frame) in &kinds {
            turn += 1;
            let (merge, layout) = &layouts[turn % 3];
            let way = if turn % 2 == 0 { Way::Put } else { Way::ReadWith };
            let acked = mergeable(acked, *merge);
            let what = format!("{name}, {header:?}, {} bytes, {way:?}, buffers {}, {acked}", frame.len(), turn % 3);
            let (placed, got, stats) = deliver(rx_format(acked), layout, way, (*header, frame));
            let v6 = Packet::parse(frame).is_some_and(|p| p.is_v6());
            // The type of UDP segments does not say which IP it is: our driver has to take both.
            let uso: &[u32] = if header.gso_type == GSO_UDP_L4 { &[54, 55] } else { &[] };
            let takes = needed(header.gso_type, v6).iter().chain(uso).all(|n| acked.bits() >> n & 1 == 1);
            let csum = header.gso_type == 0 || acked.contains(Features::GUEST_CSUM);
            if takes && csum {
                assert_eq!(placed, Placed::Delivered, "{what}");
                let got = got.unwrap();
                assert_eq!(judge(acked, &got), Ok(()), "{what}");
                assert_eq!(without_checksum(&got.frame), without_checksum(frame), "{what}");
                assert_eq!(got.header.gso_type, header.gso_type, "{what}");
                partial += u32::from(got.header.flags & NEEDS_CSUM != 0);
                large += u32::from(got.header.gso_type != 0);
            } else {
                assert_eq!((placed, got, stats.dropped), (Placed::Dropped, None, 1), "{what}");
            }
        }
    }
    assert!(partial > 1000 && large > 200, "{partial} partial checksums, {large} frames to segment");
}

/// The driver acknowledged everything and has just switched some of it off, or nothing and has switched it on: what holds is
/// what is on when the frame comes, in buffers that were posted before.
#[test]
fn n27_n28_n29_n30_n31_n34_n41_offloads_that_were_switched_while_frames_came() {
    let all = GUEST.iter().fold(Features::VERSION_1, |all, f| all | *f);
    let (kinds, layouts) = (kinds(), layouts());
    let mut turn = 0;
    for now in subsets() {
        for (name, header, frame) in &kinds {
            turn += 1;
            let (merge, layout) = &layouts[turn % 3];
            let [now, before] =
                [now, if turn % 2 == 0 { all } else { Features::VERSION_1 }].map(|f| mergeable(f, *merge));
            let way = if turn % 5 < 2 { Way::Put } else { Way::ReadWith };
            let fresh = deliver(rx_format(now), layout, way, (*header, frame));
            let formats = [rx_format(before), rx_format(now)];
            let switched = deliver_after(formats, layout, way, (*header, frame));
            assert_eq!(switched, fresh, "{name}, {header:?}, first {before}, now {now}");
            if let Some(got) = &switched.1 {
                assert_eq!(judge(now, got), Ok(()), "{name}, {header:?}, first {before}, now {now}");
            }
        }
    }
}

fn without_checksum(frame: &[u8]) -> Vec<u8> {
    let Some(mut packet) = Packet::parse(frame) else { return frame.to_vec() };
    packet.put(0);
    packet.bytes
}

/// The judge finds what it is there for: each row is broken once.
#[test]
fn the_rules_can_be_broken() {
    let all = GUEST.iter().fold(Features::VERSION_1, |all, f| all | *f);
    let (header, packet) = Packet::new(false, true, 0, 1200).partial();
    let (_, got, _) = deliver(rx_format(all), &[vec![4096]], Way::Put, (header, &packet.bytes));
    let good = got.unwrap();
    assert_eq!(judge(all, &good), Ok(()));
    let tso = NetHeader { gso_type: GSO_TCPV4, gso_size: 500, hdr_len: 66, ..header };
    let rows = [
        ("N27", all - Features::GUEST_CSUM, header),
        ("N43", all, NetHeader { flags: NEEDS_CSUM | 4, ..header }),
        ("N32", all, NetHeader { gso_type: 0x21, ..tso }),
        ("N41", Features::VERSION_1 | Features::GUEST_CSUM, tso),
        ("N28", all - Features::GUEST_TSO4, tso),
        ("N28", all, NetHeader { gso_type: GSO_UDP, ..tso }),
        ("N28", all - Features::GUEST_ECN, NetHeader { gso_type: GSO_TCPV4 | GSO_ECN, ..tso }),
        ("N42", all, NetHeader { gso_size: 0, ..tso }),
        ("N44", all, NetHeader { hdr_len: 65, ..tso }),
        ("N27, N45", all, NetHeader { flags: DATA_VALID, ..header }),
        ("N38", all, NetHeader { csum_start: 35, ..header }),
        ("N38", all, NetHeader { csum_offset: 0xffff, ..header }),
    ];
    for (id, acked, header) in rows {
        let mut bad = good.clone();
        bad.header = header;
        let found = judge(acked, &bad).err();
        // A type that is not of this frame breaks the second rule of the same rows.
        let found_id = found.as_deref().is_some_and(|text| text.starts_with(id));
        assert!(found_id || (header.gso_type == GSO_UDP && found.is_some()), "{id}: {found:?}");
    }
    let mut bad = good.clone();
    bad.frame[40] ^= 1;
    assert!(judge(all, &bad).is_ok(), "a byte that the checksum covers is the sender's");
    bad.frame[51] ^= 1;
    assert!(judge(all, &bad).unwrap_err().starts_with("N37"));
    bad.frame[24] ^= 1;
    assert!(judge(all, &bad).unwrap_err().starts_with("N36"));
}

#[test]
fn n38_a_checksum_that_is_not_inside_of_the_frame_is_not_shown() {
    // CVE-2024-11614, the other way round: a host end that is wrong.
    let acked = Features::VERSION_1 | Features::GUEST_CSUM | Features::GUEST_TSO4;
    let frame = Packet::new(false, true, 0, 100).bytes;
    let len = frame.len() as u32;
    let edges = [0, 1, 13, 33, 34, 35, 127, 128, len - 3, len - 2, len - 1, len, len + 1, 0x7fff, 0xfffe, 0xffff];
    for acked in [acked, Features::VERSION_1] {
        for (start, offset) in edges.iter().flat_map(|s| edges.iter().map(move |o| (*s, *o))) {
            for gso_type in [0, GSO_TCPV4] {
                let (csum_start, csum_offset) = (start as u16, offset as u16);
                let header =
                    NetHeader { flags: NEEDS_CSUM, gso_type, gso_size: 50, csum_start, csum_offset, hdr_len: 66 };
                let (placed, got, stats) = deliver(rx_format(acked), &[vec![4096]], Way::Put, (header, &frame));
                let inside = start >= 34 && start + offset + 2 <= len;
                let takes = acked.contains(Features::GUEST_CSUM) || (gso_type == 0 && offset % 2 == 0);
                let wanted = if inside && takes { Placed::Delivered } else { Placed::Dropped };
                assert_eq!(placed, wanted, "{header:?} with {acked}");
                assert_eq!((got.is_some(), stats.dropped), (inside && takes, u64::from(!(inside && takes))));
            }
        }
    }
}

#[test]
fn n36_a_frame_with_a_wrong_ip_checksum_is_not_called_checked() {
    for acked in [Features::VERSION_1, Features::VERSION_1 | Features::GUEST_CSUM] {
        for tags in 0..=2 {
            let (header, mut packet) = Packet::new(false, true, tags, 333).partial();
            packet.bytes[packet.l3 + 8] ^= 1; // the time to live
            let (_, got, _) = deliver(rx_format(acked), &[vec![4096]], Way::Put, (header, &packet.bytes));
            let got = got.unwrap();
            assert_eq!(got.header, NetHeader::NONE, "the driver looks for itself");
            assert_eq!(judge(acked, &got), Ok(()));
            assert!(!Packet::parse(&got.frame).unwrap().ip_is_right(), "and finds what came");
            // An IP header that is cut off, or has no length: nothing says that it was checked.
            for change in [0x40, 0x44, 0x4f] {
                let (header, mut packet) = Packet::new(false, false, tags, 1).partial();
                packet.bytes[packet.l3] = change;
                let (_, got, _) = deliver(rx_format(acked), &[vec![4096]], Way::Put, (header, &packet.bytes));
                assert_eq!(got.unwrap().header, NetHeader::NONE);
            }
        }
    }
}

#[test]
fn n44_a_header_length_that_is_not_true_is_made_so() {
    let all = GUEST.iter().fold(Features::VERSION_1, |all, f| all | *f);
    for (name, header, frame) in kinds().iter().filter(|(_, header, _)| header.gso_type != 0) {
        let (end, len) = (Packet::parse(frame).unwrap().payload as u16, frame.len() as u16);
        for (said, shown) in [(0, end), (1, end), (end - 1, end), (end, end), (end + 9, end + 9), (0xffff, len)] {
            let header = NetHeader { hdr_len: said, ..*header };
            let (_, got, _) = deliver(rx_format(all), &[vec![4096]], Way::ReadWith, (header, frame));
            assert_eq!(got.unwrap().header, NetHeader { hdr_len: shown, ..header }, "{name}");
        }
    }
    // The header that says how long it is lies behind the host's copy of the head: as short as it can be.
    let (header, mut packet) = Packet::new(true, true, 0, 900).partial();
    packet.bytes.splice(54..54, [0; 96]);
    let header = NetHeader { gso_type: 4, gso_size: 500, csum_start: 150, ..header };
    let (_, got, _) = deliver(rx_format(all), &[vec![4096]], Way::Put, (header, &packet.bytes));
    assert_eq!(got.unwrap().header.hdr_len, 150 + 20);
}

#[test]
fn n36_n45_what_another_guest_says_of_its_frame_is_no_proof() {
    // From one guest to another: whatever the first one claims, with a checksum that is wrong.
    let mut packet = Packet::new(false, true, 0, 300);
    packet.put(0x1234);
    let offloads = TxOffloads::new(Features::VERSION_1 | Features::HOST_OFFLOADS);
    let all = GUEST.iter().fold(Features::VERSION_1, |all, f| all | *f);
    for flags in 0..=u8::MAX {
        let header = NetHeader { flags, csum_start: 34, csum_offset: 16, ..NetHeader::NONE };
        let header = offloads.check(header, &packet.bytes[..128], packet.bytes.len()).unwrap();
        let (_, got, _) = deliver(rx_format(all), &[vec![4096]], Way::Put, (header, &packet.bytes));
        let got = got.unwrap();
        assert_eq!(got.header.flags, flags & NEEDS_CSUM, "never found valid");
    }
}

#[test]
fn n39_n40_n47_n48_n35_n14_no_header_has_more_than_a_hash() {
    // 24 bytes are for tunnels, 32 for the outer network header and IPsec: none of them is offered, whatever is wished for.
    let everything = Features::from_bits_retain(u128::MAX);
    let absent = [61, 65, 66, 67, 68, 69, 70].into_iter().fold(0, |set, bit| set | 1_u128 << bit);
    for back_end in [Features::empty(), Features::BACK_END, everything] {
        let offered = virtio_net_core::features::offer(everything, back_end).features;
        assert_eq!(offered.bits() & absent, 0, "{offered}");
        assert!(offered.header_len() <= 20);
        // And what was not offered cannot be acknowledged.
        for bit in [65, 66, 67, 68, 69, 70] {
            let acked = offered | Features::from_bits_retain(1 << bit);
            assert!(virtio_net_core::features::acknowledge(offered, acked).is_err(), "bit {bit}");
        }
    }
}
