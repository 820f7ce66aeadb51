//! Kernel modules: found, decompressed, and put in the order of loading.

use crate::Error;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Drivers that a guest needs, as far as its kernel has not built them in.
const WANTED: [&str; 4] = ["ipv6", "virtio_pci", "virtio_net", "8021q"];

/// More of them, for guests with tools.
pub(super) const MORE: [&str; 1] = ["macvlan"];

/// A module that is ready to load.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// Those of [`WANTED`] and `more` that are somewhere below `root`, each after the modules that it depends on.
pub(super) fn load(root: &Path, more: &[&str]) -> Result<Vec<Module>, Error> {
    let files = files_below(root)?;
    let mut loaded = Vec::new();
    for name in WANTED.iter().chain(more) {
        add(name, &files, &mut loaded)?;
    }
    Ok(loaded)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, loaded: &mut Vec<Module>) -> Result<(), Error> {
    // What has no file is built in. Dependencies of modules have no cycles: the kernel could not load those.
    let Some(path) = files.get(name).filter(|_| loaded.iter().all(|m| m.name != name)) else { return Ok(()) };
    let content = plain(path)?;
    for other in dependencies(&content) {
        add(&other, files, loaded)?;
    }
    loaded.push(Module { name: name.to_owned(), content });
    Ok(())
}

/// All module files by name, with the underscore that stands for a dash.
fn files_below(root: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::file(&folder))?.flatten() {
            let name = entry.file_name().to_string_lossy().replace('-', "_");
            match (entry.file_type(), name.split_once(".ko")) {
                (Ok(kind), _) if kind.is_dir() => folders.push(entry.path()),
                (_, Some((stem, "" | ".xz" | ".zst" | ".gz"))) => {
                    files.insert(stem.to_owned(), entry.path());
                }
                _ => {}
            }
        }
    }
    Ok(files)
}

/// The names in the entry `depends=a,b` of the section `.modinfo`, whose entries end with a zero byte.
fn dependencies(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = content.windows(KEY.len()).position(|w| w == KEY) else { return Vec::new() };
    let tail = content.get(at..).and_then(|t| t.get(KEY.len()..)).unwrap_or_default();
    let list = tail.split(|b| *b == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list).replace('-', "_");
    list.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect()
}

/// A module's bytes, decompressed: busybox gives the kernel what is in the file.
fn plain(path: &Path) -> Result<Vec<u8>, Error> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(Error::file(path)),
    };
    let done = Command::new(tool).arg("-dc").arg(path).output();
    let done = done.map_err(|source| Error::Start { program: tool.to_owned(), source })?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let reason = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Error::Command { command: format!("{tool} -dc {}", path.display()), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_built_in_ones_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("6.1/kernel/drivers");
        fs::create_dir_all(&deep).unwrap();
        for (name, content) in [
            ("virtio_net.ko", "name=x\0depends=net-failover,virtio_ring\0retpoline=Y\0"),
            ("net-failover.ko", "\0depends=failover\0"),
            ("failover.ko", "\0depends=\0"),
            ("8021q.ko", "\0depends=failover\0"),
            ("other.ko", "\0depends=\0"),
            ("virtio_pci.ko.old", "\0depends=\0"),
        ] {
            fs::write(deep.join(name), content).unwrap();
        }
        let names: Vec<_> =
            load(folder.path(), &["failover", "macvlan"]).unwrap().into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net", "8021q"]);
    }
}
