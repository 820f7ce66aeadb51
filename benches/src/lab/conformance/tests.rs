//! Every registered layout, and layouts that are broken on purpose.

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::lab::entry::{Entry, Kind, all};
use crate::lab::layouts::packed::Packed;
use crate::lab::report::Picture;
use crate::lab::{DeviceSide, DriverSide};

/// A layout that hangs inside of itself is left behind on its thread.
const HANG: Duration = Duration::from_secs(240);

fn verdict(entry: &'static Entry) -> Verdict {
    let rules = if entry.is_baseline() { Rules::Lenient } else { Rules::All };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send((entry.check)(rules)));
    receiver.recv_timeout(HANG).unwrap_or_else(|e| Err(format!("it hangs, or panicked: {e}")))
}

#[test]
fn every_registered_layout_conforms() {
    let verdicts: Vec<_> = all().map(|entry| (entry, verdict(entry))).collect();
    let mut failed = Vec::new();
    for (entry, verdict) in verdicts {
        match verdict {
            Ok(skipped) => skipped.iter().for_each(|why| println!("skipped: {}, {why}", entry.name)),
            Err(why) => failed.push(format!("{}: {why}", entry.name)),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = all().map(|e| e.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// For those that are meant to hang.
const BRIEF: Duration = Duration::from_secs(3);

/// What a mutant does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The device sees two buffers in the wrong order.
    Order,
    /// The driver loses a buffer.
    Loss,
    /// The device sees a buffer twice.
    Twice,
    /// The driver publishes at once.
    Early,
    /// The driver takes back what is not used.
    Reap,
    /// The driver says that there is no room.
    Room,
    /// The length is wrong.
    Length,
    /// The driver sometimes does not wake the device.
    Kick,
    /// The device goes to sleep though there is work.
    Arm,
    /// The device looks for work before it asks to be woken, and not after: it takes two threads for that to go wrong.
    Race,
    /// The picture has too few lines.
    Picture,
}

/// The packed ring with a fault.
struct Mutant<const FAULT: usize>;

const FAULTS: [Fault; 12] = [
    Fault::None,
    Fault::Order,
    Fault::Loss,
    Fault::Twice,
    Fault::Early,
    Fault::Reap,
    Fault::Room,
    Fault::Length,
    Fault::Kick,
    Fault::Arm,
    Fault::Race,
    Fault::Picture,
];

struct Driver {
    inner: <Packed as Layout>::Driver,
    fault: Fault,
    count: u64,
}

struct Device {
    inner: <Packed as Layout>::Device,
    fault: Fault,
    count: u64,
    last: Option<Buffer>,
}

impl<const FAULT: usize> Layout for Mutant<FAULT> {
    const NAME: &'static str = "mutant";
    const IDEA: &'static str = "the packed ring with a fault";
    type Driver = Driver;
    type Device = Device;

    fn open(setup: &Setup<'_>) -> Result<(Driver, Device), Box<dyn Error>> {
        let (driver, device) = Packed::open(setup)?;
        let fault = FAULTS[FAULT];
        Ok((Driver { inner: driver, fault, count: 0 }, Device { inner: device, fault, count: 0, last: None }))
    }

    fn picture(size: u16) -> Picture {
        let mut picture = Picture { layout: Self::NAME.into(), idea: Self::IDEA.into(), ..Packed::picture(size) };
        if FAULTS[FAULT] == Fault::Picture {
            picture.areas[0].lines /= 2;
        }
        picture
    }
}

impl DriverSide for Driver {
    fn add(&mut self, buffer: Buffer) -> bool {
        self.count += 1;
        match self.fault {
            Fault::Loss if self.count.is_multiple_of(1000) => true,
            Fault::Room if self.count.is_multiple_of(1000) => false,
            Fault::Length if self.count.is_multiple_of(1000) => {
                self.inner.add(Buffer { len: buffer.len + 1, ..buffer })
            }
            Fault::Early => {
                let added = self.inner.add(buffer);
                self.inner.flush();
                added
            }
            _ => self.inner.add(buffer),
        }
    }
    fn flush(&mut self) -> bool {
        self.inner.flush() && !(self.fault == Fault::Kick && self.count.is_multiple_of(5))
    }
    fn reap(&mut self, most: usize) -> usize {
        let n = self.inner.reap(most);
        if self.fault == Fault::Reap && n > 0 && n < most { n + 1 } else { n }
    }
    fn arm(&mut self) -> bool {
        self.inner.arm()
    }
    fn disarm(&mut self) {
        self.inner.disarm();
    }
}

impl DeviceSide for Device {
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let (fault, last, count) = (self.fault, &mut self.last, &mut self.count);
        let mut held = None;
        let n = self.inner.serve(most, |buffer| {
            *count += 1;
            match fault {
                Fault::Order if count.is_multiple_of(100) => held = Some(buffer),
                Fault::Twice if count.is_multiple_of(1000) => visit(last.unwrap_or(buffer)),
                _ => visit(buffer),
            }
            *last = Some(buffer);
            if !count.is_multiple_of(100)
                && let Some(buffer) = held.take()
            {
                visit(buffer);
            }
        });
        if let Some(buffer) = held {
            visit(buffer);
        }
        n
    }
    fn flush(&mut self) -> bool {
        self.inner.flush()
    }
    fn arm(&mut self) -> bool {
        if self.fault == Fault::Race {
            // Seen empty, and then some time goes by: as a rule, until there is work.
            for look in 0..1000 {
                let empty = self.inner.arm();
                self.inner.disarm();
                match (empty, look) {
                    (true, _) => std::thread::yield_now(),
                    (false, 0) => return false,
                    (false, _) => break,
                }
            }
            self.inner.arm();
            return true;
        }
        self.inner.arm() || self.fault == Fault::Arm
    }
    fn disarm(&mut self) {
        self.inner.disarm();
    }
}

#[test]
fn mutants_are_caught() {
    assert_eq!(check::<Mutant<0>>(Rules::All), Ok(Vec::new()), "without a fault it is the packed ring");
    let checks = [
        check_within::<Mutant<1>>,
        check_within::<Mutant<2>>,
        check_within::<Mutant<3>>,
        check_within::<Mutant<4>>,
        check_within::<Mutant<5>>,
        check_within::<Mutant<6>>,
        check_within::<Mutant<7>>,
        check_within::<Mutant<8>>,
        check_within::<Mutant<9>>,
        check_within::<Mutant<10>>,
        check_within::<Mutant<11>>,
    ];
    let words = [
        "should be",
        "takes one more|did not come back|sees nothing|should be",
        "should be",
        "were flushed",
        "were used",
        "refuses",
        "should be",
        "need not be",
        "may go to sleep",
        "nothing moves",
        "picture",
    ];
    // Those that hang take all of the patience.
    let threads = checks.map(|check| std::thread::spawn(move || check(Rules::All, BRIEF)));
    for (i, (thread, words)) in threads.into_iter().zip(words).enumerate() {
        let why = thread.join().unwrap().expect_err("a mutant got through");
        println!("mutant {}: {why}", i + 1);
        assert!(words.split('|').any(|w| why.contains(w)), "mutant {}: {why}", i + 1);
    }
}

#[test]
fn an_entry_has_what_its_layout_says() {
    let entry = Entry::of::<Mutant<0>>(Kind::Experimental);
    assert_eq!((entry.name, entry.is_baseline()), ("mutant", false));
    assert_eq!((entry.picture)(64).areas.len(), 3);
}
