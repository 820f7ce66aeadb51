//! `cargo xtask test`: one step after the other, and a summary. A failure does not keep the others from running.

mod steps;

use crate::{Failure, interrupt};
use e2e::netns;
use std::path::Path;
use std::time::{Duration, Instant};

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Done {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs all steps.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let begin = Instant::now();
    let (mut done, mut tests) = (Vec::new(), Vec::new());
    for step in steps::ALL {
        println!("\n== {}: {}", step.name, step.about);
        let begun = Instant::now();
        let outcome = (step.run)(root, &mut tests);
        if interrupt::requested() {
            netns::remove_orphans();
            return Err(Failure::Interrupted);
        }
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => println!("failed: {why}"),
            Outcome::Skipped(why) => println!("skipped: {why}"),
        }
        done.push(Done { name: step.name, outcome, took: begun.elapsed() });
    }
    netns::remove_orphans();
    print!("{}", summary(&done, begin.elapsed()));
    let failed = done.iter().any(|d| matches!(d.outcome, Outcome::Failed(_)));
    if failed { Err(Failure::Unsuccessful) } else { Ok(()) }
}

fn summary(done: &[Done], took: Duration) -> String {
    let mut text = "\nSummary\n".to_owned();
    for Done { name, outcome, took } in done {
        let (word, why) = match outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Failed(why) => ("FAILED", format!(": {why}")),
            Outcome::Skipped(why) => ("skipped", format!(": {why}")),
        };
        text += &format!("{name:<8} {:>7.1} s  {word}{why}\n", took.as_secs_f64());
    }
    let count = |wanted: fn(&Outcome) -> bool| done.iter().filter(|d| wanted(&d.outcome)).count();
    let failed = count(|o| matches!(o, Outcome::Failed(_)));
    let skipped = count(|o| matches!(o, Outcome::Skipped(_)));
    let passed = count(|o| matches!(o, Outcome::Passed));
    let word = if failed == 0 { "ok" } else { "FAILED" };
    text + &format!(
        "{word}: {passed} steps passed, {failed} failed, {skipped} skipped in {:.0} s\n",
        took.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_say_what_was_skipped_and_why() {
        let done = |name, outcome| Done { name, outcome, took: Duration::from_millis(1500) };
        let all = [
            done("fmt", Outcome::Passed),
            done("deny", Outcome::Skipped("cargo-deny is not installed".to_owned())),
            done("units", Outcome::Failed("exit status: 101".to_owned())),
        ];
        let text = summary(&all, Duration::from_secs(90));
        assert!(text.contains("deny         1.5 s  skipped: cargo-deny is not installed\n"), "{text}");
        assert!(text.ends_with("FAILED: 1 steps passed, 1 failed, 1 skipped in 90 s\n"), "{text}");
        assert!(summary(&all[..2], Duration::ZERO).contains("\nok: 1 steps passed"));
    }
}
