//! Golden traces: the exact bytes of small rings after scripted steps, worked out by hand from virtio 1.3, 2.7 and 2.8.
//!
//! Our driver against what a device expects to find, our device against what drivers expect to find, and each against
//! bytes that other peers are known to write.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use common::guest::{RING, bytes, poke};
use common::peers::{List, Setup};
use virtio_ring::{
    AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, HeapMemory, MappedArea, Notify,
    QueueState, Token, Used,
};

type Area = MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;

const TABLES: u64 = 0x4000;

struct Trace {
    mem: HeapMemory,
    setup: Setup,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
}

const fn readable(addr: u64, len: u32) -> Element {
    Element { addr: GuestAddr(addr), len, writable: false }
}

const fn writable(addr: u64, len: u32) -> Element {
    Element { addr: GuestAddr(addr), len, writable: true }
}

impl Trace {
    fn new(setup: Setup) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x1_0000).unwrap();
        let driver = setup.driver(&mem, (TABLES, 2));
        let device = setup.fresh_device(&mem);
        Self { mem, setup, driver, device }
    }

    fn packed(size: u16, event_idx: bool, in_order: bool) -> Self {
        Self::new(Setup { event_idx, in_order, ..Setup::new(Format::Packed, size) })
    }

    /// Adds a chain and checks which one it is.
    fn add(&mut self, id: u16, elements: &[Element]) {
        assert_eq!(self.driver.add(elements), Ok(Handle(id)));
    }

    fn flush(&mut self) -> Notify {
        self.driver.flush()
    }

    /// Takes the next chain, which has these elements.
    fn take(&mut self, elements: &[Element]) -> Token {
        let mut list = List::default();
        let token = self.device.peek(&self.mem, &mut list).unwrap().unwrap().accept();
        assert_eq!(list.0, elements);
        token
    }

    /// The device uses the chains with these lengths, all at once.
    fn serve(&mut self, chains: &[(&[Element], u32)]) -> Notify {
        for (elements, written) in chains {
            let token = self.take(elements);
            self.device.complete(token, *written);
        }
        self.device.flush()
    }

    fn used(&mut self, id: u16, len: u32) {
        assert_eq!(self.driver.poll_used(), Ok(Some(Used { handle: Handle(id), len })));
    }

    /// The descriptors of the packed ring, the words of each: address, length, id, flags.
    #[track_caller]
    fn slots(&self, expected: &[(u64, u32, u16, u16)]) {
        let raw = bytes(&self.mem, RING, 16 * usize::from(self.setup.size));
        let flat = |&(addr, len, id, flags): &(u64, u32, u16, u16)| {
            [&addr.to_le_bytes()[..], &len.to_le_bytes(), &id.to_le_bytes(), &flags.to_le_bytes()].concat()
        };
        let expected: Vec<u8> = expected.iter().flat_map(flat).collect();
        let lines = |b: &[u8]| b.chunks(16).map(|c| format!("{c:02x?}")).collect::<Vec<_>>();
        assert_eq!(lines(&raw), lines(&expected));
    }

    /// Another device uses a slot: writes the words of its tail.
    fn uses(&self, slot: u64, len: Option<u32>, id: u16, flags: u16) {
        if let Some(len) = len {
            poke(&self.mem, RING + 16 * slot + 8, &len.to_le_bytes());
        }
        poke(&self.mem, RING + 16 * slot + 12, &[id.to_le_bytes(), flags.to_le_bytes()].concat());
    }

    fn event(&self, addr: GuestAddr) -> Vec<u8> {
        bytes(&self.mem, addr.0, 4)
    }
}

