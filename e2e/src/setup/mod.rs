//! Everything a guest needs, gathered in one folder: programs and kernels from the system's packages, the
//! guest agent from this repository, the initramfs made of them. The second run finds all of it there.
//!
//! Only what must run installed is installed (QEMU, iproute2: needs root or sudo). The rest is fetched with
//! `apt-get download` and unpacked into the folder, which changes nothing on the system and needs no root.

mod build;
mod dpdk;
mod modules;
pub(crate) mod packages;
mod tools;

use crate::guest::{Kernel, Kind};
use crate::{Error, kvm};
pub use dpdk::Dpdk;
use modules::Module;
pub use packages::Packages;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where progress goes, one line at a time.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// What booting a kind of guest takes.
#[derive(Clone, Debug)]
pub struct Boot {
    /// `linux.uml`, or the kernel image for QEMU.
    pub kernel: PathBuf,
    /// The first root file system: busybox, drivers, agent.
    pub initramfs: PathBuf,
    /// Library to preload into `linux.uml`, on processors with AMX.
    pub preload: Option<PathBuf>,
}

/// What [`Workshop::prepare`] made ready.
#[derive(Clone, Debug, Default)]
pub struct Assets {
    pub(crate) boots: BTreeMap<Kind, Boot>,
    /// QEMU can use KVM here: it booted a kernel with it.
    pub kvm: bool,
}

impl Assets {
    /// What this kind of guest is booted from.
    ///
    /// # Errors
    /// The kind was not prepared.
    pub fn boot(&self, kind: Kind) -> Result<&Boot, Error> {
        self.boots.get(&kind).ok_or_else(|| Error::NotPrepared { what: kind.to_string() })
    }
}

/// The folder that holds everything, usually `target/guests`.
#[derive(Clone, Debug)]
pub struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        let folder = folder.canonicalize().map_err(Error::file(folder))?;
        Ok(Self { folder })
    }

    /// The one of this repository, `target/guests`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn of_repository() -> Result<Self, Error> {
        Self::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests"))
    }

    /// The folder, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes these kinds of guests ready to boot, and says what it does. Several processes may call this at
    /// the same time: they take turns.
    ///
    /// # Errors
    /// A package that cannot be had, a missing right, a failed build: one line each.
    pub fn prepare(&self, kinds: &[Kind], say: Say<'_>) -> Result<Assets, Error> {
        self.prepare_each(kinds, false, say)
    }

    /// As [`Workshop::prepare`], with `ethtool` and `ip` as they are in the system's packages in each guest.
    ///
    /// # Errors
    /// As for [`Workshop::prepare`].
    pub fn prepare_with_tools(&self, kinds: &[Kind], say: Say<'_>) -> Result<Assets, Error> {
        self.prepare_each(kinds, true, say)
    }

    fn prepare_each(&self, kinds: &[Kind], with_tools: bool, say: Say<'_>) -> Result<Assets, Error> {
        let mut assets = Assets::default();
        if kinds.iter().all(|k| *k == Kind::InProcess) {
            return Ok(assets);
        }
        let _turn = self.take_turn()?;
        let mut packages = Packages::new(&self.folder);
        let busybox = self.unpack_busybox(&mut packages, say)?;
        let agent = build::agent(&self.folder, say)?;
        let tools = if with_tools { tools::load(&mut packages, say)? } else { tools::Files::new() };
        let more: &[&str] = if with_tools { &modules::MORE } else { &[] };
        for &kind in kinds {
            let boot = match kind {
                Kind::Uml => self.prepare_uml(&mut packages, more, say)?,
                Kind::Qemu(kernel) => self.prepare_qemu(kernel, &mut packages, more, say)?,
                Kind::InProcess => continue,
            };
            let parts = build::Parts { busybox: &busybox, agent: &agent, modules: &boot.1, tools: &tools };
            let name = if with_tools { format!("{kind}-tools") } else { kind.to_string() };
            let initramfs = build::initramfs(&self.folder, &name, &parts)?;
            assets.boots.insert(kind, Boot { initramfs, ..boot.0 });
        }
        let qemu = assets.boots.iter().find(|(kind, _)| matches!(kind, Kind::Qemu(_)));
        if let Some((_, boot)) = qemu {
            assets.kvm = kvm::works(&self.folder, boot, say)?;
        }
        Ok(assets)
    }

    /// What [`crate::TapNet`] needs: `ip`.
    ///
    /// # Errors
    /// As for [`Workshop::prepare`].
    pub fn prepare_tap(&self, say: Say<'_>) -> Result<(), Error> {
        let _turn = self.take_turn()?;
        Packages::new(&self.folder).install_program("ip", "iproute2", "the network namespace with the tap", say)
    }

    /// DPDK's test program, for [`crate::dpdk`].
    ///
    /// # Errors
    /// As for [`Workshop::prepare`].
    pub fn prepare_dpdk(&self, say: Say<'_>) -> Result<Dpdk, Error> {
        let _turn = self.take_turn()?;
        Dpdk::prepare(&mut Packages::new(&self.folder), say)
    }

    fn unpack_busybox(&self, packages: &mut Packages, say: Say<'_>) -> Result<PathBuf, Error> {
        let root = packages.unpack("busybox-static", "the user land of the guests", say)?;
        first_existing(&[root.join("bin/busybox"), root.join("usr/bin/busybox")])
    }

    fn prepare_uml(&self, packages: &mut Packages, more: &[&str], say: Say<'_>) -> Result<(Boot, Vec<Module>), Error> {
        let root = packages.unpack("user-mode-linux", "a Linux guest without KVM and without root", say)?;
        let preload = if build::has_amx() { Some(build::xstate_shim(&self.folder, say)?) } else { None };
        let kernel = first_existing(&[root.join("usr/bin/linux.uml"), root.join("usr/bin/linux")])?;
        let modules = modules::load(&root.join("usr/lib/uml/modules"), more)?;
        Ok((Boot { kernel, initramfs: PathBuf::new(), preload }, modules))
    }

    fn prepare_qemu(
        &self,
        kernel: Kernel,
        packages: &mut Packages,
        more: &[&str],
        say: Say<'_>,
    ) -> Result<(Boot, Vec<Module>), Error> {
        packages.install_program("qemu-system-x86_64", "qemu-system-x86", "the QEMU guests", say)?;
        let (root, extra) = packages.unpack_kernel(kernel, say)?;
        let image = build::find_with_prefix(&root.join("boot"), "vmlinuz-")?;
        let modules = [root, extra].map(|r| modules::load(&r.join("lib/modules"), more));
        // In Ubuntu the modules are in a package of their own, and some of ours are built in.
        let modules = match modules {
            [Ok(a), _] => a,
            [Err(e), b] => b.map_err(|_| e)?,
        };
        Ok((Boot { kernel: image, initramfs: PathBuf::new(), preload: None }, modules))
    }

    /// The lock lasts as long as the file is open.
    fn take_turn(&self) -> Result<File, Error> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(Error::file(&path))?;
        file.lock().map_err(Error::file(&path))?;
        Ok(file)
    }
}

fn first_existing(candidates: &[PathBuf]) -> Result<PathBuf, Error> {
    let missing = || {
        let path = candidates.first().cloned().unwrap_or_default();
        Error::File { path, source: std::io::ErrorKind::NotFound.into() }
    };
    candidates.iter().find(|p| p.exists()).cloned().ok_or_else(missing)
}
