//! V101 to V118 and V170 to V189: hostile devices.

use virtio_ring::{
    AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, Notify, QueueConfig, QueueState, RingError,
    SplitDevice, SplitDriver, Used,
};

use crate::Area;
use crate::common::guest::{BUFFER, Memory, RawPacked, RawRing, WRITE, bytes, config, memory, poke};
use crate::common::peers::Setup;

/// The words of a ring that a device writes.
trait Wire: Copy {
    const FORMAT: Format;
    fn new(config: QueueConfig) -> Self;
    /// Used entry `index` of the first lap, and that it is there.
    fn used(&self, mem: &Memory, index: u16, id: u32, len: u32);
}

impl Wire for RawRing {
    const FORMAT: Format = Format::Split;
    fn new(config: QueueConfig) -> Self {
        Self(config)
    }
    fn used(&self, mem: &Memory, index: u16, id: u32, len: u32) {
        self.set_used_entry(mem, index, id, len);
        self.set_used_idx(mem, index.wrapping_add(1));
    }
}

impl Wire for RawPacked {
    const FORMAT: Format = Format::Packed;
    fn new(config: QueueConfig) -> Self {
        Self(config)
    }
    fn used(&self, mem: &Memory, index: u16, id: u32, len: u32) {
        self.set_tail(mem, index, (len, id as u16, Self::AVAIL | Self::USED | WRITE));
    }
}

/// A driver with three chains outstanding (handles 0, 1 and 2, of 10, 20 and 30 writable bytes), and a device that only
/// has memory.
struct Victim<W> {
    mem: Memory,
    raw: W,
    setup: Setup,
    driver: AnyDriver<Area>,
}

impl<W: Wire> Victim<W> {
    fn new(event_idx: bool) -> Self {
        Self::with(event_idx, false)
    }

    fn with(event_idx: bool, in_order: bool) -> Self {
        let setup = Setup { event_idx, in_order, ..Setup::new(W::FORMAT, 8) };
        let mem = memory();
        let mut driver = setup.driver(&mem, (0, 0));
        for i in 1..=3_u64 {
            let element = Element { addr: GuestAddr(BUFFER + 4096 * i), len: 10 * i as u32, writable: true };
            assert_eq!(driver.add(&[element]), Ok(Handle(i as u16 - 1)));
        }
        assert_eq!(driver.flush(), Notify::Needed);
        Self { mem, raw: W::new(setup.config()), setup, driver }
    }

    fn used(&self, index: u16, id: u32, len: u32) {
        self.raw.used(&self.mem, index, id, len);
    }

    /// One more chain, which only the driver knows of.
    fn add_unpublished(&mut self) {
        let element = Element { addr: GuestAddr(BUFFER), len: 64, writable: false };
        assert_eq!(self.driver.add(&[element]), Ok(Handle(3)));
    }

    /// The driver stopped because of `expected`, and a reset helps. It takes chains back one at a time, or in bursts.
    fn has_failed(mut self, name: &str, expected: fn(RingError) -> bool, bursts: bool) {
        let free = self.driver.free_slots();
        let error = if bursts {
            self.driver.reap_each(8, |used| panic!("{name}: took {used:?} back")).unwrap_err()
        } else {
            self.driver.poll_used().unwrap_err()
        };
        assert!(expected(error), "{name}: {error:?}");
        assert_eq!(self.driver.fault(), Some(error), "{name}");
        assert_eq!(self.driver.free_slots(), free, "{name}: nothing was given back");
        self.used(0, 1, 0);
        assert_eq!(self.driver.poll_used(), Ok(None), "{name}: nothing is used any more");
        let _ = self.driver.add(&[Element { addr: GuestAddr(BUFFER), len: 9, writable: true }]);
        let _ = self.driver.flush();
        assert_eq!(self.driver.poll_used(), Ok(None), "{name}: nor is what is added to a broken ring");
        assert_eq!(self.driver.reap_each(8, |used| panic!("{name}: took {used:?} back")), Ok(0));
        assert!(self.driver.arm(), "{name}");
        let mut driver = self.setup.driver(&self.mem, (0, 0));
        let handle = driver.add(&[Element { addr: GuestAddr(BUFFER), len: 9, writable: true }]).unwrap();
        assert_eq!(driver.flush(), Notify::Needed, "{name}");
        self.used(0, handle.0.into(), 9);
        assert_eq!(driver.poll_used(), Ok(Some(Used { handle, len: 9 })), "{name}");
    }
}

fn bad_id(e: RingError) -> bool {
    matches!(e, RingError::UsedId { .. })
}

fn bad_len(e: RingError) -> bool {
    matches!(e, RingError::UsedLen { .. })
}

