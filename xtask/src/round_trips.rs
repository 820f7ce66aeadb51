//! `cargo xtask round-trips`: how long a frame is on its way, with DPDK's vhost port and with our daemon.

use crate::{Failure, interrupt, release};
use e2e::Workshop;
use e2e::daemon::Program;
use e2e::front::contest::{Contest, TripRow};
use std::fs;
use std::path::Path;

/// How much of it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds and shorter ones.
    #[arg(long)]
    quick: bool,
}

/// Runs it.
pub(crate) fn run(options: &Options, root: &Path) -> Result<(), Failure> {
    if let Some(done) = release::again(root) {
        return done;
    }
    let (rounds, samples) = if options.quick { (3, 20_000) } else { (7, 100_000) };
    let contest = Contest::new(rounds, samples)?;
    let mut say = |line: &str| println!("{line}");
    let shop = Workshop::of_repository()?;
    let program = Program::build(&mut say)?;
    let dpdk = shop.prepare_dpdk(&mut say)?;
    let folder = root.canonicalize()?.join("target/round-trips");
    fs::create_dir_all(&folder)?;
    let rows = contest.run(&program, &dpdk, &folder, &mut |line| say(line))?;
    if interrupt::requested() {
        return Err(Failure::Interrupted);
    }
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(&rows)? + "\n")?;
    println!("\n{}\nreport.json is in {}", markdown(&rows), folder.display());
    Ok(())
}

fn markdown(rows: &[TripRow]) -> String {
    let mut text = String::from(
        "| rings | frames under way | DPDK p50 / p99 / p99.9 ns | ours | ratio p50 / p99 |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        let three = |q: e2e::front::Quantiles| format!("{:.0} / {:.0} / {:.0}", q.p50, q.p99, q.p999);
        let ratio = format!("{:.2} / {:.2}", row.ratio_p50, row.ratio_p99);
        text +=
            &format!("| {} | {} | {} | {} | {ratio} |\n", row.path, row.outstanding, three(row.dpdk), three(row.ours));
    }
    text
}
