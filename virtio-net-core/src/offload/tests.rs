use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::backend::HEAD_LEN;
use crate::header::DATA_VALID;

/// What a frame is made of.
#[derive(Clone, Debug)]
struct Shape {
    tags: Vec<u16>,
    v6: bool,
    /// IPv4: words of options. IPv6: extension headers as (type, eights beyond the first).
    options: u8,
    extensions: Vec<(u8, u8)>,
    tcp: bool,
    tcp_words: u8,
    payload: usize,
}

const fn shape(v6: bool, tcp: bool) -> Shape {
    Shape { tags: Vec::new(), v6, options: 0, extensions: Vec::new(), tcp, tcp_words: 5, payload: 4000 }
}

const TCP4: Shape = shape(false, true);
const TCP6: Shape = shape(true, true);
const UDP4: Shape = shape(false, false);
const UDP6: Shape = shape(true, false);

/// A frame, and where its transport header begins and ends.
struct Built {
    bytes: Vec<u8>,
    transport: usize,
    end: usize,
}

impl Shape {
    fn build(&self) -> Built {
        let mut bytes = vec![0x52; 12];
        for tpid in &self.tags {
            bytes.extend(tpid.to_be_bytes());
            bytes.extend([0x20, 0x64]);
        }
        let protocol = if self.tcp { 6 } else { 17 };
        if self.v6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0]);
            bytes.push(self.extensions.first().map_or(protocol, |e| e.0));
            bytes.extend([64; 33]);
            for (i, (_, eights)) in self.extensions.iter().enumerate() {
                bytes.push(self.extensions.get(i + 1).map_or(protocol, |e| e.0));
                bytes.push(*eights);
                bytes.extend(vec![0; 6 + 8 * usize::from(*eights)]);
            }
        } else {
            bytes.extend([8, 0, 0x45 + self.options, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol]);
            bytes.extend(vec![1; 10 + 4 * usize::from(self.options)]);
        }
        let transport = bytes.len();
        let words = if self.tcp { self.tcp_words } else { 2 };
        bytes.extend(vec![0; 4 * usize::from(words)]);
        if self.tcp {
            bytes[transport + 12] = words << 4;
        }
        let end = bytes.len();
        bytes.extend(vec![0xda; self.payload]);
        Built { bytes, transport, end }
    }

    /// The header that a correct driver gives.
    fn header(&self, gso_type: u8, gso_size: u16) -> NetHeader {
        let built = self.build();
        NetHeader {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: built.end as u16,
            gso_size,
            csum_start: built.transport as u16,
            csum_offset: if self.tcp { 16 } else { 6 },
        }
    }

    fn check(&self, header: NetHeader) -> Result<NetHeader, HeaderFault> {
        check(Features::all(), header, &self.build().bytes)
    }
}

fn check(acked: Features, header: NetHeader, frame: &[u8]) -> Result<NetHeader, HeaderFault> {
    TxOffloads::new(acked).check(header, &frame[..frame.len().min(HEAD_LEN)], frame.len())
}

/// The shapes that a driver may segment, with the type to use.
fn kinds() -> [(Shape, u8); 8] {
    [
        (TCP4, GSO_TCPV4),
        (TCP4, GSO_TCPV4 | GSO_ECN),
        (TCP6, GSO_TCPV6),
        (TCP6, GSO_TCPV6 | GSO_ECN),
        (UDP4, GSO_UDP),
        (UDP6, GSO_UDP),
        (UDP4, GSO_UDP_L4),
        (UDP6, GSO_UDP_L4),
    ]
}

#[test]
fn every_kind_of_frame_to_segment_passes_in_every_wrapping() {
    for (shape, gso_type) in kinds() {
        for tags in [vec![], vec![0x8100], vec![0x88a8], vec![0x88a8, 0x8100], vec![0x8100, 0x8100]] {
            for options in [0, 10] {
                for extensions in [vec![], vec![(0, 0)], vec![(60, 0), (43, 0), (60, 0)]] {
                    let shape =
                        Shape { tags: tags.clone(), options, extensions, tcp_words: 5 + options, ..shape.clone() };
                    let header = shape.header(gso_type, 1400);
                    assert_eq!(shape.check(header), Ok(header), "{shape:?} {gso_type:#x}");
                }
            }
        }
    }
}

