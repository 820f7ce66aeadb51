//! `cargo xtask dpdk`: DPDK's virtio-user port before DPDK's own vhost port, and before our daemon, in turn.

mod counted;
mod figures;
mod measure;
mod mix;
mod page;
mod plan;
mod report;
mod side;
mod table;

use crate::Failure;
use e2e::Workshop;
use e2e::daemon::Program;
use e2e::dpdk::{Dpdk, HugePages, Memory, processors};
use plan::{Group, Path};
use report::{Machine, Report};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Of the front ends' port.
const MAC: &str = "52:54:00:12:34:56";
/// Memory of each DPDK process, of which three run at a time, and the buffers in it.
const MEBIBYTES: u32 = 128;
const PROCESSES: u64 = 3;
const BUFFERS: u32 = 16_384;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A rough look in under two minutes: three paths, frames of 64 bytes, mergeable buffers only.
    #[arg(long)]
    quick: bool,
    /// Only this path, such as "packed in_order"; may be given several times.
    #[arg(long, value_name = "PATH", value_parser = path_name)]
    only: Vec<String>,
    /// Rounds, each of a sample of DPDK and one of ours [default: 5, quick: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    samples: Option<u8>,
    /// List the paths, and measure nothing.
    #[arg(long)]
    list: bool,
}

fn path_name(name: &str) -> Result<String, String> {
    let names = plan::LAYOUTS.map(|layout| layout.name);
    let known = names.contains(&name).then(|| name.to_owned());
    known.ok_or_else(|| format!("expected one of: {}", names.join(", ")))
}

impl Options {
    fn rounds(&self) -> usize {
        self.samples.map_or(if self.quick { 3 } else { 5 }, usize::from)
    }

    fn window(&self) -> Duration {
        Duration::from_millis(if self.quick { 250 } else { 400 })
    }
}

/// The processors: one for each end.
#[derive(Clone, Copy)]
struct Cpus {
    front: usize,
    back: usize,
}

/// What all rows share.
struct Bench {
    dpdk: Dpdk,
    daemon: Program,
    cpus: Cpus,
    memory: Memory,
    /// A file with frames of the mix.
    mix: PathBuf,
    folder: PathBuf,
    scratch: tempfile::TempDir,
    rounds: usize,
    window: Duration,
}

impl Bench {
    /// Where a process' output goes.
    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("log")
    }
}

/// Runs it.
pub(crate) fn run(options: &Options, root: &std::path::Path) -> Result<(), Failure> {
    let paths = Path::wanted(&options.only, options.quick);
    if options.list {
        paths.iter().for_each(|path| println!("{}", path.name()));
        return Ok(());
    }
    let cpus: Vec<usize> = processors().take(2).collect();
    let [front, back] = *cpus else {
        println!("skipped: this needs two processors, there is {}", cpus.len());
        return Ok(());
    };
    let mut say = |line: &str| println!("{line}");
    let dpdk = match Workshop::of_repository()?.prepare_dpdk(&mut say) {
        Ok(dpdk) => dpdk,
        Err(e @ (e2e::Error::NeedsRoot { .. } | e2e::Error::NoPackage { .. })) => {
            println!("skipped: {e}");
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    let daemon = Program::build(&mut say)?;
    let pages = huge_pages();
    let memory = Memory { huge: pages.is_some(), mebibytes: MEBIBYTES, buffers: BUFFERS };
    let folder = root.canonicalize()?.join("target/dpdk");
    fs::create_dir_all(&folder)?;
    let scratch = tempfile::tempdir()?;
    let mix = scratch.path().join("mix.pcap");
    fs::write(&mix, mix::frames())?;
    let (rounds, window) = (options.rounds(), options.window());
    let bench = Bench { dpdk, daemon, cpus: Cpus { front, back }, memory, mix, folder, scratch, rounds, window };
    let begin = Instant::now();
    let mut report = Report { machine: Machine::new(&bench), rows: Vec::new() };
    let done = measure::all(&bench, &paths, &Group::all(options.quick), &mut report);
    drop(pages);
    done?;
    finish(&bench, &report, begin.elapsed())
}

/// Huge pages for all processes, or a word why not.
fn huge_pages() -> Option<HugePages> {
    match HugePages::reserve(PROCESSES.saturating_mul(MEBIBYTES.into())) {
        Ok(pages) => {
            let (count, bytes) = pages.size();
            println!("{count} huge pages of {} MiB are set aside, and given back at the end", bytes >> 20);
            Some(pages)
        }
        Err(e) => {
            println!("no huge pages, for neither: {e}");
            None
        }
    }
}

/// Writes the files and prints the table.
fn finish(bench: &Bench, report: &Report, took: Duration) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report)? + "\n";
    fs::write(bench.folder.join("report.json"), json)?;
    fs::write(bench.folder.join("report.html"), page::page(report))?;
    println!("\n{}\n{}", table::markdown(&report.rows), table::remarks(&report.rows));
    println!("{:.0} s; report.json and report.html are in {}", took.as_secs_f64(), bench.folder.display());
    if report.rows.iter().any(|row| row.broken) { Err(Failure::Unsuccessful) } else { Ok(()) }
}
