//! The oracles can fail: rings that do one thing wrong, each of which has to be caught by the oracle that is there for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use virtio_ring::{
    AnyDevice, AnyDriver, ChainFault, ChainSink, DeviceRing, DriverRing, Element, Fault, Format, Front, Full,
    GuestAddr, GuestMemory, Handle, HintError, NotificationData, Notify, QueueConfig, QueueState, RingError, RingMem,
    Token, Used,
};

use crate::arena::BUFFER;
use crate::common::guest::poke;
use crate::seeds;
use crate::watched::{Watched, WatchedArea};
use crate::{agree, device, driver, restore};

/// What a sabotaged ring does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    /// A used length one too long.
    Length,
    /// A chain that is never completed.
    Forget,
    /// A byte in guest memory that is nobody's business.
    Stray,
    /// A walk that does not end.
    Endless,
    /// The head is read a second time.
    ReadTwice,
    /// A call that is not made.
    Silent,
    /// Sleeps although there is work.
    Oversleep,
    /// Takes a good chain for a bad one.
    Fault,
    /// Starts where it should not.
    Lax,
    /// Gives a chain back twice.
    Twice,
    /// Says that nothing was ever used.
    Deaf,
}

/// A device that does one thing wrong.
struct Device {
    ring: AnyDevice<WatchedArea>,
    mem: Watched,
    config: QueueConfig,
    wrong: Wrong,
}

impl DeviceRing for Device {
    fn front(&mut self) -> Option<Front> {
        if self.wrong == Wrong::Endless {
            let area = self.mem.ring_area(self.config.desc, 16).unwrap();
            loop {
                read(&area);
            }
        }
        if self.wrong == Wrong::ReadTwice {
            read(&self.mem.ring_area(self.config.desc, 16).unwrap());
        }
        self.ring.front()
    }

    fn idle(&mut self) -> Result<(), RingError> {
        self.ring.idle()
    }

    fn walk<M: GuestMemory, S: ChainSink>(
        &mut self,
        mem: &M,
        sink: &mut S,
        head: u16,
        words: (u64, u64),
    ) -> Option<(Token, bool)> {
        let (token, faulty) = self.ring.walk(mem, sink, head, words)?;
        Some((token, faulty || self.wrong == Wrong::Fault))
    }

    fn singles<S: ChainSink>(
        &mut self,
        _sink: &mut S,
        most: usize,
        _done: &mut impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> (usize, Option<Front>) {
        // Every chain goes the general way.
        (0, if most > 0 { self.front() } else { None })
    }

    fn accept_singles<const WRITABLE: bool>(
        &mut self,
        most: usize,
        _take: impl FnMut(Token, GuestAddr, u32) -> bool,
    ) -> (usize, Option<Front>) {
        // Likewise.
        (0, if most > 0 { self.front() } else { None })
    }

    fn note(&mut self, fault: ChainFault) -> bool {
        self.ring.note(fault)
    }

    fn accept(&mut self, token: &Token) {
        self.ring.accept(token);
    }

    fn rewind(&mut self, token: Token) {
        self.ring.rewind(token);
    }

    fn complete(&mut self, token: Token, written: u32) {
        match self.wrong {
            Wrong::Length => self.ring.complete(token, written + 1),
            Wrong::Forget => drop(token),
            _ => self.ring.complete(token, written),
        }
        if self.wrong == Wrong::Stray {
            poke(&self.mem.arena.mem, BUFFER - 1, &[0]);
        }
    }

    fn publish(&mut self) {
        self.ring.publish();
    }

    fn notify(&mut self) -> Notify {
        let notify = self.ring.notify();
        if self.wrong == Wrong::Silent { Notify::Suppressed } else { notify }
    }

    fn missing(&self) -> Option<Fault> {
        self.ring.missing()
    }

    fn reset(&mut self) {
        self.ring.reset();
    }

    fn hint(&self, data: NotificationData) -> Result<u16, HintError> {
        self.ring.hint(data)
    }

    fn arm(&mut self) -> bool {
        self.ring.arm() | (self.wrong == Wrong::Oversleep)
    }

    fn disarm(&mut self) {
        self.ring.disarm();
    }

    fn state(&self) -> QueueState {
        self.ring.state()
    }

    fn size(&self) -> u16 {
        self.ring.size()
    }

    fn fault(&self) -> Option<RingError> {
        self.ring.fault()
    }

    fn chain_fault(&self) -> Option<ChainFault> {
        self.ring.chain_fault()
    }
}

#[expect(unsafe_code, reason = "reads a word of the ring")]
fn read(area: &WatchedArea) -> u64 {
    // SAFETY: the first word of an area of 16 bytes, aligned to 16.
    unsafe { area.read64(0) }
}

/// A driver that does one thing wrong.
struct Driver {
    ring: AnyDriver<WatchedArea>,
    mem: Watched,
    wrong: Wrong,
    last: Option<Used>,
}

impl DriverRing for Driver {
    fn add(&mut self, elements: &[Element]) -> Result<Handle, Full> {
        self.ring.add(elements)
    }

    fn publish(&mut self) {
        self.ring.publish();
        if self.wrong == Wrong::Stray {
            poke(&self.mem.arena.mem, BUFFER - 1, &[0]);
        }
    }

    fn notify(&mut self) -> Notify {
        self.ring.notify()
    }

    fn reset(&mut self, taken: impl FnMut(Handle)) {
        self.ring.reset(taken);
    }

    fn notification_data(&self, queue: u16) -> NotificationData {
        self.ring.notification_data(queue)
    }

