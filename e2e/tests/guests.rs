//! Every kind of guest on the daemon, with both host ends: all checks, files of 64 MiB each way by their hashes,
//! what was negotiated, and what the daemon says of it afterwards.
//!
//! Needs `VNET_GUEST_TESTS=1`, which `cargo xtask test` sets, and root for the tap.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use e2e::{Check, Guest, GuestSpec, HostEnd, Kind, Line, Nic, Plan, Step, Workshop};
use std::collections::BTreeSet;
use support::{Bed, all_passed, console, say, tap_net, wanted};

/// Features that every kind of guest must end up with, on either host end.
const BASIC: [&str; 11] = [
    "CSUM",
    "GUEST_CSUM",
    "MAC",
    "GUEST_TSO4",
    "GUEST_TSO6",
    "HOST_TSO4",
    "HOST_TSO6",
    "MRG_RXBUF",
    "STATUS",
    "EVENT_IDX",
    "VERSION_1",
];

/// All checks, and a throughput one of each direction over IPv6 too.
fn full_plan() -> Plan {
    let mut plan = Plan::standard(1, 64);
    plan.steps.extend([Check::TcpUp, Check::TcpDown, Check::UdpUp].map(|c| Step::new(c).with("secs", 1).with("v", 6)));
    plan
}

fn everything(kind: &str, tap: bool) {
    if !wanted() {
        return;
    }
    let kind: Kind = kind.parse().unwrap();
    let shop = Workshop::of_repository().unwrap();
    let host = if tap { tap_net(&shop).map(HostEnd::Tap) } else { Some(HostEnd::User) };
    let Some(host) = host else { return };
    let assets = shop.prepare(&[kind], &mut say).unwrap();
    let name = format!("{kind}-{}", host.name());
    let bed = Bed::new(host);
    let mut spec = GuestSpec::new(kind, Nic::vhost_user(bed.socket()), full_plan());
    spec.console = console(&shop, &name);
    let mut guest = Guest::boot(&spec, &assets).unwrap();
    let lines = guest.run_to_end().unwrap();
    println!("{name}: booted in {:.2} s", guest.boot_time().unwrap_or_default().as_secs_f64());
    all_passed(&lines);
    let names: Vec<&str> = lines.iter().map(|l| l.check.as_str()).collect();
    let steps: Vec<String> = full_plan().steps.iter().map(Step::name).collect();
    assert_eq!((names[0], &names[1..]), ("boot", &steps.iter().map(String::as_str).collect::<Vec<_>>()[..]));
    let status = guest.exit_status().expect("the guest powers itself off");
    assert!(status.success(), "{status}");

    let find = |check: &str| lines.iter().find(|l| l.check == check).unwrap();
    assert_eq!(find("dhcp").detail["address"], "10.0.2.15");
    assert_eq!(find("file_up").detail["sha256"], find("file_down").detail["sha256"]);
    assert_eq!(find("counters").value, Some(0.0), "errors that the guest counted");
    negotiated(kind, find("features"), &bed.stop());
}

/// The guest and the daemon must agree on the features; and the daemon has seen nothing odd.
fn negotiated(kind: Kind, line: &Line, stats: &serde_json::Value) {
    let names = |list: &serde_json::Value| -> BTreeSet<String> {
        let names = list.as_array().unwrap().iter().map(|n| n.as_str().unwrap());
        names.map(|n| n.strip_prefix("RING_").unwrap_or(n).to_owned()).collect()
    };
    let (guest, daemon) = (names(&line.detail["names"]), names(&stats["features"]));
    for name in BASIC {
        assert!(guest.contains(name), "{name} is not among {guest:?}");
    }
    match kind {
        // QEMU serves the control queue itself, so the guest has more than the daemon knows of.
        Kind::Qemu(_) => assert!(daemon.is_subset(&guest), "{daemon:?} {guest:?}"),
        _ => assert_eq!(daemon, guest),
    }
    assert_eq!((&stats["sessions"], &stats["refused_requests"]), (&1.into(), &0.into()));
    let (tx, rx) = (&stats["pairs"][0]["tx"], &stats["pairs"][0]["rx"]);
    for (way, reasons) in [(tx, ["bad_chain", "bad_frame", "spoofed"]), (rx, ["bad_chain", "too_long", "offload"])] {
        assert!(way["frames"].as_u64().unwrap() > 1000, "{way}");
        for reason in reasons {
            assert_eq!(way["drops"][reason], 0, "{reason} in {way}");
        }
    }
}

macro_rules! guests {
    ($($test:ident: $kind:literal $net:ident;)*) => {$(
        #[test]
        fn $test() {
            everything($kind, stringify!($net) == "tap");
        }
    )*};
}

guests! {
    in_process_on_user: "in-process" user;
    in_process_on_tap: "in-process" tap;
    uml_on_user: "uml" user;
    uml_on_tap: "uml" tap;
    qemu_6_1_on_user: "qemu-6.1" user;
    qemu_6_1_on_tap: "qemu-6.1" tap;
    qemu_6_12_on_user: "qemu-6.12" user;
    qemu_6_12_on_tap: "qemu-6.12" tap;
}
