//! Which rows belong into one plot: one thing varies, the rest stays.

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::report::Row;

/// What varies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Axis {
    /// Buffers a publication.
    Burst,
    /// Entries of the ring.
    Size,
    /// Most buffers under way.
    Outstanding,
}

/// How many buffers are under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fill {
    Varies,
    /// As many as the ring has entries.
    Whole,
    Most(usize),
}

/// What stays: burst, size, buffers under way; 0 for what varies.
type Held = (usize, u16, Fill);

/// The rows of one plot.
#[derive(Debug)]
pub(super) struct Cut<'a> {
    held: Held,
    /// The rows.
    pub(super) rows: Vec<&'a Row>,
}

impl Axis {
    /// All of them, in the order of the page.
    pub(super) const ALL: [Self; 3] = [Self::Burst, Self::Size, Self::Outstanding];

    /// Where a row stands.
    pub(super) fn of(self, row: &Row) -> usize {
        match self {
            Self::Burst => row.burst,
            Self::Size => row.size.into(),
            Self::Outstanding => row.outstanding,
        }
    }

    /// What it is called, in a heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Burst => "Against the burst",
            Self::Size => "Against the ring’s size",
            Self::Outstanding => "Against buffers under way",
        }
    }

    /// What it is called, below the axis.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Burst => "burst (buffers a publication)",
            Self::Size => "ring size (entries)",
            Self::Outstanding => "most buffers under way",
        }
    }

    /// What stays in the plots to which a row may belong.
    fn held(self, row: &Row) -> Vec<Held> {
        match self {
            Self::Burst => vec![(0, row.size, Fill::Most(row.outstanding))],
            Self::Outstanding => vec![(row.burst, row.size, Fill::Varies)],
            Self::Size if row.outstanding == usize::from(row.size) => {
                vec![(row.burst, 0, Fill::Whole), (row.burst, 0, Fill::Most(row.outstanding))]
            }
            Self::Size => vec![(row.burst, 0, Fill::Most(row.outstanding))],
        }
    }
}

impl Cut<'_> {
    /// What stays, in words.
    pub(super) fn words(&self) -> String {
        let (burst, size, fill) = self.held;
        let mut words = Vec::new();
        if burst > 0 {
            words.push(format!("bursts of {burst}"));
        }
        if size > 0 {
            words.push(format!("{size} entries"));
        }
        match fill {
            Fill::Varies => {}
            Fill::Whole => words.push("the whole ring under way".to_owned()),
            Fill::Most(most) => words.push(format!("at most {most} under way")),
        }
        words.join(", ")
    }
}

/// The plots to draw of rows of the same work: against the burst the one with most rows, otherwise the two bursts with
/// most. Whatever else varies is in the table of all rows.
pub(super) fn cuts<'a>(rows: &[&'a Row], axis: Axis) -> Vec<Cut<'a>> {
    let mut groups: BTreeMap<Held, Vec<&'a Row>> = BTreeMap::new();
    for row in rows {
        for held in axis.held(row) {
            groups.entry(held).or_default().push(row);
        }
    }
    let mut cuts: Vec<Cut<'a>> = groups.into_iter().map(|(held, rows)| Cut { held, rows }).collect();
    cuts.retain(|cut| cut.rows.iter().map(|row| axis.of(row)).collect::<BTreeSet<_>>().len() > 1);
    cuts.sort_by_key(|cut| {
        let (burst, size, _) = cut.held;
        (std::cmp::Reverse(cut.rows.len()), size != 256, burst != 32, burst != 1)
    });
    let mut seen = BTreeSet::new();
    cuts.retain(|cut| seen.insert(cut.held.0));
    cuts.truncate(if axis == Axis::Burst { 1 } else { 2 });
    cuts.sort_by_key(|cut| cut.held);
    cuts
}
