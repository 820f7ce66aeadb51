//! Pages of made-up reports, parsed.

mod parts;

use std::collections::BTreeSet;

use roxmltree::{Document, Node, ParsingOptions};

use super::page;
use crate::lab::report::{Latency, Lines, Picture, Report, Row, Wakeups, Writer};

/// A row of the headline configuration, at 1/`burst` of 100 ns and a bit.
fn row(layout: &str, baseline: bool, burst: usize) -> Row {
    let median = 100.0 / burst as f64 + 2.0;
    Row {
        layout: layout.to_owned(),
        baseline,
        mode: "polled".to_owned(),
        payload: 0,
        burst,
        size: 256,
        outstanding: 256,
        threads: 2,
        ns_per_buffer_median: median,
        min: median * 0.9,
        max: median * 1.2,
        samples: 9,
    }
}

fn latency(layout: &str, kind: &str, p50: f64) -> Latency {
    let (layout, kind) = (layout.to_owned(), kind.to_owned());
    Latency { baseline: layout == "pingpong", layout, kind, p50, p99: p50 * 2.0, p999: p50 * 30.0, samples: 1000 }
}

fn picture(layout: &str) -> Picture {
    let area = |area: &str, per_line, lines, writer| Lines {
        area: area.to_owned(),
        entry: "entry, <16> B".to_owned(),
        per_line,
        lines,
        writer,
        when: "once a burst".to_owned(),
    };
    Picture {
        layout: layout.to_owned(),
        idea: "lines & entries".to_owned(),
        areas: vec![
            area("ring", 4.0, 64, Writer::Both),
            area("index", 1.0, 1, Writer::Driver),
            area("frames", 1.0 / 32.0, 8192, Writer::Device),
        ],
        transfers_burst_1: 2.0,
        transfers_burst_32: 0.5,
        count: "counted \"so\"".to_owned(),
    }
}

/// All modes, payloads and sweeps; `packed` lacks a row, `ring` has one point, a name wants to be a script.
fn report() -> Report {
    let mut rows = Vec::new();
    for (layout, baseline) in
        [("split", false), ("packed", false), ("<script>alert('x')</script>", false), ("bare split", true)]
    {
        for (mode, threads) in [("polled", 2), ("sleep", 2), ("device", 1)] {
            for payload in [0, 64, 1500] {
                let bursts = [1, 8, 32, 64].map(|burst| row(layout, baseline, burst));
                rows.extend(bursts.map(|row| Row { mode: mode.to_owned(), payload, threads, ..row }));
            }
        }
        for burst in [1, 32] {
            let sizes =
                [32, 128, 1024].map(|size| Row { size, outstanding: size.into(), ..row(layout, baseline, burst) });
            rows.extend(sizes);
            rows.extend([1, 32, 64].map(|outstanding| Row { outstanding, ..row(layout, baseline, burst) }));
        }
    }
    rows.retain(|row| row.layout != "packed" || row.burst != 8);
    rows.push(row("ring", true, 1));
    Report {
        machine: "a machine & its cores".to_owned(),
        command: "cargo xtask rings --only '<x>'".to_owned(),
        date: "a day".to_owned(),
        rows,
        latencies: vec![
            latency("split", "one_way", 100.0),
            latency("split", "round_trip", 210.0),
            latency("packed", "round_trip", 190.0),
            latency("pingpong", "round_trip", 130.0),
        ],
        wakeups: vec![Wakeups { layout: "split".to_owned(), burst: 1, outstanding: 256, kicks: 0.01, calls: 0.5 }],
        pictures: vec![picture("split"), picture("packed")],
        skipped: vec!["ring: no <source>".to_owned()],
    }
}

fn parse(html: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(html, options).unwrap()
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|node| node.is_text().then(|| node.text()).flatten()).collect()
}

fn has_class(node: &Node<'_, '_>, class: &str) -> bool {
    node.attribute("class").is_some_and(|classes| classes.split(' ').any(|other| other == class))
}

