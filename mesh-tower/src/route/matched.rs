//! The route of a request, for layers.

use std::sync::Arc;

use http::Extensions;
use mesh_core::{
    cluster::ClusterState,
    model::{ClusterName, RoutingPriority},
    route::RouteHandle,
    store::ClusterSlot,
};

/// The route and the selected cluster of a request, in its extensions.
///
/// All tries of a request use the same route, even if the routes are updated meanwhile.
#[derive(Clone, Debug)]
pub struct RouteMatched {
    pub(super) entry: RouteHandle<Arc<ClusterSlot>>,
    pub(super) cluster_name: Option<ClusterName>,
    pub(super) cluster: Option<Arc<ClusterState>>,
    pub(super) weighted: Option<usize>,
}

impl RouteMatched {
    /// The route.
    #[must_use]
    pub fn entry(&self) -> &RouteHandle<Arc<ClusterSlot>> {
        &self.entry
    }

    /// The name of the cluster; `None` if the route does not forward, or the header with the name is missing.
    #[must_use]
    pub fn cluster_name(&self) -> Option<&ClusterName> {
        self.cluster_name.as_ref()
    }

    /// The cluster; `None` if it does not exist.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<ClusterState>> {
        self.cluster.as_ref()
    }

    /// Position of the cluster in the route's weighted clusters; `None` if the route has none.
    #[must_use]
    pub fn weighted(&self) -> Option<usize> {
        self.weighted
    }

    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// The priority of a request, which selects circuit breaker thresholds.
    pub(crate) fn priority_of(extensions: &Extensions) -> RoutingPriority {
        Self::of(extensions).map_or(RoutingPriority::Default, |matched| matched.entry.priority())
    }

    /// The cluster of a request: the layer's, or else the route's.
    pub(crate) fn cluster_of<'a>(
        extensions: &'a Extensions,
        own: Option<&'a Arc<ClusterState>>,
    ) -> Option<&'a Arc<ClusterState>> {
        own.or_else(|| Self::of(extensions)?.cluster())
    }
}
