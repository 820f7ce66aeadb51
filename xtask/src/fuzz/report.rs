//! Rows of `report.json`, and the table at the end.

use super::output::Progress;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// One target.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) target: &'static str,
    seconds: f64,
    executions: u64,
    executions_per_second: f64,
    /// Edges seen, and features: see [`Progress`].
    coverage: u64,
    features: u64,
    /// Inputs in fuzz/corpus, after the merge.
    corpus: usize,
    pub(super) crashes: Vec<String>,
}

impl Row {
    pub(super) fn new(target: &'static str, progress: &Progress, took: Duration, corpus: usize) -> Self {
        let seconds = took.as_secs_f64();
        Self {
            target,
            seconds,
            executions: progress.executions,
            executions_per_second: progress.executions as f64 / seconds.max(0.001),
            coverage: progress.coverage,
            features: progress.features,
            corpus,
            crashes: progress.crashes.clone(),
        }
    }
}

pub(super) fn to_json(rows: &[Row]) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(rows)? + "\n")
}

pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<14} {:>8} {:>12} {:>9} {:>9} {:>9} {:>7} {:>8}\n",
        "target", "seconds", "executions", "exec/s", "coverage", "features", "corpus", "crashes"
    );
    for r in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<14} {:>8.0} {:>12} {:>9.0} {:>9} {:>9} {:>7} {:>8}",
            r.target,
            r.seconds,
            r.executions,
            r.executions_per_second,
            r.coverage,
            r.features,
            r.corpus,
            r.crashes.len()
        );
    }
    text
}

pub(super) fn how_to_replay(target: &str, crash: &str) -> String {
    format!(
        "{target} crashed: the input is {crash}\n  \
         to replay it: mkdir -p fuzz/regressions/{target} && cp {crash} fuzz/regressions/{target}/ && \
         cargo test -p fuzz-cases --test replay"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_done_and_found() -> serde_json::Result<()> {
        let crashes = vec!["a/crash-1".to_owned()];
        let progress = Progress { executions: 5000, coverage: 312, features: 501, crashes };
        let rows = [Row::new("agree", &progress, Duration::from_secs(10), 21)];
        let json: serde_json::Value = serde_json::from_str(&to_json(&rows)?)?;
        assert_eq!(json[0]["executions_per_second"], 500.0);
        assert_eq!(json[0]["crashes"][0], "a/crash-1");
        let last = table(&rows).lines().last().map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(last.unwrap_or_default(), ["agree", "10", "5000", "500", "312", "501", "21", "1"]);
        Ok(())
    }
}
