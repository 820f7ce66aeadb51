//! V101 to V1xx: hostile devices.

use virtio_ring::{
    DeviceRing, DriverRing, Element, GuestAddr, Handle, Notify, QueueState, RingError, SplitDevice, SplitDriver, Used,
};

use crate::Area;
use crate::common::guest::{BUFFER, Memory, RawRing, config, memory};

/// A driver with three chains outstanding (heads 0, 1 and 2, of 10, 20 and 30 writable bytes), a fourth not published,
/// and a device that only has memory.
struct Victim {
    mem: Memory,
    raw: RawRing,
    driver: SplitDriver<Area>,
}

impl Victim {
    fn new(event_idx: bool) -> Self {
        let config = config(8, event_idx, false);
        let mem = memory();
        let mut driver = SplitDriver::new(&mem, &config).unwrap();
        for i in 1..=3_u64 {
            let element = Element { addr: GuestAddr(BUFFER + 4096 * i), len: 10 * i as u32, writable: true };
            assert_eq!(driver.add(&[element]), Ok(Handle(i as u16 - 1)));
        }
        assert_eq!(driver.flush(), Notify::Needed);
        Self { mem, raw: RawRing(config), driver }
    }

    fn used(&self, index: u16, id: u32, len: u32) {
        self.raw.set_used_entry(&self.mem, index, id, len);
        self.raw.set_used_idx(&self.mem, index.wrapping_add(1));
    }
}

#[test]
fn hostile_devices_do_not_confuse_the_driver() {
    type SetUp = fn(&mut Victim);
    type Expected = fn(RingError) -> bool;
    fn bad_id(e: RingError) -> bool {
        matches!(e, RingError::UsedId { .. })
    }
    fn bad_used(e: RingError) -> bool {
        matches!(e, RingError::UsedIndex { .. })
    }
    fn bad_len(e: RingError) -> bool {
        matches!(e, RingError::UsedLen { .. })
    }
    let rows: [(&str, SetUp, Expected); 16] = [
        ("V101 id is the queue size", |v| v.used(0, 8, 0), bad_id),
        ("V102 id is 2^32 - 1", |v| v.used(0, u32::MAX, 0), bad_id),
        ("V103 id 65536: no cutting to 16 bits", |v| v.used(0, 0x1_0000, 0), bad_id),
        ("V104 id was never added", |v| v.used(0, 5, 0), bad_id),
        (
            "V105 id used twice",
            |v| {
                v.used(0, 1, 0);
                assert!(v.driver.poll_used().unwrap().is_some());
                v.used(1, 1, 0);
            },
            bad_id,
        ),
        (
            "V106 id is not the head of its chain",
            |v| {
                let two = [Element { addr: GuestAddr(BUFFER), len: 1, writable: false }; 2];
                assert_eq!(v.driver.add(&two), Ok(Handle(3)));
                let _ = v.driver.flush();
                v.used(0, 4, 0);
            },
            bad_id,
        ),
        ("V107 length is one too long", |v| v.used(0, 1, 21), bad_len),
        ("V108 length is 2^32 - 1", |v| v.used(0, 2, u32::MAX), bad_len),
        (
            "V109 length of a chain that is only readable",
            |v| {
                let element = Element { addr: GuestAddr(BUFFER), len: 64, writable: false };
                assert_eq!(v.driver.add(&[element]), Ok(Handle(3)));
                let _ = v.driver.flush();
                v.used(0, 3, 1);
            },
            bad_len,
        ),
        ("V110 index is one more than outstanding", |v| v.raw.set_used_idx(&v.mem, 4), bad_used),
        ("V111 index jumps by size + 1", |v| v.raw.set_used_idx(&v.mem, 9), bad_used),
        ("V112 index jumps to 65535", |v| v.raw.set_used_idx(&v.mem, 65535), bad_used),
        ("V113 index jumps to 32768", |v| v.raw.set_used_idx(&v.mem, 32768), bad_used),
        (
            "V114 index goes back",
            |v| {
                v.used(0, 1, 0);
                assert!(v.driver.poll_used().unwrap().is_some());
                v.raw.set_used_idx(&v.mem, 0);
            },
            bad_used,
        ),
        (
            "V115 index covers a chain that was added and not published",
            |v| {
                let element = Element { addr: GuestAddr(BUFFER), len: 64, writable: false };
                assert_eq!(v.driver.add(&[element]), Ok(Handle(3)));
                for (i, id) in [0, 1, 2, 3].into_iter().enumerate() {
                    v.used(i as u16, id, 0);
                }
            },
            bad_used,
        ),
        (
            "V116 good entry, then a bad one in the same burst",
            |v| {
                v.raw.set_used_entry(&v.mem, 0, 2, 30);
                v.used(1, 77, 0);
                assert_eq!(v.driver.poll_used(), Ok(Some(Used { handle: Handle(2), len: 30 })));
            },
            bad_id,
        ),
    ];
    for (name, set_up, expected) in rows {
        for event_idx in [false, true] {
            let mut v = Victim::new(event_idx);
            set_up(&mut v);
            let free = v.driver.free_slots();
            let error = v.driver.poll_used().unwrap_err();
            assert!(expected(error), "{name}: {error:?}");
            assert_eq!(v.driver.fault(), Some(error), "{name}");
            assert_eq!(v.driver.free_slots(), free, "{name}: nothing was given back");
            v.used(0, 1, 0);
            assert_eq!(v.driver.poll_used(), Ok(None), "{name}: nothing is used any more");
            assert!(v.driver.arm(), "{name}");
            // A reset helps.
            let config = v.raw.0;
            let mut driver = SplitDriver::new(&v.mem, &config).unwrap();
            let handle = driver.add(&[Element { addr: GuestAddr(BUFFER), len: 9, writable: true }]).unwrap();
            assert_eq!(driver.flush(), Notify::Needed, "{name}");
            v.used(0, handle.0.into(), 9);
            assert_eq!(driver.poll_used(), Ok(Some(Used { handle, len: 9 })), "{name}");
        }
    }
}

