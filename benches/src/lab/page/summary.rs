//! The table at the top: 256 entries, two threads, polled, no payload.

use std::collections::BTreeMap;

use super::axis::{Log, SANE};
use super::series::Names;
use super::text::{escape, number};
use crate::lab::report::{Report, Row};

/// The bursts that it shows.
pub(super) const BURSTS: [usize; 2] = [1, 32];
/// Width of a strip.
const STRIP: f64 = 116.0;

/// The rows of the headline configuration, with the number of buffers under way that most of them have.
pub(super) struct Headline<'a> {
    rows: Vec<&'a Row>,
    outstanding: usize,
}

impl<'a> Headline<'a> {
    /// Picks the rows.
    pub(super) fn new(report: &'a Report) -> Self {
        let is = |row: &&Row| {
            row.size == 256
                && row.threads == 2
                && row.mode == "polled"
                && row.payload == 0
                && BURSTS.contains(&row.burst)
                && SANE.contains(&row.ns_per_buffer_median)
        };
        let rows: Vec<&Row> = report.rows.iter().filter(is).collect();
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for row in &rows {
            *counts.entry(row.outstanding).or_default() += 1;
        }
        let outstanding = counts.iter().max_by_key(|(outstanding, count)| (**count, **outstanding));
        let outstanding = outstanding.map_or(0, |(outstanding, _)| *outstanding);
        Self { rows, outstanding }
    }

    /// The row of a layout: the one with the usual number under way, or else the one with most.
    pub(super) fn cell(&self, layout: &str, burst: usize) -> Option<&'a Row> {
        let rows = self.rows.iter().filter(|row| row.layout == layout && row.burst == burst);
        rows.max_by_key(|row| (row.outstanding == self.outstanding, row.outstanding)).copied()
    }

    /// The fastest baseline with this burst: among bare loops, which check nothing, or among the others.
    fn best(&self, names: &Names, burst: usize, bare: bool) -> Option<&'a Row> {
        let baselines = names.all().filter(|(name, key)| key.baseline && is_bare(name) == bare);
        let cells = baselines.filter_map(|(name, _)| self.cell(name, burst));
        cells.min_by(|a, b| a.ns_per_buffer_median.total_cmp(&b.ns_per_buffer_median))
    }
}

/// Bare loops are named so.
fn is_bare(name: &str) -> bool {
    name.starts_with("bare")
}

/// What a burst is compared with.
struct Column<'a> {
    burst: usize,
    peer: Option<&'a Row>,
    floor: Option<&'a Row>,
    /// The fastest of our own.
    fastest: f64,
}

