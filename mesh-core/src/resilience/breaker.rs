//! Circuit breakers: how much may be in flight to one cluster at once.
//!
//! A [`CircuitBreaker`] holds the counts, [`Thresholds`] the limits. A count is raised by compare-and-swap below its limit,
//! so that no number of threads can exceed it, and is lowered when the [`Permit`] is dropped, whichever way the request
//! ended. Only connections may go [beyond their limit](CircuitBreaker::acquire_beyond_limit). Limits are an argument: a
//! configuration update changes them without touching what is in flight.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use thiserror::Error;

use crate::model::{RoutingPriority, Thresholds};

/// What a circuit breaker limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Connections: `max_connections`.
    Connections,
    /// Requests that wait for a connection: `max_pending_requests`.
    PendingRequests,
    /// Requests on a connection, until their response body ends: `max_requests`.
    Requests,
    /// Retries, from the decision to the answer: `max_retries` or `retry_budget`.
    Retries,
}

/// A limit of the circuit breaker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} overflow: {limit} are in use, the limit", threshold_name(*.resource))]
pub struct Overflow {
    /// Which one.
    pub resource: Resource,
    /// The limit.
    pub limit: u32,
}

/// Counts of what is in flight to one cluster, by routing priority.
#[derive(Debug, Default)]
pub struct CircuitBreaker {
    default: Counts,
    high: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU32,
    pending_requests: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
}

impl CircuitBreaker {
    /// How many of `resource` are in use.
    #[must_use]
    pub fn in_use(&self, priority: RoutingPriority, resource: Resource) -> u32 {
        self.count(priority, resource).load(Ordering::Relaxed)
    }

    /// The limit of `resource` now; moves with the load for retries under a budget.
    #[must_use]
    pub fn limit(&self, priority: RoutingPriority, resource: Resource, thresholds: &Thresholds) -> u32 {
        match (resource, thresholds.retry_budget) {
            (Resource::Connections, _) => thresholds.max_connections,
            (Resource::PendingRequests, _) => thresholds.max_pending_requests,
            (Resource::Requests, _) => thresholds.max_requests,
            (Resource::Retries, None) => thresholds.max_retries,
            (Resource::Retries, Some(budget)) => budget
                .limit(self.in_use(priority, Resource::Requests), self.in_use(priority, Resource::PendingRequests)),
        }
    }

    /// Takes one of `resource`.
    ///
    /// # Errors
    /// If the limit is reached.
    pub fn try_acquire(
        self: &Arc<Self>,
        priority: RoutingPriority,
        resource: Resource,
        thresholds: &Thresholds,
    ) -> Result<Permit, Overflow> {
        self.acquire(priority, resource, thresholds)?;
        Ok(Permit { breaker: Arc::clone(self), priority, resource })
    }

    /// Takes one of `resource`, whatever its limit.
    pub fn acquire_beyond_limit(self: &Arc<Self>, priority: RoutingPriority, resource: Resource) -> Permit {
        self.count(priority, resource).fetch_add(1, Ordering::Relaxed);
        Permit { breaker: Arc::clone(self), priority, resource }
    }

    /// Takes one of `resource` for a caller that gives it back with [`CircuitBreaker::release`], exactly once.
    pub(crate) fn acquire(
        &self,
        priority: RoutingPriority,
        resource: Resource,
        thresholds: &Thresholds,
    ) -> Result<(), Overflow> {
        let limit = self.limit(priority, resource, thresholds);
        self.count(priority, resource)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then(|| used + 1))
            .map(drop)
            .map_err(|_| Overflow { resource, limit })
    }

    /// Gives back one of `resource`.
    pub(crate) fn release(&self, priority: RoutingPriority, resource: Resource) {
        self.count(priority, resource).fetch_sub(1, Ordering::Relaxed);
    }

    fn count(&self, priority: RoutingPriority, resource: Resource) -> &AtomicU32 {
        let counts = match priority {
            RoutingPriority::Default => &self.default,
            RoutingPriority::High => &self.high,
        };
        match resource {
            Resource::Connections => &counts.connections,
            Resource::PendingRequests => &counts.pending_requests,
            Resource::Requests => &counts.requests,
            Resource::Retries => &counts.retries,
        }
    }
}

