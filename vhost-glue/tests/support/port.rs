//! A port that sends every frame back to its sender.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use vhost_glue::{Port, PortQueue};
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;
use virtio_net_core::{Features, NetHeader};

/// What a test can see of the port.
#[derive(Debug, Default)]
pub struct Seen {
    pub starts: AtomicU64,
    pub stops: AtomicU64,
    pub taken: AtomicU64,
    pub active: AtomicUsize,
}

/// Frames that a queue holds before it is busy.
const ROOM: usize = 64;

pub struct Mirror {
    pub seen: Arc<Seen>,
    pub pairs: u16,
}

impl Port for Mirror {
    type Queue = MirrorQueue;

    fn features(&self) -> Features {
        Features::CSUM | Features::GUEST_CSUM | Features::HOST_TSO4 | Features::GUEST_TSO4
    }

    fn max_pairs(&self) -> u16 {
        self.pairs
    }

    fn start(&mut self, _acked: Features, pairs: u16) -> io::Result<Vec<MirrorQueue>> {
        self.seen.starts.fetch_add(1, Ordering::SeqCst);
        (0..pairs).map(|_| MirrorQueue::new(Arc::clone(&self.seen))).collect()
    }

    fn stop(&mut self, queues: Vec<MirrorQueue>) {
        self.seen.stops.fetch_add(1, Ordering::SeqCst);
        drop(queues);
    }
}

pub struct MirrorQueue {
    seen: Arc<Seen>,
    frames: VecDeque<(NetHeader, Vec<u8>)>,
    event: OwnedFd,
    active: bool,
}

impl MirrorQueue {
    fn new(seen: Arc<Seen>) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { seen, frames: VecDeque::new(), event, active: false })
    }
}

impl FrameSink for MirrorQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let count = burst.len().min(ROOM - self.frames.len());
        for frame in burst.iter().take(count) {
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_to(&mut bytes), bytes.len());
            let (to, rest) = bytes.split_at_mut(6);
            to.swap_with_slice(&mut rest[..6]);
            self.frames.push_back((frame.header, bytes));
        }
        if count > 0 {
            self.seen.taken.fetch_add(count as u64, Ordering::SeqCst);
            rustix::io::write(&self.event, &1_u64.to_ne_bytes()).unwrap();
        }
        Taken { count, failed: 0 }
    }
}

impl FrameSource for MirrorQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        assert!(self.active, "asked for frames while off");
        while let Some((header, frame)) = self.frames.front() {
            if room.put(header, frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.frames.pop_front();
        }
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        Ok(Supply::Dry)
    }
}

impl PortQueue for MirrorQueue {
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        // Always writable: a busy queue is offered its frames again by the clock.
        Some(self.event.as_fd())
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        assert_ne!(self.active, active);
        self.active = active;
        if active {
            self.seen.active.fetch_add(1, Ordering::SeqCst);
        } else {
            self.seen.active.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }
}
