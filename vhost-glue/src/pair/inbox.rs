//! Frames that came to one queue of the host end and belong to the receive queue of another pair, by the driver's table.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_net_core::NetHeader;
use virtio_net_core::backend::{FrameSource, Placed, RxRoom, Supply};
use virtio_net_core::rx::{Carried, RxFilter};

/// Frames that may wait, and their bytes; more are lost.
const MOST: usize = 512;
const MOST_BYTES: usize = 4 << 20;
/// Buffers that are kept for frames to come.
const SPARE: usize = 64;

/// Frames that wait for a pair.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The pair's receive ring runs.
    open: AtomicBool,
    /// How many there are, or a little out of date.
    len: AtomicUsize,
    frames: Mutex<Frames>,
}

#[derive(Debug, Default)]
struct Frames {
    waiting: VecDeque<(NetHeader, Vec<u8>)>,
    /// Bytes of those that wait.
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Frames {
    fn pop(&mut self) -> Option<(NetHeader, Vec<u8>)> {
        let next = self.waiting.pop_front();
        self.bytes = self.bytes.saturating_sub(next.as_ref().map_or(0, |(_, bytes)| bytes.len()));
        next
    }
}

impl Inbox {
    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it, or closes it and drops what waits.
    pub(super) fn set_open(&self, open: bool) {
        let mut frames = self.frames();
        self.open.store(open, Ordering::Relaxed);
        if !open {
            frames.waiting.clear();
            frames.bytes = 0;
            self.len.store(0, Ordering::Relaxed);
        }
    }

    /// Adds a frame. `None`: it is closed or full. True: it was empty before.
    pub(super) fn put(&self, header: &NetHeader, frame: &Carried<'_>) -> Option<bool> {
        let mut frames = self.frames();
        let len = frames.waiting.len();
        let all = frames.bytes.saturating_add(frame.len());
        if len >= MOST || all > MOST_BYTES || !self.open.load(Ordering::Relaxed) {
            return None;
        }
        frames.bytes = all;
        let mut bytes = frames.spare.pop().unwrap_or_default();
        frame.copy_to(&mut bytes);
        frames.waiting.push_back((*header, bytes));
        self.len.store(frames.waiting.len(), Ordering::Release);
        Some(len == 0)
    }

    /// True if nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Places what waits. False: there was no room for all of it.
    fn place<F: RxFilter + ?Sized>(&self, room: &mut RxRoom<'_, F>) -> bool {
        // Frames that take no buffer must not keep this going for as long as others send them.
        for _ in 0..MOST {
            // Not under the lock: the frame may go on to another inbox, which another pair holds while it waits for this.
            let next = self.frames().pop();
            let Some((header, bytes)) = next else {
                self.len.store(self.frames().waiting.len(), Ordering::Release);
                return true;
            };
            let placed = room.put(&header, &bytes);
            let mut frames = self.frames();
            if placed == Placed::NoRoom {
                frames.bytes = frames.bytes.saturating_add(bytes.len());
                frames.waiting.push_front((header, bytes));
            } else if frames.spare.len() < SPARE {
                frames.spare.push(bytes);
            }
            self.len.store(frames.waiting.len(), Ordering::Release);
            if placed == Placed::NoRoom {
                return false;
            }
        }
        true
    }
}

/// A host end's queue, with what others had for this pair in front of it.
pub(super) struct Fed<'a, Q> {
    pub(super) inbox: &'a Inbox,
    pub(super) queue: &'a mut Q,
}

impl<Q: FrameSource> FrameSource for Fed<'_, Q> {
    type Error = Q::Error;

    fn at_once(&self) -> usize {
        self.queue.at_once()
    }

    #[inline]
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Q::Error> {
        if !self.inbox.is_empty() && !self.inbox.place(room) {
            return Ok(Supply::More);
        }
        self.queue.receive(room)
    }
}
