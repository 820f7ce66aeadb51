//! What the user sees while it runs: lines, and below them what is being done, if there is a terminal for that.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::OnceCell;
use std::io::IsTerminal;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Default)]
pub(crate) struct Screen {
    /// Never there without a terminal: then there are only lines.
    spinner: OnceCell<ProgressBar>,
}

impl Screen {
    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        match self.spinner.get() {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    /// What is being done.
    pub(crate) fn now(&self, what: &str) {
        if std::io::stderr().is_terminal() {
            // Not before this: what installs and builds shows its own progress.
            self.spinner.get_or_init(spinner).set_message(what.to_owned());
        }
    }

    /// No more of it.
    pub(crate) fn end(&self) {
        if let Some(bar) = self.spinner.get() {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    bar
}