#[test]
fn n12_unknown_flags_and_data_valid_are_dropped() {
    let frame = TCP4.build().bytes;
    for flags in 0..=u8::MAX {
        let header = NetHeader { flags, ..NetHeader::NONE };
        let answer = check(Features::all(), NetHeader { csum_start: 34, csum_offset: 16, ..header }, &frame).unwrap();
        if flags & NEEDS_CSUM == 0 {
            assert_eq!(answer, NetHeader::NONE, "{flags:#x}");
        } else {
            let expected = NetHeader { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..NetHeader::NONE };
            assert_eq!(answer, expected, "{flags:#x}");
        }
    }
}

#[test]
fn n13_n17_n20_n21_without_an_offload_no_field_counts() {
    let frame = [0; 60];
    let header = NetHeader {
        flags: DATA_VALID,
        gso_type: 0,
        hdr_len: 0xffff,
        gso_size: 0xffff,
        csum_start: 0xffff,
        csum_offset: 0xffff,
    };
    for acked in [Features::empty(), Features::all()] {
        assert_eq!(check(acked, header, &frame), Ok(NetHeader::NONE));
    }
}

#[test]
fn n15_hdr_len_is_only_a_hint() {
    for (shape, gso_type) in kinds() {
        let header = shape.header(gso_type, 1400);
        for hdr_len in [0, 1, 14, 53, 128, 129, 4054, 65535] {
            assert_eq!(shape.check(NetHeader { hdr_len, ..header }), Ok(header), "{gso_type:#x} {hdr_len}");
        }
    }
}

#[test]
fn n16_n18_n19_tunnel_bits_are_refused_in_the_type_and_ignored_in_the_flags() {
    for (shape, gso_type) in kinds() {
        for tunnel in [0x20, 0x40, 0x60] {
            let header = shape.header(gso_type | tunnel, 1400);
            assert_eq!(shape.check(header), Err(HeaderFault::GsoType { gso_type: gso_type | tunnel }));
        }
        let header = shape.header(gso_type, 1400);
        assert_eq!(shape.check(NetHeader { flags: NEEDS_CSUM | 8, ..header }), Ok(header));
    }
}

#[test]
fn an_offload_that_was_not_acknowledged_is_refused() {
    let table = [
        (TCP4, GSO_TCPV4, Features::HOST_TSO4),
        (TCP6, GSO_TCPV6, Features::HOST_TSO6),
        (UDP4, GSO_UDP, Features::HOST_UFO),
        (UDP6, GSO_UDP_L4, Features::HOST_USO),
        (TCP4, GSO_TCPV4 | GSO_ECN, Features::HOST_TSO4 | Features::HOST_ECN),
    ];
    for (shape, gso_type, needed) in table {
        let header = shape.header(gso_type, 1400);
        let frame = shape.build().bytes;
        assert_eq!(check(Features::CSUM | needed, header, &frame), Ok(header));
        for lost in
            [Features::HOST_TSO4, Features::HOST_TSO6, Features::HOST_UFO, Features::HOST_USO, Features::HOST_ECN]
        {
            if needed.contains(lost) {
                let answer = check(Features::all() - lost, header, &frame);
                assert_eq!(answer, Err(HeaderFault::GsoType { gso_type }), "without {lost}");
            }
        }
        assert_eq!(check(needed, header, &frame), Err(HeaderFault::CsumNotAcked));
    }
}

#[test]
fn types_outside_of_the_specification_are_refused() {
    let known = [GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN, GSO_TCPV6 | GSO_ECN];
    for gso_type in 1..=u8::MAX {
        if !known.contains(&gso_type) {
            let answer = TCP4.check(TCP4.header(gso_type, 1400));
            assert_eq!(answer, Err(HeaderFault::GsoType { gso_type }));
        }
    }
}

/// DPDK 4dc4e33ffa (CVE-2024-11614), 285e6b8b18: a checksum beyond the frame.
#[test]
fn a_checksum_outside_of_the_frame_is_refused() {
    for len in [14, 33, 36, 54, 60, 64, 128, 200] {
        let frame = vec![0; len];
        for start in (0..=300).chain(65_000..=65_535) {
            let offsets =
                [0, 1, 6, 16, 17, 100, 0x7fff, 0xfffd, 0xffff, (len as u16).wrapping_sub(start).wrapping_sub(2)];
            for offset in offsets {
                let header = NetHeader { flags: NEEDS_CSUM, csum_start: start, csum_offset: offset, ..NetHeader::NONE };
                let inside = start >= 34 && u64::from(start) + u64::from(offset) + 2 <= len as u64;
                let expected = if inside { Ok(header) } else { Err(HeaderFault::CsumRange { start, offset, len }) };
                assert_eq!(check(Features::CSUM, header, &frame), expected);
            }
        }
    }
}

