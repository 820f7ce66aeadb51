//! Medians and how far samples lie apart.

use e2e::front::contest::median;
use serde::Serialize;

/// Samples of one figure, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// From the least to the most, as a part of the median.
    pub(super) spread: f64,
}

impl Figure {
    /// `None` without a sample.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = median(sorted);
        let spread = if median > 0.0 { (max - min) / median } else { 0.0 };
        Some(Self { median, min, max, spread })
    }
}

/// Ours for each of theirs, round by round: what disturbs the machine for longer than a round disturbs both.
pub(super) fn ratios(theirs: &[f64], ours: &[f64]) -> Vec<f64> {
    theirs.iter().zip(ours).filter(|(theirs, _)| **theirs > 0.0).map(|(theirs, ours)| ours / theirs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(Figure::of(&[]), None);
        let odd = Figure { median: 2.0, min: 1.0, max: 4.0, spread: 1.5 };
        assert_eq!(Figure::of(&[4.0, 1.0, 2.0]), Some(odd));
        assert_eq!(Figure::of(&[4.0, 1.0, 2.0, 3.0]).map(|f| f.median), Some(2.5));
        assert_eq!(ratios(&[2.0, 0.0, 4.0], &[3.0, 1.0, 2.0]), [1.5, 0.5]);
    }
}
