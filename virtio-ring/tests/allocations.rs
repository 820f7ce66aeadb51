//! Tables, kept chains and the order of completions are allocated once: nothing after the set-up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;
#[path = "common/heap.rs"]
mod heap;

use common::guest::{BUFFER, TABLE};
use common::peers::{List, Setup};
use virtio_ring::{DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, HeapMemory, Reorder, Reposting, Ticket};

#[test]
fn nothing_is_allocated_after_the_set_up() {
    for setup in [Format::Split, Format::Packed].into_iter().flat_map(|format| Setup::with_features(format, 16)) {
        let mem = HeapMemory::zeroed(GuestAddr(0), BUFFER as usize).unwrap();
        let mut driver = Reposting::new(setup.driver(&mem, (TABLE, 4)));
        let mut device = setup.fresh_device(&mem);
        let mut order = Reorder::new(device.size());
        let (mut list, mut tickets) = (List(Vec::with_capacity(256)), Vec::<Ticket>::with_capacity(16));
        let mut kept = Vec::<Handle>::with_capacity(16);
        let elements: Vec<Element> =
            (0..6).map(|i| Element { addr: GuestAddr(BUFFER + 64 * i), len: 64, writable: true }).collect();
        let mut sum = 0;
        let before = heap::COUNT.get();
        for round in 0..400_usize {
            while driver.add(&elements[round % 3..][..1 + round % 4]).is_ok() {}
            let _ = driver.flush();
            list.0.clear();
            while let Some(peeked) = device.peek(&mem, &mut list).unwrap() {
                tickets.push(order.accept(peeked.accept()).unwrap());
            }
            while let Some(ticket) = tickets.pop() {
                sum += order.complete(&mut device, ticket, 1).unwrap();
            }
            let _ = device.flush();
            while let Some(used) = driver.poll_kept().unwrap() {
                kept.push(used.handle);
            }
            for (i, handle) in kept.drain(..).enumerate() {
                if i % 3 == round % 3 || driver.repost(handle).is_err() {
                    driver.release(handle).unwrap();
                }
            }
        }
        assert_eq!(heap::COUNT.get() - before, 0, "{setup:?}");
        assert!(sum > 1600, "{sum}");
    }
}
