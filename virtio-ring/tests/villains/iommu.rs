//! V190 to V200: what a hostile driver, or whoever answers for its IOMMU, can do to a device whose translations come late.

use virtio_ring::{
    Access, AnyDevice, AnyDriver, ChainFault, Chains, DeviceRing, DriverRing, Element, Fault, Format, GuestAddr,
    GuestSlice, RingError, Used,
};

use crate::Area;
use crate::common::guest::{ADJACENT, BUFFER, Memory, NEXT, RawPacked, TABLE, bytes, descriptor, memory, poke};
use crate::common::iotlb::{Iotlb, PAGE, Perm};
use crate::common::peers::Setup;

/// Where the device sees buffers.
const IOVA: u64 = 0xF_0000_0000;
/// Below this addresses are what they are.
const RINGS: u64 = BUFFER;

/// A driver on plain memory, and a device that sees it through a cache.
struct Rig {
    mem: Memory,
    tlb: Iotlb<Memory>,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
    chains: Chains<Iotlb<Memory>>,
}

impl Rig {
    fn new(setup: Setup) -> Self {
        let mem = memory();
        let tlb = Iotlb::new(mem.clone());
        assert!(tlb.update(0, RINGS, 0, Perm::Both));
        let driver = setup.driver(&mem, (TABLE, 4));
        let device = setup.fresh_device(&tlb);
        Self { mem, chains: Chains::new(tlb.clone(), 8), tlb, driver, device }
    }

    fn offer(&mut self, elements: &[Element]) {
        self.driver.add(elements).unwrap();
        let _ = self.driver.flush();
    }

    fn fill(&mut self) -> usize {
        self.chains.fill(&mut self.device).unwrap()
    }

    /// Nothing comes, because of this.
    fn misses(&mut self) -> Fault {
        let held = self.chains.len();
        assert_eq!(self.fill(), held);
        assert!(!self.device.arm(), "a chain is there");
        self.device.missing().unwrap()
    }

    /// The oldest chain, a good one, goes back; its bytes to read and to write.
    fn finish(&mut self) -> (u32, u32) {
        let chain = &self.chains.view().chains()[0];
        assert!(!chain.is_faulty());
        let seen = (chain.readable_len(), chain.writable_len());
        self.give_back();
        seen
    }

    /// The oldest chain, a bad one, goes back; the last fault.
    fn finish_bad(&mut self) -> ChainFault {
        assert!(self.chains.view().chains()[0].is_faulty());
        self.give_back();
        self.chains.take_fault().unwrap()
    }

    fn give_back(&mut self) {
        let token = self.chains.pop().unwrap();
        self.device.complete(token, 0);
        let _ = self.device.flush();
        assert!(matches!(self.driver.poll_used(), Ok(Some(Used { len: 0, .. }))));
    }

    /// A good chain goes through.
    fn good(&mut self) {
        assert!(self.tlb.update(IOVA, PAGE, BUFFER, Perm::Both));
        self.offer(&[buffer(0, 10, false), buffer(64, 20, true)]);
        assert_eq!(self.fill(), 1);
        assert_eq!(self.finish(), (10, 20));
        assert_eq!((self.fill(), self.device.missing()), (0, None));
        assert!(self.device.arm());
    }
}

const fn buffer(offset: u64, len: u32, writable: bool) -> Element {
    Element { addr: GuestAddr(IOVA + offset), len, writable }
}

fn each(test: impl Fn(Rig)) {
    for format in [Format::Split, Format::Packed] {
        for setup in Setup::with_features(format, 8) {
            test(Rig::new(setup));
        }
    }
}

/// V190 (vhost: miss storms): a buffer of many pages, each of which is missed, a hundred times over. The pool does not fill
/// up with what it saw before, each look asks for one page, and the chain comes in the end.
#[test]
fn a_storm_of_misses_ends() {
    each(|mut rig| {
        let pages = ADJACENT.1 as u64 / PAGE;
        for round in 0..100 {
            // Held all the time, as by a device that is busy with it.
            assert!(rig.tlb.update(IOVA + (1 << 32), PAGE, BUFFER, Perm::Read));
            rig.offer(&[buffer(1 << 32, 8, false)]);
            assert_eq!(rig.fill(), 1);
            rig.tlb.misses();
            rig.offer(&[buffer(0, ADJACENT.1 as u32, true)]);
            for page in 0..pages {
                let (at, left) = (IOVA + page * PAGE, (pages - page) * PAGE);
                assert_eq!(rig.misses(), Fault::missing(GuestAddr(at), left, Access::Write), "round {round}");
                assert_eq!(rig.tlb.misses().len(), 1, "each look asks once");
                assert!(rig.tlb.update(at, PAGE, ADJACENT.0 + page * PAGE, Perm::Both));
            }
            assert_eq!(rig.fill(), 2);
            assert_eq!([rig.finish(), rig.finish()], [(8, 0), (0, ADJACENT.1 as u32)]);
            rig.tlb.invalidate(IOVA, u64::MAX);
        }
        rig.good();
    });
}

