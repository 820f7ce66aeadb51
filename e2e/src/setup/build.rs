//! What is built and not fetched: the agent, the initramfs, the shim for processors with AMX.

use super::Say;
use super::modules::Module;
use super::packages::run;
use super::tools::Files;
use crate::Error;
use crate::initramfs::Archive;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const INIT: &[u8] = include_bytes!("../../assets/init");
const UDHCPC_SCRIPT: &[u8] = include_bytes!("../../assets/udhcpc-script");
const XSTATE_SHIM: &str = include_str!("../../assets/xstate_shim.c");
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What an initramfs is made of.
pub(super) struct Parts<'a> {
    pub(super) busybox: &'a Path,
    pub(super) agent: &'a Path,
    /// In the order of loading.
    pub(super) modules: &'a [Module],
    pub(super) tools: &'a Files,
}

/// Builds the agent so that it needs no library in the guest. An explicit target keeps the flag from build
/// scripts and procedural macros, which cannot be linked that way.
pub(super) fn agent(folder: &Path, say: Say<'_>) -> Result<PathBuf, Error> {
    let target = folder.join("agent");
    let program = target.join(TARGET).join("release/guest-agent");
    if !program.exists() {
        say("building the guest agent: it runs the checks inside the guests");
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--release", "--target", TARGET, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/agent/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        // At "s" SHA-256 would be the slowest part of the file checks.
        .args(["--config", "profile.release.package.sha2.opt-level=3"]);
    run(&mut cargo)?;
    Ok(program)
}

/// Makes the initramfs of this name, unless one of exactly these parts is there.
pub(super) fn initramfs(folder: &Path, name: &str, parts: &Parts<'_>) -> Result<PathBuf, Error> {
    let (path, noted) = (folder.join(format!("initramfs-{name}.gz")), folder.join(format!("initramfs-{name}.sum")));
    let read = |path: &Path| fs::read(path).map_err(Error::file(path));
    let (busybox, agent) = (read(parts.busybox)?, read(parts.agent)?);
    let mut sum = Sha256::new();
    for part in [INIT, UDHCPC_SCRIPT, &busybox, &agent] {
        sum.update(part);
    }
    for module in parts.modules {
        sum.update(&module.content);
    }
    for (name, content) in parts.tools {
        sum.update(name);
        sum.update(content);
    }
    let sum = guest_agent::sha256_hex(sum);
    if path.exists() && fs::read_to_string(&noted).is_ok_and(|old| old == sum) {
        return Ok(path);
    }
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "run", "tmp", "modules"] {
        archive.folder(folder);
    }
    // The kernel opens this one for /init before /init can mount anything.
    archive.device("dev/console", 5, 1);
    archive.file("init", 0o755, INIT);
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("bin/udhcpc-script", 0o755, UDHCPC_SCRIPT);
    archive.file("bin/guest-agent", 0o755, &agent);
    for (i, module) in parts.modules.iter().enumerate() {
        archive.file(&format!("modules/{i:02}-{}.ko", module.name), 0o644, &module.content);
    }
    for folder in folders_of(parts.tools) {
        archive.folder(folder);
    }
    for (name, content) in parts.tools {
        archive.file(name, 0o755, content);
    }
    fs::write(&path, archive.finish().map_err(Error::file(&path))?).map_err(Error::file(&path))?;
    fs::write(&noted, sum).map_err(Error::file(&noted))?;
    Ok(path)
}

/// The folders that these files are in, each after the one that it is in.
fn folders_of(files: &Files) -> BTreeSet<&str> {
    let slashes = files.keys().flat_map(|name| name.match_indices('/').map(move |(at, _)| name.split_at(at).0));
    slashes.collect()
}

/// The file in `folder` whose name begins so.
pub(super) fn find_with_prefix(folder: &Path, prefix: &str) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    let mut found = entries.flatten().map(|e| e.path());
    let fits = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    let missing =
        || Error::File { path: folder.join(format!("{prefix}*")), source: std::io::ErrorKind::NotFound.into() };
    found.find(fits).ok_or_else(missing)
}

/// Whether this processor has the AMX state that User Mode Linux cannot restore by itself.
pub(super) fn has_amx() -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().find(|l| l.starts_with("flags")).is_some_and(|l| l.split(' ').any(|f| f == "amx_tile"))
}

/// Compiles the library that gives User Mode Linux's ptrace calls the whole extended state.
pub(super) fn xstate_shim(folder: &Path, say: Say<'_>) -> Result<PathBuf, Error> {
    let (source, library) = (folder.join("xstate_shim.c"), folder.join("xstate_shim.so"));
    if library.exists() && fs::read_to_string(&source).is_ok_and(|old| old == XSTATE_SHIM) {
        return Ok(library);
    }
    say("compiling a ptrace shim: this processor has AMX, which User Mode Linux does not know");
    fs::write(&source, XSTATE_SHIM).map_err(Error::file(&source))?;
    let mut cc = Command::new("cc");
    run(cc.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl"))?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shim_compiles_and_loads() {
        let folder = tempfile::tempdir().unwrap();
        let library = match xstate_shim(folder.path(), &mut |_| ()) {
            Ok(library) => library,
            Err(Error::Start { .. }) => return println!("skipped: no C compiler"),
            Err(e) => panic!("{e}"),
        };
        // The dynamic linker complains on standard error if it cannot load it, and goes on.
        let done = Command::new("true").env("LD_PRELOAD", &library).output().unwrap();
        assert_eq!((done.status.success(), String::from_utf8_lossy(&done.stderr).as_ref()), (true, ""));
    }
}
