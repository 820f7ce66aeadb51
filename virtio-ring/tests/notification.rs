//! `VIRTIO_F_NOTIFICATION_DATA`: the words of the specification, and what a device makes of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use common::peers::{List, Setup};
use proptest::prelude::*;
use virtio_ring::{
    DeviceRing, DriverRing, Element, Format, GuestAddr, HeapMemory, HintError, NotificationData, QueueConfig,
    QueueState, Token,
};

fn mem() -> HeapMemory {
    HeapMemory::zeroed(GuestAddr(0), 0x20_0000).unwrap()
}

const ONE: [Element; 1] = [Element { addr: GuestAddr(0x10_0000), len: 64, writable: true }];

/// virtio 1.3, 4.1.5.2 and 4.2.3.3: `vqn` 16 bits, `next_off` 15, `next_wrap` 1, from the lowest on.
#[test]
fn the_word_is_that_of_the_specification() {
    // The word, its format, queue, offset, wrap, index.
    let rows = [
        (0x0000_0000, Format::Split, 0, 0, false, 0),
        (0x0001_0003, Format::Split, 3, 1, false, 1),
        (0x7fff_0001, Format::Split, 1, 0x7fff, false, 0x7fff),
        (0x8000_0001, Format::Split, 1, 0, true, 0x8000),
        (0xffff_ffff, Format::Split, 0xffff, 0x7fff, true, 0xffff),
        (0x8000_0000, Format::Packed, 0, 0, true, 0x8000),
        (0x8005_0002, Format::Packed, 2, 5, true, 0x8005),
        (0x0005_0002, Format::Packed, 2, 5, false, 5),
        (0x7fff_1234, Format::Packed, 0x1234, 0x7fff, false, 0x7fff),
    ];
    for (bits, format, queue, offset, wrap, index) in rows {
        let data = NotificationData::from_bits(bits, format);
        assert_eq!((data.queue(), data.offset(), data.wrap(), data.index()), (queue, offset, wrap, index), "{bits:#x}");
        assert_eq!((data.to_bits(), data.format()), (bits, format));
    }
}

/// What a driver says after each flush, over more than two laps: golden words of a queue of four, number 5.
#[test]
fn a_driver_says_where_it_goes_on() {
    let split = [0x0001_0005, 0x0003_0005, 0x0004_0005, 0x0006_0005, 0x0007_0005, 0x0009_0005_u32];
    let packed = [0x8001_0005, 0x8003_0005, 0x0000_0005, 0x0002_0005, 0x0003_0005, 0x8001_0005_u32];
    for (format, words) in [(Format::Split, split), (Format::Packed, packed)] {
        for setup in Setup::with_features(format, 4).filter(|s| !s.indirect) {
            let mem = mem();
            let (mut driver, mut device) = (setup.driver(&mem, (0, 0)), setup.fresh_device(&mem));
            assert_eq!(driver.notification_data(5).to_bits(), if format == Format::Split { 5 } else { 0x8000_0005 });
            for (round, word) in words.into_iter().enumerate() {
                // One, two, one, two: what is added and not published is not said.
                let before = driver.notification_data(5);
                for _ in 0..=round % 2 {
                    driver.add(&ONE).unwrap();
                }
                assert_eq!(driver.notification_data(5), before);
                assert!(device.arm());
                assert!(driver.flush().is_needed());
                assert_eq!(driver.notification_data(5).to_bits(), word, "{setup:?}, round {round}");
                assert_eq!(driver.notification_data(6).to_bits(), word + 1);
                while let Some(peeked) = device.peek(&mem, &mut List::default()).unwrap() {
                    let token = peeked.accept();
                    device.complete(token, 0);
                }
                let _ = device.flush();
                while driver.poll_used().unwrap().is_some() {}
            }
        }
    }
}

/// A split index wraps at 2^16, whatever the size, and its top bit is the wrap bit.
#[test]
fn the_index_of_a_split_ring_wraps() {
    let setup = Setup::new(Format::Split, 8);
    let mem = mem();
    let (mut driver, mut device) = (setup.driver(&mem, (0, 0)), setup.fresh_device(&mem));
    for n in 1..=0x1_0003_u32 {
        driver.add(&ONE).unwrap();
        let _ = driver.flush();
        let data = driver.notification_data(1);
        assert_eq!(data.to_bits(), (n & 0xffff) << 16 | 1);
        assert_eq!((data.offset(), data.wrap()), ((n & 0x7fff) as u16, n & 0x8000 != 0));
        assert_eq!(device.hint(data), Ok(1));
        let token = device.peek(&mem, &mut List::default()).unwrap().unwrap().accept();
        assert_eq!(device.hint(data), Ok(0));
        device.complete(token, 0);
        let _ = device.flush();
        assert!(driver.poll_used().unwrap().is_some());
    }
}

