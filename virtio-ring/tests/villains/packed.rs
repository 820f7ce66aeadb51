//! V130 to V169: what a hostile driver can put into a packed ring, and hostile state.

use std::collections::VecDeque;

use proptest::prelude::*;
use virtio_ring::{ChainFault, DeviceRing, Format, PackedDevice, PackedDriver, QueueConfig, QueueState, RingError};

use crate::common::guest::*;
use crate::common::peers::{List, Setup};
use crate::rig::Outcome::{Chain, Legal, Ring};
use crate::rig::{Raw, Rig, Row, run_all};
use crate::{
    ADJACENT_END, LOW_END, TOP_END, bad_indirect, bad_order, bad_table_len, rows, too_long, too_many_bytes, unmapped,
};

const AVAIL: u16 = RawPacked::AVAIL;
const USED: u16 = RawPacked::USED;

/// A driver that knows where it is in the ring laid out twice, and nothing else.
pub(crate) struct Peer {
    ring: RawPacked,
    next: u16,
    used: u16,
    /// Slots and id of what was made available as it should be.
    offered: VecDeque<(u16, u16)>,
}

impl Peer {
    fn slot(&self, position: u16) -> u16 {
        position % self.ring.0.size
    }

    /// True on the first lap.
    fn wrap(&self, position: u16) -> bool {
        position % (2 * self.ring.0.size) < self.ring.0.size
    }

    fn avail(&self, position: u16) -> u16 {
        if self.wrap(position) { AVAIL } else { USED }
    }
}

impl Raw for Peer {
    const FORMAT: Format = Format::Packed;
    type Mark = ();

    fn new(config: QueueConfig) -> Self {
        Self { ring: RawPacked(config), next: 0, used: 0, offered: VecDeque::new() }
    }

    fn config(&self) -> QueueConfig {
        self.ring.0
    }

    fn offer_good(rig: &mut Rig<Self>) {
        rig.put(&[(BUFFER, 100, 0, NEXT), (BUFFER + 4096, 200, 3, WRITE)]);
    }

    fn mark(_rig: &Rig<Self>) {}

    fn check_used(rig: &mut Rig<Self>, (): (), held: usize, len: u32) {
        for i in 1..=held {
            let len = if i == held { len } else { 0 };
            let peer = &mut rig.raw;
            let (count, id) = peer.offered.pop_front().unwrap();
            let flags = if peer.wrap(peer.used) { AVAIL | USED } else { 0 } | if len > 0 { WRITE } else { 0 };
            assert_eq!(peer.ring.tail(&rig.mem, peer.slot(peer.used)), (len, id, flags));
            peer.used += count;
        }
    }

    fn may_write(&self, addr: u64) -> bool {
        self.ring.may_write(addr)
    }

    fn repair(rig: &mut Rig<Self>) {
        for position in rig.raw.used..rig.raw.used + rig.raw.ring.0.size {
            rig.slot(position, (BUFFER, 1, 0, rig.raw.avail(position)));
        }
    }
}

impl Rig<Peer> {
    /// Writes address, length, id and flags, all of them, to a slot.
    fn slot(&self, position: u16, words: (u64, u32, u16, u16)) {
        self.raw.ring.desc(&self.mem, self.raw.slot(position), words);
    }

    /// Writes descriptors, with the flags that make them available, without noting a chain.
    fn write(&mut self, chain: &[(u64, u32, u16, u16)]) {
        // Last to first, as a driver does.
        for (i, (addr, len, id, flags)) in chain.iter().enumerate().rev() {
            let at = self.raw.next + i as u16;
            self.slot(at, (*addr, *len, *id, flags | self.raw.avail(at)));
        }
        self.raw.next += chain.len() as u16;
    }

    /// Makes a chain available.
    fn put(&mut self, chain: &[(u64, u32, u16, u16)]) {
        self.write(chain);
        self.raw.offered.push_back((chain.len() as u16, chain[chain.len() - 1].2));
    }

