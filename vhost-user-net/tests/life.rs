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
use std::path::{Path, PathBuf};
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
    let value = until("a file with this session", || read().filter(|v| v["guests"][0]["connected"] == true));
    assert_eq!((&value["version"], value["workers"].as_array().unwrap().is_empty()), (&2.into(), false));
    let value = &value["guests"][0];
    assert_eq!(value["socket"], socket.to_str().unwrap());
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
    assert_eq!(read().unwrap()["guests"][0]["connected"], false, "the last one is written at the end");
    assert_eq!(contents(folder.path()), ["stats.json"]);
}

/// A daemon with three sockets and one worker; the sockets.
fn three(folder: &Path, arguments: &[&str]) -> (Daemon, [PathBuf; 3]) {
    let sockets = ["a", "b", "c"].map(|name| folder.join(name));
    let mut command = daemon(&sockets[0], &[&["--workers", "1"], arguments].concat());
    for socket in &sockets[1..] {
        command.arg("--socket").arg(socket);
    }
    let daemon = Daemon::listening(&mut command, &sockets[2]);
    sockets[..2].iter().for_each(|socket| assert!(socket.exists()));
    (daemon, sockets)
}

#[test]
fn sockets_are_served_at_the_same_time_and_one_guests_nonsense_is_its_own_affair() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, sockets) = three(folder.path(), &["--net", "null", "--net", "loopback", "--net", "user"]);
    let mut guests = sockets.each_ref().map(|socket| UnixStream::connect(socket).unwrap());
    let offered = guests.each_mut().map(features);
    assert!(offered[0] != offered[1] && offered[1] != offered[2], "each has a host end of its own: {offered:x?}");
    for nonsense in [&[0xff; 64][..], &[1, 0, 0, 0, 1], &[2, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255]] {
        guests[1].write_all(nonsense).unwrap();
        guests[1].shutdown(std::net::Shutdown::Write).unwrap();
        let _ = guests[1].read_to_end(&mut Vec::new());
        // The others are where they were, and so is the socket.
        assert_eq!([features(&mut guests[0]), features(&mut guests[2])], [offered[0], offered[2]]);
        guests[1] = UnixStream::connect(&sockets[1]).unwrap();
        assert_eq!(features(&mut guests[1]), offered[1]);
    }
    // One that begins a message and does not end it holds up nobody, and not the end either.
    guests[0].write_all(&[1, 0, 0]).unwrap();
    assert_eq!(features(&mut guests[2]), offered[2]);
    let text = daemon.stop();
    assert!(text.starts_with("summary: ") && text.contains(" guest session(s) at 3 sockets in "), "{text}");
    assert!(contents(folder.path()).is_empty(), "every socket is removed");
}

#[test]
fn three_sockets_are_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("stats.json");
    let (daemon, sockets) = three(folder.path(), &["--net", "null", "--stats-json", json.to_str().unwrap()]);
    let read = || -> Option<serde_json::Value> { serde_json::from_slice(&std::fs::read(&json).ok()?).unwrap() };
    let before = until("a file", read);
    let names: Vec<_> = before["guests"].as_array().unwrap().iter().map(|guest| guest["socket"].clone()).collect();
    assert_eq!(names, sockets.each_ref().map(|socket| socket.to_str().unwrap()));
    let mut stream = UnixStream::connect(&sockets[1]).unwrap();
    features(&mut stream);
    let connected = |v: &serde_json::Value| [0, 1, 2].map(|i| v["guests"][i]["connected"] == true);
    until("a file with this session", || read().filter(|v| connected(v) == [false, true, false]));
    drop(stream);
    daemon.stop();
    let last = read().unwrap();
    assert_eq!(last["workers"].as_array().unwrap().len(), 1);
    assert_eq!((connected(&last), &last["guests"][0]["sessions"]), ([false; 3], &0.into()));
}

#[test]
fn sessions_leave_threads_and_descriptors_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, sockets) = three(folder.path(), &["--net", "user", "--log", "error"]);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
    let connect = || {
        let mut guests = sockets.each_ref().map(|socket| UnixStream::connect(socket).unwrap());
        guests.iter_mut().for_each(|guest| assert_ne!(features(guest), 0));
        guests
    };
    let settled = || {
        drop(connect());
        // The next ones are served only when those before are gone: so these are now the only ones.
        let _guests = connect();
        (daemon.descriptors(), daemon.mappings(), threads())
    };
    (0..10).for_each(|_| drop(connect()));
    let before = settled();
    (0..250).for_each(|_| drop(connect()));
    assert_eq!(settled(), before, "descriptors, mappings, threads");
    daemon.stop();
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 64 && exec \"$@\"", "sh", BINARY, "--net", "null", "--socket"]).arg(&socket);
    let daemon = Daemon::listening(&mut command, &socket);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let [.., soft, hard, _] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert!(soft != "64" && soft == hard, "{line}");
    daemon.stop();
}