#[test]
fn a_hint_that_cannot_be_true_is_named() {
    let mem = mem();
    let packed = Setup::new(Format::Packed, 5);
    let device = packed.fresh_device(&mem);
    let hint = |bits: u16| device.hint(NotificationData::from_bits(u32::from(bits) << 16, Format::Packed));
    for bits in [5, 6, 0x7fff, 0x8005, 0xffff] {
        assert_eq!(hint(bits), Err(HintError::Offset { offset: bits & 0x7fff, size: 5 }), "{bits:#x}");
    }
    // A lap ahead is everything, a slot more is a lap behind.
    let lap: Vec<_> = [0x8000, 0x8001, 0x8004, 0, 1, 4].into_iter().map(hint).collect();
    assert_eq!(lap, [Ok(0), Ok(1), Ok(4), Ok(5), Ok(0), Ok(0)]);

    let split = Setup::new(Format::Split, 8);
    let mem = self::mem();
    let device = split.fresh_device(&mem);
    let hint = |index: u16| device.hint(NotificationData::from_bits(u32::from(index) << 16, Format::Split));
    let near: Vec<_> = [0, 1, 8, 0xfff8, 0xffff].into_iter().map(hint).collect();
    assert_eq!(near, [Ok(0), Ok(1), Ok(8), Ok(0), Ok(0)]);
    for index in [9, 100, 0x8000, 0xfff7] {
        assert_eq!(hint(index), Err(HintError::Distance { next: index, avail: 0, size: 8 }), "{index:#x}");
    }
    let other = device.hint(NotificationData::from_bits(0, Format::Packed));
    assert_eq!(other, Err(HintError::Format { found: Format::Packed, expected: Format::Split }));
    assert_eq!(
        other.unwrap_err().to_string(),
        "notification data of a Packed ring for a Split one",
        "an error says what it found and what was expected"
    );
}

/// What a hostile driver writes changes nothing: neither what the device sees, nor where it stands, nor the memory.
#[test]
fn hints_are_never_believed() {
    for setup in [Format::Split, Format::Packed].into_iter().flat_map(|format| Setup::with_features(format, 8)) {
        let mem = mem();
        let mut driver = setup.driver(&mem, (0x18_0000, 2));
        let mut device = setup.fresh_device(&mem);
        driver.add(&ONE).unwrap();
        let _ = driver.flush();
        let state = device.state();
        for bits in 0..=u32::from(u16::MAX) {
            for format in [Format::Split, Format::Packed] {
                let _ = device.hint(NotificationData::from_bits(bits << 16, format));
            }
        }
        assert_eq!((device.state(), device.fault()), (state, None));
        let token = device.peek(&mem, &mut List::default()).unwrap().unwrap().accept();
        assert!(device.peek(&mem, &mut List::default()).unwrap().is_none(), "one chain, whatever was said");
        device.complete(token, 0);
        let _ = device.flush();
        assert!(driver.poll_used().unwrap().is_some());
    }
}

proptest! {
    /// Whatever a driver that keeps to the rules says is true: of the device that is behind as of the one that is there.
    #[test]
    fn an_honest_driver_is_believed(
        packed: bool,
        size in 1..=32_u16,
        ops in prop::collection::vec(0..5_u8, 0..300),
    ) {
        let format = if packed { Format::Packed } else { Format::Split };
        let size = if packed { size } else { size.next_power_of_two() };
        let setup = Setup::new(format, size);
        let mem = mem();
        let (mut driver, mut device) = (setup.driver(&mem, (0, 0)), setup.fresh_device(&mem));
        let (mut added, mut visible, mut held) = (0_u16, 0_u16, Vec::<Token>::new());
        let mut late = driver.notification_data(0);
        for op in ops {
            match op {
                0 => added += u16::from(driver.add(&ONE).is_ok()),
                1 => {
                    late = driver.notification_data(0);
                    let _ = driver.flush();
                    visible += std::mem::take(&mut added);
                }
                2 => {
                    if let Some(peeked) = device.peek(&mem, &mut List::default()).unwrap() {
                        held.push(peeked.accept());
                        visible -= 1;
                    }
                }
                3 => {
                    while let Some(token) = held.pop() {
                        device.complete(token, 0);
                    }
                    let _ = device.flush();
                }
                _ => while driver.poll_used().unwrap().is_some() {},
            }
            prop_assert_eq!(device.hint(driver.notification_data(0)), Ok(visible));
            // In a packed ring a lap behind looks like a lap ahead.
            prop_assert!(device.hint(late).is_ok_and(|n| n <= visible || packed && n == size));
        }
    }
}

/// A device that took a queue over in the middle of a lap.
#[test]
fn a_hint_is_measured_from_where_the_device_stands() {
    let mem = mem();
    let (config, _) = QueueConfig::split(GuestAddr(0x1000), 8);
    common::guest::RawRing(config).set_used_idx(&mem, 0xfffe);
    let device = virtio_ring::SplitDevice::new(&mem, &config, QueueState(0xfffe)).unwrap();
    for (index, more) in [(0xfffe, 0), (0xffff, 1), (0, 2), (6, 8), (0xfff6, 0)] {
        assert_eq!(device.hint(NotificationData::from_bits(index << 16, Format::Split)), Ok(more));
    }
    assert!(device.hint(NotificationData::from_bits(7 << 16, Format::Split)).is_err());
}
