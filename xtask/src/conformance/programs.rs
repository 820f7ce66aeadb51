//! Builds the test programs and runs of each the tests that are named by a row.

use super::libtest::{Reader, Tested};
use crate::{Failure, interrupt};
use e2e::conformance::ids;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Crates whose tests are named by rows.
const CRATES: [&str; 6] = ["net-filter", "virtio-ring", "virtio-net-core", "vhost-glue", "vhost-user-net", "e2e"];

/// A program, and the folder of its crate: tests run there.
struct Program {
    file: PathBuf,
    folder: PathBuf,
}

/// All tests that are named by a row, run.
pub(super) fn run(root: &Path) -> Result<Vec<Tested>, Failure> {
    let mut tests = Vec::new();
    for program in build(root)? {
        let named: Vec<String> = program.list()?.into_iter().filter(|name| !ids(name).is_empty()).collect();
        if !named.is_empty() {
            tests.extend(program.run(&named)?);
        }
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
    }
    Ok(tests)
}

/// The whole workspace, as `cargo test` builds it: a few crates for themselves would be built with other features, which takes
/// all their dependencies anew.
fn build(root: &Path) -> Result<Vec<Program>, Failure> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let built = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err(Failure::Broken(format!("building the tests: {}", built.status)));
    }
    Ok(String::from_utf8_lossy(&built.stdout).lines().filter_map(program).collect())
}

/// The program that a message of cargo is about, if it is a test program of one of the crates.
fn program(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
    let ours = CRATES.iter().any(|name| folder.ends_with(name));
    let test = message.get("profile")?.get("test")?.as_bool()?;
    let file = message.get("executable")?.as_str()?;
    (ours && test).then(|| Program { file: file.into(), folder: folder.to_owned() })
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        // Guests take minutes, and what they show the others show as well.
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).env_remove("VNET_GUEST_TESTS");
        command.env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null());
        command
    }

    fn list(&self) -> Result<Vec<String>, Failure> {
        let listed = self.command().args(["--list", "--format", "terse"]).output()?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    fn run(&self, names: &[String]) -> Result<Vec<Tested>, Failure> {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        println!("{name}: {} tests", names.len());
        let done = self.command().args(["--exact", "--show-output"]).args(names).output()?;
        let text = String::from_utf8_lossy(&done.stdout);
        let mut reader = Reader::default();
        let shown: Vec<&str> = text.lines().filter(|line| reader.line(line)).collect();
        if !done.status.success() {
            println!("{}\n{}", shown.join("\n"), String::from_utf8_lossy(&done.stderr));
        }
        Ok(reader.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_of_our_crates_are_run() {
        let message = |folder: &str, test: bool, executable: &str| {
            let text = format!(
                r#"{{"manifest_path":"/a/{folder}/Cargo.toml","profile":{{"test":{test}}},"executable":{executable}}}"#
            );
            program(&text).is_some()
        };
        assert!(message("e2e", true, "\"/x\""));
        assert!(!message("benches", true, "\"/x\""));
        assert!(!message("e2e", false, "\"/x\""));
        assert!(!message("e2e", true, "null"));
        assert!(program("not json").is_none());
    }
}