#[test]
fn a_device_that_rewrites_descriptors_changes_nothing_for_the_driver() {
    // V117: the table, the available ring and the lengths in it are never read back.
    for event_idx in [false, true] {
        let mut v = Victim::new(event_idx);
        let two = [Element { addr: GuestAddr(BUFFER), len: 100, writable: true }; 2];
        assert_eq!(v.driver.add(&two), Ok(Handle(3)));
        let _ = v.driver.flush();
        for i in 0..8 {
            v.raw.desc(&v.mem, i, (u64::MAX, u32::MAX, 0xFFFF, 3));
            v.raw.avail_entry(&v.mem, i, 0xFFFF);
        }
        v.raw.set_avail_idx(&v.mem, 0x7777);
        v.used(0, 3, 200);
        assert_eq!(v.driver.poll_used(), Ok(Some(Used { handle: Handle(3), len: 200 })));
        assert_eq!(v.driver.free_slots(), 5);
        let eight = [Element { addr: GuestAddr(BUFFER), len: 100, writable: true }; 5];
        assert!(v.driver.add(&eight).is_ok());
        let _ = v.driver.flush();
        assert_eq!(v.raw.avail_idx(&v.mem), 5);
        assert_eq!(v.driver.free_slots(), 0);
    }
}

#[test]
fn a_device_that_takes_over_a_silenced_ring_asks_for_kicks() {
    // V118: the one before it stopped while it polled, and left NO_NOTIFY behind.
    let config = config(8, false, false);
    let mem = memory();
    let raw = RawRing(config);
    let mut driver = SplitDriver::new(&mem, &config).unwrap();
    let mut device = SplitDevice::new(&mem, &config, QueueState::default()).unwrap();
    device.disarm();
    assert_eq!(raw.used_flags(&mem), 1);
    let state = device.state();
    drop(device);
    let mut device = SplitDevice::new(&mem, &config, state).unwrap();
    assert!(device.arm());
    driver.add(&[Element { addr: GuestAddr(BUFFER), len: 9, writable: true }]).unwrap();
    assert_eq!(driver.flush(), Notify::Needed, "or the device sleeps forever");
}
