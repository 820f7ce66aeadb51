//! V230 to V238: devices that are hostile to chains which are kept, and to tables which are not written again.

use virtio_ring::{
    AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, KeptError, Reposting, RingError,
    Used,
};

use crate::Area;
use crate::common::guest::{BUFFER, Memory, RawPacked, RawRing, TABLE, WRITE, bytes, memory, poke};
use crate::common::peers::{List, Setup};

/// A full ring of four buffers, of 10, 20, 30 and 40 bytes.
struct Victim {
    setup: Setup,
    mem: Memory,
    driver: Reposting<AnyDriver<Area>>,
}

fn element(i: u16) -> Element {
    Element { addr: GuestAddr(BUFFER + 4096 * u64::from(i)), len: 10 * (u32::from(i) + 1), writable: true }
}

impl Victim {
    fn new(setup: Setup) -> Self {
        let mem = memory();
        let mut driver = Reposting::new(setup.driver(&mem, (TABLE, 4)));
        for i in 0..4 {
            assert_eq!(driver.add(&[element(i)]), Ok(Handle(i)));
        }
        let _ = driver.flush();
        Self { setup, mem, driver }
    }

    /// The device uses a chain: entry `index` of the used ring, or the slot that is so far in the packed ring.
    fn used(&self, index: u16, id: u16, len: u32) {
        let config = self.setup.config();
        if self.setup.format == Format::Split {
            let raw = RawRing(config);
            raw.set_used_entry(&self.mem, index, id.into(), len);
            raw.set_used_idx(&self.mem, index + 1);
        } else {
            let lap = if (index / 4).is_multiple_of(2) { RawPacked::AVAIL | RawPacked::USED } else { 0 };
            RawPacked(config).set_tail(&self.mem, index % 4, (len, id, lap | WRITE));
        }
    }

    fn keep(&mut self, index: u16, id: u16) {
        self.used(index, id, 5);
        assert_eq!(self.driver.poll_kept(), Ok(Some(Used { handle: Handle(id), len: 5 })));
    }

    /// The device has lost the ring, and what is kept is the driver's to release.
    fn has_failed(mut self, name: &str, expected: fn(RingError) -> bool, kept: &[u16]) {
        let free = self.driver.free_slots();
        let error = self.driver.poll_kept().unwrap_err();
        assert!(expected(error), "{:?}, {name}: {error:?}", self.setup);
        assert_eq!(self.driver.ring().fault(), Some(error), "{name}");
        assert_eq!((self.driver.poll_kept(), self.driver.poll_used()), (Ok(None), Ok(None)), "{name}");
        assert_eq!(self.driver.free_slots(), free, "{name}: nothing was given back");
        assert_eq!(usize::from(self.driver.kept()), kept.len(), "{name}");
        for handle in kept.iter().map(|id| Handle(*id)) {
            assert_eq!(self.driver.release(handle), Ok(()), "{name}");
            assert_eq!(self.driver.release(handle), Err(KeptError::NotKept { handle }), "{name}");
        }
        assert_eq!(usize::from(self.driver.free_slots()), usize::from(free) + kept.len(), "{name}");
    }
}

fn bad_id(e: RingError) -> bool {
    matches!(e, RingError::UsedId { .. })
}

fn bad_len(e: RingError) -> bool {
    matches!(e, RingError::UsedLen { .. })
}

/// The four rings.
fn rings() -> impl Iterator<Item = Setup> {
    [Format::Split, Format::Packed]
        .into_iter()
        .flat_map(|format| [false, true].map(|in_order| Setup { event_idx: true, in_order, ..Setup::new(format, 4) }))
}

#[test]
fn hostile_devices_do_not_get_what_is_kept() {
    type SetUp = fn(&mut Victim);
    type Expected = fn(RingError) -> bool;
    let rows: [(&str, SetUp, Expected, &[u16]); 6] = [
        (
            "V230 id of a chain that is kept and not posted",
            |v| {
                v.keep(0, 0);
                v.used(1, 0, 5);
            },
            bad_id,
            &[0],
        ),
        (
            "V231 id of a chain that is posted again and not published",
            |v| {
                v.keep(0, 0);
                for (index, id) in [(1, 1), (2, 2), (3, 3)] {
                    v.keep(index, id);
                }
                assert_eq!(v.driver.repost(Handle(0)), Ok(Handle(0)));
                assert_eq!(v.driver.repost(Handle(1)), Ok(Handle(1)));
                let _ = v.driver.flush();
                assert_eq!(v.driver.repost(Handle(2)), Ok(Handle(2)));
                v.used(4, 3, 5);
            },
            bad_id,
            &[3],
        ),
        (
            "V232 id twice: once before the chain was posted again, twice after",
            |v| {
                v.keep(0, 0);
                assert_eq!(v.driver.repost(Handle(0)), Ok(Handle(0)));
                let _ = v.driver.flush();
                for (index, id) in [(1, 1), (2, 2), (3, 3), (4, 0)] {
                    v.keep(index, id);
                }
                assert_eq!(v.driver.repost(Handle(1)), Ok(Handle(1)));
                let _ = v.driver.flush();
                v.used(5, 0, 5);
            },
            bad_id,
            &[2, 3, 0],
        ),
        (
            "V233 length longer than the buffer that was posted again",
            |v| {
                v.keep(0, 0);
                assert_eq!(v.driver.repost(Handle(0)), Ok(Handle(0)));
                let _ = v.driver.flush();
                for (index, id) in [(1, 1), (2, 2), (3, 3)] {
                    v.keep(index, id);
                }
                v.used(4, 0, 11);
            },
            bad_len,
            &[1, 2, 3],
        ),
        (
            "V234 id of a chain that was released",
            |v| {
                v.keep(0, 0);
                v.keep(1, 1);
                assert_eq!(v.driver.release(Handle(0)), Ok(()));
                v.used(2, 0, 5);
            },
            bad_id,
            &[1],
        ),
        (
            "V235 length of a kept chain grows afterwards, and so does another's",
            |v| {
                v.keep(0, 0);
                v.used(0, 0, 11);
                v.used(1, 1, 21);
            },
            bad_len,
            &[0],
        ),
    ];
    for (name, set_up, expected, kept) in rows {
        for setup in rings() {
            let mut v = Victim::new(setup);
            set_up(&mut v);
            v.has_failed(name, expected, kept);
        }
    }
}

