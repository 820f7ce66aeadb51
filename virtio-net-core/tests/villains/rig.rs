//! A device side with pumps, and a guest that only has memory.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;

use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;
use virtio_net_core::tx::TxFilter;
use virtio_net_core::{Features, NetHeader};
use virtio_ring::{HeapMemory, MappedArea, QueueState, SplitDevice};

use crate::guest::{Memory, NEXT, RawRing, WRITE, changed, config, memory, snapshot};

pub(crate) type Ring = SplitDevice<MappedArea<HeapMemory>>;

/// One ring and the raw guest.
pub(crate) struct Rig {
    pub(crate) mem: Memory,
    pub(crate) raw: RawRing,
    pub(crate) ring: Ring,
    pub(crate) avail: u16,
    /// Next free descriptor.
    next: u16,
    /// Used entries that were looked at.
    pub(crate) used: u16,
    /// Writable bytes that were posted.
    pub(crate) posted: Vec<Range<u64>>,
}

impl Rig {
    pub(crate) fn new(size: u16) -> Self {
        let config = config(size, true, true);
        let mem = memory();
        let ring = SplitDevice::new(&mem, &config, QueueState::default()).unwrap();
        Self { mem, raw: RawRing(config), ring, avail: 0, next: 0, used: 0, posted: Vec::new() }
    }

    /// Makes a chain of these buffers (address, length, flags) available; returns its head.
    pub(crate) fn offer(&mut self, buffers: &[(u64, u32, u16)]) -> u16 {
        let size = self.raw.0.size;
        let head = self.next % size;
        for (i, &(addr, len, flags)) in buffers.iter().enumerate() {
            let at = self.next % size;
            self.next = self.next.wrapping_add(1);
            let more = if i + 1 == buffers.len() { 0 } else { NEXT };
            self.raw.desc(&self.mem, at, (addr, len, flags | more, self.next % size));
            if flags & WRITE != 0 {
                self.posted.push(addr..addr.saturating_add(len.into()));
            }
        }
        self.publish(head);
        head
    }

    pub(crate) fn publish(&mut self, head: u16) {
        self.raw.avail_entry(&self.mem, self.avail, head);
        self.avail = self.avail.wrapping_add(1);
        self.raw.set_avail_idx(&self.mem, self.avail);
    }

    /// The used entries since the last call.
    pub(crate) fn reap(&mut self) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        while self.used != self.raw.used_idx(&self.mem) {
            all.push(self.raw.used_entry(&self.mem, self.used));
            self.used = self.used.wrapping_add(1);
        }
        all
    }

    /// Runs `act` and makes sure that only posted bytes and the used ring were written.
    pub(crate) fn watched<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = snapshot(&self.mem);
        let result = act(self);
        let used = self.raw.used_range();
        let stray: Vec<u64> = changed(&before, &snapshot(&self.mem))
            .into_iter()
            .filter(|a| !used.contains(a) && !self.posted.iter().any(|r| r.contains(a)))
            .collect();
        assert!(stray.is_empty(), "written outside of what was posted: {stray:x?}");
        result
    }
}

/// Lets everything through.
pub(crate) struct Open;
impl TxFilter for Open {
    fn permits(&mut self, _head: &[u8]) -> bool {
        true
    }
}
impl RxFilter for Open {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}

/// Keeps what it gets.
#[derive(Default)]
pub(crate) struct Wire(pub(crate) Vec<(NetHeader, Vec<u8>)>);
impl FrameSink for Wire {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        for frame in burst.iter() {
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_to(&mut bytes), bytes.len());
            self.0.push((frame.header, bytes));
        }
        Taken { count: burst.len(), failed: 0 }
    }
}

/// Offers what it holds, in order; keeps a frame for which there is no room.
#[derive(Default)]
pub(crate) struct Inbox(pub(crate) VecDeque<(NetHeader, Vec<u8>)>);
impl Inbox {
    pub(crate) fn of(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(frames.into_iter().map(|f| (NetHeader::NONE, f)).collect())
    }
}
impl FrameSource for Inbox {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while let Some((header, frame)) = self.0.front() {
            if room.put(header, frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.0.pop_front();
        }
        Ok(Supply::Dry)
    }
}

/// A frame of `len` bytes that says which it is.
pub(crate) fn frame(len: usize, n: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(13).wrapping_add(n) | 1).collect()
}

/// Acknowledged features for a header of `len` bytes.
pub(crate) fn with_header(len: usize) -> Features {
    match len {
        10 => Features::empty(),
        12 => Features::VERSION_1,
        _ => Features::VERSION_1 | Features::HASH_REPORT | Features::CTRL_VQ,
    }
}
