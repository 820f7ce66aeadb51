//! Notification coalescing (virtio 1.4, 5.1.6.5.9): calls to the driver that are held back.
//!
//! [`Coalescing`] is what the driver commanded for each queue, [`Coalescer`] decides for one queue, by a clock that its
//! caller has.

use alloc::vec::Vec;

/// Longest delay of a call that a driver may ask for, in microseconds: a second.
pub const MAX_DELAY: u32 = 1_000_000;

/// When a queue's calls are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[doc(alias = "virtio_net_ctrl_coal")]
pub struct CoalesceParams {
    /// Packets for which one call is made. 0: every call is made at once.
    pub max_packets: u32,
    /// Microseconds that a call may wait at most. 0: every call is made at once.
    pub max_usecs: u32,
}

impl CoalesceParams {
    /// Bytes of these on the ring.
    pub const LEN: usize = 8;

    /// Reads them, little-endian. `None`: not that many bytes, or a delay of more than [`MAX_DELAY`].
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let [p0, p1, p2, p3, u0, u1, u2, u3] = *<&[u8; Self::LEN]>::try_from(data).ok()?;
        let params =
            Self { max_packets: u32::from_le_bytes([p0, p1, p2, p3]), max_usecs: u32::from_le_bytes([u0, u1, u2, u3]) };
        (params.max_usecs <= MAX_DELAY).then_some(params)
    }

    /// Their bytes, little-endian.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [p0, p1, p2, p3] = self.max_packets.to_le_bytes();
        let [u0, u1, u2, u3] = self.max_usecs.to_le_bytes();
        [p0, p1, p2, p3, u0, u1, u2, u3]
    }

    /// True if calls are held back at all.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.max_packets != 0 && self.max_usecs != 0
    }
}

/// What the driver commanded for all queues.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coalescing {
    /// For receive queues that are set up from now on.
    pub rx: CoalesceParams,
    /// For transmit queues, likewise.
    pub tx: CoalesceParams,
    /// For each queue, in the order of the virtqueues; none for the control queue.
    pub queues: Vec<CoalesceParams>,
}

impl Coalescing {
    /// All off, for `pairs` queue pairs.
    #[must_use]
    pub fn new(pairs: u16) -> Self {
        let mut queues = Vec::new();
        queues.resize(usize::from(pairs).saturating_mul(2), CoalesceParams::default());
        Self { rx: CoalesceParams::default(), tx: CoalesceParams::default(), queues }
    }

    /// For all receive queues.
    pub fn set_rx(&mut self, params: CoalesceParams) {
        self.rx = params;
        self.queues.iter_mut().step_by(2).for_each(|queue| *queue = params);
    }

    /// For all transmit queues.
    pub fn set_tx(&mut self, params: CoalesceParams) {
        self.tx = params;
        self.queues.iter_mut().skip(1).step_by(2).for_each(|queue| *queue = params);
    }

    /// For one queue. False if there is no such queue.
    pub fn set_queue(&mut self, index: u16, params: CoalesceParams) -> bool {
        self.queues.get_mut(usize::from(index)).is_some_and(|queue| {
            *queue = params;
            true
        })
    }

    /// What holds for a queue: nothing is held back in one that does not exist.
    #[must_use]
    pub fn queue(&self, index: u16) -> CoalesceParams {
        self.queues.get(usize::from(index)).copied().unwrap_or_default()
    }

    /// A queue was disabled and is enabled again: it has what was set for all of its kind.
    pub fn restart(&mut self, index: u16) {
        let params = if index & 1 == 0 { self.rx } else { self.tx };
        self.set_queue(index, params);
    }
}

/// Decides when the calls of one queue are made.
///
/// Times are nanoseconds of any monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Coalescer {
    params: CoalesceParams,
    packets: u64,
    /// When the first of them came.
    since: u64,
}

