//! Every interleaving and every allowed reordering of small ring sessions.
//!
//! The ring code is the ordinary one: only its memory is loom's. Each model also runs with memories that are wrong in
//! one way, and has to find each of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use common::guest::config;
use common::loomed::{Buffers, Event, LoomArea, Mutant, Rings};
use loom::thread;
use virtio_ring::{
    ChainFault, ChainSink, DeviceRing, DriverRing, Element, GuestAddr, QueueState, SplitDevice, SplitDriver,
};

/// One model: driver and device, each with a memory of its own.
type Model = fn(Mutant, Mutant);

fn explore(model: impl Fn() + Sync + Send + 'static, preemptions: Option<usize>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(model);
}

thread_local! {
    static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs a model that has to fail, without its output; returns how loom says that it failed.
fn failure(model: Model, driver: Mutant, device: Mutant) -> String {
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
    let result = catch_unwind(AssertUnwindSafe(|| model(driver, device)));
    QUIET.set(false);
    match result {
        Ok(()) => String::from("nothing"),
        Err(e) => e.downcast_ref::<String>().cloned().unwrap_or_else(|| String::from("another panic")),
    }
}

/// The elements of one chain.
#[derive(Default)]
struct List(Vec<Element>);
impl ChainSink for List {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        self.0.push(e);
        Ok(())
    }
}

struct Pair {
    driver: SplitDriver<LoomArea>,
    device: Device,
    buffers: Buffers,
}

/// The device's side, with the memory that `peek` wants.
struct Device {
    mem: common::loomed::LoomMemory,
    ring: SplitDevice<LoomArea>,
}

impl Pair {
    fn new(size: u16, event_idx: bool, (driver, device): (Mutant, Mutant)) -> Self {
        let config = config(size, event_idx, false);
        let rings = Rings::new(config);
        let driver = SplitDriver::new(&rings.side(driver), &config).unwrap();
        let mem = rings.side(device);
        let ring = SplitDevice::new(&mem, &config, QueueState::default()).unwrap();
        Self { driver, device: Device { mem, ring }, buffers: Buffers::new(8) }
    }
}

impl Device {
    /// Takes one chain of one buffer, if there is one, checks what the driver wrote and answers.
    fn serve(&mut self, buffers: &Buffers) -> bool {
        let mut list = List::default();
        let Some(peeked) = self.ring.peek(&self.mem, &mut list).unwrap() else { return false };
        let token = peeked.accept();
        assert_eq!(list.0.len(), 1);
        let Element { addr: GuestAddr(i), len, writable } = list.0[0];
        assert!(writable);
        assert_eq!(buffers.read(i), 100 + u64::from(len), "what the driver wrote before it published");
        buffers.write(i, 200 + u64::from(len));
        self.ring.complete(token, len);
        true
    }
}

/// The driver's buffer `i` with request `n`.
fn request(buffers: &Buffers, i: u64, n: u32) -> Element {
    buffers.write(i, 100 + u64::from(n));
    Element { addr: GuestAddr(i), len: n, writable: true }
}

