//! Both sides' loops over a burst, resets and kept chains, on a ring that somebody else writes to as well.
//!
//! What the sides see of each other is whatever is in memory, so little can be said of it: nobody panics or goes on for
//! ever, no more chains are served or taken back than a ring holds, nothing comes back that is not out, and each side
//! writes nothing but the ring and its own tables.

use virtio_ring::{
    AnyDevice, ChainFault, ChainSink, DeviceRing, DriverRing, Element, Format, GuestAddr, Handle, KeptError, Reposting,
};

use crate::Tally;
use crate::arena::{Arena, BUFFER, TABLE};
use crate::common::guest::RING;
use crate::common::peers::Setup;
use crate::device::{RING_BYTES, set_up};
use crate::driver;
use crate::input::Input;
use crate::watched::{Watched, WatchedArea};

const MOST: usize = 200;

/// Elements of the chain that is shown, counted.
#[derive(Default)]
struct Shown(usize);

impl ChainSink for Shown {
    fn push(&mut self, _: Element) -> Result<(), ChainFault> {
        self.0 += 1;
        Ok(())
    }
}

struct Session<'a> {
    input: Input<'a>,
    mem: Watched,
    setup: Setup,
    driver: Reposting<virtio_ring::AnyDriver<WatchedArea>>,
    device: AnyDevice<WatchedArea>,
    /// Chains that are the device's, or about to be, and chains that are kept.
    out: Vec<Handle>,
    kept: Vec<Handle>,
    tally: Tally,
}

pub(crate) fn run(data: &[u8]) -> Tally {
    let mut input = Input::new(data);
    let format = if input.u8() & 1 == 0 { Format::Split } else { Format::Packed };
    let setup = set_up(&mut input, format);
    let mem = Watched::new(Arena::fresh(), &[]);
    mem.arena.settle(std::iter::once(RING..RING + RING_BYTES as u64));
    let driver = Reposting::new(driver::ours(&mem, &setup));
    let device = AnyDevice::new(&mem, format, &setup.config(), format.start()).expect("oracle: a fresh ring");
    let (out, kept, tally) = (Vec::new(), Vec::new(), Tally::default());
    let mut session = Session { input, mem, setup, driver, device, out, kept, tally };
    for _ in 0..MOST {
        if session.input.is_empty() {
            break;
        }
        session.mem.begin();
        session.step();
        assert_eq!(usize::from(session.driver.kept()), session.kept.len(), "oracle: chains that are kept");
    }
    let arena = &session.mem.arena;
    arena.settle([RING..RING + RING_BYTES as u64, TABLE..BUFFER]);
    arena.check();
    session.tally
}

impl Session<'_> {
    fn step(&mut self) {
        match self.input.below(16) {
            0 | 1 => self.add_each(),
            2 => self.add(),
            3 => self.driver.publish(),
            4 => _ = self.driver.notify(),
            5 | 6 => self.serve(),
            7 => self.device.publish(),
            8 => _ = self.device.notify(),
            9 | 10 => self.reap_each(),
            11 => self.keep(),
            12 => self.decide(),
            13 => {
                let (a, b) = (self.driver.arm(), self.device.arm());
                self.tally.refused += usize::from(!a) + usize::from(!b);
            }
            14 if self.input.below(4) == 0 => self.reset(),
            _ => {
                // Somebody else writes to the ring.
                let at = RING + u64::from(self.input.u16()) % RING_BYTES as u64;
                let word = self.input.u16().to_le_bytes();
                self.mem.arena.poke(at, &word);
            }
        }
    }

    fn element(&mut self) -> Element {
        let addr = BUFFER + 64 * u64::from(self.input.u8());
        Element { addr: GuestAddr(addr), len: self.input.u8().into(), writable: self.input.below(2) == 1 }
    }

    fn add_each(&mut self) {
        let elements: Vec<_> = (0..self.input.below(70)).map(|_| self.element()).collect();
        let mut left = elements.iter().copied();
        let out = &mut self.out;
        let count = self.driver.add_each(&mut left, |handle| out.push(handle));
        assert_eq!(left.len(), elements.len() - count, "oracle: an element that is neither added nor left");
        self.is_bounded();
    }

    fn add(&mut self) {
        let mut elements: Vec<_> = (0..1 + self.input.below(6)).map(|_| self.element()).collect();
        elements.sort_by_key(|e| e.writable);
        if let Ok(handle) = self.driver.add(&elements) {
            self.out.push(handle);
        }
        self.is_bounded();
    }

    fn is_bounded(&self) {
        assert!(self.out.len() + self.kept.len() <= self.setup.size.into(), "oracle: more chains than descriptors");
    }

    fn serve(&mut self) {
        let most = self.input.below(256);
        let served = self.device.serve(&self.mem, &mut Shown::default(), most, |_, _| 0);
        let count = served.unwrap_or_else(|_| {
            self.tally.broken += 1;
            0
        });
        assert!(count <= most && count <= self.setup.size.into(), "oracle: more chains than the ring has");
        self.tally.completed += count;
    }

    /// Takes a chain off those that are out.
    fn comes_back(out: &mut Vec<Handle>, handle: Handle) {
        let at = out.iter().position(|h| *h == handle).expect("oracle: a chain that is not out");
        out.swap_remove(at);
    }

    fn reap_each(&mut self) {
        let most = self.input.below(256);
        let (out, mut taken) = (&mut self.out, 0);
        let reaped = self.driver.reap_each(most, |used| {
            Self::comes_back(out, used.handle);
            taken += 1;
        });
        match reaped {
            Ok(count) => assert_eq!(count, taken, "oracle: chains taken back"),
            Err(_) => self.tally.broken += 1,
        }
        assert!(taken <= most, "oracle: more chains than asked for");
        self.tally.completed += taken;
    }

    fn keep(&mut self) {
        match self.driver.poll_kept() {
            Ok(Some(used)) => {
                Self::comes_back(&mut self.out, used.handle);
                self.kept.push(used.handle);
            }
            Ok(None) => {}
            Err(_) => self.tally.broken += 1,
        }
    }

    /// Posts a chain again, or releases it.
    fn decide(&mut self) {
        let again = self.input.below(2) == 1;
        if self.kept.is_empty() {
            let handle = Handle(self.input.u16());
            assert_eq!(self.driver.release(handle), Err(KeptError::NotKept { handle }), "oracle: a chain not kept");
            return;
        }
        let at = self.input.below(self.kept.len());
        let handle = self.kept[at];
        if !again {
            assert_eq!(self.driver.release(handle), Ok(()), "oracle: a chain that is kept");
            self.kept.remove(at);
        } else if let Ok(new) = self.driver.repost(handle) {
            self.kept.remove(at);
            self.out.push(new);
        }
        self.is_bounded();
    }

    fn reset(&mut self) {
        self.device.reset();
        let mut taken = Vec::new();
        self.driver.reset(|handle| taken.push(handle.0));
        let mut out: Vec<u16> = self.out.drain(..).map(|h| h.0).collect();
        out.sort_unstable();
        taken.sort_unstable();
        assert_eq!(taken, out, "oracle: what is out comes back with a reset");
        self.kept.clear();
        assert_eq!(self.driver.free_slots(), self.setup.size, "oracle: everything is free");
        self.tally.restarts += 1;
    }
}
