//! Workers with seats that count their turns. Whatever is asserted is a count: who had how many turns when.
#![allow(clippy::arithmetic_side_effects, reason = "test")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::*;
use crate::error::SessionError;
use crate::stop::{eventfd, wake};

/// What a test sees of a seat.
#[derive(Default)]
struct Seen {
    turns: AtomicU64,
    shown: AtomicU64,
    woken: AtomicU64,
}

impl Seen {
    fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }
}

type Act = Box<dyn FnMut(u64) -> bool + Send>;

/// A seat that does what a test wants in its turn, given its number; it may wait for an event, or for a time.
struct Counter {
    seen: Arc<Seen>,
    act: Act,
    event: Option<Arc<OwnedFd>>,
    tick: Option<Duration>,
}

impl Seat for Counter {
    fn round(&mut self) -> bool {
        let turn = self.seen.turns.fetch_add(1, Ordering::SeqCst);
        (self.act)(turn)
    }

    fn spent(&mut self, _cycles: u64) {}

    fn rest(&mut self) -> bool {
        true
    }

    fn wanted(&self, _now: Instant) -> Wanted<'_> {
        [self.event.as_ref().map(|event| (event, EventFlags::IN)), None, None, None]
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        self.tick.map(|tick| now + tick)
    }

    fn ready(&mut self, source: Source, _events: EventFlags, _awake: bool) {
        assert_eq!(source, Source::Tx);
        let _ = rustix::io::read(self.event.as_ref().unwrap(), &mut [0_u8; 8]);
        self.seen.woken.fetch_add(1, Ordering::SeqCst);
    }

    fn unwatchable(&mut self, _source: Source, _errno: Errno) {
        self.event = None;
    }

    fn publish(&mut self) {
        self.seen.shown.fetch_add(1, Ordering::SeqCst);
    }

    fn slept(&mut self) {}
}

/// So many workers that never poll.
fn workers(count: usize) -> Workers {
    Workers::start(&WorkersConfig { count, poll: Duration::ZERO, ..WorkersConfig::default() }).unwrap()
}

fn seat(workers: &Workers, event: Option<&Arc<OwnedFd>>, act: Act) -> (Handle<Counter>, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let (theirs, event) = (Arc::clone(&seen), event.cloned());
    let make = move || Counter { seen: theirs, act, event, tick: None };
    (Handle::new(workers, 0, None, make).unwrap(), seen)
}

fn event() -> Arc<OwnedFd> {
    Arc::new(eventfd().unwrap())
}

/// True until the number of turns is reached; then says so, and there is no work any more.
fn works_for(turns: u64, done: Sender<()>) -> Act {
    Box::new(move |turn| {
        if turn == turns {
            done.send(()).unwrap();
        }
        turn < turns
    })
}

#[test]
fn those_who_have_work_take_turns() {
    let workers = workers(1);
    let others = Arc::new(Mutex::new(Vec::<Arc<Seen>>::new()));
    let most = Arc::new(AtomicU64::new(0));
    let (done, ended) = channel();
    let begin = Arc::new(AtomicBool::new(false));
    let mut handles = Vec::new();
    for _ in 0..3 {
        let (all, most, done, begin) = (Arc::clone(&others), Arc::clone(&most), done.clone(), Arc::clone(&begin));
        let mut began = None;
        let act = move |turn: u64| {
            if !begin.load(Ordering::SeqCst) {
                return true;
            }
            let turns: Vec<u64> = all.lock().unwrap().iter().map(|seen| seen.turns()).collect();
            // How far each is from where it was when all were there.
            let began = began.get_or_insert_with(|| turns.clone());
            let ahead: Vec<u64> = turns.iter().zip(&*began).map(|(now, then)| now - then).collect();
            most.fetch_max(ahead.iter().max().unwrap() - ahead.iter().min().unwrap(), Ordering::SeqCst);
            if ahead[0] == 1000 {
                let _ = done.send(turn);
            }
            ahead[0] < 1000
        };
        let (handle, seen) = seat(&workers, None, Box::new(act));
        others.lock().unwrap().push(seen);
        handles.push(handle);
    }
    begin.store(true, Ordering::SeqCst);
    ended.recv().unwrap();
    drop(handles);
    assert!(most.load(Ordering::SeqCst) <= 1, "nobody is more than a turn ahead");
}

#[test]
fn one_that_wakes_has_its_turn_soon_while_another_floods() {
    let workers = workers(1);
    let event = event();
    let (done, ended) = channel();
    let (sleeper, seen) = seat(&workers, Some(&event), Box::new(|_| false));
    // Each turn of the flood is a few cycles at least, so that the look at the set is due after a known number.
    let most = 60_000;
    let mut kicked = None;
    let flood = move |turn: u64| {
        if kicked.is_none() && turn >= 1000 {
            kicked = Some((turn, seen.turns()));
            wake(event.as_fd());
        }
        let Some((since, turns)) = kicked else { return true };
        let served = seen.turns() > turns;
        if served || turn - since > most {
            let _ = done.send((served, turn - since));
            return false;
        }
        true
    };
    let (flood, _) = seat(&workers, None, Box::new(flood));
    let (served, turns) = ended.recv().unwrap();
    assert!(served, "not within {most} turns");
    println!("served after {turns} turns of the flood");
    drop((flood, sleeper));
}

