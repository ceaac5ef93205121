//! The share of traffic of each priority. Envoy "Priority levels", "Degraded endpoints" and "Panic threshold".
//!
//! The availability of a priority is its share of healthy endpoints multiplied by the overprovisioning factor (1.4), so up
//! to 28 % of its endpoints may fail before load moves to another priority. Priority 0 takes load up to its availability,
//! the next priorities take the rest. If the sum of all availabilities is below 100 %, the shares are scaled up, and
//! priorities with fewer healthy endpoints than the panic threshold use all of their endpoints.
//!
//! Percentages are whole numbers and rounded as in Envoy's `LoadBalancerBase`, so equal configurations give equal shares.

use crate::{
    endpoint::{EndpointState, Health},
    model::Percent,
};

/// The number of endpoints of a priority by health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadCount {
    /// All endpoints, including draining ones.
    pub(crate) all: usize,
    /// Endpoints that count for availability.
    pub(crate) total: usize,
    pub(crate) healthy: usize,
    pub(crate) degraded: usize,
}

impl HeadCount {
    pub(crate) fn add(&mut self, endpoint: &EndpointState) {
        self.all += 1;
        self.total += usize::from(!endpoint.is_excluded());
        match endpoint.health() {
            Health::Healthy => self.healthy += 1,
            Health::Degraded => self.degraded += 1,
            Health::Unhealthy => {}
        }
    }

    fn is_below(&self, panic_threshold: u32) -> bool {
        availability(self.healthy, self.total, 100) + availability(self.degraded, self.total, 100) < panic_threshold
    }
}

/// Percentage of load, 0 to 100, that `usable` of `total` endpoints can take if each can take `factor` percent of its share.
pub(crate) fn availability(usable: usize, total: usize, factor: u32) -> u32 {
    let percent = (usable as u64 * u64::from(factor)).checked_div(total as u64).unwrap_or(0);
    u32::try_from(percent.min(100)).unwrap_or(100)
}

/// The share of the endpoints of one priority and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Position of the priority in ascending order.
    pub(crate) level: usize,
    pub(crate) health: Health,
    /// Whether all endpoints of the priority are used regardless of their health.
    pub(crate) in_panic: bool,
    /// Percentage of all traffic.
    pub(crate) percent: u32,
}

/// The shares of all priorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PriorityLoads {
    healthy: Vec<u32>,
    degraded: Vec<u32>,
    in_panic: Vec<bool>,
}

impl PriorityLoads {
    pub(crate) fn new(priorities: &[HeadCount], overprovisioning_factor: u32, panic_threshold: Percent) -> Self {
        let panic_threshold = u32::from(panic_threshold.get());
        let healthy: Vec<u32> =
            priorities.iter().map(|count| availability(count.healthy, count.total, overprovisioning_factor)).collect();
        let degraded: Vec<u32> =
            priorities.iter().map(|count| availability(count.degraded, count.total, overprovisioning_factor)).collect();
        let total = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut loads = Self {
            healthy: vec![0; priorities.len()],
            degraded: vec![0; priorities.len()],
            in_panic: vec![false; priorities.len()],
        };
        if total == 0 && panic_threshold == 0 {
            loads.healthy.iter_mut().take(1).for_each(|load| *load = 100);
            return loads;
        }
        if total < 100 {
            loads.in_panic = priorities.iter().map(|count| count.is_below(panic_threshold)).collect();
        }
        if !loads.in_panic.contains(&false) {
            loads.healthy = by_head_count(priorities);
            return loads;
        }
        let mut left = 100;
        distribute(&mut loads.healthy, &healthy, &mut left, total);
        distribute(&mut loads.degraded, &degraded, &mut left, total);
        // The first available priority takes what is left by rounding.
        let first = |availability: &[u32]| availability.iter().position(|&percent| percent > 0);
        if let Some(priority) = first(&healthy) {
            loads.healthy[priority] += left;
        } else if let Some(priority) = first(&degraded) {
            loads.degraded[priority] += left;
        }
        loads
    }

