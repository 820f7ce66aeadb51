//! `cargo xtask rings`: builds the ring lab and runs it, with Linux's own ring benchmark beside it if asked for.

#[expect(unreachable_pub, reason = "one definition for this command and for the program that it runs")]
#[path = "../../benches/src/lab/options.rs"]
mod options;

use crate::{Failure, interrupt};
use e2e::setup::{Packages, Say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use options::Options;

/// The package with the sources of Linux.
const SOURCE: &str = "linux-source-6.1";
/// Of it, what is unpacked.
const PARTS: [&str; 2] = ["tools/virtio/ringtest", "include/linux/ptr_ring.h"];

/// Runs it.
pub(crate) fn run(options: &Options, with_ringtest: bool, root: &Path) -> Result<(), Failure> {
    let mut lab = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    lab.current_dir(root).args(["run", "--release", "--quiet", "--package", "ring-benches", "--bin", "rings", "--"]);
    lab.args(options.arguments()).stdin(Stdio::null());
    if with_ringtest {
        match ringtest(root, &mut |line| println!("{line}")) {
            Ok(folder) => lab.arg("--ringtest").arg(folder),
            Err(why) => lab.arg("--without-ringtest").arg(why.to_string()),
        };
    }
    if !options.list {
        println!("building the lab (release)");
    }
    let status = lab.status()?;
    if interrupt::requested() {
        return Err(Failure::Interrupted);
    }
    if status.success() { Ok(()) } else { Err(Failure::Unsuccessful) }
}

/// Linux's `tools/virtio/ringtest`, built in the target folder, which is where the result is.
fn ringtest(root: &Path, say: Say<'_>) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    fs::create_dir_all(&target)?;
    let lab = target.canonicalize()?.join("rings");
    let tree = lab.join("ringtest");
    let programs = tree.join(PARTS[0]);
    if !tree.exists() {
        unpack(&lab, &tree, say)?;
    }
    let mut packages = Packages::new(&lab);
    for program in ["make", "gcc"] {
        packages.install_program(program, program, "builds Linux's ringtest", say)?;
    }
    finish(Command::new("make").arg("--directory").arg(&programs))?;
    Ok(programs)
}

/// Fetches the package and unpacks the little of it that is needed.
fn unpack(lab: &Path, tree: &Path, say: Say<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let mut packages = Packages::new(lab);
    packages.install_program("xz", "xz-utils", "unpacks the sources of Linux", say)?;
    let package = packages.unpack(SOURCE, "Linux's ringtest, 140 MB to fetch, of which little is kept", say)?;
    say("unpacking tools/virtio/ringtest");
    let partial = lab.join("ringtest.partial");
    // What an interrupted run left.
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(package.join(format!("usr/src/{SOURCE}.tar.xz")));
    tar.arg("--strip-components=1").arg("--directory").arg(&partial);
    finish(tar.args(PARTS.map(|part| format!("{SOURCE}/{part}"))))?;
    fs::rename(&partial, tree)?;
    fs::remove_dir_all(package)?;
    Ok(())
}

/// Runs to the end; a failure carries the last line of the complaint.
fn finish(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot start {name}: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    let last = complaint.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    Err(format!("{name} failed: {}, {last}", done.status))
}
