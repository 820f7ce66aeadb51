//! States: saved, restored elsewhere, and refused if they are not true.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test")]

use net_filter::MacAddr;
use proptest::prelude::*;
use virtio_net_core::ctrl::{Ack, Counters, CtrlHandler, Reply, RxCounters, TxCounters};
use virtio_net_core::state::{CRITICAL, NetState, RingState, StateError};
use virtio_net_core::{Features, NetConfig, NetDevice};
use virtio_ring::QueueState;

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

struct None_;
impl Counters for None_ {
    fn rx(&self, _pair: u16) -> RxCounters {
        RxCounters::default()
    }
    fn tx(&self, _pair: u16) -> TxCounters {
        TxCounters::default()
    }
}

fn fresh(pairs: u16) -> NetDevice {
    let config = NetConfig { pairs, ..NetConfig::new(OWN) };
    NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap()
}

fn rss(table: &[u16], key: &[u8]) -> Vec<u8> {
    let mut bytes = 0x3f_u32.to_le_bytes().to_vec();
    for word in [table.len() as u16 - 1, 1].iter().chain(table).chain([&2]) {
        bytes.extend(word.to_le_bytes());
    }
    bytes.push(key.len() as u8);
    bytes.extend(key);
    bytes
}

/// A device in which everything is set to something.
fn full() -> NetDevice {
    let mut device = fresh(4);
    device.acknowledge(device.offer().features).unwrap();
    device.begin_commands();
    for index in [0, 1, 2, 5] {
        device.set_enabled(index, true);
    }
    let context = [&[3, 0, 0, 0, 0, 0, 0, 0][..], &rss(&[1, 0], &[])].concat();
    let commands: [(u8, u8, Vec<u8>); 14] = [
        (0, 0, vec![1]),
        (0, 4, vec![1]),
        (1, 0, [&[1, 0, 0, 0, 2, 0, 0, 0, 0, 5, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 5][..]].concat()),
        (1, 1, vec![2, 0, 0, 0, 0, 9]),
        (2, 0, vec![5, 0]),
        (2, 0, vec![255, 15]),
        (4, 1, rss(&[0, 1, 2, 3], &[7; 40])),
        (5, 0, 0x82_u64.to_le_bytes().to_vec()),
        (6, 0, vec![1, 0, 0, 0, 2, 0, 0, 0]),
        (6, 1, vec![3, 0, 0, 0, 4, 0, 0, 0]),
        (6, 2, vec![2, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0]),
        (7, 0, vec![0x41, 0, 0, 0]),
        (9, 1, context),
        (9, 9, vec![]),
    ];
    for (class, cmd, data) in commands {
        let ack = device.commands(&None_).handle(class, cmd, &data, &mut Reply::new(64));
        assert_eq!(ack == Ack::Ok, cmd != 9, "{class} {cmd}");
    }
    device.announce();
    assert!(device.suspend());
    device.set_link(false);
    device.announce();
    device
}

fn config(device: &NetDevice) -> [u8; 28] {
    let mut bytes = [0; 28];
    device.config().read(0, &mut bytes);
    bytes
}

fn rings() -> Vec<RingState> {
    vec![
        RingState { index: 0, size: 256, state: QueueState(7) },
        RingState { index: 8, size: 64, state: QueueState(0x8000_0001) },
    ]
}

#[test]
fn a_restored_device_is_the_one_that_was_saved() {
    let device = full();
    let state = NetState { rings: rings(), ..device.save() };
    let read = NetState::parse(&state.to_bytes()).unwrap();
    assert_eq!(read, state);
    let mut other = fresh(4);
    other.restore(&read).unwrap();
    assert_eq!(other.save(), device.save());
    assert_eq!((config(&other), other.acked(), other.settings()), (config(&device), device.acked(), device.settings()));
    assert_eq!((other.rx_format(), other.tx_format()), (device.rx_format(), device.tx_format()));
    assert!(other.is_suspended() && other.resume() && !other.config().link_up() && other.config().is_announcing());
    assert_eq!(other.enabled_pairs(), 4);
    // A queue that comes back, and one that does not exist for the driver.
    other.set_enabled(3, true);
    assert_eq!(other.settings().coalescing.queue(3).max_packets, 1);
}

