//! Packed rings.

use virtio_ring::{DeviceRing, Element, Format, GuestAddr, HeapMemory, PackedDevice, Token};

use crate::Area;
use crate::common::guest::{INDIRECT, NEXT, RawPacked, TABLE, WRITE, bytes, descriptor, poke};
use crate::common::peers::{List, Setup};

const AVAIL: u16 = RawPacked::AVAIL;
const USED: u16 = RawPacked::USED;
const BUFFER: u64 = 0x8_0000;

/// A device, and a driver that writes descriptors.
struct Ring {
    mem: HeapMemory,
    raw: RawPacked,
    device: PackedDevice<Area>,
    /// Descriptors made available, and descriptors that the device is done with, since the beginning.
    next: u32,
    used: u32,
    serial: u32,
}

impl Ring {
    fn new(size: u16) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x10_0000).unwrap();
        let setup = Setup { indirect: true, ..Setup::new(Format::Packed, size) };
        let config = setup.config();
        let device = PackedDevice::new(&mem, &config, Format::Packed.start()).unwrap();
        Self { mem, raw: RawPacked(config), device, next: 0, used: 0, serial: 0 }
    }

    fn size(&self) -> u32 {
        self.raw.0.size.into()
    }

    fn slot(&self, position: u32) -> u16 {
        (position % self.size()) as u16
    }

    /// The flags that make a descriptor available, or used: the first lap's are the other way round on the second.
    fn lap(&self, position: u32, first: u16, second: u16) -> u16 {
        if (position / self.size()).is_multiple_of(2) { first } else { second }
    }

    fn free(&self) -> u32 {
        self.size() - (self.next - self.used)
    }

    /// Makes a chain of so many descriptors available under this id; its elements. All but the last carry other ids.
    fn offer(&mut self, id: u16, count: u32) -> Vec<Element> {
        let mut elements = Vec::new();
        for i in 0..count {
            self.serial += 1;
            let addr = BUFFER + u64::from(self.serial % 0x1000);
            elements.push(Element { addr: GuestAddr(addr), len: self.serial, writable: i > 0 });
        }
        for i in (0..count).rev() {
            let at = self.next + i;
            let Element { addr, len, writable } = elements[i as usize];
            let last = i + 1 == count;
            let flags = if last { 0 } else { NEXT } | if writable { WRITE } else { 0 };
            let id = if last { id } else { !id };
            self.raw.desc(&self.mem, self.slot(at), (addr.0, len, id, flags | self.lap(at, AVAIL, USED)));
        }
        self.next += count;
        elements
    }

    fn take(&mut self) -> (Token, Vec<Element>) {
        let mut list = List::default();
        let peeked = self.device.peek(&self.mem, &mut list).unwrap().unwrap();
        assert_eq!(peeked.fault(), None);
        (peeked.accept(), list.0)
    }

    /// The next used descriptor: its length and id, if it is one. The driver goes on behind `count` descriptors.
    fn reap(&mut self, count: u32) -> Option<(u32, u16)> {
        let (len, id, flags) = self.raw.tail(&self.mem, self.slot(self.used));
        if flags & (AVAIL | USED) != self.lap(self.used, AVAIL | USED, 0) {
            return None;
        }
        self.used += count;
        Some((len, id))
    }

    fn image(&self) -> Vec<u8> {
        bytes(&self.mem, self.raw.0.desc.0, 16 * self.size() as usize)
    }
}

/// Numbers that look like nothing, the same every time.
fn mix(n: u32) -> u32 {
    let n = n.wrapping_mul(0x9e37_79b9);
    (n ^ n >> 15).wrapping_mul(0x85eb_ca6b) >> 8
}

/// Chains of every length, under ids in no order, around the ring many times: the device takes them as they lie in the ring, each
/// element in its place, and moves on by the length of the chain. The last descriptor's id comes back.
#[test]
fn p1_p6_p7_chains_are_taken_as_they_lie_in_the_ring() {
    for size in [1, 2, 3, 7, 8, 255] {
        let mut ring = Ring::new(size);
        for round in 0..5 * u32::from(size) {
            let mut offered = Vec::new();
            while ring.free() > 0 {
                let count = 1 + mix(ring.serial) % ring.free().min(6);
                let id = mix(ring.serial + 77) as u16;
                offered.push((id, ring.offer(id, count)));
            }
            for (id, elements) in &offered {
                let (token, found) = ring.take();
                assert_eq!(&found, elements, "queue of {size}, round {round}");
                ring.device.complete(token, 5);
                let _ = ring.device.flush();
                assert_eq!(ring.reap(found.len() as u32), Some((5, *id)), "queue of {size}, round {round}");
            }
            assert!(ring.device.peek(&ring.mem, &mut List::default()).unwrap().is_none());
        }
        assert!(ring.next / u32::from(size) > 4, "several laps");
    }
}

