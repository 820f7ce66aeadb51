//! The command line: what is refused, how, and what is left behind.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use common::{BINARY, Daemon, contents, output, refusal};
use net_filter::MacAddr;
use virtio_net_core::ctrl::CommandCounters;
use virtio_net_core::state::{NetState, RingState};
use virtio_net_core::{Features, NetConfig, NetDevice};
use virtio_ring::QueueState;

fn daemon(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--socket").arg(socket).args(arguments);
    command
}

#[test]
fn help_is_there_and_short() {
    let help = output(Command::new(BINARY).arg("--help"));
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for word in ["Connection:", "Host end:", "Device:", "Workers:", "Reports:", "Examples:", "tap:NAME", "loopback"] {
        assert!(text.contains(word), "{word}");
    }
    assert!(text.lines().all(|line| line.len() <= 120), "lines fit a terminal");
    let version = output(Command::new(BINARY).arg("--version"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), concat!("vhost-user-net ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn bad_values_are_refused_with_one_line_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    for (arguments, expected) in [
        (&["--net", "bridge"][..], "'bridge' for '--net <KIND>': expected user, tap:NAME, tap-fd:N[,N...], null,"),
        (&["--net", "source:20"], "\"20\" is no size of frames, expected 60 to 1514 or mix"),
        (&["--net", "tap-fd:x"], "\"x\" is no descriptor, expected a number"),
        (&["--net", "tap-fd:4,4"], "descriptor 4 is named twice"),
        (&["--queues", "0"], "'0' for '--queues <N>': 0 is not in 1..=64"),
        (&["--queues", "many"], "'many' for '--queues <N>'"),
        (&["--mac", "52:54:00"], "'52:54:00' for '--mac <MAC>': MAC address has 3 groups, expected 6"),
        (&["--mac", "01:00:5e:00:00:01"], "expected the address of one station"),
        (&["--mtu", "1000"], "'1000' for '--mtu <BYTES>': 1000 is not in 1280..=65535"),
        (&["--spoof-check", "maybe"], "'maybe' for '--spoof-check <WHAT>' [possible values: mac, ip, off]"),
        (&["--spoof-check", "ip", "--ip", "10.0.0"], "\"10.0.0\" is no IP address"),
        (&["--workers", "0"], "'0' for '--workers <N>': 0 is not in 1..=1024"),
        (&["--stats", "0"], "0 is not in 1..=86400"),
        (&["--poll-us", "-1"], "-1"),
        (&["--pin", "3-1"], "'3-1' for '--pin <CPUS>': \"3-1\" is neither a CPU nor a range"),
        (&["--log", "loud"], "[possible values: off, error, warn, info, debug, trace]"),
        (&["--no-such-option"], "unexpected argument '--no-such-option'"),
    ] {
        let line = refusal(&mut daemon(&socket, arguments), 2);
        assert!(line.contains(expected), "{arguments:?}: {line}");
        assert!(contents(folder.path()).is_empty());
    }
    let other = folder.path().join("t").display().to_string();
    for (arguments, expected) in [
        (&["--net", "tap:x"][..], "--net tap is the host end of one guest: with 2 sockets, give --net for each (see"),
        (&["--net", "tap-fd:9", "--net", "tap-fd:8,9"], "--net tap-fd: descriptor 9 is named twice (see --help)"),
        (&["--socket", &other], "/t is given twice (see --help)"),
        (&["--net", "null", "--net", "null", "--net", "user"], "--net is given 3 times, expected once or 2 times"),
    ] {
        let line = refusal(daemon(&socket, arguments).args(["--socket", &other]), 2);
        assert!(line.contains(expected), "{arguments:?}: {line}");
        assert!(contents(folder.path()).is_empty());
    }
    let line = refusal(&mut Command::new(BINARY), 2);
    assert_eq!(line, "the following required arguments were not provided: --socket <PATH> (see --help)");
    let line = refusal(&mut daemon(&socket, &["--pin", "1000"]), 1);
    assert_eq!(line, "--pin: CPU 1000 is not one that this process may use");
    assert!(contents(folder.path()).is_empty());
}

#[test]
fn a_socket_of_a_live_process_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let mut command = daemon(&socket, &["--net", "null"]);
    let first = Daemon::listening(&mut command, &socket);
    let line = refusal(&mut daemon(&socket, &["--net", "null", "--log", "off"]), 1);
    assert_eq!(line, format!("{}: another process is listening at this socket", socket.display()));
    // Nor is any of several served if one of them cannot be.
    let other = folder.path().join("t");
    let line = refusal(daemon(&other, &["--net", "null", "--log", "off"]).arg("--socket").arg(&socket), 1);
    assert_eq!(line, format!("{}: another process is listening at this socket", socket.display()));
    assert_eq!(contents(folder.path()), ["s"]);
    // Still served by the first.
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    first.stop();
    assert!(contents(folder.path()).is_empty());
}