#[test]
fn a_fresh_device_has_a_state_and_what_must_be_there_is_missed_by_name() {
    let mut device = fresh(1);
    let saved = device.save();
    assert_eq!(NetState::parse(&saved.to_bytes()).unwrap(), saved);
    device.restore(&saved).unwrap();
    assert_eq!(device.save(), saved);
    let bytes = full().save().to_bytes();
    let all = sections(&bytes);
    for n in 0..all.len() {
        let mut fewer = all.clone();
        let (tag, ..) = fewer.remove(n);
        let read = NetState::parse(&join(&bytes, &fewer));
        match tag {
            1..=3 | 5..=7 | 9 => assert_eq!(read, Err(StateError::Missing { tag })),
            _ => _ = read.unwrap(),
        }
    }
}

fn sections(bytes: &[u8]) -> Vec<(u16, u16, Vec<u8>)> {
    let (mut all, mut rest) = (Vec::new(), &bytes[12..]);
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        let word = |at: usize| u16::from_le_bytes([rest[at], rest[at + 1]]);
        all.push((word(0), word(2), rest[8..8 + len].to_vec()));
        rest = &rest[8 + len..];
    }
    all
}

fn join(head: &[u8], sections: &[(u16, u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = head[..12].to_vec();
    for (tag, flags, data) in sections {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
    }
    bytes
}

#[test]
fn sections_come_in_any_order_once_and_unknown_ones_are_skipped_unless_critical() {
    let state = NetState { rings: rings(), ..full().save() };
    let bytes = state.to_bytes();
    let all = sections(&bytes);
    assert_eq!(join(&bytes, &all), bytes);
    let mut turned = all.clone();
    turned.reverse();
    assert_eq!(NetState::parse(&join(&bytes, &turned)).unwrap(), state);
    for tag in [0, 12, 63, 64, 1000, u16::MAX] {
        let mut more = all.clone();
        more.insert(3, (tag, 0, vec![9; 100]));
        assert_eq!(NetState::parse(&join(&bytes, &more)).unwrap(), state, "{tag}");
        more[3].1 = CRITICAL;
        assert_eq!(NetState::parse(&join(&bytes, &more)), Err(StateError::Unknown { tag }));
    }
    for section in &all {
        let twice = [&all[..], std::slice::from_ref(section)].concat();
        assert_eq!(NetState::parse(&join(&bytes, &twice)), Err(StateError::Twice { tag: section.0 }));
    }
}

/// QEMU CVE-2013-4148 to 4151 and 6399: counts, sizes and indices of a stream that are not true.
#[test]
fn a_state_that_cannot_be_is_refused_by_name() {
    let bytes = NetState { rings: rings(), ..full().save() }.to_bytes();
    for len in 0..bytes.len() {
        // Cut behind the last section that has to be there it is one without the others; anywhere else it is none.
        if let Ok(state) = NetState::parse(&bytes[..len]) {
            assert!(len > 500 && state.to_bytes() != bytes);
        }
    }
    let all = sections(&bytes);
    let with = |tag: u16, change: &dyn Fn(&mut Vec<u8>)| {
        let mut all = all.clone();
        change(&mut all.iter_mut().find(|s| s.0 == tag).unwrap().2);
        NetState::parse(&join(&bytes, &all)).and_then(|state| fresh(4).restore(&state))
    };
    let text = |result: Result<(), StateError>| result.unwrap_err().to_string();
    type Change = fn(&mut Vec<u8>);
    let table: [(u16, Change, &str); 24] = [
        (1, |b| b[0] |= 16, "acked: driver acknowledged bit 4"),
        (1, |b| b[2] &= !2, "acked: driver acknowledged CTRL_RX without CTRL_VQ"),
        (1, |b| b.truncate(15), "acked: 15 bytes are left, expected 16"),
        (1, |b| b.push(0), "acked: 0x1, expected no bytes behind its end"),
        (2, |b| b[0] |= 128, "device.flags"),
        (2, |b| b[0] |= 48, "device.flags"),
        (2, |b| b[1] = 0, "pairs: 0x0, expected 1 to 32768"),
        (2, |b| b[1] = 5, "pairs: 0x5, expected as many as the device has"),
        (3, |b| b[0] = 1, "receive.own"),
        (3, |b| b[6] = 64, "receive.modes: 0x40"),
        (3, |b| b[7] = 4, "receive.flags"),
        (3, |b| b.push(0), "receive.addresses: 1 bytes are left, expected 6"),
        (3, |b| b.extend([0; 6]), "receive.addresses: 0x3, expected ascending order"),
        (4, |b| b.truncate(511), "receive.vlans: 511 bytes"),
        (5, |b| b[0] = 5, "used_pairs: 0x5"),
        (5, |b| b[0] = 0, "used_pairs: 0x0"),
        (5, |b| b[2] = 2, "enabled: 0x2, expected 0 or 1"),
        (5, |b| b.push(0), "enabled: 0x9"),
        (6, |b| b[0] = 4, "offloads"),
        (7, |b| b[1] = 2, "tunnels: 0x241"),
        (7, |b| b[4] = 2, "hash.kind"),
        (7, |b| b[11] = 4, "hash: receive queue 4, expected less than 4"),
        (8, |b| b[0] = 17, "contexts.id: 0x11"),
        (9, |b| b.truncate(16), "coalescing: 0x0"),
    ];
    for (tag, change, expected) in table {
        let text = text(with(tag, &change));
        assert!(text.starts_with(expected), "section {tag}: {text}\nexpected: {expected}");
    }
    assert!(text(with(9, &|b| b[23] = 0xff)).starts_with("coalescing.max_usecs"));
    assert!(text(with(8, &|b| b.extend(b.clone()))).starts_with("contexts.id: 0x3"));
    assert_eq!(text(with(11, &|b| b.truncate(9))), "rings: 1 bytes are left, expected 8");
    assert_eq!(text(NetState::parse(b"QEVM").map(drop)), "header: 4 bytes are left, expected 8");
    assert!(text(NetState::parse(b"QEVM00000000").map(drop)).starts_with("no device state"));
    let mut later = bytes.clone();
    later[8] = 2;
    assert_eq!(text(NetState::parse(&later).map(drop)), "version 2, expected 1");
}

#[test]
fn a_device_that_cannot_be_so_stays_as_it_was() {
    let state = full().save();
    for mut other in [fresh(1), fresh(8)] {
        let before = other.save();
        assert!(other.restore(&state).is_err());
        assert_eq!(other.save(), before);
    }
    let config = NetConfig { pairs: 4, fixed_mac: true, ..NetConfig::new(OWN) };
    let mut fixed = NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap();
    let error = fixed.restore(&state).unwrap_err().to_string();
    assert_eq!(error, "receive.own: 0x20000000009, expected the address that the host insists on");
    let mut less =
        NetDevice::new(&NetConfig { pairs: 4, ..NetConfig::new(OWN) }, Features::SUPPORTED, Features::empty()).unwrap();
    assert!(less.restore(&state).unwrap_err().to_string().starts_with("acked: "), "fewer offloads than the driver has");
}

proptest! {
    #[test]
    fn any_bytes_are_a_state_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300), tail: bool) {
        let mut bytes = bytes;
        if tail {
            bytes.splice(0..0, full().save().to_bytes()[..12].iter().copied());
        }
        if let Ok(state) = NetState::parse(&bytes) {
            let _ = fresh(4).restore(&state);
        }
    }

    #[test]
    fn what_is_changed_in_a_state_is_refused_or_read_back_as_it_was_written(at in 12..700_usize, byte: u8) {
        let mut bytes = full().save().to_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(state) = NetState::parse(&bytes) {
            prop_assert_eq!(NetState::parse(&state.to_bytes()), Ok(state.clone()));
            let mut device = fresh(4);
            if device.restore(&state).is_ok() {
                let again = NetState { rings: state.rings.clone(), ..device.save() };
                prop_assert_eq!(again.acked, state.acked);
                prop_assert_eq!(again.coalescing, state.coalescing);
            }
        }
    }
}
