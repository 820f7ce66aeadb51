//! Commands of the control queue as users of a real guest give them: what is typed there, and what passes on the wire then.
//!
//! The guest is User Mode Linux, whose driver hands the control queue to the device; QEMU serves it itself. Its kernel is 6.1:
//! that has no `DEVICE_STATS`, no coalescing of single queues, no contexts and no hashes in tunnels, which are tested
//! without a kernel.
//!
//! Needs `VNET_GUEST_TESTS=1`, which `cargo xtask test` sets.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod filters;
mod queues;
mod rates;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use support::rig::{OWN, Rig};
use vhost_glue::DeviceConfig;

/// A device with so many queue pairs.
fn config(packed: bool, queues: u16) -> DeviceConfig {
    DeviceConfig { mac: OWN, packed, queues, ..DeviceConfig::default() }
}

/// A guest of this test on such a device, with the features that the test is of.
fn boot(name: &str, config: DeviceConfig, features: &[&str]) -> Option<Rig> {
    let packed = config.packed;
    let rings = if packed { "packed" } else { "split" };
    let rig = Rig::boot(&format!("control-{name}-{rings}"), config)?;
    assert_eq!(rig.has("RING_PACKED"), packed);
    for feature in features {
        assert!(rig.has(feature), "{feature} was not negotiated");
    }
    Some(rig)
}

/// Each of them on split and on packed rings.
macro_rules! on_both {
    ($($module:ident::$test:ident),* $(,)?) => {
        mod split { $(#[test] fn $test() { crate::$module::$test(false); })* }
        mod packed { $(#[test] fn $test() { crate::$module::$test(true); })* }
    };
}

on_both! {
    filters::receive_modes_and_groups,
    filters::another_address,
    filters::n61_tagged_frames_pass_while_there_is_a_vlan_device,
    queues::n63_n64_the_queues_in_use_are_those_of_ethtool,
    queues::n66_n68_frames_go_where_ethtool_says_with_their_hashes,
    queues::n68_hashes_without_a_choice_of_queues,
    rates::interrupts_are_held_back,
    rates::large_frames_end,
    traffic::without_large_frames,
    traffic::with_everything_else_changed,
}
