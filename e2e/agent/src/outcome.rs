//! Result lines of the checks that more than one program runs: the agent inside a machine, and a guest that is
//! only a thread. Whoever measures calls these, so that a row means the same whatever the guest.

use crate::{Line, Pattern, Step, Verdict};
use std::time::Duration;

/// Gbit/s of `bytes` in `time`.
pub fn gbit(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64().max(1e-9) / 1e9
}

/// Per cent of `sent` that did not arrive.
pub fn loss_percent(sent: u64, received: u64) -> f64 {
    if sent == 0 { 0.0 } else { sent.saturating_sub(received) as f64 * 100.0 / sent as f64 }
}

/// A TCP stream of `bytes`.
pub fn stream(step: &Step, bytes: u64, took: Duration) -> Line {
    Line::new(step.name(), Verdict::Pass).value(gbit(bytes, took), "Gbit/s").detail("bytes", bytes)
}

/// A file of `bytes` whose hash is `hash`.
///
/// # Errors
/// It is not the hash of the pattern's first `bytes`.
pub fn file(step: &Step, bytes: u64, took: Duration, hash: &str) -> Result<Line, String> {
    matches_pattern(hash, bytes)?;
    Ok(Line::new(step.name(), Verdict::Pass)
        .value(took.as_secs_f64(), "s")
        .detail("bytes", bytes)
        .detail("gbit_per_s", gbit(bytes, took))
        .detail("sha256", hash))
}

/// Whether `hash` is that of the pattern's first `bytes`.
///
/// # Errors
/// It is not.
pub fn matches_pattern(hash: &str, bytes: u64) -> Result<(), String> {
    let want = Pattern::default().sha256(bytes);
    if hash == want { Ok(()) } else { Err(format!("SHA-256 of {bytes} bytes is {hash:?}, expected {want}")) }
}

/// A flow of datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Datagrams {
    /// Sent.
    pub sent: u64,
    /// Of those, arrived.
    pub received: u64,
    /// Payload bytes of each.
    pub size: usize,
    /// Time from the first to the last.
    pub took: Duration,
}

/// Datagrams: not one may be lost.
pub fn datagrams(step: &Step, seen: &Datagrams) -> Line {
    let &Datagrams { sent, received, size, took } = seen;
    let rate = received as f64 / took.as_secs_f64().max(1e-9);
    let line = Line::new(step.name(), Verdict::Pass)
        .value(gbit(received.saturating_mul(size as u64), took), "Gbit/s")
        .detail("sent", sent)
        .detail("received", received)
        .detail("loss_percent", loss_percent(sent, received))
        .detail("size", size)
        .detail("packets_per_s", rate.round());
    all_arrived(line, sent, received)
}

/// Echo requests to `host`: sent, answered, and least, mean and greatest round trip in milliseconds.
pub fn ping(step: &Step, host: &str, sent: u64, received: u64, rtt: (f64, f64, f64)) -> Line {
    let line = Line::new(step.name(), Verdict::Pass)
        .value(rtt.1, "ms")
        .detail("host", host)
        .detail("sent", sent)
        .detail("received", received)
        .detail("loss_percent", loss_percent(sent, received))
        .detail("min_ms", rtt.0)
        .detail("max_ms", rtt.2);
    all_arrived(line, sent, received)
}

fn all_arrived(mut line: Line, sent: u64, received: u64) -> Line {
    if sent != received {
        line.result = Verdict::Fail;
        line.reason = Some(format!("{} of {sent} lost", sent.saturating_sub(received)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Check;

    #[test]
    fn a_lost_datagram_is_a_failure() {
        let step = Step::new(Check::UdpUp);
        let seen = Datagrams { sent: 1000, received: 1000, size: 1250, took: Duration::from_secs(1) };
        let line = datagrams(&step, &seen);
        assert_eq!((line.result, line.value, line.reason), (Verdict::Pass, Some(0.01), None));
        let line = datagrams(&step, &Datagrams { received: 999, ..seen });
        assert_eq!((line.result, line.reason.as_deref()), (Verdict::Fail, Some("1 of 1000 lost")));
        assert_eq!(line.detail["loss_percent"], 0.1);
        assert_eq!(ping(&step, "h", 5, 5, (1.0, 2.0, 3.0)).value, Some(2.0));
    }

    #[test]
    fn a_wrong_hash_is_a_failure() {
        let step = Step::new(Check::FileUp);
        let hash = Pattern::default().sha256(100);
        assert!(file(&step, 100, Duration::from_secs(1), &hash).is_ok());
        assert!(file(&step, 101, Duration::from_secs(1), &hash).unwrap_err().starts_with("SHA-256 of 101 bytes is"));
    }
}
