//! Delay between tries: exponential back-off with full jitter. Envoy `RetryPolicy.RetryBackOff`.
//!
//! The delay before the n-th retry is random in `[0, min((2^n - 1) * base_interval, max_interval))`. Full jitter spreads
//! the retries of many clients over the whole window; in return, some delays are close to zero.

use std::time::Duration;

use crate::{model::BackOff, rng::Rng};

impl BackOff {
    /// The delay before retry number `retry`, counted from 1, in whole milliseconds as in Envoy.
    #[must_use]
    pub fn delay(&self, retry: u32, rng: &mut impl Rng) -> Duration {
        let window = u64::try_from(self.window(retry).as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rng.below(window))
    }

    /// Upper bound of the delay before retry number `retry`.
    fn window(&self, retry: u32) -> Duration {
        let steps = 1u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
        self.base_interval.saturating_mul(steps).min(self.max_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    #[test]
    fn the_window_doubles_up_to_the_cap() {
        let back_off = BackOff::default();
        let windows: Vec<u128> =
            [1, 2, 3, 4, 5, 31, 32, u32::MAX].iter().map(|&retry| back_off.window(retry).as_millis()).collect();
        assert_eq!(windows, [25, 75, 175, 250, 250, 250, 250, 250]);
    }

    #[test]
    fn delays_fill_the_window_and_never_leave_it() {
        let back_off = BackOff::default();
        let mut rng = SplitMix64::new(22);
        let delays: Vec<Duration> = (0..2_000).map(|_| back_off.delay(2, &mut rng)).collect();
        assert!(delays.iter().all(|delay| *delay < Duration::from_millis(75)));
        assert!(delays.contains(&Duration::ZERO) && delays.contains(&Duration::from_millis(74)));
        let mean = delays.iter().sum::<Duration>() / 2_000;
        assert!((Duration::from_millis(35)..Duration::from_millis(39)).contains(&mean), "{mean:?}");
    }
}