    /// The device takes all there is.
    fn fill(&mut self, expected: usize) {
        assert_eq!(self.chains.fill(&mut self.device), Ok(expected));
    }

    /// One chain of a table of `len` bytes at `addr`.
    fn indirect(&mut self, addr: u64, len: u32) {
        self.put(&[(addr, len, 6, INDIRECT)]);
    }

    fn long_table(&self, entries: usize) {
        self.table(&vec![(BUFFER, 1, 0, 0); entries]);
    }

    /// Brings both sides to a position, a buffer at a time.
    fn forward(&mut self, position: u16) {
        while self.raw.next < position {
            self.put(&[(BUFFER, 1, 5, WRITE)]);
            self.fill(1);
            self.finish(Some((0, 1)));
        }
    }
}

/// Rings of one size: with and without the event index, at the start, before and behind both wraps.
fn rigs(size: u16) -> Vec<(String, Rig<Peer>)> {
    let mut all = Vec::new();
    for event_idx in [false, true] {
        for position in [0, 1, size - 1, size, 2 * size - 1, 2 * size] {
            let setup = Setup { event_idx, indirect: true, ..Setup::new(Format::Packed, size) };
            let mut rig = Rig::new(setup.config());
            rig.forward(position);
            all.push((format!("event index {event_idx}, from {position}"), rig));
        }
    }
    all
}

fn endless(e: RingError) -> bool {
    matches!(e, RingError::PackedChain { .. })
}

#[test]
fn hostile_drivers_of_packed_rings_harm_only_themselves() {
    let mut all: Vec<Row<Peer>> = Vec::new();
    all.extend(chains());
    all.extend(tables());
    run_all(&all, rigs);
}

/// One byte to read, and the chain goes on.
const MORE: (u64, u32, u16, u16) = (BUFFER, 1, 0, NEXT);
/// The end of such a chain.
const LAST: (u64, u32, u16, u16) = (BUFFER, 1, 2, 0);

