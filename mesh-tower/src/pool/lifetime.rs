//! What every connection carries from its making to its end.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use mesh_core::cluster::{ClusterStats, EndpointRuntime};
use mesh_core::model::HttpProtocolOptions;
use mesh_core::resilience::breaker::Permit;

use super::{Target, endpoint_pool::EndpointPool};
use crate::timer::now;

/// The birth, the limits and the place in the circuit breaker of one connection.
pub(super) struct Lifetime {
    pool: Weak<EndpointPool>,
    opened: Instant,
    options: HttpProtocolOptions,
    stats: Arc<ClusterStats>,
    endpoint: Arc<EndpointRuntime>,
    permit: Option<Permit>,
}

impl Lifetime {
    /// Begins now.
    pub(super) fn new(pool: &Arc<EndpointPool>, target: &Target<'_>, permit: Permit) -> Self {
        let endpoint = Arc::clone(target.endpoint.runtime());
        endpoint.stats().cx_active.inc();
        Self {
            pool: Arc::downgrade(pool),
            opened: now(),
            options: target.cluster.config().http_protocol_options,
            stats: Arc::clone(target.stats()),
            endpoint,
            permit: Some(permit),
        }
    }

    /// Whether a connection that has served `requests` takes no more.
    pub(super) fn is_spent(&self, requests: u32) -> bool {
        let is_spent = self.options.max_requests_per_connection.is_some_and(|limit| requests >= limit.get());
        if is_spent {
            self.stats.upstream_cx_max_requests.inc();
        }
        is_spent
    }

    /// Whether a connection that has been unused for `idle` is to be closed.
    pub(super) fn is_over(&self, idle: Duration, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.opened);
        if self.options.max_connection_duration.is_some_and(|limit| age >= limit) {
            self.stats.upstream_cx_max_duration_reached.inc();
            return true;
        }
        if self.options.idle_timeout.is_some_and(|limit| idle >= limit) {
            self.stats.upstream_cx_idle_timeout.inc();
            return true;
        }
        false
    }

    /// The pool, unless its endpoint is gone.
    pub(super) fn pool(&self) -> Option<Arc<EndpointPool>> {
        self.pool.upgrade()
    }

    /// When the connection was made.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        self.stats.upstream_cx_destroy.inc();
        self.endpoint.stats().cx_active.dec();
        // Somebody may wait for the place that this gives back, so it must be given back first.
        self.permit = None;
        if let Some(pool) = self.pool.upgrade() {
            pool.connect_for_waiting();
        }
    }
}

impl fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifetime").field("opened", &self.opened).finish_non_exhaustive()
    }
}
