//! The cases that show requirements of VIRTIO from outside, on the daemon and, for comparison, on DPDK's vhost port.
//!
//! Needs `VNET_GUEST_TESTS=1`, which `cargo xtask test` sets.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use e2e::conformance::{Report, Suite, Verdict};
use e2e::dpdk::{Memory, PortSpec, TestPmd, processors};
use e2e::front::contest::reflector;
use e2e::{HostEnd, Workshop};
use support::{Bed, dpdk, say, wanted};

/// Runs it, and prints what was found.
fn look_at(suite: &Suite) -> Report {
    let report = suite.run(&mut say).unwrap();
    println!("{}\n{}\n{}", report.about(), report.table(), report.summary());
    report
}

fn passed(report: &Report) -> usize {
    report.findings().iter().filter(|finding| finding.verdict == Verdict::Pass).count()
}

/// Nothing fails that must not, and of all the hostile peers nothing is left in the daemon.
#[test]
fn the_daemon_conforms_as_far_as_it_shows_from_outside() {
    if !wanted() {
        return;
    }
    // A source check would drop frames that seem to come from others; without them no receive filter shows.
    let bed = Bed::with(HostEnd::Loopback, &["--spoof-check", "off", "--queues", "2", "--mtu", "1500"]);
    // One guest has come and gone: what the daemon keeps for the next one is there.
    look_at(&Suite { only: Some("n22_".to_owned()), ..Suite::new(bed.socket()) });
    let before = bed.holdings();
    let report = look_at(&Suite::new(bed.socket()));
    assert!(report.is_good());
    // Cases that do not apply do not fail either.
    assert!(report.frames_come_back() && report.commands_are_answered(), "{}", report.about());
    assert!(passed(&report) > 150, "{}", report.summary());
    let after = bed.settled(&before);
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    bed.stop();
}

/// The same cases, so that they are not made to measure. What fails there is DPDK's affair.
#[test]
fn dpdk_is_looked_at_by_the_same_cases() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let Some(dpdk) = dpdk(&shop) else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("dpdk.sock");
    let arguments = vec!["--forward-mode=io".to_owned()];
    let spec = PortSpec { arguments, ..reflector(&socket, processors().last().unwrap(), Memory::default()) };
    let mut pmd = TestPmd::start(&dpdk, &spec, &shop.folder().join("conformance-dpdk.log")).unwrap();
    pmd.say("start").unwrap();
    // Some of the hostile ones it does not survive.
    let report = look_at(&Suite { hostile: false, ..Suite::new(&socket) });
    assert!(report.frames_come_back(), "{}", report.about());
    assert!(passed(&report) > 70, "{}", report.summary());
    pmd.stop().unwrap();
    pmd.quit().unwrap();
}
