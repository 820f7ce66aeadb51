//! When a queue pair polls, and when it sleeps.
//!
//! To poll pays if the next work comes sooner than it takes to fall asleep and to be woken. Nobody knows when it comes;
//! but work that came quickly a few times will likely do so again. So:
//!
//! - An idle time begins with polling, for `limit` at most.
//! - After polling in vain a pair owes sleeps: that many idle times begin with a sleep, and only sleeps shorter than
//!   `limit` count, those that polling would have spared. A guest that is slow costs no polling, nor does one that
//!   needs this very CPU to get on.
//! - How many it owes doubles with each time in vain, and halves with each time that polling found work. So what is
//!   polled in vain is a small part of the time, whatever the guest does.

use std::time::{Duration, Instant};

/// The fewest and the most short sleeps that are owed for polling in vain.
const PRICE: (u32, u32) = (4, 64);

/// The pace of one queue pair.
#[derive(Debug)]
pub(super) struct Pace {
    /// How long to poll at most; zero: never.
    limit: Duration,
    /// Short sleeps until polling is tried again.
    owed: u32,
    /// What polling in vain costs next.
    price: u32,
    idle_since: Option<Instant>,
    asleep_since: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, owed: 0, price: PRICE.0, idle_since: None, asleep_since: None }
    }

    /// There was work.
    #[inline]
    pub(super) fn worked(&mut self) {
        if self.idle_since.take().is_some() && self.owed == 0 {
            self.price = (self.price / 2).max(PRICE.0);
        }
    }

    /// Something else than work may have changed what there is to do.
    pub(super) const fn stirred(&mut self) {
        self.idle_since = None;
    }

    /// There was no work: true to look again at once.
    pub(super) fn polls(&mut self, now: Instant) -> bool {
        let since = *self.idle_since.get_or_insert(now);
        self.owed == 0 && now.saturating_duration_since(since) < self.limit
    }

    /// It falls asleep.
    pub(super) fn sleeps(&mut self, now: Instant) {
        self.idle_since = None;
        self.asleep_since = Some(now);
        if self.owed == 0 {
            self.owed = self.price;
            self.price = self.price.saturating_mul(2).min(PRICE.1);
        }
    }

    /// It woke up.
    pub(super) fn wakes(&mut self, now: Instant) {
        if self.asleep_since.take().is_some_and(|since| now.saturating_duration_since(since) < self.limit) {
            self.owed = self.owed.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test")]
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    /// A pace and a clock.
    struct Rig {
        pace: Pace,
        now: Instant,
        /// Idle times that began with polling.
        polled: u32,
    }

    impl Rig {
        fn new(limit: Duration) -> Self {
            Self { pace: Pace::new(limit), now: Instant::now(), polled: 0 }
        }

        /// An idle time of so many microseconds, looked at each microsecond; then work.
        fn idle(&mut self, micros: u64) {
            let mut asleep = false;
            for first in (0..micros).map(|n| n == 0) {
                if !asleep {
                    let polls = self.pace.polls(self.now);
                    self.polled += u32::from(first && polls);
                    if !polls {
                        self.pace.sleeps(self.now);
                        asleep = true;
                    }
                }
                self.now += Duration::from_micros(1);
            }
            if asleep {
                self.pace.wakes(self.now);
            }
            self.pace.worked();
        }

        /// How many of `count` idle times of this length began with polling.
        fn polled(&mut self, count: u32, micros: u64) -> u32 {
            self.polled = 0;
            (0..count).for_each(|_| self.idle(micros));
            self.polled
        }
    }

    #[test]
    fn quick_work_is_polled_for_and_slow_work_is_not() {
        let mut rig = Rig::new(LIMIT);
        assert_eq!(rig.polled(1000, 20), 1000);
        assert_eq!(rig.polled(1000, 200), 1, "once in vain, and then long sleeps pay nothing back");
        assert_eq!(rig.polled(5, 20), 1, "four short sleeps, and it polls again");
        assert_eq!(rig.polled(1000, 20), 1000);
    }

    #[test]
    fn polling_in_vain_costs_more_each_time_and_less_when_it_pays() {
        let mut rig = Rig::new(LIMIT);
        let mut owed = Vec::new();
        for _ in 0..7 {
            rig.idle(200);
            owed.push(rig.pace.owed);
            (0..rig.pace.owed).for_each(|_| rig.idle(20));
        }
        assert_eq!(owed, [4, 8, 16, 32, 64, 64, 64]);
        rig.idle(20);
        rig.idle(20);
        rig.idle(200);
        assert_eq!(rig.pace.owed, 16, "paid twice");
        (0..100).for_each(|_| rig.idle(20));
        rig.idle(200);
        assert_eq!(rig.pace.owed, 4);
    }

    #[test]
    fn with_a_limit_of_zero_nothing_is_ever_polled_for() {
        let mut rig = Rig::new(Duration::ZERO);
        assert_eq!(rig.polled(1000, 1), 0);
    }

    #[test]
    fn a_stir_begins_the_idle_time_anew() {
        let mut pace = Pace::new(LIMIT);
        let start = Instant::now();
        assert!(pace.polls(start));
        pace.stirred();
        assert!(pace.polls(start + LIMIT));
        assert!(!pace.polls(start + 2 * LIMIT));
    }
}
