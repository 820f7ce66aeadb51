//! What holds for every layout here, whatever its lines are.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::compact::{self, Compact};
use super::rtrb::{self, Rtrb};
use super::sealed::{self, Sealed};
use super::shuttle::{self, Shuttle};
use crate::Arena;
use crate::lab::{Buffer, DeviceSide, DriverSide, Layout, Setup};

/// A driver that says how many bytes came back.
trait Sum: DriverSide {
    fn sum(&self) -> u64;
}

macro_rules! layouts {
    ($($name:ident: $layout:ty, $driver:ty;)*) => {
        $(impl Sum for $driver {
            fn sum(&self) -> u64 {
                self.bytes()
            }
        })*
        $(mod $name {
            use super::*;
            #[test]
            fn one_thread() {
                for bits in 0..16_u32 {
                    super::one_thread::<$layout>(1 << bits, 0x9e37 + u64::from(bits));
                }
            }
            #[test]
            fn two_threads() {
                for size in [1, 2, 8, 256] {
                    super::two_threads::<$layout>(size, false);
                }
            }
            #[test]
            fn sleeping() {
                for size in [1, 2, 8, 256] {
                    super::two_threads::<$layout>(size, true);
                }
            }
            #[test]
            fn wakes_once() {
                super::wakes_once::<$layout>();
            }
            #[test]
            fn pictured() {
                super::pictured::<$layout>();
            }
        })*
    };
}

layouts! {
    of_compact: Compact, compact::Driver;
    of_sealed: Sealed, sealed::Driver;
    of_shuttle: Shuttle, shuttle::Driver;
    of_rtrb: Rtrb, rtrb::Driver;
}

/// Xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The buffer number `i`: most of them are like real ones, some are as odd as the types allow.
const fn buffer(i: u64) -> Buffer {
    let odd = [0, 1, 0xfffe, 0xffff, 0x1_0000, u32::MAX];
    match i % 11 {
        7 => Buffer { addr: i, len: odd[(i / 11 % 6) as usize] },
        9 => Buffer { addr: u64::MAX - i, len: i as u32 % 2048 },
        10 => Buffer { addr: (1 << 47) - 1 + i % 2, len: 1500 },
        _ => Buffer { addr: 0x1234_0000 + 2176 * i, len: i as u32 % 4096 },
    }
}

fn sum(count: u64) -> u64 {
    (0..count).map(|i| u64::from(buffer(i).len)).sum()
}

/// Random bursts against a queue; nothing is seen before it is flushed, and the ring takes exactly its size.
fn one_thread<L: Layout<Driver: Sum>>(size: u16, seed: u64) {
    let arena = Arena::new(size).unwrap();
    let (mut driver, mut device) = L::open(&Setup { arena: &arena, size, sleeps: false }).unwrap();
    let (mut dice, n) = (Dice(seed), u64::from(size));
    let (mut added, mut posted, mut served, mut returned, mut reaped) = (0, 0, 0, 0, 0);
    let mut seen = VecDeque::new();
    while reaped < 9 * n + 100 {
        for _ in 0..dice.below(n + 2) {
            assert_eq!(driver.add(buffer(added)), added - reaped < n, "{} of {n}", added - reaped);
            added += u64::from(added - reaped < n);
        }
        if dice.below(3) > 0 {
            assert!(!driver.flush());
            posted = added;
        }
        let most = dice.below(n + 2);
        let count = device.serve(most as usize, |b| seen.push_back(b)) as u64;
        assert_eq!(count, most.min(posted - served));
        for i in served..served + count {
            assert_eq!(seen.pop_front(), Some(buffer(i)));
        }
        served += count;
        if dice.below(3) > 0 {
            assert!(!device.flush());
            returned = served;
        }
        let most = dice.below(n + 2);
        let count = driver.reap(most as usize) as u64;
        assert_eq!(count, most.min(returned - reaped));
        reaped += count;
        assert_eq!(driver.sum(), sum(reaped));
    }
    assert!(seen.is_empty());
}

/// How a side of [`two_threads`] is woken.
struct Ends {
    wake: SyncSender<()>,
    sleep: Receiver<()>,
    sleeps: bool,
}

