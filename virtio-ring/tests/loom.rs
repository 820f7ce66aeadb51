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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use common::loomed::{Buffers, Event, LoomArea, LoomMemory, Mutant, Rings};
use common::peers::{List, Setup};
use loom::thread;
use virtio_ring::{AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr};

/// One model: driver and device, each with a memory of its own.
type Model = fn(Format, Mutant, Mutant);

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
fn failure(model: Model, format: Format, driver: Mutant, device: Mutant) -> String {
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
    let result = catch_unwind(AssertUnwindSafe(|| model(format, driver, device)));
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

struct Pair {
    driver: AnyDriver<LoomArea>,
    device: Device,
    buffers: Buffers,
}

/// The device's side, with the memory that `peek` wants.
struct Device {
    mem: LoomMemory,
    ring: AnyDevice<LoomArea>,
}

impl Pair {
    fn new(setup: Setup, (driver, device): (Mutant, Mutant)) -> Self {
        let rings = Rings::new(setup.format, setup.config());
        let driver = setup.driver(&rings.side(driver), (0, 0));
        let mem = rings.side(device);
        let ring = setup.fresh_device(&mem);
        Self { driver, device: Device { mem, ring }, buffers: Buffers::new(8) }
    }
}

impl Device {
    /// Takes one chain, if there is one, checks what the driver wrote and answers.
    fn serve_chain(&mut self, buffers: &Buffers, elements: usize) -> bool {
        let mut list = List::default();
        let Some(peeked) = self.ring.peek(&self.mem, &mut list).unwrap() else { return false };
        let token = peeked.accept();
        assert_eq!(list.0.len(), elements, "a whole chain");
        for Element { addr: GuestAddr(i), len, writable } in &list.0 {
            assert!(writable);
            assert_eq!(buffers.read(*i), 100 + u64::from(*len), "what the driver wrote before it published");
            buffers.write(*i, 200 + u64::from(*len));
        }
        self.ring.complete(token, list.0[0].len);
        true
    }

    fn serve(&mut self, buffers: &Buffers) -> bool {
        self.serve_chain(buffers, 1)
    }
}

/// A queue with the event index.
fn queue(format: Format, size: u16) -> Setup {
    Setup { event_idx: true, ..Setup::new(format, size) }
}

/// The driver's buffer `i` with request `n`.
fn request(buffers: &Buffers, i: u64, n: u32) -> Element {
    buffers.write(i, 100 + u64::from(n));
    Element { addr: GuestAddr(i), len: n, writable: true }
}

/// Driver publishes two chains one after the other; the device looks twice, whenever.
fn publish(format: Format, driver: Mutant, device: Mutant) {
    let seen = Arc::new(AtomicU64::new(0));
    let seen_here = Arc::clone(&seen);
    explore(
        move || {
            let seen = Arc::clone(&seen_here);
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(queue(format, 2), (driver, device));
            let shared = buffers.clone();
            let peer = thread::spawn(move || {
                for _ in 0..2 {
                    if device.serve(&shared) {
                        seen.fetch_add(1, Ordering::Relaxed);
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
    assert!(seen.load(Ordering::Relaxed) > 0, "the other side never saw anything");
}

/// Device answers; the driver polls whenever, and uses what it got back again.
fn answer(format: Format, driver: Mutant, device: Mutant) {
    let seen = Arc::new(AtomicU64::new(0));
    let seen_here = Arc::clone(&seen);
    explore(
        move || {
            let seen = Arc::clone(&seen_here);
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(queue(format, 1), (driver, device));
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
                seen.fetch_add(1, Ordering::Relaxed);
                assert_eq!((used.len, buffers.read(0)), (1, 201));
                ring.add(&[request(&buffers, 0, 2)]).unwrap();
                let _ = ring.flush();
            }
            peer.join().unwrap();
        },
        None,
    );
    assert!(seen.load(Ordering::Relaxed) > 0, "the other side never saw anything");
}

/// Driver publishes a chain of two, the device uses it, and both at once another lap: what lies behind the first
/// descriptor of a batch is there when the first one is.
fn batch(format: Format, driver: Mutant, device: Mutant) {
    let seen = Arc::new(AtomicU64::new(0));
    let seen_here = Arc::clone(&seen);
    explore(
        move || {
            let seen = Arc::clone(&seen_here);
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(queue(format, 2), (driver, device));
            let shared = buffers.clone();
            let peer = thread::spawn(move || {
                for _ in 0..2 {
                    if device.serve_chain(&shared, 2) {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let chain = [0, 1].map(|i| request(&buffers, i, 1 + i as u32));
            ring.add(&chain).unwrap();
            let _ = ring.flush();
            peer.join().unwrap();
        },
        None,
    );
    assert!(seen.load(Ordering::Relaxed) > 0, "the other side never saw anything");
}

/// Two chains are out; the device answers both at once, the driver polls whenever.
fn answers(format: Format, driver: Mutant, device: Mutant) {
    let seen = Arc::new(AtomicU64::new(0));
    let seen_here = Arc::clone(&seen);
    explore(
        move || {
            let seen = Arc::clone(&seen_here);
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(queue(format, 2), (driver, device));
            for i in 0..2 {
                ring.add(&[request(&buffers, i, 1 + i as u32)]).unwrap();
            }
            let _ = ring.flush();
            let shared = buffers.clone();
            let peer = thread::spawn(move || {
                assert!(device.serve(&shared) && device.serve(&shared));
                let _ = device.ring.flush();
            });
            if let Some(used) = ring.poll_used().unwrap() {
                seen.fetch_add(1, Ordering::Relaxed);
                assert_eq!((used.len, buffers.read(0)), (1, 201));
                let second = ring.poll_used().unwrap();
                assert_eq!(second.map(|u| u.len), Some(2), "a burst is visible as a whole");
                assert_eq!(buffers.read(1), 202);
            }
            peer.join().unwrap();
        },
        None,
    );
    assert!(seen.load(Ordering::Relaxed) > 0, "the other side never saw anything");
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
fn driver_loop(mut ring: AnyDriver<LoomArea>, buffers: &Buffers, total: u32, (kick, call): (&Event, &Event)) {
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

/// The device's half in loops over a burst: answers are visible at once, and the driver is asked for all of them before
/// sleep.
fn device_bursts(mut device: Device, buffers: &Buffers, total: u32, (kick, call): (&Event, &Event)) {
    let mut served = 0;
    while served < total {
        let count = device.ring.serve(&device.mem, &mut List::default(), 2, |list, fault| {
            assert_eq!(fault, None);
            let Element { addr: GuestAddr(i), len, .. } = list.0.pop().unwrap();
            assert_eq!(buffers.read(i), 100 + u64::from(len), "what the driver wrote before it published");
            buffers.write(i, 200 + u64::from(len));
            len
        });
        served += count.unwrap() as u32;
        device.ring.publish();
        if count == Ok(0) || served == total {
            if device.ring.notify().is_needed() {
                call.signal();
            }
            if served < total && device.ring.arm() {
                kick.wait();
            }
            device.ring.disarm();
        }
    }
}

/// The driver's half in loops over a burst.
fn driver_bursts(mut ring: AnyDriver<LoomArea>, buffers: &Buffers, total: u32, (kick, call): (&Event, &Event)) {
    let (mut sent, mut done) = (0, 0);
    let mut free: Vec<u64> = (0..u64::from(ring.size())).collect();
    let mut posted = std::collections::HashMap::new();
    while done < total {
        let room = (total - sent).min(free.len() as u32);
        let taken: Vec<u64> = (0..room).map(|_| free.pop().unwrap()).collect();
        let mut added = taken.iter().copied();
        let elements = taken.iter().zip(sent + 1..).map(|(i, n)| request(buffers, *i, n));
        let count = ring.add_each(elements, |handle| {
            posted.insert(handle, added.next().unwrap());
        });
        assert_eq!(count, taken.len());
        sent += room;
        ring.publish();
        let mut back = Vec::new();
        let count = ring.reap_each(2, |used| back.push(used)).unwrap();
        done += count as u32;
        for used in back {
            let i = posted.remove(&used.handle).unwrap();
            assert_eq!(buffers.read(i), 200 + u64::from(used.len));
            free.push(i);
        }
        if count == 0 {
            if ring.notify().is_needed() {
                kick.signal();
            }
            if ring.arm() {
                call.wait();
            }
            ring.disarm();
        }
    }
}

/// A whole session in which both sides work in loops over a burst.
fn bursts<const EVENT_IDX: bool>(format: Format, driver: Mutant, device: Mutant) {
    burst_session(Setup { event_idx: EVENT_IDX, ..Setup::new(format, 2) }, 3, (driver, device));
}

fn burst_session(setup: Setup, total: u32, mutants: (Mutant, Mutant)) {
    explore(
        move || {
            let Pair { driver, device, buffers } = Pair::new(setup, mutants);
            let (kick, call) = (Event::new(), Event::new());
            let peer = {
                let (buffers, kick, call) = (buffers.clone(), kick.clone(), call.clone());
                thread::spawn(move || device_bursts(device, &buffers, total, (&kick, &call)))
            };
            driver_bursts(driver, &buffers, total, (&kick, &call));
            peer.join().unwrap();
        },
        Some(2),
    );
}

fn session(setup: Setup, total: u32, preemptions: usize) {
    explore(
        move || {
            let Pair { driver, device, buffers } = Pair::new(setup, (Sound, Sound));
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
fn kicks<const EVENT_IDX: bool>(format: Format, driver: Mutant, device: Mutant) {
    let setup = Setup { event_idx: EVENT_IDX, ..Setup::new(format, 2) };
    explore(
        move || {
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(setup, (driver, device));
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
fn calls<const EVENT_IDX: bool>(format: Format, driver: Mutant, device: Mutant) {
    let setup = Setup { event_idx: EVENT_IDX, ..Setup::new(format, 2) };
    explore(
        move || {
            let Pair { driver: mut ring, mut device, buffers } = Pair::new(setup, (driver, device));
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

use Format::{Packed, Split};
use Mutant::{FenceBeforeEvent, FirstNotLast, NoAcquire, NoFence, NoRelease, Sound};

#[test]
fn published_chains_are_whole() {
    for format in [Split, Packed] {
        publish(format, Sound, Sound);
        batch(format, Sound, Sound);
    }
}

#[test]
fn s13_p9_published_answers_are_whole() {
    for format in [Split, Packed] {
        answer(format, Sound, Sound);
        answers(format, Sound, Sound);
    }
}

#[test]
fn no_kick_is_lost() {
    for format in [Split, Packed] {
        kicks::<false>(format, Sound, Sound);
        kicks::<true>(format, Sound, Sound);
    }
}

#[test]
fn no_call_is_lost() {
    for format in [Split, Packed] {
        calls::<false>(format, Sound, Sound);
        calls::<true>(format, Sound, Sound);
    }
}

/// Whole sessions around rings of these sizes, in both ways to suppress, in any order and in order.
fn sessions(format: Format, sizes: &[(u16, u32)]) {
    for &(size, total) in sizes {
        for bits in 0..4 {
            let (event_idx, in_order) = (bits & 1 != 0, bits & 2 != 0);
            // In order, a ring of one differs by nothing but the entry that waits for the flush: one lap less will do.
            let total = if in_order && size == 1 { total - 1 } else { total };
            let setup = Setup { event_idx, in_order, ..Setup::new(format, size) };
            session(setup, total, 2);
            burst_session(setup, total, (Sound, Sound));
        }
    }
}

#[test]
fn sessions_around_split_rings_end() {
    sessions(Split, &[(1, 3), (2, 3)]);
}

#[test]
fn sessions_around_packed_rings_end() {
    sessions(Packed, &[(1, 3), (2, 3), (3, 4)]);
}

fn every_wrong_memory_is_found(format: Format) {
    let models: [(&str, Model, Mutant, Mutant, &str); 30] = [
        ("bursts: driver without release", bursts::<true>, NoRelease, Sound, "Causality violation"),
        ("bursts: device without release", bursts::<true>, Sound, NoRelease, "Causality violation"),
        ("bursts: driver without acquire", bursts::<true>, NoAcquire, Sound, "Causality violation"),
        ("bursts: device without acquire", bursts::<true>, Sound, NoAcquire, "Causality violation"),
        ("bursts, flags: driver without fence", bursts::<false>, NoFence, Sound, "deadlock"),
        ("bursts, flags: device without fence", bursts::<false>, Sound, NoFence, "deadlock"),
        ("bursts, index: driver fences before its event store", bursts::<true>, FenceBeforeEvent, Sound, "deadlock"),
        ("bursts, index: device fences before its event store", bursts::<true>, Sound, FenceBeforeEvent, "deadlock"),
        ("publish: driver without release", publish, NoRelease, Sound, "Causality violation"),
        ("publish: device without acquire", publish, Sound, NoAcquire, "Causality violation"),
        ("batch: driver without release", batch, NoRelease, Sound, "Causality violation"),
        ("batch: device without acquire", batch, Sound, NoAcquire, "Causality violation"),
        ("answer: device without release", answer, Sound, NoRelease, "Causality violation"),
        ("answer: driver without acquire", answer, NoAcquire, Sound, "Causality violation"),
        ("answers: device without release", answers, Sound, NoRelease, "Causality violation"),
        ("answers: driver without acquire", answers, NoAcquire, Sound, "Causality violation"),
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
        let found = failure(model, format, driver, device);
        assert!(found.contains(expected), "{format:?}, {name}: expected {expected}, found {found}");
    }
}

#[test]
fn every_wrong_memory_of_a_split_ring_is_found() {
    every_wrong_memory_is_found(Split);
}

#[test]
fn every_wrong_memory_of_a_packed_ring_is_found() {
    every_wrong_memory_is_found(Packed);
    // The flags of a batch's first descriptor or entry are what makes the batch visible: stored too early, half of it is.
    let found = failure(batch, Packed, FirstNotLast, Sound);
    assert!(found.contains("a whole chain"), "{found}");
    let found = failure(answers, Packed, Sound, FirstNotLast);
    assert!(found.contains("visible as a whole"), "{found}");
}
