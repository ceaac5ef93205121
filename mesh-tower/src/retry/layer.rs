//! [`RetryLayer`].

use std::sync::Arc;

use http::Extensions;
use mesh_core::{
    cluster::ClusterState,
    model::{Cluster, RetryBudget, RetryPolicy, Thresholds},
};
use tower_layer::Layer;

use super::Retry;
use crate::{circuit_breaker::cluster_with, route::RouteMatched, timer::Timers};

/// Repeats requests; see the [module](super).
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: Option<Arc<RetryPolicy>>,
    limits: Limits,
    retry_buffer_bytes: usize,
    pub(super) timers: Timers,
}

/// Whose limits count.
#[derive(Clone, Debug)]
enum Limits {
    /// A budget of the layer's own, a share of the requests through it.
    Own(Arc<ClusterState>),
    /// Those of a cluster, which its circuit breaker counts.
    Cluster(Arc<ClusterState>),
    /// Those of the cluster that the request's route chose.
    OfRoute,
}

/// What decides about the retries of one request.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) policy: Option<&'a Arc<RetryPolicy>>,
    pub(super) cluster: &'a Arc<ClusterState>,
    /// Whether requests are to be counted here, for no circuit breaker counts them.
    pub(super) counts_requests: bool,
}

impl RetryLayer {
    /// Under `policy`, and within `budget`: a share of the requests that are under way through the services which this
    /// layer makes.
    #[must_use]
    pub fn new(policy: impl Into<Arc<RetryPolicy>>, budget: RetryBudget) -> Self {
        let thresholds = Thresholds { max_requests: u32::MAX, retry_budget: Some(budget), ..Thresholds::default() };
        Self { limits: Limits::Own(cluster_with(thresholds)), ..Self::with_policy(Some(policy.into())) }
    }

    /// Under `policy`, and within what the circuit breaker of `cluster` allows, by `max_retries` or by its budget. Requests
    /// count there if a [`CircuitBreakerLayer`](crate::circuit_breaker::CircuitBreakerLayer) counts them.
    #[must_use]
    pub fn with_cluster(policy: impl Into<Arc<RetryPolicy>>, cluster: Arc<ClusterState>) -> Self {
        Self { limits: Limits::Cluster(cluster), ..Self::with_policy(Some(policy.into())) }
    }

    /// Under the policy of the route that [`RouteLayer`](crate::route::RouteLayer) chose, and within what the circuit
    /// breaker of its cluster allows.
    #[must_use]
    pub fn of_route() -> Self {
        Self::with_policy(None)
    }

    /// Keeps at most so many bytes of a request body. Default 64 KiB.
    #[must_use]
    pub fn retry_buffer_bytes(self, retry_buffer_bytes: usize) -> Self {
        Self { retry_buffer_bytes, ..self }
    }

    fn with_policy(policy: Option<Arc<RetryPolicy>>) -> Self {
        let retry_buffer_bytes = Cluster::DEFAULT_RETRY_BUFFER_BYTES;
        Self { policy, limits: Limits::OfRoute, retry_buffer_bytes, timers: Timers::default() }
    }

    /// `None` if the cluster of the request does not exist.
    pub(super) fn rules<'a>(&'a self, extensions: &'a Extensions) -> Option<Rules<'a>> {
        let of_route = || RouteMatched::of(extensions)?.entry().retry_policy();
        let (cluster, counts_requests) = match &self.limits {
            Limits::Own(cluster) => (cluster, true),
            Limits::Cluster(cluster) => (cluster, false),
            Limits::OfRoute => (RouteMatched::of(extensions)?.cluster()?, false),
        };
        Some(Rules { policy: self.policy.as_ref().or_else(of_route), cluster, counts_requests })
    }

    pub(super) fn buffer_limit(&self) -> usize {
        self.retry_buffer_bytes
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, layer: Arc::new(self.clone()) }
    }
}
