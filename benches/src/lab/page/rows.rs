//! Everything that was measured, and what was not.

use super::series::Names;
use super::text::{escape, grouped, number};
use super::{Section, section};
use crate::lab::report::{Report, Row};

/// What was skipped and why; none if nothing was.
pub(super) fn skipped(report: &Report) -> Option<Section> {
    if report.skipped.is_empty() {
        return None;
    }
    let items: String = report.skipped.iter().map(|why| format!("<li>{}</li>", escape(why))).collect();
    Some(section("skipped", "Skipped", "What was skipped, and why", format!("<ul>{items}</ul>")))
}

/// The table of all rows; none without rows.
pub(super) fn all(report: &Report, names: &Names) -> Option<Section> {
    if report.rows.is_empty() {
        return None;
    }
    let count = grouped(report.rows.len() as f64);
    let table = table(report.rows.iter(), names);
    let body = format!("<details><summary>{count} rows</summary>{table}</details>");
    Some(section("rows", "All rows", "All rows", body))
}

/// Rows as they are.
pub(super) fn table<'a>(rows: impl Iterator<Item = &'a Row>, names: &Names) -> String {
    let heads = ["payload, B", "burst", "entries", "under way", "threads", "median, ns", "min", "max", "samples"];
    let heads: String = heads.iter().map(|head| format!("<th class=\"n\" scope=\"col\">{head}</th>")).collect();
    let mut out = format!(
        "<div class=\"wide\"><table class=\"rows\"><thead><tr><th scope=\"col\">name</th><th scope=\"col\">mode</th>{heads}\
         </tr></thead><tbody>"
    );
    for row in rows {
        out.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td>",
            names.key(&row.layout).tag(&row.layout),
            escape(&row.mode)
        ));
        for count in [row.payload as usize, row.burst, row.size.into(), row.outstanding, row.threads.into()] {
            out.push_str(&format!("<td class=\"n\">{}</td>", grouped(count as f64)));
        }
        for time in [row.ns_per_buffer_median, row.min, row.max] {
            out.push_str(&format!("<td class=\"n\">{}</td>", number(time)));
        }
        out.push_str(&format!("<td class=\"n\">{}</td></tr>", grouped(row.samples as f64)));
    }
    out.push_str("</tbody></table></div>");
    out
}
