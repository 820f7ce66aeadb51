//! `cargo xtask conformance`: each requirement of VIRTIO on a net device, and the tests that show it.

mod blackbox;
mod judge;
mod libtest;
mod programs;

use crate::Failure;
use e2e::conformance::Suite;
pub(crate) use judge::Judgement;
pub(crate) use libtest::{Reader, Tested};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Looks at the vhost-user back end that listens at this socket, from outside, and runs no tests.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// What to call it in the report [default: the socket].
    #[arg(long, requires = "socket")]
    name: Option<String>,
    /// Only cases with this in their name.
    #[arg(long, value_name = "TEXT", requires = "socket")]
    only: Option<String>,
    /// Leave out drivers and front ends that do harm: not every back end survives them.
    #[arg(long, requires = "socket")]
    no_hostile: bool,
}

/// Looks at a back end, or runs the tests that are named by a row, and prints the table.
pub(crate) fn run(options: &Options, root: &Path) -> Result<(), Failure> {
    if let Some(socket) = &options.socket {
        let name = options.name.clone().unwrap_or_else(|| socket.display().to_string());
        let suite = Suite { only: options.only.clone(), hostile: !options.no_hostile, ..Suite::new(socket) };
        return blackbox::run(&suite, &name);
    }
    let rows = e2e::conformance::rows()?;
    let tests = programs::run(root)?;
    let judged = Judgement::new(&rows, &tests);
    print!("\n{}\n{}", judged.table(), judged.summary());
    if judged.is_good() { Ok(()) } else { Err(Failure::Unsuccessful) }
}
