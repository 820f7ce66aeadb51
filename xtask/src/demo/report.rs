//! Rows of `report.json`, the table at the end, and one line for each result on the way.

use e2e::{Line, Verdict};
use serde::Serialize;
use std::fmt::Write as _;

/// One row. `value` is in `unit`.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    guest: String,
    net: String,
    check: String,
    result: Verdict,
    value: Option<f64>,
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The rows of a run.
pub(crate) struct Report {
    guest: String,
    net: String,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(guest: &str, net: &str) -> Self {
        Self { guest: guest.to_owned(), net: net.to_owned(), rows: Vec::new() }
    }

    fn row(&mut self, check: &str, result: Verdict, value: Option<(f64, &str)>, reason: Option<&str>) {
        self.rows.push(Row {
            guest: self.guest.clone(),
            net: self.net.clone(),
            check: check.to_owned(),
            result,
            value: value.map(|(value, _)| value),
            unit: value.map(|(_, unit)| unit.to_owned()),
            reason: reason.map(str::to_owned),
        });
    }

    /// A result of the guest; its loss is a row of its own.
    pub(crate) fn add(&mut self, line: &Line) {
        let value = line.value.map(|value| (value, line.unit.as_deref().unwrap_or_default()));
        self.row(&line.check, line.result, value, line.reason.as_deref());
        if let Some(loss) = line.detail.get("loss_percent").and_then(serde_json::Value::as_f64) {
            self.row(&format!("{}_loss", line.check), line.result, Some((loss, "%")), None);
        }
    }

    /// A failure beside the guest's own checks.
    pub(crate) fn fail(&mut self, check: &str, reason: &str) {
        self.row(check, Verdict::Fail, None, Some(reason));
    }

    /// A figure without a judgement.
    pub(crate) fn summary(&mut self, check: &str, value: u64, unit: &str) {
        self.row(check, Verdict::Info, Some((value as f64, unit)), None);
    }

    /// What the daemon counted: packets, kicks and calls for each, mean burst; summed over the queue pairs.
    ///
    /// # Errors
    /// It is not the JSON of the daemon.
    pub(crate) fn rings(&mut self, json: &[u8]) -> Result<(), String> {
        let stats: serde_json::Value = serde_json::from_slice(json).map_err(|e| format!("stats.json: {e}"))?;
        let pairs = stats.pointer("/guests/0/pairs").and_then(|p| p.as_array()).ok_or("stats.json has no pairs")?;
        for way in ["tx", "rx"] {
            let sum = |key: &str| -> f64 { pairs.iter().filter_map(|p| p.get(way)?.get(key)?.as_f64()).sum() };
            let each = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
            let frames = sum("frames");
            let figures = [
                ("packets", frames, "packets"),
                ("kicks_per_packet", each(sum("kicks"), frames), "1/packet"),
                ("calls_per_packet", each(sum("calls"), frames), "1/packet"),
                ("mean_burst", each(frames, sum("bursts")), "packets"),
            ];
            for (name, value, unit) in figures {
                self.row(&format!("{way}_{name}"), Verdict::Info, Some((value, unit)), None);
            }
        }
        Ok(())
    }

    /// Whether there are results and none is a failure.
    pub(crate) fn passed(&self) -> bool {
        let mut passes = self.rows.iter().filter(|r| r.result == Verdict::Pass);
        passes.next().is_some() && self.rows.iter().all(|r| r.result != Verdict::Fail)
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(&self.rows)
    }

    /// The table for the screen.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<24} {:<6} {:>14}\n", format!("{} on {}", self.guest, self.net), "result", "value");
        for row in &self.rows {
            let value = row.value.map(figure).unwrap_or_default();
            let unit = row.unit.as_deref().unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(text, "{:<24} {:<6} {value:>14} {unit}", row.check, row.result.to_string());
            if let Some(reason) = &row.reason {
                let _ = write!(text, " {reason}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        let passed = self.rows.iter().filter(|r| r.result == Verdict::Pass).count();
        let failed = self.rows.iter().filter(|r| r.result == Verdict::Fail).count();
        let _ = write!(text, "{passed} passed, {failed} failed");
        text
    }
}

/// Three digits behind the point, and none where there is nothing behind it.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// One line for a result as it comes.
pub(crate) fn describe(line: &Line) -> String {
    let detail = |key: &str| match line.detail.get(key) {
        Some(serde_json::Value::String(s)) => s.clone(),
        Some(serde_json::Value::Array(list)) => list.iter().filter_map(|v| v.as_str()).collect::<Vec<_>>().join(" "),
        Some(serde_json::Value::Number(n)) => n.as_f64().map(figure).unwrap_or_default(),
        _ => String::new(),
    };
    let value = line.value.map(figure).unwrap_or_default();
    let unit = line.unit.as_deref().unwrap_or_default();
    let more = match line.check.as_str() {
        "boot" => format!("kernel {}", detail("kernel")),
        "features" => detail("names"),
        "link" => format!("MTU, MAC address {}", detail("mac")),
        "dhcp" => format!("address {}, gateway {}, DNS {}", detail("address"), detail("gateway"), detail("dns")),
        "ping4" | "ping6" => format!(
            "mean of {}, {} to {} ms, {} % loss",
            detail("sent"),
            detail("min_ms"),
            detail("max_ms"),
            detail("loss_percent")
        ),
        "dns" => format!("for {} and {}", detail("a"), detail("aaaa")),
        check if check.starts_with("udp_") && !detail("sent").is_empty() => {
            format!("{} packets/s, {} % loss", detail("packets_per_s"), detail("loss_percent"))
        }
        check if check.starts_with("file_") => format!("SHA-256 {}", detail("sha256").get(..16).unwrap_or_default()),
        _ => String::new(),
    };
    let reason = line.reason.as_deref().unwrap_or_default();
    let text = format!("{:<10} {:<5} {value:>8} {unit:<7} {more} {reason}", line.check, line.result.to_string());
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_fields_that_are_promised() {
        let mut report = Report::new("uml", "user");
        assert!(!report.passed(), "nothing was checked");
        report.add(&Line::new("ping4", Verdict::Pass).value(0.25, "ms").detail("loss_percent", 0.0));
        let stats = br#"{"guests":[{"pairs":[{"tx":{"frames":100,"bursts":10,"kicks":5,"calls":20},"rx":{"frames":0}},
            {"tx":{"frames":300,"bursts":10,"kicks":5,"calls":20},"rx":{"frames":0}}]}]}"#;
        report.rings(stats).unwrap();
        assert!(report.passed());
        let json: serde_json::Value = serde_json::from_slice(&report.to_json().unwrap()).unwrap();
        let first = serde_json::json!({"guest": "uml", "net": "user", "check": "ping4", "result": "pass",
            "value": 0.25, "unit": "ms"});
        assert_eq!((&json[0], &json[1]["check"], &json[1]["value"]), (&first, &"ping4_loss".into(), &0.0.into()));
        let value =
            |check: &str| json.as_array().unwrap().iter().find(|r| r["check"] == check).unwrap()["value"].clone();
        assert_eq!((value("tx_packets"), value("tx_mean_burst")), (400.0.into(), 20.0.into()));
        assert_eq!((value("tx_kicks_per_packet"), value("rx_mean_burst")), (0.025.into(), 0.0.into()));
        report.add(&Line::fail("dns", "no answer"));
        assert!(!report.passed());
        assert!(report.table().ends_with("2 passed, 1 failed"), "{}", report.table());
    }
}
