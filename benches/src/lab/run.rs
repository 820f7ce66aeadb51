//! Runs the experiments, and gathers what comes out in a report.

pub mod aims;
mod clock;
mod latency;
mod load;
mod plan;
mod polled;
mod ringtest;
mod show;
pub(crate) mod sleep;
pub mod station;
mod touch;
pub(crate) mod watch;

use std::path::PathBuf;

pub use latency::Way;
pub use load::{Load, Reaping, Sample, Stop, Work};
pub use show::tables;
pub use station::Station;

use super::entry::{self, Entry, LAYOUTS};
use super::options::Options;
use super::report::{Latency, Report, Row, Wakeups};
use crate::cores;
use plan::{Cell, Pace, SIZE};

/// Linux's ringtest programs.
#[derive(Clone, Debug)]
pub enum Ringtest {
    /// Built in this folder.
    Folder(PathBuf),
    /// Why they are left out.
    Skipped(String),
}

/// What is told while it runs: steps done, steps in all, and what is being done.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64, &str);

/// Measures what the options say.
///
/// # Errors
/// A name that nothing has.
pub fn run(options: &Options, ringtest: &Ringtest, progress: Progress<'_>) -> Result<Report, String> {
    let pace = Pace::new(options.quick, options.samples);
    let entries = chosen(&options.only)?;
    let mut cells = plan::cells(options.quick);
    let mut report = Report { machine: machine(), command: command(options, ringtest), ..Report::default() };
    let wanted = |e: &&Entry| entries.iter().any(|c| c.name == e.name);
    report.pictures = LAYOUTS.iter().filter(wanted).map(|e| (e.picture)(SIZE)).collect();
    let two = cores::pair().is_some();
    if !two {
        report.skipped.push("two threads: there is only one core to run on".to_owned());
        cells.retain(|c| plan::threads(&c.load) == 1);
    }
    let mut run = Run { pace, entries, report, done: 0, steps: 0, progress };
    let programs = match ringtest {
        Ringtest::Folder(folder) => ringtest::programs(&mut run, folder),
        Ringtest::Skipped(why) => {
            run.report.skipped.push(format!("ringtest: {why}"));
            Vec::new()
        }
    };
    let layouts = run.entries.len() * (cells.len() * run.pace.samples + 2 * usize::from(two));
    run.steps = (layouts + programs.len() * run.pace.samples) as u64;
    run.rounds(&cells, programs);
    if two {
        run.latencies();
    }
    Ok(run.report)
}

fn chosen(only: &[String]) -> Result<Vec<&'static Entry>, String> {
    if let Some(name) = only.iter().find(|n| !entry::all().any(|e| e.name == *n)) {
        return Err(format!("no layout or baseline is called {name}: see --list"));
    }
    Ok(entry::all().filter(|e| only.is_empty() || only.iter().any(|n| n == e.name)).collect())
}

/// A run under way.
struct Run<'a> {
    pace: Pace,
    entries: Vec<&'static Entry>,
    report: Report,
    done: u64,
    steps: u64,
    progress: Progress<'a>,
}

/// A layout in an experiment.
struct Place {
    cell: Cell,
    entry: &'static Entry,
    samples: Vec<Sample>,
    is_out: bool,
}

