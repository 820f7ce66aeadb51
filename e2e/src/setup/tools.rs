//! Programs of the system's packages for the guest, each with the libraries and the loader that it needs. The packages are
//! unpacked and not installed; a library that this system has anyway is taken from there.

use super::packages::{Packages, libraries_below, run};
use super::{Say, first_existing};
use crate::Error;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs, and the packages that have them.
const TOOLS: [(&str, &str); 2] = [("ethtool", "ethtool"), ("ip", "iproute2")];
const WHY: &str = "the commands that are tried in the guest";

/// Files for the guest, by their names there, without the leading slash.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// The programs in `tools/bin`, and what they load.
pub(super) fn load(packages: &mut Packages, say: Say<'_>) -> Result<Files, Error> {
    let mut files = Files::new();
    for (name, package) in TOOLS {
        let root = packages.unpack_with_libraries(package, WHY, say)?;
        let places = ["usr/sbin", "sbin", "usr/bin", "bin"].map(|folder| root.join(folder).join(name));
        let program = first_existing(&places)?;
        let loaded = Loaded::of(&program, &libraries_below(&root)?.0)?;
        if !loaded.missing.is_empty() {
            let reason = format!("no {} in the packages of {package} or here", loaded.missing.join(", "));
            return Err(Error::Command { command: format!("ldd {name}"), reason });
        }
        for (path, at) in std::iter::once((program, format!("tools/bin/{name}"))).chain(loaded.files) {
            let content = fs::read(&path).map_err(Error::file(&path))?;
            files.insert(at, content);
        }
    }
    Ok(files)
}

/// What the loader says of a program.
#[derive(Debug, Default, PartialEq)]
struct Loaded {
    files: Vec<(PathBuf, String)>,
    missing: Vec<String>,
}

impl Loaded {
    fn of(program: &Path, folders: &[PathBuf]) -> Result<Self, Error> {
        let folders = std::env::join_paths(folders).unwrap_or_default();
        run(Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", folders)).map(|text| Self::parse(&text))
    }

    /// Lines are `NAME => PATH (ADDRESS)`, `NAME => not found`, and for the loader, whose path is in the program,
    /// `PATH (ADDRESS)`; what has no path is the kernel's.
    fn parse(text: &str) -> Self {
        let mut loaded = Self::default();
        for line in text.lines().map(str::trim) {
            let (name, path) = line.split_once(" => ").unwrap_or(("", line));
            let path = path.split(" (").next().unwrap_or_default();
            match path.strip_prefix('/') {
                // A name with a path is the loader's, which may be elsewhere here.
                Some(at) if name.is_empty() => loaded.files.push((path.into(), at.to_owned())),
                Some(_) if name.starts_with('/') => loaded.files.push((path.into(), name.split_at(1).1.to_owned())),
                Some(_) => loaded.files.push((path.into(), format!("lib/{name}"))),
                None if path == "not found" => loaded.missing.push(name.to_owned()),
                None => {}
            }
        }
        loaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_names_what_there_is_and_what_is_missing() {
        let loaded = Loaded::parse(
            "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibmnl.so.0 => not found\n\tlibc.so.6 => /usr/lib/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 => /usr/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\t/lib64/ld.so (0x00007f)\n",
        );
        let files = [
            ("/usr/lib/libc.so.6", "lib/libc.so.6"),
            ("/usr/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
            ("/lib64/ld.so", "lib64/ld.so"),
        ];
        let files = files.map(|(path, at)| (PathBuf::from(path), at.to_owned())).to_vec();
        assert_eq!(loaded, Loaded { files, missing: vec!["libmnl.so.0".to_owned()] });
    }
}
