//! The ring lab's program: `cargo xtask rings` builds and runs it.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use ring_benches::lab::options::Options;
use ring_benches::lab::run::{Ringtest, tables};
use ring_benches::lab::{entry, page, run};
use ring_benches::target_folder;

/// Measures the rings beside other layouts and other implementations.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Folder with the built programs of Linux's tools/virtio/ringtest.
    #[arg(long, value_name = "FOLDER")]
    ringtest: Option<PathBuf>,
    /// Why they are left out.
    #[arg(long, value_name = "WHY", default_value = "not asked for (--with-ringtest)")]
    without_ringtest: String,
}

fn main() -> ExitCode {
    match measure(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: Cli) -> Result<(), Box<dyn Error>> {
    if cli.options.list {
        for e in entry::all() {
            println!("{:<22} {:<13} {}", e.name, e.kind.word(), e.idea);
        }
        return Ok(());
    }
    // Asked for before anything is pinned.
    ring_benches::cores::pair();
    let ringtest = cli.ringtest.map_or(Ringtest::Skipped(cli.without_ringtest), Ringtest::Folder);
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {elapsed}")?);
    let report = run(&cli.options, &ringtest, &mut |done, all, what| {
        bar.set_length(all);
        bar.set_position(done);
        bar.set_message(what.to_owned());
    })?;
    bar.finish_and_clear();
    print!("{}", tables(&report));
    let folder = target_folder().join("rings");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
    std::fs::write(folder.join("report.html"), page::page(&report))?;
    println!("report.json and report.html are in {}", folder.display());
    Ok(())
}
