//! The villain catalogue, ring contents: what a hostile driver or device can put into a ring.
//!
//! Every row runs on fresh rings, with and without the event index, packed ones on both laps. `Chain` rows: the head
//! comes back with length 0 and the next good chain still works. `Ring` rows: the error is latched, the ring looks empty,
//! another queue works, and so does a fresh ring after a reset. `Legal` rows look wrong and are not. The device never
//! writes anything but its own words of the ring.
//!
//! Rows of split rings are here, those of packed ones in `villains/packed.rs`, hostile devices in `villains/devices.rs` and
//! `villains/kept.rs`, and what goes wrong behind an IOMMU in `villains/iommu.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;
#[path = "villains/devices.rs"]
mod devices;
#[path = "villains/iommu.rs"]
mod iommu;
#[path = "villains/kept.rs"]
mod kept;
#[path = "villains/packed.rs"]
mod packed;
#[path = "villains/rig.rs"]
mod rig;

use common::guest::*;
use rig::Outcome::{Chain, Legal, Ring};
use rig::{Raw, run_all};
use virtio_ring::{
    ChainFault, Fault, Format, MappedArea, QueueConfig, QueueState, RingError, SplitDevice, SplitDriver,
};

type Area = MappedArea<virtio_ring::HeapMemory>;
type Rig = rig::Rig<RawRing>;
type Row = rig::Row<RawRing>;

impl Raw for RawRing {
    const FORMAT: Format = Format::Split;
    /// The used index.
    type Mark = u16;

    fn new(config: QueueConfig) -> Self {
        Self(config)
    }

    fn config(&self) -> QueueConfig {
        self.0
    }

    fn offer_good(rig: &mut Rig) {
        rig.desc(0, (BUFFER, 100, NEXT, 1));
        rig.desc(1, (BUFFER + 4096, 200, WRITE, 0));
        rig.offer(0);
    }

    fn mark(rig: &Rig) -> u16 {
        rig.raw.used_idx(&rig.mem)
    }

    fn check_used(rig: &mut Rig, used: u16, held: usize, len: u32) {
        let config = rig.raw.0;
        let head = word16(&rig.mem, config.driver.0 + 4 + 2 * u64::from(used % config.size));
        assert_eq!(rig.raw.used_entry(&rig.mem, used), (head.into(), len));
        assert_eq!(rig.raw.used_idx(&rig.mem), used.wrapping_add(held as u16));
    }

    fn may_write(&self, addr: u64) -> bool {
        self.used_range().contains(&addr)
    }

    fn repair(rig: &mut Rig) {
        rig.raw.set_avail_idx(&rig.mem, rig.avail);
    }
}

impl Rig {
    /// Writes a descriptor: address, length, flags, next.
    fn desc(&self, i: u16, words: (u64, u32, u16, u16)) {
        self.raw.desc(&self.mem, i, words);
    }

    fn offer(&mut self, head: u16) {
        self.raw.avail_entry(&self.mem, self.avail, head);
        self.avail = self.avail.wrapping_add(1);
        self.raw.set_avail_idx(&self.mem, self.avail);
    }
}

/// One buffer at `addr`, offered as chain 3.
fn one(rig: &mut Rig, addr: u64, len: u32, flags: u16) {
    rig.desc(3, (addr, len, flags, 0));
    rig.offer(3);
}

/// An indirect table of `len` bytes at `addr`, offered as chain 3.
fn indirect(rig: &mut Rig, addr: u64, len: u32) {
    one(rig, addr, len, INDIRECT);
}

fn unmapped(f: ChainFault) -> bool {
    matches!(f, ChainFault::Unmapped(Fault { .. }))
}
fn too_long(f: ChainFault) -> bool {
    matches!(f, ChainFault::TooLong { .. })
}
fn too_many_bytes(f: ChainFault) -> bool {
    f == ChainFault::TooManyBytes
}
fn bad_indirect(f: ChainFault) -> bool {
    f == ChainFault::Indirect
}
fn bad_table_len(f: ChainFault) -> bool {
    matches!(f, ChainFault::IndirectLen { .. })
}
fn bad_next(f: ChainFault) -> bool {
    matches!(f, ChainFault::Next { .. })
}
fn bad_order(f: ChainFault) -> bool {
    matches!(f, ChainFault::ReadableBehindWritable { .. })
}
fn bad_head(e: RingError) -> bool {
    matches!(e, RingError::Head { .. })
}
fn bad_avail(e: RingError) -> bool {
    matches!(e, RingError::AvailIndex { .. })
}

