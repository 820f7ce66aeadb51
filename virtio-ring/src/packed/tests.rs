//! Driver and device on one piece of memory.

use crate::split::tests::{RING, TABLES, carry, memory};
use crate::{GuestAddr, PackedDevice, PackedDriver, QueueConfig, QueueState};

#[test]
fn every_kind_of_size_carries_chains_around_the_ring() {
    let mem = memory();
    for size in (1..=20).chain([31, 32, 33, 100, 255, 256, 1000, 32_767, 32_768]) {
        for features in 0..8 {
            let (event_idx, indirect, in_order) = (features & 1 != 0, features & 2 != 0, features & 4 != 0);
            let config = QueueConfig { event_idx, indirect, in_order, ..QueueConfig::packed(GuestAddr(RING), size).0 };
            let mut driver = PackedDriver::new(&mem, &config).unwrap();
            if indirect {
                driver = driver.with_indirect(&mem, GuestAddr(TABLES), 3).unwrap();
            }
            let mut device = PackedDevice::new(&mem, &config, QueueState::PACKED).unwrap();
            carry(&mem, &mut driver, &mut device, size > 1 || indirect);
        }
    }
}
