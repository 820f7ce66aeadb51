//! Command lines of the guests' programs.

use super::{GuestSpec, Kind, Nic};
use crate::Error;
use crate::setup::{Assets, Boot};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// The whole command for this guest.
pub(super) fn line(spec: &GuestSpec, assets: &Assets, scratch: &Path) -> Result<Command, Error> {
    let boot = assets.boot(spec.kind)?;
    let mut command = match &spec.nic {
        Nic::Tap { namespace, .. } => inside(namespace, &program(spec.kind, boot)),
        Nic::VhostUser { .. } => Command::new(program(spec.kind, boot)),
    };
    match spec.kind {
        Kind::Uml => uml(&mut command, spec, boot, scratch)?,
        Kind::Qemu(_) => qemu(&mut command, spec, boot, assets.kvm),
        Kind::InProcess => return Err(Error::Unsupported("the in-process guest is no program")),
    }
    command.args(&spec.extra_arguments);
    Ok(command)
}

/// A program in a network namespace.
pub(crate) fn inside(namespace: &str, program: &OsString) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn program(kind: Kind, boot: &Boot) -> OsString {
    match kind {
        Kind::Qemu(_) => "qemu-system-x86_64".into(),
        _ => boot.kernel.clone().into_os_string(),
    }
}

fn joined(parts: &[&str], path: &Path, end: &str) -> OsString {
    let mut word = OsString::from(parts.concat());
    word.push(path);
    word.push(end);
    word
}

fn uml(command: &mut Command, spec: &GuestSpec, boot: &Boot, scratch: &Path) -> Result<(), Error> {
    let mut plan = spec.plan.clone();
    match &spec.nic {
        Nic::VhostUser { listen: true, .. } => {
            return Err(Error::Unsupported("User Mode Linux only connects: the device side must listen"));
        }
        Nic::VhostUser { socket, .. } => {
            // Device id 1 is the network card.
            command.arg(joined(&["virtio_uml.device="], socket, ":1"));
        }
        Nic::Tap { tap, .. } => {
            command.arg(format!("vec0:transport=tap,ifname={tap},depth=128,gro=1"));
            "vec0".clone_into(&mut plan.interface);
        }
    }
    if let Some(library) = &boot.preload {
        command.env("LD_PRELOAD", library);
    }
    command
        .arg(format!("mem={}M", spec.memory_mib))
        .arg(joined(&["initrd="], &boot.initramfs, ""))
        .arg(joined(&["uml_dir="], scratch, "/"))
        .args(["root=/dev/ram0", "con=null", "con0=fd:0,fd:1", "quiet", "panic=1"])
        .args(plan.to_command_line().split(' '));
    Ok(())
}

fn qemu(command: &mut Command, spec: &GuestSpec, boot: &Boot, kvm: bool) {
    let queues = spec.queues.max(1);
    let memory = spec.memory_mib;
    accelerate(command, kvm);
    command
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-smp", &queues.to_string(), "-m", &memory.to_string()])
        .args(["-object", &format!("memory-backend-memfd,id=m,size={memory}M,share=on"), "-numa", "node,memdev=m"])
        .arg("-kernel")
        .arg(&boot.kernel)
        .arg("-initrd")
        .arg(&boot.initramfs)
        .args(["-append", &format!("console=ttyS0 quiet panic=1 {}", spec.plan.to_command_line())]);
    match &spec.nic {
        Nic::VhostUser { socket, listen } => {
            let server = if *listen { ",server=on,wait=on" } else { "" };
            command.arg("-chardev").arg(joined(&["socket,id=c,path="], socket, server));
            command.args(["-netdev", &format!("vhost-user,id=n,chardev=c,queues={queues}")]);
        }
        Nic::Tap { tap, .. } => {
            let mut netdev = format!("tap,id=n,ifname={tap},script=no,downscript=no,vhost=off");
            if queues > 1 {
                netdev.push_str(&format!(",queues={queues}"));
            }
            command.args(["-netdev", &netdev]);
        }
    }
    // No option ROM: the guest does not boot from the network.
    let mut device = "virtio-net-pci,netdev=n,romfile=".to_owned();
    device.push_str(if spec.packed { ",packed=on" } else { ",packed=off" });
    if queues > 1 {
        device.push_str(",mq=on");
    }
    // QEMU 7.2 without KVM dies of a null pointer when a guest uses MSI-X with a vhost-user card
    // (kvm_virtio_pci_irqfd_use on a table that only KVM has), so there the old interrupt line serves.
    if !kvm && matches!(spec.nic, Nic::VhostUser { .. }) {
        device.push_str(",vectors=0");
    } else if queues > 1 {
        // Two vectors a pair, one for the control queue, one for configuration changes.
        device.push_str(&format!(",vectors={}", u32::from(queues).saturating_mul(2).saturating_add(2)));
    }
    for option in &spec.device_options {
        device.push(',');
        device.push_str(option);
    }
    command.args(["-device", &device]);
}

