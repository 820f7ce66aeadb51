//! Lines with markers over two logarithmic axes, as SVG.

use super::axis::{Log, SANE, spread};
use super::cuts::Axis;
use super::series::Key;
use super::text::{duration, escape, grouped, shorten, tick};

/// Width of the drawing; the page scales it.
const WIDTH: f64 = 576.0;
/// Room for the labels of the axis on the left.
const LEFT: f64 = 46.0;
/// Room above the plot, for the unit of the axis on the left.
const TOP: f64 = 24.0;
/// Room below the plot, for the labels of the axis.
const BOTTOM: f64 = 42.0;
/// Least height of the plot.
const HEIGHT: f64 = 290.0;
/// From one label of a line to the next.
const LABEL_GAP: f64 = 14.5;
/// Width of a character of a label, about.
pub(super) const CHARACTER: f64 = 6.1;
/// Longest label, in characters.
pub(super) const LONGEST: usize = 24;
/// From the plot to the labels of lines: an elbow and a marker.
const ELBOW: f64 = 31.0;

/// A median and what it ranges over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) lo: f64,
    pub(super) hi: f64,
}

impl Point {
    /// Whether it can be drawn.
    pub(super) fn drawable(&self) -> bool {
        SANE.contains(&self.x) && SANE.contains(&self.y)
    }

    /// The whisker within a sensible distance of the median, so that one disturbed sample does not squeeze the plot.
    pub(super) fn near(&self) -> [f64; 2] {
        let lo = if self.lo > 0.0 { self.lo.min(self.y) } else { self.y };
        let hi = if self.hi.is_finite() { self.hi.max(self.y) } else { self.y };
        [lo.max(self.y / 2.0), hi.min(self.y * 2.0)]
    }
}

/// One line of a plot.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) key: Key,
    /// In the order of x, all of them drawable.
    pub(super) points: Vec<Point>,
}

/// A plot.
pub(super) struct Chart<'a> {
    /// What x is.
    pub(super) axis: Axis,
    /// At least one, none of them empty.
    pub(super) lines: Vec<Line<'a>>,
    /// Characters to leave room for right of the plot.
    pub(super) longest: usize,
    /// The axis of ns per buffer, shared between plots that are compared.
    pub(super) y: Log,
}

/// Where things are.
struct Frame {
    x: Log,
    y: Log,
    right: f64,
    bottom: f64,
}

/// The drawing, with a title that is escaped; empty if there are not two places on the x axis.
pub(super) fn svg(chart: &Chart<'_>, title: &str) -> String {
    let xs = chart.lines.iter().flat_map(|line| line.points.iter().map(|point| point.x));
    let Some(x) = Log::exact(xs.clone()) else { return String::new() };
    let mut places: Vec<f64> = xs.collect();
    places.sort_by(f64::total_cmp);
    places.dedup();

    let right = WIDTH - ELBOW - chart.longest.min(LONGEST) as f64 * CHARACTER - 2.0;
    let height = HEIGHT.max(chart.lines.len() as f64 * LABEL_GAP);
    let bottom = TOP + height;
    let frame = Frame { x: x.over(LEFT + 14.0, right - 14.0), y: chart.y.over(bottom, TOP), right, bottom };

    let mut out = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\">",
        bottom + BOTTOM,
        title
    );
    out.push_str(&grid(&frame, &places, chart.axis.label()));
    let ends: Vec<f64> =
        chart.lines.iter().filter_map(|line| line.points.last()).map(|point| frame.y.at(point.y)).collect();
    let labels = spread(&ends, LABEL_GAP, TOP + 4.0, bottom);
    // The first line is drawn last, on top of the others.
    for (line, label) in chart.lines.iter().zip(labels).rev() {
        out.push_str(&series(&frame, line, label));
    }
    out.push_str("</svg>");
    out
}

