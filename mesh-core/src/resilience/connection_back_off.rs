//! The back-off between attempts to connect. gRPC "Connection Backoff Protocol".

use std::time::Duration;

use crate::rng::Rng;

/// First pause before reconnecting.
const BASE: Duration = Duration::from_secs(1);
/// Longest pause before reconnecting, before jitter.
const MAX: Duration = Duration::from_secs(120);
/// Growth of the pause from one failure to the next.
const FACTOR: f64 = 1.6;
/// Jitter: the share of the pause by which it is made longer or shorter, so that clients do not reconnect at once.
const JITTER: f64 = 0.2;

/// The pause after `failures` failures in a row before this one: 1 s, growing by 1.6 up to 120 s, and made longer or shorter by up
/// to a fifth.
#[must_use]
pub fn connection_back_off(failures: u32, rng: &mut impl Rng) -> Duration {
    // Beyond this the pause is at its longest anyway.
    let exponent = f64::from(failures.min(32));
    let pause = (BASE.as_secs_f64() * FACTOR.powf(exponent)).min(MAX.as_secs_f64());
    let jitter = 1.0 - JITTER + 2.0 * JITTER * rng.unit_interval();
    Duration::from_secs_f64(pause * jitter)
}

#[cfg(test)]
mod tests {
    use crate::rng::SplitMix64;

    use super::*;

    #[test]
    fn pauses_grow_to_two_minutes_and_are_spread() {
        let mut rng = SplitMix64::new(3);
        for (failures, expected) in [(0, 1.0), (1, 1.6), (2, 2.56), (10, 109.95), (11, 120.0), (1_000, 120.0)] {
            let pauses: Vec<f64> = (0..1_000).map(|_| connection_back_off(failures, &mut rng).as_secs_f64()).collect();
            let (shortest, longest) = pauses.iter().fold((f64::MAX, 0.0f64), |(s, l), p| (s.min(*p), l.max(*p)));
            assert!(shortest >= 0.799 * expected && longest <= 1.201 * expected, "{failures}: {shortest}..{longest}");
            assert!(shortest < 0.81 * expected && longest > 1.19 * expected, "{failures}: {shortest}..{longest}");
        }
    }
}