/// KVM with the host's processor, or the interpreter with all it has.
pub(crate) fn accelerate(command: &mut Command, kvm: bool) {
    command.args(if kvm { ["-accel", "kvm", "-cpu", "host"] } else { ["-accel", "tcg", "-cpu", "max"] });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Kernel;
    use crate::{Check, Plan, Step};
    use std::collections::BTreeMap;

    fn words(spec: &GuestSpec) -> Result<String, Error> {
        let boot = |kernel: &str| Boot { kernel: kernel.into(), initramfs: "/w/init.gz".into(), preload: None };
        let boots = Kind::ALL.map(|k| (k, boot(if k == Kind::Uml { "/w/linux.uml" } else { "/w/vmlinuz" })));
        let assets = Assets { boots: BTreeMap::from(boots), kvm: false };
        let command = line(spec, &assets, Path::new("/tmp/s"))?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        Ok(words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn uml_gets_device_and_plan() {
        let plan = Plan::new(vec![Step::new(Check::Dhcp)]);
        let spec = GuestSpec::new(Kind::Uml, Nic::vhost_user("/tmp/a.sock"), plan);
        let want = "/w/linux.uml virtio_uml.device=/tmp/a.sock:1 mem=128M initrd=/w/init.gz uml_dir=/tmp/s/ root=/dev/ram0 \
            con=null con0=fd:0,fd:1 quiet panic=1 vnet.if=eth0 vnet.plan=dhcp";
        assert_eq!(words(&spec).unwrap(), want);
        let listen = GuestSpec { nic: Nic::VhostUser { socket: "/a".into(), listen: true }, ..spec };
        assert!(matches!(words(&listen), Err(Error::Unsupported(_))));
    }

    #[test]
    fn qemu_gets_queues_rings_and_options() {
        let mut spec = GuestSpec::new(Kind::Qemu(Kernel::K6_1), Nic::vhost_user("/tmp/a.sock"), Plan::new(vec![]));
        spec.queues = 2;
        spec.packed = true;
        spec.device_options = vec!["rx_queue_size=1024".to_owned()];
        let text = words(&spec).unwrap();
        assert!(text.contains("-smp 2 "), "{text}");
        assert!(text.contains("socket,id=c,path=/tmp/a.sock -netdev vhost-user,id=n,chardev=c,queues=2 "), "{text}");
        // Without KVM no MSI-X: see `qemu`.
        let device = "virtio-net-pci,netdev=n,romfile=,packed=on,mq=on,vectors=0,rx_queue_size=1024";
        assert!(text.ends_with(device), "{text}");
    }

    #[test]
    fn own_card_runs_inside_the_namespace() {
        let nic = Nic::Tap { namespace: "ns1".to_owned(), tap: "tap0".to_owned() };
        let spec = GuestSpec::new(Kind::Uml, nic, Plan::new(vec![]));
        let text = words(&spec).unwrap();
        assert!(text.starts_with("ip netns exec ns1 /w/linux.uml vec0:transport=tap,ifname=tap0"), "{text}");
        assert!(text.contains(" vnet.if=vec0 "), "{text}");
    }
}
