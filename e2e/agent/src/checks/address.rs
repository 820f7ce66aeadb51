//! DHCP, and echo requests of both IP versions; busybox does the work.

use super::{Guest, busybox, error};
use guest_agent::{GUEST6, HOST6, Line, Step, Verdict, outcome};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Where the udhcpc script of the initramfs leaves the lease.
const LEASE: &str = "/run/lease";

/// Asks for a lease, five times at most, a second apart.
pub(super) fn dhcp(guest: &Guest, step: &Step) -> Result<Line, String> {
    let begin = Instant::now();
    let interface = guest.interface.as_str();
    busybox(&["udhcpc", "-n", "-q", "-f", "-t", "5", "-T", "1", "-i", interface, "-s", "/bin/udhcpc-script"])?;
    let took = begin.elapsed();
    let text = std::fs::read_to_string(LEASE).map_err(error(LEASE))?;
    let lease: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let word = |key: &str| lease.get(key).copied().unwrap_or_default().to_owned();
    let router = word("router");
    let gateway = router.split(' ').next().unwrap_or_default();
    let gateway: IpAddr = gateway.parse().map_err(|_| format!("the lease names no usable router: {router:?}"))?;
    if let Ok(mut known) = guest.gateway.lock() {
        *known = Some(gateway);
    }
    Ok(Line::new(step.name(), Verdict::Pass)
        .value(took.as_secs_f64(), "s")
        .detail("address", word("ip"))
        .detail("mask", word("subnet"))
        .detail("gateway", router)
        .detail("dns", word("dns"))
        .detail("mtu", word("mtu"))
        .detail("lease_s", word("lease").parse::<u64>().unwrap_or(0)))
}

/// Echo requests to the host; every one must come back.
pub(super) fn ping(guest: &Guest, step: &Step, version: u8) -> Result<Line, String> {
    let count = step.parameter("count", 5);
    let size = step.parameter("size", 56).to_string();
    let (applet, host, configured) = match version {
        6 => ("ping6", HOST6.to_string(), Some(ensure_ipv6(guest)?)),
        _ => ("ping", guest.host4().to_string(), None),
    };
    let (count_text, limit) = (count.to_string(), count.saturating_add(5).to_string());
    let text = busybox(&[applet, "-c", &count_text, "-i", "0.2", "-w", &limit, "-s", &size, &host])?;
    let seen = PingSummary::parse(&text).ok_or_else(|| format!("{applet} printed {:?}", text.trim()))?;
    let mut line = outcome::ping(step, &host, seen.sent, seen.received, seen.rtt);
    if let Some(configured) = configured {
        line = line.detail("address", configured);
    }
    Ok(line)
}

#[derive(Debug, PartialEq)]
struct PingSummary {
    sent: u64,
    received: u64,
    /// Least, mean, greatest, in milliseconds.
    rtt: (f64, f64, f64),
}

impl PingSummary {
    /// Reads busybox's last two lines.
    fn parse(text: &str) -> Option<Self> {
        let first_number = |s: &str| s.trim().split(' ').next().and_then(|n| n.parse().ok());
        let counts = text.lines().find(|l| l.contains(" packets transmitted"))?;
        let mut counts = counts.split(',');
        let (sent, received) = (first_number(counts.next()?)?, first_number(counts.next()?)?);
        let rtt = text.lines().find_map(|l| l.split_once("min/avg/max = "))?.1;
        let mut rtt = rtt.trim_end_matches(" ms").split('/').map(str::parse);
        let mut next = || rtt.next()?.ok();
        Some(Self { sent, received, rtt: (next()?, next()?, next()?) })
    }
}

/// The guest's global IPv6 address: from a router advertisement, if one comes in a second, else the fixed one.
fn ensure_ipv6(guest: &Guest) -> Result<String, String> {
    let deadline = Instant::now().checked_add(Duration::from_secs(1));
    loop {
        if let Some(found) = global_ipv6(guest) {
            return Ok(found);
        }
        if deadline.is_none_or(|d| Instant::now() >= d) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    busybox(&["ip", "-6", "addr", "add", &format!("{GUEST6}/64"), "dev", &guest.interface])?;
    global_ipv6(guest).ok_or_else(|| format!("{GUEST6} was set on {} and is not there", guest.interface))
}

fn global_ipv6(guest: &Guest) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    // Address, index, prefix length, scope (00 is global), flags, name.
    let ours = table.lines().map(|l| l.split_ascii_whitespace().collect::<Vec<_>>());
    let mut ours = ours.filter(|w| w.get(3) == Some(&"00") && w.get(5) == Some(&guest.interface.as_str()));
    let bits = u128::from_str_radix(ours.next()?.first()?, 16).ok()?;
    Some(std::net::Ipv6Addr::from_bits(bits).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_summaries_are_read() {
        let text = "PING 10.0.2.2 (10.0.2.2): 56 data bytes\n64 bytes from 10.0.2.2: seq=0 ttl=64 time=0.9 ms\n\n\
            --- 10.0.2.2 ping statistics ---\n3 packets transmitted, 2 packets received, 33% packet loss\n\
            round-trip min/avg/max = 0.251/0.523/0.914 ms\n";
        let want = PingSummary { sent: 3, received: 2, rtt: (0.251, 0.523, 0.914) };
        assert_eq!(PingSummary::parse(text), Some(want));
        assert_eq!(PingSummary::parse("ping: bad address"), None);
    }
}