    /// The shares of healthy endpoints in order of priority, followed by those of degraded endpoints.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Load> + '_ {
        [(Health::Healthy, &self.healthy), (Health::Degraded, &self.degraded)].into_iter().flat_map(
            |(health, percents)| {
                (0..).zip(percents).zip(&self.in_panic).map(move |((level, &percent), &in_panic)| Load {
                    level,
                    health,
                    in_panic,
                    percent,
                })
            },
        )
    }
}

fn distribute(loads: &mut [u32], availability: &[u32], left: &mut u32, total: u32) {
    for (load, availability) in loads.iter_mut().zip(availability) {
        *load = (100 * availability).checked_div(total).unwrap_or(0).min(*left);
        *left -= *load;
    }
}

/// If all priorities are in panic, their shares are proportional to their number of endpoints.
fn by_head_count(priorities: &[HeadCount]) -> Vec<u32> {
    let total: usize = priorities.iter().map(|count| count.all).sum();
    let mut loads: Vec<u32> = priorities.iter().map(|count| availability(count.all, total, 100)).collect();
    let first = priorities.iter().position(|count| count.all > 0).unwrap_or(0);
    let left = 100 - loads.iter().sum::<u32>();
    loads.iter_mut().skip(first).take(1).for_each(|load| *load += left);
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(healthy: usize, degraded: usize, total: usize) -> HeadCount {
        HeadCount { all: total, total, healthy, degraded }
    }

    fn loads(priorities: &[HeadCount], panic_threshold: u32) -> PriorityLoads {
        PriorityLoads::new(priorities, 140, Percent::new(panic_threshold).unwrap())
    }

    #[test]
    fn load_spills_to_the_next_priority_as_the_table_says() {
        // The table in Envoy's "Priority levels".
        let check = |priorities: &[usize], expected: &[u32]| {
            let counts: Vec<_> = priorities.iter().map(|&healthy| count(healthy, 0, 100)).collect();
            assert_eq!(loads(&counts, 0).healthy, expected, "{priorities:?} % healthy");
        };
        check(&[100], &[100]);
        check(&[72, 100], &[100, 0]);
        check(&[71, 100], &[99, 1]);
        check(&[50, 100], &[70, 30]);
        check(&[25, 100], &[35, 65]);
        check(&[0, 100], &[0, 100]);
        check(&[25, 25], &[50, 50]);
        // 7 and 91 of 98 are 7 and 92 percent; the first takes what is left by rounding.
        check(&[5, 0, 65], &[8, 0, 92]);
        check(&[0, 0, 0], &[100, 0, 0]);
        check(&[], &[]);
    }

    #[test]
    fn degraded_endpoints_get_what_the_healthy_ones_cannot_take() {
        let loads = loads(&[count(1, 1, 2), count(0, 1, 1)], 50);
        assert_eq!((loads.healthy, loads.degraded), (vec![70, 0], vec![30, 0]));
    }

    #[test]
    fn a_priority_panics_only_if_all_together_are_not_fully_available() {
        let check = |counts: &[HeadCount], threshold, expected: &[bool]| {
            assert_eq!(loads(counts, threshold).in_panic, expected, "{counts:?}, threshold {threshold}");
        };
        check(&[count(49, 0, 100)], 50, &[true]);
        check(&[count(50, 0, 100)], 50, &[false]);
        check(&[count(0, 0, 3)], 0, &[false]);
        check(&[count(0, 0, 3)], 50, &[true]);
        check(&[count(1, 0, 3)], 30, &[false]);
        check(&[count(10, 0, 100), count(100, 0, 100)], 50, &[false, false]);
        check(&[count(10, 0, 100), count(55, 0, 100)], 50, &[true, false]);
        check(&[count(25, 25, 100)], 50, &[false]);
    }

    #[test]
    fn in_total_panic_the_number_of_endpoints_decides() {
        let loads = loads(&[count(0, 0, 1), count(0, 0, 2)], 50);
        assert_eq!((loads.healthy, loads.in_panic), (vec![34, 66], vec![true, true]));
    }
}