/// Driver publishes two chains one after the other; the device looks twice, whenever.
fn publish(driver: Mutant, device: Mutant) {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    explore(
        move || {
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(2, true, (driver, device));
            let shared = buffers.clone();
            let peer = thread::spawn(move || {
                for _ in 0..2 {
                    if device.serve(&shared) {
                        SEEN.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            for i in 0..2 {
                ring.add(&[request(&buffers, i, 1 + i as u32)]).unwrap();
                let _ = ring.flush();
            }
            peer.join().unwrap();
        },
        None,
    );
    assert!(SEEN.load(Ordering::Relaxed) > 0);
}

/// Device answers; the driver polls whenever, and uses what it got back again.
fn answer(driver: Mutant, device: Mutant) {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    explore(
        move || {
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(1, true, (driver, device));
            ring.add(&[request(&buffers, 0, 1)]).unwrap();
            let _ = ring.flush();
            let shared = buffers.clone();
            let peer = thread::spawn(move || {
                for _ in 0..2 {
                    if device.serve(&shared) {
                        let _ = device.ring.flush();
                    }
                }
            });
            if let Some(used) = ring.poll_used().unwrap() {
                SEEN.fetch_add(1, Ordering::Relaxed);
                assert_eq!((used.len, buffers.read(0)), (1, 201));
                ring.add(&[request(&buffers, 0, 2)]).unwrap();
                let _ = ring.flush();
            }
            peer.join().unwrap();
        },
        None,
    );
    assert!(SEEN.load(Ordering::Relaxed) > 0);
}

/// The device's half of a session: serve, answer once a burst, sleep when there is nothing.
fn device_loop(mut device: Device, buffers: &Buffers, total: u32, (kick, call): (&Event, &Event)) {
    let mut served = 0;
    while served < total {
        while device.serve(buffers) {
            served += 1;
        }
        if device.ring.flush().is_needed() {
            call.signal();
        }
        if served < total && device.ring.arm() {
            kick.wait();
        }
        device.ring.disarm();
    }
}

/// The driver's half: keep the ring full, sleep when nothing came back.
fn driver_loop(mut ring: SplitDriver<LoomArea>, buffers: &Buffers, total: u32, (kick, call): (&Event, &Event)) {
    let (mut sent, mut done) = (0, 0);
    let mut free: Vec<u64> = (0..u64::from(ring.size())).collect();
    let mut posted = std::collections::HashMap::new();
    while done < total {
        while sent < total
            && let Some(i) = free.pop()
        {
            sent += 1;
            posted.insert(ring.add(&[request(buffers, i, sent)]).unwrap(), i);
        }
        if ring.flush().is_needed() {
            kick.signal();
        }
        let before = done;
        while let Some(used) = ring.poll_used().unwrap() {
            let i = posted.remove(&used.handle).unwrap();
            assert_eq!(buffers.read(i), 200 + u64::from(used.len));
            free.push(i);
            done += 1;
        }
        if done == before {
            if ring.arm() {
                call.wait();
            }
            ring.disarm();
        }
    }
}

fn session(size: u16, event_idx: bool, total: u32, mutants: (Mutant, Mutant), preemptions: usize) {
    explore(
        move || {
            let Pair { driver, device, buffers } = Pair::new(size, event_idx, mutants);
            let (kick, call) = (Event::new(), Event::new());
            let peer = {
                let (buffers, kick, call) = (buffers.clone(), kick.clone(), call.clone());
                thread::spawn(move || device_loop(device, &buffers, total, (&kick, &call)))
            };
            driver_loop(driver, &buffers, total, (&kick, &call));
            peer.join().unwrap();
        },
        Some(preemptions),
    );
}

/// Driver adds, the device sleeps between; nothing comes back that is looked at.
fn kicks<const EVENT_IDX: bool>(driver: Mutant, device: Mutant) {
    explore(
        move || {
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(2, EVENT_IDX, (driver, device));
            let kick = Event::new();
            let peer = {
                let (buffers, kick) = (buffers.clone(), kick.clone());
                thread::spawn(move || {
                    let mut served = 0;
                    device.ring.disarm();
                    while served < 2 {
                        if device.serve(&buffers) {
                            served += 1;
                        } else {
                            if device.ring.arm() {
                                kick.wait();
                            }
                            device.ring.disarm();
                        }
                    }
                })
            };
            for i in 0..2 {
                ring.add(&[request(&buffers, i, 1)]).unwrap();
                if ring.flush().is_needed() {
                    kick.signal();
                }
            }
            peer.join().unwrap();
        },
        Some(3),
    );
}

/// Two chains are out; the device answers one after the other, the driver sleeps between.
fn calls<const EVENT_IDX: bool>(driver: Mutant, device: Mutant) {
    explore(
        move || {
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(2, EVENT_IDX, (driver, device));
            for i in 0..2 {
                ring.add(&[request(&buffers, i, 1)]).unwrap();
            }
            let _ = ring.flush();
            ring.disarm();
            let call = Event::new();
            let peer = {
                let (buffers, call) = (buffers.clone(), call.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        assert!(device.serve(&buffers));
                        if device.ring.flush().is_needed() {
                            call.signal();
                        }
                    }
                })
            };
            let mut done = 0;
            while done < 2 {
                if ring.poll_used().unwrap().is_some() {
                    done += 1;
                } else {
                    if ring.arm() {
                        call.wait();
                    }
                    ring.disarm();
                }
            }
            peer.join().unwrap();
        },
        Some(3),
    );
}

use Mutant::{FenceBeforeEvent, NoAcquire, NoFence, NoRelease, Sound};

#[test]
fn published_chains_are_whole() {
    publish(Sound, Sound);
}

#[test]
fn published_answers_are_whole() {
    answer(Sound, Sound);
}

#[test]
fn no_kick_is_lost() {
    kicks::<false>(Sound, Sound);
    kicks::<true>(Sound, Sound);
}

#[test]
fn no_call_is_lost() {
    calls::<false>(Sound, Sound);
    calls::<true>(Sound, Sound);
}

#[test]
fn sessions_around_a_ring_of_one_end() {
    for event_idx in [false, true] {
        session(1, event_idx, 3, (Sound, Sound), 2);
    }
}

#[test]
fn sessions_around_a_ring_of_two_end() {
    for event_idx in [false, true] {
        session(2, event_idx, 3, (Sound, Sound), 2);
    }
}

#[test]
fn every_wrong_memory_is_found() {
    let models: [(&str, Model, Mutant, Mutant, &str); 18] = [
        ("publish: driver without release", publish, NoRelease, Sound, "Causality violation"),
        ("publish: device without acquire", publish, Sound, NoAcquire, "Causality violation"),
        ("answer: device without release", answer, Sound, NoRelease, "Causality violation"),
        ("answer: driver without acquire", answer, NoAcquire, Sound, "Causality violation"),
        ("kicks, flags: driver without fence", kicks::<false>, NoFence, Sound, "deadlock"),
        ("kicks, flags: device without fence", kicks::<false>, Sound, NoFence, "deadlock"),
        ("kicks, flags: device fences before its event store", kicks::<false>, Sound, FenceBeforeEvent, "deadlock"),
        ("kicks, index: driver without fence", kicks::<true>, NoFence, Sound, "deadlock"),
        ("kicks, index: device without fence", kicks::<true>, Sound, NoFence, "deadlock"),
        ("kicks, index: device fences before its event store", kicks::<true>, Sound, FenceBeforeEvent, "deadlock"),
        ("kicks, index: driver without release", kicks::<true>, NoRelease, Sound, "Causality violation"),
        ("kicks, index: device without acquire", kicks::<true>, Sound, NoAcquire, "Causality violation"),
        ("calls, flags: driver without fence", calls::<false>, NoFence, Sound, "deadlock"),
        ("calls, flags: device without fence", calls::<false>, Sound, NoFence, "deadlock"),
        ("calls, flags: driver fences before its event store", calls::<false>, FenceBeforeEvent, Sound, "deadlock"),
        ("calls, index: driver without fence", calls::<true>, NoFence, Sound, "deadlock"),
        ("calls, index: device without fence", calls::<true>, Sound, NoFence, "deadlock"),
        ("calls, index: driver fences before its event store", calls::<true>, FenceBeforeEvent, Sound, "deadlock"),
    ];
    for (name, model, driver, device, expected) in models {
        let found = failure(model, driver, device);
        assert!(found.contains(expected), "{name}: expected {expected}, found {found}");
    }
}
