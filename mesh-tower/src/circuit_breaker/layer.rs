//! [`CircuitBreakerLayer`].

use std::sync::Arc;

use mesh_core::{
    cluster::ClusterState,
    model::{CircuitBreakers, Cluster, Discovery, LoadAssignment, Thresholds},
};
use tower_layer::Layer;

use super::CircuitBreaker;
use crate::{rng::ThreadRng, timer::now};

/// Limits requests; see the [module](super).
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer {
    cluster: Option<Arc<ClusterState>>,
}

impl CircuitBreakerLayer {
    /// With limits of its own, for all requests through the services that this layer makes.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self::with_cluster(cluster_with(thresholds))
    }

    /// With the limits of `cluster`, shared with everybody else who sends to it.
    #[must_use]
    pub fn with_cluster(cluster: Arc<ClusterState>) -> Self {
        Self { cluster: Some(cluster) }
    }

    /// With the limits of the cluster that [`RouteLayer`](crate::route::RouteLayer) chose.
    #[must_use]
    pub fn of_route() -> Self {
        Self { cluster: None }
    }
}

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker { inner, cluster: self.cluster.clone() }
    }
}

/// A cluster that is nothing but its limits.
pub(crate) fn cluster_with(thresholds: Thresholds) -> Arc<ClusterState> {
    let config = Cluster {
        circuit_breakers: CircuitBreakers { default: thresholds, high: thresholds },
        ..Cluster::new("", Discovery::Static(LoadAssignment::default()))
    };
    Arc::new(ClusterState::new(Arc::new(config), now(), &mut ThreadRng))
}