#[test]
fn hostile_devices_do_not_confuse_the_driver() {
    type SetUp = fn(&mut Victim<RawRing>);
    type Expected = fn(RingError) -> bool;
    fn bad_used(e: RingError) -> bool {
        matches!(e, RingError::UsedIndex { .. })
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
                v.add_unpublished();
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
                v.add_unpublished();
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
        for (event_idx, bursts) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut v = Victim::new(event_idx);
            set_up(&mut v);
            v.has_failed(name, expected, bursts);
        }
    }
}

#[test]
fn hostile_devices_do_not_confuse_a_packed_driver() {
    type SetUp = fn(&mut Victim<RawPacked>);
    type Expected = fn(RingError) -> bool;
    let rows: [(&str, SetUp, Expected); 11] = [
        ("V170 id is the queue size", |v| v.used(0, 8, 0), bad_id),
        ("V171 id 0xffff", |v| v.used(0, 0xFFFF, 0), bad_id),
        ("V172 id was never added", |v| v.used(0, 5, 0), bad_id),
        (
            "V173 id used twice",
            |v| {
                v.used(0, 1, 0);
                assert!(v.driver.poll_used().unwrap().is_some());
                v.used(1, 1, 0);
            },
            bad_id,
        ),
        ("V174 length is one too long", |v| v.used(0, 1, 21), bad_len),
        ("V175 length is 2^32 - 1", |v| v.used(0, 2, u32::MAX), bad_len),
        (
            "V176 length of a chain that is only readable",
            |v| {
                v.add_unpublished();
                let _ = v.driver.flush();
                v.used(0, 3, 1);
            },
            bad_len,
        ),
        (
            "V177 a chain that was added and not published, and nothing else is out",
            |v| {
                v.add_unpublished();
                for i in 0..3 {
                    v.used(i, i.into(), 0);
                    assert!(v.driver.poll_used().unwrap().is_some());
                }
                // It has no flags yet in the ring: the device makes up some.
                v.used(3, 3, 0);
                assert_eq!(v.driver.poll_used(), Ok(None), "nothing is out, so nothing can be used");
                let _ = v.driver.flush();
                v.used(3, 9, 0);
            },
            bad_id,
        ),
        (
            "V178 a chain of more slots than are out, not published",
            |v| {
                let two = [Element { addr: GuestAddr(BUFFER), len: 1, writable: false }; 2];
                assert_eq!(v.driver.add(&two), Ok(Handle(3)));
                v.used(0, 0, 0);
                v.used(1, 1, 0);
                assert!(v.driver.poll_used().unwrap().is_some() && v.driver.poll_used().unwrap().is_some());
                v.used(2, 3, 0);
            },
            bad_id,
        ),
        (
            "V179 good entry, then a bad one in the same burst",
            |v| {
                v.used(0, 2, 30);
                v.used(1, 77, 0);
                assert_eq!(v.driver.poll_used(), Ok(Some(Used { handle: Handle(2), len: 30 })));
            },
            bad_id,
        ),
        (
            "V180 id of a slot in the middle of a chain, which is none",
            |v| {
                let two = [Element { addr: GuestAddr(BUFFER), len: 1, writable: false }; 2];
                assert_eq!(v.driver.add(&two), Ok(Handle(3)));
                let _ = v.driver.flush();
                v.used(0, 4, 0);
            },
            bad_id,
        ),
    ];
    for (name, set_up, expected) in rows {
        for (event_idx, bursts) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut v = Victim::new(event_idx);
            set_up(&mut v);
            v.has_failed(name, expected, bursts);
        }
    }
}

/// In order: the id says how far a run goes, and it goes nowhere.
fn hostile_runs<W: Wire>() {
    type SetUp<W> = fn(&mut Victim<W>);
    type Expected = fn(RingError) -> bool;
    let rows: [(&str, SetUp<W>, Expected); 4] = [
        ("V181 id was never added", |v| v.used(0, 5, 0), bad_id),
        ("V182 id is beyond the ring", |v| v.used(0, 0xFFFF, 0), bad_id),
        ("V183 length of the last chain is too long", |v| v.used(0, 0, 11), bad_len),
        (
            "V184 id that was given back before",
            |v| {
                v.used(0, 0, 3);
                assert_eq!(v.driver.poll_used(), Ok(Some(Used { handle: Handle(0), len: 3 })));
                v.used(1, 0, 3);
            },
            bad_id,
        ),
    ];
    for (name, set_up, expected) in rows {
        let mut v = Victim::<W>::with(true, true);
        set_up(&mut v);
        let error = core::iter::from_fn(|| v.driver.poll_used().transpose()).find_map(Result::err);
        assert!(error.is_some_and(expected), "{:?}, {name}: {error:?}", W::FORMAT);
        assert_eq!((v.driver.fault(), v.driver.poll_used()), (error, Ok(None)), "{name}");
    }
    // V185: the run would end with a chain that was not published. What was may come back; the rest does not.
    let mut v = Victim::<W>::with(false, true);
    v.add_unpublished();
    v.used(0, 3, 0);
    let all: Vec<_> = core::iter::from_fn(|| v.driver.poll_used().transpose()).collect();
    assert!(all.len() <= 4 && all.last().unwrap().is_err_and(bad_id), "{:?}: {all:?}", W::FORMAT);
    assert!(all.iter().flatten().all(|used| used.handle.0 < 3));
}

