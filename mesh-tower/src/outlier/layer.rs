//! [`OutlierLayer`].

use std::sync::Arc;

use mesh_core::cluster::{ClusterState, EndpointState};
use tower_layer::Layer;

use super::OutlierDetector;
use crate::balance::SelectedEndpoint;

/// Tells a cluster how its endpoints do; see the [module](super).
#[derive(Clone, Debug)]
pub struct OutlierLayer {
    endpoint: Option<SelectedEndpoint>,
}

impl OutlierLayer {
    /// Around a service that is one endpoint.
    #[must_use]
    pub fn new(cluster: Arc<ClusterState>, endpoint: Arc<EndpointState>) -> Self {
        Self { endpoint: Some(SelectedEndpoint { cluster, endpoint }) }
    }

    /// Around a service that brings requests to the endpoints which [`BalanceLayer`](crate::balance::BalanceLayer) picked.
    #[must_use]
    pub fn of_selected() -> Self {
        Self { endpoint: None }
    }
}

impl<S> Layer<S> for OutlierLayer {
    type Service = OutlierDetector<S>;

    fn layer(&self, inner: S) -> OutlierDetector<S> {
        OutlierDetector { inner, endpoint: self.endpoint.clone() }
    }
}
