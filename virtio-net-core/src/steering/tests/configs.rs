//! The configurations that drivers send, and queues by hash.

use super::*;

const LIMITS: RssLimits = RssLimits { pairs: 4, table: 128, key: 40 };

/// `struct virtio_net_rss_config` with whatever it is given.
fn rss(types: u32, unclassified: u16, table: &[u16], max_tx_vq: u16, key: (u8, &[u8])) -> Vec<u8> {
    let mut bytes = types.to_le_bytes().to_vec();
    let mask = (table.len() - 1) as u16;
    for word in [mask, unclassified].iter().chain(table).chain([&max_tx_vq]) {
        bytes.extend(word.to_le_bytes());
    }
    bytes.push(key.0);
    bytes.extend(key.1);
    bytes
}

fn good() -> Vec<u8> {
    rss(0x1ff, 2, &[0, 1, 3, 0], 4, (40, &KEY))
}

#[test]
fn n66_every_field_of_an_rss_configuration_is_read_from_its_place() {
    let parsed = RssConfig::parse(&good(), &LIMITS).unwrap();
    let expected = RssConfig {
        types: HashTypes::all(),
        unclassified: 2,
        table: vec![0, 1, 3, 0],
        max_tx_vq: 4,
        key: KEY.to_vec(),
    };
    assert_eq!(parsed, expected);
    assert_eq!(parsed.to_bytes(), good());
    // The least and the most that there can be.
    for data in [rss(0, 0, &[0], 1, (0, &[])), rss(0, 3, &[3; 128], 4, (40, &KEY))] {
        assert_eq!(RssConfig::parse(&data, &LIMITS).unwrap().to_bytes(), data);
    }
}

/// Each field, as bad as it can be, and what is said of it; QEMU CVE-2024-6505 among them.
#[test]
fn n66_an_rss_configuration_that_cannot_be_is_refused_by_its_field() {
    let queue = |queue| RssError::Queue { queue, pairs: 4 };
    let table = |entries| RssError::Table { entries, max: 128 };
    let key = (40, &KEY[..]);
    let mut cases = vec![
        (rss(0x200, 0, &[0], 1, key), RssError::Types { bits: 0x200 }),
        (rss(u32::MAX, 0, &[0], 1, key), RssError::Types { bits: u32::MAX }),
        (rss(1, 0, &[0; 3], 1, key), table(3)),
        (rss(1, 0, &[0; 127], 1, key), table(127)),
        (rss(1, 0, &[0; 129], 1, key), table(129)),
        (rss(1, 0, &[0; 256], 1, key), table(256)),
        (rss(1, 0, &[0; 65_536], 1, key), table(65_536)),
        (rss(1, 4, &[0], 1, key), queue(4)),
        (rss(1, 0x7fff, &[0], 1, key), queue(0x7fff)),
        (rss(1, 0x8000, &[0], 1, key), queue(0x8000)),
        (rss(1, 0, &[0], 0, key), RssError::TransmitQueues { queues: 0, pairs: 4 }),
        (rss(1, 0, &[0], 5, key), RssError::TransmitQueues { queues: 5, pairs: 4 }),
        (rss(1, 0, &[0], 0xffff, key), RssError::TransmitQueues { queues: 0xffff, pairs: 4 }),
        (rss(1, 0, &[0], 1, (41, &[0; 41])), RssError::Key { len: 41, max: 40 }),
        (rss(1, 0, &[0], 1, (255, &[0; 255])), RssError::Key { len: 255, max: 40 }),
        (rss(1, 0, &[0], 1, (40, &[0; 39])), RssError::Length { found: 52, expected: 53 }),
        (rss(1, 0, &[0], 1, (39, &[0; 40])), RssError::Length { found: 53, expected: 52 }),
        (rss(1, 0, &[0], 1, (0, &[9])), RssError::Length { found: 14, expected: 13 }),
    ];
    for at in 0..4 {
        for bad in [4, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let mut entries = [0, 1, 2, 3];
            entries[at] = bad;
            cases.push((rss(1, 0, &entries, 1, key), queue(bad)));
        }
    }
    for (data, error) in cases {
        assert_eq!(RssConfig::parse(&data, &LIMITS), Err(error), "{data:?}");
        let text = error.to_string();
        assert!(text.contains("expected"), "{text}");
    }
}

/// VirtualBox CVE-2023-22098.
#[test]
fn n66_n68_a_configuration_of_any_other_length_is_refused() {
    let hash = [&[0xff, 1, 0, 0][..], &[0; 8], &[40], &KEY].concat();
    for (data, fixed) in [(good(), 19), (hash.clone(), 13)] {
        let mut long = data.clone();
        long.push(0);
        for len in (0..=long.len()).filter(|len| *len != data.len()) {
            let found = if fixed == 13 {
                HashConfig::parse(&long[..len], &LIMITS).map(|_| ())
            } else {
                RssConfig::parse(&long[..len], &LIMITS).map(|_| ())
            };
            let Err(RssError::Length { found, expected }) = found else { panic!("{len}: {found:?}") };
            // What is asked for is known up to the first field that is not there.
            assert!(
                found == len && (expected == data.len() || (expected > len && expected <= fixed)),
                "{len}: {expected}"
            );
        }
    }
    assert!(HashConfig::parse(&hash, &LIMITS).is_ok() && RssConfig::parse(&good(), &LIMITS).is_ok());
}