/// V191 (vhost e2ae38cf3d91): an answer of no bytes is none.
#[test]
fn an_entry_of_no_bytes_answers_nothing() {
    each(|mut rig| {
        rig.offer(&[buffer(0, 10, false)]);
        let miss = rig.misses();
        assert!(!rig.tlb.update(miss.addr.0, 0, BUFFER, Perm::Both));
        assert_eq!(rig.misses(), miss);
        assert!(rig.tlb.update(miss.addr.0, 1, BUFFER, Perm::Both));
        assert_eq!(rig.misses(), Fault::missing(GuestAddr(IOVA + 1), 9, Access::Read));
        rig.tlb.update(IOVA + 1, 9, BUFFER + 1, Perm::Both);
        assert_eq!(rig.fill(), 1);
        assert_eq!(rig.finish(), (10, 0));
        rig.good();
    });
}

/// V192 (vhost 98047313cdb4): one entry for the whole address space but its last byte, which is the most that fits a size.
#[test]
fn an_entry_of_everything_is_not_an_entry_of_nothing() {
    each(|mut rig| {
        assert!(rig.tlb.update(0, u64::MAX, 0, Perm::Both));
        rig.offer(&[Element { addr: GuestAddr(BUFFER), len: 100, writable: true }]);
        // In the entry, and in no memory.
        rig.offer(&[Element { addr: GuestAddr(IOVA), len: u32::MAX, writable: true }]);
        // The last bytes of the entry, and one that is not in it; and wrapped around.
        rig.offer(&[Element { addr: GuestAddr(u64::MAX - 16), len: 17, writable: false }]);
        rig.offer(&[Element { addr: GuestAddr(u64::MAX - 16), len: 100, writable: false }]);
        assert_eq!(rig.fill(), 2);
        assert_eq!(rig.device.missing().map(|f| f.addr), Some(GuestAddr(u64::MAX)));
        assert_eq!(rig.finish(), (0, 100));
        assert!(matches!(rig.finish_bad(), ChainFault::Unmapped(Fault { missing: false, .. })));
        assert!(rig.tlb.update(u64::MAX, 1, BUFFER, Perm::Both));
        assert_eq!(rig.fill(), 2);
        assert_eq!(rig.finish(), (17, 0));
        assert_eq!(rig.finish_bad(), ChainFault::TooManyBytes, "nothing behind the last address");
        rig.good();
    });
}

/// V193 (CH #8512, #8542): a buffer over two mappings of 4 KiB, elsewhere in memory each.
#[test]
fn a_buffer_over_two_mappings_is_two_segments() {
    each(|mut rig| {
        for (page, at) in [(0, BUFFER + 8 * PAGE), (1, BUFFER)] {
            assert!(rig.tlb.update(IOVA + page * PAGE, PAGE, at, Perm::Both));
        }
        poke(&rig.mem, BUFFER + 9 * PAGE - 3, b"abc");
        poke(&rig.mem, BUFFER, b"defg");
        rig.offer(&[buffer(PAGE - 3, 7, false), buffer(2 * PAGE - 5, 5, true)]);
        assert_eq!(rig.fill(), 1);
        let view = rig.chains.view();
        let (mut data, mut at) = ([0; 7], 0);
        for seg in view.readable(&view.chains()[0]) {
            at += seg.read(&mut data[at..]);
        }
        let lens: Vec<_> = view.readable(&view.chains()[0]).iter().map(GuestSlice::len).collect();
        assert_eq!((&data, lens), (b"abcdefg", vec![3, 4]));
        assert_eq!(rig.finish(), (7, 5));
        rig.good();
    });
}

