//! What a layout is to the lab: two sides, and a picture of its cachelines.

use std::error::Error;

use super::report::Picture;
use crate::Arena;

/// A buffer on its way from the driver to the device: a guest address of the arena and a length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Guest address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
}

/// How a layout is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The memory that both sides share, with room for rings below the buffers.
    pub arena: &'a Arena,
    /// Entries of the ring, and so buffers that it holds: a power of two.
    pub size: u16,
    /// The sides may sleep: each tells the other when it has to be woken. If not, both poll.
    pub sleeps: bool,
}

/// Makes so many more buffers available to a device that is measured alone: see [`Layout::poster`].
pub type Poster = Box<dyn FnMut(u16) + Send>;

/// A layout of a ring.
///
/// The lab moves buffers from the driver to the device and back. All layouts complete in the order of arrival, and hold
/// [`Setup::size`] buffers.
pub trait Layout {
    /// Short name, as in `--only`.
    const NAME: &'static str;
    /// What the idea is, in a sentence.
    const IDEA: &'static str;
    /// The side that posts buffers.
    type Driver: DriverSide + 'static;
    /// The side that uses them.
    type Device: DeviceSide + 'static;

    /// Both sides of an empty ring.
    ///
    /// # Errors
    /// Anything that keeps the layout from running with this set-up.
    fn open(setup: &Setup<'_>) -> Result<(Self::Driver, Self::Device), Box<dyn Error>>;

    /// Stands in for the driver where the device's side is measured alone: makes so many more buffers available, at a
    /// price that is next to nothing. None if the layout has no such short cut.
    fn poster(_setup: &Setup<'_>) -> Option<Poster> {
        None
    }

    /// Who writes which cacheline of a ring of `size` entries, and what that costs on paper.
    fn picture(size: u16) -> Picture;
}

/// The driver's side of a layout.
pub trait DriverSide: Send {
    /// Adds a buffer, not yet visible to the device. False if the ring is full.
    fn add(&mut self, buffer: Buffer) -> bool;
    /// Adds a burst, as long as there are buffers and room; returns how many.
    #[inline]
    fn add_each(&mut self, buffers: impl Iterator<Item = Buffer>) -> usize {
        let mut count = 0;
        for buffer in buffers {
            if !self.add(buffer) {
                break;
            }
            count += 1;
        }
        count
    }
    /// Makes all added buffers visible; true if the device has to be woken. Without [`Setup::sleeps`] nobody ever has.
    fn flush(&mut self) -> bool;
    /// Takes back up to `most` used buffers; returns how many.
    fn reap(&mut self, most: usize) -> usize;
    /// Before sleeping: asks to be woken. False if buffers were used meanwhile. Only with [`Setup::sleeps`].
    fn arm(&mut self) -> bool;
    /// After sleeping: no need to be woken from now on.
    fn disarm(&mut self);
}

/// The device's side of a layout.
pub trait DeviceSide: Send {
    /// Takes up to `most` buffers, shows each to `visit` and completes it, not yet visible to the driver; returns how
    /// many.
    fn serve(&mut self, most: usize, visit: impl FnMut(Buffer)) -> usize;
    /// Makes all completed buffers visible; true if the driver has to be woken. Without [`Setup::sleeps`] nobody ever has.
    fn flush(&mut self) -> bool;
    /// Before sleeping: asks to be woken. False if buffers became available meanwhile. Only with [`Setup::sleeps`].
    fn arm(&mut self) -> bool;
    /// After sleeping: no need to be woken from now on.
    fn disarm(&mut self);
}
