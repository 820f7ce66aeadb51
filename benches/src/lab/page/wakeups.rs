//! Kicks and calls under event suppression, as a table with bars.

use super::series::Names;
use super::text::number;
use super::{Section, section};
use crate::lab::report::{Report, Wakeups};

/// Width of a bar for the largest value.
const BAR: f64 = 220.0;

/// The section; none without wake-ups.
pub(super) fn section_of(report: &Report, names: &Names) -> Option<Section> {
    let all = &report.wakeups;
    if all.is_empty() {
        return None;
    }
    let values = all.iter().flat_map(|row| [row.kicks, row.calls]).filter(|value| value.is_finite());
    let most = values.fold(0.0, f64::max);
    let mut out = String::from(
        "<p>Both sides sleep when they have nothing to do, and ask to be woken before that. A kick is a write to the \
         device’s eventfd, a call one to the driver’s.</p><div class=\"wide\"><table class=\"bars\"><thead><tr>\
         <th scope=\"col\">layout</th><th class=\"n\" scope=\"col\">burst</th><th class=\"n\" scope=\"col\">under way</th>\
         <th colspan=\"2\" scope=\"colgroup\">kicks per buffer</th><th colspan=\"2\" scope=\"colgroup\">calls per buffer</th></tr></thead>",
    );
    for (name, key) in names.all() {
        let mut rows: Vec<&Wakeups> = all.iter().filter(|row| row.layout == name).collect();
        rows.sort_by_key(|row| (row.burst, row.outstanding));
        if rows.is_empty() {
            continue;
        }
        out.push_str(&format!("<tbody class=\"s {}\">", key.class()));
        for (place, row) in rows.iter().enumerate() {
            let head = if place == 0 {
                format!("<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>", rows.len(), key.tag(name))
            } else {
                String::new()
            };
            out.push_str(&format!(
                "<tr>{head}<td class=\"n\">{}</td><td class=\"n\">{}</td>{}{}</tr>",
                row.burst,
                row.outstanding,
                bar(row.kicks, most),
                bar(row.calls, most)
            ));
        }
        out.push_str("</tbody>");
    }
    out.push_str("</table></div>");
    Some(section("wakeups", "Kicks and calls", "Kicks and calls under event suppression", out))
}

/// A number and its bar.
fn bar(value: f64, most: f64) -> String {
    let part = if value.is_finite() && most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    // A hair's breadth for what is small but there.
    let width = if part > 0.0 { (BAR * part).max(1.0) } else { 0.0 };
    format!(
        "<td class=\"n\">{}</td><td class=\"bar\"><svg viewBox=\"0 0 {BAR} 12\" width=\"{BAR}\" height=\"12\" aria-hidden=\"true\">\
         <path class=\"rail\" d=\"M0,6H{BAR}\"/><rect class=\"fill\" x=\"0\" y=\"1\" width=\"{width:.1}\" height=\"10\" rx=\"1\"/></svg></td>",
        number(value)
    )
}