/// V194 (vhost: overlap): an answer that overlaps what was known replaces it, and nothing beside it.
#[test]
fn the_newest_entry_counts() {
    each(|mut rig| {
        assert!(rig.tlb.update(IOVA, 4 * PAGE, BUFFER, Perm::Both));
        assert!(rig.tlb.update(IOVA + PAGE - 1, 2, BUFFER + 8 * PAGE, Perm::Both));
        poke(&rig.mem, BUFFER + 8 * PAGE, b"..");
        poke(&rig.mem, BUFFER + PAGE - 2, b"a~~b");
        rig.offer(&[buffer(PAGE - 2, 4, false)]);
        assert_eq!(rig.fill(), 1);
        let view = rig.chains.view();
        let all: Vec<u8> = view
            .readable(&view.chains()[0])
            .iter()
            .flat_map(|seg| {
                let mut data = vec![0; seg.len()];
                seg.read(&mut data);
                data
            })
            .collect();
        assert_eq!(all, b"a..b");
        assert_eq!(rig.finish(), (4, 0));
        rig.good();
    });
}

/// V195: an entry that is there and does not allow it is no miss: the chain comes back with length 0, and nothing is
/// written.
#[test]
fn an_entry_without_the_right_ends_the_chain() {
    each(|mut rig| {
        for (perm, writable) in [(Perm::Read, true), (Perm::Write, false), (Perm::None, true), (Perm::None, false)] {
            assert!(rig.tlb.update(IOVA, PAGE, BUFFER, perm));
            rig.offer(&[buffer(0, 10, writable)]);
            assert_eq!(rig.fill(), 1);
            let access = if writable { Access::Write } else { Access::Read };
            let fault = Fault::forbidden(GuestAddr(IOVA), 10, access);
            assert_eq!(rig.finish_bad(), ChainFault::Unmapped(fault));
        }
        rig.good();
    });
}

/// V196: what was just given is taken away before the second look, for ever: no chain, no fault, and the ring lives.
#[test]
fn a_translation_that_never_stays_costs_only_its_driver() {
    each(|mut rig| {
        rig.offer(&[buffer(0, 10, false), buffer(PAGE, 10, true)]);
        let state = rig.device.state();
        for round in 0..1000_u64 {
            let page = round % 2;
            let miss = rig.misses();
            assert_eq!(miss.addr, GuestAddr(IOVA + page * PAGE), "round {round}");
            rig.tlb.invalidate(IOVA, 2 * PAGE);
            if page == 0 {
                assert!(rig.tlb.update(IOVA, PAGE, BUFFER, Perm::Both));
            }
        }
        assert_eq!((rig.device.state(), rig.device.fault()), (state, None));
        assert!(rig.tlb.update(IOVA, 2 * PAGE, BUFFER, Perm::Both));
        assert_eq!(rig.fill(), 1);
        assert_eq!(rig.finish(), (10, 10));
        rig.good();
    });
}

/// V197: the driver rewrites a chain while it waits. It is taken as it is at the last look, whole, and once.
#[test]
fn a_chain_that_changes_while_it_waits_is_taken_as_it_is_then() {
    for format in [Format::Split, Format::Packed] {
        let setup = Setup::new(format, 8);
        let mut rig = Rig::new(setup);
        rig.offer(&[buffer(0, 10, false), buffer(64, 20, true)]);
        rig.misses();
        let at = setup.config().desc.0;
        let second = bytes(&rig.mem, at + 16, 16);
        // Length and address of the first descriptor.
        poke(&rig.mem, at, &(IOVA + PAGE).to_le_bytes());
        poke(&rig.mem, at + 8, &7_u32.to_le_bytes());
        assert_eq!(rig.misses(), Fault::missing(GuestAddr(IOVA + PAGE), 7, Access::Read));
        assert!(rig.tlb.update(IOVA, 2 * PAGE, BUFFER, Perm::Both));
        assert_eq!(bytes(&rig.mem, at + 16, 16), second, "the device wrote nothing");
        assert_eq!(rig.fill(), 1);
        assert_eq!(rig.finish(), (7, 20));
        rig.good();
    }
}

