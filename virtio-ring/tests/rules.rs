//! What virtio 1.3 asks of a device on a ring (2.7 and 2.8), rule by rule: a driver that only has memory says things that it
//! may say, and looks at every byte of the ring afterwards. What a driver may not say is in `villains.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

#[path = "rules/both.rs"]
mod both;
mod common;
#[path = "rules/packed.rs"]
mod packed;
#[path = "rules/split.rs"]
mod split;

type Area = virtio_ring::MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;
