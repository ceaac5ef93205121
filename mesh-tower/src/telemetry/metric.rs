//! Histograms of atomics, updated without a lock. Any thread may write a [`Histogram`]; one thread writes a
//! [`ThreadHistogram`], which takes a fifth of the time and no cache line from another core.

use std::sync::atomic::{AtomicU64, Ordering};

use mesh_core::telemetry::labels::BUCKETS;

/// A distribution over Envoy's default buckets, with a resolution of a thousandth.
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
        self.buckets[bucket_of(value)].fetch_add(1, Ordering::Relaxed);
        self.sum_thousandths.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds a value.
    pub fn observe(&self, value: u64) {
        self.observe_thousandths(value.saturating_mul(1_000));
    }

    /// What has been observed. A value that is added meanwhile may be in the buckets and not in the sum, or the reverse.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        HistogramSnapshot::new(&buckets, self.sum_thousandths.load(Ordering::Relaxed))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BOUNDS.len() + 1], sum_thousandths: AtomicU64::new(0) }
    }
}

/// One thread's part of a distribution. Others may read it.
#[derive(Debug, Default)]
pub(super) struct ThreadHistogram(Histogram);

impl ThreadHistogram {
    /// Adds a value given in thousandths. Must be called by one thread only, or values are lost.
    pub(super) fn observe_thousandths(&self, value: u64) {
        add_alone(&self.0.buckets[bucket_of(value)], 1);
        add_alone(&self.0.sum_thousandths, value);
    }

    /// Adds a value. Must be called by one thread only.
    pub(super) fn observe(&self, value: u64) {
        self.observe_thousandths(value.saturating_mul(1_000));
    }

    /// All parts together.
    pub(super) fn total<'a>(parts: impl Iterator<Item = &'a Self>) -> HistogramSnapshot {
        let (mut buckets, mut sum) = ([0; BOUNDS.len() + 1], 0_u64);
        for Self(part) in parts {
            for (total, bucket) in buckets.iter_mut().zip(&part.buckets) {
                *total += bucket.load(Ordering::Relaxed);
            }
            sum = sum.wrapping_add(part.sum_thousandths.load(Ordering::Relaxed));
        }
        HistogramSnapshot::new(&buckets, sum)
    }
}

/// Adds without a locked instruction, which is correct for a single writer.
fn add_alone(count: &AtomicU64, n: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Position of the bucket for a value in thousandths.
#[inline(never)]
fn bucket_of(value: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < value)
}

impl HistogramSnapshot {
    fn new(buckets: &[u64; BOUNDS.len() + 1], sum_thousandths: u64) -> Self {
        let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
        let cumulative = bounds.zip(buckets).scan(0, |count, (bound, bucket)| {
            *count += bucket;
            Some((bound, *count))
        });
        Self { cumulative: cumulative.collect(), sum: thousandths(sum_thousandths) }
    }

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
