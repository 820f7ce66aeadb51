//! DPDK's test program, `dpdk-testpmd`, and the libraries that it needs, unpacked beside each other: installed, it
//! would bring some 200 packages along, and renew some of the system's own.

use super::Say;
use super::packages::{
    Packages, download, empty_folder, libraries_below, program_exists, run, unpack_all, version_key, with_libraries,
};
use crate::Error;
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
    let (folders, names) = libraries_below(root)?;
    let driver = |prefix: &&str| {
        let found = names.iter().filter(|name| name.to_string_lossy().starts_with(prefix));
        // The link without the minor number, where there is one.
        found.min_by_key(|name| name.len()).cloned()
    };
    let drivers = DRIVERS.iter().filter_map(driver).collect();
    Ok((folders, drivers))
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
