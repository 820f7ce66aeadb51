//! Boots each kind of guest with its own network card on a tap: proves the guests, the agent, the services and
//! the namespace without any device of ours, and gives the figures that ours are compared with.
//!
//! Not a part of `cargo xtask test`, as nothing of ours is in the way of a packet here, and User Mode Linux's own card
//! loses a datagram now and then: `VNET_GUEST_TESTS=1 cargo test -p e2e --test own_card -- --nocapture`, as root.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test's way to fail")]

mod support;

use e2e::{Check, Error, Guest, GuestSpec, Kind, Line, Plan, Step, Verdict, Workshop};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::{tap_net, wanted};

fn run(kind: Kind, plan: Plan) -> Option<Vec<Line>> {
    if !wanted() {
        return None;
    }
    let shop = Workshop::of_repository().unwrap();
    let assets = shop.prepare(&[kind], &mut |line| println!("{line}")).unwrap();
    let net = tap_net(&shop)?;
    let mut spec = GuestSpec::new(kind, net.own_nic(), plan);
    spec.console = shop.folder().join(format!("own-card-{kind}.console"));
    let mut guest = Guest::boot(&spec, &assets).unwrap();
    let lines = guest.run_to_end().unwrap();
    println!("{kind}: booted in {:.2} s", guest.boot_time().unwrap_or_default().as_secs_f64());
    for line in &lines {
        println!("{}", line.to_console());
    }
    let status = guest.exit_status().expect("the guest powers itself off");
    assert!(status.success(), "{status}");
    Some(lines)
}

fn everything_passes(kind: Kind, plan: Plan) {
    let steps: Vec<String> = plan.steps.iter().map(Step::name).collect();
    let Some(lines) = run(kind, plan) else { return };
    let names: Vec<&str> = lines.iter().map(|l| l.check.as_str()).collect();
    assert_eq!(names[0], "boot");
    assert_eq!(names[1..], steps, "one line for each step, in order");
    let failed: Vec<_> = lines.iter().filter(|l| l.result == Verdict::Fail).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let dhcp = lines.iter().find(|l| l.check == "dhcp").unwrap();
    assert_eq!(dhcp.detail["address"], "10.0.2.15");
    assert_eq!(dhcp.detail["gateway"], "10.0.2.2");
}

/// All checks, and the throughput ones over IPv6 too.
fn full_plan() -> Plan {
    let mut plan = Plan::standard(1, 64);
    plan.steps.extend([Check::TcpUp, Check::UdpDown].map(|c| Step::new(c).with("secs", 1).with("v", 6)));
    plan
}

#[test]
fn qemu_6_1() {
    everything_passes("qemu-6.1".parse().unwrap(), full_plan());
}

/// QEMU's own device resets single queues, so that rings can change their sizes.
#[test]
fn qemu_6_12() {
    let mut plan = full_plan();
    for size in [64, 0] {
        plan.steps.push(Step::new(Check::Resize).with("size", size));
        plan.steps.extend([Step::new(Check::TcpEcho), Step::new(Check::Ping4).with("count", 20)]);
    }
    everything_passes("qemu-6.12".parse().unwrap(), plan);
}

/// Its own card is not a virtio one: no feature bits.
#[test]
fn user_mode_linux() {
    let mut plan = full_plan();
    plan.steps.retain(|s| s.check != Check::Features);
    everything_passes(Kind::Uml, plan);
}

#[test]
fn failing_checks_give_reasons_and_the_rest_goes_on() {
    // Without DHCP first there is no route and no address; IPv6 configures itself.
    let steps =
        [Step::new(Check::Dns).with("limit", 4), Step::new(Check::TcpUp).with("limit", 4), Step::new(Check::Ping6)];
    let Some(lines) = run(Kind::Uml, Plan::new(steps.to_vec())) else { return };
    let results: Vec<_> = lines.iter().map(|l| (l.check.as_str(), l.result, l.reason.is_some())).collect();
    let want = [
        ("boot", Verdict::Info, false),
        ("dns", Verdict::Fail, true),
        ("tcp_up", Verdict::Fail, true),
        ("ping6", Verdict::Pass, false),
    ];
    assert_eq!(results, want, "{lines:?}");
}

#[test]
fn deadline_kills_and_nothing_is_left() {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let assets = shop.prepare(&[Kind::Uml], &mut |line| println!("{line}")).unwrap();
    let Some(net) = tap_net(&shop) else { return };
    let plan = Plan::new(vec![Step::new(Check::Dhcp), Step::new(Check::TcpDown).with("secs", 600)]);
    let mut spec = GuestSpec::new(Kind::Uml, net.own_nic(), plan);
    spec.deadline = Duration::from_secs(8);
    spec.console = shop.folder().join("own-card-deadline.console");
    let mut guest = Guest::boot(&spec, &assets).unwrap();
    let leader = guest.id().unwrap();
    let end = guest.run_to_end();
    assert!(matches!(end, Err(Error::Deadline(..))), "{end:?}");
    drop(guest);
    let namespace = net.namespace().to_owned();
    drop(net);
    assert!(!std::path::Path::new("/run/netns").join(namespace).exists());
    let until = Instant::now() + Duration::from_secs(5);
    while !group_members(leader).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(group_members(leader), BTreeSet::new());
}

/// Living processes of this process group.
fn group_members(group: u32) -> BTreeSet<u32> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|e| e.file_name().to_string_lossy().parse::<u32>().ok());
    let in_group = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name in brackets: state, parent, group.
        let words: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
        words.get(2) == Some(&group.to_string().as_str()) && words.first() != Some(&"Z")
    };
    numbers.filter(in_group).collect()
}
