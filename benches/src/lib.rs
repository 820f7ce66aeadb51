//! What the benchmarks share: one piece of memory, and the two sides of a split ring in several makes.
//!
//! | make | side | what it is |
//! |---|---|---|
//! | [`ours::Peek`] | device | `peek`, `accept`, `complete`, `flush` of virtio-ring, elements not translated |
//! | [`ours::Pool`] | device | the same through `Chains`, as the pumps do: every element translated |
//! | [`peer::Pop`], [`peer::Iter`] | device | rust-vmm's virtio-queue, one chain at a time and by its iterator |
//! | [`bare::Device`] | device | a loop over cached pointers that checks nothing: the floor |
//! | [`ours::Driver`] | driver | `add`, `flush`, `poll_used` of virtio-ring |
//! | [`bare::Driver`] | driver | the floor |
//!
//! All of them work on the same `GuestMemoryMmap`, with the three ring areas and the private state of the two sides at
//! least 128 bytes apart, one descriptor a chain.

#![expect(clippy::arithmetic_side_effects, reason = "benchmarks count within the sizes that they chose themselves")]

mod arena;
pub mod bare;
pub mod cases;
pub mod lab;
pub mod ours;
pub mod peer;
mod threads;

pub use arena::{Area, Arena, BUFFER_LEN, Memory, Mmap};
pub use threads::{pin, two_threads};

/// The device's side of a ring.
pub trait DeviceSide {
    /// Takes up to `most` chains, sums their addresses up, completes them with length 0 and publishes once; returns
    /// how many there were.
    fn serve(&mut self, most: usize) -> usize;
}

/// The driver's side of a ring.
pub trait DriverSide {
    /// Adds `count` buffers and publishes once. The caller knows that there is room.
    fn post(&mut self, count: usize);
    /// Takes up to `most` used buffers back; returns how many there were.
    fn reap(&mut self, most: usize) -> usize;
}