/// The table, or why there is none.
pub(super) fn table(headline: &Headline<'_>, names: &Names) -> String {
    let cells = names.all().flat_map(|(name, _)| BURSTS.map(|burst| headline.cell(name, burst)));
    let near = cells.flatten().flat_map(|row| [row.ns_per_buffer_median / 1.2, row.ns_per_buffer_median * 1.2]);
    let Some(scale) = Log::nice(near) else {
        return "<p>No row has this configuration.</p>".to_owned();
    };
    let scale = scale.over(1.0, STRIP - 1.0);
    let columns = BURSTS.map(|burst| {
        let ours = names.all().filter(|(_, key)| !key.baseline).filter_map(|(name, _)| headline.cell(name, burst));
        Column {
            burst,
            peer: headline.best(names, burst, false),
            floor: headline.best(names, burst, true),
            fastest: ours.map(|row| row.ns_per_buffer_median).fold(f64::INFINITY, f64::min),
        }
    });
    let mut out = String::from("<div class=\"wide\"><table class=\"summary\">");
    out.push_str(&head(&columns, &scale));
    for (title, baseline) in [("Layouts", false), ("Baselines", true)] {
        let mut rows: Vec<(&str, [Option<&Row>; 2])> = names
            .all()
            .filter(|(_, key)| key.baseline == baseline)
            .map(|(name, _)| (name, BURSTS.map(|burst| headline.cell(name, burst))))
            .filter(|(_, cells)| cells.iter().any(Option::is_some))
            .collect();
        let time = |cell: &Option<&Row>| cell.map_or(f64::INFINITY, |row| row.ns_per_buffer_median);
        rows.sort_by(|(_, [a1, a32]), (_, [b1, b32])| {
            time(a32).total_cmp(&time(b32)).then(time(a1).total_cmp(&time(b1)))
        });
        if rows.is_empty() {
            continue;
        }
        out.push_str(&format!("<tbody><tr class=\"group\"><th colspan=\"11\" scope=\"rowgroup\">{title}</th></tr>"));
        for (name, cells) in rows {
            out.push_str(&format!("<tr><th scope=\"row\">{}</th>", names.key(name).tag(name)));
            for (column, cell) in columns.iter().zip(cells) {
                out.push_str(&cell_html(headline, names, column, cell, &scale));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody>");
    }
    out.push_str("</table></div>");
    out.push_str(&format!(
        "<p class=\"note\">At most {} buffers under way, where a row does not say otherwise. Sorted by the time at bursts \
         of 32. <b>Bold</b>: the fastest layout.</p>",
        headline.outstanding
    ));
    out
}

fn head(columns: &[Column<'_>], scale: &Log) -> String {
    let mut first = String::from("<thead><tr><td></td>");
    let mut second = String::from("<tr><th scope=\"col\">name</th>");
    let ratio = |what: &str, row: Option<&Row>| match row {
        Some(row) => format!(
            "<th scope=\"col\" class=\"n\">× {what}<br/><small>{}<br/>{}\u{a0}ns</small></th>",
            escape(&row.layout),
            number(row.ns_per_buffer_median)
        ),
        None => format!("<th scope=\"col\" class=\"n\">× {what}<br/><small>none ran</small></th>"),
    };
    for column in columns {
        let title = if column.burst == 1 {
            "every buffer published alone".to_owned()
        } else {
            format!("published by {}s", column.burst)
        };
        first.push_str(&format!(
            "<th colspan=\"5\" scope=\"colgroup\" class=\"burst\">burst {} <small>{title}</small></th>",
            column.burst
        ));
        second.push_str(&format!(
            "<th scope=\"col\" class=\"burst n\">ns</th><th scope=\"col\" class=\"n\">min–max</th>\
             <th scope=\"col\" class=\"strip\">{}</th>",
            ticks(scale)
        ));
        second.push_str(&ratio("best peer", column.peer));
        second.push_str(&ratio("floor", column.floor));
    }
    format!("{first}</tr>{second}</tr></thead>")
}

/// The axis above the strips.
fn ticks(scale: &Log) -> String {
    let mut out = format!("<svg viewBox=\"0 0 {STRIP} 16\" width=\"{STRIP}\" height=\"16\" aria-hidden=\"true\">");
    for value in scale.ticks(4) {
        let at = scale.at(value);
        let anchor = if at < 12.0 {
            ""
        } else if at > STRIP - 12.0 {
            " end"
        } else {
            " mid"
        };
        out.push_str(&format!(
            "<text class=\"tick{anchor}\" x=\"{at:.1}\" y=\"9\">{}</text><path class=\"axis\" d=\"M{at:.1},12v4\"/>",
            number(value).trim_end_matches(".00").trim_end_matches(".0")
        ));
    }
    out.push_str("</svg>");
    out
}

fn cell_html(headline: &Headline<'_>, names: &Names, column: &Column<'_>, cell: Option<&Row>, scale: &Log) -> String {
    let Some(row) = cell else {
        return "<td class=\"burst n\">–</td><td></td><td></td><td></td><td></td>".to_owned();
    };
    let time = row.ns_per_buffer_median;
    let ratio = |to: Option<&Row>| match to {
        Some(to) if to.layout == row.layout => "<td class=\"n\">1</td>".to_owned(),
        Some(to) => format!("<td class=\"n\">{}</td>", number(time / to.ns_per_buffer_median)),
        None => "<td class=\"n\">–</td>".to_owned(),
    };
    let shown = if !row.baseline && time <= column.fastest { format!("<b>{}</b>", number(time)) } else { number(time) };
    let other = if row.outstanding == headline.outstanding {
        String::new()
    } else {
        format!("<br/><small>{} under way</small>", row.outstanding)
    };
    let key = names.key(&row.layout);
    let open = if row.baseline { "m open" } else { "m" };
    let dot = format!("<circle class=\"{open}\" cx=\"{:.1}\" cy=\"7\" r=\"3\"/>", scale.at(time));
    let [lo, hi] = [row.min, row.max].map(|value| if value.is_finite() && value > 0.0 { value } else { time });
    format!(
        "<td class=\"burst n\">{shown}{other}</td><td class=\"n quiet\">{}–{}</td>\
         <td class=\"strip\"><svg class=\"s {}\" viewBox=\"0 0 {STRIP} 14\" width=\"{STRIP}\" height=\"14\" aria-hidden=\"true\">\
         <path class=\"rail\" d=\"M0,7H{STRIP}\"/><path class=\"whisker\" d=\"M{:.1},7H{:.1}\"/>{}</svg></td>{}{}",
        number(row.min),
        number(row.max),
        key.class(),
        scale.at(lo),
        scale.at(hi),
        dot,
        ratio(column.peer),
        ratio(column.floor)
    )
}
