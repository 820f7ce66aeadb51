//! Builds and runs the program in `tests/nostd`, which has neither std nor a C library.
#![cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#![allow(clippy::unwrap_used, reason = "test")]

use std::path::Path;
use std::process::Command;

#[test]
fn the_crate_runs_without_std() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nostd");
    // A directory of its own: the outer cargo may hold the lock of the usual one.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nostd");
    for profile in [None, Some("--release")] {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--offline", "--manifest-path"])
            .arg(here.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .args(profile)
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let folder = profile.map_or("debug", |p| &p[2..]);
        let run = Command::new(target.join(folder).join("nostd")).status().unwrap();
        assert_eq!(run.code(), Some(42), "chains that went around ({folder} build)");
    }
}
