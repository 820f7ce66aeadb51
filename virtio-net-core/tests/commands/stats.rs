//! The counters that a driver can ask for.

use virtio_net_core::Features;
use virtio_net_core::ctrl::{
    Ack, RxCounters, STATS_CVQ, STATS_RX_BASIC, STATS_RX_CSUM, STATS_RX_GSO, STATS_TX_BASIC, STATS_TX_CSUM,
    STATS_TX_GSO, TxCounters,
};
use virtio_net_core::rx::RxStats;
use virtio_net_core::tx::TxStats;

use crate::rig::Rig;

const RX: u64 = STATS_RX_BASIC | STATS_RX_CSUM | STATS_RX_GSO;
const TX: u64 = STATS_TX_BASIC | STATS_TX_CSUM | STATS_TX_GSO;
const CONTROL: u16 = 8;

fn rig() -> Rig {
    let mut rig = Rig::new(Features::all());
    let pump = RxStats {
        frames: 100,
        bytes: 101,
        dropped: 1,
        too_long: 2,
        no_room: 4,
        lost: 8,
        filtered: 1000,
        data_valid: 30,
        needs_csum: 50,
        gso_frames: 7,
        gso_bytes: 77,
        ..RxStats::default()
    };
    rig.counted.rx = RxCounters { notifications: 10, interrupts: 20, pump };
    let pump = TxStats {
        frames: 200,
        bytes: 201,
        filtered: 1,
        failed: 2,
        bad_frames: 4,
        bad_chains: 8,
        needs_csum: 60,
        gso_frames: 9,
        gso_bytes: 99,
        ..TxStats::default()
    };
    rig.counted.tx = TxCounters { notifications: 30, interrupts: 40, pump };
    rig
}

fn ask(entries: &[(u16, u64)]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|(index, types)| [&index.to_le_bytes()[..], &[0xee; 6], &types.to_le_bytes()].concat())
        .collect()
}

/// Type, queue and counters of each reply.
fn parse(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u64>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let size = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
        assert_eq!((bytes[1], &bytes[4..6]), (0, &[0, 0][..]), "reserved");
        let values = bytes[8..size].chunks_exact(8).map(|v| u64::from_le_bytes(v.try_into().unwrap()));
        all.push((bytes[0], u16::from_le_bytes([bytes[2], bytes[3]]), values.collect()));
        bytes = &bytes[size..];
    }
    all
}

#[test]
fn n82_what_can_be_asked_for_is_said() {
    let (ack, reply) = rig().run(8, 0, &[]);
    assert_eq!((ack, reply), (Ack::Ok, (RX | TX | STATS_CVQ).to_le_bytes().to_vec()));
}

#[test]
fn n84_replies_name_their_type_queue_and_size() {
    let mut rig = rig();
    let (ack, reply) = rig.run(8, 1, &ask(&[(4, RX), (CONTROL, STATS_CVQ), (7, TX), (0, STATS_RX_GSO)]));
    assert_eq!(ack, Ack::Ok);
    assert_eq!(
        parse(&reply),
        [
            (0, 4, vec![12, 100, 101, 20, 15, 4]),
            (1, 4, vec![30, 50, 20, 0]),
            (2, 4, vec![7, 77, 0, 0]),
            (32, CONTROL, vec![1, 1]),
            (16, 7, vec![33, 200, 201, 40, 15, 12]),
            (17, 7, vec![140, 60]),
            (18, 7, vec![9, 99, 0, 0, 9, 99]),
            (2, 0, vec![7, 77, 0, 0]),
        ]
    );
    // The command itself is counted, and one that failed is not among those that did not.
    assert_eq!(rig.run(8, 9, &[]).0, Ack::Err);
    assert_eq!(parse(&rig.run(8, 1, &ask(&[(CONTROL, STATS_CVQ)])).1), [(32, CONTROL, vec![3, 2])]);
    assert_eq!(rig.run(8, 1, &ask(&[(0, 0)])), (Ack::Ok, vec![]), "nothing was asked for");
}

#[test]
fn n83_one_bad_entry_fails_all() {
    let bad = [
        (9, STATS_CVQ),
        (u16::MAX, STATS_RX_BASIC),
        (0, STATS_CVQ),
        (0, STATS_TX_BASIC),
        (0, RX | STATS_TX_GSO),
        (1, STATS_RX_BASIC),
        (CONTROL, STATS_RX_BASIC),
        (0, 1 << 3),
        (0, 1 << 4),
        (1, 1 << 19),
        (0, 1 << 63),
        (CONTROL, 1 << 33),
    ];
    let mut rig = rig();
    for entry in bad {
        for place in 0..3 {
            let mut entries = vec![(0, RX), (1, TX)];
            entries.insert(place, entry);
            assert_eq!(rig.run(8, 1, &ask(&entries)), (Ack::Err, vec![]), "{entry:x?} at {place}");
        }
    }
    // Features that were not negotiated.
    let needs = [
        (0, STATS_RX_CSUM, Features::GUEST_CSUM),
        (0, STATS_RX_GSO, Features::GUEST_TSO4 | Features::GUEST_TSO6),
        (1, STATS_TX_CSUM, Features::CSUM),
        (1, STATS_TX_GSO, Features::HOST_TSO4 | Features::HOST_TSO6 | Features::HOST_USO),
    ];
    for (index, kind, without) in needs {
        let mut rig = Rig::new(Features::all() - without);
        assert_eq!(rig.run(8, 1, &ask(&[(index, kind)])).0, Ack::Err, "{kind:#x} without {without}");
    }
    let mut rig = Rig::new(Features::all() - Features::MQ - Features::RSS);
    assert_eq!(rig.run(8, 1, &ask(&[(2, STATS_CVQ)])).0, Ack::Ok, "the control queue comes third without MQ");
    assert_eq!(rig.run(8, 1, &ask(&[(3, STATS_TX_BASIC)])).0, Ack::Err);
}

#[test]
fn n85_a_result_is_cut_off_where_the_room_ends() {
    let mut rig = rig();
    let request = ask(&[(0, RX), (1, TX)]);
    let full = rig.run(8, 1, &request).1;
    for room in 0..full.len() + 64 {
        let (ack, reply) = rig.run_with(room, 8, 1, &request);
        assert_eq!((ack, &reply[..]), (Ack::Ok, &full[..room.min(full.len())]), "{room}");
    }
}

#[test]
fn n86_counters_wrap_to_zero() {
    let mut rig = rig();
    rig.counted.rx.notifications = u64::MAX;
    rig.counted.tx.pump.bad_frames = u64::MAX;
    let (_, reply) = rig.run(8, 1, &ask(&[(2, STATS_RX_BASIC), (1, STATS_TX_BASIC)]));
    let all = parse(&reply);
    assert_eq!(all[0].2[0], 0);
    assert_eq!(all[1].2[4..], [10, 7]);
}
