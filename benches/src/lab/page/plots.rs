//! The plots of ns per buffer, by mode, by what varies, by payload.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::Log;
use super::chart::{self, Chart, Line, Point};
use super::cuts::{Axis, Cut, cuts};
use super::series::Names;
use super::text::{escape, mode, payload, threads};
use super::{Section, rows};
use crate::lab::report::{Report, Row};

/// One section for each mode and number of threads, in the order in which they first appear.
pub(super) fn sections(report: &Report, names: &Names) -> Vec<Section> {
    let mut works: Vec<(&str, u8)> = Vec::new();
    for row in &report.rows {
        let work = (row.mode.as_str(), row.threads);
        if !works.contains(&work) {
            works.push(work);
        }
    }
    let section = |(place, (name, count)): (usize, (&str, u8))| {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.mode == name && row.threads == count).collect();
        let plots: String = Axis::ALL.iter().map(|axis| against(&rows, *axis, names)).collect();
        let body = plots + &others(&rows, names);
        let title = format!("{}, {}", mode(name), threads(count));
        (!body.is_empty()).then(|| Section { id: format!("plots-{place}"), short: title.clone(), title, body })
    };
    works.into_iter().enumerate().filter_map(section).collect()
}

/// All plots of a mode against one thing. Those of the same payload share the axis of ns per buffer.
fn against(rows: &[&Row], axis: Axis, names: &Names) -> String {
    let mut payloads: BTreeMap<u32, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        payloads.entry(row.payload).or_default().push(row);
    }
    // Room for the same names in all of them, so that plots below each other line up.
    let longest = rows.iter().map(|row| row.layout.chars().count()).max().unwrap_or(0);
    let mut figures = String::new();
    for (bytes, rows) in payloads {
        let cuts = cuts(&rows, axis);
        let points = cuts.iter().flat_map(|cut| cut.rows.iter()).map(|row| point(row, axis));
        let Some(y) = Log::nice(points.filter(Point::drawable).flat_map(|point| point.near())) else { continue };
        for cut in &cuts {
            figures.push_str(&figure(bytes, cut, Chart { lines: lines(cut, axis, names), axis, longest, y }));
        }
    }
    if figures.is_empty() {
        return String::new();
    }
    format!("<h3>{}</h3><div class=\"figures\">{figures}</div>", axis.title())
}

/// The rows of payloads of which nothing can be plotted, because nothing varies.
fn others(rows: &[&Row], names: &Names) -> String {
    let mut payloads: BTreeSet<u32> = rows.iter().map(|row| row.payload).collect();
    payloads.retain(|bytes| {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.payload == *bytes).copied().collect();
        Axis::ALL.iter().all(|axis| cuts(&rows, *axis).is_empty())
    });
    let mut others = rows.iter().filter(|row| payloads.contains(&row.payload)).copied().peekable();
    if others.peek().is_none() { String::new() } else { rows::table(others, names) }
}

fn figure(bytes: u32, cut: &Cut<'_>, chart: Chart<'_>) -> String {
    let (bytes, words) = (escape(&payload(bytes)), escape(&cut.words()));
    let svg = chart::svg(&chart, &format!("{bytes}, {words}"));
    if svg.is_empty() {
        return String::new();
    }
    format!("<figure><figcaption><b>{bytes}</b> <span>{words}</span></figcaption>{svg}</figure>")
}

fn point(row: &Row, axis: Axis) -> Point {
    Point { x: axis.of(row) as f64, y: row.ns_per_buffer_median, lo: row.min, hi: row.max }
}

/// A line for each name that has something to draw. Of rows at the same place the first counts.
fn lines<'a>(cut: &Cut<'a>, axis: Axis, names: &Names) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for row in &cut.rows {
        let point = point(row, axis);
        if !point.drawable() {
            continue;
        }
        match lines.iter_mut().find(|line| line.name == row.layout) {
            Some(line) if line.points.iter().any(|known| known.x == point.x) => {}
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: &row.layout, key: names.key(&row.layout), points: vec![point] }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    lines.sort_by_key(|line| names.rank(line.name));
    lines
}
