//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, one after the other, and what came of it.

mod output;
mod report;
mod toolchain;

use crate::{Failure, interrupt};
use fuzz_cases::{TARGETS, Target, seeds};
use output::Progress;
use report::Row;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use toolchain::Toolchain;

/// Longest input, in bytes: no target reads on for longer.
const MAX_LEN: u32 = 1024;
/// Seconds that one input may take.
const TIMEOUT: u32 = 10;
/// How often ended jobs and Ctrl-C are looked for, and how often the screen is told.
const GLANCE: Duration = Duration::from_millis(200);
const NEWS: Duration = Duration::from_secs(10);

/// What to run, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One target; all of them if there is none.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.iter().map(|t| t.name)))]
    target: Option<String>,
    /// Minutes for each target; a part of one may be given.
    #[arg(long, default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// Processes for each target, on one corpus.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Names the targets, and runs none.
    #[arg(long)]
    list: bool,
    /// Writes the seeds to fuzz/seeds, and runs nothing.
    #[arg(long, conflicts_with = "list")]
    seeds: bool,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|e| format!("{e}"))?;
    let seconds = (minutes * 60.0).ceil();
    if (1.0..=1e6).contains(&seconds) { Ok(Duration::from_secs(seconds as u64)) } else { Err("more than 0".to_owned()) }
}

/// Where things are.
struct Folders {
    fuzz: PathBuf,
    /// Logs, the report, and new inputs until they are merged.
    out: PathBuf,
}

impl Folders {
    fn of(&self, kind: &str, target: &Target) -> io::Result<PathBuf> {
        let folder = self.fuzz.join(kind).join(target.name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// Runs it.
pub(crate) fn run(options: &Options, root: &Path) -> Result<(), Failure> {
    let root = root.canonicalize()?;
    if options.list {
        TARGETS.iter().for_each(|t| println!("{:<14} {}", t.name, t.about));
        return Ok(());
    }
    if options.seeds {
        return Ok(write_seeds(&root.join("fuzz/seeds"))?);
    }
    let folders = Folders { fuzz: root.join("fuzz"), out: root.join("target/fuzz") };
    fs::create_dir_all(&folders.out)?;
    let tools = Toolchain::prepare(&root)?;
    let programs = tools.build(&folders.fuzz)?;
    let mut rows = Vec::new();
    for target in TARGETS.iter().filter(|t| options.target.as_ref().is_none_or(|name| name == t.name)) {
        rows.push(fuzz(target, &programs, &folders, options)?);
    }
    fs::write(folders.out.join("report.json"), report::to_json(&rows)?)?;
    println!("\n{}", report::table(&rows));
    println!("report.json and the logs are in {}", folders.out.display());
    let crashes: Vec<_> = rows.iter().flat_map(|r| r.crashes.iter().map(|c| (r.target, c))).collect();
    for (target, crash) in &crashes {
        println!("{}", report::how_to_replay(target, crash));
    }
    if crashes.is_empty() { Ok(()) } else { Err(Failure::Unsuccessful) }
}

/// Fuzzes one target, and merges what it found into the corpus.
fn fuzz(target: &Target, programs: &Path, folders: &Folders, options: &Options) -> Result<Row, Failure> {
    let program = programs.join(target.name);
    let (corpus, seeds) = (folders.of("corpus", target)?, folders.of("seeds", target)?);
    let fresh = folders.out.join("fresh").join(target.name);
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh)?;
    let artifacts = format!("-artifact_prefix={}/", folders.of("artifacts", target)?.display());
    println!("{}: {} s, {} at a time", target.name, options.minutes.as_secs(), options.jobs);
    let begin = Instant::now();
    let mut logs = Vec::new();
    let mut jobs = Jobs(Vec::new());
    for job in 0..options.jobs {
        let log = folders.out.join(format!("{}-{job}.log", target.name));
        let mut command = Command::new(&program);
        command.args([&fresh, &corpus, &seeds]).arg(&artifacts).args([
            format!("-max_total_time={}", options.minutes.as_secs()),
            format!("-max_len={MAX_LEN}"),
            format!("-timeout={TIMEOUT}"),
            // Jobs take over what the others found.
            format!("-reload={}", u8::from(options.jobs > 1)),
            "-print_final_stats=1".to_owned(),
        ]);
        jobs.0.push(start(command, &log)?);
        logs.push(log);
    }
    let ended = jobs.wait(&logs, target.name)?;
    let took = begin.elapsed();
    let progress = read(&logs)?;
    if ended.iter().any(|ok| !ok) && progress.crashes.is_empty() {
        return Err(format!("{} neither crashed nor succeeded: see its log in target/fuzz", target.name).into());
    }
    let mut merge = Command::new(&program);
    merge.arg("-merge=1").arg(&artifacts).arg(format!("-timeout={TIMEOUT}")).args([&corpus, &fresh, &seeds]);
    let log = folders.out.join(format!("{}-merge.log", target.name));
    Jobs(vec![start(merge, &log)?]).wait(&[], target.name)?;
    Ok(Row::new(target.name, &progress, took, fs::read_dir(&corpus)?.count()))
}

fn start(mut command: Command, log: &Path) -> io::Result<Child> {
    command.env("ASAN_OPTIONS", "detect_odr_violation=0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?).spawn()
}

fn read(logs: &[PathBuf]) -> io::Result<Progress> {
    let mut sum = Progress::default();
    for log in logs {
        // A crash may print anything.
        sum.add(Progress::of(&String::from_utf8_lossy(&fs::read(log)?)));
    }
    Ok(sum)
}

/// Processes; those that still run when this is dropped are ended.
struct Jobs(Vec<Child>);

impl Jobs {
    /// Waits for all of them and tells what is in `logs` meanwhile; whether each succeeded.
    fn wait(mut self, logs: &[PathBuf], name: &str) -> Result<Vec<bool>, Failure> {
        let mut told = Instant::now();
        loop {
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            let mut ended = Vec::new();
            for job in &mut self.0 {
                ended.extend(job.try_wait()?.map(|status| status.success()));
            }
            if ended.len() == self.0.len() {
                return Ok(ended);
            }
            if told.elapsed() >= NEWS && !logs.is_empty() {
                told = Instant::now();
                let now = read(logs)?;
                println!("{name}: {} executions, coverage {}", now.executions, now.coverage);
            }
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        for job in &mut self.0 {
            // Fails for what has ended.
            let _ = job.kill();
            let _ = job.wait();
        }
    }
}

fn write_seeds(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let all = seeds::all();
    for seed in &all {
        fs::create_dir_all(folder.join(seed.target))?;
        fs::write(folder.join(seed.target).join(seed.name), &seed.bytes)?;
    }
    println!("{} seeds in {}", all.len(), folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_may_be_parts() {
        assert_eq!(minutes("10"), Ok(Duration::from_secs(600)));
        assert_eq!(minutes("0.1"), Ok(Duration::from_secs(6)));
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(minutes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seeds_replace_what_was_there() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let old = folder.path().join("seeds/old");
        fs::create_dir_all(&old)?;
        write_seeds(&folder.path().join("seeds"))?;
        assert!(!old.exists());
        assert_eq!(fs::read_dir(folder.path().join("seeds"))?.count(), TARGETS.len());
        Ok(())
    }
}
