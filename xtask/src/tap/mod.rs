//! `cargo xtask tap`: our daemon beside QEMU's own network card, the same guest on the same tap.
//!
//! Guests are booted in turn, one sample of every load in each: what the machine does meanwhile meets both alike.

mod arm;
mod front;
mod report;
mod sample;

use crate::{Failure, interrupt};
use arm::{Arm, Bed};
use e2e::dpdk::Dpdk;
use e2e::netns::TapSpec;
use e2e::{Error, HostEnd, Kind, TapNet, Workshop};
use report::Report;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A rough look, under two minutes: two samples, short ones, without the daemon that never polls, and without DPDK.
    #[arg(long)]
    quick: bool,
    /// Samples of each load and device.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50), conflicts_with = "quick")]
    samples: Option<u32>,
    /// Packed rings, for both.
    #[arg(long)]
    packed: bool,
}

impl Options {
    fn samples(&self) -> u32 {
        self.samples.unwrap_or(if self.quick { 2 } else { 5 })
    }

    /// Part of a load that is measured. The guest's load lasts whole seconds, and this and the warm-up fit into them.
    fn window(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 1500 })
    }
}

/// Runs it.
pub(crate) fn run(options: &Options, root: &Path) -> Result<(), Failure> {
    let begin = Instant::now();
    let shop = Workshop::of_repository()?;
    let mut say = |line: &str| println!("{line}");
    let kind: Kind = "qemu".parse()?;
    let prepared = shop.prepare_tap(&mut say).and_then(|()| TapNet::create(TapSpec::default()));
    let net = match prepared {
        Ok(net) => net,
        Err(e @ Error::NeedsRoot { .. }) => {
            println!("skipped: {e}");
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    let assets = shop.prepare(&[kind], &mut say)?;
    let folder = root.canonicalize()?.join("target/tap");
    fs::create_dir_all(&folder)?;
    let bed = Bed::new(HostEnd::Tap(net), assets, &folder, options.packed, &mut say)?;
    let arms = Arm::all(options.quick);
    let dpdk = if options.quick { None } else { prepare_dpdk(&shop) };
    let mut report = Report::new(options.window(), options.packed, bed.has_kvm());
    for round in 0..options.samples() {
        println!("round {} of {}", round.saturating_add(1), options.samples());
        let mut turn = arms.clone();
        // Nobody is always the first, nor always behind the same one.
        turn.rotate_left((round as usize).checked_rem(arms.len()).unwrap_or(0));
        for arm in turn {
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            for (load, sample) in sample::all(&bed, &arm, options.window())? {
                report.add(&arm, load, round, sample);
            }
        }
        if let Some(dpdk) = &dpdk {
            for (load, sample) in front::all(&bed, dpdk, options.window())? {
                report.add(&front::ARM, load, round, sample);
            }
        }
    }
    drop(bed);
    fs::write(folder.join("report.json"), report.to_json()?)?;
    println!("\n{}", report.tables());
    println!("{:.0} s; report.json is in {}", begin.elapsed().as_secs_f64(), folder.display());
    Ok(())
}

/// The front end that is no guest; without it, all but its rows can be had.
fn prepare_dpdk(shop: &Workshop) -> Option<Dpdk> {
    match shop.prepare_dpdk(&mut |line| println!("{line}")) {
        Ok(dpdk) => Some(dpdk),
        Err(e) => {
            println!("skipped: the rows with DPDK's front end: {e}");
            None
        }
    }
}
