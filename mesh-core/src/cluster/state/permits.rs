//! What circuit breakers allow: connections, requests and retries at the same time.

use super::ClusterState;
use crate::{
    cluster::EndpointState,
    model::{RoutingPriority, Thresholds},
    resilience::breaker::{Overflow, Permit, Resource},
};

impl ClusterState {
    /// Acquires a permit for a connection. `upstream_cx_overflow` counts overflows.
    ///
    /// # Errors
    /// If `max_connections` are open.
    pub fn try_connection(&self, priority: RoutingPriority) -> Result<Permit, Overflow> {
        let permit = self.try_acquire(priority, Resource::Connections);
        permit.inspect_err(|_| self.runtime.stats.upstream_cx_overflow.inc())
    }

    /// Acquires a permit for a connection even if `max_connections` are open. `upstream_cx_overflow` counts overflows.
    ///
    /// For connection pools without a connection: as in Envoy, each pool may have one connection beyond the limit, because
    /// its requests cannot use the connections of other pools.
    pub fn first_connection(&self, priority: RoutingPriority) -> Permit {
        self.try_connection(priority)
            .unwrap_or_else(|_| self.runtime.breaker.acquire_beyond_limit(priority, Resource::Connections))
    }

    /// Acquires a permit to wait for a connection. `upstream_rq_pending_overflow` counts overflows.
    ///
    /// # Errors
    /// If `max_pending_requests` are waiting.
    pub fn try_pending(&self, priority: RoutingPriority) -> Result<Permit, Overflow> {
        let permit = self.try_acquire(priority, Resource::PendingRequests);
        permit.inspect_err(|_| self.runtime.stats.upstream_rq_pending_overflow.inc())
    }

    /// Acquires a permit for a request, to be held until the response body ends. `upstream_rq_active_overflow` counts
    /// overflows.
    ///
    /// # Errors
    /// If `max_requests` are active.
    pub fn try_request(&self, priority: RoutingPriority) -> Result<Permit, Overflow> {
        let permit = self.try_acquire(priority, Resource::Requests);
        permit.inspect_err(|_| self.runtime.stats.upstream_rq_active_overflow.inc())
    }

    /// Counts a connection of other traffic than HTTP as a request, even if `max_requests` are active: as in Envoy, only
    /// `max_connections` limit it. It ends when the permit is dropped.
    pub fn request_beyond_limit(&self, priority: RoutingPriority) -> Permit {
        self.runtime.breaker.acquire_beyond_limit(priority, Resource::Requests)
    }

    /// Begins a try at `endpoint`. It counts as a request of the cluster, as with [`ClusterState::try_request`], and of the
    /// endpoint, as with [`EndpointState::start_request`]. Unlike these, it returns no guard: the caller must call
    /// [`ClusterState::end_try`] once when the try ends.
    ///
    /// # Errors
    /// If `max_requests` are active.
    pub fn begin_try(&self, endpoint: &EndpointState, priority: RoutingPriority) -> Result<(), Overflow> {
        let taken = self.runtime.breaker.acquire(priority, Resource::Requests, self.thresholds(priority));
        taken.inspect_err(|_| self.runtime.stats.upstream_rq_active_overflow.inc())?;
        endpoint.runtime().begin_request();
        Ok(())
    }

    /// Ends a try that was begun by [`ClusterState::begin_try`].
    pub fn end_try(&self, endpoint: &EndpointState, priority: RoutingPriority) {
        self.runtime.breaker.release(priority, Resource::Requests);
        endpoint.runtime().end_request();
    }

    /// Acquires a permit for a retry. `upstream_rq_retry_overflow` counts overflows.
    ///
    /// # Errors
    /// If `max_retries`, or the limit of the retry budget, are active.
    pub fn try_retry(&self, priority: RoutingPriority) -> Result<Permit, Overflow> {
        let permit = self.try_acquire(priority, Resource::Retries);
        permit.inspect_err(|_| self.runtime.stats.upstream_rq_retry_overflow.inc())
    }

    fn try_acquire(&self, priority: RoutingPriority, resource: Resource) -> Result<Permit, Overflow> {
        self.runtime.breaker.try_acquire(priority, resource, self.thresholds(priority))
    }

    pub(super) fn thresholds(&self, priority: RoutingPriority) -> &Thresholds {
        match priority {
            RoutingPriority::Default => &self.config.circuit_breakers.default,
            RoutingPriority::High => &self.config.circuit_breakers.high,
        }
    }
}
