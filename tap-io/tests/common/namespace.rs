//! A network namespace of the test's own, so that nothing on the machine is touched.
#![expect(unsafe_code, reason = "unshare")]
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests")]

use std::process::Command;

/// Runs `test` in a thread that has a fresh network namespace; both are gone when it returns. Skips it with a message
/// on a machine that does not allow that.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if let Err(why) = std::fs::File::open("/dev/net/tun") {
        println!("skipped: /dev/net/tun: {why}");
        return;
    }
    let thread = std::thread::spawn(move || {
        // SAFETY: a call without memory arguments; it changes the network namespace of this thread, and nothing that
        // Rust relies on.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            println!("skipped: no network namespace: {}", std::io::Error::last_os_error());
            return;
        }
        if let Err(why) = Command::new("ip").args(["link", "set", "lo", "up"]).status() {
            println!("skipped: ip (package iproute2): {why}");
            return;
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the thread's namespace.
pub fn ip(arguments: &str) {
    let out = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
}
