//! A histogram as Prometheus has it: cumulative counts below bounds.

/// Upper bound and how many are not above it, in rising order.
#[derive(Clone, Debug, Default)]
pub struct Histogram(pub Vec<(f64, u64)>);

impl Histogram {
    /// Returns the observations since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before =
            |bound: f64| earlier.0.iter().find(|(other, _)| *other == bound).map_or(0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect())
    }

    /// Returns the number of observations.
    pub fn count(&self) -> u64 {
        self.0.last().map_or(0, |(_, count)| *count)
    }

    /// The value that this part of all is not above: the upper bound of its bucket. 1.0 gives a bound of the
    /// largest.
    pub fn at_most(&self, part: f64) -> f64 {
        let rank = (part * self.count() as f64).ceil() as u64;
        self.0.iter().find(|(_, count)| *count >= rank).map_or(0.0, |(bound, _)| *bound)
    }
}
