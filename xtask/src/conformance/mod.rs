//! `cargo xtask conformance`: each requirement of VIRTIO on a net device, and the tests that show it.

mod judge;
mod libtest;
mod programs;

use crate::Failure;
pub(crate) use judge::Judgement;
pub(crate) use libtest::{Reader, Tested};
use std::path::Path;

/// Runs the tests that are named by a row, and prints the table.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let rows = e2e::conformance::rows()?;
    let tests = programs::run(root)?;
    let judged = Judgement::new(&rows, &tests);
    print!("\n{}\n{}", judged.table(), judged.summary());
    if judged.is_good() { Ok(()) } else { Err(Failure::Unsuccessful) }
}
