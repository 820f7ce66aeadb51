//! What the lab measures: one line a layout.
//!
//! The runner, `--list`, `cargo bench` and the conformance test all work from these two lists.

use super::layouts::{compact, packed, rtrb, sealed, shuttle, split};
use super::report::Picture;
use super::run::station;
use super::{Layout, conformance};
use crate::{bare, peer};

/// The layouts.
pub const LAYOUTS: &[Entry] = &[
    Entry::of::<split::Split>(Kind::Virtio),
    Entry::of::<split::SplitInOrder>(Kind::Virtio),
    Entry::of::<split::SplitUsedEvent>(Kind::Virtio),
    Entry::of::<split::SplitFlags>(Kind::Virtio),
    Entry::of::<packed::Packed>(Kind::Virtio),
    Entry::of::<packed::PackedInOrder>(Kind::Virtio),
    Entry::of::<rtrb::Rtrb>(Kind::Reference),
    Entry::of::<compact::Compact>(Kind::Experimental),
    Entry::of::<shuttle::Shuttle>(Kind::Experimental),
    Entry::of::<sealed::Sealed>(Kind::Experimental),
];

/// What they are measured against.
pub const BASELINES: &[Entry] = &[
    Entry::of::<bare::Split>(Kind::Baseline),
    Entry::of::<bare::SplitInOrder>(Kind::Baseline),
    Entry::of::<bare::Packed>(Kind::Baseline),
    Entry::of::<bare::PackedInOrder>(Kind::Baseline),
    Entry::of::<peer::Pop>(Kind::Baseline),
    Entry::of::<peer::Iter>(Kind::Baseline),
];

/// What a layout is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A ring of virtio, by this repository's crate.
    Virtio,
    /// A queue that others have published, as a point of reference.
    Reference,
    /// A layout of our own that no specification knows.
    Experimental,
    /// Not a layout of its own: another implementation, or the floor.
    Baseline,
}

impl Kind {
    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Reference => "reference",
            Self::Experimental => "experimental",
            Self::Baseline => "baseline",
        }
    }
}

/// A layout with its type behind function pointers.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Short name, as in `--only`.
    pub name: &'static str,
    /// What the idea is, in a sentence.
    pub idea: &'static str,
    /// What it is there for.
    pub kind: Kind,
    /// See [`Layout::picture`].
    pub picture: fn(u16) -> Picture,
    /// An empty ring of so many entries, whose sides may sleep or not, ready to be measured.
    pub open: fn(u16, bool) -> station::Opened,
    /// Whether the layout keeps to what all layouts keep to.
    pub check: fn(conformance::Rules) -> conformance::Verdict,
}

impl Entry {
    /// The entry of a layout.
    #[must_use]
    pub const fn of<L>(kind: Kind) -> Self
    where
        L: Layout + 'static,
    {
        Self {
            name: L::NAME,
            idea: L::IDEA,
            kind,
            picture: L::picture,
            open: station::open::<L>,
            check: conformance::check::<L>,
        }
    }

    /// True for what is not ours.
    #[must_use]
    pub const fn is_baseline(&self) -> bool {
        matches!(self.kind, Kind::Baseline)
    }
}

/// Layouts and baselines.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    LAYOUTS.iter().chain(BASELINES)
}