    fn poll_used(&mut self) -> Result<Option<Used>, RingError> {
        match self.wrong {
            Wrong::Deaf => return Ok(None),
            Wrong::Twice if self.last.is_some() => return Ok(self.last.take()),
            _ => {}
        }
        let used = self.ring.poll_used()?;
        self.last = used;
        Ok(used.map(|used| Used { len: used.len + u32::from(self.wrong == Wrong::Length), ..used }))
    }

    fn arm(&mut self) -> bool {
        self.ring.arm() | (self.wrong == Wrong::Oversleep)
    }

    fn disarm(&mut self) {
        self.ring.disarm();
    }

    fn free_slots(&self) -> u16 {
        self.ring.free_slots() - u16::from(self.wrong == Wrong::Forget)
    }

    fn size(&self) -> u16 {
        self.ring.size()
    }
}

const FORMATS: [Format; 2] = [Format::Split, Format::Packed];

/// Some seed of the target is caught with a message that says what is wrong; with nothing wrong, none is.
fn caught(target: &str, session: impl Fn(&[u8], Wrong), cases: &[(Wrong, &str)]) {
    let seeds: Vec<_> = seeds::all().into_iter().filter(|s| s.target == target).collect();
    let said = |bytes: &[u8], wrong| {
        let panic = catch_unwind(AssertUnwindSafe(|| session(bytes, wrong))).err()?;
        Some(match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other.downcast_ref::<&str>().copied().unwrap_or_default().to_owned(),
        })
    };
    for seed in &seeds {
        assert_eq!(said(&seed.bytes, Wrong::Nothing), None, "{target}/{}", seed.name);
    }
    for (wrong, expected) in cases {
        let is_caught = seeds.iter().any(|s| said(&s.bytes, *wrong).is_some_and(|s| s.contains(expected)));
        assert!(is_caught, "{target}: {wrong:?}");
    }
}

#[test]
fn a_device_that_does_one_thing_wrong_is_caught() {
    for format in FORMATS {
        let name = if format == Format::Split { "split_device" } else { "packed_device" };
        let session = |data: &[u8], wrong| {
            device::run(format, data, &[], |mem, config, state| {
                let ring = AnyDevice::new(mem, format, config, state)?;
                Ok(Device { ring, mem: mem.clone(), config: *config, wrong })
            });
        };
        caught(
            name,
            session,
            &[
                (Wrong::Length, "used.len of what was written"),
                (Wrong::Forget, "oracle"),
                (Wrong::Stray, "written outside of posted buffers"),
                (Wrong::Endless, "too many steps"),
                (Wrong::ReadTwice, "was read once more than it is used"),
                (Wrong::Silent, "a notification"),
                (Wrong::Oversleep, "work before sleep"),
                (Wrong::Fault, "a good chain is faulty"),
            ],
        );
    }
}

#[test]
fn a_driver_that_does_one_thing_wrong_is_caught() {
    for format in FORMATS {
        let name = if format == Format::Split { "split_driver" } else { "packed_driver" };
        let session = |data: &[u8], wrong| {
            driver::run(format, data, &[], |mem, setup| Driver {
                ring: driver::ours(mem, setup),
                mem: mem.clone(),
                wrong,
                last: None,
            });
        };
        caught(
            name,
            session,
            &[
                (Wrong::Length, "what an honest device used"),
                (Wrong::Stray, "written outside of posted buffers"),
                (Wrong::Twice, "what an honest device used"),
                (Wrong::Deaf, "what an honest device used"),
                (Wrong::Forget, "free descriptors"),
                (Wrong::Oversleep, "work before sleep"),
            ],
        );
    }
}

#[test]
fn a_device_that_starts_anywhere_is_caught() {
    let session = |data: &[u8], wrong| {
        restore::run(data, |mem, (format, resume), config, state| {
            let made = restore::ours(mem, (format, resume), config, state);
            match made {
                Err(RingError::State { .. } | RingError::PackedHeld { .. }) if wrong == Wrong::Lax => {
                    let used = u32::from(crate::common::guest::word16(&mem.arena.mem, config.device.0 + 2));
                    let state = if format == Format::Split { QueueState(used) } else { QueueState::PACKED };
                    AnyDevice::new(mem, format, config, state)
                }
                Err(_) if wrong == Wrong::Fault => Err(RingError::Size { size: 3 }),
                _ if wrong == Wrong::Stray => {
                    poke(&mem.arena.mem, BUFFER, &[0]);
                    made
                }
                _ => made,
            }
        });
    };
    let cases = [
        (Wrong::Lax, "a ring that cannot be"),
        (Wrong::Fault, "but what is wrong is"),
        (Wrong::Stray, "written outside of posted buffers"),
    ];
    caught("restore", session, &cases);
}

#[test]
fn a_device_that_trusts_its_memory_is_caught() {
    let session = |data: &[u8], wrong| {
        let (format, script, tricks) = crate::evil_parts(data);
        device::run(format, script, tricks, |mem, config, state| {
            let ring = AnyDevice::new(mem, format, config, state)?;
            Ok(Device { ring, mem: mem.clone(), config: *config, wrong })
        });
    };
    caught("evil_memory", session, &[(Wrong::ReadTwice, "was read once more than it is used")]);
}

#[test]
fn formats_that_do_not_agree_are_caught() {
    let session = |data: &[u8], wrong| {
        agree::run(data, |mem, setup| {
            let wrong = if setup.format == Format::Packed { wrong } else { Wrong::Nothing };
            Device { ring: agree::ours(mem, setup), mem: mem.clone(), config: setup.config(), wrong }
        });
    };
    let cases =
        [(Wrong::Length, "oracle"), (Wrong::Silent, "split and packed at"), (Wrong::Oversleep, "split and packed at")];
    caught("agree", session, &cases);
}