fn chains() -> impl IntoIterator<Item = Row<Peer>> {
    rows! {
        "V131" "CVE-2018-1059" "buffer runs out of its region into a hole" 8
            |r| r.put(&[(ADJACENT_END - 8, 9, 0, 0)]) => Chain(unmapped);
        "V132" "CVE-2021-3748" "first buffer in a hole: the chain is walked to its end all the same" 8
            |r| r.put(&[(HIGH.0 - 64, 64, 9, WRITE | NEXT), (BUFFER, 64, 9, WRITE | NEXT), (BUFFER, 64, 4, WRITE)]) => Chain(unmapped);
        "V133" "CVE-2018-1059" "buffer over two adjacent regions" 8
            |r| r.put(&[(LOW_END - 10, 30, 0, 0)]) => Legal(30, 0);
        "V134" "CVE-2020-10725" "no bytes at address 0 and in a hole among four descriptors" 8
            |r| r.put(&[(BUFFER, 5, 0, NEXT), (0, 0, 0, NEXT), (BUFFER, 6, 0, WRITE | NEXT), (HIGH.0 - 64, 0, 0, WRITE)]) => Legal(5, 6);
        "V135" "vringh" "readable buffer behind a writable one, in the middle of a chain" 8
            |r| r.put(&[(BUFFER, 5, 0, NEXT | WRITE), (BUFFER, 6, 0, NEXT), (BUFFER, 7, 1, WRITE)]) => Chain(bad_order);
        "V136" "vm-virtio 0.8" "sum of the lengths passes 2^32" 8
            |r| r.put(&[(BUFFER, 16, 0, NEXT), (BUFFER, u32::MAX, 0, NEXT), LAST]) => Chain(too_many_bytes);
        "V137" "CVE-2019-9547" "chain without an end: NEXT on every slot" 8
            |r| r.write(&[MORE; 8]) => Ring(endless);
        "V138" "CVE-2019-9547" "queue of one: NEXT on its only slot" 1
            |r| r.write(&[MORE]) => Ring(endless);
        "V139" "own" "chain of exactly as many descriptors as the queue has" 8
            |r| r.put(&[MORE, MORE, MORE, MORE, MORE, MORE, MORE, LAST]) => Legal(8, 0);
        "V140" "own" "chain of exactly as many descriptors as are not the device's" 8
            |r| {
                for _ in 0..3 { r.put(&[(BUFFER, 5, 7, 0)]); }
                r.fill(3);
                r.put(&[MORE, MORE, MORE, MORE, LAST]);
            } => Legal(5, 0);
        "V141" "own" "NEXT leads into descriptors that the device holds" 8
            |r| {
                for _ in 0..3 { r.put(&[(BUFFER, 5, 7, 0)]); }
                r.fill(3);
                r.write(&[MORE; 5]);
            } => Ring(endless);
        "V142" "own" "the same, and those end there" 8
            |r| {
                r.put(&[(BUFFER, 5, 7, 0)]);
                r.fill(1);
                r.write(&[MORE; 7]);
            } => Ring(endless);
        "V143" "own" "unknown flags" 8
            |r| r.put(&[(BUFFER, 16, 0, 0x7F78)]) => Legal(16, 0);
        "V144" "own" "id 0xffff comes back" 8
            |r| r.put(&[(BUFFER, 16, 0xFFFF, 0)]) => Legal(16, 0);
        "V145" "virtio 2.8.6" "every descriptor of a chain has another id: the last one's comes back" 8
            |r| r.put(&[(BUFFER, 1, 1, NEXT), (BUFFER, 2, 0xFFFE, NEXT), (BUFFER, 3, 0x8000, 0)]) => Legal(6, 0);
        "V146" "own" "same id twice: both come back" 8
            |r| { r.put(&[(BUFFER, 1, 7, 0)]); r.put(&[(BUFFER, 1, 7, 0)]); } => Legal(1, 0);
        "V147" "own" "only the first descriptor of a chain is marked available" 8
            |r| {
                let at = r.raw.next;
                r.put(&[MORE, (BUFFER, 1, 2, NEXT), LAST]);
                // The other lap's flags, and flags that mean neither.
                r.slot(at + 1, (BUFFER, 1, 2, NEXT | (r.raw.avail(at + 1) ^ (AVAIL | USED))));
                r.slot(at + 2, (BUFFER, 1, 2, AVAIL | USED));
            } => Legal(3, 0);
        "V148" "own" "the driver takes its flags back once the device has the chain" 8
            |r| {
                let at = r.raw.next;
                r.put(&[MORE, LAST]);
                r.fill(1);
                r.slot(at, (u64::MAX, u32::MAX, 0xFFFF, 0xFFFF));
                r.slot(at + 1, (u64::MAX, u32::MAX, 0xFFFF, 0));
            } => Legal(2, 0);
        "V149" "own" "everything is the device's, and the driver makes the first slots available once more" 8
            |r| {
                let at = r.raw.next;
                for _ in 0..8 { r.put(&[(BUFFER, 1, 7, 0)]); }
                r.fill(8);
                for i in 0..8 { r.slot(at + i, (BUFFER, 1, 9, r.raw.avail(at + 8 + i))); }
                r.fill(8);
                assert!(r.device.arm(), "nothing to do");
            } => Legal(1, 0);
    }
}

