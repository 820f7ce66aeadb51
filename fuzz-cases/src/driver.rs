//! A driver against a hostile device that only has memory.

use std::collections::VecDeque;

use virtio_ring::{AnyDriver, DriverRing, Element, Format, GuestAddr, Handle, QueueConfig, Used};

use crate::Tally;
use crate::arena::{Arena, BUFFER, TABLE};
use crate::common::guest::{RING, RawPacked, RawRing, WRITE};
use crate::common::peers::{Setup, room};
use crate::device::{RING_BYTES, set_up};
use crate::input::Input;
use crate::watched::{Watched, WatchedArea};

const MOST: usize = 200;
/// Entries of each indirect table: 64 rings' worth of them fit between `TABLE` and `BUFFER`.
const ENTRIES: u16 = 4;

/// A chain that the driver added.
#[derive(Clone, Copy)]
struct Added {
    handle: Handle,
    needed: u16,
    room: u32,
    is_published: bool,
    /// An honest device has used it, or a run that it is part of.
    is_used: bool,
}

/// See the module.
struct Session<'a, D> {
    input: Input<'a>,
    mem: Watched,
    driver: D,
    setup: Setup,
    /// Oldest first.
    added: Vec<Added>,
    /// What an honest device has used, and what the driver has to find.
    used: VecDeque<Used>,
    /// Split: the device's used index. Packed: its next used position.
    device_at: u64,
    /// Chains added since the last flush, and chains flushed and not reaped.
    fresh: u16,
    out: u16,
    /// Nothing but what the protocol allows was done yet.
    honest: bool,
    failed: bool,
    tally: Tally,
}

/// A whole session of a driver that `make` sets up.
pub(crate) fn run<D: DriverRing>(
    format: Format,
    data: &[u8],
    tricks: &[u8],
    make: impl FnOnce(&Watched, &Setup) -> D,
) -> Tally {
    let mut input = Input::new(data);
    let setup = set_up(&mut input, format);
    let mem = Watched::new(Arena::fresh(), tricks);
    let driver = make(&mem, &setup);
    let honest = tricks.is_empty();
    // Set-up clears what is the device's as well.
    mem.arena.settle(std::iter::once(RING..RING + RING_BYTES as u64));
    let (added, used) = (Vec::new(), VecDeque::new());
    let mut session = Session {
        input,
        mem,
        driver,
        setup,
        added,
        used,
        device_at: 0,
        fresh: 0,
        out: 0,
        honest,
        failed: false,
        tally: Tally::default(),
    };
    for _ in 0..MOST {
        if session.input.is_empty() {
            break;
        }
        session.step();
    }
    session.end();
    session.tally
}

/// A driver of the crate.
pub(crate) fn ours(mem: &Watched, setup: &Setup) -> AnyDriver<WatchedArea> {
    setup.driver(mem, (TABLE, ENTRIES))
}

