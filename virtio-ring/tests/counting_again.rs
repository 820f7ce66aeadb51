//! Exactly what is written for what was there before: tables of the same shape, chains that are posted again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;

use common::counting::{Counts, Watched, WatchedArea};
use common::guest::{BUFFER, Memory, TABLE, memory};
use common::peers::{List, Setup};
use virtio_ring::{
    AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, HeapMemory, MappedArea, Reposting,
};

type Area = WatchedArea<MappedArea<HeapMemory>>;

/// What the watched side wrote: words and bytes, the tails of packed slots among them.
fn written(mem: &Watched<Memory>) -> (u64, u64) {
    let Counts { writes, written_bytes, store_release, .. } = mem.take();
    (writes + store_release, written_bytes + 8 * store_release)
}

/// Serves everything that is available, the last first if the ring allows; all chains say `expected`, in turn.
fn serve(mem: &Memory, device: &mut AnyDevice<MappedArea<HeapMemory>>, reverse: bool, written: u32) -> Vec<Element> {
    let (mut tokens, mut list) = (Vec::new(), List::default());
    while let Some(peeked) = device.peek(mem, &mut list).unwrap() {
        tokens.push(peeked.accept());
    }
    if reverse {
        tokens.reverse();
    }
    for token in tokens {
        device.complete(token, written);
    }
    let _ = device.flush();
    list.0
}

/// Rings of 8 entries, split and packed, in order or not.
fn rings(indirect: bool) -> [Setup; 4] {
    [(Format::Split, false), (Format::Split, true), (Format::Packed, false), (Format::Packed, true)]
        .map(|(format, in_order)| Setup { event_idx: true, in_order, indirect, ..Setup::new(format, 8) })
}

/// What one chain in a table costs besides the table, until the flush: its descriptor, and the entry of the available
/// ring. The tail of the first slot of a packed ring waits for the flush.
fn beside_the_table(setup: Setup, chains: u64) -> (u64, u64) {
    match setup.format {
        Format::Split => (3 * chains, 18 * chains),
        Format::Packed => (2 * chains - 1, 16 * chains - 8),
    }
}

/// Three elements, of which the one behind the header moves.
fn request(n: u64, at: u64) -> [Element; 3] {
    let element = |at, len, writable| Element { addr: GuestAddr(BUFFER + at), len, writable };
    [element(0x1000 * n, 16, false), element(0x1000 * n + at, 512, true), element(0x1000 * n + 0x800, 1, true)]
}

#[test]
fn a_table_is_written_once_for_a_shape_that_comes_again() {
    for setup in rings(true) {
        // Three requests that are used again and again, in a ring of eight descriptors: none of them has the same
        // descriptor twice in a row, and in the packed ring ids come back last in, first out.
        let mem = memory();
        let watched = Watched::new(mem.clone());
        let mut driver = setup.driver(&watched, (TABLE, 4));
        let mut device = setup.fresh_device(&mem);
        watched.take();
        for round in 0..30_u64 {
            let turn = |n| request((n + round) % 3, 0x100);
            for n in 0..3 {
                driver.add(&turn(n)).unwrap();
            }
            let (words, bytes) = beside_the_table(setup, 3);
            // Six words a table the first time.
            let (more, longer) = if round == 0 { (18, 144) } else { (0, 0) };
            assert_eq!(written(&watched), (words + more, bytes + longer), "round {round}, {setup:?}");
            let _ = driver.flush();
            let seen = serve(&mem, &mut device, !setup.in_order && round % 2 == 1, 1);
            assert_eq!(seen, [0, 1, 2].map(turn).concat());
            while driver.poll_used().unwrap().is_some() {}
            watched.take();
        }
    }
}

#[test]
fn of_another_shape_only_what_differs_is_written() {
    for setup in rings(true) {
        // A ring that is kept full: every descriptor has its turn again after a lap, or its table goes where it is.
        let (mem, one) = (memory(), beside_the_table(setup, 1));
        let watched = Watched::new(mem.clone());
        let setup = Setup { size: 1, ..setup };
        let mut driver = setup.driver(&watched, (TABLE, 4));
        let mut device = setup.fresh_device(&mem);
        let longer = [&request(0, 0x200)[..], &request(1, 0x200)[..1]].concat();
        // The last of three says so, and no longer does as the third of four.
        let longer = longer.into_iter().map(|e| Element { writable: true, ..e }).collect::<Vec<_>>();
        let all_writable = request(0, 0x200).map(|e| Element { writable: true, ..e });
        let split = u64::from(setup.format == Format::Split);
        let steps: [(&str, &[Element], u64); 7] = [
            ("nothing is known", &request(0, 0x100), 6),
            ("the same", &request(0, 0x100), 0),
            ("an address moves", &request(0, 0x200), 1),
            ("a direction changes", &all_writable, 1),
            ("one more: its two words, and that it follows", &longer, 2 + split),
            ("one less: that none follows", &all_writable, split),
            ("all others move, the lengths stay", &request(1, 0x200).map(|e| Element { writable: true, ..e }), 3),
        ];
        for (what, elements, words) in steps {
            watched.take();
            driver.add(elements).unwrap();
            assert_eq!(written(&watched), (one.0 + words, one.1 + 8 * words), "{what}, {setup:?}");
            let _ = driver.flush();
            assert_eq!(serve(&mem, &mut device, false, 1), elements, "{what}, {setup:?}");
            driver.poll_used().unwrap().unwrap();
        }
    }
}