impl Run<'_> {
    fn step(&mut self, what: &str) {
        self.done += 1;
        (self.progress)(self.done, self.steps, what);
    }

    /// Notes once what is left out.
    fn skip(&mut self, name: &str, mode: &str, why: &str) {
        let line = format!("{name}, {mode}: {why}");
        if !self.report.skipped.contains(&line) {
            self.report.skipped.push(line);
        }
    }

    /// A round takes one sample of everything: machines that are shared have good minutes and bad ones, and no experiment
    /// is to have only the ones or the others.
    fn rounds(&mut self, cells: &[Cell], mut programs: Vec<ringtest::Program>) {
        let entries = self.entries.clone();
        let mut places: Vec<_> = cells
            .iter()
            .flat_map(|cell| {
                entries.iter().map(|entry| Place { cell: *cell, entry, samples: Vec::new(), is_out: false })
            })
            .collect();
        for round in 1..=self.pace.samples {
            for place in &mut places {
                let Cell { load, .. } = place.cell;
                let mode = plan::mode(&load);
                let samples = self.pace.samples;
                self.step(&format!("round {round} of {samples}: {mode}, burst {}: {}", load.burst, place.entry.name));
                if place.is_out {
                    continue;
                }
                match self.sample(place.entry, &place.cell) {
                    Ok(sample) => place.samples.push(sample),
                    // A layout that stops is out.
                    Err(why) => {
                        place.is_out = true;
                        self.skip(place.entry.name, mode, &why);
                    }
                }
            }
            for program in &mut programs {
                self.step(&format!("round {round} of {}: {}", self.pace.samples, program.name));
                if let Err(why) = program.sample() {
                    self.skip(&program.name, "process", &why);
                }
            }
        }
        for place in places.iter().filter(|p| !p.samples.is_empty()) {
            self.gather(place);
        }
        for program in programs.into_iter().filter(|p| !p.ns.is_empty()) {
            self.report.rows.push(row(program.row, program.ns));
        }
    }

    /// Opens a layout, moves some buffers to warm caches and page tables, finds how many make a sample, and takes it.
    fn sample(&self, entry: &Entry, cell: &Cell) -> Result<Sample, String> {
        let sleeps = cell.load.work == Work::Sleep;
        let mut station = (entry.open)(cell.size, sleeps).map_err(|e| e.to_string())?;
        let few = if sleeps { 64 } else { 4 * u64::from(cell.size) };
        let mut fastest = f64::INFINITY;
        for _ in 0..2 {
            let warm_up = station.run(&cell.load.of_about(few)).map_err(|e| e.to_string())?;
            fastest = fastest.min(warm_up.ns_per_buffer());
        }
        let buffers = self.pace.sample.as_nanos() as f64 / fastest.max(0.1);
        station.run(&cell.load.of_about((buffers as u64).max(few))).map_err(|e| e.to_string())
    }

    fn gather(&mut self, place: &Place) {
        let Cell { size, load } = place.cell;
        let Load { burst, outstanding, payload, .. } = load;
        let ns: Vec<f64> = place.samples.iter().map(Sample::ns_per_buffer).collect();
        self.report.rows.push(row(
            Row {
                layout: place.entry.name.to_owned(),
                baseline: place.entry.is_baseline(),
                mode: plan::mode(&load).to_owned(),
                payload,
                burst,
                size,
                outstanding,
                threads: plan::threads(&load),
                ns_per_buffer_median: 0.0,
                min: 0.0,
                max: 0.0,
                samples: 0,
            },
            ns,
        ));
        if load.work == Work::Sleep {
            let sum = |of: fn(&Sample) -> u64| place.samples.iter().map(of).sum::<u64>() as f64;
            let buffers = sum(|s| s.buffers);
            self.report.wakeups.push(Wakeups {
                layout: place.entry.name.to_owned(),
                burst,
                outstanding,
                kicks: sum(|s| s.kicks) / buffers,
                calls: sum(|s| s.calls) / buffers,
            });
        }
    }

    fn latencies(&mut self) {
        let count = self.pace.latencies;
        for way in [Way::There, Way::AndBack] {
            let line = latency::of_a_line(way, count);
            self.distribution("pingpong", true, way, line);
            for entry in self.entries.clone() {
                self.step(&format!("latency, {}: {}", way.word(), entry.name));
                match (entry.open)(SIZE, false) {
                    Ok(mut station) => {
                        let all = station.latencies(way, count);
                        self.distribution(entry.name, entry.is_baseline(), way, all);
                    }
                    Err(why) => self.skip(entry.name, "latency", &why.to_string()),
                }
            }
        }
    }

    fn distribution(&mut self, name: &str, baseline: bool, way: Way, all: Result<Vec<f64>, Stop>) {
        let mut all = match all {
            Ok(all) => all,
            Err(why) => return self.skip(name, "latency", &why.to_string()),
        };
        all.sort_unstable_by(f64::total_cmp);
        self.report.latencies.push(Latency {
            layout: name.to_owned(),
            baseline,
            kind: way.word().to_owned(),
            p50: quantile(&all, 0.5),
            p99: quantile(&all, 0.99),
            p999: quantile(&all, 0.999),
            samples: all.len(),
        });
    }
}