const LOW_END: u64 = LOW.0 + LOW.1 as u64;
const ADJACENT_END: u64 = ADJACENT.0 + ADJACENT.1 as u64;
const TOP_END: u64 = TOP.0 + TOP.1 as u64;

fn drivers() -> Vec<Row> {
    let mut all = Vec::new();
    all.extend(buffers());
    all.extend(tables());
    all.extend(loops());
    all.extend(indices());
    all
}

fn buffers() -> impl IntoIterator<Item = Row> {
    rows! {
        "V001" "CVE-2018-1059" "readable buffer runs out of its region into a hole" 8
            |r| one(r, ADJACENT_END - 8, 9, 0) => Chain(unmapped);
        "V002" "CVE-2018-1059" "writable buffer runs out of its region into a hole" 8
            |r| one(r, ADJACENT_END - 8, 9, WRITE) => Chain(unmapped);
        "V003" "CVE-2019-18960" "buffer ends with the last byte of a region" 8
            |r| one(r, ADJACENT_END - 8, 8, WRITE) => Legal(0, 8);
        "V004" "CVE-2018-1059" "buffer over two adjacent regions" 8
            |r| one(r, LOW_END - 10, 30, 0) => Legal(30, 0);
        "V005" "CVE-2018-1059" "buffer covers one region, the hole and the next region" 8
            |r| one(r, ADJACENT.0, (HIGH.0 - ADJACENT.0) as u32 + 16, WRITE) => Chain(unmapped);
        "V006" "CVE-2021-3748" "first buffer in a hole, second one good" 8
            |r| { r.desc(3, (HIGH.0 - 64, 64, WRITE | NEXT, 4)); r.desc(4, (BUFFER, 64, WRITE, 0)); r.offer(3); } => Chain(unmapped);
        "V007" "CVE-2021-3748" "first buffer good, second one in a hole" 8
            |r| { r.desc(3, (BUFFER, 64, WRITE | NEXT, 4)); r.desc(4, (HIGH.0 - 64, 64, WRITE, 0)); r.offer(3); } => Chain(unmapped);
        "V008" "DPDK 070aceda33" "address plus length wraps around 2^64 from unmapped memory" 8
            |r| one(r, u64::MAX - 3, 16, 0) => Chain(unmapped);
        "V009" "DPDK 070aceda33" "address plus length wraps around 2^64 from mapped memory" 8
            |r| one(r, TOP_END - 8, 0x2000, WRITE) => Chain(unmapped);
        "V010" "vhost 98047313cdb4" "buffer ends with the last mappable byte below 2^64" 8
            |r| one(r, TOP_END - 8, 8, WRITE) => Legal(0, 8);
        "V011" "CVE-2020-10725" "no bytes at address 0 behind a good buffer" 8
            |r| { r.desc(3, (BUFFER, 20, NEXT, 4)); r.desc(4, (0, 0, 0, 0)); r.offer(3); } => Legal(20, 0);
        "V012" "CVE-2020-10725" "no bytes at an address in a hole" 8
            |r| one(r, HIGH.0 - 4096, 0, WRITE) => Legal(0, 0);
        "V013" "CVE-2019-14835" "chain of nothing but empty buffers" 8
            |r| { for i in 0..7 { r.desc(i, (u64::MAX, 0, WRITE | NEXT, i + 1)); } r.desc(7, (u64::MAX, 0, WRITE, 0)); r.offer(0); } => Legal(0, 0);
        "V014" "vm-virtio 0.8" "two buffers of 2^31 bytes" 8
            |r| { r.desc(3, (BUFFER, 1 << 31, NEXT, 4)); r.desc(4, (BUFFER, 1 << 31, 0, 0)); r.offer(3); } => Chain(|f| unmapped(f) || too_many_bytes(f));
        "V015" "vm-virtio 0.8" "sum of the lengths passes 2^32 in the second, unmapped, buffer" 8
            |r| { r.desc(3, (BUFFER, 16, NEXT, 4)); r.desc(4, (BUFFER, u32::MAX, 0, 0)); r.offer(3); } => Chain(too_many_bytes);
        "V016" "CVE-2021-36143" "buffer of 2^32 - 1 bytes" 8
            |r| one(r, BUFFER, u32::MAX, 0) => Chain(unmapped);
        "V017" "vringh" "readable buffer behind a writable one" 8
            |r| { r.desc(3, (BUFFER, 16, WRITE | NEXT, 4)); r.desc(4, (BUFFER, 16, 0, 0)); r.offer(3); } => Chain(bad_order);
        "V018" "vringh" "readable buffer behind a writable one of no bytes" 8
            |r| { r.desc(3, (BUFFER, 0, WRITE | NEXT, 4)); r.desc(4, (BUFFER, 16, 0, 0)); r.offer(3); } => Chain(bad_order);
        "V019" "CVE-2013-4127" "unknown descriptor flags" 8
            |r| one(r, BUFFER, 16, 0xFFF8) => Legal(16, 0);
        "V020" "own" "buffer is the descriptor table itself" 8
            |r| one(r, RING, 128, 0) => Legal(128, 0);
    }
}