struct Again {
    mem: Memory,
    watched: Watched<Memory>,
    driver: Reposting<AnyDriver<Area>>,
    device: AnyDevice<MappedArea<HeapMemory>>,
}

impl Again {
    /// A ring with `posted` chains, all published.
    fn new(setup: Setup, posted: &[Vec<Element>]) -> Self {
        let mem = memory();
        let watched = Watched::new(mem.clone());
        let mut driver = Reposting::new(setup.driver(&watched, (TABLE, 4)));
        let device = setup.fresh_device(&mem);
        for elements in posted {
            driver.add(elements).unwrap();
        }
        let _ = driver.flush();
        Self { mem, watched, driver, device }
    }

    /// The device uses all, the driver posts all again: what that wrote besides the flush's index, event word and first
    /// tail.
    fn round(&mut self, reverse: bool) -> (u64, u64) {
        serve(&self.mem, &mut self.device, reverse, 1);
        let mut kept = Vec::new();
        while let Some(used) = self.driver.poll_kept().unwrap() {
            kept.push(used.handle);
        }
        self.watched.take();
        for handle in kept {
            self.driver.repost(handle).unwrap();
        }
        let all = written(&self.watched);
        let _ = self.driver.flush();
        self.watched.take();
        all
    }
}

fn buffers(n: u64) -> Vec<Vec<Element>> {
    (0..n).map(|i| vec![Element { addr: GuestAddr(BUFFER + 0x1000 * i), len: 64, writable: true }]).collect()
}

#[test]
fn a_full_ring_is_posted_again_without_a_descriptor() {
    for setup in rings(false) {
        let mut again = Again::new(setup, &buffers(8));
        for round in 0..20 {
            // Split: the entries of the available ring. Packed: descriptors, whose first tail waits for the flush.
            let expected = if setup.format == Format::Split { (8, 16) } else { (15, 120) };
            assert_eq!(again.round(false), expected, "round {round}, {setup:?}");
        }
        assert_eq!(serve(&again.mem, &mut again.device, false, 0), buffers(8).concat());
    }
}

#[test]
fn chains_of_several_descriptors_are_posted_again_as_they_are() {
    let pairs: Vec<_> = buffers(8).chunks(2).map(<[_]>::concat).collect();
    for setup in rings(false) {
        let mut again = Again::new(setup, &pairs);
        for round in 0..20 {
            let expected = if setup.format == Format::Split { (4, 8) } else { (15, 120) };
            assert_eq!(again.round(false), expected, "round {round}, {setup:?}");
        }
        assert_eq!(serve(&again.mem, &mut again.device, false, 0), pairs.concat());
    }
    // The same in tables, which are not written either.
    for setup in rings(true) {
        let pairs: Vec<_> = (0..8).map(|n| buffers(16)[2 * n..2 * n + 2].concat()).collect();
        let mut again = Again::new(setup, &pairs);
        for round in 0..20 {
            let expected = if setup.format == Format::Split { (8, 16) } else { (15, 120) };
            assert_eq!(again.round(false), expected, "round {round}, {setup:?}");
        }
        assert_eq!(serve(&again.mem, &mut again.device, false, 0), pairs.concat());
    }
}

#[test]
fn a_split_ring_not_in_order_takes_chains_back_in_any_order() {
    let mut again = Again::new(Setup::new(Format::Split, 8), &buffers(5));
    for round in 0..20 {
        assert_eq!(again.round(round % 2 == 0), (5, 10));
    }
}

#[test]
fn a_circle_that_is_not_full_costs_the_descriptors() {
    let setup = Setup { in_order: true, ..Setup::new(Format::Split, 8) };
    let mut again = Again::new(setup, &buffers(5));
    for _ in 0..20 {
        // Two words of the descriptor, and the entry.
        assert_eq!(again.round(false), (15, 90));
        assert_eq!(again.driver.free_slots(), 3);
    }
    assert_eq!(serve(&again.mem, &mut again.device, false, 0), buffers(5).concat());
}