/// The axes with their ticks and labels.
fn grid(frame: &Frame, places: &[f64], x_label: &str) -> String {
    let Frame { x, y, right, bottom } = frame;
    let mut out = String::new();
    for value in y.ticks(11) {
        let at = y.at(value);
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT},{at:.1}H{right:.1}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            tick(value)
        ));
    }
    for value in labelled(x, places) {
        let at = x.at(value);
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{at:.1},{TOP}V{:.1}\"/><text class=\"tick mid\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 4.0,
            bottom + 17.0,
            grouped(value)
        ));
    }
    out.push_str(&format!(
        "<path class=\"axis\" d=\"M{LEFT},{bottom:.1}H{right:.1}\"/>\
         <text class=\"label\" x=\"2\" y=\"12\">ns per buffer</text>\
         <text class=\"label mid\" x=\"{:.1}\" y=\"{:.1}\">{x_label}</text>",
        f64::midpoint(LEFT, *right),
        bottom + 35.0
    ));
    out
}

/// The places of the x axis that get a label: those that have room, the ends first.
fn labelled(x: &Log, places: &[f64]) -> Vec<f64> {
    let room = |value: f64| grouped(value).chars().count() as f64 * CHARACTER + 9.0;
    let Some((last, rest)) = places.split_last() else { return Vec::new() };
    let mut out: Vec<f64> = Vec::new();
    for place in rest {
        let free = out.last().is_none_or(|before| x.at(*place) - x.at(*before) >= room(*place));
        if free && x.at(*last) - x.at(*place) >= room(*last) {
            out.push(*place);
        }
    }
    out.push(*last);
    out
}

/// A line: whiskers, the line itself, markers, and its label to the right of the plot.
fn series(frame: &Frame, line: &Line<'_>, label: f64) -> String {
    let Frame { x, y, right, .. } = frame;
    let mut out = format!("<g class=\"s {}\">", line.key.class());
    let Some(end) = line.points.last() else { return String::new() };
    for point in &line.points {
        out.push_str(&whisker(frame, point));
    }
    let path: Vec<String> =
        line.points.iter().map(|point| format!("{:.1},{:.1}", x.at(point.x), y.at(point.y))).collect();
    if path.len() > 1 {
        out.push_str(&format!("<path class=\"line\" d=\"M{}\"/>", path.join("L")));
    }
    for point in &line.points {
        out.push_str(&format!(
            "<g>{}<title>{}: {} ({} to {}) at {}</title></g>",
            line.key.marker(x.at(point.x), y.at(point.y)),
            escape(line.name),
            duration(point.y),
            duration(point.lo),
            duration(point.hi),
            grouped(point.x)
        ));
    }
    let (end_x, end_y) = (x.at(end.x), y.at(end.y));
    out.push_str(&format!(
        "<path class=\"leader\" d=\"M{:.1},{end_y:.1}H{:.1}L{:.1},{label:.1}H{:.1}\"/>{}\
         <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        end_x + 5.0,
        right + 2.0,
        right + 14.0,
        right + 18.0,
        line.key.marker(right + 22.0, label),
        right + ELBOW,
        label + 4.0,
        escape(&shorten(line.name, LONGEST))
    ));
    out
}

/// From the fastest to the slowest sample, with caps at ends that are not cut off.
fn whisker(frame: &Frame, point: &Point) -> String {
    let (at, [lo, hi]) = (frame.x.at(point.x), point.near());
    let cap = |value: f64| {
        let whole = value <= lo || value >= hi;
        let shown = (value - point.lo).abs() < 1e-9 || (value - point.hi).abs() < 1e-9;
        if whole && shown && frame.y.holds(value) {
            format!("M{:.1},{:.1}h5", at - 2.5, frame.y.at(value))
        } else {
            String::new()
        }
    };
    format!(
        "<path class=\"whisker\" d=\"M{at:.1},{:.1}V{:.1}{}{}\"/>",
        frame.y.at(lo),
        frame.y.at(hi),
        cap(lo),
        cap(hi)
    )
}
