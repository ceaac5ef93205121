//! Histograms: atomics, updated without a lock, as the counters and gauges of `mesh-core` are.

use std::sync::atomic::{AtomicU64, Ordering};

use mesh_core::telemetry::labels::BUCKETS;

/// A distribution over Envoy's default buckets (`features.md` M2), with a resolution of a thousandth.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_thousandths: AtomicU64,
}

/// What a [`Histogram`] holds at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bound of each bucket and how many values are at or below it; the last bound is infinite.
    pub cumulative: Vec<(f64, u64)>,
    /// Sum of all values.
    pub sum: f64,
}

/// Upper bounds in thousandths of the unit.
#[expect(clippy::cast_possible_truncation, reason = "bounds are small multiples of a half")]
const BOUNDS: [u64; BUCKETS.len()] = {
    let mut bounds = [0; BUCKETS.len()];
    let mut bucket = 0;
    while bucket < BUCKETS.len() {
        bounds[bucket] = (BUCKETS[bucket] * 1_000.0) as u64;
        bucket += 1;
    }
    bounds
};

impl Histogram {
    /// Adds a value given in thousandths: microseconds for a histogram of milliseconds.
    pub fn observe_thousandths(&self, value: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_thousandths.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds a value.
    pub fn observe(&self, value: u64) {
        self.observe_thousandths(value.saturating_mul(1_000));
    }

    /// What has been observed. Values that come in meanwhile may be counted in one part only.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
        let mut count = 0;
        let cumulative = bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                count += bucket.load(Ordering::Relaxed);
                (bound, count)
            })
            .collect();
        HistogramSnapshot { cumulative, sum: thousandths(self.sum_thousandths.load(Ordering::Relaxed)) }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BOUNDS.len() + 1], sum_thousandths: AtomicU64::new(0) }
    }
}

impl HistogramSnapshot {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cumulative.last().map_or(0, |(_, count)| *count)
    }
}

fn thousandths(value: u64) -> f64 {
    value as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for value in [500, 501, 5_000, 4_000_000_000] {
            histogram.observe_thousandths(value);
        }
        histogram.observe(2);
        let snapshot = histogram.snapshot();
        assert_eq!(&snapshot.cumulative[..4], &[(0.5, 1), (1.0, 2), (5.0, 4), (10.0, 4)]);
        assert_eq!(&snapshot.cumulative[18..], &[(3_600_000.0, 4), (f64::INFINITY, 5)]);
        assert_eq!((snapshot.count(), snapshot.sum), (5, 4_000_008.001));
    }
}
