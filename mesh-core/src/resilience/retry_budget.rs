//! Retries as a share of the requests in flight (E24).
//!
//! A fixed `max_retries` is too small for a busy cluster and too large for an idle one. A budget grows with the load, so
//! that retries never add more than a known share to it, and keeps a minimum so that a lone failed request is retried.

use crate::model::RetryBudget;

impl RetryBudget {
    /// Retries that may be under way at once while `active` requests are in flight and `pending` wait for a connection.
    #[must_use]
    pub fn limit(&self, active: u32, pending: u32) -> u32 {
        let load = u64::from(active) + u64::from(pending);
        let share = load * u64::from(self.budget_percent.get()) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.min_retry_concurrency.get())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::model::Percent;

    #[test]
    fn a_budget_is_a_share_of_the_load_and_at_least_its_minimum() {
        let check = |percent, load: (u32, u32), expected| {
            let budget = RetryBudget {
                budget_percent: Percent::new(percent).unwrap(),
                min_retry_concurrency: NonZeroU32::new(3).unwrap(),
            };
            assert_eq!(budget.limit(load.0, load.1), expected, "{percent} % of {load:?}");
        };
        check(20, (0, 0), 3);
        check(20, (10, 9), 3);
        check(20, (15, 5), 4);
        check(20, (99, 0), 19);
        check(0, (1_000, 0), 3);
        check(100, (u32::MAX, u32::MAX), u32::MAX);
    }
}
