//! Linux's own ring benchmark, `tools/virtio/ringtest`: runs what was built, and takes the time of whole processes.
//!
//! Its programs publish every buffer alone on both sides, in a loop of their own: the driver takes one buffer back, if
//! there is one, for each that it adds. What starting a process costs is taken off by a short run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Run;
use super::plan::SIZE;
use crate::cores;
use crate::lab::report::Row;

const PROGRAMS: [&str; 5] = ["ring", "virtio_ring_0_9", "virtio_ring_inorder", "virtio_ring_poll", "ptr_ring"];
/// Buffers under way, and whether the sides sleep.
const CASES: [(usize, bool); 4] = [(SIZE as usize, false), (1, false), (64, false), (SIZE as usize, true)];
/// Buffers of the short run.
const FEW: u32 = 1000;
/// Shortest sample: what starting a process costs varies by a millisecond or so.
const SHORTEST: Duration = Duration::from_millis(100);

/// One program in one case, with what it came to so far.
pub(super) struct Program {
    pub(super) name: String,
    case: Case,
    /// What the short run takes, and buffers of a sample.
    short: Duration,
    buffers: u32,
    pub(super) ns: Vec<f64>,
    /// Without figures.
    pub(super) row: Row,
}

/// All that were built and can do it.
pub(super) fn programs(run: &mut Run<'_>, folder: &Path) -> Vec<Program> {
    let mut all = Vec::new();
    for program in PROGRAMS {
        for (outstanding, sleeps) in CASES {
            let name = format!("ringtest-{program}");
            let mode = if sleeps { "sleep" } else { "polled" };
            // Its pointers have nobody to ask for a wake-up.
            if sleeps && program == "ptr_ring" {
                run.skip(&name, mode, "it only polls");
                continue;
            }
            let case = Case { program: folder.join(program), outstanding, sleeps };
            match case.size(SHORTEST.max(4 * run.pace.sample)) {
                Ok((short, buffers)) => {
                    let row = Row {
                        layout: name.clone(),
                        baseline: true,
                        mode: mode.to_owned(),
                        payload: 0,
                        burst: 1,
                        size: SIZE,
                        outstanding,
                        threads: 2,
                        ns_per_buffer_median: 0.0,
                        min: 0.0,
                        max: 0.0,
                        samples: 0,
                    };
                    all.push(Program { name, case, short, buffers, ns: Vec::new(), row });
                }
                Err(why) => run.skip(&name, mode, &why),
            }
        }
    }
    all
}

impl Program {
    pub(super) fn sample(&mut self) -> Result<(), String> {
        let took = self.case.time(self.buffers)?.saturating_sub(self.short);
        self.ns.push(took.as_nanos() as f64 / f64::from(self.buffers - FEW));
        Ok(())
    }
}

struct Case {
    program: std::path::PathBuf,
    outstanding: usize,
    sleeps: bool,
}

impl Case {
    /// What the short run takes, and how many buffers make a sample.
    fn size(&self, sample: Duration) -> Result<(Duration, u32), String> {
        let short = self.time(FEW)?.min(self.time(FEW)?).min(self.time(FEW)?);
        let rough = self.time(20 * FEW)?.saturating_sub(short).as_nanos() as f64 / f64::from(19 * FEW);
        Ok((short, (sample.as_nanos() as f64 / rough.max(1.0)).clamp(f64::from(20 * FEW), 1e9) as u32))
    }

    fn time(&self, buffers: u32) -> Result<Duration, String> {
        let (driver, device) = cores::pair().ok_or("there is only one core to run on")?;
        let mut command = Command::new(&self.program);
        command.args(["--ring-size", &SIZE.to_string(), "--run-cycles", &buffers.to_string()]);
        command.args(["--guest-affinity", &driver.to_string(), "--host-affinity", &device.to_string()]);
        command.args(["--outstanding", &self.outstanding.to_string()]);
        if self.sleeps {
            command.arg("--sleep");
        }
        let begin = Instant::now();
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|e| e.to_string())?;
        let took = begin.elapsed();
        if status.success() { Ok(took) } else { Err(format!("it ended with {status}")) }
    }
}