fn tables() -> impl IntoIterator<Item = Row<Peer>> {
    rows! {
        "V150" "CVE-2011-2212" "table of no bytes" 8 |r| r.indirect(TABLE, 0) => Chain(bad_table_len);
        "V151" "CVE-2011-2212" "table of 8 bytes" 8 |r| r.indirect(TABLE, 8) => Chain(bad_table_len);
        "V152" "CVE-2011-2212" "table of 24 bytes" 8 |r| r.indirect(TABLE, 24) => Chain(bad_table_len);
        "V153" "CVE-2011-2212" "table of 0xfffffff0 bytes" 8 |r| r.indirect(TABLE, 0xFFFF_FFF0) => Chain(bad_table_len);
        "V154" "vringh dbd29e07" "table of 32769 entries" 8 |r| r.indirect(TABLE, (1 << 19) + 16) => Chain(bad_table_len);
        "V155" "b46a0bf78ad7" "table of 1025 segments" 8
            |r| { r.long_table(1025); r.indirect(TABLE, 1025 * 16); } => Chain(too_long);
        "V156" "b46a0bf78ad7" "table of 1024 segments" 8
            |r| { r.long_table(1024); r.indirect(TABLE, 1024 * 16); } => Legal(1024, 0);
        "V157" "virtio 2.8.7 P8" "of a table's flags only WRITE counts, of its ids nothing" 8
            // Of an entry the id comes before the flags.
            |r| { r.table(&[(BUFFER, 5, 0xFFFF, !WRITE), (BUFFER, 6, 99, 0xFFFF), (BUFFER, 7, 0, WRITE)]); r.indirect(TABLE, 48); } => Legal(5, 13);
        "V158" "virtio 2.8.7" "WRITE on the descriptor of a table means nothing" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); r.put(&[(TABLE, 16, 6, INDIRECT | WRITE)]); } => Legal(5, 0);
        "V159" "vringh" "INDIRECT and NEXT: not cut short, and given back as a whole" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); r.put(&[(TABLE, 16, 6, INDIRECT | NEXT), (BUFFER, 9, 4, 0)]); } => Chain(bad_indirect);
        "V160" "vringh" "INDIRECT and NEXT without an end" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); r.write(&[(TABLE, 16, 6, INDIRECT | NEXT); 8]); } => Ring(endless);
        "V161" "virtio 2.8.7" "direct buffer, then a table" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0), (BUFFER, 6, 0, WRITE)]); r.put(&[(BUFFER, 9, 0, NEXT), (TABLE, 32, 6, INDIRECT)]); } => Legal(14, 6);
        "V162" "vringh" "direct writable buffer, then a table that begins readable" 8
            |r| { r.table(&[(BUFFER, 5, 0, 0)]); r.put(&[(BUFFER, 9, 0, NEXT | WRITE), (TABLE, 16, 6, INDIRECT)]); } => Chain(bad_order);
        "V163" "CVE-2018-1059" "table runs out of its region into a hole, all of it counts" 8
            |r| { r.table_at(ADJACENT_END - 16, &[(BUFFER, 5, 0, 0)]); r.indirect(ADJACENT_END - 16, 32); } => Chain(unmapped);
        "V164" "CH 8512" "table over two adjacent regions, an entry across the border" 8
            |r| { r.table_at(LOW_END - 24, &[(BUFFER, 1, 0, 0), (BUFFER, 2, 0, 0), (BUFFER, 4, 0, WRITE)]); r.indirect(LOW_END - 24, 48); } => Legal(3, 4);
        "V165" "DPDK 070aceda33" "table wraps around 2^64" 8
            |r| { r.table_at(TOP_END - 16, &[(BUFFER, 1, 0, 0)]); r.indirect(TOP_END - 16, 64); } => Chain(|f| unmapped(f) || too_many_bytes(f));
        "V166" "CVE-2019-14835" "table of 1024 empty buffers" 8
            |r| { r.table(&vec![(u64::MAX, 0, 0, WRITE); 1024]); r.indirect(TABLE, 1024 * 16); } => Legal(0, 0);
    }
}

/// V130, P4: of the four combinations of AVAIL and USED exactly one makes a slot available, another one on each lap.
#[test]
fn p4_only_the_flip_of_avail_makes_a_slot_available() {
    for size in [1, 2, 3, 8] {
        for position in 0..4 * size {
            for flags in [0, AVAIL, USED, AVAIL | USED] {
                let mut rig = Rig::<Peer>::new(Setup::new(Format::Packed, size).config());
                rig.forward(position);
                let wanted = flags == rig.raw.avail(position);
                rig.slot(position, (BUFFER, 1, 0, flags));
                assert_eq!(rig.device.arm(), !wanted, "size {size}, position {position}, flags {flags:#x}");
                rig.fill(usize::from(wanted));
            }
        }
    }
}

