//! The distribution of latencies: a range from p50 to p99.9 for each layout.

use super::axis::{Log, SANE};
use super::chart::CHARACTER;
use super::series::Names;
use super::text::{duration, duration_tick, escape, grouped, shorten};
use super::{Section, section};
use crate::lab::report::{Latency, Report};

/// The baseline that is drawn as a line across the others.
const PINGPONG: &str = "pingpong";
/// Width of the drawing.
const WIDTH: f64 = 576.0;
/// From one layout to the next.
const ROW: f64 = 22.0;
/// Room above the rows.
const TOP: f64 = 26.0;
/// Room below the rows.
const BOTTOM: f64 = 42.0;
/// Longest label, in characters.
const LONGEST: usize = 24;

/// The section; none without latencies.
pub(super) fn section_of(report: &Report, names: &Names) -> Option<Section> {
    let usable = |latency: &&Latency| SANE.contains(&latency.p50);
    let all: Vec<&Latency> = report.latencies.iter().filter(usable).collect();
    let mut kinds: Vec<&str> = Vec::new();
    for latency in &all {
        if !kinds.contains(&latency.kind.as_str()) {
            kinds.push(&latency.kind);
        }
    }
    let lines = kinds.iter().filter_map(|kind| pingpong(&all, kind)).map(|(value, _)| value);
    let ranges = all.iter().filter(|latency| latency.layout != PINGPONG);
    let scale = Log::nice(ranges.flat_map(|latency| [latency.p50, latency.p99, latency.p999]).chain(lines))?;
    let mut figures = String::new();
    for kind in kinds {
        let mut rows: Vec<&Latency> =
            all.iter().filter(|latency| latency.kind == kind && latency.layout != PINGPONG).copied().collect();
        rows.sort_by(|a, b| a.baseline.cmp(&b.baseline).then(a.p50.total_cmp(&b.p50)));
        if rows.is_empty() {
            continue;
        }
        let (title, what) = title(kind);
        figures.push_str(&format!(
            "<figure><figcaption><b>{}</b> <span>{}</span></figcaption>{}</figure>",
            escape(&title),
            what,
            svg(&rows, names, scale, pingpong(&all, kind))
        ));
    }
    let legend = "<p class=\"legend\"><svg class=\"tag s ink\" viewBox=\"0 0 90 12\" width=\"90\" height=\"12\" \
        aria-hidden=\"true\"><path class=\"range\" d=\"M6,6H84\"/><circle class=\"m\" cx=\"6\" cy=\"6\" r=\"4\"/>\
        <circle class=\"m open\" cx=\"45\" cy=\"6\" r=\"3.6\"/><path class=\"far\" d=\"M84,1V11\"/></svg>\
        filled: p50; open: p99; bar: p99.9. Sorted by p50, baselines last.</p>";
    let body = format!("{legend}<div class=\"figures\">{figures}</div>{}", table(&all, names));
    Some(section("latency", "Latency", "Latency with one buffer under way", body))
}

fn title(kind: &str) -> (String, &'static str) {
    match kind {
        "one_way" => ("One way".to_owned(), "from before the driver publishes to the device’s look at the buffer"),
        "round_trip" => ("Round trip".to_owned(), "from before the driver publishes until the buffer is reaped"),
        _ => (kind.to_owned(), ""),
    }
}

/// The ping-pong's median and what it is called. One way is half of a round trip unless it was measured.
fn pingpong(all: &[&Latency], kind: &str) -> Option<(f64, &'static str)> {
    let find = |kind: &str| all.iter().find(|latency| latency.layout == PINGPONG && latency.kind == kind);
    match find(kind) {
        Some(latency) => Some((latency.p50, "ping-pong of one cacheline")),
        None if kind == "one_way" => find("round_trip").map(|latency| (latency.p50 / 2.0, "half a ping-pong")),
        None => None,
    }
}

fn svg(rows: &[&Latency], names: &Names, scale: Log, line: Option<(f64, &str)>) -> String {
    let longest = rows.iter().map(|row| row.layout.chars().count()).max().unwrap_or(0).min(LONGEST);
    let left = longest as f64 * CHARACTER + 14.0;
    let bottom = TOP + rows.len() as f64 * ROW;
    let x = scale.over(left + 8.0, WIDTH - 24.0);
    let mut out = format!("<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">", bottom + BOTTOM);
    for value in x.ticks(8) {
        let at = x.at(value);
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{at:.1},{TOP}V{:.1}\"/><text class=\"tick mid\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 4.0,
            bottom + 17.0,
            duration_tick(value)
        ));
    }
    out.push_str(&format!(
        "<path class=\"axis\" d=\"M{left:.1},{bottom:.1}H{WIDTH}\"/><text class=\"label mid\" x=\"{:.1}\" y=\"{:.1}\">latency</text>",
        f64::midpoint(left, WIDTH),
        bottom + 35.0
    ));
    if let Some((value, name)) = line {
        let at = x.at(value);
        out.push_str(&format!(
            "<path class=\"mark\" d=\"M{at:.1},{:.1}V{bottom:.1}\"/><text class=\"label\" x=\"{:.1}\" y=\"14\">{name}, {}</text>",
            TOP - 20.0,
            at + 5.0,
            duration(value)
        ));
    }
    for (place, row) in rows.iter().enumerate() {
        out.push_str(&range(row, names, &x, left, TOP + (place as f64 + 0.5) * ROW));
    }
    out.push_str("</svg>");
    out
}

fn range(row: &Latency, names: &Names, x: &Log, left: f64, y: f64) -> String {
    // Percentiles that are no number fall back to the one below.
    let sound = |value: f64, below: f64| if value.is_finite() && value >= below { value } else { below };
    let p99 = sound(row.p99, row.p50);
    let p999 = sound(row.p999, p99);
    let (at, far, furthest) = (x.at(row.p50), x.at(p99), x.at(p999));
    let class = names.key(&row.layout).class();
    let dashed = if row.baseline { " base" } else { "" };
    format!(
        "<g class=\"s {class}{dashed}\"><text class=\"name end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <path class=\"range\" d=\"M{at:.1},{y:.1}H{furthest:.1}\"/><path class=\"far\" d=\"M{furthest:.1},{:.1}v10\"/>\
         <circle class=\"m open\" cx=\"{far:.1}\" cy=\"{y:.1}\" r=\"3.6\"/><circle class=\"m\" cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
         <title>{}: p50 {}, p99 {}, p99.9 {}</title></g>",
        left - 8.0,
        y + 4.0,
        escape(&shorten(&row.layout, LONGEST)),
        y - 5.0,
        escape(&row.layout),
        duration(row.p50),
        duration(row.p99),
        duration(row.p999)
    )
}

fn table(all: &[&Latency], names: &Names) -> String {
    let mut out = String::from(
        "<details><summary>The figures</summary><div class=\"wide\"><table><thead><tr><th scope=\"col\">name</th><th scope=\"col\">kind</th>\
         <th class=\"n\" scope=\"col\">p50</th><th class=\"n\" scope=\"col\">p99</th><th class=\"n\" scope=\"col\">p99.9</th>\
         <th class=\"n\" scope=\"col\">samples</th></tr></thead><tbody>",
    );
    for row in all {
        out.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            names.key(&row.layout).tag(&row.layout),
            escape(&row.kind.replace('_', " ")),
            duration(row.p50),
            duration(row.p99),
            duration(row.p999),
            grouped(row.samples as f64)
        ));
    }
    out.push_str("</tbody></table></div></details>");
    out
}
