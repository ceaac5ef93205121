//! Listeners, and the routes and clusters that only they refer to.

mod gateway;
mod http_connection_manager;
mod inbound;
mod library;
mod sidecar;
mod tcp;

use super::proto::{cluster, listener as envoy, route};
use super::view::View;
use mesh_core::node::Role;

/// Listeners, and the routes and clusters that only they refer to.
#[derive(Debug, Default)]
pub(super) struct ListenerResources {
    pub(super) listeners: Vec<envoy::Listener>,
    pub(super) routes: Vec<route::RouteConfiguration>,
    /// Clusters of the node's own workload.
    pub(super) clusters: Vec<cluster::Cluster>,
}

/// The listeners of the node.
pub(super) fn build(view: &View<'_>) -> ListenerResources {
    match view.node.role {
        Role::Sidecar(interception) => sidecar::build(view, interception),
        Role::Gateway => gateway::build(view),
        Role::Library => library::build(view),
    }
}
