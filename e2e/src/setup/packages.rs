//! Debian packages: installed when they must be, else only unpacked into our folder.

use super::Say;
use crate::Error;
use crate::guest::Kernel;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package tools of the system, and our folder of unpacked packages.
pub struct Packages {
    pub(super) folder: PathBuf,
    lists_renewed: bool,
}

/// What is fetched beside a package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    Libraries,
}

impl Packages {
    /// Unpacks into `packages` inside `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.join("packages"), lists_renewed: false }
    }

    /// Installs `package` unless `program` is there already.
    ///
    /// # Errors
    /// No root and no sudo, no such package, or the installation failed.
    pub fn install_program(&mut self, program: &str, package: &str, why: &str, say: Say<'_>) -> Result<(), Error> {
        if program_exists(program) {
            return Ok(());
        }
        say(&format!("installing {package}: {why}"));
        self.with_fresh_lists(package, why, say, |_| {
            let mut apt = as_root("apt-get")?;
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt.args(["-o", "DPkg::Lock::Timeout=120", "install", "-y", "-q", "--no-install-recommends", package]);
            run(&mut apt).map(drop)
        })
    }

    /// Fetches `package` and unpacks it, without installing it; gives the folder that stands for `/`.
    ///
    /// # Errors
    /// No such package, or it could not be fetched.
    pub fn unpack(&mut self, package: &str, why: &str, say: Say<'_>) -> Result<PathBuf, Error> {
        self.unpack_with(With::Nothing, package, why, say)
    }

    /// As [`Packages::unpack`], with every library below it that the system does not have, all in one folder.
    ///
    /// # Errors
    /// As for [`Packages::unpack`].
    pub fn unpack_with_libraries(&mut self, package: &str, why: &str, say: Say<'_>) -> Result<PathBuf, Error> {
        self.unpack_with(With::Libraries, package, why, say)
    }

    fn unpack_with(&mut self, with: With, package: &str, why: &str, say: Say<'_>) -> Result<PathBuf, Error> {
        let (target, partial) = (self.folder.join(package), self.folder.join(format!("{package}.partial")));
        if target.is_dir() {
            return Ok(target);
        }
        say(&format!("fetching {package}: {why}"));
        empty_folder(&partial)?;
        self.with_fresh_lists(package, why, say, |_| {
            let wanted = vec![package.to_owned()];
            download(&if with == With::Libraries { with_libraries(wanted)? } else { wanted }, &partial)
        })?;
        unpack_all(&partial, &target)?;
        Ok(target)
    }

    /// Unpacks the newest kernel of this line, and the package with its modules where that is a separate one
    /// (else the same folder twice).
    ///
    /// # Errors
    /// No kernel of this line in the package lists.
    pub fn unpack_kernel(&mut self, kernel: Kernel, say: Say<'_>) -> Result<(PathBuf, PathBuf), Error> {
        let why = format!("a kernel {kernel} for the QEMU guests");
        let noted = self.folder.join(format!("kernel-{kernel}"));
        let known = fs::read_to_string(&noted).ok().filter(|name| self.folder.join(name).is_dir());
        let image = match known {
            Some(name) => name,
            None => self.newest_kernel(kernel, &why, say)?,
        };
        let root = self.unpack(&image, &why, say)?;
        fs::write(&noted, &image).map_err(Error::file(&noted))?;
        if root.join("lib/modules").is_dir() || root.join("usr/lib/modules").is_dir() {
            return Ok((root.clone(), root));
        }
        let modules = image.replacen("linux-image-unsigned-", "linux-modules-", 1);
        let modules = modules.replacen("linux-image-", "linux-modules-", 1);
        let modules = self.unpack(&modules, "the modules of that kernel", say)?;
        Ok((root, modules))
    }

    fn newest_kernel(&mut self, kernel: Kernel, why: &str, say: Say<'_>) -> Result<String, Error> {
        let find = |lists: &str| {
            kernel.package_patterns().iter().find_map(|(prefix, suffix)| {
                let fits = |n: &&str| n.starts_with(prefix) && n.ends_with(suffix);
                lists.lines().filter(fits).max_by_key(|n| version_key(n)).map(str::to_owned)
            })
        };
        let wanted = kernel.package_patterns().map(|(prefix, suffix)| format!("{prefix}*{suffix}")).join(" or ");
        self.with_fresh_lists(&wanted, why, say, |missing| {
            find(&run(Command::new("apt-cache").args(["pkgnames", "linux-image-"]))?).ok_or_else(missing)
        })
    }

    /// Runs `action`; if it fails, renews the package lists, once in the life of `self`, and runs it again.
    pub(super) fn with_fresh_lists<T>(
        &mut self,
        wanted: &str,
        why: &str,
        say: Say<'_>,
        action: impl Fn(&dyn Fn() -> Error) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let missing = || Error::NoPackage { wanted: wanted.to_owned(), system: system_name(), why: why.to_owned() };
        match action(&missing) {
            Err(Error::NoPackage { .. } | Error::Command { .. }) if !self.lists_renewed => {}
            other => return other,
        }
        self.lists_renewed = true;
        say(&format!("renewing the package lists: {wanted} was not found in them, or is no longer there"));
        let mut update = as_root("apt-get")?;
        update.args(["-o", "DPkg::Lock::Timeout=120", "-q", "update"]);
        // A mirror that does not answer need not be the one that has the package.
        let updated = run(&mut update);
        match action(&missing) {
            Err(Error::Command { .. }) if !in_lists(wanted) => Err(missing()),
            Err(e) => Err(updated.err().unwrap_or(e)),
            found => found,
        }
    }
}

