//! One ring and its buffers, all of one length.

use super::memory::{Mapping, Memory};
use std::collections::VecDeque;
use std::sync::Arc;
use virtio_ring::{
    Access, AnyDriver, DriverRing, Element, Fault, Format, GuestAddr, GuestMemory, GuestSlice, MappedArea, QueueConfig,
    RingError,
};

/// A buffer of a [`Half`].
pub(super) type Buffer = u16;

/// See the module.
pub(super) struct Half {
    ring: AnyDriver<MappedArea<Arc<Mapping>>>,
    memory: Memory,
    base: GuestAddr,
    /// From one buffer to the next, in bytes.
    stride: u64,
    /// Buffers that the device does not have, the one that came back first at the front: memory is used in turn, as the
    /// ring is.
    free: VecDeque<Buffer>,
    /// Buffer of each handle.
    owner: Vec<Buffer>,
    /// The burst that is being added.
    burst: Vec<(Buffer, Element)>,
}

impl Half {
    /// A ring of `queue`, with as many buffers from `base` on as it has entries.
    pub(super) fn new(
        memory: &Memory,
        format: Format,
        queue: &QueueConfig,
        base: GuestAddr,
        stride: u64,
    ) -> Result<Self, RingError> {
        Ok(Self {
            ring: AnyDriver::new(memory, format, queue)?,
            memory: memory.clone(),
            base,
            stride,
            free: (0..queue.size).collect(),
            owner: vec![0; queue.size.into()],
            burst: Vec::with_capacity(queue.size.into()),
        })
    }

    /// Buffers that the device does not have.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a buffer out of the free ones.
    pub(super) fn take(&mut self) -> Option<Buffer> {
        self.free.pop_front()
    }

    /// The bytes of a buffer from `skip` on, as `access` wants them.
    pub(super) fn bytes(&self, buffer: Buffer, skip: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        let skip = skip as u64;
        let len = self.stride.saturating_sub(skip);
        let addr = GuestAddr(self.address(buffer).0.saturating_add(skip));
        self.memory.translate(addr, usize::try_from(len).unwrap_or(usize::MAX), access)
    }

    /// Puts a buffer, or its first `len` bytes, into the burst that [`add`](Self::add) makes available.
    pub(super) fn gather(&mut self, buffer: Buffer, len: Option<usize>, writable: bool) {
        let len = len.map_or(self.stride, |len| len as u64);
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.burst.push((buffer, Element { addr: self.address(buffer), len, writable }));
    }

    /// Adds the burst. A buffer for which there is no room, which cannot be unless the device broke the ring, is free again.
    pub(super) fn add(&mut self) {
        let mut handles = self.burst.iter().map(|(buffer, _)| *buffer);
        let owner = &mut self.owner;
        let added = self.ring.add_each(self.burst.iter().map(|(_, element)| *element), |handle| {
            if let (Some(slot), Some(buffer)) = (owner.get_mut(usize::from(handle.0)), handles.next()) {
                *slot = buffer;
            }
        });
        self.free.extend(self.burst.drain(..).skip(added).map(|(buffer, _)| buffer));
    }

    /// Takes back up to `most` buffers, each with the bytes that the device wrote.
    pub(super) fn reap(&mut self, most: usize, mut each: impl FnMut(Buffer, u32)) -> Result<usize, RingError> {
        let owner = &self.owner;
        self.ring.reap_each(most, |used| {
            each(owner.get(usize::from(used.handle.0)).copied().unwrap_or_default(), used.len);
        })
    }

    /// Takes back all buffers that the device has used, and sets them free.
    pub(super) fn reap_to_free(&mut self) -> Result<(), RingError> {
        let (owner, free) = (&self.owner, &mut self.free);
        let each = |used: virtio_ring::Used| {
            free.extend(owner.get(usize::from(used.handle.0)));
        };
        self.ring.reap_each(usize::from(self.ring.size()), each).map(|_| ())
    }

    /// Makes all visible. True if the device wants a kick.
    pub(super) fn flush(&mut self) -> bool {
        self.ring.flush().is_needed()
    }

    /// Asks for a call. False if there is something to reap.
    #[must_use = "false means that there is something to reap before sleeping"]
    pub(super) fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    pub(super) fn disarm(&mut self) {
        self.ring.disarm();
    }

    fn address(&self, buffer: Buffer) -> GuestAddr {
        // Buffers are below the ring's size, for which there is memory.
        GuestAddr(self.base.0.saturating_add(self.stride.saturating_mul(buffer.into())))
    }
}
