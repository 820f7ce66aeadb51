//! `report.html`: bars, DPDK's beside ours.
//!
//! One file that needs nothing else: no script, and styles are part of it. It is well-formed XML as well.

use super::figures::Figure;
use super::plan::mergeable;
use super::report::{Report, Row};
use super::table::number;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The page of a report.
pub(super) fn page(report: &Report) -> String {
    let paths = paths(&report.rows);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>Beside DPDK</title>\
         <style>\n{}</style></head>\n<body>\n<header><h1>Beside DPDK</h1>{}</header>\n{}<nav>",
        include_str!("page.css"),
        head(report),
        GUIDE
    );
    for path in &paths {
        // Writing to a String cannot fail.
        let _ = write!(out, "<a href=\"#{}\">{}</a> ", anchor(path), escape(path));
    }
    out += "<a href=\"#rows\">All figures</a></nav>\n";
    out += &overview(&report.rows);
    let longest = longest(&report.rows);
    for path in &paths {
        out += &section(path, &report.rows, longest);
    }
    out + &all(&report.rows) + "</body></html>\n"
}

const GUIDE: &str = "<div class=\"guide\"><p><span class=\"key dpdk\">DPDK's vhost port</span>\
    <span class=\"key ours\">our daemon</span></p><ul>\
    <li>Bars are frames a second, in millions, counted at the front end: DPDK's virtio-user port, the same for both, on \
    one processor, with the back end on another. Longer is better; all bars have one scale.</li>\
    <li>A bar is the median of the samples, the line across it goes from the least to the most. The number behind is \
    the ratio, ours for each of theirs: the median of neighbouring samples.</li>\
    <li>Both back ends do the same work: every frame is copied whole, from or to guest memory. Guest to host: frames \
    are received and dropped. Host to guest: frames that are there already get new headers. Loop: frames go around \
    through both rings, and each round counts once.</li>\
    <li>Sizes are bytes without FCS; the mix is 64, 576 and 1500 in equal shares.</li></ul></div>\n";

/// Names of paths, in the order of the rows.
fn paths(rows: &[Row]) -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    rows.iter().map(|row| row.path).filter(|path| seen.insert(*path)).collect()
}

/// The end of the scale, in Mpps.
fn longest(rows: &[Row]) -> f64 {
    let tops = rows.iter().flat_map(|row| [row.dpdk, row.ours]).flatten().map(|figure| figure.max);
    tops.fold(1e-9, f64::max)
}

fn head(report: &Report) -> String {
    let m = &report.machine;
    let pages = if m.huge_pages { "huge pages" } else { "pages of 4 KiB" };
    let how = format!(
        "{} rounds of {} ms each, in turn; {pages}; front end on CPU {}, back end on CPU {}",
        m.rounds, m.window_ms, m.front_end_cpu, m.back_end_cpu
    );
    let terms = [("Processor", m.cpu.as_str()), ("Kernel", &m.kernel), ("Peer", &m.dpdk), ("Run", &how)];
    let items = terms.map(|(term, text)| format!("<dt>{term}</dt><dd>{}</dd>", escape(text)));
    format!("<dl>{}</dl>", items.concat())
}

/// What the ratios of all paths come to.
fn overview(rows: &[Row]) -> String {
    let mut out = "<section><h2>Ratios, all paths</h2><table><thead><tr><th>direction</th><th>size</th>\
        <th class=\"n\">median</th><th class=\"n\">least, most</th></tr></thead><tbody>\n"
        .to_owned();
    let mut seen = BTreeSet::new();
    for kind in rows.iter().filter(|row| seen.insert((row.direction, row.size))) {
        let same = rows.iter().filter(|row| (row.direction, row.size) == (kind.direction, kind.size));
        let Some(figure) = Figure::of(&same.filter_map(|row| row.ratio).collect::<Vec<_>>()) else { continue };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{:.2}</td><td class=\"n\">{:.2}, {:.2}</td></tr>",
            kind.direction,
            size(kind),
            figure.median,
            figure.min,
            figure.max
        );
    }
    out + "</tbody></table></section>\n"
}

/// One path: a column with mergeable buffers, and one without.
fn section(path: &str, rows: &[Row], longest: f64) -> String {
    let mut out = format!("<section id=\"{}\"><h2>{}</h2><div class=\"modes\">", anchor(path), escape(path));
    for mode in [true, false] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.path == path && row.mergeable == mode).collect();
        if rows.is_empty() {
            continue;
        }
        let drivers = rows.iter().find_map(|row| row.tx_path.as_ref().zip(row.rx_path.as_ref()));
        let drivers = drivers
            .map_or(String::new(), |(tx, rx)| format!(" <small>driver: {} tx, {} rx</small>", escape(tx), escape(rx)));
        let _ = write!(out, "<div><h3>{}{drivers}</h3><div class=\"bars\">", mergeable(mode));
        for row in rows {
            out += &bars(row, longest);
        }
        out += "</div></div>";
    }
    out + "</div></section>\n"
}

