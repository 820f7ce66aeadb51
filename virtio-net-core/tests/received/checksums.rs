//! Checksums that the device completes for a driver that does not (virtio 1.3, 5.1.6.4.1).

use proptest::prelude::*;
use virtio_net_core::backend::{HEAD_LEN, Placed};
use virtio_net_core::{Features, NEEDS_CSUM, NetHeader, rx_format};

use crate::packets::Packet;
use crate::rig::{Way, deliver, mergeable};

const NO_OFFLOADS: Features = Features::VERSION_1;

/// The bytes from `start` on as one number per word, summed with end-around carry; complemented and put at `field`.
fn completed(frame: &[u8], start: usize, field: usize) -> Vec<u8> {
    let mut sum = 0_u32;
    for (i, byte) in frame[start..].iter().enumerate() {
        sum += u32::from(*byte) << if i % 2 == 0 { 8 } else { 0 };
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let check = if sum == 0xffff { 0xffff } else { !(sum as u16) };
    let mut frame = frame.to_vec();
    frame[field..field + 2].copy_from_slice(&check.to_be_bytes());
    frame
}

fn partial(start: usize, offset: usize) -> NetHeader {
    NetHeader { flags: NEEDS_CSUM, csum_start: start as u16, csum_offset: offset as u16, ..NetHeader::NONE }
}

#[test]
fn n27_udp_whose_sum_is_nothing_is_all_ones() {
    let (header, mut packet) = Packet::new(false, false, 0, 100).partial();
    // Whatever the rest sums up to, the last word makes it 0xffff.
    let last = packet.bytes.len() - 2;
    packet.bytes[last..].fill(0);
    let missing = packet.complete();
    packet.bytes[last..].copy_from_slice(&missing.to_be_bytes());
    for way in [Way::Put, Way::ReadWith] {
        let (_, got, _) = deliver(rx_format(NO_OFFLOADS), &[vec![2048]], way, (header, &packet.bytes));
        let got = got.unwrap();
        let field = packet.field();
        assert_eq!((&got.frame[field..field + 2], got.header), (&[0xff; 2][..], NetHeader::NONE), "{way:?}");
    }
}

/// The field before, across and behind the end of the host's copy of the head, in buffers that end inside of it.
#[test]
fn n27_a_checksum_anywhere_in_the_frame() {
    let frame: Vec<u8> = (0..401_u32).map(|i| (i * 7 + 3) as u8).collect();
    let mut seen = 0;
    for field in 34..399 {
        for start in [34, field - (field % 2), field, HEAD_LEN - 1, HEAD_LEN, HEAD_LEN + 1] {
            if start < 34 || start > field || (field - start) % 2 == 1 {
                continue;
            }
            // The second buffer begins with the field's second byte.
            let layout = [vec![12 + field as u32 + 1], vec![1, 11], vec![600]];
            let way = if field % 3 == 0 { Way::Put } else { Way::ReadWith };
            let format = rx_format(mergeable(NO_OFFLOADS, true));
            let (placed, got, _) = deliver(format, &layout, way, (partial(start, field - start), &frame));
            let got = got.unwrap();
            assert_eq!((placed, got.header), (Placed::Delivered, NetHeader::NONE));
            assert_eq!(got.frame, completed(&frame, start, field), "from {start} at {field}, {way:?}");
            seen += 1;
        }
    }
    assert!(seen > 700, "{seen}");
}

#[test]
fn n27_the_longest_frame_in_the_smallest_buffers() {
    let frame: Vec<u8> = (0..65_589_u32).map(|i| (i % 251) as u8 | 0x80).collect();
    let layout: Vec<Vec<u32>> = (0..512).map(|_| vec![131]).collect();
    for (way, start) in [(Way::Put, 34), (Way::ReadWith, 35), (Way::ReadWith, 65_000)] {
        let format = rx_format(mergeable(NO_OFFLOADS, true));
        let (_, got, _) = deliver(format, &layout, way, (partial(start, 16), &frame));
        assert!(got.unwrap().frame == completed(&frame, start, start + 16), "{way:?} from {start}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n27_any_frame_in_any_buffers_has_its_checksum(
        frame in prop::collection::vec(any::<u8>(), 36..900),
        (start, offset) in (0..900_usize, 0..450_usize),
        layout in prop::collection::vec(prop::collection::vec(1..200_u32, 1..5), 1..40),
        put: bool,
        merge: bool,
    ) {
        let start = 34 + start % (frame.len() - 35);
        let offset = 2 * (offset % ((frame.len() - start - 1).div_ceil(2)));
        let way = if put { Way::Put } else { Way::ReadWith };
        let usable = |chain: &Vec<u32>| chain.iter().sum::<u32>() >= 12;
        let layout: Vec<_> = layout.into_iter().filter(usable).chain([vec![1000]]).collect();
        let format = rx_format(mergeable(NO_OFFLOADS, merge));
        let (placed, got, stats) = deliver(format, &layout, way, (partial(start, offset), &frame));
        if placed == Placed::Delivered {
            let got = got.unwrap();
            prop_assert_eq!(got.header, NetHeader::NONE);
            prop_assert_eq!(got.frame, completed(&frame, start, start + offset));
        } else {
            // There was no room: not for its checksum.
            prop_assert_eq!(stats.dropped, 0);
        }
    }
}