/// Chains of two descriptors around a ring of three: the second one lies across its end.
///
/// Flags (2.8.1, 2.8.5): NEXT 1, WRITE 2, INDIRECT 4, AVAIL 0x80, USED 0x8000. Available on the first lap is 0x80, used
/// 0x8080; on the second lap 0x8000 and 0.
#[test]
fn p2_p6_p7_packed_chains_across_the_end_of_the_ring() {
    let mut t = Trace::packed(3, false, false);
    t.slots(&[(0, 0, 0, 0); 3]);
    let one = [readable(0xa000, 0x11), writable(0xb000, 0x22)];
    t.add(0, &one);
    // Nothing may be visible before the flush: the first descriptor's flags come last (2.8.6).
    t.slots(&[(0xa000, 0, 0, 0), (0xb000, 0x22, 0, 0x82), (0, 0, 0, 0)]);
    assert_eq!(t.flush(), Notify::Needed);
    t.slots(&[(0xa000, 0x11, 0, 0x81), (0xb000, 0x22, 0, 0x82), (0, 0, 0, 0)]);
    // One used descriptor for the chain, where its first one was: length, id of the buffer, WRITE because of the bytes.
    assert_eq!(t.serve(&[(&one, 0x20)]), Notify::Needed);
    t.slots(&[(0xa000, 0x20, 0, 0x8082), (0xb000, 0x22, 0, 0x82), (0, 0, 0, 0)]);
    assert_eq!(t.device.state(), QueueState(0x8002_8002));
    t.used(0, 0x20);

    let two = [writable(0xc000, 0x33), writable(0xd000, 0x44)];
    t.add(1, &two);
    assert_eq!(t.flush(), Notify::Needed);
    // Slot 2 is of the first lap, slot 0 of the second: AVAIL 0, USED 1.
    t.slots(&[(0xd000, 0x44, 1, 0x8002), (0xb000, 0x22, 0, 0x82), (0xc000, 0x33, 1, 0x83)]);
    assert_eq!(t.serve(&[(&two, 0)]), Notify::Needed);
    // Nothing written: no WRITE.
    t.slots(&[(0xd000, 0x44, 1, 0x8002), (0xb000, 0x22, 0, 0x82), (0xc000, 0, 1, 0x8080)]);
    assert_eq!(t.device.state(), QueueState(0x0001_0001));
    t.used(1, 0);

    // The second lap: available is 0x8000, used is 0.
    t.add(2, &one[..1]);
    t.add(0, &two[..1]);
    assert_eq!(t.flush(), Notify::Needed);
    t.slots(&[(0xd000, 0x44, 1, 0x8002), (0xa000, 0x11, 2, 0x8000), (0xc000, 0x33, 0, 0x8002)]);
    let (first, second) = (t.take(&one[..1]), t.take(&two[..1]));
    // Out of order: the entries come in the order of completion (2.8.9 does not hold), ids tell which.
    t.device.complete(second, 1);
    t.device.complete(first, 0);
    // Again the first entry last.
    t.slots(&[(0xd000, 0x44, 1, 0x8002), (0xa000, 0x11, 2, 0x8000), (0xc000, 0, 2, 0)]);
    assert_eq!(t.device.flush(), Notify::Needed);
    t.slots(&[(0xd000, 0x44, 1, 0x8002), (0xa000, 1, 0, 2), (0xc000, 0, 2, 0)]);
    assert_eq!(t.device.state(), QueueState(0x8000_8000), "third lap");
    t.used(0, 1);
    t.used(2, 0);
}

/// 2.8.7: a table has only addresses, lengths and WRITE; the descriptor that names it takes one slot.
#[test]
fn p7_packed_indirect_tables() {
    let mut t = Trace::new(Setup { indirect: true, ..Setup::new(Format::Packed, 2) });
    let chain = [readable(0xa000, 0x11), writable(0xb000, 0x22)];
    t.add(0, &chain);
    t.add(1, &chain);
    assert_eq!(t.flush(), Notify::Needed);
    t.slots(&[(TABLES, 0x20, 0, 0x84), (TABLES + 0x20, 0x20, 1, 0x84)]);
    let table = [
        [0x00, 0xa0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0],
        [0x00, 0xb0, 0, 0, 0, 0, 0, 0, 0x22, 0, 0, 0, 0, 0, 2, 0],
    ];
    assert_eq!(bytes(&t.mem, TABLES, 0x20), table.concat());
    assert_eq!(t.serve(&[(&chain, 0x22), (&chain, 0)]), Notify::Needed);
    t.slots(&[(TABLES, 0x22, 0, 0x8082), (TABLES + 0x20, 0, 1, 0x8080)]);
}

/// 2.8.10: offset and wrap counter in the first two bytes, flags in the last two; ENABLE 0, DISABLE 1, DESC 2.
#[test]
fn p10_packed_event_words() {
    for event_idx in [false, true] {
        let mut t = Trace::packed(3, event_idx, false);
        let config = t.setup.config();
        let words = |t: &Trace| (t.event(config.driver), t.event(config.device));
        assert_eq!(words(&t), (vec![0; 4], vec![0; 4]));
        t.driver.disarm();
        t.device.disarm();
        assert_eq!(words(&t), (vec![0, 0, 1, 0], vec![0, 0, 1, 0]));
        t.add(0, &[writable(0xa000, 1), writable(0xb000, 1)]);
        assert_eq!(t.flush(), Notify::Suppressed);
        assert_eq!(t.serve(&[(&[writable(0xa000, 1), writable(0xb000, 1)], 1)]), Notify::Suppressed);
        assert!(t.device.arm());
        assert!(!t.driver.arm(), "something is used");
        let (driver, device) =
            if event_idx { ([0, 0x80, 2, 0], [2, 0x80, 2, 0]) } else { ([0, 0, 0, 0], [0, 0, 0, 0]) };
        assert_eq!(words(&t), (driver.to_vec(), device.to_vec()));
        t.used(0, 1);
        t.add(1, &[writable(0xa000, 1), writable(0xb000, 1)]);
        assert_eq!(t.flush(), Notify::Needed, "slots 2 and 0 of the next lap");
        let _ = t.take(&[writable(0xa000, 1), writable(0xb000, 1)]);
        assert!(t.device.arm());
        assert_eq!(t.event(config.device), if event_idx { [1, 0, 2, 0] } else { [0; 4] });
    }
}

