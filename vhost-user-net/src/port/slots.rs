//! Buffers of the host ends that stand in for a network: made once, used again and again.

/// Bytes of a buffer: more than a frame of 1514 bytes, and no power of two, or all buffers would share a few sets of a
/// cache.
pub(super) const SLOT: usize = 2176;

/// One buffer, which begins with a cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Slot([u8; SLOT]);

/// Buffers that take turns.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    at: usize,
}

impl Slots {
    /// So many buffers of zeros, at least one.
    pub(super) fn new(count: usize) -> Self {
        Self { slots: vec![Slot([0; SLOT]); count.max(1)].into(), at: 0 }
    }

    /// The one whose turn it is.
    #[inline]
    pub(super) fn current(&mut self) -> &mut [u8] {
        self.slots.get_mut(self.at).map_or(&mut [], |slot| &mut slot.0)
    }

    /// Goes on to the next one.
    #[inline]
    pub(super) fn advance(&mut self) {
        let next = self.at.wrapping_add(1);
        self.at = if next < self.slots.len() { next } else { 0 };
    }
}
