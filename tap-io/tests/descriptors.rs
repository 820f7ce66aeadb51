//! Alone in its process, as it counts the process's descriptors.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    unreachable_pub,
    reason = "tests"
)]

#[path = "common/namespace.rs"]
mod namespace;

use namespace::{in_namespace, ip};
use tap_io::{IfMissing, Tap};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn two_hundred_openings_leave_no_descriptor() {
    in_namespace(|| {
        ip("tuntap add dev one mode tap");
        let before = descriptors();
        for _ in 0..200 {
            let tap = Tap::open("many", 4, IfMissing::Create).unwrap();
            let queues = tap.queues();
            assert_eq!(descriptors(), before + 4);
            let busy = Tap::open("one", 1, IfMissing::Fail).unwrap();
            assert!(Tap::open("one", 1, IfMissing::Fail).is_err());
            assert!(Tap::open("one", 2, IfMissing::Fail).is_err());
            assert!(Tap::open("lo", 2, IfMissing::Fail).is_err());
            assert!(Tap::open("none", 2, IfMissing::Fail).is_err());
            drop((tap, queues, busy));
            assert_eq!(descriptors(), before);
        }
    });
}