/// Fills the figures of a row in.
fn row(row: Row, mut ns: Vec<f64>) -> Row {
    ns.sort_unstable_by(f64::total_cmp);
    let (min, max) = (quantile(&ns, 0.0), quantile(&ns, 1.0));
    Row { ns_per_buffer_median: quantile(&ns, 0.5), min, max, samples: ns.len(), ..row }
}

/// The smallest value that at least `part` of all are not above; of an even number, the lower of the two in the middle.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn command(options: &Options, ringtest: &Ringtest) -> String {
    let mut words = vec!["cargo xtask rings".to_owned()];
    words.extend(options.arguments());
    if matches!(ringtest, Ringtest::Folder(_)) {
        words.push("--with-ringtest".to_owned());
    }
    words.join(" ")
}

/// Processor, cores, kernel.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let processor = read("/proc/cpuinfo");
    let model = processor.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pair = cores::pair().map_or_else(
        || "one core".to_owned(),
        |(driver, device)| {
            let siblings = read(&format!("/sys/devices/system/cpu/cpu{driver}/topology/thread_siblings_list"));
            let siblings = if siblings.is_empty() { driver.to_string() } else { siblings };
            format!("driver on core {driver} (shares a core with: {siblings}), device on core {device}")
        },
    );
    format!("{model}, {cores} cores, Linux {}; {pair}", read("/proc/sys/kernel/osrelease"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        for (part, expected) in [(0.0, 1.0), (0.5, 5.0), (0.9, 9.0), (0.99, 10.0), (1.0, 10.0)] {
            assert_eq!(quantile(&ten, part), expected);
        }
        assert_eq!(quantile(&[1.0, 2.0, 9.0], 0.5), 2.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn every_load_comes_to_its_end() {
        if cores::pair().is_none() {
            println!("skipped: there is only one core to run on");
            return;
        }
        let packed = LAYOUTS.iter().find(|e| e.name == "packed").unwrap();
        for (burst, outstanding) in [(1, 1), (3, 3), (64, 64), (40, 64), (5, 64), (64, 256)] {
            for reaping in [Reaping::Lazy, Reaping::Greedy] {
                for work in [Work::Polled, Work::Sleep] {
                    let load = Load { work, reaping, bursts: 9, ..Load::new(burst, outstanding) };
                    let mut station = (packed.open)(256, work == Work::Sleep).unwrap();
                    let sample = station.run(&load).unwrap_or_else(|e| panic!("{load:?}: {e}"));
                    assert_eq!(sample.buffers, 9 * burst as u64);
                }
            }
        }
    }

    #[test]
    fn a_small_run_has_what_was_asked_for() {
        let only = vec!["packed".to_owned(), "bare-packed".to_owned()];
        let options = Options { quick: true, only, samples: Some(1), ..Options::default() };
        let mut steps = (0, 0);
        let skipped = Ringtest::Skipped("not asked for".to_owned());
        let report = run(&options, &skipped, &mut |done, all, _| steps = (done, all)).unwrap();
        assert_eq!(steps.0, steps.1);
        assert_eq!(report.command, "cargo xtask rings --quick --only packed --only bare-packed --samples 1");
        assert_eq!(report.pictures.len(), 1);
        for row in &report.rows {
            assert!(row.ns_per_buffer_median > 0.0 && row.samples == 1, "{row:?}");
            assert_eq!(row.baseline, row.layout == "bare-packed");
        }
        let polled = |layout| report.rows.iter().any(|r| r.layout == layout && r.mode == "polled" && r.burst == 32);
        assert_eq!(polled("packed"), cores::pair().is_some());
        assert_eq!(polled("bare-packed"), cores::pair().is_some());
        let text = tables(&report);
        assert!(text.contains("skipped: ringtest: not asked for"), "{text}");
        assert!(run(&Options { only: vec!["no".into()], ..options }, &skipped, &mut |_, _, _| {}).is_err());
    }
}