fn tables() -> impl IntoIterator<Item = Row> {
    rows! {
        "V021" "CVE-2011-2212" "indirect table of no bytes" 8 |r| indirect(r, TABLE, 0) => Chain(bad_table_len);
        "V022" "CVE-2011-2212" "indirect table of 8 bytes" 8 |r| indirect(r, TABLE, 8) => Chain(bad_table_len);
        "V023" "CVE-2011-2212" "indirect table of 24 bytes" 8 |r| indirect(r, TABLE, 24) => Chain(bad_table_len);
        "V024" "CVE-2011-2212" "indirect table of 0xfffffff0 bytes" 8 |r| indirect(r, TABLE, 0xFFFF_FFF0) => Chain(bad_table_len);
        "V025" "vringh dbd29e07" "indirect table of 32769 entries" 8 |r| indirect(r, TABLE, (1 << 19) + 16) => Chain(bad_table_len);
        "V026" "vringh dbd29e07" "indirect table of 32768 entries, the first of which ends the chain" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); indirect(r, TABLE, 1 << 19); } => Legal(5, 0);
        "V027" "CVE-2013-4151" "indirect table inside of an indirect table" 8
            |r| { r.table(&[(TABLE, 16, INDIRECT, 0)]); indirect(r, TABLE, 16); } => Chain(bad_indirect);
        "V028" "CVE-2013-4151" "indirect table inside of an indirect table, behind a good entry" 8
            |r| { r.table(&[(BUFFER, 5, NEXT, 1), (TABLE, 16, INDIRECT | WRITE, 0)]); indirect(r, TABLE, 32); } => Chain(bad_indirect);
        "V029" "vringh" "INDIRECT and NEXT with next 0: must not be cut short" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); r.desc(0, (BUFFER, 9, 0, 0)); r.desc(3, (TABLE, 16, INDIRECT | NEXT, 0)); r.offer(3); } => Chain(bad_indirect);
        "V030" "vringh" "INDIRECT and NEXT with another next" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); r.desc(4, (BUFFER, 9, 0, 0)); r.desc(3, (TABLE, 16, INDIRECT | NEXT, 4)); r.offer(3); } => Chain(bad_indirect);
        "V031" "virtio 2.7.5.3.2" "direct buffer, then an indirect table" 8
            |r| { r.table(&[(BUFFER, 5, NEXT, 1), (BUFFER, 6, WRITE, 0)]); r.desc(3, (BUFFER, 9, NEXT, 4)); r.desc(4, (TABLE, 32, INDIRECT, 0)); r.offer(3); } => Legal(14, 6);
        "V032" "virtio 2.7.5.3.2" "WRITE on the descriptor of a table means nothing" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); one(r, TABLE, 16, INDIRECT | WRITE); } => Legal(5, 0);
        "V033" "vringh" "direct writable buffer, then a table that begins readable" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); r.desc(3, (BUFFER, 9, NEXT | WRITE, 4)); r.desc(4, (TABLE, 16, INDIRECT, 0)); r.offer(3); } => Chain(bad_order);
        "V034" "CVE-2016-4952" "table in a hole" 8 |r| indirect(r, HIGH.0 - 64, 32) => Chain(unmapped);
        "V035" "CVE-2018-1059" "table runs out of its region into a hole, and the chain with it" 8
            |r| { r.table_at(ADJACENT_END - 16, &[(BUFFER, 5, NEXT, 1)]); indirect(r, ADJACENT_END - 16, 32); } => Chain(unmapped);
        "V036" "CH 8512" "table over two adjacent regions, an entry across the border" 8
            |r| { r.table_at(LOW_END - 24, &[(BUFFER, 1, NEXT, 1), (BUFFER, 2, NEXT, 2), (BUFFER, 4, WRITE, 0)]); indirect(r, LOW_END - 24, 48); } => Legal(3, 4);
        "V037" "DPDK 070aceda33" "table wraps around 2^64" 8
            |r| { r.table_at(TOP_END - 16, &[(BUFFER, 1, NEXT, 1)]); indirect(r, TOP_END - 16, 64); } => Chain(|f| unmapped(f) || too_many_bytes(f));
        "V038" "own" "table at an odd address" 8
            |r| { r.table_at(TABLE + 1, &[(BUFFER, 5, 0, 0)]); indirect(r, TABLE + 1, 16); } => Legal(5, 0);
        "V039" "QEMU oversize" "table entry names a next behind the table" 8
            |r| { r.table(&[(BUFFER, 5, NEXT, 2), (BUFFER, 5, 0, 0), (BUFFER, 5, 0, 0)]); indirect(r, TABLE, 32); } => Chain(bad_next);
        "V040" "b46a0bf78ad7" "table of 1025 segments" 8
            |r| { long_table(r, 1025); indirect(r, TABLE, 1025 * 16); } => Chain(too_long);
        "V041" "b46a0bf78ad7" "table of 1024 segments" 8
            |r| { long_table(r, 1024); indirect(r, TABLE, 1024 * 16); } => Legal(1024, 0);
        "V042" "b46a0bf78ad7" "1024 segments, of which one lies over two regions" 8
            |r| { long_table(r, 1024); r.table_at(TABLE, &[(LOW_END - 1, 2, NEXT, 1)]); indirect(r, TABLE, 1024 * 16); } => Chain(too_long);
        "V043" "own" "table is the descriptor table: it names itself" 8
            |r| { one(r, RING, 128, INDIRECT); } => Legal(0, 0);
        "V044" "own" "table is the used ring" 8
            |r| { let used = r.raw.used_range().start; indirect(r, used, 16); } => Legal(0, 0);
    }
}

