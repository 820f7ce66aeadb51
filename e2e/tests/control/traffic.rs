//! The daemon as users start it, with its own host ends: what a command is for is what traffic shows.

use crate::support::{Bed, all_passed, console, say, tap_net, wanted};
use e2e::{Check, Guest, GuestSpec, HostEnd, Kind, Line, Nic, Plan, Step, Verdict, Workshop};

/// Of the file that the guest fetches, in MiB.
const FILE: u64 = 8;
/// Frames of at most 1500 bytes that it takes, at least: 1448 bytes of payload each with time stamps.
const SMALL: u64 = (FILE << 20) / 1460;

/// A guest that fetches a file, on this host end, after commands; the daemon's last statistics.
fn fetch(name: &str, host: HostEnd, commands: &[&str], packed: bool) -> serde_json::Value {
    let shop = Workshop::of_repository().unwrap();
    let assets = shop.prepare_with_tools(&[Kind::Uml], &mut say).unwrap();
    let name = format!("control-{name}-{}-{}", host.name(), if packed { "packed" } else { "split" });
    let bed = Bed::with(host, &["--packed", if packed { "on" } else { "off" }]);
    let file = Step::new(Check::FileDown).with("mib", FILE);
    let steps = vec![Step::new(Check::Dhcp), Step::new(Check::Talk), file, Step::new(Check::Counters)];
    let mut spec = GuestSpec::new(Kind::Uml, Nic::vhost_user(bed.socket()), Plan::new(steps));
    spec.console = console(&shop, &name);
    let mut guest = Guest::boot(&spec, &assets).unwrap();
    // The boot, an address, and that it listens.
    let mut lines: Vec<Line> = (0..3).map(|_| guest.next_line().unwrap().unwrap()).collect();
    for command in commands {
        let answer = guest.tell(command).unwrap();
        println!("# {command}\n{}", answer.to_console());
        assert_eq!((answer.result, answer.value), (Verdict::Pass, Some(0.0)), "{command}");
    }
    lines.push(guest.tell("end").unwrap());
    lines.extend(guest.run_to_end().unwrap());
    all_passed(&lines);
    bed.stop()
}

/// The host's stack sends large frames as long as the guest takes them. From then on it cuts them itself, and nothing is
/// dropped on the way.
pub(crate) fn without_large_frames(packed: bool) {
    if !wanted() {
        return;
    }
    let shop = Workshop::of_repository().unwrap();
    let hosts = [Some(HostEnd::User), tap_net(&shop).map(HostEnd::Tap)];
    for host in hosts.into_iter().flatten() {
        let stats = fetch("traffic", host, &["ethtool -K eth0 rx-gro-hw off"], packed);
        let rx = &stats["pairs"][0]["rx"];
        assert!(rx["frames"].as_u64().unwrap() > SMALL, "{rx}");
        assert_eq!((&rx["drops"]["offload"], &rx["drops"]["too_long"]), (&0.into(), &0.into()), "{rx}");
    }
}

/// What is on or off beside: the guest reaches the host as before.
pub(crate) fn with_everything_else_changed(packed: bool) {
    if !wanted() {
        return;
    }
    let commands = [
        "ip link set eth0 promisc on",
        "ip link set eth0 promisc off",
        "ip link set eth0 allmulticast on",
        "ip link add link eth0 name five type vlan id 5",
        "ip maddr add 01:00:5e:01:02:03 dev eth0",
        "ethtool -K eth0 rxhash on",
        "ethtool -C eth0 rx-usecs 50 rx-frames 16 tx-usecs 50 tx-frames 16",
    ];
    let stats = fetch("changed", HostEnd::User, &commands, packed);
    let rx = &stats["pairs"][0]["rx"];
    // Large frames, far fewer than it would take otherwise.
    assert!(rx["frames"].as_u64().unwrap() < SMALL / 2, "{rx}");
    assert_eq!(rx["drops"]["offload"], 0, "{rx}");
}