impl Ends {
    fn pair(sleeps: bool) -> (Self, Self) {
        let ((a, b), (c, d)) = (sync_channel(1), sync_channel(1));
        (Self { wake: a, sleep: d, sleeps }, Self { wake: c, sleep: b, sleeps })
    }
    fn kick(&self, needed: bool) {
        assert!(self.sleeps || !needed);
        if needed {
            // Full: a wake-up is on its way. Gone: the peer is done.
            let _ = self.wake.try_send(());
        }
    }
    /// Waits for the peer, which hangs up when it has panicked; nothing for so long is a lost wake-up.
    fn wait(&self) {
        if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = self.sleep.recv_timeout(Duration::from_secs(60)) {
            panic!("nobody woke this side");
        }
    }
}

/// Random bursts on two threads, which see every buffer once and in order, and never sleep for ever.
fn two_threads<L: Layout<Driver: Sum>>(size: u16, sleeps: bool) {
    let total = if sleeps { 20_000 } else { 100_000 };
    let arena = Arena::new(size).unwrap();
    let (mut driver, mut device) = L::open(&Setup { arena: &arena, size, sleeps }).unwrap();
    let (mine, peers) = Ends::pair(sleeps);
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut served, mut dice) = (0, Dice(77));
            while served < total {
                let most = 1 + dice.below(40) as usize;
                let mut i = served;
                let count = device.serve(most, |b| {
                    assert_eq!(b, buffer(i));
                    i += 1;
                });
                assert_eq!(i, served + count as u64);
                served = i;
                peers.kick(device.flush());
                if count == 0 && !sleeps {
                    thread::yield_now();
                } else if count == 0 && device.arm() {
                    peers.wait();
                    device.disarm();
                }
            }
        });
        let (mut added, mut reaped, mut dice) = (0, 0, Dice(99));
        while reaped < total {
            for _ in 0..dice.below(40) {
                added += u64::from(added < total && driver.add(buffer(added)));
            }
            mine.kick(driver.flush());
            let count = driver.reap(1 + dice.below(60) as usize);
            reaped += count as u64;
            let stuck = added == total || added - reaped == u64::from(size);
            if count == 0 && !sleeps {
                thread::yield_now();
            } else if count == 0 && stuck && driver.arm() {
                mine.wait();
                driver.disarm();
            }
        }
        assert_eq!(driver.sum(), sum(total));
    });
}

/// A side that does not sleep is not woken, one that sleeps is woken once, and none goes to sleep with work to do.
fn wakes_once<L: Layout>() {
    let arena = Arena::new(8).unwrap();
    let (mut driver, mut device) = L::open(&Setup { arena: &arena, size: 8, sleeps: true }).unwrap();
    let post = |driver: &mut L::Driver| {
        assert!(driver.add(buffer(1)));
        driver.flush()
    };
    assert!(!post(&mut driver), "awake");
    assert!(!device.arm(), "a buffer is there");
    assert_eq!(device.serve(8, |_| ()), 1);
    assert!(device.arm());
    assert!(!driver.flush(), "nothing new");
    assert!(post(&mut driver));
    assert!(!post(&mut driver), "it was woken");
    device.disarm();
    assert_eq!(device.serve(8, |_| ()), 2);
    assert!(device.arm());
    device.disarm();
    assert!(!post(&mut driver), "it does not sleep");

    assert!(driver.arm(), "nothing was flushed");
    assert!(device.flush());
    assert_eq!(device.serve(8, |_| ()), 1);
    assert!(!device.flush(), "it was woken");
    driver.disarm();
    assert!(!driver.arm(), "four buffers are there");
    assert_eq!(driver.reap(8), 4);
    assert!(driver.arm());
}

/// The picture has all lines of the ring, and fewer transfers for bursts than for single buffers.
fn pictured<L: Layout>() {
    let picture = L::picture(256);
    assert_eq!(picture.layout, L::NAME);
    assert!(picture.transfers_burst_32 > 0.0 && picture.transfers_burst_32 <= picture.transfers_burst_1);
    let room: f64 = picture.areas.iter().map(|a| a.per_line * a.lines as f64).fold(0.0, f64::max);
    assert!(room >= 256.0, "room for {room}");
}
