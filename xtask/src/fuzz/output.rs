//! What libFuzzer prints.

/// How far one run, or several on one corpus, came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Progress {
    pub(super) executions: u64,
    /// Edges of the program that were seen.
    pub(super) coverage: u64,
    /// Edges with how often, comparisons and the like.
    pub(super) features: u64,
    /// Files with inputs that crashed, ran out of time or of memory.
    pub(super) crashes: Vec<String>,
}

impl Progress {
    /// Of a log that may still grow.
    pub(super) fn of(log: &str) -> Self {
        let mut seen = Self::default();
        for line in log.lines() {
            if let Some(path) = line.split_once("Test unit written to ").map(|(_, path)| path.trim()) {
                seen.crashes.push(path.to_owned());
            } else if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                seen.executions = count.trim().parse().unwrap_or(seen.executions);
            } else if let Some(status) = line.strip_prefix('#') {
                seen.status(status);
            }
        }
        seen
    }

    /// `2213<tab>NEW    cov: 312 ft: 500 corp: 20/1b ...`
    fn status(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let count: Option<u64> = words.next().and_then(|w| w.trim_end_matches(':').parse().ok());
        self.executions = count.unwrap_or_default().max(self.executions);
        while let Some(word) = words.next() {
            let place = match word {
                "cov:" => &mut self.coverage,
                "ft:" => &mut self.features,
                _ => continue,
            };
            *place = words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or_default().max(*place);
        }
    }

    /// Another job on the same corpus: it sees what this one finds.
    pub(super) fn add(&mut self, other: Self) {
        self.executions = self.executions.saturating_add(other.executions);
        self.coverage = self.coverage.max(other.coverage);
        self.features = self.features.max(other.features);
        self.crashes.extend(other.crashes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
INFO: Seed: 3405691582
#2\tINITED cov: 99 ft: 100 corp: 1/1b exec/s: 0 rss: 40Mb
#2213\tNEW    cov: 312 ft: 500 corp: 20/130b lim: 4 exec/s: 221 rss: 50Mb L: 3/9 MS: 1 ChangeBit-
#4096\tpulse  cov: 312 ft: 501 corp: 21/140b lim: 4 exec/s: 409 rss: 50Mb
";

    #[test]
    fn a_log_that_grows_says_how_far_it_is() {
        let expected = Progress { executions: 4096, coverage: 312, features: 501, crashes: Vec::new() };
        assert_eq!(Progress::of(LOG), expected);
        assert_eq!(Progress::of(""), Progress::default());
        assert_eq!(Progress::of("#\n#x cov: y ft:\n"), Progress::default());
    }

    #[test]
    fn the_end_says_it_exactly_and_names_crashes() {
        let end = "==7==ERROR: libFuzzer: deadly signal\nartifact_prefix='a/'; Test unit written to a/crash-1\n\
                   stat::number_of_executed_units: 5000\nstat::average_exec_per_sec:     500\n";
        let seen = Progress::of(&format!("{LOG}{end}"));
        assert_eq!((seen.executions, seen.crashes.as_slice()), (5000, ["a/crash-1".to_owned()].as_slice()));
        let mut sum = seen.clone();
        sum.add(Progress::of(LOG));
        assert_eq!((sum.executions, sum.coverage, sum.crashes.len()), (9096, 312, 1));
    }
}