#[test]
fn n68_a_hash_configuration_is_read_from_its_places_and_what_is_reserved_is_ignored() {
    let data = |types: u32, reserved: u8, key: (u8, &[u8])| {
        [&types.to_le_bytes()[..], &[reserved; 8], &[key.0], key.1].concat()
    };
    for reserved in [0, 0xff] {
        let parsed = HashConfig::parse(&data(0x12, reserved, (3, &[7, 8, 9])), &LIMITS).unwrap();
        assert_eq!(parsed, HashConfig { types: HashTypes::TCPV4 | HashTypes::TCPV6, key: vec![7, 8, 9] });
    }
    for (data, error) in [
        (data(0x200, 0, (40, &KEY)), RssError::Types { bits: 0x200 }),
        (data(1, 0, (41, &[0; 41])), RssError::Key { len: 41, max: 40 }),
        (data(1, 0, (2, &[0])), RssError::Length { found: 14, expected: 15 }),
        (data(1, 0, (2, &[0; 3])), RssError::Length { found: 16, expected: 15 }),
    ] {
        assert_eq!(HashConfig::parse(&data, &LIMITS), Err(error));
    }
}

#[test]
fn n70_tunnels_are_four_bytes_of_known_kinds() {
    for bits in 0..512_u32 {
        assert_eq!(TunnelTypes::parse(&bits.to_le_bytes()), Ok(TunnelTypes::from_bits(bits).unwrap()));
    }
    for bit in 9..32 {
        let bits = 1 | 1_u32 << bit;
        assert_eq!(TunnelTypes::parse(&bits.to_le_bytes()), Err(RssError::Types { bits }));
    }
    for len in [0, 1, 2, 3, 5, 8] {
        assert_eq!(TunnelTypes::parse(&[0; 8][..len]), Err(RssError::Length { found: len, expected: 4 }));
    }
}

#[test]
fn n66_a_queue_is_the_entry_that_the_low_bits_of_the_hash_name() {
    let mut steering = Steering::default();
    let hash = |value| FlowHash { value, report: 2 };
    assert_eq!((steering.queue(hash(5)), steering.queue(FlowHash::default()), steering.is_on()), (None, None, false));
    for bits in 0..8 {
        let table: Vec<u16> = (0..1 << bits).map(|n| n % 3).collect();
        let config = RssConfig {
            types: HashTypes::all(),
            unclassified: 3,
            table: table.clone(),
            max_tx_vq: 1,
            key: KEY.to_vec(),
        };
        assert_eq!(config.pairs(), 4);
        steering.set_rss(config);
        for value in (0..300).chain([u32::MAX, 0x8000_0000, 0xffff_ff80]) {
            assert_eq!(
                steering.queue(hash(value)),
                Some(table[value as usize % table.len()]),
                "{value:#x} of 2^{bits}"
            );
        }
        assert_eq!(steering.queue(FlowHash { value: 0, report: 0 }), Some(3), "not hashed");
        assert_eq!(steering.queue(FlowHash { value: 0, report: 1 }), Some(0), "hashed to 0");
    }
}

/// The last command that names hashes, or takes their choice of queues away.
#[test]
fn n66_n68_commands_replace_one_another() {
    let mut steering = Steering::default();
    assert!(!steering.is_on() && steering.types().is_empty() && steering.key().is_empty());
    let rss = RssConfig::parse(&good(), &LIMITS).unwrap();
    steering.set_rss(rss.clone());
    assert_eq!(
        (steering.is_on(), steering.types(), steering.key(), steering.rss()),
        (true, rss.types, &KEY[..], Some(&rss))
    );
    steering.clear_rss();
    assert_eq!(
        (steering.is_on(), steering.types(), steering.rss()),
        (true, rss.types, None),
        "hashes are still reported"
    );
    steering.set_rss(rss);
    steering.set_hash(HashConfig { types: HashTypes::IPV6, key: vec![1] });
    assert_eq!((steering.types(), steering.key(), steering.rss()), (HashTypes::IPV6, &[1][..], None));
    steering.set_hash(HashConfig { types: HashTypes::empty(), key: vec![] });
    assert!(!steering.is_on());
}