/// Fails if a drawing holds what no viewer can draw.
fn check_drawings(document: &Document<'_>) {
    for svg in document.descendants().filter(|node| node.has_tag_name("svg")) {
        for node in svg.descendants().filter(Node::is_element) {
            for attribute in node.attributes() {
                let value = attribute.value();
                let geometry = ["d", "x", "y", "cx", "cy", "r", "width", "height", "viewBox"];
                if geometry.contains(&attribute.name()) {
                    assert!(!value.contains("NaN") && !value.contains("inf"), "{}: {value}", attribute.name());
                }
            }
        }
    }
}

#[test]
fn every_name_of_the_report_is_on_a_page_that_is_well_formed() {
    let report = report();
    let html = page(&report);
    let document = parse(&html);
    check_drawings(&document);
    let all = text(document.root_element());
    let names = report.rows.iter().map(|row| &row.layout).chain(report.latencies.iter().map(|row| &row.layout));
    for name in names {
        assert!(all.contains(name.as_str()), "{name}");
    }
    for words in [&report.machine, &report.command, &report.date, &report.skipped[0]] {
        assert!(all.contains(words.as_str()), "{words}");
    }
    let cells = document.descendants().filter(|node| node.attribute("id") == Some("rows"));
    let rows = cells.flat_map(|section| section.descendants()).filter(|node| node.has_tag_name("tr")).count();
    assert_eq!(rows, report.rows.len() + 1);
}

#[test]
fn the_page_needs_nothing_else_and_runs_nothing() {
    let html = page(&report());
    let document = parse(&html);
    let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "ids are there once: {ids:?}");
    let mut links = 0;
    for node in document.descendants().filter(Node::is_element) {
        assert!(!["script", "link", "img", "iframe", "object"].contains(&node.tag_name().name()));
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on") && attribute.name() != "src", "{}", attribute.name());
        }
        if let Some(target) = node.attribute("href") {
            links += 1;
            assert!(target.strip_prefix('#').is_some_and(|id| ids.contains(&id)), "{target}");
        }
    }
    assert_eq!(links, ids.len());
    assert!(!html.contains("url(") && !html.contains("@import"));
}

#[test]
fn a_plot_for_each_payload_mode_and_sweep_that_has_rows() {
    let html = page(&report());
    let document = parse(&html);
    let plots: Vec<String> = document
        .descendants()
        .filter(|node| node.has_tag_name("section") && node.attribute("id").is_some_and(|id| id.starts_with("plots")))
        .map(|section| {
            let figures = section.descendants().filter(|node| node.has_tag_name("figcaption"));
            figures.map(text).collect::<Vec<_>>().join("\n")
        })
        .collect();
    let against_burst = "no payload 256 entries, at most 256 under way\n64 B payload 256 entries, at most 256 under way\n\
                         1500 B payload 256 entries, at most 256 under way";
    let polled = format!(
        "{against_burst}\nno payload bursts of 1, the whole ring under way\nno payload bursts of 32, the whole ring under way\n\
         no payload bursts of 1, 256 entries\nno payload bursts of 32, 256 entries"
    );
    assert_eq!(plots, [polled.as_str(), against_burst, against_burst]);
}

#[test]
fn a_lone_point_and_a_missing_row_are_drawn_as_what_is_there() {
    let html = page(&report());
    let document = parse(&html);
    let plot = document.descendants().find(|node| has_class(node, "plot")).unwrap();
    let count = |name: &str| {
        let series = plot.descendants().find(|node| has_class(node, "s") && text(*node).ends_with(name)).unwrap();
        let marks = series.descendants().filter(|node| node.has_tag_name("title")).count();
        (marks, series.children().filter(|node| has_class(node, "line")).count())
    };
    assert_eq!(count("split"), (4, 1));
    assert_eq!(count("packed"), (3, 1));
    assert_eq!(count("ring"), (1, 0));
}

