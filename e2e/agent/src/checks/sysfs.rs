//! What the kernel says about the interface.

use super::{Guest, error};
use guest_agent::{Line, Step, Verdict, feature_names};
use std::time::{Duration, Instant};

const CARRIER_WAIT: Duration = Duration::from_secs(2);

/// Whether the driver has negotiated this feature.
pub(super) fn negotiated(guest: &Guest, feature: &str) -> Result<bool, String> {
    Ok(names(guest)?.iter().any(|name| name == feature))
}

fn names(guest: &Guest) -> Result<Vec<String>, String> {
    let path = guest.sysfs("device/features");
    let bits = std::fs::read_to_string(&path).map_err(error(&path.to_string_lossy()))?;
    Ok(feature_names(&bits))
}

/// The names of the negotiated feature bits.
pub(super) fn features(guest: &Guest, step: &Step) -> Result<Line, String> {
    let names = names(guest)?;
    let verdict = if names.iter().any(|n| n == "VERSION_1") { Verdict::Pass } else { Verdict::Fail };
    let mut line = Line::new(step.name(), verdict).value(names.len() as f64, "bits").detail("names", names);
    if verdict == Verdict::Fail {
        line.reason = Some("the driver did not acknowledge VERSION_1".to_owned());
    }
    Ok(line)
}

/// MTU, carrier, MAC address, queues.
pub(super) fn link(guest: &Guest, step: &Step) -> Result<Line, String> {
    let read = |name: &str| std::fs::read_to_string(guest.sysfs(name)).map(|s| s.trim().to_owned()).unwrap_or_default();
    let queues = std::fs::read_dir(guest.sysfs("queues")).map_err(error("queues"))?;
    let queues = queues.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("rx-")).count();
    // Drivers tell about the carrier from a work item, a moment after the interface is taken up.
    let deadline = Instant::now().checked_add(CARRIER_WAIT);
    while read("carrier") != "1" && deadline.is_some_and(|d| Instant::now() < d) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let carrier = read("carrier");
    let verdict = if carrier == "1" { Verdict::Pass } else { Verdict::Fail };
    let mtu = read("mtu").parse::<f64>().map_err(|e| format!("mtu: {e}"))?;
    let mut line = Line::new(step.name(), verdict)
        .value(mtu, "bytes")
        .detail("mac", read("address"))
        .detail("carrier", carrier.clone())
        .detail("operstate", read("operstate"))
        .detail("speed_mbit", read("speed").parse::<i64>().unwrap_or(-1))
        .detail("queue_pairs", queues);
    if verdict == Verdict::Fail {
        line.reason = Some(format!("carrier is {carrier:?}, expected 1"));
    }
    Ok(line)
}

/// All counters; the value is the sum of the error counters.
pub(super) fn counters(guest: &Guest, step: &Step) -> Result<Line, String> {
    let dir = guest.sysfs("statistics");
    let mut line = Line::new(step.name(), Verdict::Info);
    let mut errors = 0u64;
    for entry in std::fs::read_dir(&dir).map_err(error(&dir.to_string_lossy()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let value = std::fs::read_to_string(entry.path()).unwrap_or_default().trim().parse::<u64>().unwrap_or(0);
        if name.ends_with("_errors") {
            errors = errors.saturating_add(value);
        }
        if value != 0 || name.ends_with("_packets") || name.ends_with("_bytes") {
            line = line.detail(&name, value);
        }
    }
    Ok(line.value(errors as f64, "errors"))
}
