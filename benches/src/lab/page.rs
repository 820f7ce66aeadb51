//! The page of a run: `report.html`, made from `report.json`.
//!
//! One file that needs nothing else: styles and drawings are part of it, and there is no script. It is HTML that is
//! well-formed XML as well, so that tests can parse it.

mod axis;
mod chart;
mod cuts;
mod latency;
mod pictures;
mod plots;
mod rows;
mod series;
mod summary;
mod text;
mod wakeups;

#[cfg(test)]
mod tests;

use series::Names;
use summary::Headline;
use text::{escape, grouped};

use super::report::Report;

/// A part of the page.
struct Section {
    id: String,
    /// What it is called in the list at the top.
    short: String,
    title: String,
    /// HTML.
    body: String,
}

fn section(id: &str, short: &str, title: &str, body: String) -> Section {
    Section { id: id.to_owned(), short: short.to_owned(), title: title.to_owned(), body }
}

/// The page of a report, as HTML.
///
/// Times that are no positive number are left out of the plots and are a dash in the tables. All text of the report is
/// escaped.
pub fn page(report: &Report) -> String {
    let names = Names::new(report);
    let headline = Headline::new(report);
    let mut sections = Vec::new();
    if !report.rows.is_empty() {
        let title = "256 entries, two pinned threads, polled, no payload";
        sections.push(section("summary", "Summary", title, summary::table(&headline, &names)));
    }
    sections.extend(plots::sections(report, &names));
    sections.extend(latency::section_of(report, &names));
    sections.extend(wakeups::section_of(report, &names));
    sections.extend(pictures::section_of(report, &names, &headline));
    let empty = sections.is_empty();
    sections.extend(rows::skipped(report));
    sections.extend(rows::all(report, &names));

    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>Ring lab</title>\
         <style>\n{}</style></head>\n<body>\n{}",
        include_str!("page/style.css"),
        head(report)
    );
    if empty {
        out.push_str("<p class=\"empty\">This report holds no measurements.</p>\n");
    } else {
        out.push_str(&guide());
        out.push_str("<nav>");
        for section in &sections {
            out.push_str(&format!("<a href=\"#{}\">{}</a> ", escape(&section.id), escape(&section.short)));
        }
        out.push_str("</nav>\n");
    }
    for Section { id, title, body, .. } in &sections {
        out.push_str(&format!("<section id=\"{}\"><h2>{}</h2>\n{body}</section>\n", escape(id), escape(title)));
    }
    out.push_str("</body></html>\n");
    out
}

/// What was run, where, how and when.
fn head(report: &Report) -> String {
    let mut out = String::from("<header><h1>Ring lab</h1><dl>");
    let what = format!(
        "{} rows of throughput, {} of latency, {} of wake-ups; {} layouts and baselines",
        grouped(report.rows.len() as f64),
        grouped(report.latencies.len() as f64),
        grouped(report.wakeups.len() as f64),
        Names::new(report).all().count()
    );
    for (term, text, code) in [
        ("Machine", report.machine.as_str(), false),
        ("Command", report.command.as_str(), true),
        ("Date", report.date.as_str(), false),
        ("Holds", what.as_str(), false),
    ] {
        if text.is_empty() {
            continue;
        }
        let text = escape(text);
        let text = if code { format!("<code>{text}</code>") } else { text };
        out.push_str(&format!("<dt>{term}</dt><dd>{text}</dd>"));
    }
    out.push_str("</dl></header>\n");
    out
}

/// How to read the page.
fn guide() -> String {
    let [ours, baseline] = [false, true].map(|baseline| {
        let names = Names::sample(baseline);
        names.all().map(|(name, key)| key.tag(name)).collect::<String>()
    });
    format!(
        "<div class=\"guide\"><h2>How to read this</h2><ul>\
         <li><b>ns per buffer</b> is the time of a whole cycle, divided by the number of buffers: the driver adds and \
         publishes, the device uses and completes, the driver reaps. It says how fast buffers flow, not how long one \
         takes; that is under latency. Less is better.</li>\
         <li>A mark is the median of the samples; its whisker goes from the fastest to the slowest one, without a cap \
         where it goes on beyond twice or half the median. All axes are logarithmic: the same distance is the same \
         ratio.</li>\
         <li><span class=\"sample\">{ours}</span> with full lines and marks are layouts of the lab, \
         <span class=\"sample\">{baseline}</span> with dashes and open marks are what they are measured against: \
         <i>peers</i>, which are programs in use, and <i>floors</i>, bare loops that check nothing.</li>\
         <li>Point at a line to single it out, at a mark for its figures.</li></ul></div>\n"
    )
}
