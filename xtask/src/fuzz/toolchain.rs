//! What builds the targets: cargo-fuzz, a C++ compiler for libFuzzer, and a Rust compiler that takes unstable options.

use crate::Failure;
use e2e::setup::Packages;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// See the module.
pub(super) struct Toolchain {
    /// A nightly toolchain is there; else the stable compiler is told to act as one.
    nightly: bool,
    /// The search path, with our own folder of tools in front.
    path: OsString,
    /// The machine, as the compiler calls it.
    host: String,
}

impl Toolchain {
    /// Installs what is missing and says why.
    pub(super) fn prepare(root: &Path) -> Result<Self, Failure> {
        let folder = root.join("target/tools");
        let old = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(std::iter::once(folder.join("bin")).chain(env::split_paths(&old)))?;
        let mut say = |line: &str| println!("{line}");
        let why = "libFuzzer is C++ and is built with the targets";
        Packages::new(&root.join("target")).install_program("c++", "g++", why, &mut say)?;

        let mut rustc = Command::new("rustup");
        rustc.args(["run", "nightly", "rustc", "--version"]);
        let nightly = succeeds(&mut rustc);
        if !nightly {
            println!(
                "no nightly toolchain: the sanitizer's options are asked of the stable compiler (RUSTC_BOOTSTRAP=1)"
            );
        }
        let mut tools = Self { nightly, path, host: String::new() };
        if !succeeds(tools.cargo().args(["fuzz", "--version"])) {
            println!("installing cargo-fuzz into {}: it builds the targets with coverage", folder.display());
            let mut install = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            install.args(["install", "cargo-fuzz", "--locked", "--root"]).arg(&folder);
            if !install.stdin(Stdio::null()).status()?.success() {
                return Err("cargo install cargo-fuzz --locked failed".into());
            }
        }
        let said = Command::new("rustc").arg("-vV").output()?.stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let host = said.lines().find_map(|l| l.strip_prefix("host: ")).ok_or("rustc -vV names no host")?;
        host.clone_into(&mut tools.host);
        Ok(tools)
    }

    /// Builds all targets; the folder of the programs.
    pub(super) fn build(&self, fuzz: &Path) -> Result<PathBuf, Failure> {
        println!("building the targets with coverage and the address sanitizer");
        let mut build = self.cargo();
        build.args(["fuzz", "build", "--sanitizer", "address", "--target", &self.host, "--fuzz-dir"]).arg(fuzz);
        // What cargo says of this process is not true of the targets.
        build.env_remove("CARGO_TARGET_DIR").current_dir(fuzz).stdin(Stdio::null());
        if !build.status()?.success() {
            return Err("cargo fuzz build failed".into());
        }
        Ok(fuzz.join("target").join(&self.host).join("release"))
    }

    fn cargo(&self) -> Command {
        let mut cargo;
        if self.nightly {
            cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo"]);
        } else {
            cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo.env("PATH", &self.path);
        cargo
    }
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
