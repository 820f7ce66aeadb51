//! Driver and device on one piece of memory.

use crate::{
    ChainFault, ChainSink, DeviceRing, DriverRing, Element, GuestAddr, HeapMemory, Notify, QueueConfig, QueueState,
    SplitDevice, SplitDriver, SplitSizes,
};
use std::vec::Vec;

const RING: u64 = 0x1000;
const TABLES: u64 = 0x20_0000;
const BUFFERS: u64 = 0x40_0000;

pub(crate) fn memory() -> HeapMemory {
    HeapMemory::zeroed(GuestAddr(0), 64 << 20).unwrap()
}

pub(crate) fn config(size: u16, event_idx: bool, indirect: bool) -> QueueConfig {
    let sizes = SplitSizes::new(size);
    let driver = RING + sizes.desc as u64;
    let device = (driver + sizes.driver as u64).next_multiple_of(4);
    QueueConfig {
        size,
        desc: GuestAddr(RING),
        driver: GuestAddr(driver),
        device: GuestAddr(device),
        event_idx,
        indirect,
    }
}

#[derive(Default)]
struct List(Vec<Element>);
impl ChainSink for List {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        self.0.push(e);
        Ok(())
    }
}

fn element(i: u64, len: u32, writable: bool) -> Element {
    Element { addr: GuestAddr(BUFFERS + i * 4096), len, writable }
}

#[test]
fn every_size_carries_chains_around_the_ring() {
    let mem = memory();
    for shift in 0..=15 {
        for indirect in [false, true] {
            for event_idx in [false, true] {
                let size = 1_u16 << shift;
                let config = config(size, event_idx, indirect);
                let mut driver = SplitDriver::new(&mem, &config).unwrap();
                if indirect {
                    driver = driver.with_indirect(&mem, GuestAddr(TABLES), 3).unwrap();
                }
                let mut device = SplitDevice::new(&mem, &config, QueueState::default()).unwrap();
                let mut done = 0_u32;
                while done < 3 * u32::from(size) + 5 {
                    let mut added = Vec::new();
                    loop {
                        let n = if size == 1 && !indirect { 1 } else { 2 };
                        let elements = [element(1, 100 + done, false), element(2, 2000, true)];
                        match driver.add(&elements[2 - n..]) {
                            Ok(handle) => added.push((handle, elements[2 - n..].to_vec())),
                            Err(full) => {
                                assert!(usize::from(full.free) < full.needed);
                                break;
                            }
                        }
                    }
                    assert!(!added.is_empty());
                    assert_eq!(driver.flush(), Notify::Needed);
                    for (_, elements) in &added {
                        let mut list = List::default();
                        let peeked = device.peek(&mem, &mut list).unwrap().unwrap();
                        assert_eq!(peeked.fault(), None);
                        drop(peeked); // it stays
                        list.0.clear();
                        let token = device.peek(&mem, &mut list).unwrap().unwrap().accept();
                        assert_eq!(&list.0, elements);
                        device.complete(token, done % 2000);
                    }
                    assert!(device.peek(&mem, &mut List::default()).unwrap().is_none());
                    assert_eq!(driver.poll_used().unwrap(), None, "not flushed yet");
                    let _ = device.flush();
                    assert!(device.arm());
                    for (handle, _) in &added {
                        let used = driver.poll_used().unwrap().unwrap();
                        assert_eq!((used.handle, used.len), (*handle, done % 2000));
                    }
                    assert_eq!(driver.poll_used().unwrap(), None);
                    assert!(driver.arm());
                    assert_eq!(driver.free_slots(), size);
                    done += added.len() as u32;
                }
            }
        }
    }
}
