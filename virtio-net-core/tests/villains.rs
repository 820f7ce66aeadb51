//! The villain catalogue, packets: what a hostile guest can hand to the pumps, and what a back end can do to them.
//!
//! A bad chain or frame comes back with length 0, is counted, and the next good one still works. A broken ring stops
//! its own queue only. Nothing is ever written but the used ring and the writable bytes that were posted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    dead_code,
    reason = "test"
)]

#[path = "../../virtio-ring/tests/common/guest.rs"]
mod guest;
#[path = "villains/receive.rs"]
mod receive;
#[path = "villains/rig.rs"]
mod rig;
#[path = "villains/transmit.rs"]
mod transmit;
