//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::arc_with_non_send_sync,
    reason = "test support; loom checks what is shared"
)]

pub(crate) mod counting;
pub(crate) mod guest;
pub(crate) mod iotlb;
#[cfg(not(miri))]
pub(crate) mod loomed;
pub(crate) mod peers;