impl Coalescer {
    /// True if calls are held back: [`note`](Self::note) has to be told of every burst then.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.params.is_on()
    }

    /// True if a call is held back.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.packets != 0
    }

    /// Sets other parameters. True if a call that was held back is due by these.
    pub fn set(&mut self, params: CoalesceParams, now: u64) -> bool {
        self.params = params;
        self.is_waiting() && self.is_due(now)
    }

    /// Notes a burst of packets. True if the call is due.
    pub fn note(&mut self, packets: u64, now: u64) -> bool {
        if self.packets == 0 {
            self.since = now;
        }
        self.packets = self.packets.saturating_add(packets);
        self.is_waiting() && self.is_due(now)
    }

    /// True if a call is held back that is to be made by now.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.is_waiting()
            && (!self.is_on()
                || self.packets >= self.params.max_packets.into()
                || now.saturating_sub(self.since) >= self.delay())
    }

    /// When the call that is held back is due, whatever comes.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.is_waiting().then(|| self.since.saturating_add(if self.is_on() { self.delay() } else { 0 }))
    }

    /// The call was made, or the driver did not want it: both counters begin anew with the next packet.
    pub const fn called(&mut self) {
        self.packets = 0;
    }

    fn delay(&self) -> u64 {
        u64::from(self.params.max_usecs).saturating_mul(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: u64 = 1_000;

    fn params(max_packets: u32, max_usecs: u32) -> CoalesceParams {
        CoalesceParams { max_packets, max_usecs }
    }

    /// The specification's example: 15 packets or 10 microseconds.
    #[test]
    fn n80_a_call_is_made_for_15_packets_or_after_10_microseconds_whichever_comes_first() {
        let mut c = Coalescer::default();
        assert!(!c.set(params(15, 10), 0), "nothing is held back yet");
        for n in 1..15 {
            assert!(!c.note(1, 100 * US), "packet {n}");
        }
        assert!(c.note(1, 101 * US), "the 15th");
        c.called();
        assert_eq!(c.deadline(), None, "counting begins with the next packet");
        assert!(!c.note(3, 200 * US));
        assert_eq!(c.deadline(), Some(210 * US));
        assert!(!c.is_due(210 * US - 1) && c.is_due(210 * US));
        c.called();
        assert!(!c.is_due(u64::MAX), "nothing is held back");
        assert!(c.note(40, 300 * US), "a burst of more than that");
    }

    /// The specification's other example: 10 packets of 15 went, and now 8 do.
    #[test]
    fn n80_other_parameters_are_looked_at_at_once() {
        for (next, due) in [(params(8, 1_000), true), (params(10, 1_000), true), (params(11, 1_000), false)] {
            let mut c = Coalescer::default();
            c.set(params(15, 1_000), 0);
            assert!(!c.note(10, 5 * US));
            assert_eq!(c.set(next, 6 * US), due, "{next:?}");
        }
        for next in [params(0, 9), params(9, 0), params(0, 0), params(15, 1)] {
            let mut c = Coalescer::default();
            c.set(params(15, 1_000), 0);
            assert!(!c.note(1, 0));
            assert!(c.set(next, US), "{next:?}: off, or the time is up");
        }
    }

    #[test]
    fn n80_either_parameter_zero_means_a_call_for_every_packet() {
        for off in [params(0, 0), params(0, 10), params(10, 0)] {
            let mut c = Coalescer::default();
            c.set(off, 0);
            assert!(!c.is_on() && c.note(1, 0) && c.deadline() == Some(0), "{off:?}");
        }
    }

    #[test]
    fn n78_n79_n81_all_is_off_at_first_and_a_queue_that_comes_back_has_what_was_set_for_all() {
        let mut all = Coalescing::new(3);
        assert_eq!(all.queues, [CoalesceParams::default(); 6]);
        assert!(all.set_queue(3, params(1, 2)) && all.set_queue(4, params(3, 4)));
        all.restart(3);
        all.restart(4);
        assert_eq!((all.queue(3), all.queue(4)), Default::default(), "nothing was set for all");
        all.set_tx(params(5, 6));
        all.set_rx(params(7, 8));
        assert!(all.set_queue(3, params(1, 2)) && all.set_queue(4, params(3, 4)));
        assert_eq!(all.queues, [(7, 8), (5, 6), (7, 8), (1, 2), (3, 4), (5, 6)].map(|(p, u)| params(p, u)));
        all.restart(3);
        all.restart(4);
        assert_eq!((all.queue(3), all.queue(4)), (params(5, 6), params(7, 8)));
        assert!(!all.set_queue(6, params(1, 1)));
        assert_eq!(all.queue(6), CoalesceParams::default());
    }

    proptest! {
        #[test]
        fn parameters_read_back_as_written(max_packets: u32, max_usecs in 0..=MAX_DELAY, more in 1_u32..) {
            let value = params(max_packets, max_usecs);
            prop_assert_eq!(CoalesceParams::parse(&value.to_bytes()), Some(value));
            let longer = params(max_packets, MAX_DELAY.saturating_add(more));
            prop_assert_eq!(CoalesceParams::parse(&longer.to_bytes()), None);
            prop_assert_eq!(CoalesceParams::parse(&value.to_bytes()[..7]), None);
        }

        /// No call waits longer than it may, and none is made for fewer packets before that.
        #[test]
        fn n80_against_a_list_of_packets(max_packets in 1..20_u32, max_usecs in 1..50_u32, gaps in prop::collection::vec((0..30_000_u64, 1..5_u64), 1..60)) {
            let mut c = Coalescer::default();
            c.set(params(max_packets, max_usecs), 0);
            let (mut now, mut held): (u64, std::vec::Vec<(u64, u64)>) = (0, std::vec::Vec::new());
            for (gap, packets) in gaps {
                now += gap;
                held.push((now, packets));
                let count: u64 = held.iter().map(|(_, n)| n).sum();
                let due = count >= u64::from(max_packets) || now - held[0].0 >= u64::from(max_usecs) * 1_000;
                prop_assert_eq!(c.note(packets, now), due);
                if due {
                    c.called();
                    held.clear();
                }
            }
        }
    }
}
