//! Runs cases one after the other.

use super::cases;
use super::outcome::{Check, Stop};
use super::report::Report;
use super::ring::Format;
use super::rows::{Id, Level, Row};
use super::target::{Returns, Target};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a case does.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// Something about the device as a whole.
    Once(fn(&Target) -> Check),
    /// Something about rings, split and packed.
    Rings(fn(&Target, Format) -> Check),
    /// A driver or a front end that does harm. What becomes of it does not matter; the device side must serve the next one.
    Hostile(fn(&Target, Format) -> Check),
}

/// One case. The ids at the front of its name are those of the rows that it shows.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) run: Run,
    /// Other than that of its rows.
    pub(super) level: Option<Level>,
}

impl Case {
    pub(super) const fn once(name: &'static str, run: fn(&Target) -> Check) -> Self {
        Self { name, run: Run::Once(run), level: None }
    }

    pub(super) const fn rings(name: &'static str, run: fn(&Target, Format) -> Check) -> Self {
        Self { name, run: Run::Rings(run), level: None }
    }

    pub(super) const fn hostile(name: &'static str, run: fn(&Target, Format) -> Check) -> Self {
        Self { name, run: Run::Hostile(run), level: None }
    }

    fn finding(&self, rows: &[Row], rings: &'static str, verdict: Verdict) -> Finding {
        let ids = super::ids(self.name);
        let levels = ids.iter().filter_map(|id| rows.iter().find(|row| row.id == *id).map(|row| row.level));
        let level = self.level.unwrap_or(levels.min().unwrap_or(self.of_no_row()));
        Finding { ids, name: self.name, rings, level, verdict }
    }

    /// A device side that dies is no good; for the rest of what no clause asks it is a matter of opinion.
    const fn of_no_row(&self) -> Level {
        if matches!(self.run, Run::Hostile(_)) { Level::Must } else { Level::Fact }
    }

    /// The clause asks less of this than of the rest of its row.
    pub(super) const fn should(self) -> Self {
        Self { level: Some(Level::Should), ..self }
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the rule asks.
    Pass,
    /// Not so: what was seen.
    Fail(String),
    /// The rule cannot be seen here: why.
    NotApplicable(String),
}

impl Verdict {
    fn of(check: Check) -> Self {
        match check {
            Ok(()) => Self::Pass,
            Err(Stop::Fail(seen)) => Self::Fail(seen),
            Err(Stop::NotApplicable(why)) => Self::NotApplicable(why),
        }
    }
}

/// One case on one kind of rings.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Rows that it shows.
    pub ids: Vec<Id>,
    /// The case.
    pub name: &'static str,
    /// `split`, `packed` or nothing.
    pub rings: &'static str,
    /// The strongest of its rows. Of those without a row, hostile ones are a [`Level::Must`], the others a [`Level::Fact`].
    pub level: Level,
    /// How it ended.
    pub verdict: Verdict,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Where the device side listens.
    pub socket: PathBuf,
    /// Only cases with this in their name.
    pub only: Option<String>,
    /// Also those that do harm.
    pub hostile: bool,
}

impl Suite {
    /// Every case.
    pub fn new(socket: impl AsRef<Path>) -> Self {
        Self { socket: socket.as_ref().to_owned(), only: None, hostile: true }
    }

    fn has(&self, case: &Case) -> bool {
        let named = self.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()));
        named && (self.hostile || !matches!(case.run, Run::Hostile(_)))
    }

    /// Runs it. `say` is told how each case ended.
    ///
    /// # Errors
    /// Nobody listens there, the device side does not do so much as a frame, or the table of rows is broken.
    pub fn run(&self, say: &mut dyn FnMut(&str)) -> Result<Report, String> {
        let rows = super::rows()?;
        let target = Target::probe(&self.socket).map_err(|stop| match stop {
            Stop::Fail(why) | Stop::NotApplicable(why) => format!("{}: {why}", self.socket.display()),
        })?;
        let mut findings = Vec::new();
        let mut gone = None;
        for case in cases::all().filter(|case| self.has(case)) {
            for (rings, run) in each(&case) {
                let verdict = match gone {
                    Some(since) => Verdict::NotApplicable(format!("nobody listens any more since {since}")),
                    None => Verdict::of(run(&target)),
                };
                if gone.is_none() && matches!(verdict, Verdict::Fail(_)) && !target.is_back() {
                    gone = Some(case.name);
                }
                let finding = case.finding(&rows, rings, verdict);
                say(&finding.to_string());
                findings.push(finding);
            }
        }
        let frames = target.returns != Returns::Never;
        Ok(Report { rows, findings, about: about(&target), frames, commands: target.control })
    }
}

/// A hostile driver waits no longer than this for what it did not deserve.
const HASTE: Duration = Duration::from_millis(500);

type Step<'a> = Box<dyn Fn(&Target) -> Check + 'a>;

/// The runs of a case.
fn each(case: &Case) -> Vec<(&'static str, Step<'_>)> {
    let formats = [("split", Format::Split), ("packed", Format::Packed)];
    match case.run {
        Run::Once(run) => vec![("", Box::new(run))],
        Run::Rings(run) => formats
            .map(|(word, format)| (word, Box::new(move |target: &Target| run(target, format)) as Step<'_>))
            .into(),
        Run::Hostile(run) => formats
            .map(|(word, format)| {
                let step = move |target: &Target| {
                    if format == Format::Packed {
                        target.needs(virtio_net_core::Features::RING_PACKED)?;
                    }
                    let hasty = Target { patience: HASTE, ..target.clone() };
                    match run(&hasty, format) {
                        // What a hostile driver sees of it is its own affair.
                        Ok(()) | Err(Stop::Fail(_)) => {}
                        Err(other) => return Err(other),
                    }
                    target.lives().map_err(|stop| match stop {
                        Stop::Fail(why) => Stop::Fail(format!("the next driver is not served: {why}")),
                        other => other,
                    })
                };
                (word, Box::new(step) as Step<'_>)
            })
            .into(),
    }
}

fn about(target: &Target) -> String {
    format!(
        "offers {}; frames come back: {:?}; control queue: {}",
        target.features(),
        target.returns,
        if target.control { "answers" } else { "does not answer" }
    )
}