/// Makes the folder, without what an interrupted run may have left in it.
pub(super) fn empty_folder(folder: &Path) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::file(folder))?;
    }
    fs::create_dir_all(folder).map_err(Error::file(folder))
}

/// Fetches these packages into `folder`.
pub(super) fn download(packages: &[String], folder: &Path) -> Result<(), Error> {
    let mut apt = Command::new("apt-get");
    if is_root() {
        // Else apt drops to a user that may not write here, and complains.
        apt.args(["-o", "APT::Sandbox::User=root"]);
    }
    run(apt.args(["-q", "download"]).args(packages).current_dir(folder)).map(drop)
}

/// Unpacks all packages in the folder `partial` into one, and makes that `target`, in one step.
pub(super) fn unpack_all(partial: &Path, target: &Path) -> Result<(), Error> {
    let root = partial.join("root");
    for entry in fs::read_dir(partial).map_err(Error::file(partial))?.flatten() {
        let archive = entry.path();
        if archive.extension().is_some_and(|e| e == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&archive).arg(&root))?;
        }
    }
    fs::rename(&root, target).map_err(Error::file(target))?;
    fs::remove_dir_all(partial).map_err(Error::file(partial))
}

/// These packages, and the libraries that they depend on and the system lacks.
pub(super) fn with_libraries(packages: Vec<String>) -> Result<Vec<String>, Error> {
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

/// Folders with shared libraries in `lib` and `usr/lib` of `root`, and the names of those.
pub(super) fn libraries_below(root: &Path) -> Result<(Vec<PathBuf>, Vec<OsString>), Error> {
    let (mut folders, mut names) = (Vec::new(), Vec::new());
    for folder in ["usr/lib", "lib"].map(|f| root.join(f)) {
        collect(&folder, &mut folders, &mut names)?;
    }
    Ok((folders, names))
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

fn in_lists(package: &str) -> bool {
    run(Command::new("apt-cache").args(["show", package])).is_ok_and(|text| !text.trim().is_empty())
}

/// Numbers of a package name in order, so that 6.1.0-56 is newer than 6.1.0-9.
pub(super) fn version_key(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn program_exists(program: &str) -> bool {
    // A user's search path often lacks the folders for administrators.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The program itself for root, else through sudo.
fn as_root(program: &str) -> Result<Command, Error> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if !program_exists("sudo") {
        return Err(Error::NeedsRoot { what: "installing packages" });
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    Ok(sudo)
}

/// Runs to the end and gives the standard output; a failure carries the last line of the complaint.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Messages are searched and shown: not in the user's language.
    let done = command.env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null()).output();
    let done = done.map_err(|source| Error::Start { program, source })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    let last = complaint.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
    Err(Error::Command { command: words.join(" "), reason: format!("{}, {last}", done.status) })
}

fn system_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "unknown".to_owned(), |n| n.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_is_by_number() {
        let names =
            ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-48-cloud-amd64"];
        assert_eq!(names.iter().max_by_key(|n| version_key(n)), Some(&names[1]));
    }

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
        let deep = root.path().join("lib/pmds");
        fs::create_dir_all(&deep).unwrap();
        for file in ["lib/liba.so.1", "lib/pmds/libb.so", "lib/readme"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        let (folders, mut names) = libraries_below(root.path()).unwrap();
        assert_eq!(folders, [deep, root.path().join("lib")]);
        names.sort();
        assert_eq!(names, ["liba.so.1", "libb.so"]);
    }

    #[test]
    fn failures_name_the_command_and_its_last_words() {
        let e = run(Command::new("sh").args(["-c", "echo a >&2; echo 'no such thing' >&2; exit 3"])).unwrap_err();
        assert!(e.to_string().ends_with("failed: exit status: 3, no such thing"), "{e}");
        assert!(matches!(run(&mut Command::new("/no/such/program")), Err(Error::Start { .. })));
    }
}