fn long_table(rig: &Rig, entries: u16) {
    let all: Vec<_> = (1..=entries).map(|i| (BUFFER, 1, if i == entries { 0 } else { NEXT }, i)).collect();
    rig.table(&all);
}

fn loops() -> impl IntoIterator<Item = Row> {
    rows! {
        "V045" "CVE-2019-9547" "descriptor names itself" 8
            |r| { r.desc(3, (BUFFER, 1, NEXT, 3)); r.offer(3); } => Chain(too_long);
        "V046" "CVE-2019-9547" "cycle of two descriptors" 8
            |r| { r.desc(3, (BUFFER, 1, NEXT, 4)); r.desc(4, (BUFFER, 1, NEXT, 3)); r.offer(3); } => Chain(too_long);
        "V047" "CVE-2019-9547" "empty buffers in a cycle through the whole table" 8
            |r| { for i in 0..8 { r.desc(i, (0, 0, NEXT, (i + 1) % 8)); } r.offer(5); } => Chain(too_long);
        "V048" "ACRN CVE-2021-36145" "table entry names itself" 8
            |r| { r.table(&[(BUFFER, 1, NEXT, 0)]); indirect(r, TABLE, 16); } => Chain(too_long);
        "V049" "ACRN CVE-2021-36145" "cycle of two table entries behind a good one" 8
            |r| { r.table(&[(BUFFER, 1, NEXT, 1), (BUFFER, 1, NEXT, 2), (BUFFER, 1, NEXT, 1)]); indirect(r, TABLE, 48); } => Chain(too_long);
        "V050" "own" "empty entries in a cycle through the longest table" 8
            |r| { r.table(&[(0, 0, NEXT, 0)]); indirect(r, TABLE, 1 << 19); } => Chain(too_long);
        "V051" "own" "chain of exactly as many descriptors as the queue has" 8
            |r| { for i in 0..8 { r.desc(i, (BUFFER, 1, if i == 7 { 0 } else { NEXT }, i + 1)); } r.offer(0); } => Legal(8, 0);
        "V052" "QEMU oversize" "next is the queue size" 8
            |r| { r.desc(3, (BUFFER, 1, NEXT, 8)); r.offer(3); } => Chain(bad_next);
        "V053" "QEMU oversize" "next is 65535" 8
            |r| { r.desc(3, (BUFFER, 1, NEXT, 65535)); r.offer(3); } => Chain(bad_next);
        "V054" "own" "next is out of range, but NEXT is not set" 8
            |r| { r.desc(3, (BUFFER, 1, 0, 65535)); r.offer(3); } => Legal(1, 0);
        "V055" "own" "queue of one: descriptor names itself" 1
            |r| { r.desc(0, (BUFFER, 1, NEXT, 0)); r.offer(0); } => Chain(too_long);
    }
}

