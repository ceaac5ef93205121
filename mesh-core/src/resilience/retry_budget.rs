//! Retry budgets: a limit on active retries relative to active requests. Envoy `Thresholds.RetryBudget`.
//!
//! A fixed `max_retries` is too small for a busy cluster and too large for an idle one. A budget grows with the load. It
//! has a minimum, so that retries are possible under low load.

use crate::model::RetryBudget;

impl RetryBudget {
    /// The limit of concurrent retries for `active` requests and `pending` requests that wait for a connection.
    #[must_use]
    pub fn limit(&self, active: u32, pending: u32) -> u32 {
        let share = self.budget_percent.of(u64::from(active) + u64::from(pending));
        u32::try_from(share).unwrap_or(u32::MAX).max(self.min_retry_concurrency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FractionalPercent;

    #[test]
    fn a_budget_is_a_percentage_of_the_load_and_at_least_its_minimum() {
        let check = |per_mille: u32, min_retry_concurrency, load: (u32, u32), expected| {
            let budget_percent = FractionalPercent::from_parts_per_million(per_mille * 1_000);
            let budget = RetryBudget { budget_percent, min_retry_concurrency };
            assert_eq!(budget.limit(load.0, load.1), expected, "{per_mille} per mille of {load:?}");
        };
        check(200, 3, (0, 0), 3);
        check(200, 3, (10, 9), 3);
        check(200, 3, (15, 5), 4);
        check(200, 3, (99, 0), 19);
        check(0, 3, (1_000, 0), 3);
        check(0, 0, (1_000, 0), 0);
        check(125, 0, (7, 0), 0);
        check(125, 0, (8, 0), 1);
        check(1_000, 3, (u32::MAX, u32::MAX), u32::MAX);
    }
}
