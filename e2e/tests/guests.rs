//! Every kind of guest on the daemon, with both host ends: all checks, files of 64 MiB each way by their hashes,
//! what was negotiated, and what the daemon says of it afterwards.
//!
//! Needs `VNET_GUEST_TESTS=1`, which `cargo xtask test` sets, and root for the tap.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use e2e::guest::Kernel;
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

/// What the rings of a guest are to be, and how that comes about.
#[derive(Clone, Copy)]
struct Rings {
    /// The daemon offers packed rings.
    offered: bool,
    /// QEMU, or the in-process guest, takes them.
    taken: bool,
}

impl Rings {
    fn format(self, kind: Kind) -> &'static str {
        // User Mode Linux takes what is offered.
        if self.offered && (self.taken || kind == Kind::Uml) { "packed" } else { "split" }
    }
}

fn everything(kind: &str, tap: bool, rings: Rings) {
    if !wanted() {
        return;
    }
    let kind: Kind = kind.parse().unwrap();
    let shop = Workshop::of_repository().unwrap();
    let host = if tap { tap_net(&shop).map(HostEnd::Tap) } else { Some(HostEnd::User) };
    let Some(host) = host else { return };
    let assets = shop.prepare(&[kind], &mut say).unwrap();
    let format = rings.format(kind);
    let whose = if rings.offered { "" } else { "-only" };
    let name = format!("{kind}-{}-{format}{whose}", host.name());
    let bed = Bed::with(host, &["--packed", if rings.offered { "on" } else { "off" }]);
    let mut spec = GuestSpec::new(kind, Nic::vhost_user(bed.socket()), full_plan());
    spec.packed = rings.taken;
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
    let stats = bed.stop();
    negotiated(kind, find("features"), &stats);
    // The rings that the traffic went through, as the daemon says, and as the guest's own kernel does.
    assert_eq!(stats["ring_format"], format);
    let names = find("features").detail["names"].as_array().unwrap();
    assert_eq!(names.iter().any(|n| n == "RING_PACKED"), format == "packed");
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

/// Traffic, smaller rings, traffic, rings as they were, traffic.
fn resizing_plan() -> Plan {
    let traffic = [
        Step::new(Check::TcpEcho),
        Step::new(Check::FileUp).with("mib", 8),
        Step::new(Check::FileDown).with("mib", 8),
        Step::new(Check::UdpEcho),
        Step::new(Check::Ping4).with("count", 20),
    ];
    let mut steps = vec![Step::new(Check::Features), Step::new(Check::Dhcp)];
    for size in [64, 0] {
        steps.extend(traffic.clone());
        steps.push(Step::new(Check::Resize).with("size", size));
    }
    steps.extend(traffic);
    steps.push(Step::new(Check::Counters));
    Plan::new(steps)
}

/// A driver that changes the sizes of its rings resets its queues one by one: nothing of what comes before or after is
/// lost. False if it cannot.
fn rings_are_resized(shop: &Workshop, kind: Kind, packed: bool) -> bool {
    let assets = shop.prepare(&[kind], &mut say).unwrap();
    let bed = Bed::new(HostEnd::User);
    let mut spec = GuestSpec::new(kind, Nic::vhost_user(bed.socket()), resizing_plan());
    spec.packed = packed;
    spec.console = console(shop, &format!("{kind}-resize"));
    let mut guest = Guest::boot(&spec, &assets).unwrap();
    let mut lines = Vec::new();
    while let Some(line) = guest.next_line().unwrap() {
        let lacks = |list: &serde_json::Value| !list.as_array().unwrap().iter().any(|n| n == "RING_RESET");
        if line.check == Check::Features.name() && lacks(&line.detail["names"]) {
            return false;
        }
        lines.push(line);
    }
    all_passed(&lines);
    let sizes: Vec<_> = lines.iter().filter(|l| l.check == Check::Resize.name()).map(|l| l.value).collect();
    assert_eq!((sizes.len(), sizes[0]), (2, Some(64.0)));
    assert!(sizes[1] > sizes[0], "{sizes:?}");
    let stats = bed.stop();
    let names = stats["features"].as_array().unwrap();
    assert!(names.iter().any(|n| n == "RING_RESET"), "the driver resets queues, and the daemon is not told: {names:?}");
    assert_eq!(stats["ring_format"], if packed { "packed" } else { "split" });
    assert_eq!((&stats["sessions"], &stats["refused_requests"]), (&1.into(), &0.into()));
    true
}

/// The daemon must not offer `RING_RESET` to a QEMU that keeps the resets to itself, as 7.2 does: its
/// `virtio_net_queue_reset` tells kernel back ends only, and this test fails then.
#[test]
fn qemu_6_12_resizes_its_rings() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let kind = Kind::Qemu(Kernel::K6_12);
    if ![false, true].into_iter().all(|packed| rings_are_resized(&shop, kind, packed)) {
        println!("skipped: RING_RESET was not negotiated");
    }
}

const PACKED: Rings = Rings { offered: true, taken: true };
/// The driver's choice: packed=off of QEMU, or of the in-process guest.
const SPLIT: Rings = Rings { offered: true, taken: false };
/// The daemon's choice, whatever the driver would take.
const NOT_OFFERED: Rings = Rings { offered: false, taken: true };

macro_rules! guests {
    ($($test:ident: $kind:literal $net:ident $rings:ident;)*) => {$(
        #[test]
        fn $test() {
            everything($kind, stringify!($net) == "tap", $rings);
        }
    )*};
}

guests! {
    in_process_on_user: "in-process" user PACKED;
    in_process_on_tap: "in-process" tap PACKED;
    in_process_split_on_user: "in-process" user SPLIT;
    uml_on_user: "uml" user PACKED;
    uml_on_tap: "uml" tap PACKED;
    uml_split_on_user: "uml" user NOT_OFFERED;
    uml_split_on_tap: "uml" tap NOT_OFFERED;
    qemu_6_1_on_user: "qemu-6.1" user SPLIT;
    qemu_6_1_on_tap: "qemu-6.1" tap SPLIT;
    qemu_6_1_packed_on_tap: "qemu-6.1" tap PACKED;
    qemu_6_12_on_user: "qemu-6.12" user SPLIT;
    qemu_6_12_on_tap: "qemu-6.12" tap SPLIT;
    qemu_6_12_packed_on_user: "qemu-6.12" user PACKED;
    qemu_6_12_packed_refused_on_user: "qemu-6.12" user NOT_OFFERED;
}
