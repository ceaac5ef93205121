//! What is known of a request's route.

use std::sync::Arc;

use http::Extensions;
use mesh_core::{
    cluster::ClusterState,
    model::{ClusterName, RoutingPriority},
    route::RouteHandle,
    store::ClusterSlot,
};

/// The route of a request and the cluster chosen; in the request's extensions.
///
/// A request keeps it from its first try to its last, whatever updates come meanwhile.
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

    /// The name of the cluster; `None` if the route names none, or a header should and does not.
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

    /// Which thresholds of a circuit breaker count for a request.
    pub(crate) fn priority_of(extensions: &Extensions) -> RoutingPriority {
        Self::of(extensions).map_or(RoutingPriority::Default, |matched| matched.entry.priority())
    }

    /// The cluster of a request: a layer's own, else the route's.
    pub(crate) fn cluster_of<'a>(
        extensions: &'a Extensions,
        own: Option<&'a Arc<ClusterState>>,
    ) -> Option<&'a Arc<ClusterState>> {
        own.or_else(|| Self::of(extensions)?.cluster())
    }
}
