//! Runs the rows, one group of processes after the other.

use super::counted::Counted;
use super::plan::{Group, Path, Size};
use super::report::{Report, Row};
use super::side::{Sample, Side};
use super::{Bench, table};
use crate::{Failure, interrupt};

const NARROW: &str = "this processor has no AVX-512, which DPDK's vector path for packed rings needs";

/// All rows, into the report.
pub(super) fn all(bench: &Bench, paths: &[Path], groups: &[Group], report: &mut Report) -> Result<(), Failure> {
    let total = groups.iter().map(|g| g.sizes.len()).sum::<usize>().saturating_mul(paths.len());
    for path in paths {
        for group in groups {
            let first = report.rows.len();
            if path.layout.wide && !e2e::dpdk::avx512() {
                let skipped = |size: &Size| Row::skipped(*path, group.direction, *size, NARROW);
                report.rows.extend(group.sizes.iter().map(skipped));
            } else if let Err(why) = self::group(bench, *path, *group, report) {
                if interrupt::requested() {
                    return Err(Failure::Interrupted);
                }
                // Those before it are good; the others are not there.
                let missing = group.sizes.iter().skip(report.rows.len().saturating_sub(first));
                let broken = |size: &Size| Row::broken(*path, group.direction, *size, &why);
                report.rows.extend(missing.map(broken));
                if let Some(last) = report.rows.last_mut().filter(|row| !row.broken) {
                    // All were measured, and then a process did not end well.
                    last.notes.push(why);
                    last.broken = true;
                }
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
fn group(bench: &Bench, path: Path, group: Group, report: &mut Report) -> Result<(), String> {
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
        report.rows.push(one_row(bench, &mut sides, (path, group), *size)?);
    }
    sides.into_iter().try_for_each(Side::end).map_err(|e| e.to_string())
}

/// One row: a round that counts cycles and warms up, and then the others.
fn one_row(bench: &Bench, sides: &mut [Side; 2], what: (Path, Group), size: Size) -> Result<Row, String> {
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
        if let (0, [_, mine]) = (round, &mut *sides) {
            // Of the same seconds as theirs.
            let account = mine.account().map_err(told)?;
            row.ours_cycles = cycles(&account.back);
            row.notes.extend(account.notes);
        }
    }
    let [dpdk, ours] = &samples;
    row.fill(dpdk, ours);
    let [theirs, mine] = sides;
    [row.tx_path, row.rx_path] = mine.paths();
    row.notes.extend(theirs.account().map_err(told)?.notes);
    row.notes.extend(mine.account().map_err(told)?.notes);
    row.notes.extend(odd(&row, size));
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
