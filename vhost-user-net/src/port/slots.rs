//! Buffers of the host ends that stand in for a network: made once, used again and again.

/// Bytes of a buffer: more than a frame of 1514 bytes, and no power of two, or all buffers would share a few sets of a
/// cache.
pub(super) const SLOT: usize = 2176;

/// One buffer, which begins with a cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Slot([u8; SLOT]);

/// How many there are: two bursts.
pub(super) const COUNT: usize = 64;

/// Buffers that take turns.
#[derive(Debug)]
pub(super) struct Slots(Box<[Slot]>);

impl Slots {
    /// Buffers of zeros.
    pub(super) fn new() -> Self {
        Self(vec![Slot([0; SLOT]); COUNT].into())
    }

    /// The one whose turn it is, by a number that counts on and on.
    #[inline]
    pub(super) fn get(&mut self, turn: usize) -> &mut [u8] {
        self.0.get_mut(turn & (COUNT - 1)).map_or(&mut [], |slot| &mut slot.0)
    }
}
