//! What the user sees while it runs: lines, and below them what is being done, if there is a terminal for that.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Screen {
    /// `None` without a terminal: then there are only lines.
    spinner: Option<ProgressBar>,
}

impl Screen {
    /// Shows what is done on a terminal.
    pub(crate) fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { spinner }
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        match &self.spinner {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
        self.now("");
    }

    /// What is being done.
    pub(crate) fn now(&self, what: &str) {
        if let Some(bar) = &self.spinner {
            bar.set_message(what.to_owned());
        }
    }

    /// No more of it.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.spinner {
            bar.finish_and_clear();
        }
    }
}