fn indices() -> impl IntoIterator<Item = Row> {
    rows! {
        "V056" "FC 1827" "head is the queue size" 8 |r| r.offer(8) => Ring(bad_head);
        "V057" "CVE-2016-4952" "head is 65535" 8 |r| r.offer(65535) => Ring(bad_head);
        "V058" "own" "head is 0x100: no cutting to a byte" 8 |r| r.offer(0x100) => Ring(bad_head);
        "V059" "vm-virtio 0.6.1" "index jumps to size + 1" 8 |r| r.raw.set_avail_idx(&r.mem, 9) => Ring(bad_avail);
        "V060" "vm-virtio 0.6.1" "index jumps to 65535" 8 |r| r.raw.set_avail_idx(&r.mem, 65535) => Ring(bad_avail);
        "V061" "vm-virtio 0.6.1" "index jumps to 32768" 8 |r| r.raw.set_avail_idx(&r.mem, 32768) => Ring(bad_avail);
        "V062" "FC 3149" "index goes back by one after a chain was used" 8
            |r| { r.good_chain(); r.raw.set_avail_idx(&r.mem, 0); } => Ring(bad_avail);
        "V063" "FC 3149" "index goes back while chains are held" 8
            |r| {
                r.desc(0, (BUFFER, 1, 0, 0));
                r.offer(0);
                r.offer(0);
                assert_eq!(r.chains.fill(&mut r.device), Ok(2));
                r.raw.set_avail_idx(&r.mem, 1);
            } => Ring(bad_avail);
        "V064" "FC 3149" "index is size ahead of what was taken, but more than size ahead of what was used" 8
            |r| {
                r.desc(0, (BUFFER, 1, 0, 0));
                r.offer(0);
                assert_eq!(r.chains.fill(&mut r.device), Ok(1));
                r.raw.set_avail_idx(&r.mem, 9);
            } => Ring(bad_avail);
        "V065" "own" "same head twice: both come back" 8
            |r| { r.desc(3, (BUFFER, 1, 0, 0)); r.offer(3); one(r, BUFFER, 1, 0); } => Legal(1, 0);
        "V066" "THREATS 6" "index is exactly size ahead" 8
            |r| { for i in 0..8 { r.desc(i, (BUFFER, 1, 0, 0)); r.raw.avail_entry(&r.mem, i, 3); } r.raw.set_avail_idx(&r.mem, 8); r.avail = 8; } => Legal(1, 0);
        "V067" "own" "queue of one: index 2" 1 |r| r.raw.set_avail_idx(&r.mem, 2) => Ring(bad_avail);
    }
}

#[test]
fn hostile_drivers_harm_only_themselves() {
    run_all(&drivers(), |size| {
        let rig = |on| (format!("event index {on}"), Rig::new(config(size, on, true)));
        [false, true].map(rig).into()
    });
}

#[test]
fn indirect_that_was_not_negotiated_is_a_fault() {
    // V068
    for event_idx in [false, true] {
        let mut rig = Rig::new(config(8, event_idx, false));
        rig.table(&[(BUFFER, 5, 0, 0)]);
        indirect(&mut rig, TABLE, 16);
        assert_eq!(rig.chains.fill(&mut rig.device), Ok(1));
        assert_eq!(rig.chains.take_fault(), Some(ChainFault::Indirect));
        rig.finish(None);
        rig.good_chain();
    }
}

#[test]
fn a_flood_of_bad_chains_costs_nothing_but_itself() {
    // V069: a full ring of bad chains, a hundred times round, with good ones between them.
    let mut rig = Rig::new(config(16, true, true));
    rig.table(&[(BUFFER, 1, NEXT, 0)]);
    for _ in 0..100 {
        for head in 0..16 {
            rig.desc(head, (TABLE, 16, INDIRECT, 0));
            rig.offer(head);
        }
        assert_eq!(rig.chains.fill(&mut rig.device), Ok(16));
        rig.finish(None);
        rig.good_chain();
    }
}

