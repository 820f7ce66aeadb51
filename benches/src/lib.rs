//! What the benchmarks share: one piece of memory, and the two sides of a ring in several makes.
//!
//! | make | side | what it is |
//! |---|---|---|
//! | [`ours::Device`] | device | `peek`, `accept`, `complete`, `flush` of virtio-ring, elements not translated |
//! | [`ours::Pool`] | device | the same through `Chains`, as the pumps do: every element translated |
//! | [`peer::Pop`], [`peer::Iter`] | device | rust-vmm's virtio-queue, one chain at a time and by its iterator |
//! | [`bare`] | both | loops over cached pointers that check nothing: the floor |
//! | [`ours::Driver`] | driver | `add`, `flush`, `poll_used` of virtio-ring |
//!
//! All of them work on the same `GuestMemoryMmap`, with the ring areas and the private state of the two sides at least
//! 128 bytes apart, one descriptor a chain. The [`lab`] measures them, and layouts that are not virtio's.

#![expect(clippy::arithmetic_side_effects, reason = "benchmarks count within the sizes that they chose themselves")]

mod arena;
pub mod bare;
pub mod cases;
pub mod cores;
mod filters;
pub mod lab;
pub mod ours;
pub mod peer;
mod pumps;

pub use arena::{Area, Arena, BUFFER_LEN, Memory, Mmap};

/// Where results go: cargo's target folder.
#[must_use]
pub fn target_folder() -> std::path::PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| default.into()).into()
}
