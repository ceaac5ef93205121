//! Counters and gauges: atomics that are updated without a lock. Each module declares its own; the code that serves them
//! decides how they are formatted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that increases and decreases. It must not fall below zero; if it does, it reads as 0.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the counter to 0, for Envoy's `/reset_counters`.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds one if the value is below `max`; whether it did.
    pub fn try_inc(&self, max: u64) -> bool {
        let inc = |value: u64| (value < max).then(|| value + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, inc).is_ok()
    }

    /// Subtracts one, which the caller has added before.
    pub fn dec(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before != 0, "a gauge fell below zero");
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        let value = self.0.load(Ordering::Relaxed);
        if value > u64::MAX / 2 { 0 } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_can_be_reset_and_a_gauge_falls() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        counter.add(3);
        counter.reset();
        counter.inc();
        gauge.set(2);
        gauge.dec();
        gauge.inc();
        assert_eq!((counter.get(), gauge.get()), (1, 2));
        assert!(gauge.try_inc(3) && !gauge.try_inc(3));
        assert_eq!(gauge.get(), 3);
    }
}