/// Both bars of a row.
fn bars(row: &Row, longest: f64) -> String {
    let what = format!("<div class=\"what\">{}<br/><small>{}</small></div>", row.direction, size(row));
    let (Some(dpdk), Some(ours)) = (row.dpdk, row.ours) else {
        let why = escape(row.skipped.as_deref().unwrap_or("no figures"));
        return format!(
            "{what}<div class=\"skip\">skipped: {why}</div><div class=\"skip\"></div><div class=\"gap\"></div>"
        );
    };
    let class = row.aim().map_or("", |aim| if aim.met { "good" } else { "bad" });
    let ratio = number(row.ratio, 2);
    format!(
        "{what}{}<div class=\"n\">{:.1}</div><div class=\"ratio {class}\">{ratio}</div>{}<div class=\"n\">{:.1}</div>\
         <div class=\"gap\"></div>",
        bar("dpdk", dpdk, longest),
        dpdk.median,
        bar("ours", ours, longest),
        ours.median
    )
}

fn size(row: &Row) -> String {
    if row.size == "mix" { "mix".to_owned() } else { format!("{} B", row.size) }
}

fn bar(who: &str, figure: Figure, longest: f64) -> String {
    let part = |value: f64| (value / longest * 100.0).clamp(0.0, 100.0);
    format!(
        "<div class=\"track\" title=\"{:.2} to {:.2} Mpps\"><div class=\"bar {who}\" style=\"width:{:.2}%\"></div>\
         <div class=\"range\" style=\"left:{:.2}%;width:{:.2}%\"></div></div>",
        figure.min,
        figure.max,
        part(figure.median),
        part(figure.min),
        part(figure.max) - part(figure.min)
    )
}

/// Every figure, and the notes.
fn all(rows: &[Row]) -> String {
    let mut out = "<section id=\"rows\"><h2>All figures</h2><div class=\"wide\"><table><thead><tr><th>path</th>\
        <th>buffers</th><th>direction</th><th>size</th><th class=\"n\">DPDK, Mpps</th><th class=\"n\">ours, Mpps</th>\
        <th class=\"n\">ratio</th><th class=\"n\">from, to</th><th class=\"n\">cycles, DPDK</th>\
        <th class=\"n\">cycles, ours</th><th>aim</th></tr></thead><tbody>\n"
        .to_owned();
    for row in rows {
        let names = [row.path, mergeable(row.mergeable), row.direction, row.size];
        let range = row.ratios.map_or("-".to_owned(), |r| format!("{:.2}, {:.2}", r.min, r.max));
        let figures = [
            number(row.dpdk_mpps, 2),
            number(row.ours_mpps, 2),
            number(row.ratio, 2),
            range,
            number(row.dpdk_cycles, 0),
            number(row.ours_cycles, 0),
        ];
        let (class, aim) = match row.aim() {
            Some(aim) if aim.met => ("good", format!("{}: met", aim.wanted)),
            Some(aim) => ("bad", format!("{}: missed", aim.wanted)),
            None => ("quiet", row.skipped.as_deref().map_or("-".to_owned(), |why| format!("skipped: {why}"))),
        };
        let names = names.map(|name| format!("<td>{}</td>", escape(name))).concat();
        let figures = figures.map(|figure| format!("<td class=\"n\">{figure}</td>")).concat();
        let _ = writeln!(out, "<tr>{names}{figures}<td class=\"{class}\">{}</td></tr>", escape(&aim));
    }
    out += "</tbody></table></div>";
    let notes = rows.iter().flat_map(|row| row.notes.iter().map(|note| format!("{}: {note}", row.name())));
    let notes: String = notes.map(|note| format!("<li>{}</li>", escape(&note))).collect();
    if !notes.is_empty() {
        let _ = write!(out, "<h3>What does not add up</h3><ul class=\"notes\">{notes}</ul>");
    }
    out + "</section>\n"
}

fn anchor(path: &str) -> String {
    path.replace(' ', "-")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Direction, LAYOUTS, Path, Size};
    use super::super::report::{Machine, tests::row};
    use super::*;

    fn report() -> Report {
        let path = Path { layout: &LAYOUTS[0], mergeable: false };
        let skipped = Row::skipped(path, Direction::ToHost, Size::Mix, "a < b & c");
        let mut rows = vec![row(Direction::Loop, &[10.0, 12.0, 20.0], &[13.0, 13.0, 13.0]), skipped];
        rows[0].notes = vec!["<odd>".to_owned()];
        Report { machine: Machine { cpu: "A & B".to_owned(), ..Machine::default() }, rows }
    }

    #[test]
    fn bars_are_on_one_scale() {
        let text = page(&report());
        assert!(text.contains("class=\"bar dpdk\" style=\"width:60.00%\""), "{text}");
        assert!(text.contains("class=\"bar ours\" style=\"width:65.00%\""));
        assert!(text.contains("style=\"left:50.00%;width:50.00%\""), "from the least to the most");
        assert!(text.contains("<td>loop</td><td>64 B</td><td class=\"n\">1.08</td>"), "the only row of its kind");
    }

    #[test]
    fn text_of_the_report_is_escaped_and_every_element_is_closed() {
        let text = page(&report());
        for part in ["A &amp; B", "skipped: a &lt; b &amp; c", "&lt;odd&gt;"] {
            assert!(text.contains(part), "{part}");
        }
        for element in ["div", "section", "table", "tr", "td", "ul", "li", "dl", "small", "span", "a"] {
            let opened = text.matches(&format!("<{element} ")).count() + text.matches(&format!("<{element}>")).count();
            assert_eq!(opened, text.matches(&format!("</{element}>")).count(), "{element}");
        }
    }
}
