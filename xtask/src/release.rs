//! What measures runs in the release build of this program, whichever build was started.

use crate::{Failure, interrupt};
use std::path::Path;
use std::process::Command;

/// Runs the same command line in the release build, if this is not it: `None` if it is.
pub(crate) fn again(root: &Path) -> Option<Result<(), Failure>> {
    if cfg!(debug_assertions) { Some(run(root)) } else { None }
}

fn run(root: &Path) -> Result<(), Failure> {
    println!("building what measures in release mode");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["run", "--release", "--quiet", "--package", "xtask", "--"]);
    let status = cargo.args(std::env::args_os().skip(1)).status()?;
    if interrupt::requested() {
        return Err(Failure::Interrupted);
    }
    if status.success() { Ok(()) } else { Err(Failure::Unsuccessful) }
}
