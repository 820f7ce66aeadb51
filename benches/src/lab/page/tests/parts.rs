//! What the page is made of: numbers, axes, labels, cuts, colours.

use super::super::axis::{Log, spread};
use super::super::cuts::{Axis, cuts};
use super::super::series::Names;
use super::super::summary::{Headline, table};
use super::super::text::{duration, escape, grouped, number, shorten};
use super::*;

#[test]
fn numbers_have_the_digits_that_matter() {
    let rows: &[(f64, &str)] = &[
        (0.0, "0"),
        (0.000_000_01, "≈ 0"),
        (0.000_82, "0.00082"),
        (0.035, "0.035"),
        (0.1, "0.10"),
        (3.714, "3.71"),
        (9.996, "10.0"),
        (28.04, "28.0"),
        (99.96, "100"),
        (1234.4, "1234"),
        (12_345.6, "12\u{202f}346"),
        (f64::NAN, "–"),
    ];
    for (value, expected) in rows {
        assert_eq!(number(*value), *expected, "{value}");
    }
    assert_eq!(grouped(1_234_567.0), "1\u{202f}234\u{202f}567");
    assert_eq!(
        [65.5, 999.6, 1500.0, 2e6, f64::INFINITY].map(duration),
        ["65.5\u{a0}ns", "1.00\u{a0}µs", "1.50\u{a0}µs", "2.00\u{a0}ms", "–"]
    );
}

#[test]
fn text_is_escaped_and_cut() {
    assert_eq!(escape("<a href=\"x\">'&'\u{0}\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;\u{fffd}\u{fffd}");
    assert_eq!((shorten("abc", 3), shorten("abcd", 3)), ("abc".to_owned(), "ab…".to_owned()));
}

#[test]
fn ticks_are_round_and_hold_all_values() {
    let rows: &[(&[f64], usize, &[f64])] = &[
        (&[3.0, 80.0], 9, &[2.0, 5.0, 10.0, 20.0, 50.0, 100.0]),
        (&[7.0], 9, &[5.0, 10.0, 20.0]),
        (&[10.0], 9, &[10.0, 20.0, 50.0]),
        (&[0.3, 20_000.0], 9, &[1.0, 10.0, 100.0, 1000.0, 10_000.0]),
        (&[f64::NAN, 0.0, 4.0, f64::INFINITY], 9, &[2.0, 5.0, 10.0]),
    ];
    for (values, most, expected) in rows {
        let log = Log::nice(values.iter().copied()).unwrap();
        let ticks = log.ticks(*most);
        assert_eq!(ticks.len(), expected.len(), "{values:?}: {ticks:?}");
        assert!(ticks.iter().zip(*expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{values:?}: {ticks:?}");
    }
    assert!(Log::nice([0.0, -1.0, f64::NAN].into_iter()).is_none());
    assert!(Log::exact([4.0, 4.0].into_iter()).is_none());
    let log = Log::exact([1.0, 100.0].into_iter()).unwrap().over(200.0, 0.0);
    assert_eq!([0.1, 1.0, 10.0, 100.0, 1e9].map(|value| log.at(value).round()), [200.0, 200.0, 100.0, 0.0, 0.0]);
}

#[test]
fn labels_that_meet_stand_around_their_middle() {
    let rows: &[(&[f64], &[f64])] = &[
        (&[], &[]),
        (&[50.0, 10.0], &[50.0, 10.0]),
        (&[50.0, 50.0], &[45.0, 55.0]),
        (&[52.0, 50.0, 48.0], &[60.0, 50.0, 40.0]),
        (&[99.0, 99.0], &[90.0, 100.0]),
        (&[1.0, 0.0, 60.0], &[10.0, 0.0, 60.0]),
    ];
    for (wanted, expected) in rows {
        assert_eq!(spread(wanted, 10.0, 0.0, 100.0), *expected, "{wanted:?}");
    }
}

#[test]
fn a_cut_varies_one_thing() {
    let mut rows: Vec<Row> = [1, 8, 32].map(|burst| row("a", false, burst)).into();
    rows.extend([1, 32].map(|burst| Row { outstanding: 64, ..row("a", false, burst) }));
    rows.extend([64, 128].map(|size| Row { size, outstanding: size.into(), ..row("a", false, 32) }));
    let rows: Vec<&Row> = rows.iter().collect();
    let found = |axis| {
        let cuts = cuts(&rows, axis);
        cuts.iter().map(|cut| (cut.words(), cut.rows.len())).collect::<Vec<_>>()
    };
    assert_eq!(found(Axis::Burst), [("256 entries, at most 256 under way".to_owned(), 3)]);
    assert_eq!(found(Axis::Size), [("bursts of 32, the whole ring under way".to_owned(), 3)]);
    let outstanding = [("bursts of 1, 256 entries".to_owned(), 2), ("bursts of 32, 256 entries".to_owned(), 2)];
    assert_eq!(found(Axis::Outstanding), outstanding);
}

#[test]
fn no_two_names_look_the_same() {
    let rows = (0..40).map(|place| row(&format!("name {place}"), place >= 20, 1)).collect();
    let names = Names::new(&Report { rows, ..Report::default() });
    let looks: BTreeSet<(String, String)> = names.all().map(|(_, key)| (key.class(), key.marker(0.0, 0.0))).collect();
    assert_eq!(looks.len(), 40);
}

#[test]
fn the_headline_compares_with_the_fastest_peer_and_floor() {
    let time = |row: Row, ns: f64| Row { ns_per_buffer_median: ns, ..row };
    let report = Report {
        rows: vec![
            time(row("packed", false, 1), 12.0),
            time(row("packed", false, 32), 6.0),
            // Faster, but not with the usual number under way.
            time(Row { outstanding: 64, ..row("packed", false, 32) }, 3.0),
            time(Row { outstanding: 64, ..row("split", false, 1) }, 90.0),
            time(row("queue", true, 1), 240.0),
            time(row("ring", true, 1), 48.0),
            time(row("queue", true, 32), 120.0),
            time(row("bare loop", true, 32), 4.0),
        ],
        ..Report::default()
    };
    let html = table(&Headline::new(&report), &Names::new(&report));
    let document = parse(&html[..html.find("<p class").unwrap()]);
    let line = |name: &str| {
        let row = document
            .descendants()
            .find(|node| node.has_tag_name("tr") && node.children().next().is_some_and(|head| text(head) == name))
            .unwrap();
        row.children().skip(1).filter(|cell| has_class(cell, "n")).map(text).collect::<Vec<_>>()
    };
    assert_eq!(
        line("packed"),
        ["12.0", "91.8–122", "0.25", "–", "6.00", "4.61–6.15", "0.050", "1.50"],
        "ring at burst 1, queue at burst 32, and a floor at burst 32 only"
    );
    assert_eq!(line("split")[..1], ["90.064 under way"]);
    assert_eq!(line("ring")[2..4], ["1", "–"]);
}
