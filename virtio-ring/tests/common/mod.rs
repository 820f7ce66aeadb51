//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test support")]

pub(crate) mod counting;
pub(crate) mod guest;
#[cfg(not(miri))]
pub(crate) mod loomed;
