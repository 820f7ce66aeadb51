//! Result lines: `@@ ` and one JSON object on a line of the console, `@@ done` as the last.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

const MARK: &str = "@@ ";
const DONE: &str = "done";

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It did what it should.
    Pass,
    /// It did not; the reason is in [`Line::reason`].
    Fail,
    /// A figure without a judgement.
    Info,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Info => "info",
        })
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Name of the check, as in the plan; `boot` for the first line.
    pub check: String,
    /// How it went.
    pub result: Verdict,
    /// The one figure of this check, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Unit of `value`: `ms`, `s`, `Gbit/s`, `bytes`, `bits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything else that was seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, serde_json::Value>,
}

impl Line {
    /// A result without a figure.
    pub fn new(check: impl Into<String>, result: Verdict) -> Self {
        Self { check: check.into(), result, value: None, unit: None, reason: None, detail: BTreeMap::new() }
    }

    /// A failure and its reason.
    pub fn fail(check: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(check, Verdict::Fail) }
    }

    /// Sets the figure, rounded to six decimals.
    pub fn value(mut self, value: f64, unit: &str) -> Self {
        self.value = Some((value * 1e6).round() / 1e6);
        self.unit = Some(unit.to_owned());
        self
    }

    /// Adds a detail.
    pub fn detail(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.detail.insert(key.to_owned(), value.into());
        self
    }

    /// The line as it goes over the console, without the line end.
    pub fn to_console(&self) -> String {
        match serde_json::to_string(self) {
            Ok(json) => format!("{MARK}{json}"),
            Err(e) => format!("{MARK}{{\"check\":\"line\",\"result\":\"fail\",\"reason\":\"{e}\"}}"),
        }
    }
}

/// What a line of the guest's console means.
#[derive(Clone, Debug, PartialEq)]
pub enum Console {
    /// A result.
    Line(Line),
    /// The agent has finished its plan.
    Done,
    /// It began like a result but is none: the kernel wrote into it, or the agent is of another version.
    Garbled(String),
    /// Kernel messages and the like.
    Other,
}

impl Console {
    /// Reads one line of the console. A message of the kernel may stand before the mark on the same line.
    pub fn parse(text: &str) -> Self {
        let Some((_, tail)) = text.split_once(MARK) else { return Self::Other };
        let tail = tail.trim();
        if tail == DONE {
            return Self::Done;
        }
        match serde_json::from_str(tail) {
            Ok(line) => Self::Line(line),
            Err(e) => Self::Garbled(format!("{e} in {tail:?}")),
        }
    }

    /// The last line of a run.
    pub fn done() -> String {
        format!("{MARK}{DONE}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_the_console() {
        let line = Line::new("ping4", Verdict::Pass).value(0.21, "ms").detail("received", 5);
        let text = line.to_console();
        assert_eq!(text, r#"@@ {"check":"ping4","result":"pass","value":0.21,"unit":"ms","detail":{"received":5}}"#);
        assert_eq!(Console::parse(&format!("{text}\r")), Console::Line(line.clone()));
        assert_eq!(Console::parse(&format!("[    1.0] random: crng init done{text}")), Console::Line(line));
    }

    #[test]
    fn other_lines_are_told_apart() {
        assert_eq!(Console::parse(&Console::done()), Console::Done);
        assert_eq!(Console::parse("Linux version 6.1"), Console::Other);
        assert!(matches!(Console::parse(r#"@@ {"check":"pi[ 1.0] oops"#), Console::Garbled(_)));
    }
}