impl<D: DriverRing> Session<'_, D> {
    fn step(&mut self) {
        let what = self.input.below(20);
        self.mem.begin();
        match what {
            0..=4 => self.add(),
            5 | 6 => self.flush(),
            7..=9 => drop(self.poll()),
            10 => {
                let may_sleep = self.driver.arm();
                assert!(!self.honest || may_sleep == self.used.is_empty(), "oracle: work before sleep");
            }
            11 => self.driver.disarm(),
            12..=16 => self.use_one(),
            17 => self.entry(),
            18 => self.raw(),
            _ => self.wish(),
        }
        if !self.failed {
            let free = self.setup.size - self.added.iter().map(|a| a.needed).sum::<u16>();
            assert_eq!(self.driver.free_slots(), free, "oracle: free descriptors");
        }
    }

    fn config(&self) -> QueueConfig {
        self.setup.config()
    }

    /// What the driver may write: its ring, its event word, its tables.
    fn settle(&self) {
        let config = self.config();
        let area = |at: GuestAddr, len: u64| at.0..at.0 + len;
        let (descs, driver) =
            (16 * u64::from(config.size), if self.is_split() { 6 + 2 * u64::from(config.size) } else { 4 });
        let tables = if self.setup.indirect { u64::from(config.size) * u64::from(ENTRIES) * 16 } else { 0 };
        self.mem.arena.settle([area(config.desc, descs), area(config.driver, driver), TABLE..TABLE + tables]);
    }

    fn is_split(&self) -> bool {
        self.setup.format == Format::Split
    }

    fn end(&mut self) {
        self.settle();
        self.mem.arena.check();
        if self.honest {
            // Whatever was used comes back, and nothing else.
            while !self.used.is_empty() {
                self.poll();
            }
        }
        for _ in 0..=self.added.len() {
            if self.poll().is_none() {
                return;
            }
        }
        panic!("oracle: more chains come back than were added");
    }

    // The driver.

    fn add(&mut self) {
        let (count, readable) = (1 + self.input.below(6), self.input.below(7));
        let elements: Vec<_> = (0..count).map(|i| self.element(i >= readable)).collect();
        let in_table = self.setup.indirect && (2..=usize::from(ENTRIES)).contains(&count);
        let needed = if in_table { 1 } else { count as u16 };
        let free = self.driver.free_slots();
        let Ok(handle) = self.driver.add(&elements) else {
            assert!(needed > free, "oracle: {needed} of {free} descriptors do not fit");
            return;
        };
        assert!(needed <= free, "oracle: {needed} of {free} descriptors fit");
        assert!(self.failed || self.added.iter().all(|a| a.handle != handle), "oracle: a handle twice");
        let room = room(&elements);
        self.fresh += 1;
        self.added.push(Added { handle, needed, room, is_published: false, is_used: false });
    }

    fn element(&mut self, writable: bool) -> Element {
        let addr = GuestAddr(BUFFER + u64::from(self.input.u8()));
        Element { addr, len: self.input.u8().into(), writable }
    }

    fn flush(&mut self) {
        let notify = self.driver.flush();
        let fresh = self.added.iter().any(|a| !a.is_published);
        assert!(fresh || !self.honest || !notify.is_needed(), "oracle: a kick for nothing");
        self.added.iter_mut().for_each(|a| a.is_published = true);
        self.out += std::mem::take(&mut self.fresh);
    }

    /// What comes back was out, comes back once, and holds no more than it can.
    fn poll(&mut self) -> Option<Used> {
        self.mem.begin();
        let polled = self.driver.poll_used();
        if self.failed {
            assert_eq!(polled, Ok(None), "oracle: a broken ring looks empty");
            return None;
        }
        if let Some(idx) = self.mem.last(self.config().device.0 + 2).filter(|_| self.is_split()) {
            let claimed = (idx as u16).wrapping_sub(self.tally.completed as u16);
            assert!(claimed <= self.out || polled.is_err(), "oracle: {claimed} used of {} that are out", self.out);
        }
        let used = match polled {
            Ok(used) => used,
            Err(error) => {
                assert!(!self.honest, "oracle: {error} of an honest device");
                self.failed = true;
                self.tally.broken += 1;
                return None;
            }
        };
        if self.honest {
            assert_eq!(used, self.used.pop_front(), "oracle: what an honest device used");
        }
        let Used { handle, len } = used?;
        // Between `add` and `flush` a chain is the device's already, as far as the driver can tell.
        let at = self.added.iter().position(|a| a.handle == handle);
        let Some(at) = at else { panic!("oracle: {handle:?} is not out") };
        assert!(!self.setup.in_order || at == 0, "oracle: out of order");
        let added = self.added.remove(at);
        assert!(len <= added.room, "oracle: {len} bytes in room for {}", added.room);
        self.tally.completed += 1;
        // A packed driver takes back, for one chain of many slots, several that it has not published.
        self.out = self.out.wrapping_sub(1);
        used
    }

    // The device.

    /// Gives a chain back by the rules; in order, it may be a run that ends with it.
    fn use_one(&mut self) {
        let (pick, part) = (self.input.u8(), self.input.u8());
        let out: Vec<_> =
            (0..self.added.len()).filter(|i| self.added[*i].is_published && !self.added[*i].is_used).collect();
        if out.is_empty() {
            return;
        }
        let pick = usize::from(pick) % out.len();
        // Only what has no room may be left out of a run.
        let skipped =
            if self.setup.in_order { out.iter().take_while(|i| self.added[**i].room == 0).count() } else { 0 };
        let run = if self.setup.in_order { &out[..=pick.min(skipped)] } else { &out[pick..=pick] };
        let Some(last) = run.last().map(|i| self.added[*i]) else { return };
        let len = (u64::from(last.room) * u64::from(part) / 255) as u32;
        let positions =
            if self.is_split() { run.len() as u64 } else { run.iter().map(|i| u64::from(self.added[*i].needed)).sum() };
        for i in run {
            let added = &mut self.added[*i];
            added.is_used = true;
            let len = if added.handle == last.handle { len } else { added.room };
            self.used.push_back(Used { handle: added.handle, len });
        }
        self.write_entry(last.handle.0.into(), len, if len == 0 { 0 } else { WRITE });
        self.device_at += positions;
        if self.is_split() {
            self.publish(self.device_at as u16);
        }
    }

    fn write_entry(&self, id: u32, len: u32, flags: u16) {
        let (size, config) = (u64::from(self.setup.size), self.config());
        let entry = if self.is_split() {
            [id.to_le_bytes(), len.to_le_bytes()].concat()
        } else {
            let lap = if (self.device_at / size).is_multiple_of(2) { RawPacked::AVAIL | RawPacked::USED } else { 0 };
            [&len.to_le_bytes()[..], &(id as u16).to_le_bytes(), &(flags | lap).to_le_bytes()].concat()
        };
        let slot = self.device_at % size;
        let at = if self.is_split() { config.device.0 + 4 + 8 * slot } else { config.desc.0 + 16 * slot + 8 };
        self.mem.arena.poke(at, &entry);
    }

    fn publish(&self, idx: u16) {
        self.mem.arena.poke(self.config().device.0 + 2, &idx.to_le_bytes());
    }

    /// Any entry at the place where the next one belongs.
    fn entry(&mut self) {
        self.honest = false;
        let kind = self.input.u8();
        let id = if kind & 1 == 0 { u32::from(self.input.u8()) % u32::from(self.setup.size) } else { self.input.u32() };
        let len = if kind & 2 == 0 { self.input.u8().into() } else { self.input.u32() };
        self.write_entry(id, len, u16::from(kind) & WRITE);
        self.device_at += if kind & 8 == 0 { 1 } else { u64::from(self.input.u8()) };
        if self.is_split() && kind & 16 == 0 {
            self.publish(self.device_at as u16);
        }
    }

    /// Any bytes anywhere in the ring: what is the driver's as well.
    fn raw(&mut self) {
        self.honest = false;
        let at = RING + u64::from(self.input.u16()) % RING_BYTES as u64;
        let word = self.input.u16().to_le_bytes();
        self.mem.arena.poke(at, &word);
    }

    /// When the device wants a kick. Whatever it says, this harms nobody but the device.
    fn wish(&mut self) {
        let (config, word) = (self.config(), self.input.u16());
        match (self.setup.format, self.setup.event_idx) {
            (Format::Split, true) => {
                self.mem.arena.poke(RawRing(config).used_range().end - 2, &word.to_le_bytes());
            }
            (Format::Split, false) => self.mem.arena.poke(config.device.0, &word.to_le_bytes()),
            (Format::Packed, _) => {
                let flags = [word.to_le_bytes(), (word >> 7 & 3).to_le_bytes()].concat();
                self.mem.arena.poke(config.device.0, &flags);
            }
        }
    }
}
