//! Whether KVM can boot a kernel here. A device that answers is no proof: some hosts interpret what runs in
//! it, well enough for a few instructions and not for Linux. So boot the kernel and look for its first result.

use crate::Error;
use crate::guest::{Process, Text, accelerate};
use crate::setup::{Boot, Say};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A kernel under KVM on real hardware is there in one or two seconds.
const LIMIT: Duration = Duration::from_secs(12);

/// Tries it, or takes the answer noted in `folder` since the host was started.
pub(crate) fn works(folder: &Path, boot: &Boot, say: Say<'_>) -> Result<bool, Error> {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let noted = folder.join("kvm");
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let answer = |works: bool| format!("{works} {host}");
    let old = fs::read_to_string(&noted).unwrap_or_default();
    if let Some(known) = [true, false].into_iter().find(|w| old == answer(*w)) {
        return Ok(known);
    }
    say("trying whether KVM can boot a kernel here");
    let works = try_boot(boot)?;
    say(if works { "KVM works" } else { "KVM does not boot a kernel here: QEMU will interpret (TCG)" });
    fs::write(&noted, answer(works)).map_err(Error::file(&noted))?;
    Ok(works)
}

fn try_boot(boot: &Boot) -> Result<bool, Error> {
    let mut qemu = Command::new("qemu-system-x86_64");
    accelerate(&mut qemu, true);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "256", "-kernel"])
        .arg(&boot.kernel)
        .arg("-initrd")
        .arg(&boot.initramfs)
        .args(["-append", "console=ttyS0 quiet panic=1 vnet.plan="]);
    let mut process = Process::start(qemu, None)?;
    let begin = Instant::now();
    loop {
        match process.next_text(LIMIT.saturating_sub(begin.elapsed())) {
            Text::Line(text) if text.starts_with("@@ ") => return Ok(true),
            // QEMU stays there, stopped, when the processor could not go on.
            Text::Line(text) if text.contains("KVM internal error") => return Ok(false),
            Text::Line(_) => {}
            Text::End | crate::guest::Text::Late => return Ok(false),
        }
    }
}