/// The right to one connection, pending request, request or retry; given back when dropped.
#[derive(Debug)]
#[must_use = "dropping the permit gives it back at once"]
pub struct Permit {
    breaker: Arc<CircuitBreaker>,
    priority: RoutingPriority,
    resource: Resource,
}

impl Permit {
    /// What it permits.
    #[must_use]
    pub fn resource(&self) -> Resource {
        self.resource
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker.release(self.priority, self.resource);
    }
}

fn threshold_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Connections => "max_connections",
        Resource::PendingRequests => "max_pending_requests",
        Resource::Requests => "max_requests",
        Resource::Retries => "max_retries",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Percent, RetryBudget},
        rng::{Rng, SplitMix64},
    };

    const DEFAULT: RoutingPriority = RoutingPriority::Default;

    #[test]
    fn no_number_of_threads_exceeds_a_limit() {
        let breaker = Arc::new(CircuitBreaker::default());
        let thresholds = Thresholds { max_requests: 3, ..Thresholds::default() };
        let (refused, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let (inside, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Ok(permit) = breaker.try_acquire(DEFAULT, Resource::Requests, &thresholds) else {
                            refused.fetch_add(1, Ordering::Relaxed);
                            continue;
                        };
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::Relaxed);
                        taken.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert!(taken.load(Ordering::Relaxed) > 0 && taken.into_inner() + refused.into_inner() == 40_000);
        assert_eq!(breaker.in_use(DEFAULT, Resource::Requests), 0, "everything was given back");
    }

    #[test]
    fn priorities_and_resources_have_limits_of_their_own() {
        let breaker = Arc::new(CircuitBreaker::default());
        let none = Thresholds { max_connections: 0, max_pending_requests: 0, max_retries: 0, ..Thresholds::default() };
        let refused = |resource| breaker.try_acquire(DEFAULT, resource, &none).unwrap_err();
        let overflow = refused(Resource::Connections);
        assert_eq!(overflow.to_string(), "max_connections overflow: 0 are in use, the limit");
        assert_eq!(refused(Resource::PendingRequests).resource, Resource::PendingRequests);
        assert_eq!(refused(Resource::Retries).resource, Resource::Retries);
        let _request = breaker.try_acquire(DEFAULT, Resource::Requests, &none).unwrap();
        assert_eq!(breaker.in_use(DEFAULT, Resource::Requests), 1);
        assert_eq!(breaker.in_use(RoutingPriority::High, Resource::Requests), 0);
    }

    #[test]
    fn a_budget_is_never_overdrawn_whatever_comes_and_goes() {
        let budget = RetryBudget { budget_percent: Percent::new(25).unwrap().into(), min_retry_concurrency: 2 };
        let thresholds = Thresholds { retry_budget: Some(budget), ..Thresholds::default() };
        for seed in 0..20 {
            let mut rng = SplitMix64::new(seed);
            let breaker = Arc::new(CircuitBreaker::default());
            // The obvious model: lists of what is held.
            let mut held: [Vec<Permit>; 3] = Default::default();
            let resources = [Resource::Requests, Resource::PendingRequests, Resource::Retries];
            for step in 0..2_000 {
                let which = rng.index(3);
                if rng.below(100) < 45 && !held[which].is_empty() {
                    let index = rng.index(held[which].len());
                    drop(held[which].swap_remove(index));
                    continue;
                }
                let [requests, pending, retries] = held.each_ref().map(Vec::len);
                let fits = match which {
                    2 => retries < ((requests + pending) / 4).max(2),
                    _ => true,
                };
                let permit = breaker.try_acquire(DEFAULT, resources[which], &thresholds);
                assert_eq!(permit.is_ok(), fits, "seed {seed}, step {step}: {requests} {pending} {retries}");
                held[which].extend(permit);
            }
        }
    }
}