/// An event in the middle of what is published, of a chain too, is passed (2.8.10): equality would miss it.
#[test]
fn p10_packed_events_inside_of_chains() {
    for (event, wanted) in [
        ([0, 0x80, 2, 0], true),  // the first slot
        ([1, 0x80, 2, 0], true),  // the middle of the chain
        ([2, 0x80, 2, 0], true),  // its end
        ([3, 0x80, 2, 0], false), // the next one
        ([1, 0x00, 2, 0], false), // a lap later
        ([4, 0x80, 2, 0], true),  // not in the ring: said to everybody
        ([0xff, 0x7f, 2, 0], true),
        ([1, 0x80, 1, 0], false),
        ([1, 0x80, 0, 0], true),
        ([3, 0x80, 3, 0], true),        // reserved: as ENABLE
        ([3, 0x80, 0xfd, 0xff], false), // reserved bits beside DISABLE
        ([3, 0x80, 0xfe, 0xff], false), // and beside DESC
    ] {
        let chain = [writable(0xa000, 1), writable(0xb000, 1), writable(0xc000, 1)];
        let mut t = Trace::packed(4, true, false);
        let config = t.setup.config();
        poke(&t.mem, config.device.0, &event);
        poke(&t.mem, config.driver.0, &event);
        t.add(0, &chain);
        assert_eq!(t.flush().is_needed(), wanted, "driver, {event:02x?}");
        assert_eq!(t.serve(&[(&chain, 0)]).is_needed(), wanted, "device, {event:02x?}");
    }
}

/// 2.8.9: one used descriptor for a run, at the place of its first chain, with the id of its last. The skipped ones count
/// as used completely, so only those may be skipped that had nothing to write to.
#[test]
fn g12_packed_runs_in_order() {
    let (tx, rx) = ([readable(0xa000, 0x11)], [writable(0xb000, 0x22)]);
    let ctrl = [tx[0], rx[0]];
    let mut t = Trace::packed(8, false, true);
    for (id, chain) in [&tx[..], &ctrl, &tx, &rx, &rx].into_iter().enumerate() {
        t.add(id as u16, chain);
    }
    assert_eq!(t.flush(), Notify::Needed);
    assert_eq!(t.serve(&[(&tx, 0), (&ctrl, 1), (&tx, 0), (&rx, 0), (&rx, 0x22)]), Notify::Needed);
    t.slots(&[
        (0xa000, 1, 1, 0x8082), // ids 0 and 1: the length is the last one's
        (0xa000, 0x11, 1, 0x81),
        (0xb000, 0x22, 1, 0x82),
        (0xa000, 0, 3, 0x8080), // ids 2 and 3: nothing was written to 3, and that is said
        (0xb000, 0x22, 3, 0x82),
        (0xb000, 0x22, 4, 0x8082),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
    ]);
    for (id, len) in [(0, 0), (1, 1), (2, 0), (3, 0), (4, 0x22)] {
        t.used(id, len);
    }
    assert_eq!((t.driver.poll_used(), t.driver.free_slots()), (Ok(None), 8));
}

/// The same in the split format (2.7.9): the entries of what was skipped stay as they were.
#[test]
fn g12_split_runs_in_order() {
    let (tx, rx) = ([readable(0xa000, 0x11)], [writable(0xb000, 0x22)]);
    let ctrl = [tx[0], rx[0]];
    let mut t = Trace::new(Setup { in_order: true, ..Setup::new(Format::Split, 8) });
    for (id, chain) in [(0, &tx[..]), (1, &ctrl), (3, &tx), (4, &rx), (5, &rx)] {
        t.add(id, chain);
    }
    assert_eq!(t.flush(), Notify::Needed);
    assert_eq!(t.serve(&[(&tx, 0), (&ctrl, 1), (&tx, 0), (&rx, 0), (&rx, 0x22)]), Notify::Needed);
    let used = [
        &[0, 0, 5, 0][..],
        &[1, 0, 0, 0, 1, 0, 0, 0], // heads 0 and 1
        &[0; 8],
        &[4, 0, 0, 0, 0, 0, 0, 0], // heads 3 and 4
        &[0; 8],
        &[5, 0, 0, 0, 0x22, 0, 0, 0],
    ];
    let used = used.concat();
    assert_eq!(bytes(&t.mem, t.setup.config().device.0, used.len()), used);
    for (id, len) in [(0, 0), (1, 1), (3, 0), (4, 0), (5, 0x22)] {
        t.used(id, len);
    }
    assert_eq!((t.driver.poll_used(), t.driver.free_slots()), (Ok(None), 8));
}

