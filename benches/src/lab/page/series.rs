//! How a layout looks wherever it is drawn: its colour, dashes and marker.

use super::text::escape;
use crate::lab::report::Report;

/// Colours of the style sheet for layouts, and for baselines.
const COLOURS: [usize; 2] = [10, 6];
/// Shapes of markers.
const SHAPES: usize = 6;

/// Every name of a report, in the order in which it first appears, layouts before baselines.
pub(super) struct Names {
    ours: Vec<String>,
    baselines: Vec<String>,
}

/// How a name is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    /// Place among the names of its kind.
    place: usize,
    /// Drawn with dashes and open markers.
    pub(super) baseline: bool,
}

impl Names {
    /// The names of a report.
    pub(super) fn new(report: &Report) -> Self {
        let mut names = Self { ours: Vec::new(), baselines: Vec::new() };
        let pictures = report.pictures.iter().map(|picture| (&picture.layout, false));
        let rows = report.rows.iter().map(|row| (&row.layout, row.baseline));
        let latencies = report.latencies.iter().map(|latency| (&latency.layout, latency.baseline));
        let wakeups = report.wakeups.iter().map(|wakeups| (&wakeups.layout, false));
        // A picture or wake-ups do not say whether the name is a baseline: they speak last.
        for (name, baseline) in rows.chain(latencies).chain(pictures).chain(wakeups) {
            names.add(name, baseline);
        }
        names
    }

    /// One name, to show in a legend what layouts or baselines look like.
    pub(super) fn sample(baseline: bool) -> Self {
        let mut names = Self { ours: Vec::new(), baselines: Vec::new() };
        names.add(if baseline { "baselines" } else { "names" }, baseline);
        names
    }

    fn add(&mut self, name: &str, baseline: bool) {
        if self.all().any(|(known, _)| known == name) {
            return;
        }
        let list = if baseline { &mut self.baselines } else { &mut self.ours };
        list.push(name.to_owned());
    }

    /// All names with how they are drawn.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Key)> {
        let ours = self.ours.iter().enumerate().map(|(place, name)| (name.as_str(), Key { place, baseline: false }));
        let rest = self.baselines.iter().enumerate();
        ours.chain(rest.map(|(place, name)| (name.as_str(), Key { place, baseline: true })))
    }

    /// How `name` is drawn.
    pub(super) fn key(&self, name: &str) -> Key {
        self.all().find(|(known, _)| *known == name).map_or(Key { place: 0, baseline: true }, |(_, key)| key)
    }

    /// Where `name` comes in lists.
    pub(super) fn rank(&self, name: &str) -> usize {
        self.all().position(|(known, _)| known == name).unwrap_or(usize::MAX)
    }
}

impl Key {
    /// The class that the style sheet gives a colour and dashes.
    pub(super) fn class(self) -> String {
        let [ours, baselines] = COLOURS;
        if self.baseline { format!("b{}", self.place % baselines) } else { format!("l{}", self.place % ours) }
    }

    /// A marker at a place of a drawing.
    pub(super) fn marker(self, x: f64, y: f64) -> String {
        // From the second round of colours on, shapes shift, so that no two of the first 24 look the same.
        let [ours, baselines] = COLOURS;
        let round = self.place / if self.baseline { baselines } else { ours };
        let d = match (self.place + round) % SHAPES {
            0 => "m-3.8,0a3.8,3.8 0 1,0 7.6,0a3.8,3.8 0 1,0 -7.6,0z",
            1 => "m-3.4,-3.4h6.8v6.8h-6.8z",
            2 => "m0,-4.6l4.4,7.6h-8.8z",
            3 => "m0,-4.9l4.9,4.9l-4.9,4.9l-4.9,-4.9z",
            4 => "m0,4.6l4.4,-7.6h-8.8z",
            _ => "m-1.5,-4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
        };
        let open = if self.baseline { "m open" } else { "m" };
        format!("<path class=\"{open}\" d=\"M{x:.1},{y:.1}{d}\"/>")
    }

    /// A marker that stands in a line of text, with the name after it.
    pub(super) fn tag(self, name: &str) -> String {
        format!(
            "<svg class=\"tag s {}\" viewBox=\"0 0 26 12\" width=\"26\" height=\"12\" aria-hidden=\"true\">\
             <path class=\"line\" d=\"M1,6H25\"/>{}</svg>{}",
            self.class(),
            self.marker(13.0, 6.0),
            escape(name)
        )
    }
}
