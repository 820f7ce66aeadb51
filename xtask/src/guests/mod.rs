//! `cargo xtask guests`: what one daemon costs as its guests become more.

mod linux;
mod measure;
mod report;

use crate::{Failure, interrupt, release};
use e2e::cost::raise_descriptor_limit;
use e2e::daemon::Program;
use e2e::dpdk::processors;
use e2e::front::Layout;
use report::Report;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often Ctrl-C is looked for.
const GLANCE: Duration = Duration::from_millis(100);

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer guests, fewer Linux ones: less than a minute.
    #[arg(long)]
    quick: bool,
    /// Numbers of guests [default: 1,10,100,1000; with --quick 1,10,100].
    #[arg(long, value_name = "N", value_delimiter = ',')]
    counts: Vec<usize>,
    /// Guests that are a Linux kernel of their own (User Mode Linux) [default: 10; with --quick 3].
    #[arg(long, value_name = "N")]
    linux: Option<usize>,
    /// Samples of each throughput.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    samples: u8,
    /// The daemon's threads for packets.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// Another daemon than the one that is built from this repository.
    #[arg(long, value_name = "PROGRAM", hide = true)]
    daemon: Option<PathBuf>,
}

/// What all parts of a run share.
struct Run {
    program: Program,
    layout: Layout,
    workers: u8,
    /// CPU of the front ends, and those of the daemon's workers.
    driver: usize,
    pinned: Vec<usize>,
    samples: usize,
    window: Duration,
    /// Time for which the processor time of an idle daemon is taken.
    idle: Duration,
    /// Where logs go.
    folder: PathBuf,
}

impl Run {
    fn new(options: &Options, root: &Path) -> Result<Self, Failure> {
        let folder = root.canonicalize()?.join("target/guests-cost");
        fs::create_dir_all(&folder)?;
        let program = match &options.daemon {
            Some(path) => Program::at(path),
            None => Program::build(&mut |line| println!("{line}"))?,
        };
        let cpus: Vec<usize> = processors().collect();
        let driver = cpus.first().copied().unwrap_or(0);
        // The workers have the other CPUs to themselves, the last ones first.
        let others = cpus.iter().rev().copied().filter(|cpu| *cpu != driver || cpus.len() == 1);
        Ok(Self {
            program,
            layout: Layout { packed: true, in_order: true, mergeable: true, ..Layout::default() },
            workers: options.workers,
            driver,
            pinned: others.take(options.workers.into()).collect(),
            samples: options.samples.into(),
            window: Duration::from_millis(if options.quick { 200 } else { 500 }),
            idle: Duration::from_secs(5),
            folder,
        })
    }

    /// The daemon's arguments for its workers.
    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let pinned: Vec<String> = self.pinned.iter().map(usize::to_string).collect();
        ["--workers", &self.workers.to_string(), "--pin", &pinned.join(","), "--log", "info"].map(Into::into).to_vec()
    }
}

/// Runs it.
pub(crate) fn run(options: &Options, root: &Path) -> Result<(), Failure> {
    if let Some(done) = release::again(root) {
        return done;
    }
    let begin = Instant::now();
    raise_descriptor_limit()?;
    let run = Run::new(options, root)?;
    let mut report = Report::new(&run);
    let usual: &[usize] = if options.quick { &[1, 10, 100] } else { &[1, 10, 100, 1000] };
    let counts = if options.counts.is_empty() { usual } else { &options.counts };
    for &count in counts {
        let row = measure::row(&run, count)?;
        println!("{}", row.describe());
        report.rows.push(row);
    }
    let linux = options.linux.unwrap_or(if options.quick { 3 } else { 10 });
    if linux > 0 {
        report.linux = Some(linux::measure(&run, linux)?);
    }
    fs::write(run.folder.join("report.json"), report.to_json()?)?;
    println!("\n{}", report.markdown());
    println!(
        "{:.0} s; report.json and the daemons' logs are in {}",
        begin.elapsed().as_secs_f64(),
        run.folder.display()
    );
    if report.linux.as_ref().is_none_or(linux::Linux::passed) { Ok(()) } else { Err(Failure::Unsuccessful) }
}

/// Waits, unless it is interrupted.
fn pause(time: Duration) -> Result<(), Failure> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        sleep(GLANCE.min(time.saturating_sub(begin.elapsed())));
    }
    Ok(())
}

/// Processor time of a process over this long, in percent of one processor.
fn load(id: u32, time: Duration) -> Result<f64, Failure> {
    let (before, begin) = (e2e::cost::processor_time(id)?, Instant::now());
    pause(time)?;
    let (after, took) = (e2e::cost::processor_time(id)?, begin.elapsed());
    Ok(100.0 * after.saturating_sub(before).as_secs_f64() / took.as_secs_f64())
}