/// DPDK 7023f3e532: sizes that nobody segments to.
#[test]
fn gso_sizes_that_make_no_sense_are_refused() {
    for (shape, gso_type) in kinds() {
        let kind = gso_type & !GSO_ECN;
        let min = if kind == GSO_UDP_L4 { 1 } else { MIN_GSO_SIZE };
        for gso_size in [0, 1, 7, 65535] {
            let fault = HeaderFault::GsoSize { gso_type, gso_size, min };
            let answer = shape.check(shape.header(gso_type, gso_size));
            if kind != GSO_UDP_L4 || gso_size == 0 || gso_size == 65535 {
                assert_eq!(answer, Err(fault), "{gso_type:#x} {gso_size}");
            } else {
                assert_eq!(answer, Err(HeaderFault::TooManySegments { payload: 4000, gso_size }));
            }
        }
        let shape = Shape { payload: 4096, ..shape };
        let least = if kind == GSO_UDP_L4 { 32 } else { 8 }; // 4096 bytes in 128 segments
        for gso_size in [least, 3999] {
            let header = shape.header(gso_type, gso_size);
            assert_eq!(shape.check(header), Ok(header), "{gso_type:#x} {gso_size}");
        }
        if kind == GSO_UDP_L4 {
            let shape = Shape { payload: 4097, ..shape };
            let answer = shape.check(shape.header(gso_type, 32));
            assert_eq!(answer, Err(HeaderFault::TooManySegments { payload: 4097, gso_size: 32 }));
        }
    }
}

#[test]
fn a_frame_of_one_segment_is_not_one_to_segment() {
    for (shape, gso_type) in kinds() {
        let ufo_header = if gso_type == GSO_UDP { 8 } else { 0 };
        let plain = |h: NetHeader| NetHeader { gso_type: 0, gso_size: 0, hdr_len: 0, ..h };
        for (gso_size, whole) in [(3999 + ufo_header, true), (4000 + ufo_header, false), (65534, false)] {
            let header = shape.header(gso_type, gso_size);
            assert_eq!(shape.check(header), Ok(if whole { header } else { plain(header) }), "{gso_type:#x} {gso_size}");
        }
    }
}

#[test]
fn without_needs_csum_tcp_and_ufo_pass_and_uso_does_not() {
    for (shape, gso_type) in kinds() {
        let header = NetHeader { flags: 0, ..shape.header(gso_type, 1400) };
        let answer = shape.check(NetHeader { csum_start: 0xffff, ..header });
        if gso_type == GSO_UDP_L4 {
            assert_eq!(answer, Err(HeaderFault::GsoWithoutCsum { gso_type }));
        } else {
            assert_eq!(answer, Ok(NetHeader { csum_start: 0, csum_offset: 0, ..header }));
        }
    }
}

/// Linux CVE-2024-43817, CVE-2024-43897: the type, the frame and the checksum do not belong together.
#[test]
fn type_frame_and_checksum_must_match() {
    let ethertype = |gso_type, ethertype| HeaderFault::GsoEthertype { gso_type, ethertype };
    let protocol = |gso_type, protocol| HeaderFault::GsoProtocol { gso_type, protocol };
    let table = [
        (TCP4, GSO_TCPV6, ethertype(GSO_TCPV6, 0x0800)),
        (TCP6, GSO_TCPV4, ethertype(GSO_TCPV4, 0x86dd)),
        (TCP4, GSO_UDP, protocol(GSO_UDP, 6)),
        (TCP6, GSO_UDP_L4, protocol(GSO_UDP_L4, 6)),
        (UDP4, GSO_TCPV4, protocol(GSO_TCPV4, 17)),
        (UDP6, GSO_TCPV6, protocol(GSO_TCPV6, 17)),
        (Shape { tags: vec![0x8100; 3], ..TCP4 }, GSO_TCPV4, ethertype(GSO_TCPV4, 0x8100)),
        (Shape { tags: vec![0x0806], ..TCP4 }, GSO_TCPV4, ethertype(GSO_TCPV4, 0x0806)),
    ];
    for (shape, gso_type, fault) in table {
        assert_eq!(shape.check(shape.header(gso_type, 1400)), Err(fault), "{shape:?}");
    }
    for (shape, gso_type) in kinds() {
        let header = shape.header(gso_type, 1400);
        for (start, offset) in [(1, 0), (u16::MAX, 0), (0, 1), (0, u16::MAX), (2, u16::MAX - 1)] {
            let start = header.csum_start.wrapping_add(start);
            let offset = header.csum_offset.wrapping_add(offset);
            let answer = shape.check(NetHeader { csum_start: start, csum_offset: offset, ..header });
            let (expected, field) = (usize::from(header.csum_start), header.csum_offset);
            let out = start < MIN_CSUM_START;
            let csum = HeaderFault::GsoCsum { start, offset, expected, field };
            let range = HeaderFault::CsumRange { start, offset, len: shape.build().bytes.len() };
            assert_eq!(answer, Err(if out { range } else { csum }), "{gso_type:#x}");
        }
    }
}

