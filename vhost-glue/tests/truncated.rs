//! A front end that cuts the file of guest memory short while rings run. The victim is a process of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use support::back::Back;
use support::front::{Front, GET_STATUS, REPLY_ACK, STATUS};
use support::guest::{Guest, KINDS, SIZE, format, memfd, spec, with_kind};
use support::until;
use vhost_glue::{MemoryTable, SessionEnd, guard_against_truncation};
use virtio_ring::Format;

const ROLE: &str = "VHOST_GLUE_TEST_ROLE";
const SIGBUS: i32 = 7;

fn session(back: &Back, want: u64, cut: bool) {
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(want, REPLY_ACK | STATUS);
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
        // A packed ring of zeros looks like one that nothing was added to. Stopping it touches it in any case.
        if format(guest.acked) == Format::Split {
            until("the lost ring is noticed", || front.number(GET_STATUS) & 64 != 0);
        }
        front.vring_base(0);
        front.vring_base(1);
    }
    drop(front);
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
}

#[test]
#[ignore = "the victim: run by the other test, in a process of its own"]
fn victim() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (guarded, kind) = role.split_once(' ').unwrap();
    if guarded == "guarded" {
        guard_against_truncation().unwrap();
        guard_against_truncation().unwrap();
    }
    let want = with_kind(u64::MAX, kind.parse().unwrap());
    // More guests' memory than one chunk of what the guard knows has room for.
    let table = |_| MemoryTable::new(&[spec()], vec![memfd(SIZE)]).unwrap();
    let _others: Vec<MemoryTable> = (0..600).map(table).collect();
    let back = Back::new(1);
    for cut in [true, false, true, false] {
        session(&back, want, cut);
    }
}

fn run(role: &str, kind: u64) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--ignored"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.env(ROLE, format!("{role} {kind}")).status().unwrap()
}

#[test]
fn a_truncated_file_kills_only_the_unguarded() {
    for kind in [KINDS[0], KINDS[3]] {
        let guarded = run("guarded", kind);
        assert!(guarded.success(), "{guarded}");
        assert_eq!(run("bare", kind).signal(), Some(SIGBUS));
    }
}
