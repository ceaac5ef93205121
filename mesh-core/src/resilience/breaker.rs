//! Circuit breakers: limits on what is in flight to a cluster. Envoy "Circuit breaking".
//!
//! A [`CircuitBreaker`] has the counts, [`Thresholds`] the limits. A count is incremented by compare-and-swap below its
//! limit, so concurrent threads cannot exceed it, and is decremented when the [`Permit`] is dropped. Only connections may
//! [exceed their limit](CircuitBreaker::acquire_beyond_limit). Limits are an argument, so a configuration update changes
//! them without affecting the counts.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use thiserror::Error;

use crate::model::{RoutingPriority, Thresholds};

/// A resource that a circuit breaker limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Connections: `max_connections`.
    Connections,
    /// Requests that wait for a connection: `max_pending_requests`.
    PendingRequests,
    /// Requests on a connection, until the response body ends: `max_requests`.
    Requests,
    /// Retries, from the decision to retry until the response: `max_retries` or `retry_budget`.
    Retries,
}

/// A threshold of a circuit breaker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} overflow: {limit} are in use, the limit", threshold_name(*.resource))]
pub struct Overflow {
    /// The resource.
    pub resource: Resource,
    /// The limit.
    pub limit: u32,
}

/// Counts of what is in flight to a cluster, by routing priority.
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
    /// The count of `resource`.
    #[must_use]
    pub fn in_use(&self, priority: RoutingPriority, resource: Resource) -> u32 {
        self.count(priority, resource).load(Ordering::Relaxed)
    }

    /// The limit of `resource`. With a retry budget, that of retries depends on the load.
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

    /// Acquires a permit for one of `resource`.
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

    /// Acquires a permit for one of `resource` even if the limit is reached.
    pub fn acquire_beyond_limit(self: &Arc<Self>, priority: RoutingPriority, resource: Resource) -> Permit {
        self.count(priority, resource).fetch_add(1, Ordering::Relaxed);
        Permit { breaker: Arc::clone(self), priority, resource }
    }

    /// Increments the count of `resource`. The caller must call [`CircuitBreaker::release`] exactly once.
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

    /// Decrements the count of `resource`.
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

/// A permit for a connection, pending request, request or retry. It is released when dropped.
#[derive(Debug)]
#[must_use = "dropping the permit releases it"]
pub struct Permit {
    breaker: Arc<CircuitBreaker>,
    priority: RoutingPriority,
    resource: Resource,
}

impl Permit {
    /// The resource.
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
    fn concurrent_threads_do_not_exceed_a_limit() {
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
    fn a_budget_is_never_exceeded() {
        let budget = RetryBudget { budget_percent: Percent::new(25).unwrap().into(), min_retry_concurrency: 2 };
        let thresholds = Thresholds { retry_budget: Some(budget), ..Thresholds::default() };
        for seed in 0..20 {
            let mut rng = SplitMix64::new(seed);
            let breaker = Arc::new(CircuitBreaker::default());
            // A simple model: lists of the permits.
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