/// V167: tables that were not negotiated.
#[test]
fn indirect_that_was_not_negotiated_is_a_fault_of_the_chain() {
    let mut rig = Rig::<Peer>::new(Setup::new(Format::Packed, 3).config());
    rig.table(&[(BUFFER, 5, 0, 0)]);
    for _ in 0..5 {
        rig.indirect(TABLE, 16);
        rig.fill(1);
        assert_eq!(rig.chains.take_fault(), Some(ChainFault::Indirect));
        rig.finish(None);
        rig.good_chain();
    }
}

/// V168: a full ring of bad chains, a hundred times round, with good ones between them.
#[test]
fn a_flood_of_bad_chains_costs_nothing_but_itself() {
    let mut rig = Rig::<Peer>::new(Setup { indirect: true, ..Setup::new(Format::Packed, 15) }.config());
    rig.table(&[(HIGH.0 - 64, 1, 0, 0)]);
    for _ in 0..100 {
        for _ in 0..5 {
            rig.indirect(TABLE, 16);
            rig.put(&[(BUFFER, 1, 0, WRITE | NEXT), LAST]);
        }
        rig.fill(10);
        rig.finish(None);
        rig.good_chain();
    }
}

/// V169: set-up. Nothing starts on a queue that cannot be.
#[test]
fn impossible_queues_do_not_start() {
    type Change = fn(&mut QueueConfig);
    type Expected = fn(RingError) -> bool;
    fn misaligned<const ALIGN: usize>(e: RingError) -> bool {
        matches!(e, RingError::Misaligned { align, .. } if align == ALIGN)
    }
    fn unmapped(e: RingError) -> bool {
        matches!(e, RingError::Unmapped(_))
    }
    let rows: [(&str, Change, Expected); 12] = [
        ("size 0", |c| c.size = 0, |e| e == RingError::PackedSize { size: 0 }),
        ("size 32769", |c| c.size = 32_769, |e| e == RingError::PackedSize { size: 32_769 }),
        ("size 65535", |c| c.size = 65_535, |e| e == RingError::PackedSize { size: 65_535 }),
        ("ring at 8", |c| c.desc.0 += 8, misaligned::<16>),
        ("driver's event word at 2", |c| c.driver.0 += 2, misaligned::<4>),
        ("device's event word at 1", |c| c.device.0 += 1, misaligned::<4>),
        ("ring in a hole", |c| c.desc.0 = HIGH.0 - 4096, unmapped),
        ("ring runs into a hole", |c| c.desc.0 = ADJACENT_END - 16, unmapped),
        ("ring over two regions", |c| c.desc.0 = LOW_END - 16, unmapped),
        ("event word over two regions", |c| c.driver.0 = LOW_END - 2, unmapped),
        ("event word runs into a hole", |c| c.device.0 = ADJACENT_END - 2, unmapped),
        ("event word at the top", |c| c.device.0 = !3, unmapped),
    ];
    let mem = memory();
    for (name, change, expected) in rows {
        let mut config = Setup::new(Format::Packed, 7).config();
        change(&mut config);
        let before = snapshot(&mem);
        let device = PackedDevice::new(&mem, &config, QueueState::PACKED).err();
        assert!(device.is_some_and(expected), "{name}: device {device:?}");
        let driver = PackedDriver::new(&mem, &config).err();
        assert!(driver.is_some_and(expected), "{name}: driver {driver:?}");
        assert!(changed(&before, &snapshot(&mem)).is_empty(), "{name}");
    }
}