/// A device that filled several receive buffers completely may give them back with one entry.
#[test]
fn what_a_run_skips_was_used_completely() {
    let rx = [0x30, 0x40, 0x50].map(|len| [writable(0xb000, len)]);
    let mut packed = Trace::packed(4, false, true);
    let mut split = Trace::new(Setup { in_order: true, ..Setup::new(Format::Split, 4) });
    for t in [&mut packed, &mut split] {
        for (id, chain) in rx.iter().enumerate() {
            t.add(id as u16, chain);
        }
        let _ = t.flush();
    }
    packed.uses(0, Some(0x12), 2, 0x8082);
    let used = split.setup.config().device.0;
    poke(&split.mem, used + 4, &[2, 0, 0, 0, 0x12, 0, 0, 0]);
    poke(&split.mem, used + 2, &[3, 0]);
    for t in [&mut packed, &mut split] {
        for (id, len) in [(0, 0x30), (1, 0x40), (2, 0x12)] {
            t.used(id, len);
        }
        assert_eq!((t.driver.poll_used(), t.driver.free_slots()), (Ok(None), 4));
    }
}

/// 2.8.4: without WRITE a used descriptor's length is reserved. DPDK's vhost leaves the transmitted buffer's length
/// there; QEMU, the other way round, never sets WRITE, so that a length that can be is one.
#[test]
fn packed_lengths_without_write() {
    for in_order in [false, true] {
        let mut t = Trace::packed(4, false, in_order);
        t.add(0, &[readable(0xa000, 0x11)]);
        t.add(1, &[writable(0xb000, 0x22)]);
        t.add(2, &[readable(0xa000, 0x11), writable(0xb000, 0x10)]);
        assert_eq!(t.flush(), Notify::Needed);
        t.uses(0, None, 0, 0x8080);
        t.uses(1, Some(0x21), 1, 0x8080);
        t.uses(2, None, 2, 0x8080);
        t.used(0, 0);
        t.used(1, 0x21);
        t.used(2, 0);
        assert_eq!((t.driver.poll_used(), t.driver.free_slots()), (Ok(None), 4));
    }
}

/// 2.7.5 to 2.7.8: the three areas of a split ring of two.
#[test]
fn split_chains_and_indices() {
    let mut t = Trace::new(Setup { event_idx: true, ..Setup::new(Format::Split, 2) });
    let chain = [readable(0xa000, 0x11), writable(0xb000, 0x22)];
    let ring = |t: &Trace| {
        let c = t.setup.config();
        [bytes(&t.mem, c.desc.0, 32), bytes(&t.mem, c.driver.0, 10), bytes(&t.mem, c.device.0, 22)]
    };
    t.add(0, &chain);
    assert_eq!(ring(&t)[1], [0; 10], "not visible before the flush");
    assert_eq!(t.flush(), Notify::Needed);
    assert_eq!(t.serve(&[(&chain, 0x20)]), Notify::Needed);
    t.used(0, 0x20);
    t.add(0, &chain);
    assert_eq!(t.flush(), Notify::Suppressed, "the device asked for the first one only");
    assert!(!t.device.arm());
    assert_eq!(t.serve(&[(&chain, 0)]), Notify::Suppressed);
    t.used(0, 0);
    assert!(t.device.arm() && t.driver.arm());
    let [desc, avail, used] = ring(&t);
    let table = [
        [0x00, 0xa0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 1, 0, 1, 0],
        [0x00, 0xb0, 0, 0, 0, 0, 0, 0, 0x22, 0, 0, 0, 2, 0, 0, 0],
    ];
    assert_eq!(desc, table.concat());
    // Flags, index, the two heads, used_event.
    assert_eq!(avail, [0, 0, 2, 0, 0, 0, 0, 0, 2, 0]);
    // Flags, index, id and length twice, avail_event.
    assert_eq!(used, [0, 0, 2, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
}
