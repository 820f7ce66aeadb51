//! Logarithmic axes.

use std::ops::RangeInclusive;

/// Values that are drawn. Wide enough for anything measured, and narrow enough to count the decades of.
pub(super) const SANE: RangeInclusive<f64> = 1e-6..=1e15;

/// A range of positive values laid out logarithmically over pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
}

impl Log {
    /// From `lo` to `hi`, both widened to the next of 1, 2, 5, 10...; none if there is no positive value.
    pub(super) fn nice(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (lo, hi) = range(values)?;
        let mut steps = ladder(lo / 10.0, hi * 10.0);
        let below = steps.iter().rposition(|step| *step <= lo * 1.0001).unwrap_or(0);
        steps.drain(..below);
        let above = steps.iter().position(|step| *step >= hi * 0.9999).unwrap_or(steps.len());
        // At least two steps, or there is nothing to see the slope by.
        steps.truncate(above.max(2) + 1);
        Some(Self { lo: *steps.first()?, hi: *steps.last()?, from: 0.0, to: 1.0 })
    }

    /// Exactly from the smallest to the largest; none if they are not two.
    pub(super) fn exact(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (lo, hi) = range(values)?;
        (lo < hi).then_some(Self { lo, hi, from: 0.0, to: 1.0 })
    }

    /// Laid out between two pixels.
    pub(super) fn over(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    /// The pixel of a value; what is outside lands on the edge.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = (value.max(f64::MIN_POSITIVE) / self.lo).ln() / (self.hi / self.lo).ln();
        self.from + (self.to - self.from) * part.clamp(0.0, 1.0)
    }

    /// Whether a value is on the axis.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.lo..=self.hi).contains(&value)
    }

    /// Ticks with labels, at 1, 2, 5, 10... or, if that were more than `most`, at powers of ten.
    pub(super) fn ticks(&self, most: usize) -> Vec<f64> {
        let all = ladder(self.lo, self.hi);
        let tens: Vec<f64> = all.iter().copied().filter(|tick| tick.log10().fract().abs() < 1e-9).collect();
        if all.len() <= most || tens.len() < 2 { all } else { tens }
    }
}

/// Smallest and largest of what can be drawn.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| SANE.contains(value)).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((lo, hi)) => Some((value.min(lo), value.max(hi))),
    })
}

/// 1, 2, 5, 10... from `lo` to `hi`.
fn ladder(lo: f64, hi: f64) -> Vec<f64> {
    let (first, last) = (lo.log10().floor() as i32, hi.log10().ceil() as i32);
    let steps = (first..=last).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(decade)));
    steps.filter(|step| (lo * 0.9999..=hi * 1.0001).contains(step)).collect()
}

/// Moves labels that want to stand at `wanted` apart by at least `gap`, within `lo` and `hi`, in the same order. Labels
/// that get into each other's way stand around the middle of where they want to be.
pub(super) fn spread(wanted: &[f64], gap: f64, lo: f64, hi: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    let want = |place: &usize| wanted.get(*place).copied().unwrap_or(lo);
    order.sort_by(|a, b| want(a).total_cmp(&want(b)));
    // Clusters of labels that touch: where the first one stands, and how many there are.
    let mut clusters: Vec<(f64, usize)> = Vec::new();
    for place in &order {
        let (mut start, mut count) = (want(place), 1);
        while let Some((before, many)) = clusters.pop() {
            if before + many as f64 * gap <= start {
                clusters.push((before, many));
                break;
            }
            // Each member wants the cluster to start at its own wish less its place in it: the mean of those.
            let (ours, theirs) = (start - many as f64 * gap, before);
            start = (theirs * many as f64 + ours * count as f64) / (many + count) as f64;
            count += many;
            start = start.min(hi - (count - 1) as f64 * gap).max(lo);
        }
        clusters.push((start.min(hi - (count - 1) as f64 * gap).max(lo), count));
    }
    let places = clusters.iter().flat_map(|(start, count)| (0..*count).map(move |step| start + step as f64 * gap));
    let mut out: Vec<(usize, f64)> = order.into_iter().zip(places).collect();
    out.sort_by_key(|(place, _)| *place);
    out.into_iter().map(|(_, y)| y).collect()
}
