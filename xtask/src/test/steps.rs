//! The steps, in the order of their price.

use super::Outcome;
use crate::conformance::{Judgement, Reader, Tested};
use e2e::{Error, Kind, Workshop};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// In the repository's root, with the tests that the steps before have run.
    pub(super) run: fn(&Path, &mut Vec<Tested>) -> Outcome,
}

pub(super) const ALL: &[Step] = &[
    Step { name: "fmt", about: "format", run: format },
    Step { name: "deny", about: "licences and advisories of dependencies", run: deny },
    Step { name: "clippy", about: "lints, warnings denied", run: clippy },
    Step { name: "units", about: "unit, doc, model, loom and villain tests", run: units },
    Step { name: "doc", about: "documentation, warnings denied", run: doc },
    Step { name: "guests", about: "real guests on both host ends, what they command, and DPDK", run: guests },
    Step { name: "rows", about: "each MUST of VIRTIO on a net device has a passing test among these", run: rows },
];

/// Test programs that boot guests or start other front ends. Named for the whole workspace, and not for their package alone: that would
/// build many crates anew, with other features.
const GUEST_TESTS: [&str; 8] =
    ["guests", "control", "coming_and_going", "conformance", "dpdk", "dpdk_queues", "front", "load"];

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

/// Runs test programs, shows what they print, and notes how each test ended.
fn run_tests(mut command: Command, tests: &mut Vec<Tested>) -> Outcome {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |e: std::io::Error| Outcome::Failed(format!("{program}: {e}"));
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => return failed(e),
    };
    let mut reader = Reader::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if reader.line(&line) {
                println!("{line}");
            }
        }
    }
    tests.extend(reader.finish());
    match child.wait() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(e) => failed(e),
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

fn format(root: &Path, _: &mut Vec<Tested>) -> Outcome {
    match component(root, "fmt", "rustfmt") {
        Ok(()) => run(cargo(root, &["fmt", "--all", "--check"])),
        Err(skipped) => skipped,
    }
}

fn deny(root: &Path, _: &mut Vec<Tested>) -> Outcome {
    if !quietly(cargo(root, &["deny", "--version"])) {
        return Outcome::Skipped("cargo-deny is not installed".to_owned());
    }
    run(cargo(root, &["deny", "check"]))
}

fn clippy(root: &Path, _: &mut Vec<Tested>) -> Outcome {
    match component(root, "clippy", "clippy") {
        Ok(()) => run(cargo(root, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        Err(skipped) => skipped,
    }
}

fn units(root: &Path, tests: &mut Vec<Tested>) -> Outcome {
    let mut test = cargo(root, &["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    // Guests have a step of their own.
    test.env_remove("VNET_GUEST_TESTS");
    run_tests(test, tests)
}

fn doc(root: &Path, _: &mut Vec<Tested>) -> Outcome {
    let mut doc = cargo(root, &["doc", "--quiet", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc)
}

fn guests(root: &Path, tests: &mut Vec<Tested>) -> Outcome {
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
    run_tests(test, tests)
}

#[expect(clippy::ptr_arg, reason = "as every step")]
fn rows(_: &Path, tests: &mut Vec<Tested>) -> Outcome {
    let rows = match e2e::conformance::rows() {
        Ok(rows) => rows,
        Err(e) => return Outcome::Failed(e),
    };
    let judged = Judgement::new(&rows, tests);
    print!("{}", judged.summary());
    if judged.is_good() {
        Outcome::Passed
    } else {
        Outcome::Failed("a MUST without a passing test, or a test that names no row: see above".to_owned())
    }
}
