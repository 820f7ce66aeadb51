//! The steps, in the order of their price.

use super::Outcome;
use e2e::{Error, Kind, Workshop};
use std::path::Path;
use std::process::{Command, Stdio};

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) run: fn(&Path) -> Outcome,
}

pub(super) const ALL: &[Step] = &[
    Step { name: "fmt", about: "format", run: format },
    Step { name: "deny", about: "licences and advisories of dependencies", run: deny },
    Step { name: "clippy", about: "lints, warnings denied", run: clippy },
    Step { name: "units", about: "unit, doc, model, loom and villain tests", run: units },
    Step { name: "doc", about: "documentation, warnings denied", run: doc },
    Step { name: "guests", about: "real guests on both host ends, what they command, and DPDK", run: guests },
];

/// Test programs that boot guests or start other front ends. Named for the whole workspace, and not for their package alone: that would
/// build many crates anew, with other features.
const GUEST_TESTS: [&str; 7] = ["guests", "control", "coming_and_going", "dpdk", "dpdk_queues", "front", "load"];

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(arguments).stdin(Stdio::null());
    cargo
}

fn run(mut command: Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(e) => Outcome::Failed(format!("cannot start {}: {e}", command.get_program().to_string_lossy())),
    }
}

fn quietly(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// A part of the toolchain, added if it is not there; or why it is skipped.
fn component(root: &Path, subcommand: &str, component: &str) -> Result<(), Outcome> {
    let there = || quietly(cargo(root, &[subcommand, "--version"]));
    if there() {
        return Ok(());
    }
    println!("adding {component} to the toolchain: this step runs it");
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root).args(["component", "add", component]);
    if quietly(rustup) && there() {
        return Ok(());
    }
    Err(Outcome::Skipped(format!("the toolchain has no {component}, and `rustup component add {component}` failed")))
}

fn format(root: &Path) -> Outcome {
    match component(root, "fmt", "rustfmt") {
        Ok(()) => run(cargo(root, &["fmt", "--all", "--check"])),
        Err(skipped) => skipped,
    }
}

fn deny(root: &Path) -> Outcome {
    if !quietly(cargo(root, &["deny", "--version"])) {
        return Outcome::Skipped("cargo-deny is not installed".to_owned());
    }
    run(cargo(root, &["deny", "check"]))
}

fn clippy(root: &Path) -> Outcome {
    match component(root, "clippy", "clippy") {
        Ok(()) => run(cargo(root, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        Err(skipped) => skipped,
    }
}

fn units(root: &Path) -> Outcome {
    let mut test = cargo(root, &["test", "--workspace", "--no-fail-fast"]);
    // Guests have a step of their own.
    test.env_remove("VNET_GUEST_TESTS");
    run(test)
}

fn doc(root: &Path) -> Outcome {
    let mut doc = cargo(root, &["doc", "--quiet", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc)
}

fn guests(root: &Path) -> Outcome {
    let prepared = Workshop::of_repository().and_then(|shop| {
        let mut say = |line: &str| println!("{line}");
        shop.prepare_tap(&mut say)?;
        shop.prepare(&Kind::ALL, &mut say)
    });
    match prepared {
        Ok(_) => {}
        Err(e @ (Error::NeedsRoot { .. } | Error::NoPackage { .. })) => return Outcome::Skipped(e.to_string()),
        Err(e) => return Outcome::Failed(e.to_string()),
    }
    let mut test = cargo(root, &["test", "--workspace", "--no-fail-fast"]);
    for name in GUEST_TESTS {
        test.args(["--test", name]);
    }
    // One at a time: figures are for a machine that does nothing else.
    test.args(["--", "--test-threads=1", "--nocapture"]).env("VNET_GUEST_TESTS", "1");
    run(test)
}