/// What a well-behaved device finds in the ring.
fn found(mem: &Memory, device: &mut AnyDevice<Area>) -> Vec<Element> {
    let mut list = List::default();
    while let Some(peeked) = device.peek(mem, &mut list).unwrap() {
        assert_eq!(peeked.fault(), None);
        let token = peeked.accept();
        device.complete(token, 0);
    }
    let _ = device.flush();
    list.0
}

#[test]
fn what_a_device_wrote_into_the_ring_is_not_posted_again() {
    // V236: lengths, ids and flags of kept chains are scribbled over; the driver posts what it remembers.
    for setup in rings() {
        let mut v = Victim::new(setup);
        let mut device = setup.fresh_device(&v.mem);
        let posted = found(&v.mem, &mut device);
        while v.driver.poll_kept().unwrap().is_some() {}
        if setup.format == Format::Packed {
            for slot in 0..4 {
                RawPacked(setup.config()).set_tail(&v.mem, slot, (u32::MAX, 0xFFFF, 0x7F7F));
            }
        } else {
            for i in 0..4 {
                RawRing(setup.config()).avail_entry(&v.mem, i, 0xFFFF);
            }
        }
        for id in 0..4 {
            assert_eq!(v.driver.repost(Handle(id)), Ok(Handle(id)));
        }
        let _ = v.driver.flush();
        assert_eq!(found(&v.mem, &mut device), posted, "{setup:?}");
    }
}

#[test]
fn a_device_that_scribbles_over_tables_and_descriptors_harms_only_itself() {
    // V237: a table and the addresses of packed slots are rewritten by the device; they are not the device's to write, and
    // it reads its own words when the same chain comes again. The driver sees lengths of its own buffers only.
    for setup in rings() {
        let setup = Setup { indirect: true, ..setup };
        let mem = memory();
        let mut driver = Reposting::new(setup.driver(&mem, (TABLE, 4)));
        let two = [element(0), element(1)];
        let handle = driver.add(&two).unwrap();
        let _ = driver.flush();
        let before = bytes(&mem, TABLE, 4 * 4 * 16);
        let junk = vec![0xA5; before.len()];
        poke(&mem, TABLE, &junk);
        let raw = RawPacked(setup.config());
        let used = |index: u16, id: u16, len| {
            if setup.format == Format::Split {
                let raw = RawRing(setup.config());
                raw.set_used_entry(&mem, index, id.into(), len);
                raw.set_used_idx(&mem, index + 1);
            } else {
                raw.set_tail(&mem, index, (len, id, RawPacked::AVAIL | RawPacked::USED | WRITE));
            }
        };
        used(0, handle.0, 30);
        assert_eq!(driver.poll_kept(), Ok(Some(Used { handle, len: 30 })));
        let handle = driver.repost(handle).unwrap();
        let _ = driver.flush();
        assert_eq!(bytes(&mem, TABLE, junk.len()), junk, "not looked at, not written");
        used(1, handle.0, 31);
        assert_eq!(
            driver.poll_kept(),
            Err(RingError::UsedLen { id: handle.0, room: 30, len: 31 }),
            "{setup:?}: what the table says now does not matter"
        );
    }
}

#[test]
fn a_run_in_order_ends_before_what_is_kept() {
    // V238: a used entry names a kept chain as the last of a run, so that the driver would go on through all others.
    for format in [Format::Split, Format::Packed] {
        let mut v = Victim::new(Setup { in_order: true, ..Setup::new(format, 4) });
        v.keep(0, 0);
        v.keep(1, 1);
        v.used(2, 0, 5);
        let all: Vec<_> = core::iter::from_fn(|| v.driver.poll_kept().transpose()).collect();
        assert!(all.len() <= 3 && all.last().unwrap().is_err_and(bad_id), "{format:?}: {all:?}");
        let kept = v.driver.kept();
        for id in 0..kept {
            assert_eq!(v.driver.release(Handle(id)), Ok(()));
        }
        assert_eq!((v.driver.kept(), v.driver.free_slots()), (0, kept));
    }
}