#[test]
fn rows_that_no_plot_can_hold_are_a_table() {
    let alone = |payload| Row { mode: "device".to_owned(), threads: 1, payload, ..row("split", false, 32) };
    let mut rows = vec![alone(0), alone(64)];
    rows.push(Row { burst: 1, ..alone(64) });
    let html = page(&Report { rows, ..Report::default() });
    let document = parse(&html);
    let section = document.descendants().find(|node| node.attribute("id") == Some("plots-0")).unwrap();
    let count = |name: &str| section.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!((count("figure"), count("table")), (1, 1));
    assert_eq!(count("tr"), 2, "the head, and the one row without payload");
}

#[test]
fn labels_of_lines_neither_meet_nor_leave_the_drawing() {
    let mut report = report();
    // All at the same place, with names of all lengths.
    report
        .rows
        .extend((1..15).flat_map(|place| [1, 8, 32, 64].map(|burst| row(&"n".repeat(place * 3), place > 9, burst))));
    let html = page(&report);
    let document = parse(&html);
    for plot in document.descendants().filter(|node| has_class(node, "plot")) {
        let [_, _, width, height]: [f64; 4] = plot
            .attribute("viewBox")
            .unwrap()
            .split(' ')
            .map(|value| value.parse().unwrap())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let number = |node: &Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
        let names = plot.descendants().filter(|node| has_class(node, "name"));
        let mut at: Vec<f64> = Vec::new();
        for name in names {
            at.push(number(&name, "y"));
            let room = text(name).chars().count() as f64 * 5.0;
            let left = if has_class(&name, "end") { room } else { 0.0 };
            assert!(number(&name, "x") - left >= 0.0 && number(&name, "x") + room - left <= width, "{}", text(name));
        }
        at.sort_by(f64::total_cmp);
        assert!(at.iter().all(|y| (8.0..height).contains(y)), "{at:?}");
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] > 12.0), "{at:?}");
    }
}

#[test]
fn an_empty_report_says_so() {
    let html = page(&Report::default());
    let document = parse(&html);
    assert!(text(document.root_element()).contains("holds no measurements"));
    assert!(!text(parse(&page(&report())).root_element()).contains("holds no measurements"));
    // Whoever skipped everything still says why.
    let skipped = Report { skipped: vec!["all: one core".to_owned()], ..Report::default() };
    let html = page(&skipped);
    let all = text(parse(&html).root_element());
    assert!(all.contains("holds no measurements") && all.contains("all: one core"));
}

#[test]
fn no_number_breaks_the_page() {
    let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e-300, 1e300, f64::MAX, f64::MIN_POSITIVE];
    let mut report = report();
    for value in strange {
        report.rows.extend([1, 8, 32].map(|burst| Row { ns_per_buffer_median: value, ..row("split", false, burst) }));
        report.rows.extend([1, 32].map(|burst| Row { min: value, max: value, ..row("odd", false, burst) }));
        report.rows.push(Row { size: 0, burst: usize::MAX, outstanding: 0, ..row("odd", false, 1) });
        report.latencies.push(latency("odd", "one_way", value));
        report.latencies.push(Latency { p99: value, p999: value, ..latency("odd", "round_trip", 100.0) });
        report.wakeups.push(Wakeups { layout: "odd".to_owned(), burst: 1, outstanding: 1, kicks: value, calls: value });
        let mut odd = picture("odd");
        odd.transfers_burst_1 = value;
        odd.areas[0].per_line = value;
        odd.areas[1].lines = 0;
        report.pictures.push(odd);
    }
    let html = page(&report);
    check_drawings(&parse(&html));
    // Rows of nothing else leave nothing to draw.
    report.rows.retain(|row| !(1.0..200.0).contains(&row.ns_per_buffer_median));
    check_drawings(&parse(&page(&report)));
}

#[test]
fn a_report_without_a_date_can_be_read() {
    let mut value = serde_json::to_value(report()).unwrap();
    value.as_object_mut().unwrap().remove("date");
    let report: Report = serde_json::from_value(value).unwrap();
    assert!(!text(parse(&page(&report)).root_element()).contains("Date"));
}
