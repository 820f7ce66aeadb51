//! Split rings.

use virtio_ring::{DeviceRing, Element, Format, GuestAddr, HeapMemory, Notify, QueueState, SplitDevice};

use crate::Area;
use crate::common::guest::{INDIRECT, NEXT, RawRing, TABLE, WRITE, config, descriptor, poke};
use crate::common::peers::{List, Setup};

/// A device, and the driver's words of the ring.
struct Ring {
    mem: HeapMemory,
    raw: RawRing,
    device: SplitDevice<Area>,
    avail: u16,
}

impl Ring {
    fn new(size: u16, event_idx: bool) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x10_0000).unwrap();
        let config = config(size, event_idx, true);
        let device = SplitDevice::new(&mem, &config, QueueState::SPLIT).unwrap();
        Self { mem, raw: RawRing(config), device, avail: 0 }
    }

    /// The driver's flags: 1 asks for silence.
    fn set_flags(&self, flags: u16) {
        poke(&self.mem, self.raw.0.driver.0, &flags.to_le_bytes());
    }

    fn set_used_event(&self, event: u16) {
        poke(&self.mem, self.raw.0.driver.0 + 4 + 2 * u64::from(self.raw.0.size), &event.to_le_bytes());
    }

    fn offer(&mut self, head: u16) {
        self.raw.avail_entry(&self.mem, self.avail, head);
        self.avail = self.avail.wrapping_add(1);
        self.raw.set_avail_idx(&self.mem, self.avail);
    }

    /// The elements of the next chain, which is used.
    fn take(&mut self) -> Vec<Element> {
        let mut list = List::default();
        let peeked = self.device.peek(&self.mem, &mut list).unwrap().unwrap();
        assert_eq!(peeked.fault(), None);
        let token = peeked.accept();
        self.device.complete(token, 0);
        list.0
    }

    /// So many chains are used at once.
    fn burst(&mut self, chains: u16) -> Notify {
        for _ in 0..chains {
            self.offer(0);
            self.take();
        }
        self.device.flush()
    }
}

/// Every event, which means nothing; bursts of every length.
#[test]
fn s7_s8_s9_without_the_event_index_the_flag_decides_alone() {
    let mut ring = Ring::new(4, false);
    for event in 0..=u16::MAX {
        ring.set_used_event(event);
        for flags in [0, 1] {
            ring.set_flags(flags);
            let chains = 1 + event % 4;
            assert_eq!(ring.burst(chains).is_needed(), flags == 0, "event {event}, flags {flags}, {chains} chains");
        }
    }
}

/// Bursts around the 16-bit index more than once; events around each of them.
#[test]
fn s10_s11_s12_with_the_event_index_it_decides_alone() {
    let mut ring = Ring::new(8, true);
    let mut told = 0;
    for round in 0..30_000_u16 {
        let (old, chains) = (ring.avail, 1 + round % 7);
        let event = old.wrapping_sub(2).wrapping_add(round / 7 % 12);
        ring.set_used_event(event);
        ring.set_flags(round / 5 % 2);
        let wanted = (0..chains).any(|i| old.wrapping_add(i) == event);
        assert_eq!(ring.burst(chains).is_needed(), wanted, "from {old}, {chains} chains, event {event}");
        told += u32::from(wanted);
    }
    assert!(ring.avail > 20_000 && (8_000..22_000).contains(&told), "{told}");
}

#[test]
fn s15_s16_the_devices_flags_are_one_bit_and_none_with_the_event_index() {
    for event_idx in [false, true] {
        let mut ring = Ring::new(4, event_idx);
        let mut silent = false;
        for round in 0..200 {
            match round % 5 {
                0 => ring.device.disarm(),
                1 => assert!(ring.device.arm()),
                2 => {
                    ring.offer(0);
                    assert!(!ring.device.arm(), "there is work");
                    ring.take();
                    let _ = ring.device.flush();
                }
                3 => ring.device.disarm(),
                _ => _ = ring.burst(3),
            }
            silent = match round % 5 {
                0 | 3 => true,
                1 | 2 => false,
                _ => silent,
            };
            let wanted = u16::from(silent && !event_idx);
            assert_eq!(ring.raw.used_flags(&ring.mem), wanted, "event index {event_idx}, step {round}");
        }
    }
}

/// Entries of one byte each, the last one writable.
fn table(ring: &Ring, at: u64, entries: u16) -> Vec<Element> {
    let flags = |i| if i + 1 == entries { WRITE } else { NEXT };
    let all: Vec<u8> = (0..entries).flat_map(|i| descriptor(0x9_0000 + u64::from(i), 1, flags(i), i + 1)).collect();
    poke(&ring.mem, at, &all);
    let element = |i| Element { addr: GuestAddr(0x9_0000 + u64::from(i)), len: 1, writable: i + 1 == entries };
    (0..entries).map(element).collect()
}

#[test]
fn s5_write_means_nothing_on_the_descriptor_of_a_table() {
    let mut ring = Ring::new(4, false);
    for entries in 1..=20 {
        let wanted = table(&ring, TABLE, entries);
        for flags in [INDIRECT, INDIRECT | WRITE] {
            ring.raw.desc(&ring.mem, 2, (TABLE, 16 * u32::from(entries), flags, 0));
            ring.offer(2);
            assert_eq!(ring.take(), wanted, "flags {flags}");
            let _ = ring.device.flush();
        }
    }
}

#[test]
fn s6_direct_descriptors_then_a_table() {
    for size in [1, 2, 4, 16] {
        for direct in 0..size {
            for entries in [1, 2, 3, 30] {
                let mut ring = Ring::new(size, false);
                let rest = table(&ring, TABLE, entries);
                let mut wanted = Vec::new();
                for i in 0..direct {
                    ring.raw.desc(&ring.mem, i, (0x8_0000 + u64::from(i) * 64, 10, NEXT, i + 1));
                    wanted.push(Element { addr: GuestAddr(0x8_0000 + u64::from(i) * 64), len: 10, writable: false });
                }
                ring.raw.desc(&ring.mem, direct, (TABLE, 16 * u32::from(entries), INDIRECT, 0));
                wanted.extend(rest);
                ring.offer(0);
                assert_eq!(ring.take(), wanted, "{direct} direct ones in a queue of {size}, {entries} in the table");
            }
        }
    }
}

/// Kicks that nothing follows: the ring is looked at, and is as before.
#[test]
fn s17_looking_at_an_empty_ring_changes_nothing() {
    for setup in [Format::Split, Format::Packed].into_iter().flat_map(|format| Setup::with_features(format, 8)) {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x1_0000).unwrap();
        let mut device = setup.fresh_device(&mem);
        let before = crate::common::guest::bytes(&mem, 0, 0x1_0000);
        for _ in 0..1000 {
            assert!(device.peek(&mem, &mut List::default()).unwrap().is_none());
            assert_eq!(device.serve(&mem, &mut List::default(), 8, |_, _| 0), Ok(0));
            assert_eq!(device.flush(), Notify::Suppressed);
        }
        assert!(crate::common::guest::bytes(&mem, 0, 0x1_0000) == before, "{setup:?}");
        assert!(device.arm());
    }
}
