//! What the rings aim at, each beside its baseline of the same run.

use crate::lab::entry::{Kind, LAYOUTS};
use crate::lab::report::Report;

use super::plan::SIZE;

/// One aim.
#[derive(Clone, PartialEq, Debug)]
pub struct Aim {
    /// The work.
    pub work: String,
    /// What it should be.
    pub aim: String,
    /// What was measured; empty if it was not.
    pub measured: String,
    /// Whether it was reached, if that is known.
    pub met: Option<bool>,
}

/// The aims for 256 entries and two pinned threads that poll, and what this report says about them.
#[must_use]
pub fn aims(report: &Report) -> Vec<Aim> {
    let look = Look(report);
    let mut aims = vec![
        look.against("packed", 1, &["ringtest-ring"], 1.0),
        look.against("packed-in-order", 1, &["ringtest-ring"], 0.5),
        look.against("split", 1, &["ringtest-virtio_ring_0_9"], 0.5),
        look.against("split", 1, &QUEUE, 0.5),
    ];
    for (layout, ns) in [("split", 9.0), ("split-in-order", 4.5), ("packed", 7.5), ("packed-in-order", 6.5)] {
        aims.push(look.below(layout, 32, ns));
        aims.push(look.against(layout, 32, &[format!("bare-{layout}").as_str()], 1.25));
        aims.push(look.against(layout, 32, &["ringtest-ring"], 1.0 / 3.0));
        aims.push(look.against(layout, 32, &QUEUE, 0.1));
    }
    aims.push(look.round_trip("packed", 1.5));
    for layout in ["split", "packed"] {
        let measured = look.ns("device", layout, 32, 32);
        aims.push(judged(format!("device alone, burst 32: {layout}"), "at most 3.5 ns".into(), measured, 3.5));
    }
    aims.push(look.experimental(32, 3.0));
    aims.push(look.experimental(1, 8.0));
    aims
}

/// Of virtio-queue, the better way counts.
const QUEUE: [&str; 2] = ["virtio-queue-pop", "virtio-queue-iter"];

struct Look<'a>(&'a Report);

impl Look<'_> {
    fn ns(&self, mode: &str, layout: &str, burst: usize, outstanding: usize) -> Option<f64> {
        let fits = |r: &&crate::lab::report::Row| {
            (r.layout.as_str(), r.mode.as_str(), r.burst, r.outstanding) == (layout, mode, burst, outstanding)
                && (r.size, r.payload) == (SIZE, 0)
        };
        self.0.rows.iter().find(fits).map(|r| r.ns_per_buffer_median)
    }

    fn polled(&self, layout: &str, burst: usize) -> Option<f64> {
        self.ns("polled", layout, burst, SIZE.into())
    }

    /// ringtest knows bursts of 1 only: that is its figure whatever the burst.
    fn baseline(&self, names: &[&str], burst: usize) -> Option<(String, f64)> {
        let of = |name: &&str| {
            let burst = if name.starts_with("ringtest-") { 1 } else { burst };
            self.polled(name, burst).map(|ns| ((*name).to_owned(), ns))
        };
        names.iter().filter_map(of).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn against(&self, layout: &str, burst: usize, baselines: &[&str], most: f64) -> Aim {
        let name = baselines.join(" or ");
        let work = format!("burst {burst}: {layout}");
        let aim = format!("at most {most:.2} x {name}");
        match (self.polled(layout, burst), self.baseline(baselines, burst)) {
            (Some(ns), Some((name, base))) => Aim {
                work,
                aim,
                measured: format!("{:.2} x ({ns:.1} ns, {name} {base:.1} ns)", ns / base),
                met: Some(ns <= most * base),
            },
            _ => Aim { work, aim, measured: String::new(), met: None },
        }
    }

    fn below(&self, layout: &str, burst: usize, most: f64) -> Aim {
        judged(format!("burst {burst}: {layout}"), format!("at most {most} ns"), self.polled(layout, burst), most)
    }

    fn round_trip(&self, layout: &str, most: f64) -> Aim {
        let p50 = |name: &str| {
            let fits = |l: &&crate::lab::report::Latency| l.layout == name && l.kind == "round_trip";
            self.0.latencies.iter().find(fits).map(|l| l.p50)
        };
        let (work, aim) = (format!("round trip, one outstanding: {layout}"), format!("at most {most} x pingpong"));
        match (p50(layout), p50("pingpong")) {
            (Some(ns), Some(base)) => Aim {
                work,
                aim,
                measured: format!("{:.2} x ({ns:.0} ns, pingpong {base:.0} ns)", ns / base),
                met: Some(ns <= most * base),
            },
            _ => Aim { work, aim, measured: String::new(), met: None },
        }
    }

    fn experimental(&self, burst: usize, most: f64) -> Aim {
        let ours = LAYOUTS.iter().filter(|e| e.kind == Kind::Experimental);
        let best = ours.filter_map(|e| Some((e.name, self.polled(e.name, burst)?))).min_by(|a, b| a.1.total_cmp(&b.1));
        let name = best.map_or(String::new(), |(name, _)| format!(": {name}"));
        let work = format!("burst {burst}, best experimental layout{name}");
        judged(work, format!("at most {most} ns"), best.map(|(_, ns)| ns), most)
    }
}

fn judged(work: String, aim: String, ns: Option<f64>, most: f64) -> Aim {
    let measured = ns.map_or(String::new(), |ns| format!("{ns:.1} ns"));
    Aim { work, aim, measured, met: ns.map(|ns| ns <= most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::report::{Latency, Row};

    fn row(layout: &str, burst: usize, ns: f64) -> Row {
        Row {
            layout: layout.into(),
            baseline: false,
            mode: "polled".into(),
            payload: 0,
            burst,
            size: 256,
            outstanding: 256,
            threads: 2,
            ns_per_buffer_median: ns,
            min: ns,
            max: ns,
            samples: 1,
        }
    }

    #[test]
    fn aims_are_judged_by_the_better_baseline() {
        let latency = |layout: &str, p50| Latency {
            layout: layout.into(),
            baseline: false,
            kind: "round_trip".into(),
            p50,
            p99: 0.0,
            p999: 0.0,
            samples: 1,
        };
        let report = Report {
            rows: vec![
                row("split", 1, 60.0),
                row("virtio-queue-pop", 1, 240.0),
                row("virtio-queue-iter", 1, 110.0),
                row("ringtest-ring", 1, 28.0),
                row("packed", 1, 20.0),
                row("packed", 32, 9.4),
            ],
            latencies: vec![latency("packed", 200.0), latency("pingpong", 150.0)],
            ..Report::default()
        };
        let aims = aims(&report);
        let met = |work: &str, aim: &str| {
            let found = aims.iter().find(|a| a.work == work && a.aim.contains(aim));
            found.unwrap_or_else(|| panic!("{work}, {aim}: {aims:?}")).met
        };
        assert_eq!(met("burst 1: split", "virtio-queue"), Some(false));
        assert_eq!(met("burst 1: split", "virtio_ring_0_9"), None);
        assert_eq!(met("burst 1: packed", "ringtest-ring"), Some(true));
        assert_eq!(met("burst 32: packed", "7.5 ns"), Some(false));
        assert_eq!(met("burst 32: packed", "ringtest-ring"), Some(false));
        assert_eq!(met("round trip, one outstanding: packed", "pingpong"), Some(true));
    }
}
