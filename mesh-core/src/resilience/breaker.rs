//! Circuit breakers: how much may be in flight to one cluster at once (E30).
//!
//! A [`CircuitBreaker`] holds the counts, [`Thresholds`] the limits. A count is raised only by compare-and-swap below its
//! limit, so that no number of threads can exceed it, and is lowered when the [`Permit`] is dropped, whichever way the
//! request ended. Limits are an argument: a configuration update changes them without touching what is in flight.

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
        let limit = self.limit(priority, resource, thresholds);
        self.count(priority, resource)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then(|| used + 1))
            .map_err(|_| Overflow { resource, limit })?;
        Ok(Permit { breaker: Arc::clone(self), priority, resource })
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
        self.breaker.count(self.priority, self.resource).fetch_sub(1, Ordering::Relaxed);
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
