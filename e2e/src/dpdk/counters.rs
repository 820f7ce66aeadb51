//! What the program prints, as numbers.

/// What a port counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received, and their bytes.
    pub rx: (u64, u64),
    /// Frames sent, and their bytes.
    pub tx: (u64, u64),
    /// Frames or buffers that went wrong: missed, errors of both ways, no memory.
    pub errors: u64,
}

/// Frames a second, as the program itself measured them from one look at its counters to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Received.
    pub rx: u64,
    /// Sent.
    pub tx: u64,
}

impl Counters {
    /// From lines such as `  RX-packets: 3        RX-missed: 0          RX-bytes:  192`.
    pub(super) fn parse(lines: &[String]) -> Self {
        let number = |name| number(lines, name);
        let errors = ["RX-missed", "RX-errors", "RX-nombuf", "TX-errors"].map(number);
        Self {
            rx: (number("RX-packets"), number("RX-bytes")),
            tx: (number("TX-packets"), number("TX-bytes")),
            errors: errors.iter().fold(0, |sum, n| sum.saturating_add(*n)),
        }
    }
}

impl Rates {
    /// From lines such as `  Rx-pps:            7          Rx-bps:          428`.
    pub(super) fn parse(lines: &[String]) -> Self {
        Self { rx: number(lines, "Rx-pps"), tx: number(lines, "Tx-pps") }
    }
}

/// The number behind `name:`, else 0.
fn number(lines: &[String], name: &str) -> u64 {
    let mut words = lines.iter().flat_map(|line| line.split_ascii_whitespace());
    words.find(|word| word.strip_suffix(':') == Some(name));
    words.next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Cycles that a packet cost the core that forwards, from what [`TestPmd::stop`](super::TestPmd::stop) gives, if
/// `set record-core-cycles on` was said before the start. Rounds without a packet do not count where packets are
/// received.
pub fn cycles_per_packet(lines: &[String]) -> Option<f64> {
    let (_, rest) = lines.iter().find_map(|line| line.split_once("CPU cycles/packet="))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn counters_are_read() {
        let text = "  RX-packets: 544        RX-missed: 1          RX-bytes:  34816\n  RX-errors: 2\n  \
            RX-nombuf:  3         \n  TX-packets: 545        TX-errors: 4          TX-bytes:  34880\n\n  \
            Throughput (since last show)\n  Rx-pps: 7  Rx-bps: 3584\n  Tx-pps: 8  Tx-bps: 4096";
        let lines = lines(text);
        assert_eq!(Counters::parse(&lines), Counters { rx: (544, 34816), tx: (545, 34880), errors: 10 });
        assert_eq!(Counters::parse(&[]), Counters::default());
        assert_eq!(Rates::parse(&lines), Rates { rx: 7, tx: 8 });
    }

    #[test]
    fn cycles_are_read() {
        let text =
            "\n  CPU cycles/packet=119.82 (total cycles=58242105 / total rxonly packets=486080) at 2600 MHz Clock";
        assert_eq!(cycles_per_packet(&lines(text)), Some(119.82));
        assert_eq!(cycles_per_packet(&lines("Done.")), None);
    }
}
