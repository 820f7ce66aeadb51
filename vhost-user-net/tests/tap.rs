//! Taps as the host end, in network namespaces of the tests' own. Needs root and /dev/net/tun.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "../../tap-io/tests/common/namespace.rs"]
mod namespace;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use common::{BINARY, Daemon, contents, refusal};
use namespace::{in_namespace, ip};
use rustix::io::{FdFlags, fcntl_setfd};
use tap_io::{IfMissing, Tap};

fn daemon(socket: &Path, net: &str, queues: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--socket").arg(socket).args(["--net", net, "--queues", queues, "--log", "error"]);
    command
}

#[test]
fn taps_that_cannot_be_used_are_refused() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        ip("tuntap add dev one mode tap vnet_hdr");
        ip("tuntap add dev layer3 mode tun");
        let busy = Tap::open("one", 1, IfMissing::Fail).unwrap();
        for (net, queues, expected) in [
            ("tap:none", "1", "--net tap: no tap named none in this network namespace; make it first:"),
            ("tap:lo", "1", "--net tap: interface lo is not a tap"),
            ("tap:layer3", "1", "--net tap: interface layer3 is not a tap"),
            ("tap:one", "1", "--net tap: tap one is busy: another process has it open"),
            ("tap:one", "2", "--net tap: tap one has 1 queue(s), 2 asked for"),
            ("tap:a-name-that-is-too-long", "1", "is too long, expected at most 15 bytes"),
            ("tap:a:b", "1", "has a character that no interface name can have"),
        ] {
            let line = refusal(&mut daemon(&socket, net, queues), 1);
            assert!(line.contains(expected), "{line}");
            assert!(contents(folder.path()).is_empty());
        }
        drop(busy);
        Daemon::listening(&mut daemon(&socket, "tap:one", "1"), &socket).stop();
        // Free again.
        drop(Tap::open("one", 1, IfMissing::Fail).unwrap());
        ip("tuntap add dev theirs mode tap vnet_hdr user 1000");
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-net_admin", BINARY, "--socket"]).arg(&socket).args(["--net", "tap:theirs"]);
        if Command::new("setpriv").arg("--version").output().is_err() {
            println!("skipped: not permitted (no setpriv)");
            return;
        }
        let line = refusal(&mut command, 1);
        assert!(line.starts_with("--net tap: tap theirs: not permitted; run as its owner"), "{line}");
    });
}

/// Descriptors of all queues that a child inherits, and what `--net` calls them.
fn passed_on(tap: &Tap) -> (Vec<OwnedFd>, String) {
    let fds: Vec<_> = tap.queues().iter().map(|q| q.as_fd().try_clone_to_owned().unwrap()).collect();
    for fd in &fds {
        fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let numbers = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect::<Vec<_>>();
    let net = format!("tap-fd:{}", numbers.join(","));
    (fds, net)
}

#[test]
fn inherited_taps_are_served() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let tap = Tap::open("tap0", 2, IfMissing::Create).unwrap();
        tap.set_up(true).unwrap();
        let (_fds, net) = passed_on(&tap);
        Daemon::listening(&mut daemon(&socket, &net, "2"), &socket).stop();
        // Also for another socket than the first: by then the daemon has opened nothing that could have its number.
        let second = folder.path().join("t");
        let other = Tap::open("tap1", 2, IfMissing::Create).unwrap();
        let (_others, theirs) = passed_on(&other);
        let mut both = daemon(&socket, "user", "2");
        both.args(["--net", &theirs]).arg("--socket").arg(&second);
        Daemon::listening(&mut both, &second).stop();
        let line = refusal(&mut daemon(&socket, &net, "3"), 1);
        assert!(line.ends_with("--net tap: tap0 has 2 queue(s), --queues asks for 3"), "{line}");
        assert!(contents(folder.path()).is_empty());
    });
}
