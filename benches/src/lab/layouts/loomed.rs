//! Every interleaving and every allowed reordering of small sessions of the layouts that lie in the arena, and of
//! versions of them that are wrong in one way, each of which has to be found.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{self, Relaxed};
use std::sync::{Arc, Once};

use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::shared::Words;
use crate::lab::{Buffer, DeviceSide, DriverSide};

const SIZE: u16 = 2;
/// The second one does not fit a word: what is behind it has to be ordered, too. The third is in the second lap.
const BUFFERS: [Buffer; 3] =
    [Buffer { addr: 0x1000, len: 7 }, Buffer { addr: u64::MAX, len: 0x2_0000 }, Buffer { addr: 0x3000, len: 9 }];

/// What is wrong with the words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// Published without order.
    Release,
    /// Looked at without order.
    Acquire,
    /// No fence between publication and event word, or event word and look.
    Fence,
}

macro_rules! words {
    ($($load:ident $store:ident $word:ty;)*) => {
        $(fn $load(&self, at: usize, order: Ordering) -> $word {
            self.load(at, order) as $word
        }
        fn $store(&self, at: usize, value: $word, order: Ordering) {
            self.store(at, u64::from(value), order);
        })*
    };
}

/// Finds out which words a layout has: loom wants them before the threads begin.
#[derive(Clone, Default)]
struct Listed(Arc<std::sync::Mutex<BTreeMap<usize, u64>>>);

impl Listed {
    fn load(&self, at: usize, _order: Ordering) -> u64 {
        *self.0.lock().unwrap().entry(at).or_default()
    }
    fn store(&self, at: usize, value: u64, _order: Ordering) {
        self.0.lock().unwrap().insert(at, value);
    }
}

impl Words for Listed {
    words! { load16 store16 u16; load32 store32 u32; load64 store64 u64; }
    fn fence(&self) {}
}

/// Words of loom.
#[derive(Clone)]
struct Loomed {
    words: Arc<BTreeMap<usize, AtomicU64>>,
    mutant: Mutant,
}

impl Loomed {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.words[&at].load(if self.mutant == Mutant::Acquire { Relaxed } else { order })
    }
    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.words[&at].store(value, if self.mutant == Mutant::Release { Relaxed } else { order });
    }
}

impl Words for Loomed {
    words! { load16 store16 u16; load32 store32 u32; load64 store64 u64; }
    fn fence(&self) {
        if self.mutant != Mutant::Fence {
            fence(Ordering::SeqCst);
        }
    }
}

/// An eventfd.
#[derive(Clone)]
struct Event(Arc<(Mutex<bool>, Condvar)>);

impl Event {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }
    fn signal(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }
    fn wait(&self) {
        let mut signalled = self.0.0.lock().unwrap();
        while !*signalled {
            signalled = self.0.1.wait(signalled).unwrap();
        }
        *signalled = false;
    }
}

/// The device's thread: serves until all buffers were seen.
fn device(mut device: impl DeviceSide, sleeps: bool, kick: &Event, call: &Event) {
    let mut seen = 0;
    while seen < BUFFERS.len() {
        let before = seen;
        device.serve(2, |b| {
            assert_eq!(b, BUFFERS[seen]);
            seen += 1;
        });
        if seen > before {
            if device.flush() {
                call.signal();
            }
        } else if !sleeps {
            thread::yield_now();
        } else if device.arm() {
            kick.wait();
            device.disarm();
        }
    }
}

/// The driver's thread; returns when all buffers have come back.
fn driver(driver: &mut impl DriverSide, sleeps: bool, kick: &Event, call: &Event) {
    let (mut added, mut reaped) = (0, 0);
    while reaped < BUFFERS.len() {
        let before = added;
        while added < BUFFERS.len() && driver.add(BUFFERS[added]) {
            added += 1;
        }
        if added > before && driver.flush() {
            kick.signal();
        }
        let count = driver.reap(2);
        reaped += count;
        if count > 0 {
            continue;
        }
        if !sleeps {
            thread::yield_now();
        } else if driver.arm() {
            call.wait();
            driver.disarm();
        }
    }
}

macro_rules! models {
    ($($name:ident)*) => {
        $(mod $name {
            use super::*;

            /// The words of a ring: both sides without a thread do all that they can do.
            fn listed() -> Vec<usize> {
                let words = Listed::default();
                let mut driver = crate::lab::layouts::$name::Driver::new(words.clone(), SIZE, true);
                let mut device = crate::lab::layouts::$name::Device::new(words.clone(), SIZE, true);
                for round in 0..40 {
                    assert!(device.arm() && driver.arm());
                    // A lap of words, and one of the table for what does not fit a word.
                    let buffer = BUFFERS[round / 20];
                    assert!(driver.add(buffer) && driver.add(buffer) && !driver.add(buffer) && driver.flush());
                    assert_eq!(device.serve(2, |_| ()), 2);
                    assert!(device.flush());
                    assert_eq!(driver.reap(2), 2);
                }
                words.0.lock().unwrap().keys().copied().collect()
            }

            pub(super) fn model(sleeps: bool, mine: Mutant, peers: Mutant) {
                let list = listed();
                let mut builder = loom::model::Builder::new();
                builder.preemption_bound = Some(3);
                builder.max_branches = 20_000;
                builder.check(move || {
                    let words = Arc::new(list.iter().map(|at| (*at, AtomicU64::new(0))).collect::<BTreeMap<_, _>>());
                    let side = |mutant| Loomed { words: Arc::clone(&words), mutant };
                    let (kick, call) = (Event::new(), Event::new());
                    let mut driver = crate::lab::layouts::$name::Driver::new(side(mine), SIZE, sleeps);
                    let device = crate::lab::layouts::$name::Device::new(side(peers), SIZE, sleeps);
                    let events = (kick.clone(), call.clone());
                    let thread = thread::spawn(move || super::device(device, sleeps, &events.0, &events.1));
                    super::driver(&mut driver, sleeps, &kick, &call);
                    assert_eq!(driver.bytes(), BUFFERS.iter().map(|b| u64::from(b.len)).sum::<u64>());
                    thread.join().unwrap();
                });
            }

            #[test]
            fn polled() {
                model(false, Mutant::None, Mutant::None);
            }

            #[test]
            fn sleeping() {
                model(true, Mutant::None, Mutant::None);
            }

            #[test]
            fn mutants_are_found() {
                for mutant in [Mutant::Release, Mutant::Acquire] {
                    let how = failure(|| model(false, mutant, Mutant::None));
                    assert!(how.contains("assertion"), "driver: {mutant:?}: {how}");
                    let how = failure(|| model(false, Mutant::None, mutant));
                    assert!(how.contains("assertion"), "device: {mutant:?}: {how}");
                }
                for (mine, peers) in [(Mutant::Fence, Mutant::None), (Mutant::None, Mutant::Fence)] {
                    let how = failure(|| model(true, mine, peers));
                    assert!(how.contains("deadlock"), "driver: {mine:?}, device: {peers:?}: {how}");
                }
            }
        })*
    };
}

models! { compact sealed shuttle }

thread_local! {
    static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// How the model fails. Its output is left out.
fn failure(model: impl FnOnce()) -> String {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(model));
    QUIET.set(false);
    match result {
        Ok(()) => String::from("nothing"),
        Err(e) => match (e.downcast_ref::<String>(), e.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => String::from(*text),
            _ => String::from("another panic"),
        },
    }
}
