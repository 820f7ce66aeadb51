//! Driver and device on one piece of memory.
#![allow(clippy::arithmetic_side_effects)]

use crate::{
    ChainFault, ChainSink, DeviceRing, DriverRing, Element, GuestAddr, HeapMemory, Notify, QueueConfig, QueueState,
    SplitDevice, SplitDriver,
};
use std::vec::Vec;

pub(crate) const RING: u64 = 0x1000;
pub(crate) const TABLES: u64 = 0x20_0000;
const BUFFERS: u64 = 0x40_0000;

pub(crate) fn memory() -> HeapMemory {
    HeapMemory::zeroed(GuestAddr(0), 64 << 20).unwrap()
}

#[derive(Default)]
pub(crate) struct List(Vec<Element>);
impl ChainSink for List {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        self.0.push(e);
        Ok(())
    }
}

pub(crate) fn element(i: u64, len: u32, writable: bool) -> Element {
    Element { addr: GuestAddr(BUFFERS + i * 4096), len, writable }
}

/// Carries chains of one and two elements around the ring a few times.
pub(crate) fn carry<D: DriverRing, V: DeviceRing>(mem: &HeapMemory, driver: &mut D, device: &mut V, two: bool) {
    let size = driver.size();
    let mut done = 0_u32;
    let mut laps = 0;
    while done < 3 * u32::from(size) + 5 {
        let mut added = Vec::new();
        loop {
            // Chains of one and of two in turn, so that ends of chains meet the end of the ring in every way.
            let n = if two { 1 + (done as usize + added.len()) % 2 } else { 1 };
            let elements = [element(1, 100 + done, false), element(2, 2000, true)];
            match driver.add(&elements[2 - n..]) {
                Ok(handle) => added.push((handle, elements[2 - n..].to_vec())),
                Err(full) => {
                    assert!(usize::from(full.free) < full.needed);
                    break;
                }
            }
            // Partial bursts as well.
            if laps % 3 == 1 && added.len() == 5 {
                break;
            }
        }
        assert!(!added.is_empty());
        // Nothing written every other time: in order, that is a run with one entry.
        let written = if laps % 2 == 0 { 0 } else { done % 2000 };
        assert!(device.peek(mem, &mut List::default()).unwrap().is_none(), "not flushed yet");
        assert_eq!(driver.flush(), Notify::Needed);
        for (_, elements) in &added {
            let mut list = List::default();
            let peeked = device.peek(mem, &mut list).unwrap().unwrap();
            assert!(!peeked.is_faulty());
            drop(peeked); // it stays
            list.0.clear();
            let token = device.peek(mem, &mut list).unwrap().unwrap().accept();
            device.rewind(token);
            list.0.clear();
            let token = device.peek(mem, &mut list).unwrap().unwrap().accept();
            assert_eq!(&list.0, elements);
            device.complete(token, written);
        }
        assert!(device.peek(mem, &mut List::default()).unwrap().is_none());
        assert_eq!(driver.poll_used().unwrap(), None, "not flushed yet");
        assert_eq!(device.flush(), Notify::Needed);
        assert_eq!(device.flush(), Notify::Suppressed);
        assert!(device.arm());
        for (handle, _) in &added {
            let used = driver.poll_used().unwrap().unwrap();
            assert_eq!((used.handle, used.len), (*handle, written));
        }
        assert_eq!(driver.poll_used().unwrap(), None);
        assert!(driver.arm());
        assert_eq!(driver.free_slots(), size);
        done += added.len() as u32;
        laps += 1;
    }
}

#[test]
fn every_size_carries_chains_around_the_ring() {
    let mem = memory();
    for shift in 0..=15 {
        for features in 0..8 {
            let (event_idx, indirect, in_order) = (features & 1 != 0, features & 2 != 0, features & 4 != 0);
            let size = 1_u16 << shift;
            let config = QueueConfig { event_idx, indirect, in_order, ..QueueConfig::split(GuestAddr(RING), size).0 };
            let mut driver = SplitDriver::new(&mem, &config).unwrap();
            if indirect {
                driver = driver.with_indirect(&mem, GuestAddr(TABLES), 3).unwrap();
            }
            let mut device = SplitDevice::new(&mem, &config, QueueState::SPLIT).unwrap();
            carry(&mem, &mut driver, &mut device, size > 1 || indirect);
        }
    }
}
