//! [`BalanceLayer`].

use std::sync::Arc;

use mesh_core::cluster::{ClusterState, EndpointState};
use tower_layer::Layer;

use super::Balance;

/// Picks endpoints; see the [module](super).
#[derive(Clone, Debug)]
pub struct BalanceLayer {
    cluster: Option<Arc<ClusterState>>,
}

/// Where a request goes; in its extensions.
#[derive(Clone, Debug)]
pub struct SelectedEndpoint {
    /// The cluster.
    pub cluster: Arc<ClusterState>,
    /// The endpoint picked.
    pub endpoint: Arc<EndpointState>,
}

impl BalanceLayer {
    /// Among the endpoints of `cluster`.
    #[must_use]
    pub fn new(cluster: Arc<ClusterState>) -> Self {
        Self { cluster: Some(cluster) }
    }

    /// Among the endpoints of the cluster that [`RouteLayer`](crate::route::RouteLayer) chose.
    #[must_use]
    pub fn of_route() -> Self {
        Self { cluster: None }
    }
}

impl<S> Layer<S> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Balance<S> {
        Balance { inner, cluster: self.cluster.clone() }
    }
}
