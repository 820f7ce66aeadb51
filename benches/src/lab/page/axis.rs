//! Logarithmic axes.

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

/// Smallest and largest of what is finite and above 0.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite() && *value > 0.0).fold(None, |range, value| match range {
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

/// Moves labels that want to stand at `wanted` apart by at least `gap`, within `lo` and `hi`, in the same order.
pub(super) fn spread(wanted: &[f64], gap: f64, lo: f64, hi: f64) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = wanted.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut floor = lo;
    for (_, y) in &mut order {
        *y = y.max(floor);
        floor = *y + gap;
    }
    let mut ceiling = hi;
    for (_, y) in order.iter_mut().rev() {
        *y = y.min(ceiling);
        ceiling = *y - gap;
    }
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, y)| y).collect()
}
