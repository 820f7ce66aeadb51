//! The real binary, and what it says.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "shared by test binaries"
)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_vhost-user-net");

pub const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again until `probe` has something to say.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs it until it ends by itself.
pub fn output(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut daemon = Daemon { child };
    daemon.wait()
}

/// It must fail with this code and one line, which is returned without the name in front.
pub fn refusal(command: &mut Command, code: i32) -> String {
    let out = output(command);
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "{text}");
    assert!(out.stdout.is_empty(), "nothing on standard output");
    // What is logged besides has a time in front.
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("vhost-user-net: ")).collect();
    assert_eq!((lines.len(), text.lines().count()), (1, 1), "one line: {text}");
    lines[0].trim_start_matches("vhost-user-net: ").to_owned()
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child }
    }

    /// Starts it and waits until it listens.
    pub fn listening(command: &mut Command, socket: &Path) -> Self {
        let mut daemon = Self::start(command);
        until("the daemon listens", || {
            if daemon.child.try_wait().unwrap().is_some() {
                panic!("daemon ended: {}", String::from_utf8_lossy(&daemon.wait().stderr));
            }
            UnixStream::connect(socket).ok()
        });
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Output {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = until("the daemon ends", || self.child.try_wait().unwrap());
        self.child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status, stdout, stderr }
    }

    /// SIGTERM, good end; returns the standard output.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let out = self.wait();
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn mappings(&self) -> usize {
        std::fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap().lines().count()
    }

    /// Resident memory in KB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of what is in a folder.
pub fn contents(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