/// V198: a miss does not hide what is wrong behind it. A packed chain without an end breaks the ring at once, a split one
/// with a loop comes back when the miss is over.
#[test]
fn a_miss_hides_nothing() {
    let setup = Setup::new(Format::Packed, 4);
    let mut rig = Rig::new(setup);
    let raw = RawPacked(setup.config());
    for slot in 0..4 {
        raw.desc(&rig.mem, slot, (IOVA, 1, 0, NEXT | RawPacked::AVAIL));
    }
    let error = rig.chains.fill(&mut rig.device).unwrap_err();
    assert_eq!(error, RingError::PackedChain { slot: 0, most: 4 });
    assert_eq!((rig.device.fault(), rig.device.missing()), (Some(error), None));
    assert!(rig.device.arm(), "a broken ring does not keep its device awake");

    let setup = Setup::new(Format::Split, 8);
    let mut rig = Rig::new(setup);
    rig.offer(&[buffer(0, 1, false), buffer(1, 1, false)]);
    poke(&rig.mem, setup.config().desc.0 + 16, &descriptor(IOVA, 1, NEXT, 0));
    rig.misses();
    assert!(rig.tlb.update(IOVA, PAGE, BUFFER, Perm::Both));
    assert_eq!(rig.fill(), 1);
    assert_eq!(rig.finish_bad(), ChainFault::TooLong { max: 8 });
    rig.good();
}

/// V199: the queue is reset while a chain waits, and the answer comes when nobody waits any more.
#[test]
fn a_reset_ends_the_waiting() {
    each(|mut rig| {
        rig.offer(&[buffer(0, 10, false)]);
        rig.offer(&[buffer(64, 10, true)]);
        assert!(rig.tlb.update(IOVA, 16, BUFFER, Perm::Both));
        assert_eq!(rig.fill(), 1);
        rig.misses();
        rig.chains.reset(&mut rig.device);
        assert_eq!((rig.device.missing(), rig.chains.len()), (None, 0));
        let mut back = Vec::new();
        rig.driver.reset(|handle| back.push(handle));
        assert_eq!(back.len(), 2);
        assert_eq!((rig.fill(), rig.device.missing()), (0, None));
        assert!(rig.device.arm());
        rig.good();
    });
}

/// V200 (vhost b46a0bf78ad7): a table of 1024 entries whose pages come one by one, and then its buffers.
#[test]
fn a_long_table_comes_page_by_page() {
    for format in [Format::Split, Format::Packed] {
        let setup = Setup { indirect: true, ..Setup::new(format, 8) };
        let mem = memory();
        let tlb = Iotlb::new(mem.clone());
        let table = IOVA + 0x100_0000;
        assert!(tlb.update(0, RINGS, 0, Perm::Both));
        let entries: u16 = 1024;
        // Not at the start of a page: an entry over each border.
        for i in 0..entries {
            let next = if i + 1 == entries { (0, 0) } else { (NEXT, i + 1) };
            let flags = if format == Format::Packed { (0, 0) } else { next };
            let entry = match format {
                Format::Split => descriptor(IOVA, 1, flags.0, flags.1),
                Format::Packed => descriptor(IOVA, 1, 0, 0),
            };
            poke(&mem, TABLE + 8 + 16 * u64::from(i), &entry);
        }
        let mut driver = AnyDriver::new(&mem, format, &setup.config()).unwrap();
        // Lies: the descriptor of a buffer becomes that of the table.
        driver.add(&[Element { addr: GuestAddr(table + 8), len: 16 * u32::from(entries), writable: false }]).unwrap();
        let _ = driver.flush();
        let at = setup.config().desc.0 + if format == Format::Split { 12 } else { 14 };
        let flags = u16::from_le_bytes(bytes(&mem, at, 2).try_into().unwrap());
        poke(&mem, at, &(flags | 4).to_le_bytes());
        let mut device = setup.fresh_device(&tlb);
        let mut chains = Chains::new(tlb.clone(), 8);
        let mut misses = Vec::new();
        while chains.fill(&mut device) == Ok(0) {
            let miss = device.missing().unwrap();
            misses.push(miss.addr.0 / PAGE * PAGE);
            assert!(misses.len() < 10, "{misses:x?}");
            let page = *misses.last().unwrap();
            let to = if page == IOVA { BUFFER } else { TABLE + (page - table) };
            assert!(tlb.update(page, PAGE, to, Perm::Read));
        }
        let pages = [0, 1, 2, 3, 4].map(|n| table + n * PAGE);
        assert_eq!(misses, [&pages[..1], &[IOVA], &pages[1..]].concat(), "{format:?}");
        let token = {
            let view = chains.view();
            assert_eq!((view.chains()[0].is_faulty(), view.chains()[0].readable_len()), (false, entries.into()));
            chains.pop().unwrap()
        };
        device.complete(token, 0);
        let _ = device.flush();
        assert!(matches!(driver.poll_used(), Ok(Some(Used { len: 0, .. }))));
    }
}
