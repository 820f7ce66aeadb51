//! A 16-bit ring position in a word of its own.

/// A 16-bit ring position, which wraps.
///
/// Kept in 32 bits because the compiler may load a 16-bit field together with its neighbour: right behind the 16-bit
/// store of the buffer before, such a load has to wait until that store is in the cache, which cost more than all the
/// rest of a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor(u32);

impl Cursor {
    #[inline]
    pub(crate) const fn new(position: u16) -> Self {
        Self(position as u32)
    }

    #[inline]
    pub(crate) const fn get(self) -> u16 {
        self.0 as u16
    }

    /// The position in the low 16 bits, laps above: for a mask of fewer bits.
    #[inline]
    pub(crate) const fn wide(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn add(&mut self, n: u16) {
        self.0 = self.0.wrapping_add(n as u32);
    }

    /// `n` further on.
    #[inline]
    pub(crate) const fn ahead(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    #[inline]
    pub(crate) const fn sub(&mut self, n: u16) {
        self.0 = self.0.wrapping_sub(n as u32);
    }
}
