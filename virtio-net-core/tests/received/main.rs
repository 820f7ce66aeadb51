//! What a driver finds in its buffers: the header, checked by rules that are written from the specification and not from the
//! device, and the frame behind it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod buffers;
mod checksums;
mod headers;
mod judge;
mod packets;
mod rig;