#[test]
fn fragments_and_broken_headers_are_refused() {
    let fragment = |gso_type| HeaderFault::GsoFragment { gso_type };
    let headers = |at, end| HeaderFault::GsoHeaders { at, end };
    // shape, byte to change, value, fault
    let table = [
        (TCP4, 20, 0x20, fragment(GSO_TCPV4)),
        (TCP4, 21, 0x01, fragment(GSO_TCPV4)),
        (TCP4, 20, 0x1f, fragment(GSO_TCPV4)),
        (Shape { extensions: vec![(44, 0)], ..TCP6 }, 0, 0, fragment(GSO_TCPV6)),
        (Shape { extensions: vec![(0, 0), (44, 0)], ..TCP6 }, 0, 0, fragment(GSO_TCPV6)),
        (TCP4, 14, 0x55, headers(14, 128)),
        (TCP4, 14, 0x44, headers(14, 128)),
        (TCP6, 14, 0x45, headers(14, 128)),
        (TCP4, 46, 0x40, headers(34, 128)),
        (TCP6, 66, 0x00, headers(54, 128)),
        (Shape { extensions: vec![(0, 9)], ..TCP6 }, 0, 0, headers(54, 128)),
        (Shape { extensions: vec![(0, 255)], ..TCP6 }, 0, 0, headers(54, 128)),
        (Shape { extensions: vec![(60, 0); 7], ..TCP6 }, 0, 0, headers(110, 128)),
    ];
    for (shape, at, value, fault) in table {
        let mut frame = shape.build().bytes;
        if at != 0 {
            frame[at] = value;
        }
        let gso_type = if shape.v6 { GSO_TCPV6 } else { GSO_TCPV4 };
        let header = NetHeader { flags: 0, ..shape.header(gso_type, 1400) };
        assert_eq!(check(Features::all(), header, &frame), Err(fault), "{shape:?} byte {at} = {value:#x}");
    }
}

#[test]
fn a_frame_to_segment_that_ends_in_its_headers_is_refused() {
    for (shape, gso_type) in kinds() {
        for v in [shape.clone(), Shape { tags: vec![0x88a8, 0x8100], options: 10, tcp_words: 15, ..shape }] {
            let built = v.build();
            let header = NetHeader { flags: 0, ..v.header(gso_type, 1400) };
            for len in 0..built.end {
                assert!(check(Features::all(), header, &built.bytes[..len]).is_err(), "{gso_type:#x} cut to {len}");
            }
        }
    }
}

#[test]
fn formats_follow_what_was_acknowledged() {
    let v1 = Features::VERSION_1;
    let csum = Features::GUEST_CSUM;
    let uso = Features::GUEST_USO4 | Features::GUEST_USO6;
    let flags = DATA_VALID | NEEDS_CSUM;
    // acked, header, mergeable, flags, types, ecn
    let table = [
        (Features::empty(), 10, false, 0, 0, false),
        (v1, 12, false, 0, 0, false),
        (v1 | Features::MRG_RXBUF, 12, true, 0, 0, false),
        (v1 | csum, 12, false, flags, 0, false),
        (v1 | csum | Features::GUEST_TSO4, 12, false, flags, 1 << 1, false),
        (v1 | csum | Features::GUEST_TSO6 | Features::GUEST_ECN, 12, false, flags, 1 << 4, true),
        (v1 | csum | Features::GUEST_UFO, 12, false, flags, 1 << 3, false),
        (v1 | csum | Features::GUEST_USO4, 12, false, flags, 0, false),
        (v1 | csum | uso, 12, false, flags, 1 << 5, false),
        (v1 | Features::HOST_OFFLOADS, 12, false, 0, 0, false),
        (v1 | Features::HASH_REPORT, 20, false, 0, 0, false),
    ];
    for (acked, header_len, mergeable, flags, gso_types, ecn) in table {
        let expected = RxFormat { header_len, mergeable, flags, gso_types, ecn, mtu: None, steered: false };
        assert_eq!(rx_format(acked), expected, "{acked}");
        assert_eq!(tx_format(acked), TxFormat { header_len, offloads: TxOffloads::new(acked) });
    }
}

