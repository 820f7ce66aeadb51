//! Hashes of frames that are built header by header, against the sentences of virtio 1.4, 5.1.6.4.3.

use proptest::prelude::*;

use super::*;

/// An extension header.
#[derive(Clone, Debug)]
enum Ext {
    /// Of this type with so many times eight bytes behind the first eight; nothing in it counts.
    Plain(u8, u8),
    /// A routing header of another type than 2.
    Routing(u8, u8),
    /// Of type 2.
    Routing2([u8; 16]),
    /// Destination options: padding in two ways, and then a home address.
    Home([u8; 16]),
    /// Offset and flags of a fragment header.
    Fragment(u16),
    /// An authentication header with so many words behind the first two.
    Authentication(u8),
}

impl Ext {
    fn number(&self) -> u8 {
        match self {
            Self::Plain(number, _) => *number,
            Self::Routing(..) | Self::Routing2(_) => 43,
            Self::Home(_) => 60,
            Self::Fragment(_) => 44,
            Self::Authentication(_) => 51,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        match self {
            // In destination options this is one option of an unknown type.
            Self::Plain(_, units) => {
                let mut bytes = vec![0x1e; 8 * usize::from(*units) + 8];
                (bytes[0], bytes[1], bytes[3]) = (next, *units, bytes.len() as u8 - 4);
                bytes
            }
            Self::Routing(kind, units) => {
                let mut bytes = vec![0x5a; 8 * usize::from(*units) + 8];
                (bytes[0], bytes[1], bytes[2]) = (next, *units, *kind);
                bytes
            }
            Self::Routing2(address) => [&[next, 2, 2, 1, 0, 0, 0, 0][..], address].concat(),
            Self::Home(address) => [&[next, 2, 0, 1, 1, 7, 0xc9, 16][..], address].concat(),
            Self::Fragment(word) => {
                let [high, low] = word.to_be_bytes();
                vec![next, 0xff, high, low, 1, 2, 3, 4]
            }
            Self::Authentication(words) => {
                let mut bytes = vec![0xa5; 4 * usize::from(*words) + 8];
                (bytes[0], bytes[1]) = (next, *words);
                bytes
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Net {
    /// Addresses, words of options, offset and flags.
    V4([u8; 8], u8, u16),
    V6([u8; 32], Vec<Ext>),
}

#[derive(Clone, Debug)]
struct Packet {
    tags: Vec<u16>,
    net: Net,
    transport: u8,
    ports: [u8; 4],
}

/// What a hash is made of.
#[derive(Default)]
struct Fields {
    v6: bool,
    extended: bool,
    addresses: Vec<u8>,
    /// As extension headers have it.
    moved: Vec<u8>,
    tcp: Option<[u8; 4]>,
    udp: Option<[u8; 4]>,
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![0x02; 12];
        for tpid in &self.tags {
            frame.extend([tpid.to_be_bytes(), [0x60, 0x07]].concat());
        }
        match &self.net {
            Net::V4(addresses, options, fragment) => {
                frame.extend([0x08, 0x00, 0x45 + options, 0, 0, 99, 0, 1]);
                frame.extend(fragment.to_be_bytes());
                frame.extend([64, self.transport, 0, 0]);
                frame.extend(addresses);
                frame.extend(vec![1; 4 * usize::from(*options)]);
            }
            Net::V6(addresses, exts) => {
                let next = |n: usize| exts.get(n).map_or(self.transport, Ext::number);
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 99, next(0), 64]);
                frame.extend(addresses);
                exts.iter().enumerate().for_each(|(n, ext)| frame.extend(ext.bytes(next(n + 1))));
            }
        }
        frame.extend(self.ports);
        frame.extend([0; 20]);
        frame
    }

    /// What can be known of it by its first `len` bytes; `None` if it counts for no IP packet.
    fn fields(&self, len: usize) -> Option<Fields> {
        let l3 = 14 + 4 * self.tags.len();
        // A third tag is not looked at.
        if self.tags.len() > 2 {
            return None;
        }
        let mut fields = Fields::default();
        let ports_at = match &self.net {
            Net::V4(addresses, options, fragment) => {
                fields.addresses = addresses.to_vec();
                if len < l3 + 20 {
                    return None;
                }
                (fragment & 0x3fff == 0).then_some(l3 + 20 + 4 * usize::from(*options))
            }
            Net::V6(addresses, exts) => {
                if len < l3 + 40 {
                    return None;
                }
                fields.v6 = true;
                fields.extended = !exts.is_empty() || self.transport == 50;
                fields.addresses = addresses.to_vec();
                let (mut home, mut last) = (None, None);
                let (mut at, mut whole) = (l3 + 40, exts.len() <= 8);
                for ext in exts.iter().take(8) {
                    at += ext.bytes(0).len();
                    if len < at {
                        whole = false;
                        break;
                    }
                    match ext {
                        Ext::Home(address) if home.is_none() => home = Some(address),
                        Ext::Routing2(address) if last.is_none() => last = Some(address),
                        Ext::Fragment(word) if word & 0xfff9 != 0 => {
                            whole = false;
                            break;
                        }
                        _ => {}
                    }
                }
                fields.moved =
                    [home.map_or(&addresses[..16], |home| &home[..]), last.map_or(&addresses[16..], |last| &last[..])]
                        .concat();
                whole.then_some(at)
            }
        };
        if ports_at.is_some_and(|at| len >= at + 4) {
            fields.tcp = (self.transport == 6).then_some(self.ports);
            fields.udp = (self.transport == 17).then_some(self.ports);
        }
        Some(fields)
    }
}

/// The specification's lists, item by item: what is hashed, and `hash_report`.
fn sentences(fields: &Fields, types: HashTypes) -> Option<(Vec<u8>, u16)> {
    let is_set = |kind| types.contains(kind);
    let with = |addresses: &Vec<u8>, ports: &[u8]| [&addresses[..], ports].concat();
    if !fields.v6 {
        if let Some(ports) = fields.tcp.filter(|_| is_set(HashTypes::TCPV4)) {
            return Some((with(&fields.addresses, &ports), 2));
        } else if let Some(ports) = fields.udp.filter(|_| is_set(HashTypes::UDPV4)) {
            return Some((with(&fields.addresses, &ports), 3));
        } else if is_set(HashTypes::IPV4) {
            return Some((fields.addresses.clone(), 1));
        }
        return None;
    }
    if fields.extended {
        if let Some(ports) = fields.tcp.filter(|_| is_set(HashTypes::TCP_EX)) {
            return Some((with(&fields.moved, &ports), 8));
        } else if let Some(ports) = fields.udp.filter(|_| is_set(HashTypes::UDP_EX)) {
            return Some((with(&fields.moved, &ports), 9));
        } else if is_set(HashTypes::IP_EX) {
            return Some((fields.moved.clone(), 7));
        }
        // Extension headers are skipped.
    }
    if let Some(ports) = fields.tcp.filter(|_| is_set(HashTypes::TCPV6)) {
        Some((with(&fields.addresses, &ports), 5))
    } else if let Some(ports) = fields.udp.filter(|_| is_set(HashTypes::UDPV6)) {
        Some((with(&fields.addresses, &ports), 6))
    } else if is_set(HashTypes::IPV6) {
        Some((fields.addresses.clone(), 4))
    } else {
        None
    }
}

fn check(packet: &Packet, len: usize, types: HashTypes) {
    let frame = packet.bytes();
    let expected = packet.fields(len).and_then(|fields| sentences(&fields, types));
    let expected =
        expected.map_or_else(FlowHash::default, |(input, report)| FlowHash { value: slow(&KEY, &input), report });
    let found = steering(types, TunnelTypes::empty()).hash(&frame[..len]);
    assert_eq!(found, expected, "{packet:?}, {len} of {} bytes, {types:?}", frame.len());
}

const V4: [u8; 8] = [66, 9, 149, 187, 161, 142, 100, 80];

fn v6() -> [u8; 32] {
    std::array::from_fn(|n| n as u8 ^ 0x3f)
}

/// One of each sort.
fn packets() -> Vec<Packet> {
    let (home, last) = ([0xc1; 16], [0xd2; 16]);
    let nets = [
        Net::V4(V4, 0, 0),
        Net::V4(V4, 0, 0x4000), // it must not be fragmented
        Net::V4(V4, 10, 0),
        Net::V4(V4, 0, 0x2000), // the first fragment
        Net::V4(V4, 1, 0x0001), // the last one
        Net::V6(v6(), vec![]),
        Net::V6(
            v6(),
            vec![Ext::Plain(0, 1), Ext::Plain(60, 0), Ext::Plain(135, 2), Ext::Plain(139, 0), Ext::Plain(140, 0)],
        ),
        Net::V6(v6(), vec![Ext::Routing2(last)]),
        Net::V6(v6(), vec![Ext::Routing(0, 2), Ext::Routing(4, 4)]),
        Net::V6(v6(), vec![Ext::Home(home)]),
        Net::V6(v6(), vec![Ext::Routing2(last), Ext::Home(home), Ext::Authentication(4)]),
        Net::V6(v6(), vec![Ext::Home(home), Ext::Home(last), Ext::Routing2(last), Ext::Routing2(home)]),
        Net::V6(v6(), vec![Ext::Fragment(0)]),                       // whole
        Net::V6(v6(), vec![Ext::Routing2(last), Ext::Fragment(1)]),  // the first
        Net::V6(v6(), vec![Ext::Fragment(0x0578), Ext::Home(home)]), // in the middle: no header follows
        Net::V6(v6(), vec![Ext::Plain(0, 0); 8]),
        Net::V6(v6(), vec![Ext::Plain(0, 0); 9]), // more than are looked at
    ];
    let packet = |net: &Net, transport| Packet { tags: vec![], net: net.clone(), transport, ports: [10, 234, 6, 230] };
    let mut all: Vec<_> =
        nets.iter().flat_map(|net| [6, 17, 1, 50, 59, 132].map(|transport| packet(net, transport))).collect();
    for tags in [vec![0x8100], vec![0x88a8, 0x8100], vec![0x8100, 0x8100], vec![0x88a8, 0x8100, 0x8100], vec![0x9100]] {
        all.push(Packet { tags: tags.clone(), ..packet(&nets[0], 6) });
        all.push(Packet { tags, ..packet(&nets[5], 17) });
    }
    all
}

#[test]
fn n66_every_sort_of_packet_by_every_set_of_types() {
    let mut reports = [0; 10];
    for packet in packets().iter().filter(|packet| packet.tags != [0x9100]) {
        for bits in 0..512 {
            let types = HashTypes::from_bits(bits).unwrap();
            check(packet, packet.bytes().len(), types);
            reports[usize::from(steering(types, TunnelTypes::empty()).hash(&packet.bytes()).report)] += 1;
        }
    }
    assert!(reports.iter().all(|n| *n > 50), "all of them occur: {reports:?}");
}

#[test]
fn n66_what_is_cut_off_counts_as_not_there() {
    let some = [HashTypes::all(), HashTypes::all() - HashTypes::TCP_EX - HashTypes::UDP_EX - HashTypes::IP_EX];
    for packet in packets().iter().filter(|packet| packet.tags != [0x9100]) {
        for types in some {
            (0..=packet.bytes().len()).for_each(|len| check(packet, len, types));
        }
    }
}

/// A tag that is none, another version of IP than the type says, a header that is too short, and frames without IP.
#[test]
fn n66_what_is_no_ip_packet_has_no_hash() {
    let hash = |frame: &[u8]| steering(HashTypes::all(), TunnelTypes::empty()).hash(frame);
    for packet in packets().iter().filter(|packet| packet.tags == [0x9100]) {
        assert_eq!(hash(&packet.bytes()), FlowHash::default(), "{packet:?}");
    }
    let packet = |net| Packet { tags: vec![], net, transport: 6, ports: [1, 2, 3, 4] };
    let [v4, v6] = [packet(Net::V4(V4, 0, 0)).bytes(), packet(Net::V6(v6(), vec![])).bytes()];
    for (frame, version) in [(&v4, 0x45), (&v6, 0x60)] {
        for first in (0..=0xff).filter(|first| first & 0xf0 != version & 0xf0) {
            let mut other = frame.clone();
            other[14] = first;
            assert_eq!(hash(&other), FlowHash::default(), "{first:#x}");
        }
        for kind in [0x0806_u16, 46, 1500, 0x88cc, 0] {
            let mut other = frame.clone();
            other[12..14].copy_from_slice(&kind.to_be_bytes());
            assert_eq!(hash(&other), FlowHash::default(), "{kind:#x}");
        }
    }
    for words in 0..5 {
        let mut short = v4.clone();
        short[14] = 0x40 | words;
        assert_eq!(
            hash(&short),
            FlowHash { value: slow(&KEY, &V4), report: 1 },
            "a header of {words} words has no ports"
        );
    }
}

/// An option that claims more than its header has is no home address, nor is one of another length.
#[test]
fn n66_malformed_extension_headers_name_no_address() {
    let addresses = v6();
    let hash = |number: u8, header: &[u8]| {
        let mut frame = [&[2; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 99, number, 64], &addresses, header].concat();
        frame.extend([0xee; 300]);
        steering(HashTypes::all(), TunnelTypes::empty()).hash(&frame)
    };
    let plain = FlowHash { value: slow(&KEY, &addresses), report: 7 };
    let good = [&[59, 2, 0, 1, 1, 7, 0xc9, 16][..], &[0xc1; 16]].concat();
    assert_ne!(hash(60, &good), plain);
    for (at, value) in [(1, 1), (7, 15), (7, 17), (7, 0), (7, 255), (6, 0xc8), (4, 200), (2, 5), (0, 59)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(hash(60, &bad) == plain, at != 0, "byte {at} is {value}");
    }
    let good = [&[59, 2, 2, 1, 0, 0, 0, 0][..], &[0xd2; 16]].concat();
    assert_ne!(hash(43, &good), plain);
    for (at, value) in [(1, 1), (1, 3), (2, 0), (2, 3)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(hash(43, &bad), plain, "byte {at} is {value}");
    }
}

fn any_ext() -> impl Strategy<Value = Ext> {
    prop_oneof![
        (prop::sample::select(vec![0, 60, 135, 139, 140]), 0..3_u8)
            .prop_map(|(number, units)| Ext::Plain(number, units)),
        (prop::sample::select(vec![0, 1, 3, 4]), 0..4_u8).prop_map(|(kind, units)| Ext::Routing(kind, units)),
        any::<[u8; 16]>().prop_map(Ext::Routing2),
        any::<[u8; 16]>().prop_map(Ext::Home),
        prop::sample::select(vec![0, 0, 6, 1, 8, 0xfff8]).prop_map(Ext::Fragment),
        (0..4_u8).prop_map(|pairs| Ext::Authentication(pairs * 2)),
    ]
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let net = prop_oneof![
        (any::<[u8; 8]>(), 0..11_u8, prop::sample::select(vec![0, 0, 0x4000, 0x2000, 0x1fff, 1]))
            .prop_map(|(addresses, options, fragment)| Net::V4(addresses, options, fragment)),
        (any::<[u8; 32]>(), prop::collection::vec(any_ext(), 0..11))
            .prop_map(|(addresses, exts)| Net::V6(addresses, exts)),
    ];
    let tags = prop::collection::vec(prop::sample::select(vec![0x8100, 0x88a8]), 0..4);
    let transport = prop::sample::select(vec![6, 6, 17, 17, 1, 50, 58, 59]);
    (tags, net, transport, any::<[u8; 4]>()).prop_map(|(tags, net, transport, ports)| Packet {
        tags,
        net,
        transport,
        ports,
    })
}

proptest! {
    #[test]
    fn n66_any_packet_is_hashed_as_the_specification_says(packet in any_packet(), types in 0..512_u32, cut in 0..200_usize) {
        let types = HashTypes::from_bits_truncate(types);
        let len = packet.bytes().len();
        check(&packet, len, types);
        check(&packet, len.min(cut), types);
    }

    #[test]
    fn n66_n69_any_bytes_are_hashed_or_not(head in prop::collection::vec(any::<u8>(), 0..300), shape in 0..6_usize, next: u8, types in 0..512_u32, tunnels in 0..512_u32) {
        let mut head = head;
        if head.len() > 24 {
            let kind: [u8; 2] = [[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8], [0x65, 0x58], [8, 6]][shape];
            head[12..14].copy_from_slice(&kind);
            head[14] = if shape == 1 { 0x60 } else { 0x45 };
            let known = [0, 4, 6, 17, 43, 44, 47, 50, 51, 60];
            head[if shape == 1 { 20 } else { 23 }] = *known.get(usize::from(next)).unwrap_or(&next);
        }
        let hash = steering(HashTypes::from_bits_truncate(types), TunnelTypes::from_bits_truncate(tunnels)).hash(&head);
        prop_assert!(hash.report < 10 && (hash.report != 0 || hash.value == 0));
        prop_assert!(hash.report == 0 || types & 1 << (hash.report - 1) != 0, "a type that is enabled");
    }
}