/// A table takes one slot, whatever is in it.
#[test]
fn p7_a_table_takes_one_descriptor() {
    for size in [1, 3, 7] {
        let mut ring = Ring::new(size);
        for entries in 1..40_u32 {
            let all: Vec<u8> = (0..entries).flat_map(|i| descriptor(BUFFER + u64::from(i), 1, 0, 0)).collect();
            poke(&ring.mem, TABLE, &all);
            let flags = INDIRECT | ring.lap(ring.next, AVAIL, USED);
            ring.raw.desc(&ring.mem, ring.slot(ring.next), (TABLE, entries * 16, 0x4321, flags));
            ring.next += 1;
            let (token, found) = ring.take();
            assert_eq!(found.len(), entries as usize);
            ring.device.complete(token, 0);
            let _ = ring.device.flush();
            assert_eq!(ring.reap(1), Some((0, 0x4321)));
        }
    }
}

/// A back end that finishes in any order: used descriptors are in the order in which it finished.
#[test]
fn p2_used_descriptors_are_in_the_order_of_completion() {
    for size in [1, 2, 3, 7, 8, 64] {
        let mut ring = Ring::new(size);
        for round in 0..60 {
            let mut held = Vec::new();
            while ring.free() > 0 {
                let count = 1 + mix(ring.serial) % ring.free().min(3);
                let id = ring.serial as u16;
                ring.offer(id, count);
                held.push((id, count, ring.take().0));
            }
            // Some of them stay out until a later flush.
            let mut pick = round;
            while !held.is_empty() {
                let mut done = Vec::new();
                for _ in 0..1 + mix(pick) as usize % held.len() {
                    pick += 1;
                    let (id, count, token) = held.swap_remove(mix(pick) as usize % held.len());
                    ring.device.complete(token, u32::from(id) + 1);
                    done.push((id, count));
                }
                let _ = ring.device.flush();
                for (id, count) in done {
                    assert_eq!(ring.reap(count), Some((u32::from(id) + 1, id)), "queue of {size}, round {round}");
                }
                assert!(held.is_empty() || ring.reap(0).is_none(), "no more than were finished");
            }
        }
    }
}

/// After every step of the device: a slot that the driver sees as used stays as it is, and nothing changes but where used
/// descriptors go.
#[test]
fn p5_a_used_descriptor_is_not_changed_any_more() {
    for size in [1, 2, 3, 8] {
        let mut ring = Ring::new(size);
        let mut written = 0;
        for round in 0..40 * u32::from(size) {
            let mut held = Vec::new();
            while ring.free() > 0 {
                let count = 1 + mix(ring.serial) % ring.free().min(3);
                ring.offer(7, count);
                held.push(count);
            }
            let mut before = ring.image();
            let mut step = |ring: &Ring, used: Option<u32>| {
                let after = ring.image();
                for slot in 0..usize::from(size) {
                    let range = 16 * slot..16 * slot + 16;
                    let mine = used.is_some_and(|at| usize::from(ring.slot(at)) == slot);
                    if before[range.clone()] != after[range.clone()] {
                        written += 1;
                        assert!(mine, "queue of {size}, round {round}: slot {slot} changed, not {used:?}");
                        assert_eq!(
                            before[range.start..range.start + 8],
                            after[range.start..range.start + 8],
                            "address"
                        );
                    }
                }
                before = after;
            };
            let mut tokens = Vec::new();
            for _ in &held {
                tokens.push(ring.take().0);
                step(&ring, None);
            }
            // The newest goes back and is taken again.
            ring.device.rewind(tokens.pop().unwrap());
            step(&ring, None);
            tokens.push(ring.take().0);
            ring.device.disarm();
            step(&ring, None);
            // All but the first of a burst are written where they belong, and that one last, when all become visible.
            let mut at = ring.used;
            for (token, count) in tokens.into_iter().zip(&held) {
                ring.device.complete(token, 3);
                step(&ring, Some(at));
                at += count;
            }
            let first = ring.used;
            let _ = ring.device.flush();
            step(&ring, Some(first));
            let _ = ring.device.flush();
            let _ = ring.device.arm();
            step(&ring, None);
            for count in held {
                assert_eq!(ring.reap(count), Some((3, 7)));
            }
        }
        assert!(written >= 40, "{written}");
    }
}

#[test]
fn p8_of_a_tables_entry_only_write_counts() {
    let mut ring = Ring::new(4);
    for flags in 0..=u16::MAX {
        // Of an entry the id comes before the flags.
        let id = mix(flags.into()) as u16;
        poke(&ring.mem, TABLE, &[descriptor(BUFFER, 3, id, flags), descriptor(BUFFER, 4, !id, !0)].concat());
        let tail = (32, 9, INDIRECT | ring.lap(ring.next, AVAIL, USED));
        ring.raw.desc(&ring.mem, ring.slot(ring.next), (TABLE, tail.0, tail.1, tail.2));
        ring.next += 1;
        let (token, found) = ring.take();
        let element = |len, writable| Element { addr: GuestAddr(BUFFER), len, writable };
        assert_eq!(found, [element(3, flags & WRITE != 0), element(4, true)], "flags {flags:#x}");
        ring.device.complete(token, 0);
        let _ = ring.device.flush();
        assert_eq!(ring.reap(1), Some((0, 9)));
    }
}
