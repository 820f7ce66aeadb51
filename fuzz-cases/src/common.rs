//! What the ring's own tests have as well.
#![allow(dead_code, reason = "a part is used here")]

#[path = "../../virtio-ring/tests/common/guest.rs"]
pub(crate) mod guest;
#[path = "../../virtio-ring/tests/common/peers.rs"]
pub(crate) mod peers;