/// What has to come of a restored state, if slots have these flags: worked out on the ring laid out twice, place by place.
fn restored(avail: u16, used: u16, flags: &[u16]) -> Result<(), RingError> {
    let size = flags.len() as u16;
    let laps: Vec<u16> = (0..size).map(|i| i | 0x8000).chain(0..size).collect();
    let place = |bits| laps.iter().position(|p| *p == bits);
    let at = place(avail).ok_or(RingError::PackedAvail { avail, size })?;
    let behind = place(used).ok_or(RingError::PackedUsed { used, size })?;
    let held = (0..laps.len()).find(|n| (behind + n) % laps.len() == at).unwrap();
    if held > usize::from(size) {
        return Err(RingError::PackedOrder { avail, used, size });
    }
    for n in 0..held {
        let place = laps[(behind + n) % laps.len()];
        let (slot, wanted) = (place & 0x7FFF, if place & 0x8000 != 0 { AVAIL } else { USED });
        if flags[usize::from(slot)] & (AVAIL | USED) != wanted {
            return Err(RingError::PackedHeld { avail, used, slot });
        }
    }
    Ok(())
}

/// Restored state: CVE-2013-4148..4151.
#[test]
fn a_restored_state_is_not_trusted() {
    let mem = memory();
    for size in 1..=6 {
        let config = Setup::new(Format::Packed, size).config();
        // Each slot as the driver left it on the first lap, on the second, or not yet at all.
        let flags: Vec<u16> = (0..size).map(|i| [AVAIL, USED, 0][usize::from(i + size) % 3]).collect();
        for (slot, flags) in (0..size).zip(&flags) {
            RawPacked(config).desc(&mem, slot, (BUFFER, 1, 0, *flags));
        }
        // Every place that is one, those just beyond, and what has all bits.
        let near = |wrap: u16| (0..size + 2).chain([0x7FFF]).map(move |i| i | wrap);
        let near: Vec<u16> = near(0).chain(near(0x8000)).collect();
        let far = (0..=u16::MAX).flat_map(|bits| [(bits, 0x8000), (0x8000, bits)]);
        let pairs = near.iter().flat_map(|a| near.iter().map(|u| (*a, *u)));
        for (avail, used) in pairs.chain(far) {
            let state = QueueState(u32::from(used) << 16 | u32::from(avail));
            let device = PackedDevice::new(&mem, &config, state).map(|d| assert_eq!(d.state(), state));
            assert_eq!(device, restored(avail, used, &flags), "size {size}, avail {avail:#x}, used {used:#x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any state on any bytes: no panic, every word within the ring, an end.
    #[test]
    fn any_state_on_any_ring_is_survived(
        size in 1..=9_u16,
        avail: u16,
        used: u16,
        features in any::<[bool; 3]>(),
        slots in prop::collection::vec((0..0x40_0000_u64, 0..70_000_u32, any::<u16>(), any::<u16>()), 9),
    ) {
        let [event_idx, indirect, in_order] = features;
        let setup = Setup { event_idx, indirect, in_order, ..Setup::new(Format::Packed, size) };
        let config = setup.config();
        let mem = memory();
        let raw = RawPacked(config);
        for (i, words) in (0..size).zip(&slots) {
            raw.desc(&mem, i, *words);
        }
        let flags: Vec<u16> = slots.iter().take(size.into()).map(|words| words.3).collect();
        // Half of the states that can be, and all kinds of others.
        let bits = |b: u16| if b & 1 == 0 { (((b >> 1) & 0x7FFF) % size) | (b & 0x8000) } else { b };
        let (avail, used) = (bits(avail), bits(used));
        let device = PackedDevice::new(&mem, &config, QueueState(u32::from(used) << 16 | u32::from(avail)));
        prop_assert_eq!(device.as_ref().map(|_| ()).map_err(|e| *e), restored(avail, used, &flags));
        let Ok(mut device) = device else { return Ok(()) };
        let before = snapshot(&mem);
        for _ in 0..50 {
            let mut list = List::default();
            let Ok(Some(peeked)) = device.peek(&mem, &mut list) else { break };
            let token = peeked.accept();
            device.complete(token, list.0.len() as u32);
            if list.0.len() % 2 == 0 {
                let _ = device.flush();
            }
        }
        let _ = (device.flush(), device.arm(), device.state());
        let changed = changed(&before, &snapshot(&mem));
        prop_assert!(changed.into_iter().all(|a| raw.may_write(a)));
    }
}