/// Rows of set-up: nothing starts on a queue that cannot be.
#[test]
fn impossible_queues_do_not_start() {
    type Change = fn(&mut QueueConfig);
    type Expected = fn(RingError) -> bool;
    let rows: [(&str, Change, Expected); 15] = [
        ("V070 size 0", |c| c.size = 0, |e| e == RingError::Size { size: 0 }),
        ("V071 size 3", |c| c.size = 3, |e| e == RingError::Size { size: 3 }),
        ("V072 size 65535", |c| c.size = 65535, |e| e == RingError::Size { size: 65535 }),
        ("V073 size 32767", |c| c.size = 32767, |e| e == RingError::Size { size: 32767 }),
        ("V074 table at 8", |c| c.desc.0 += 8, |e| matches!(e, RingError::Misaligned { align: 16, .. })),
        ("V075 available ring at 1", |c| c.driver.0 += 1, |e| matches!(e, RingError::Misaligned { align: 2, .. })),
        ("V076 used ring at 2", |c| c.device.0 += 2, |e| matches!(e, RingError::Misaligned { align: 4, .. })),
        ("V077 table in a hole", |c| c.desc.0 = HIGH.0 - 4096, |e| matches!(e, RingError::Unmapped(_))),
        ("V078 table runs into a hole", |c| c.desc.0 = ADJACENT_END - 16, |e| matches!(e, RingError::Unmapped(_))),
        ("V079 table over two regions", |c| c.desc.0 = LOW_END - 16, |e| matches!(e, RingError::Unmapped(_))),
        ("V080 available ring over two regions", |c| c.driver.0 = LOW_END - 4, |e| matches!(e, RingError::Unmapped(_))),
        ("V081 used ring over two regions", |c| c.device.0 = LOW_END - 4, |e| matches!(e, RingError::Unmapped(_))),
        ("V082 used ring at the top", |c| c.device.0 = u64::MAX - 3, |e| matches!(e, RingError::Unmapped(_))),
        (
            "V083 used ring one byte too short",
            |c| c.device.0 = ADJACENT_END - 68,
            |e| matches!(e, RingError::Unmapped(_)),
        ),
        (
            "V084 everything at the top",
            |c| {
                (c.desc.0, c.driver.0, c.device.0) = (!15, !1, !3);
            },
            |e| matches!(e, RingError::Unmapped(_)),
        ),
    ];
    let mem = memory();
    for (name, change, expected) in rows {
        let mut config = config(8, true, true);
        change(&mut config);
        let before = snapshot(&mem);
        let device = SplitDevice::new(&mem, &config, QueueState::default()).err();
        assert!(device.is_some_and(expected), "{name}: device {device:?}");
        let driver = SplitDriver::new(&mem, &config).err();
        assert!(driver.is_some_and(expected), "{name}: driver {driver:?}");
        assert!(changed(&before, &snapshot(&mem)).is_empty(), "{name}");
    }
}

#[test]
fn areas_at_the_very_end_of_a_region_work() {
    // V085: the last byte of each area is the last byte of the region.
    let base = config(8, true, true);
    for place in [0, 1, 2] {
        let mut config = base;
        match place {
            0 => config.desc.0 = LOW_END - 128,
            1 => config.driver.0 = ADJACENT_END - 22,
            _ => config.device.0 = ADJACENT_END - 72, // 70 bytes, rounded up to the alignment
        }
        let mut rig = Rig::new(config);
        for _ in 0..20 {
            rig.good_chain();
        }
    }
}

#[test]
fn a_restored_index_is_not_trusted() {
    // V086: CVE-2013-4148..4151
    let config = config(8, true, true);
    let mem = memory();
    let raw = RawRing(config);
    for (used, state, good) in [
        (0, 0, true),
        (0, 8, true),
        (0, 9, false),
        (5, 4, false),
        (65530, 2, true),
        (65530, 3, false),
        (0, 0xFFFF, false),
    ] {
        raw.set_used_idx(&mem, used);
        let device = SplitDevice::new(&mem, &config, QueueState(state));
        assert_eq!(device.is_ok(), good, "used {used}, state {state}");
        if !good {
            let avail = state as u16;
            assert_eq!(device.err(), Some(RingError::State { avail, used, size: 8 }));
        }
    }
}
