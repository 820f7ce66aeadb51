//! Start, guests that come and go, end.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use common::{BINARY, DEADLINE, Daemon, contents, until};

fn daemon(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--socket").arg(socket).args(arguments);
    command
}

/// The first thing that a front end asks for.
fn features(stream: &mut UnixStream) -> u64 {
    const GET_FEATURES: [u8; 12] = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&GET_FEATURES).unwrap();
    let mut reply = [0; 20];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..12], [1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0]);
    u64::from_le_bytes(reply[12..].try_into().unwrap())
}

#[test]
fn either_signal_ends_it_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    for (signal, guest) in [("TERM", false), ("INT", false), ("TERM", true), ("INT", true)] {
        let mut daemon = Daemon::listening(&mut daemon(&socket, &["--net", "user"]), &socket);
        let mut connected = guest.then(|| UnixStream::connect(&socket).unwrap());
        if let Some(stream) = &mut connected {
            assert_ne!(features(stream), 0);
        }
        daemon.signal(signal);
        let out = daemon.wait();
        assert_eq!(out.status.code(), Some(0));
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.starts_with("summary: "), "{text}");
        assert!(text.contains("pair 0: tx 0 frames"), "{text}");
        assert!(contents(folder.path()).is_empty());
    }
}

#[test]
fn a_thousand_guests_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let capture = folder.path().join("c.pcapng");
    let arguments = ["--net", "user", "--log", "error", "--capture", capture.to_str().unwrap()];
    let daemon = Daemon::listening(&mut daemon(&socket, &arguments), &socket);
    let guest = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        assert_ne!(features(&mut stream), 0);
    };
    let settled = || {
        guest();
        // The next one is served only when the one before is gone: so it is now the only one.
        let mut stream = UnixStream::connect(&socket).unwrap();
        features(&mut stream);
        (daemon.descriptors(), daemon.mappings(), daemon.resident())
    };
    (0..20).for_each(|_| guest());
    let before = settled();
    (0..1000).for_each(|_| guest());
    let after = settled();
    assert_eq!((before.0, before.1), (after.0, after.1), "descriptors and mappings");
    assert!(after.2 <= before.2 + 256, "memory: {before:?} {after:?}");
    println!("descriptors, mappings, resident KB: {before:?}, after a thousand guests {after:?}");
    daemon.stop();
    assert_eq!(contents(folder.path()), ["c.pcapng"]);
}

#[test]
fn nonsense_ends_the_session_and_not_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let daemon = Daemon::listening(&mut daemon(&socket, &["--net", "loopback"]), &socket);
    for nonsense in [&[0xff; 64][..], &[1, 0, 0, 0, 1], &[2, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255]] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(nonsense).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // It hangs up, rather than wait for more.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_ne!(features(&mut UnixStream::connect(&socket).unwrap()), 0);
    daemon.stop();
}

#[test]
fn a_client_tries_until_somebody_listens_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let daemon = Daemon::start(&mut daemon(&socket, &["--net", "null", "--client"]));
    assert!(contents(folder.path()).is_empty());
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    for _ in 0..3 {
        let (mut stream, _) = until("the daemon connects", || listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        assert_ne!(features(&mut stream), 0);
    }
    let text = daemon.stop();
    assert!(text.contains("3 guest session(s)") || text.contains("4 guest session(s)"), "{text}");
    assert_eq!(contents(folder.path()), ["s"], "the socket is the other side's");
}

#[test]
fn a_client_that_waits_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let daemon = Daemon::start(&mut daemon(&socket, &["--net", "null", "--client"]));
    // It is up when it has its signal handlers; a signal before that would end it otherwise.
    until("signal handlers", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        (u64::from_str_radix(&caught, 16).unwrap() & 1 << 14 != 0).then_some(())
    });
    assert!(daemon.stop().starts_with("summary: 0 guest session(s)"));
}

#[test]
fn counters_are_printed_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let json = folder.path().join("stats.json");
    let arguments = ["--net", "user", "--queues", "2", "--stats", "1", "--stats-json", json.to_str().unwrap()];
    let daemon = Daemon::listening(&mut daemon(&socket, &arguments), &socket);
    let mut stream = UnixStream::connect(&socket).unwrap();
    features(&mut stream);
    let read = || -> Option<serde_json::Value> { serde_json::from_slice(&std::fs::read(&json).ok()?).unwrap() };
    let value = until("a file with this session", || read().filter(|v| v["connected"] == true));
    assert_eq!(value["version"], 1);
    assert_eq!(value["pairs"].as_array().unwrap().len(), 2);
    for (way, drops) in [("tx", 4), ("rx", 5)] {
        let counters = &value["pairs"][0][way];
        for key in ["frames", "bytes", "bursts", "kicks", "calls"] {
            assert_eq!(counters[key], 0, "{way} {key}");
        }
        assert_eq!(counters["drops"].as_object().unwrap().len(), drops);
    }
    drop(stream);
    let text = daemon.stop();
    assert!(text.contains("guest connected, pair 0: tx 0 f/s 0.0 Mbit/s"), "{text}");
    assert_eq!(read().unwrap()["connected"], false, "the last one is written at the end");
    assert_eq!(contents(folder.path()), ["stats.json"]);
}
