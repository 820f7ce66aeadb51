//! A front end that cuts the file of guest memory short while rings run. The victim is a process of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use support::back::Back;
use support::front::{Front, GET_STATUS, REPLY_ACK, STATUS};
use support::guest::Guest;
use support::until;
use vhost_glue::{SessionEnd, guard_against_truncation};

const ROLE: &str = "VHOST_GLUE_TEST_ROLE";
const SIGBUS: i32 = 7;

fn session(back: &Back, cut: bool) {
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(u64::MAX, REPLY_ACK | STATUS);
    let mut guest = Guest::new(acked);
    guest.start(&front, true);
    front.settle();
    guest.exchange(100, 60);
    if cut {
        // The next look at either ring is at a page that is gone.
        rustix::fs::ftruncate(&guest.file, 0).unwrap();
        for kick in &guest.kicks {
            rustix::io::write(kick, &1_u64.to_ne_bytes()).unwrap();
        }
        until("the lost ring is noticed", || front.number(GET_STATUS) & 64 != 0);
        front.vring_base(0);
        front.vring_base(1);
    }
    drop(front);
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
}

#[test]
#[ignore = "the victim: run by the other test, in a process of its own"]
fn victim() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    if role == "guarded" {
        guard_against_truncation().unwrap();
        guard_against_truncation().unwrap();
    }
    let back = Back::new(1);
    for cut in [true, false, true, false] {
        session(&back, cut);
    }
}

fn run(guarded: bool) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--ignored"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.env(ROLE, if guarded { "guarded" } else { "bare" }).status().unwrap()
}

#[test]
fn a_truncated_file_kills_only_the_unguarded() {
    let guarded = run(true);
    assert!(guarded.success(), "{guarded}");
    assert_eq!(run(false).signal(), Some(SIGBUS));
}