#[test]
fn those_who_sleep_have_no_turns_and_their_descriptors_stay_watched() {
    let workers = workers(1);
    let event = event();
    let (done, ended) = channel();
    let sleepers: Vec<_> = (0..50).map(|_| seat(&workers, Some(&event), Box::new(|_| false))).collect();
    let turns = || sleepers.iter().map(|(_, seen)| seen.turns()).sum::<u64>();
    // In order after all of them: each had its turn, and sleeps.
    let (flood, _) = seat(&workers, None, works_for(10, done.clone()));
    ended.recv().unwrap();
    drop(flood);
    let before = turns();
    assert!(before >= 50);
    let (flood, _) = seat(&workers, None, works_for(100_000, done.clone()));
    ended.recv().unwrap();
    drop(flood);
    assert_eq!(turns(), before, "another's work is none of theirs");
    wake(event.as_fd());
    let (last, _) = seat(&workers, None, works_for(10, done));
    ended.recv().unwrap();
    drop(last);
    assert!(turns() > before);
}

#[test]
fn a_deadline_wakes_and_a_seat_that_went_leaves_none() {
    let workers = workers(1);
    let (done, ended) = channel();
    let make = move || {
        let act = move |turn| {
            if turn == 10 {
                done.send(()).unwrap();
            }
            false
        };
        Counter { seen: Arc::default(), act: Box::new(act), event: None, tick: Some(Duration::from_micros(50)) }
    };
    let ticking = Handle::new(&workers, 0, None, make).unwrap();
    ended.recv().unwrap();
    drop(ticking);
    let (other, _) = seat(&workers, None, Box::new(|_| false));
    assert_eq!(other.ask(|_| 7).unwrap(), 7);
}

#[test]
fn a_worker_that_died_and_a_seat_that_is_gone_are_errors() {
    let workers = workers(2);
    let (first, _) = seat(&workers, None, Box::new(|_| false));
    let (second, _) = seat(&workers, None, Box::new(|_| false));
    let pairs = |workers: &Workers| workers.stats().iter().map(|w| w.pairs).collect::<Vec<_>>();
    assert_eq!(pairs(&workers), [1, 1]);
    assert!(matches!(second.ask(|_| panic!("of the test")), Err::<(), _>(SessionError::Worker { pair: 0 })));
    assert!(matches!(second.ask(|_| ()), Err(SessionError::Worker { pair: 0 })));
    assert!(second.finish(|_| ()).is_none());
    // The other one goes on, and takes what comes.
    assert_eq!(first.ask(|_| 1).unwrap(), 1);
    let more: Vec<_> = (0..3).map(|_| seat(&workers, None, Box::new(|_| false))).collect();
    assert_eq!(pairs(&workers), [4, 0]);
    drop(more);
    first.forget_seat();
    assert!(matches!(first.ask(|_| ()), Err(SessionError::Seat { pair: 0 })));
    assert!(matches!(first.ask(|_| 1), Err(SessionError::Seat { pair: 0 })), "and the worker goes on");
    let (last, _) = seat(&workers, None, Box::new(|_| false));
    assert!(matches!(last.ask(|_| panic!("of the test")), Err::<(), _>(SessionError::Worker { pair: 0 })));
    drop((first, last));
    let make = || Counter { seen: Arc::default(), act: Box::new(|_| false), event: None, tick: None };
    while workers.stats().len() == 2 && !workers.inner.posts.iter().all(|p| p.tally.gone.load(Ordering::SeqCst)) {
        std::thread::yield_now();
    }
    assert!(matches!(Handle::new(&workers, 0, None, make), Err(SessionError::NoWorker)));
    assert_eq!(pairs(&workers), [0, 0]);
}

#[test]
fn counters_of_one_who_is_never_idle_are_shown_now_and_then() {
    let workers = workers(1);
    let (done, ended) = channel();
    let shown = Arc::new(AtomicU64::new(0));
    let look = Arc::clone(&shown);
    let act = move |turn| {
        if look.load(Ordering::SeqCst) < 3 {
            return true;
        }
        let _ = done.send(turn);
        false
    };
    let (busy, seen) = seat(&workers, None, Box::new(act));
    while seen.shown.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    shown.store(3, Ordering::SeqCst);
    let turns: u64 = ended.recv().unwrap();
    assert!(turns > 100, "not in every turn: 3 times in {turns}");
    let stats = workers.stats()[0];
    assert!(stats.busy_cycles > 0 && stats.busy_cycles <= stats.cycles, "{stats:?}");
    drop(busy);
}
