//! What was found, as a table.

use super::rows::{Level, Row};
use super::suite::{Finding, Verdict};
use std::fmt::{self, Write as _};

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) findings: Vec<Finding>,
    /// What the device side offers.
    pub(super) about: String,
    pub(super) frames: bool,
    pub(super) commands: bool,
}

impl Report {
    /// The device side as a line: what it offers, and whether frames and commands come back.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Frames that are sent come back: without that, many rules do not show.
    pub const fn frames_come_back(&self) -> bool {
        self.frames
    }

    /// There is a control queue, and it answers.
    pub const fn commands_are_answered(&self) -> bool {
        self.commands
    }

    /// All findings.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// No MUST fails.
    pub fn is_good(&self) -> bool {
        !self.findings.iter().any(|f| f.level == Level::Must && matches!(f.verdict, Verdict::Fail(_)))
    }

    /// Clause, level, ids, rings, result, case; below it what was seen instead, and what the rule wants.
    pub fn table(&self) -> String {
        let mut text = line(["clause", "level", "id", "rings", "result", "case"]);
        for finding in &self.findings {
            let rows: Vec<&Row> = finding.ids.iter().filter_map(|id| self.rows.iter().find(|r| r.id == *id)).collect();
            let none = if finding.level == Level::Must { "(hostile peers)" } else { "(no clause)" };
            let clause = rows.first().map_or(none, |row| row.clause.as_str());
            let ids = ids(finding);
            let (word, note) = match &finding.verdict {
                Verdict::Pass => ("pass", None),
                Verdict::Fail(seen) => ("FAIL", Some(format!("seen: {seen}"))),
                Verdict::NotApplicable(why) => ("n/a", Some(why.clone())),
            };
            let level = finding.level.to_string();
            text += &line([clause, &level, &ids, finding.rings, word, finding.name]);
            text += &note.map(|note| format!("    {note}\n")).unwrap_or_default();
            if word == "FAIL" {
                for row in rows {
                    let _ = writeln!(text, "    {} wants: {}", row.id, row.rule);
                }
            }
        }
        text
    }

    /// Counts by level.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for level in Level::ALL {
            let of_level = || self.findings.iter().filter(move |f| f.level == level);
            let count = |wanted: fn(&Verdict) -> bool| of_level().filter(|f| wanted(&f.verdict)).count();
            let _ = writeln!(
                text,
                "{level:<6} {:>3} cases: {} pass, {} fail, {} not applicable",
                of_level().count(),
                count(|v| *v == Verdict::Pass),
                count(|v| matches!(v, Verdict::Fail(_))),
                count(|v| matches!(v, Verdict::NotApplicable(_))),
            );
        }
        text
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "FAIL",
            Verdict::NotApplicable(_) => "n/a",
        };
        write!(f, "{:<6} {:<6} {word:<4} {}", self.level, self.rings, self.name)?;
        match &self.verdict {
            Verdict::Pass => Ok(()),
            Verdict::Fail(why) | Verdict::NotApplicable(why) => write!(f, ": {why}"),
        }
    }
}

fn ids(finding: &Finding) -> String {
    finding.ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn line([clause, level, id, rings, result, case]: [&str; 6]) -> String {
    format!("{clause:<42} {level:<6} {id:<15} {rings:<6} {result:<6} {case}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level, verdict: Verdict) -> Finding {
        Finding { ids: vec!["G3".parse().unwrap()], name: "g3_x", rings: "split", level, verdict }
    }

    fn report(findings: Vec<Finding>) -> Report {
        Report { rows: super::super::rows().unwrap(), findings, about: String::new(), frames: true, commands: true }
    }

    #[test]
    fn only_a_failing_must_is_a_failure() {
        let fail = || Verdict::Fail("this".to_owned());
        assert!(!report(vec![finding(Level::Must, fail())]).is_good());
        assert!(report(vec![finding(Level::Should, fail()), finding(Level::Must, Verdict::Pass)]).is_good());
        assert!(report(vec![finding(Level::Must, Verdict::NotApplicable("why".to_owned()))]).is_good());
    }

    #[test]
    fn a_failure_says_what_was_seen_and_what_the_rule_wants() {
        let report = report(vec![finding(Level::Must, Verdict::Fail("an edge".to_owned()))]);
        let table = report.table();
        assert!(table.contains("    seen: an edge\n    G3 wants: never offer a feature"), "{table}");
        assert!(report.summary().starts_with("MUST     1 cases: 0 pass, 1 fail"), "{}", report.summary());
    }
}
