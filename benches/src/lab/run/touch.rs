//! What the two sides do with payload: the same rule for every layout and every baseline.

use std::hint::black_box;

use virtio_ring::{Access, GuestAddr, GuestMemory};

use crate::Memory;
use crate::lab::Buffer;

/// One side's dealing with payload.
pub(super) trait Touch: Send {
    /// The driver fills a buffer that it is going to add.
    fn fill(&mut self, buffer: Buffer);
    /// The device looks at a buffer.
    fn look(&mut self, buffer: Buffer);
}

/// Payload is not touched; address and length are used.
#[derive(Default)]
pub(super) struct Untouched(u64);

impl Touch for Untouched {
    #[inline(always)]
    fn fill(&mut self, _buffer: Buffer) {}
    #[inline(always)]
    fn look(&mut self, buffer: Buffer) {
        self.0 = self.0.wrapping_add(buffer.addr ^ u64::from(buffer.len));
    }
}

impl Drop for Untouched {
    fn drop(&mut self) {
        black_box(self.0);
    }
}

/// The driver copies payload into the buffer, the device copies it out. Both translate the address, checked, with the
/// same memory.
pub(super) struct Copied {
    memory: Memory,
    bytes: Box<[u8; 2048]>,
}

impl Copied {
    pub(super) fn new(memory: &Memory) -> Self {
        Self { memory: memory.clone(), bytes: Box::new([7; 2048]) }
    }
}

impl Touch for Copied {
    #[inline(always)]
    fn fill(&mut self, buffer: Buffer) {
        if let Ok(slice) = self.memory.translate(GuestAddr(buffer.addr), buffer.len as usize, Access::Write) {
            slice.write(&self.bytes[..]);
        }
    }
    #[inline(always)]
    fn look(&mut self, buffer: Buffer) {
        if let Ok(slice) = self.memory.translate(GuestAddr(buffer.addr), buffer.len as usize, Access::Read) {
            slice.read(&mut self.bytes[..]);
        }
        black_box(&self.bytes);
    }
}
