//! One script of good chains through both formats: the same elements, bytes, lengths, order and, where the formats have
//! the same wishes, notifications.

use virtio_ring::{AnyDevice, AnyDriver, Chains, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, Token};

use crate::Tally;
use crate::arena::{Arena, BUFFER, SEAM, TABLE};
use crate::common::guest::bytes;
use crate::common::peers::{Setup, room};
use crate::input::Input;
use crate::watched::{Watched, WatchedArea};

const MOST: usize = 200;
/// Entries of each indirect table.
const ENTRIES: u16 = 4;
const DEPTH: usize = 64;

/// What anybody can see of a session, whatever the format.
#[derive(PartialEq, Eq, Debug)]
enum Seen {
    Added(Option<usize>),
    Notify(bool),
    /// What the device read, and how much it could write.
    Chain(Vec<u8>, u32),
    /// Which chain, how much of it, and what the driver finds in it.
    Used(Option<(usize, u32, Vec<u8>)>),
    Asleep(bool),
    Free(u16),
}

struct Posted {
    serial: usize,
    handle: Handle,
    elements: Vec<Element>,
}

struct Session<'a, D> {
    input: Input<'a>,
    mem: Watched,
    setup: Setup,
    driver: AnyDriver<WatchedArea>,
    device: D,
    chains: Chains<Watched>,
    posted: Vec<Posted>,
    held: Vec<(Token, u32)>,
    serial: usize,
    completed: usize,
    seen: Vec<Seen>,
}

/// Both sessions, and that they look the same. `make` starts the device.
pub(crate) fn run<D: DeviceRing>(data: &[u8], make: impl Fn(&Watched, &Setup) -> D) -> Tally {
    let mut input = Input::new(data);
    // A size that both formats have.
    let split = crate::device::set_up(&mut input, Format::Split);
    let [(a, completed), (b, _)] = [Format::Split, Format::Packed].map(|format| {
        let setup = Setup { format, ..split };
        let mem = Watched::new(Arena::fresh(), &[]);
        let driver = setup.driver(&mem, (TABLE, ENTRIES));
        let device = make(&mem, &setup);
        let chains = Chains::new(mem.clone(), DEPTH);
        let (posted, held, seen) = (Vec::new(), Vec::new(), Vec::new());
        let input = input.clone();
        Session { input, mem, setup, driver, device, chains, posted, held, serial: 0, completed: 0, seen }.finish()
    });
    for (i, (split, packed)) in a.iter().zip(&b).enumerate() {
        assert_eq!(split, packed, "oracle: split and packed at {i}");
    }
    assert_eq!(a.len(), b.len(), "oracle: split and packed");
    Tally { completed, ..Tally::default() }
}

/// A device of the crate.
pub(crate) fn ours(mem: &Watched, setup: &Setup) -> AnyDevice<WatchedArea> {
    setup.fresh_device(mem)
}

impl<D: DeviceRing> Session<'_, D> {
    fn finish(mut self) -> (Vec<Seen>, usize) {
        for _ in 0..MOST {
            if self.input.is_empty() {
                break;
            }
            self.mem.begin();
            match self.input.below(16) {
                0..=4 => self.add(),
                5 | 6 => {
                    let notify = self.driver.flush();
                    self.notified(notify.is_needed());
                }
                7..=9 => self.poll(),
                10 => {
                    let asleep = self.driver.arm();
                    self.seen.push(Seen::Asleep(asleep));
                }
                11 if self.input.below(2) == 0 => self.driver.disarm(),
                11 => self.device.disarm(),
                12 => {
                    let asleep = self.device.arm();
                    self.seen.push(Seen::Asleep(asleep));
                }
                13 => self.chains.rewind(&mut self.device),
                14 => self.take(),
                _ => self.complete(),
            }
            self.seen.push(Seen::Free(self.driver.free_slots()));
        }
        self.drain();
        (self.seen, self.completed)
    }

    /// All that was added comes back.
    fn drain(&mut self) {
        let _ = self.driver.flush();
        while !self.posted.is_empty() {
            let before = self.posted.len();
            self.mem.begin();
            self.take();
            while !self.chains.is_empty() {
                self.take();
            }
            self.complete_many(self.held.len());
            for _ in 0..before {
                self.poll();
            }
            assert!(self.posted.len() < before, "oracle: a head was not completed within the budget");
        }
        assert_eq!(self.driver.free_slots(), self.setup.size, "oracle: free descriptors");
    }

    /// With the event index, the two formats count differently: entries and slots.
    fn notified(&mut self, needed: bool) {
        if !self.setup.event_idx {
            self.seen.push(Seen::Notify(needed));
        }
    }

    fn add(&mut self) {
        let (count, readable) = (1 + self.input.below(6), self.input.below(7));
        let element = |i, input: &mut Input<'_>| Element {
            addr: GuestAddr(BUFFER + u64::from(input.u16()) % (SEAM - BUFFER)),
            len: input.u8().into(),
            writable: i >= readable,
        };
        let elements: Vec<_> = (0..count).map(|i| element(i, &mut self.input)).collect();
        let added = self.driver.add(&elements).ok().map(|handle| {
            self.serial += 1;
            self.posted.push(Posted { serial: self.serial, handle, elements });
            self.serial
        });
        self.seen.push(Seen::Added(added));
    }

    /// Fills the pool, reads the oldest chain, and writes to it.
    fn take(&mut self) {
        // Until it brings nothing: how much of it a ring knows of at a time is its format's affair.
        let mut before = usize::MAX;
        while before != self.chains.len() {
            before = self.chains.len();
            self.chains.fill(&mut self.device).expect("oracle: an honest ring is broken");
        }
        let view = self.chains.view();
        let Some(chain) = view.chains().first() else { return };
        let mut read = Vec::new();
        for slice in view.readable(chain) {
            let mut part = vec![0; slice.len()];
            slice.read(&mut part);
            read.extend(part);
        }
        let wish = u32::from(self.input.u8()) * 4;
        let mut left = chain.writable_len().min(wish) as usize;
        let mut written = 0;
        for slice in view.writable(chain) {
            let n = slice.write(&vec![self.serial as u8; slice.len().min(left)]);
            (left, written) = (left - n, written + n as u32);
        }
        self.seen.push(Seen::Chain(read, chain.writable_len()));
        let token = self.chains.pop().expect("oracle: the chain that was looked at");
        self.held.push((token, written));
    }

    fn complete(&mut self) {
        let count = self.input.below(self.held.len() + 1);
        self.complete_many(count);
    }

    fn complete_many(&mut self, count: usize) {
        for _ in 0..count {
            let which = if self.setup.in_order { 0 } else { self.input.below(self.held.len()) };
            let (token, written) = self.held.remove(which);
            self.device.complete(token, written);
            self.completed += 1;
        }
        let notify = self.device.flush();
        self.notified(notify.is_needed());
    }

    fn poll(&mut self) {
        let used = self.driver.poll_used().expect("oracle: an honest device broke the ring");
        let found = used.map(|used| {
            let at = self.posted.iter().position(|p| p.handle == used.handle).expect("oracle: a chain that is out");
            let posted = self.posted.remove(at);
            assert!(used.len <= room(&posted.elements), "oracle: used.len");
            let first = posted.elements.iter().find(|e| e.writable);
            let data = first.map(|e| bytes(&self.mem.arena.mem, e.addr.0, e.len.min(used.len) as usize));
            (posted.serial, used.len, data.unwrap_or_default())
        });
        self.seen.push(Seen::Used(found));
    }
}