fn shapes() -> impl Strategy<Value = (Shape, u8)> {
    (
        prop::sample::select(kinds().to_vec()),
        prop::collection::vec(prop::sample::select(vec![0x8100_u16, 0x88a8]), 0..=2),
        0..=10_u8,
        prop::collection::vec((prop::sample::select(vec![0_u8, 43, 60]), 0..=1_u8), 0..=2),
        5..=15_u8,
        0..3000_usize,
    )
        .prop_map(|((shape, gso_type), tags, options, extensions, tcp_words, payload)| {
            (Shape { tags, options, extensions, tcp_words, payload, ..shape }, gso_type)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_passes_is_true_of_the_frame(
        (shape, gso_type) in shapes(),
        acked: u128,
        fields: [u16; 4],
        keep: [bool; 6],
        change in prop::collection::vec((0..140_usize, any::<u8>()), 0..3),
        cut in prop::option::of(0..200_usize),
    ) {
        let acked = if keep[5] { Features::all() } else { Features::from_bits_retain(acked) };
        let good = shape.header(gso_type, 1 + fields[1] % 2000);
        let pick = |i: usize, good: u16| if keep[i] { good } else { fields[i] };
        let header = NetHeader {
            flags: if keep[4] { good.flags } else { fields[0] as u8 },
            gso_type: if keep[4] { good.gso_type } else { (fields[0] >> 8) as u8 },
            hdr_len: pick(0, good.hdr_len),
            gso_size: pick(1, good.gso_size),
            csum_start: pick(2, good.csum_start),
            csum_offset: pick(3, good.csum_offset),
        };
        let mut frame = shape.build().bytes;
        for (at, value) in change {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut.unwrap_or(usize::MAX).max(14));
        if let Ok(out) = check(acked, header, &frame) {
            judge(acked, &header, &out, &frame)?;
        }
    }

    #[test]
    fn a_correct_driver_is_never_refused((shape, gso_type) in shapes(), gso_size in 40..1460_u16) {
        let built = shape.build();
        prop_assume!(built.transport + 20 <= HEAD_LEN);
        let header = shape.header(gso_type, gso_size);
        let out = shape.check(header);
        let whole = built.bytes.len() - if gso_type == GSO_UDP { built.transport } else { built.end };
        let plain = NetHeader { gso_type: 0, gso_size: 0, hdr_len: 0, ..header };
        prop_assert_eq!(out, Ok(if whole > usize::from(gso_size) { header } else { plain }));
    }
}

/// What a back end relies on.
fn judge(acked: Features, header: &NetHeader, out: &NetHeader, frame: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(out.flags, header.flags & NEEDS_CSUM);
    if out.flags == 0 {
        prop_assert_eq!((out.csum_start, out.csum_offset), (0, 0));
    } else {
        prop_assert!(acked.contains(Features::CSUM));
        prop_assert!(usize::from(out.csum_start) + usize::from(out.csum_offset) + 2 <= frame.len());
    }
    if out.gso_type == 0 {
        prop_assert_eq!((out.gso_size, out.hdr_len), (0, 0));
        return Ok(());
    }
    prop_assert_eq!(out.gso_type, header.gso_type);
    prop_assert_eq!(out.gso_size, header.gso_size);
    prop_assert!(out.gso_size > 0 && out.gso_size < 65535);
    let parsed = etherparse::SlicedPacket::from_ethernet(frame);
    // Lengths inside of the IP header may be anything: the receiver of a frame to segment makes them anew.
    if let Ok(parsed) = parsed
        && let Some(transport) = parsed.transport
    {
        use etherparse::{NetSlice, TransportSlice};
        let v6 = matches!(parsed.net, Some(NetSlice::Ipv6(_)));
        let kind = out.gso_type & !GSO_ECN;
        let (fits, len) = match &transport {
            TransportSlice::Tcp(tcp) => (kind == if v6 { GSO_TCPV6 } else { GSO_TCPV4 }, tcp.header_slice().len()),
            TransportSlice::Udp(_) => (matches!(kind, GSO_UDP | GSO_UDP_L4), 8),
            _ => (false, 0),
        };
        prop_assert!(fits, "{:?} as {:#x}", transport, out.gso_type);
        prop_assert!(usize::from(out.hdr_len) >= 34 + len && usize::from(out.hdr_len) <= frame.len());
    }
    Ok(())
}
