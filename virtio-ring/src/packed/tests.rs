//! Driver and device on one piece of memory.

use crate::split::tests::{List, RING, TABLES, carry, element, memory};
use crate::{DeviceRing, DriverRing, GuestAddr, PackedDevice, PackedDriver, QueueConfig, QueueState};

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

/// A ring in the middle of its life is opened anew after every burst, by all of its state and by the available half,
/// which is all that some front ends hand back.
#[test]
fn a_device_that_is_opened_anew_stands_where_it_stood() {
    let mem = memory();
    let elements = [element(1, 100, false), element(2, 100, false)];
    for (size, in_order, two) in [1, 2, 3, 4, 5, 7, 8, 9]
        .into_iter()
        .flat_map(|size| [false, true].map(|in_order| (size, in_order)))
        .flat_map(|(size, in_order)| [false, size > 1].map(|two| (size, in_order, two)))
    {
        for burst in 1..=size {
            let config = QueueConfig { in_order, ..QueueConfig::packed(GuestAddr(RING), size).0 };
            let mut driver = PackedDriver::new(&mem, &config).unwrap();
            let mut device = PackedDevice::new(&mem, &config, QueueState::PACKED).unwrap();
            for round in 0..4 * u32::from(size) + 5 {
                let mut added = 0;
                let chain = &elements[..1 + usize::from(two)];
                while added < burst && driver.add(chain).is_ok() {
                    added += 1;
                }
                // Opened before the driver made anything visible, while it is visible, and after it was used.
                let reopen = |device: &PackedDevice<_>| {
                    let state = device.state();
                    let half = QueueState(state.0 & 0xffff);
                    assert_eq!(PackedDevice::resume(&mem, &config, half).unwrap().state(), state, "{config:?} {round}");
                    let again = PackedDevice::resume(&mem, &config, state).unwrap();
                    assert_eq!(again.state(), state, "{config:?} {round}");
                    again
                };
                device = reopen(&device);
                let _ = driver.flush();
                device = reopen(&device);
                for _ in 0..added {
                    let token = device.peek(&mem, &mut List::default()).unwrap().unwrap().accept();
                    device.complete(token, 0);
                }
                let _ = device.flush();
                device = reopen(&device);
                assert!(device.peek(&mem, &mut List::default()).unwrap().is_none(), "{config:?} {round}");
                for _ in 0..added {
                    driver.poll_used().unwrap().unwrap();
                }
                device = reopen(&device);
            }
        }
    }
}

#[test]
fn a_ring_that_was_never_used_starts_at_zero_as_well() {
    let mem = memory();
    for size in [1, 2, 3, 8, 9] {
        for posted in 0..=size {
            let config = QueueConfig::packed(GuestAddr(RING), size).0;
            let mut driver = PackedDriver::new(&mem, &config).unwrap();
            for _ in 0..posted {
                driver.add(&[element(1, 100, true)]).unwrap();
            }
            let _ = driver.flush();
            for state in [0, 0x8000, 0x8000_8000] {
                let device = PackedDevice::resume(&mem, &config, QueueState(state)).unwrap();
                assert_eq!(device.state(), QueueState::PACKED, "size {size}, {posted} posted, {state:#x}");
            }
        }
    }
}
