//! The table of a run, as Markdown that also reads well on a screen.

use super::plan::mergeable;
use super::report::Row;

const TITLES: [&str; 9] =
    ["path", "buffers", "direction", "size", "DPDK Mpps", "ours Mpps", "ratio", "cycles DPDK/ours", "aim"];

/// From the least to the most ratio of a row, as a part of the median: more, and the machine was not quiet.
const UNSTEADY: f64 = 0.25;

/// One line for each row.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut lines = vec![TITLES.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let mut widths = [0; TITLES.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let rule = widths.map(|width| "-".repeat(width));
    lines.insert(1, rule);
    let line = |cells: &[String; TITLES.len()]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    lines.iter().map(line).collect()
}

fn cells(row: &Row) -> [String; TITLES.len()] {
    let [path, size] = [row.path, row.size].map(str::to_owned);
    let [buffers, direction] = [mergeable(row.mergeable), row.direction].map(str::to_owned);
    if let Some(why) = &row.skipped {
        let none = String::new;
        return [path, buffers, direction, size, format!("skipped: {why}"), none(), none(), none(), none()];
    }
    let ratio = row.ratios.map_or("-".to_owned(), |r| format!("{:.2} ({:.2}-{:.2})", r.median, r.min, r.max));
    let aim = row
        .aim()
        .map_or("-".to_owned(), |aim| if aim.met { "met".to_owned() } else { format!("missed: {}", aim.wanted) });
    let cycles = format!("{} / {}", number(row.dpdk_cycles, 0), number(row.ours_cycles, 0));
    [path, buffers, direction, size, number(row.dpdk_mpps, 2), number(row.ours_mpps, 2), ratio, cycles, aim]
}

/// A dash for none.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Notes, and how many aims are met.
pub(super) fn remarks(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        for note in &row.notes {
            text += &format!("{}: {note}\n", row.name());
        }
    }
    let wide = |row: &&Row| row.ratios.is_some_and(|ratios| ratios.spread > UNSTEADY);
    let unsteady = rows.iter().filter(wide).count();
    if unsteady > 0 {
        text += &format!("{unsteady} rows have ratios more than {:.0} % apart: ", UNSTEADY * 100.0);
        text += "something else ran on these processors\n";
    }
    let aims: Vec<_> = rows.iter().filter_map(Row::aim).collect();
    let met = aims.iter().filter(|aim| aim.met).count();
    let skipped = rows.iter().filter(|row| row.skipped.is_some()).count();
    text + &format!("{} rows, {skipped} skipped; aims: {met} of {} met\n", rows.len(), aims.len())
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Direction, LAYOUTS, Path, Size};
    use super::super::report::tests::row;
    use super::*;

    #[test]
    fn the_table_is_markdown() {
        let path = Path { layout: &LAYOUTS[0], mergeable: false };
        let rows =
            [row(Direction::Loop, &[10.0], &[13.0]), Row::skipped(path, Direction::ToHost, Size::Mix, "no such thing")];
        let text = markdown(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        for line in &lines {
            assert_eq!(line.matches('|').count(), TITLES.len() + 1, "{line}");
            assert_eq!(line.len(), lines[0].len());
        }
        assert!(lines[2].contains("| 1.30 (1.30-1.30) | - / -            | met"));
        assert!(lines[3].contains("| skipped: no such thing |"));
        assert_eq!(remarks(&rows), "2 rows, 1 skipped; aims: 1 of 1 met\n");
        let unsteady = remarks(&[row(Direction::Loop, &[10.0, 10.0, 10.0], &[10.0, 13.0, 14.0])]);
        assert!(unsteady.starts_with("1 rows have ratios more than 25 % apart"), "{unsteady}");
    }
}
