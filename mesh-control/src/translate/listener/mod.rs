//! Listeners, and the routes and clusters that only they need.

mod gateway;
mod http_connection_manager;
mod library;
mod sidecar;
mod tcp;

use super::proto::{cluster, listener as envoy, route};
use super::view::View;
use mesh_core::node::Role;

/// The side of a node where requests come in.
#[derive(Debug, Default)]
pub(super) struct Front {
    pub(super) listeners: Vec<envoy::Listener>,
    pub(super) routes: Vec<route::RouteConfiguration>,
    /// Clusters of the node's own workload.
    pub(super) clusters: Vec<cluster::Cluster>,
}

/// Everything that the node listens on.
pub(super) fn build(view: &View<'_>) -> Front {
    match view.node.role {
        Role::Sidecar(interception) => sidecar::build(view, interception),
        Role::Gateway => gateway::build(view),
        Role::Library => library::build(view),
    }
}