#[test]
fn hostile_runs_end() {
    hostile_runs::<RawRing>();
    hostile_runs::<RawPacked>();
}

#[test]
fn used_flags_on_what_is_the_drivers_mean_nothing() {
    // V186: nothing is published, one descriptor waits for the flush; every slot says that it is used, on either lap.
    for flags in [RawPacked::AVAIL | RawPacked::USED, 0] {
        for size in [1, 2, 3, 8] {
            let setup = Setup::new(Format::Packed, size);
            let (mem, raw) = (memory(), RawPacked(setup.config()));
            let mut driver = setup.driver(&mem, (0, 0));
            let element = [Element { addr: GuestAddr(BUFFER), len: 9, writable: true }];
            for lap in 0..2 * size {
                let id = lap % size;
                assert_eq!(driver.add(&element), Ok(Handle(id)));
                for slot in 0..size {
                    raw.set_tail(&mem, slot, (9, id, flags));
                }
                assert_eq!(driver.poll_used(), Ok(None), "size {size}, buffer {lap}");
                assert!(driver.arm());
                let _ = driver.flush();
                let used = if lap < size { RawPacked::AVAIL | RawPacked::USED } else { 0 };
                assert_eq!(driver.poll_used(), Ok(None), "size {size}, buffer {lap}: what it published itself");
                raw.set_tail(&mem, lap % size, (9, id, used | WRITE));
                assert_eq!(driver.poll_used(), Ok(Some(Used { handle: Handle(id), len: 9 })));
            }
        }
    }
}

#[test]
fn a_device_that_rewrites_packed_descriptors_changes_nothing_for_the_driver() {
    // V187: addresses, lengths, ids and flags of what is out are never read back.
    let mut v = Victim::<RawPacked>::new(true);
    let two = [Element { addr: GuestAddr(BUFFER), len: 100, writable: true }; 2];
    assert_eq!(v.driver.add(&two), Ok(Handle(3)));
    let _ = v.driver.flush();
    for slot in 0..8 {
        v.raw.desc(&v.mem, slot, (u64::MAX, u32::MAX, 0xFFFF, 0x7F7F));
    }
    v.used(0, 3, 200);
    assert_eq!(v.driver.poll_used(), Ok(Some(Used { handle: Handle(3), len: 200 })));
    assert_eq!(v.driver.free_slots(), 5);
    // The chain took two slots, whatever they say: the next entry is in the third.
    v.used(2, 1, 20);
    assert_eq!(v.driver.poll_used(), Ok(Some(Used { handle: Handle(1), len: 20 })));
    assert_eq!(v.driver.free_slots(), 6);
}

#[test]
fn event_words_that_say_nothing_are_answered() {
    // V188: an offset that is no slot, and the reserved value of the flags: one notification too many loses nothing.
    for word in
        [[8, 0, 2, 0], [8, 0x80, 2, 0], [0xFF, 0xFF, 2, 0], [0xFF, 0x7F, 2, 0], [0, 0, 3, 0], [9, 0, 0xFF, 0xFF]]
    {
        let mut v = Victim::<RawPacked>::new(true);
        let config = v.setup.config();
        poke(&v.mem, config.device.0, &word);
        poke(&v.mem, config.driver.0, &word);
        v.add_unpublished();
        assert_eq!(v.driver.flush(), Notify::Needed, "{word:02x?}");
        let mut device = v.setup.fresh_device(&v.mem);
        let mut list = crate::common::peers::List::default();
        let token = device.peek(&v.mem, &mut list).unwrap().unwrap().accept();
        device.complete(token, 0);
        assert_eq!(device.flush(), Notify::Needed, "{word:02x?}");
        assert_eq!(bytes(&v.mem, config.driver.0, 4), word, "the driver's word is the driver's");
    }
}

#[test]
fn a_device_that_takes_over_a_silenced_packed_ring_asks_for_kicks() {
    // V189: as V118.
    let setup = Setup::new(Format::Packed, 3);
    let mem = memory();
    let mut driver = setup.driver(&mem, (0, 0));
    let mut device = setup.fresh_device(&mem);
    device.disarm();
    let state = device.state();
    drop(device);
    let mut device = setup.device(&mem, state);
    driver.add(&[Element { addr: GuestAddr(BUFFER), len: 9, writable: true }]).unwrap();
    assert_eq!(driver.flush(), Notify::Needed, "or the device sleeps forever");
    assert!(!device.arm());
}

#[test]
fn a_device_that_rewrites_descriptors_changes_nothing_for_the_driver() {
    // V117: the table, the available ring and the lengths in it are never read back.
    for event_idx in [false, true] {
        let mut v = Victim::<RawRing>::new(event_idx);
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
