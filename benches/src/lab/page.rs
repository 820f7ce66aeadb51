//! The page that shows a report.

use super::report::Report;

/// One self-contained page.
#[must_use]
pub fn page(report: &Report) -> String {
    format!("<!doctype html><title>Ring lab</title><p>{} rows: see report.json", report.rows.len())
}