#[test]
fn a_stale_socket_is_replaced_and_any_other_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(contents(folder.path()), ["s"], "a dead process's socket");
    Daemon::listening(&mut daemon(&socket, &["--net", "null"]), &socket).stop();
    assert!(contents(folder.path()).is_empty());

    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let expected = format!("{}: exists and is not a socket", file.display());
    assert_eq!(refusal(&mut daemon(&file, &["--net", "null"]), 1), expected);
    assert_eq!(refusal(&mut daemon(&file, &["--net", "null", "--client"]), 1), format!("--socket {expected}"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let line = refusal(&mut daemon(&folder.path().join("none/s"), &["--net", "null"]), 1);
    assert!(line.contains("none/s: cannot listen: No such file or directory"), "{line}");
    let long = folder.path().join("x".repeat(200));
    assert!(refusal(&mut daemon(&long, &["--net", "null"]), 1).contains("cannot listen"));
}

#[test]
fn files_that_cannot_be_written_stop_it_before_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let missing = folder.path().join("none/x").display().to_string();
    let folder_itself = folder.path().display().to_string();
    let good = folder.path().join("good.json").display().to_string();
    let null = ["--net", "null", "--log", "off"];
    for (arguments, expected) in [
        (vec!["--capture", &missing], format!("--capture {missing}: No such file or directory")),
        (vec!["--capture", &missing, "--stats-json", &good], format!("--capture {missing}: No such")),
        (vec!["--capture", "/dev/full"], "--capture /dev/full: No space left on device".to_owned()),
        (vec!["--stats-json", &missing], format!("--stats-json {missing}: No such file or directory")),
        (vec!["--stats-json", &folder_itself], format!("--stats-json {folder_itself}: is a directory")),
    ] {
        let line = refusal(&mut daemon(&socket, &[&null[..], &arguments].concat()), 1);
        assert!(line.starts_with(&expected), "{line}");
        assert!(contents(folder.path()).is_empty(), "{:?}", contents(folder.path()));
    }
}

#[test]
fn a_descriptor_that_is_no_tap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    for (redirect, fds, expected) in [
        ("9</dev/null", "9", "descriptor 9 is a character device (/dev/null), expected a tap with vnet headers"),
        ("9</etc/passwd", "9", "descriptor 9 is a regular file (/etc/passwd), expected a tap"),
        ("9</dev/null", "9,77", "descriptor 77 is not open, expected a tap"),
        ("", "77", "descriptor 77 is not open, expected a tap"),
        ("3<&-", "3", "descriptor 3 is not open, expected a tap"),
        ("", "0", "descriptor 0 is standard input, output or error, expected a tap"),
    ] {
        let script = format!("exec \"$0\" --socket \"$1\" --net tap-fd:{fds} {redirect}");
        let line = refusal(Command::new("sh").args(["-c", &script, BINARY]).arg(&socket), 1);
        assert!(line.contains(expected), "{line}");
        assert!(contents(folder.path()).is_empty());
    }
}

#[test]
fn a_state_is_shown_and_one_that_cannot_be_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let show = || output(Command::new(BINARY).args(["state", "show"]).arg(&file));
    let config = NetConfig { pairs: 2, ..NetConfig::new(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56])) };
    let mut device = NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap();
    device.acknowledge(device.offer().features).unwrap();
    device.begin_commands();
    let state = NetState {
        rings: vec![RingState { index: 4, size: 64, state: QueueState(9) }],
        commands: CommandCounters { commands: 7, ok: 5 },
        ..device.save()
    };
    fs::write(&file, state.to_bytes()).unwrap();
    let shown = show();
    assert!(shown.status.success());
    let text = String::from_utf8(shown.stdout).unwrap();
    for line in [
        "control queue          yes",
        "link                   up",
        "queue pairs            1 of 2",
        "queues set up          none",
        "own address            52:54:00:12:34:56",
        "receive modes          none",
        "vlans                  none",
        "hash types             none",
        "commands               7, 5 carried out",
        "ring 4                 64 entries, at 0x9",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} in\n{text}");
    }
    let mut bad = state.to_bytes();
    // The second section is the device's; its pairs are behind one byte of flags.
    let at = 12 + 8 + 16 + 8 + 1;
    bad.splice(at..at + 2, [0, 0]);
    for (bytes, expected) in [
        (&bad[..], "pairs: 0x0, expected 1 to 32768"),
        (b"GIF89a..", "no device state: it begins with [47, 49, 46, 38, 39, 61, 2e, 2e], expected \"vnetstat\""),
        (b"", "header: 0 bytes are left, expected 8"),
    ] {
        fs::write(&file, bytes).unwrap();
        let line = refusal(Command::new(BINARY).args(["state", "show"]).arg(&file), 1);
        assert_eq!(line, format!("{}: {expected}", file.display()));
    }
    fs::remove_file(&file).unwrap();
    assert!(refusal(Command::new(BINARY).args(["state", "show"]).arg(&file), 1).contains("No such file"));
}
