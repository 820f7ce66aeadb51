//! A host end that is all the test's: frames go to the guest by the queue that the test says, and what the guest sends is
//! kept with the queue that it came by.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use vhost_glue::{Port, PortQueue};
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;
use virtio_net_core::{Features, NetHeader};

const PATIENCE: Duration = Duration::from_secs(10);

/// A frame from the guest.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The pair that it came by.
    pub(crate) pair: usize,
    pub(crate) frame: Vec<u8>,
}

#[derive(Debug, Default)]
struct Ends {
    to_guest: Vec<VecDeque<(NetHeader, Vec<u8>)>>,
    active: Vec<bool>,
    offloads: Vec<Features>,
    from_guest: Vec<Sent>,
}

#[derive(Debug)]
struct Shared {
    ends: Mutex<Ends>,
    sent: Condvar,
    /// Of each queue: readable while it may have frames for the guest.
    events: Vec<OwnedFd>,
}

/// The test's end. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<Shared>);

impl Wire {
    /// With so many queues.
    pub(crate) fn new(pairs: u16) -> Self {
        let event = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let ends = Ends {
            to_guest: vec![VecDeque::new(); pairs.into()],
            active: vec![false; pairs.into()],
            offloads: vec![Features::empty(); pairs.into()],
            from_guest: Vec::new(),
        };
        Self(Arc::new(Shared { ends: Mutex::new(ends), sent: Condvar::new(), events: (0..pairs).map(event).collect() }))
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.ends.lock().unwrap()
    }

    /// Frames for the guest, by the queue of this pair, all at once.
    pub(crate) fn give(&self, pair: usize, header: NetHeader, frames: Vec<Vec<u8>>) {
        self.ends().to_guest[pair].extend(frames.into_iter().map(|frame| (header, frame)));
        rustix::io::write(&self.0.events[pair], &1_u64.to_ne_bytes()).unwrap();
    }

    /// Whether each pair's queue is on.
    pub(crate) fn active(&self) -> Vec<bool> {
        self.ends().active.clone()
    }

    /// What the host end was told last that it may give by this pair.
    pub(crate) fn offloads(&self, pair: usize) -> Features {
        self.ends().offloads[pair]
    }

    /// What the guest has sent so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.ends().from_guest.clone()
    }

    /// The frames of the guest since the last call, once one of them is as `wanted`.
    pub(crate) fn sent_until(&self, what: &str, wanted: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let begin = Instant::now();
        let mut ends = self.ends();
        loop {
            if ends.from_guest.iter().any(&wanted) {
                return std::mem::take(&mut ends.from_guest);
            }
            let left = PATIENCE.checked_sub(begin.elapsed());
            let left = left.unwrap_or_else(|| panic!("the guest did not send {what}: {:?}", ends.from_guest));
            ends = self.0.sent.wait_timeout(ends, left).unwrap().0;
        }
    }
}

impl Port for Wire {
    type Queue = WireQueue;

    fn features(&self) -> Features {
        Features::HOST_OFFLOADS | Features::GUEST_OFFLOADS
    }

    fn max_pairs(&self) -> u16 {
        u16::try_from(self.0.events.len()).unwrap()
    }

    fn start(&mut self, acked: Features, pairs: u16) -> io::Result<Vec<WireQueue>> {
        self.ends().offloads.fill(acked & Features::GUEST_OFFLOADS);
        Ok((0..usize::from(pairs)).map(|pair| WireQueue { wire: self.clone(), pair }).collect())
    }

    fn stop(&mut self, _queues: Vec<WireQueue>) {}
}

/// The device's end.
#[derive(Debug)]
pub(crate) struct WireQueue {
    wire: Wire,
    pair: usize,
}

impl FrameSink for WireQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let mut ends = self.wire.ends();
        for sent in burst.iter() {
            let mut frame = vec![0; sent.len()];
            assert_eq!(sent.copy_to(&mut frame), frame.len());
            ends.from_guest.push(Sent { pair: self.pair, frame });
        }
        self.wire.0.sent.notify_all();
        Taken { count: burst.len(), failed: 0 }
    }
}

impl FrameSource for WireQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        let mut ends = self.wire.ends();
        while let Some((header, frame)) = ends.to_guest[self.pair].front() {
            if room.put(header, frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            ends.to_guest[self.pair].pop_front();
        }
        // Under the lock, so that no frame is given in between.
        let _ = rustix::io::read(&self.wire.0.events[self.pair], &mut [0; 8]);
        Ok(Supply::Dry)
    }
}

impl PortQueue for WireQueue {
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wire.0.events[self.pair].as_fd())
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        self.wire.ends().active[self.pair] = active;
        Ok(())
    }

    fn set_offloads(&mut self, on: Features) -> io::Result<()> {
        self.wire.ends().offloads[self.pair] = on;
        Ok(())
    }
}
