//! Which tests show which row, and what that says of the rows.

use super::libtest::{State, Tested};
use e2e::conformance::{Id, Level, Row, ids};
use std::fmt::Write as _;

/// What the tests say of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// A test passed, and none failed.
    Pass,
    /// A test failed.
    Fail,
    /// There are tests, and none did anything.
    NotRun,
    /// There is none.
    NoTest,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotRun => "not run",
            Self::NoTest => "no test",
        }
    }
}

/// All rows with their tests.
#[derive(Debug)]
pub(crate) struct Judgement<'a> {
    rows: Vec<(&'a Row, Vec<&'a Tested>)>,
    /// Names of tests with an id that no row has.
    strays: Vec<String>,
}

impl<'a> Judgement<'a> {
    pub(crate) fn new(rows: &'a [Row], tests: &'a [Tested]) -> Self {
        let named: Vec<(Vec<Id>, &Tested)> = tests.iter().map(|test| (ids(&test.name), test)).collect();
        let known = |id: &Id| rows.iter().any(|row| row.id == *id);
        let stray = |(ids, test): &(Vec<Id>, &Tested)| {
            let unknown = ids.iter().find(|id| !known(id))?;
            Some(format!("{} names {unknown}, which is no row of conformance/rows.txt", test.name))
        };
        let of = |row: &Row| named.iter().filter(|(ids, _)| ids.contains(&row.id)).map(|(_, test)| *test).collect();
        Self { rows: rows.iter().map(|row| (row, of(row))).collect(), strays: named.iter().filter_map(stray).collect() }
    }

    /// Every MUST has a passing test and no failing one, and no test has a name of nothing.
    pub(crate) fn is_good(&self) -> bool {
        self.strays.is_empty() && self.faults(Level::Must).next().is_none()
    }

    /// All rows: clause, level, id, whether the feature is offered, result, tests.
    pub(crate) fn table(&self) -> String {
        let mut text = line(["clause", "level", "id", "offered", "result", "tests"]);
        for (row, tests) in &self.rows {
            let offered = if row.offered { "" } else { "not offered" };
            let (level, id) = (row.level.to_string(), row.id.to_string());
            let mut names = tests.iter().map(|test| described(test));
            let first = names.next().unwrap_or_else(|| format!("({})", row.rule));
            text += &line([&row.clause, &level, &id, offered, verdict(tests).word(), &first]);
            for name in names {
                text += &line(["", "", "", "", "", &name]);
            }
        }
        text
    }

    /// What is not as it should be, and counts by level.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        for stray in &self.strays {
            text += &format!("error: {stray}\n");
        }
        for level in Level::ALL {
            for (row, verdict) in self.faults(level) {
                let _ = writeln!(text, "{level} {} {}: {} ({})", row.id, verdict.word(), row.clause, row.rule);
            }
        }
        for level in Level::ALL {
            let of_level = || self.rows.iter().filter(move |(row, _)| row.level == level);
            let count = |wanted: Verdict| of_level().filter(|(_, tests)| verdict(tests) == wanted).count();
            let absent = of_level().filter(|(row, tests)| !row.offered && verdict(tests) == Verdict::Pass).count();
            let _ = writeln!(
                text,
                "{level:<6} {:>3} rows: {} pass ({absent} of them: not offered), {} fail, {} not run, {} without a test",
                of_level().count(),
                count(Verdict::Pass),
                count(Verdict::Fail),
                count(Verdict::NotRun),
                count(Verdict::NoTest),
            );
        }
        text
    }

    fn faults(&self, level: Level) -> impl Iterator<Item = (&Row, Verdict)> {
        let judged = self.rows.iter().map(|(row, tests)| (*row, verdict(tests)));
        judged.filter(move |(row, verdict)| row.level == level && *verdict != Verdict::Pass)
    }
}

fn verdict(tests: &[&Tested]) -> Verdict {
    let any = |state: State| tests.iter().any(|test| test.state == state);
    if any(State::Failed) {
        Verdict::Fail
    } else if any(State::Passed) {
        Verdict::Pass
    } else if tests.is_empty() {
        Verdict::NoTest
    } else {
        Verdict::NotRun
    }
}

fn described(test: &Tested) -> String {
    let word = match test.state {
        State::Passed => "",
        State::Failed => " (FAILED)",
        State::Ignored => " (ignored)",
        State::Skipped => " (skipped)",
    };
    format!("{}{word}", test.name)
}

fn line([clause, level, id, offered, result, tests]: [&str; 6]) -> String {
    format!("{clause:<42} {level:<6} {id:<4} {offered:<11} {result:<7} {tests}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, level: Level) -> Row {
        Row { id: id.parse().unwrap(), level, offered: true, clause: "Clause".to_owned(), rule: "rule".to_owned() }
    }

    fn tested(name: &str, state: State) -> Tested {
        Tested { name: name.to_owned(), state }
    }

    #[test]
    fn a_must_wants_a_passing_test_and_no_failing_one() {
        let rows = [row("G1", Level::Must), row("S3", Level::Should)];
        for (tests, good) in [
            (vec![tested("g1_a", State::Passed)], true),
            (vec![tested("g1_a", State::Passed), tested("g1_b", State::Failed)], false),
            (vec![tested("g1_a", State::Failed)], false),
            (vec![tested("g1_a", State::Ignored)], false),
            (vec![tested("g1_a", State::Skipped)], false),
            (vec![tested("g1_a", State::Skipped), tested("g1_a", State::Passed)], true),
            (vec![tested("s3_a", State::Passed)], false),
            (vec![tested("g1_s3_a", State::Passed), tested("unnamed", State::Failed)], true),
        ] {
            assert_eq!(Judgement::new(&rows, &tests).is_good(), good, "{tests:?}");
        }
    }

    #[test]
    fn a_should_without_a_test_is_listed_and_no_failure() {
        let rows = [row("G1", Level::Must), row("S3", Level::Should)];
        let tests = [tested("g1_a", State::Passed)];
        let judged = Judgement::new(&rows, &tests);
        assert!(judged.is_good());
        let summary = judged.summary();
        assert!(summary.contains("SHOULD S3 no test: Clause (rule)\n"), "{summary}");
        assert!(summary.contains("MUST     1 rows: 1 pass"), "{summary}");
    }

    #[test]
    fn a_failing_must_is_named() {
        let rows = [row("G1", Level::Must)];
        let tests = [tested("a::g1_a", State::Failed)];
        let judged = Judgement::new(&rows, &tests);
        assert!(!judged.is_good() && judged.summary().contains("MUST G1 FAIL"), "{}", judged.summary());
        assert!(judged.table().contains("FAIL    a::g1_a (FAILED)"), "{}", judged.table());
    }

    #[test]
    fn a_name_of_no_row_is_an_error() {
        let rows = [row("G1", Level::Must)];
        let tests = [tested("g1_g18_a", State::Passed)];
        let judged = Judgement::new(&rows, &tests);
        assert!(!judged.is_good() && judged.summary().contains("g1_g18_a names G18"), "{}", judged.summary());
    }

    #[test]
    fn what_is_not_offered_has_its_own_column() {
        let rows = [Row { offered: false, ..row("G13", Level::Must) }];
        let tests = [tested("g13_a", State::Passed)];
        let judged = Judgement::new(&rows, &tests);
        assert!(judged.table().contains("MUST   G13  not offered pass    g13_a"), "{}", judged.table());
        assert!(judged.summary().contains("(1 of them: not offered)"));
        assert!(!Judgement::new(&rows, &[]).is_good());
    }
}
