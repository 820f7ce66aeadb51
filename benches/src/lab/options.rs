//! The options of `cargo xtask rings`, which are also those of the program that it runs.

/// What to measure, and how long.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// A rough look in less than a minute: fewer experiments, shorter samples.
    #[arg(long)]
    pub quick: bool,
    /// Only this layout or baseline; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Lists layouts and baselines, and measures nothing.
    #[arg(long)]
    pub list: bool,
    /// Samples of each figure [default: 9, quick 5].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub samples: Option<u16>,
}

impl Options {
    /// As words of a command line.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.quick {
            words.push("--quick".to_owned());
        }
        for name in &self.only {
            words.extend(["--only".to_owned(), name.clone()]);
        }
        if self.list {
            words.push("--list".to_owned());
        }
        if let Some(samples) = self.samples {
            words.extend(["--samples".to_owned(), samples.to_string()]);
        }
        words
    }
}
