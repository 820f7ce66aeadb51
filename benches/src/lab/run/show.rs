//! A report as tables for a terminal.

use std::fmt::Write;

use super::aims::aims;
use super::plan::SIZE;
use crate::lab::report::{Report, Row};

/// The tables.
#[must_use]
pub fn tables(report: &Report) -> String {
    let mut text = format!("{}\n{}\n", report.command, report.machine);
    throughput(&mut text, report);
    others(&mut text, report);
    latencies(&mut text, report);
    wakeups(&mut text, report);
    judged(&mut text, report);
    for line in &report.skipped {
        put(&mut text, format_args!("skipped: {line}\n"));
    }
    text
}

/// Writing to a string does not fail.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

/// The rows of the burst sweep.
fn is_swept(row: &&Row) -> bool {
    row.mode == "polled" && row.payload == 0 && (row.size, row.outstanding) == (SIZE, SIZE.into())
}

/// The swept row of a layout at a burst.
fn swept<'a>(report: &'a Report, layout: &str, burst: usize) -> Option<&'a Row> {
    report.rows.iter().filter(is_swept).find(|r| r.layout == layout && r.burst == burst)
}

fn throughput(text: &mut String, report: &Report) {
    let (mut layouts, mut bursts) = (Vec::new(), Vec::new());
    for row in report.rows.iter().filter(is_swept) {
        if !layouts.contains(&&row.layout) {
            layouts.push(&row.layout);
        }
        if !bursts.contains(&row.burst) {
            bursts.push(row.burst);
        }
    }
    if layouts.is_empty() {
        return;
    }
    bursts.sort_unstable();
    put(text, format_args!("\nns a buffer, {SIZE} entries, two pinned threads, polled, by burst (median)\n{:<28}", ""));
    for burst in &bursts {
        put(text, format_args!("{burst:>8}"));
    }
    put(text, format_args!("  32: /bare /virtio-queue  1: /ring\n"));
    for layout in layouts {
        put(text, format_args!("{layout:<28}"));
        for burst in &bursts {
            match swept(report, layout, *burst) {
                Some(row) => put(text, format_args!("{:>8.1}", row.ns_per_buffer_median)),
                None => put(text, format_args!("{:>8}", "")),
            }
        }
        put(text, format_args!("{}\n", ratios(report, layout)));
    }
}

fn ratios(report: &Report, layout: &str) -> String {
    let ns = |layout: &str, burst| swept(report, layout, burst).map(|r| r.ns_per_buffer_median);
    let own = ns(layout, 32);
    // The floor of split-flags is that of split.
    let floors = report.rows.iter().filter(is_swept).filter_map(|r| r.layout.strip_prefix("bare-"));
    let floor = floors.filter(|f| layout.starts_with(*f)).max_by_key(|f| f.len());
    let bare = floor.and_then(|f| ns(&format!("bare-{f}"), 32));
    let queues = ["virtio-queue-pop", "virtio-queue-iter"].into_iter().filter_map(|q| ns(q, 32));
    let queue = queues.min_by(f64::total_cmp);
    let ratio = |own: Option<f64>, base: Option<f64>| {
        own.zip(base).map_or_else(|| "-".to_owned(), |(own, base)| format!("{:.2}", own / base))
    };
    let ring = ratio(ns(layout, 1), ns("ringtest-ring", 1));
    format!("  {:>9} {:>13}  {ring:>8}", ratio(own, bare), ratio(own, queue))
}

/// Everything that is not the burst sweep, a line each.
fn others(text: &mut String, report: &Report) {
    put(
        text,
        format_args!(
            "\nOther experiments: ns a buffer\n{:<28} {:<14} {:>7} {:>6} {:>5} {:>11} {:>9} {:>9} {:>9}\n",
            "layout", "mode", "payload", "burst", "size", "outstanding", "median", "min", "max"
        ),
    );
    for r in report.rows.iter().filter(|r| !is_swept(r)) {
        put(
            text,
            format_args!(
                "{:<28} {:<14} {:>7} {:>6} {:>5} {:>11} {:>9.1} {:>9.1} {:>9.1}\n",
                r.layout, r.mode, r.payload, r.burst, r.size, r.outstanding, r.ns_per_buffer_median, r.min, r.max
            ),
        );
    }
}

fn latencies(text: &mut String, report: &Report) {
    if report.latencies.is_empty() {
        return;
    }
    put(
        text,
        format_args!(
            "\nLatency with one outstanding buffer, ns, the clock's own cost taken off\n{:<28} {:<11} {:>8} {:>8} {:>9}\n",
            "layout", "", "p50", "p99", "p99.9"
        ),
    );
    for l in &report.latencies {
        put(text, format_args!("{:<28} {:<11} {:>8.0} {:>8.0} {:>9.0}\n", l.layout, l.kind, l.p50, l.p99, l.p999));
    }
}

fn wakeups(text: &mut String, report: &Report) {
    if report.wakeups.is_empty() {
        return;
    }
    put(
        text,
        format_args!(
            "\nNotifications a buffer, both sides sleep\n{:<28} {:>6} {:>11} {:>8} {:>8}\n",
            "layout", "burst", "outstanding", "kicks", "calls"
        ),
    );
    for w in &report.wakeups {
        let (kicks, calls) = (w.kicks, w.calls);
        put(text, format_args!("{:<28} {:>6} {:>11} {kicks:>8.4} {calls:>8.4}\n", w.layout, w.burst, w.outstanding));
    }
}

fn judged(text: &mut String, report: &Report) {
    put(text, format_args!("\nAims\n"));
    for aim in aims(report) {
        let (verdict, measured) = match aim.met {
            Some(true) => ("met", aim.measured),
            Some(false) => ("missed", aim.measured),
            None => ("-", "not measured".to_owned()),
        };
        put(text, format_args!("{verdict:<7} {:<44} {:<44} {measured}\n", aim.work, aim.aim));
    }
    put(
        text,
        format_args!(
            "        instructions a buffer: `cargo run --release -p ring-benches --bin instructions`; fences and event words a \
         burst: virtio-ring's tests/counting.rs\n"
        ),
    );
}
