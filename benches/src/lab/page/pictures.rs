//! A picture of each layout: its areas as strips of cachelines.

use super::series::Names;
use super::summary::{BURSTS, Headline};
use super::text::{escape, grouped, number};
use super::{Section, section};
use crate::lab::report::{Lines, Picture, Report, Writer};

/// Width and height of a cacheline in the drawing, and the gap after it.
const CELL: f64 = 40.0;
const HEIGHT: f64 = 22.0;
const GAP: f64 = 3.0;
/// Lines drawn of an area that has more: the first ones, an ellipsis, the last one.
const FIRST: usize = 5;
/// Width of the ellipsis.
const DOTS: f64 = 22.0;
/// Most entries of a line that are told apart.
const ENTRIES: f64 = 16.0;

/// The section; none without pictures.
pub(super) fn section_of(report: &Report, names: &Names, headline: &Headline<'_>) -> Option<Section> {
    if report.pictures.is_empty() {
        return None;
    }
    let mut out = String::from(
        "<p>Each box is a line of 64 bytes, divided into its entries if it holds at most 16. What counts is how many lines travel between the \
         two cores for each buffer: a line that one core wrote and the other one reads or writes has to be fetched.</p>\
         <p class=\"legend\">",
    );
    for writer in [Writer::Driver, Writer::Device, Writer::Both] {
        let (class, words) = of(writer);
        out.push_str(&format!(
            "<span><svg class=\"tag\" viewBox=\"0 0 26 14\" width=\"26\" height=\"14\" aria-hidden=\"true\">{}</svg>{words}</span> ",
            cell(0.0, 25.0, 14.0, class)
        ));
    }
    out.push_str("</p>");
    for picture in &report.pictures {
        out.push_str(&card(picture, names, headline));
    }
    Some(section("layouts", "Cachelines", "The layouts, and who writes which cacheline", out))
}

fn of(writer: Writer) -> (&'static str, &'static str) {
    match writer {
        Writer::Driver => ("driver", "the driver writes"),
        Writer::Device => ("device", "the device writes"),
        Writer::Both => ("both", "both write"),
    }
}

fn card(picture: &Picture, names: &Names, headline: &Headline<'_>) -> String {
    let mut out = format!(
        "<article class=\"card\"><h3>{}</h3><p class=\"idea\">{}</p><div class=\"split\"><div class=\"areas\">",
        names.key(&picture.layout).tag(&picture.layout),
        escape(&picture.idea)
    );
    for area in &picture.areas {
        out.push_str(&strip(area));
    }
    out.push_str(
        "</div><div class=\"count\"><table><thead><tr><td></td><th class=\"n\" scope=\"col\">lines that travel<br/>\
         <small>a buffer, on paper</small></th><th class=\"n\" scope=\"col\">measured<br/><small>ns per buffer</small></th>\
         </tr></thead><tbody>",
    );
    for (burst, transfers) in BURSTS.into_iter().zip([picture.transfers_burst_1, picture.transfers_burst_32]) {
        let measured = headline.cell(&picture.layout, burst);
        out.push_str(&format!(
            "<tr><th scope=\"row\">burst {burst}</th><td class=\"n big\">{}</td><td class=\"n\">{}</td></tr>",
            number(transfers),
            measured.map_or("–".to_owned(), |row| number(row.ns_per_buffer_median))
        ));
    }
    out.push_str(&format!("</tbody></table><p>{}</p></div></div></article>", escape(&picture.count)));
    out
}

/// An area: its name, its lines, and what is to be said of them.
fn strip(area: &Lines) -> String {
    let (class, words) = of(area.writer);
    let lines = if area.lines == 1 { "1 line".to_owned() } else { format!("{} lines", grouped(area.lines as f64)) };
    let each = match area.per_line {
        each if !each.is_finite() || each <= 0.0 => String::new(),
        each if each < 1.0 => format!(", {} an entry", plain(1.0 / each)),
        1.0 if area.lines == 1 => String::new(),
        1.0 => ", 1 entry each".to_owned(),
        each => format!(", {} entries each", plain(each)),
    };
    format!(
        "<div class=\"area\"><div><b>{}</b><br/><small>{}</small></div><div>{}</div>\
         <div class=\"facts\"><span class=\"who {class}\">{words}</span> {}<br/><small>{lines}{each}</small></div></div>",
        escape(&area.area),
        escape(&area.entry),
        svg(area, class),
        escape(&area.when)
    )
}

/// A number that is mostly a whole one.
fn plain(value: f64) -> String {
    if (value - value.round()).abs() < 0.005 { grouped(value) } else { number(value) }
}

fn svg(area: &Lines, class: &str) -> String {
    let width = (FIRST + 1) as f64 * (CELL + GAP) + DOTS;
    let mut out = format!(
        "<svg class=\"strip\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" aria-hidden=\"true\">"
    );
    let whole = area.lines <= FIRST + 1;
    let mut at = 0.0;
    for _ in 0..if whole { area.lines } else { FIRST } {
        out.push_str(&line(area, at, class));
        at += CELL + GAP;
    }
    if !whole {
        out.push_str(&format!(
            "<text class=\"label mid\" x=\"{:.1}\" y=\"{:.1}\">⋯</text>{}",
            at + DOTS / 2.0 - GAP / 2.0,
            HEIGHT / 2.0 + 4.0,
            line(area, at + DOTS, class)
        ));
    }
    out.push_str("</svg>");
    out
}

/// A line with its entries.
fn line(area: &Lines, at: f64, class: &str) -> String {
    let mut out = cell(at, CELL, HEIGHT, class);
    let each = area.per_line;
    if each > 1.0 && each <= ENTRIES {
        let mut marks = String::new();
        for entry in 1..each.ceil() as usize {
            marks.push_str(&format!("M{:.1},1V{:.1}", at + CELL * entry as f64 / each, HEIGHT - 1.0));
        }
        out.push_str(&format!("<path class=\"cut {class}\" d=\"{marks}\"/>"));
    }
    out
}

/// A box in the colour of who writes; lines that both write show both colours.
fn cell(at: f64, width: f64, height: f64, class: &str) -> String {
    let rest = format!("y=\"0.5\" height=\"{:.1}\"", height - 1.0);
    if class != "both" {
        return format!(
            "<rect class=\"cell {class}\" x=\"{:.1}\" width=\"{:.1}\" {rest} rx=\"2\"/>",
            at + 0.5,
            width - 1.0
        );
    }
    let (left, right, bottom) = (at + 0.5, at + width - 0.5, height - 0.5);
    format!(
        "<path class=\"cell driver\" d=\"M{left:.1},0.5H{right:.1}L{left:.1},{bottom:.1}Z\"/>\
         <path class=\"cell device\" d=\"M{right:.1},0.5V{bottom:.1}H{left:.1}Z\"/>"
    )
}
