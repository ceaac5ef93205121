//! Wanted resources, resources in force, and the steps from one to the other.

use std::sync::Arc;
use std::time::Instant;

use mesh_core::model::{Cluster, ClusterName, Listener, LoadAssignment, RouteConfigName, RouteConfiguration, Secret};

/// One step from the resources in force to the wanted ones. Steps are made in the order in which they are returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Adds or replaces a secret; the next handshake uses it.
    SetSecret(Arc<Secret>),
    /// Forgets a secret that nothing refers to any more.
    RemoveSecret(Arc<str>),
    /// Adds or replaces a cluster; its runtime state is kept.
    SetCluster(Arc<Cluster>),
    /// Replaces the endpoints of the EDS clusters of this service name, those to come included.
    SetEndpoints {
        /// Name of the endpoint resource.
        service_name: Arc<str>,
        /// The endpoints.
        assignment: Arc<LoadAssignment>,
    },
    /// Adds or replaces routes.
    SetRoutes(Arc<RouteConfiguration>),
    /// Adds or replaces a listener.
    SetListener(Arc<Listener>),
    /// Removes a listener; its connections drain.
    RemoveListener(Arc<str>),
    /// Removes routes that no listener names any more.
    RemoveRoutes(RouteConfigName),
    /// Removes a cluster that no route in force names any more; listeners that are not in force, but still used, keep it.
    RetireCluster(ClusterName),
    /// Removes a cluster that routes in force still name: their requests find none.
    RemoveCluster(ClusterName),
    /// Forgets the endpoints of a service name that no cluster uses any more.
    RemoveEndpoints(Arc<str>),
}

/// The wanted version of a resource, and the one in force.
#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) wanted: Option<Arc<T>>,
    pub(super) in_force: Option<Arc<T>>,
    /// The latest time at which `wanted` goes into force.
    pub(super) until: Instant,
}

impl<T> Slot<T> {
    pub(super) fn empty(now: Instant) -> Self {
        Self { wanted: None, in_force: None, until: now }
    }

    /// The wanted version and the one in force, if they exist.
    pub(super) fn both(&self) -> impl Iterator<Item = &Arc<T>> {
        self.wanted.iter().chain(&self.in_force)
    }

    pub(super) fn want(&mut self, wanted: Arc<T>, until: Instant) {
        self.wanted = Some(wanted);
        self.until = until;
    }
}
