//! `cargo xtask dpdk`: DPDK's virtio-user port before DPDK's own vhost port, and before our daemon, in turn.

mod counted;
mod figures;
mod page;
mod plan;
mod report;
mod side;
mod table;

use crate::{Failure, interrupt};
use counted::Counted;
use e2e::Workshop;
use e2e::daemon::Program;
use e2e::dpdk::{Dpdk, HugePages, Memory, processors};
use plan::{Group, Path, Size};
use report::{Machine, Report, Row};
use side::{Sample, Side};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Of the front ends' port.
const MAC: &str = "52:54:00:12:34:56";
/// Memory of each DPDK process, of which three run at a time, and the buffers in it.
const MEBIBYTES: u32 = 128;
const PROCESSES: u64 = 3;
const BUFFERS: u32 = 16_384;
const NARROW: &str = "this processor has no AVX-512, which DPDK's vector path for packed rings needs";
/// Frames in the file of the mix.
const MIXED: usize = 1023;

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
    fs::write(&mix, mixed_frames())?;
    let (rounds, window) = (options.rounds(), options.window());
    let bench = Bench { dpdk, daemon, cpus: Cpus { front, back }, memory, mix, folder, scratch, rounds, window };
    let begin = Instant::now();
    let mut report = Report { machine: machine(&bench), rows: Vec::new() };
    let done = measure_all(&bench, &paths, &Group::all(options.quick), &mut report);
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

fn measure_all(bench: &Bench, paths: &[Path], groups: &[Group], report: &mut Report) -> Result<(), Failure> {
    let total = groups.iter().map(|g| g.sizes.len()).sum::<usize>().saturating_mul(paths.len());
    for path in paths {
        for group in groups {
            let first = report.rows.len();
            if path.layout.wide && !avx512() {
                let skipped = |size: &Size| Row::skipped(*path, group.direction, *size, NARROW);
                report.rows.extend(group.sizes.iter().map(skipped));
            } else if let Err(why) = measure(bench, *path, *group, report) {
                if interrupt::requested() {
                    return Err(Failure::Interrupted);
                }
                // Those before it are good; the others are not there.
                let missing = group.sizes.iter().skip(report.rows.len().saturating_sub(first));
                let broken = |size: &Size| Row::broken(*path, group.direction, *size, &why);
                report.rows.extend(missing.map(broken));
            }
            for (i, row) in report.rows.iter().enumerate().skip(first) {
                println!("{:>3}/{total} {}", i.saturating_add(1), progress(row));
            }
        }
    }
    Ok(())
}

fn progress(row: &Row) -> String {
    let name = row.name();
    match (&row.skipped, row.dpdk_mpps.zip(row.ours_mpps)) {
        (Some(why), _) => format!("{name}: skipped: {why}"),
        (None, Some((dpdk, ours))) => {
            format!("{name}: DPDK {dpdk:.2} Mpps, ours {ours:.2}, ratio {}", table::number(row.ratio, 2))
        }
        (None, None) => name,
    }
}

/// Measures the rows of one group with one pair of processes each.
fn measure(bench: &Bench, path: Path, group: Group, report: &mut Report) -> Result<(), String> {
    let mut sides = [
        Side::dpdk(bench, path, group).map_err(|e| e.to_string())?,
        Side::ours(bench, path, group).map_err(|e| e.to_string())?,
    ];
    if let [dpdk, _] = &sides
        && report.machine.dpdk.is_empty()
    {
        report.machine.dpdk = dpdk.said("RTE Version:").unwrap_or_default().trim_matches('\'').to_owned();
    }
    for size in group.sizes {
        report.rows.push(measure_row(bench, &mut sides, (path, group), *size)?);
    }
    sides.into_iter().try_for_each(Side::end).map_err(|e| e.to_string())
}

/// One row: a round that counts cycles and warms up, and then the others.
fn measure_row(bench: &Bench, sides: &mut [Side; 2], what: (Path, Group), size: Size) -> Result<Row, String> {
    let (path, group) = what;
    let mut samples: [Vec<Sample>; 2] = Default::default();
    let mut row = Row::new(path, group.direction, size);
    let told = |e: e2e::Error| e.to_string();
    for side in sides.iter_mut() {
        side.prepare(size).map_err(told)?;
    }
    for round in 0..=bench.rounds {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            if interrupt::requested() {
                return Err("interrupted".to_owned());
            }
            side.record(round == 0).map_err(told)?;
            let sample = side.sample(size, bench.window).map_err(told)?;
            if round == 0 {
                row.dpdk_cycles = row.dpdk_cycles.or(sample.cycles);
            } else {
                samples.push(sample);
            }
        }
    }
    let [dpdk, ours] = &samples;
    row.fill(dpdk, ours);
    let [theirs, mine] = sides;
    [row.tx_path, row.rx_path] = mine.paths();
    row.notes = theirs.account().map_err(told)?.notes;
    let account = mine.account().map_err(told)?;
    row.notes.extend(account.notes);
    row.notes.extend(odd(&row, size));
    row.ours_cycles = cycles(&account.back);
    Ok(row)
}

/// Cycles for each frame; one that goes around counts once.
fn cycles(back: &Counted) -> Option<f64> {
    let frames = back.taken.max(back.given);
    back.busy_cycles.filter(|_| frames > 0).map(|busy| busy as f64 / frames as f64)
}

/// What is wrong with the frames themselves.
fn odd(row: &Row, size: Size) -> Vec<String> {
    let mut notes = Vec::new();
    let sides = [("dpdk", row.dpdk, row.dpdk_bytes), ("ours", row.ours, row.ours_bytes)];
    for (who, rate, bytes) in sides {
        if rate.is_none_or(|rate| rate.min <= 0.0) {
            notes.push(format!("{who}: no frames came through in a sample"));
        } else if bytes.is_none_or(|bytes| (bytes / size.bytes() - 1.0).abs() > 0.05) {
            let found = table::number(bytes, 0);
            notes.push(format!("{who}: frames are {found} bytes in the mean, expected {:.0}", size.bytes()));
        }
    }
    notes
}

fn avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn machine(bench: &Bench) -> Machine {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = text("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    Machine {
        cpu: model.unwrap_or("unknown").to_owned(),
        kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        huge_pages: bench.memory.huge,
        front_end_cpu: bench.cpus.front,
        back_end_cpu: bench.cpus.back,
        rounds: bench.rounds,
        window_ms: bench.window.as_millis(),
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        ..Machine::default()
    }
}

/// Frames of the mix in the classic pcap format, from the front end's port to itself.
fn mixed_frames() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1]);
    let mac: Vec<u8> = MAC.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let mut random = 1_u32;
    for _ in 0..MIXED {
        // Numerical Recipes' generator; its upper bits are the random ones.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pick = usize::try_from(u64::from(random).wrapping_mul(plan::MIX.len() as u64) >> 32).unwrap_or(0);
        let len = plan::MIX.get(pick).copied().unwrap_or(64);
        file.extend(words(&[0, 0, len.into(), len.into()]));
        // IEEE 802, for experiments.
        let mut frame = [&mac[..], &mac, &[0x88, 0xb5]].concat();
        frame.resize(len.into(), 0);
        file.extend(frame);
    }
    file
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