#[test]
fn n66_pairs_in_use_are_those_that_the_table_or_the_driver_names() {
    for (unclassified, table, max_tx_vq, pairs) in
        [(0, &[0][..], 1, 1), (3, &[0], 1, 4), (0, &[0, 2], 1, 3), (0, &[0], 4, 4), (1, &[2, 1], 2, 3)]
    {
        let config = RssConfig { types: HashTypes::IPV4, unclassified, table: table.to_vec(), max_tx_vq, key: vec![] };
        assert_eq!(config.pairs(), pairs, "{config:?}");
    }
}

fn context(id: u16, config: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &[0xee; 6], config].concat()
}

#[test]
fn n72_n73_a_context_is_added_once_changed_while_it_is_there_and_deleted_once() {
    let mut contexts = Contexts::default();
    let error = |id, exists| Err(RssError::Context { id, max: MAX_CONTEXTS, exists });
    let (one, other) = (good(), rss(1, 0, &[1], 1, (0, &[])));
    for id in 0..=u16::MAX {
        let bytes = id.to_le_bytes();
        assert_eq!(contexts.modify(&context(id, &one), &LIMITS), error(id, true), "not there yet");
        assert_eq!(contexts.delete(&bytes), error(id, true));
        if !(1..=MAX_CONTEXTS).contains(&id) {
            assert_eq!(contexts.add(&context(id, &one), &LIMITS), error(id, false));
            continue;
        }
        assert_eq!(contexts.add(&context(id, &one), &LIMITS), Ok(()));
        assert_eq!(contexts.add(&context(id, &one), &LIMITS), error(id, false), "there already");
        assert_eq!(contexts.modify(&context(id, &other), &LIMITS), Ok(()));
    }
    let found: Vec<_> = contexts.iter().map(|(id, config)| (id, config.to_bytes())).collect();
    assert_eq!(found, (1..=MAX_CONTEXTS).map(|id| (id, other.clone())).collect::<Vec<_>>());
    for id in 1..=MAX_CONTEXTS {
        assert!(!contexts.is_empty());
        assert_eq!(contexts.delete(&id.to_le_bytes()), Ok(()));
        assert_eq!(contexts.delete(&id.to_le_bytes()), error(id, true));
    }
    assert_eq!(contexts, Contexts::default());
}

#[test]
fn n72_a_context_that_cannot_be_changes_nothing() {
    let mut contexts = Contexts::default();
    contexts.add(&context(7, &good()), &LIMITS).unwrap();
    let before = contexts.clone();
    let data = context(7, &rss(1, 0x7fff, &[0], 1, (0, &[])));
    assert_eq!(contexts.modify(&data, &LIMITS), Err(RssError::Queue { queue: 0x7fff, pairs: 4 }));
    assert_eq!(contexts.add(&context(8, &data[8..]), &LIMITS), Err(RssError::Queue { queue: 0x7fff, pairs: 4 }));
    let whole = context(7, &good());
    for len in 0..whole.len() {
        assert!(matches!(contexts.modify(&whole[..len], &LIMITS), Err(RssError::Length { .. })), "{len}");
    }
    for len in [0, 1, 3, 8] {
        let error = RssError::Length { found: len, expected: 2 };
        assert_eq!(contexts.delete(&[7, 0, 0, 0, 0, 0, 0, 0][..len]), Err(error));
    }
    assert_eq!(contexts, before);
}

proptest! {
    #[test]
    fn n66_whatever_is_accepted_is_what_was_sent(types in 0..1024_u32, bits in 0..9_u32, entries in prop::collection::vec(0..5_u16, 256), unclassified in 0..5_u16, tx in 0..6_u16, key in prop::collection::vec(any::<u8>(), 0..42)) {
        let table = &entries[..1 << bits];
        let data = rss(types, unclassified, table, tx, (key.len() as u8, &key));
        let fits = types < 512 && bits < 8 && unclassified < 4 && table.iter().all(|q| *q < 4) && (1..5).contains(&tx) && key.len() < 41;
        let parsed = RssConfig::parse(&data, &LIMITS);
        prop_assert_eq!(parsed.is_ok(), fits);
        if let Ok(config) = parsed {
            prop_assert_eq!(config.to_bytes(), data);
            prop_assert_eq!(&config.table, table);
        }
    }

    #[test]
    fn n66_n68_n72_any_bytes_are_parsed_or_refused(data in prop::collection::vec(any::<u8>(), 0..400), mask in 0..130_u16, valid: bool) {
        let mut data = data;
        if valid && data.len() > 8 {
            data[..4].copy_from_slice(&[1, 1, 0, 0]);
            data[4..6].copy_from_slice(&mask.to_le_bytes());
        }
        let _ = HashConfig::parse(&data, &LIMITS);
        if let Ok(config) = RssConfig::parse(&data, &LIMITS) {
            prop_assert_eq!(config.to_bytes(), &data[..]);
            prop_assert!(config.table.iter().all(|queue| *queue < 4));
        }
        let mut contexts = Contexts::default();
        let _ = contexts.add(&data, &LIMITS);
        prop_assert!(contexts.iter().count() < 2);
    }
}
