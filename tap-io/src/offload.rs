//! Offload flags of the kernel's tap, as feature bits.

use std::io;
use std::os::fd::BorrowedFd;

use virtio_net_core::Features;

use crate::sys;

/// One trial: what to ask the kernel for, and what its consent means.
struct Trial {
    flags: u32,
    /// Frames that the kernel then takes from us. It takes the kinds that it knows, whatever was set.
    sends: Features,
    /// Frames that it gives us only if they were asked for.
    receives: Features,
}

/// Segmentation needs checksums, ECN needs a TCP one, and USO exists only for both address families at once.
const TRIALS: [Trial; 6] = [
    Trial { flags: libc::TUN_F_CSUM, sends: Features::CSUM, receives: Features::GUEST_CSUM },
    Trial { flags: libc::TUN_F_CSUM | libc::TUN_F_TSO4, sends: Features::HOST_TSO4, receives: Features::GUEST_TSO4 },
    Trial { flags: libc::TUN_F_CSUM | libc::TUN_F_TSO6, sends: Features::HOST_TSO6, receives: Features::GUEST_TSO6 },
    Trial {
        flags: libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN,
        sends: Features::HOST_ECN,
        receives: Features::GUEST_ECN,
    },
    Trial { flags: libc::TUN_F_CSUM | libc::TUN_F_UFO, sends: Features::HOST_UFO, receives: Features::GUEST_UFO },
    Trial {
        flags: libc::TUN_F_CSUM | libc::TUN_F_USO4 | libc::TUN_F_USO6,
        sends: Features::HOST_USO,
        receives: Features::GUEST_USO4.union(Features::GUEST_USO6),
    },
];

/// Finds out what the kernel knows. Leaves everything off.
pub(crate) fn probe(fd: BorrowedFd<'_>) -> io::Result<Features> {
    let mut features = Features::empty();
    for trial in &TRIALS {
        match sys::ioctl_value(fd, libc::TUNSETOFFLOAD, trial.flags.into()) {
            Ok(()) => features |= trial.sends | trial.receives,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    sys::ioctl_value(fd, libc::TUNSETOFFLOAD, 0)?;
    Ok(features)
}

/// What to ask the kernel for, for a guest that acknowledged this.
pub(crate) fn flags(acked: Features) -> u32 {
    if !acked.contains(Features::GUEST_CSUM) {
        return 0;
    }
    let mut flags = libc::TUN_F_CSUM;
    let uso = Features::GUEST_USO4 | Features::GUEST_USO6;
    let pairs = [
        (Features::GUEST_TSO4, libc::TUN_F_TSO4),
        (Features::GUEST_TSO6, libc::TUN_F_TSO6),
        (Features::GUEST_UFO, libc::TUN_F_UFO),
        // The kernel refuses one without the other.
        (uso, libc::TUN_F_USO4 | libc::TUN_F_USO6),
    ];
    for (feature, bits) in pairs {
        if acked.contains(feature) {
            flags |= bits;
        }
    }
    // The kernel refuses it alone.
    if acked.contains(Features::GUEST_ECN) && flags & (libc::TUN_F_TSO4 | libc::TUN_F_TSO6) != 0 {
        flags |= libc::TUN_F_TSO_ECN;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_without_what_it_needs() {
        let csum = Features::GUEST_CSUM;
        let rows = [
            (Features::empty(), 0),
            (Features::GUEST_TSO4, 0),
            (csum, libc::TUN_F_CSUM),
            (csum | Features::GUEST_ECN, libc::TUN_F_CSUM),
            (csum | Features::GUEST_TSO6, libc::TUN_F_CSUM | libc::TUN_F_TSO6),
            (
                csum | Features::GUEST_TSO4 | Features::GUEST_ECN,
                libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO_ECN,
            ),
            (csum | Features::GUEST_USO4, libc::TUN_F_CSUM),
            (
                csum | Features::GUEST_USO4 | Features::GUEST_USO6,
                libc::TUN_F_CSUM | libc::TUN_F_USO4 | libc::TUN_F_USO6,
            ),
            (csum | Features::HOST_TSO4 | Features::HOST_UFO, libc::TUN_F_CSUM),
        ];
        for (acked, expected) in rows {
            assert_eq!(flags(acked), expected, "{acked:?}");
        }
    }
}
