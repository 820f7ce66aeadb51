//! The suite's cases on a vhost-user back end that listens somewhere.

use crate::Failure;
use e2e::conformance::Suite;

/// Runs all cases and prints what was found.
pub(super) fn run(suite: &Suite, name: &str) -> Result<(), Failure> {
    let report = suite.run(&mut |line| println!("{line}"))?;
    print!("\n{name}: {}\n\n{}\n{}", report.about(), report.table(), report.summary());
    if report.is_good() { Ok(()) } else { Err(Failure::Unsuccessful) }
}
