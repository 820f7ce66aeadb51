//! DPDK's test program, `dpdk-testpmd`, and the libraries that it needs, unpacked beside each other: installed, it
//! would bring some 200 packages along, and renew some of the system's own.

use super::Say;
use super::packages::{Packages, download, empty_folder, program_exists, run, unpack_all, version_key};
use crate::Error;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program.
const PROGRAM: &str = "dpdk-testpmd";
/// The package with the program.
const PACKAGE: &str = "dpdk-dev";
/// First part of the names of packages with drivers that the program does not depend on by itself.
const DRIVER_PACKAGES: [&str; 3] = ["librte-net-virtio", "librte-net-vhost", "librte-net-pcap"];
/// First part of the names of the drivers' files, in the order of loading.
const DRIVERS: [&str; 5] = [
    "librte_bus_vdev.so",
    "librte_mempool_ring.so",
    "librte_net_virtio.so",
    "librte_net_vhost.so",
    "librte_net_pcap.so",
];
const WHY: &str = "DPDK as a front end of the daemon, and as a back end beside it";

/// The program, ready to be started.
#[derive(Clone, Debug)]
pub struct Dpdk {
    program: PathBuf,
    /// Folders with its libraries and drivers.
    libraries: Vec<PathBuf>,
    /// Files of drivers to load by name; none if the program finds its own.
    drivers: Vec<OsString>,
}

impl Dpdk {
    /// The installed one, or one of our own.
    pub(super) fn prepare(packages: &mut Packages, say: Say<'_>) -> Result<Self, Error> {
        if program_exists(PROGRAM) {
            return Ok(Self { program: PROGRAM.into(), libraries: Vec::new(), drivers: Vec::new() });
        }
        let root = packages.unpack_dpdk(say)?;
        let (libraries, drivers) = libraries(&root)?;
        Ok(Self { program: root.join("usr/bin").join(PROGRAM), libraries, drivers })
    }

    /// The program with its drivers; the arguments for DPDK itself come next. Its output comes line by line even if
    /// nobody reads it on a terminal, and what it leaves on disk goes into `scratch`.
    pub(crate) fn command(&self, scratch: &Path) -> Command {
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(&self.program).env("RUNTIME_DIRECTORY", scratch);
        if let Ok(path) = std::env::join_paths(&self.libraries)
            && !path.is_empty()
        {
            command.env("LD_LIBRARY_PATH", path);
        }
        for driver in &self.drivers {
            // By name alone: with a path, DPDK wants every folder above to be writable for its owner only.
            command.arg("-d").arg(driver);
        }
        command
    }
}

/// Folders with libraries below `root`, and the files of the [`DRIVERS`] that are there.
fn libraries(root: &Path) -> Result<(Vec<PathBuf>, Vec<OsString>), Error> {
    let (mut folders, mut names) = (Vec::new(), Vec::new());
    for folder in ["usr/lib", "lib"].map(|f| root.join(f)) {
        collect(&folder, &mut folders, &mut names)?;
    }
    let driver = |prefix: &&str| {
        let found = names.iter().filter(|name| name.to_string_lossy().starts_with(prefix));
        // The link without the minor number, where there is one.
        found.min_by_key(|name| name.len()).cloned()
    };
    let drivers = DRIVERS.iter().filter_map(driver).collect();
    Ok((folders, drivers))
}

/// Folders at or below this one that have shared libraries, and the names of those.
fn collect(folder: &Path, folders: &mut Vec<PathBuf>, names: &mut Vec<OsString>) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut has = false;
    for entry in entries.flatten() {
        if entry.file_type().map_err(Error::file(entry.path()))?.is_dir() {
            collect(&entry.path(), folders, names)?;
        } else if entry.file_name().to_string_lossy().contains(".so") {
            has = true;
            names.push(entry.file_name());
        }
    }
    if has {
        folders.push(folder.to_owned());
    }
    Ok(())
}

impl Packages {
    /// Fetches the program and every library below it that the system does not have, and unpacks all of it into one
    /// folder, which is returned.
    fn unpack_dpdk(&mut self, say: Say<'_>) -> Result<PathBuf, Error> {
        let (target, partial) = (self.folder.join("dpdk"), self.folder.join("dpdk.partial"));
        // One that an earlier version of this fetched may lack a driver.
        if target.is_dir() && libraries(&target)?.1.len() == DRIVERS.len() {
            return Ok(target);
        }
        say(&format!("fetching {PACKAGE} and its libraries: {WHY}"));
        empty_folder(&partial)?;
        self.with_fresh_lists(PACKAGE, WHY, say, |missing| {
            let mut wanted = vec![PACKAGE.to_owned()];
            for prefix in DRIVER_PACKAGES {
                let names = run(Command::new("apt-cache").args(["pkgnames", prefix]))?;
                let versions = names.lines().filter(|n| n.strip_prefix(prefix).is_some_and(is_number));
                wanted.push(versions.max_by_key(|n| version_key(n)).ok_or_else(missing)?.to_owned());
            }
            download(&with_libraries(wanted)?, &partial)
        })?;
        if target.is_dir() {
            fs::remove_dir_all(&target).map_err(Error::file(&target))?;
        }
        unpack_all(&partial, &target)?;
        Ok(target)
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// These packages, and the libraries that they depend on and the system lacks.
fn with_libraries(packages: Vec<String>) -> Result<Vec<String>, Error> {
    let list = run(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Package}\n"]))?;
    let installed: BTreeSet<&str> = list.lines().filter_map(|l| l.strip_prefix("installed ")).collect();
    let mut all: BTreeSet<String> = packages.iter().cloned().collect();
    let mut next = packages;
    while !next.is_empty() {
        let text = run(Command::new("apt-cache").args(["depends", "--important"]).args(&next))?;
        let libraries = dependencies(&text).filter(|name| !installed.contains(name)).map(str::to_owned);
        next = libraries.filter(|name| all.insert(name.clone())).collect();
    }
    Ok(all.into_iter().collect())
}

/// The libraries in what `apt-cache depends` says. What has only headers, and programs, do not count.
fn dependencies(text: &str) -> impl Iterator<Item = &str> {
    let names = text.lines().filter_map(|line| line.trim_start_matches([' ', '|']).strip_prefix("Depends: "));
    let names = names.map(|name| name.split(':').next().unwrap_or(name));
    names.filter(|name| (name.starts_with("lib") || *name == "ibverbs-providers") && !name.ends_with("-dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_are_taken_along() {
        let text = "dpdk-dev\n  Depends: libdpdk-dev\n  Depends: python3\n |Depends: librte-eal23\n  Depends: libpcap0.8\n    \
            libpcap0.8:i386\n  Depends: <virtual>\n  Depends: ibverbs-providers\n  Depends: libnl-3-200:any\n";
        let names: Vec<_> = dependencies(text).collect();
        assert_eq!(names, ["librte-eal23", "libpcap0.8", "ibverbs-providers", "libnl-3-200"]);
    }

    #[test]
    fn folders_with_libraries_are_found() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("x/pmds");
        fs::create_dir_all(&deep).unwrap();
        for file in ["x/liba.so.1", "x/pmds/libb.so", "readme"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        let (mut folders, mut names) = (Vec::new(), Vec::new());
        collect(root.path(), &mut folders, &mut names).unwrap();
        assert_eq!(folders, [deep, root.path().join("x")]);
        names.sort();
        assert_eq!(names, ["liba.so.1", "libb.so"]);
    }
}
