//! Translates a mesh into the xDS resources of one node.
//!
//! Pure functions from a [`Mesh`] to protobuf; no files, sockets or time. Names, shapes and defaults are istiod's,
//! so that Envoy or a gRPC client could use them as well. Differences are bugs, except these:
//!
//! - a listener with its own port (a Sidecar's `egress` with a port) has no original destination, so requests to unknown
//!   hosts get the response 502 there, under any outbound traffic policy;
//! - a destination without a port means the service's only port, not the port of the listener. istiod takes the
//!   port of the listener, even if the service does not have it;
//! - a library gets the routes of the called service only, not those of all services of the port;
//! - a library's listeners also have filters that are optional for gRPC clients, such as Istio's exchange of peer
//!   metadata; filters and metadata that only feed Istio's telemetry are left out.

mod cluster;
mod endpoint;
mod entry;
mod filter;
mod gateway_server;
mod listener;
mod names;
mod proto;
mod proxyless;
mod route;
mod stock_envoy;
mod string_match;
mod tls;
mod traffic_policy;
mod view;
mod workload;

pub use mesh_core::node::{Interception, Labels, Node, NodeError, Role};
pub use proxyless::for_grpc;
pub use stock_envoy::for_stock_envoy;
pub use tls::{identity_secrets, redacted};
pub use workload::{with_labels, with_service};

use mesh_xds::proto::envoy::config::cluster::v3::Cluster;
use mesh_xds::proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use mesh_xds::proto::envoy::config::listener::v3::Listener;
use mesh_xds::proto::envoy::config::route::v3::RouteConfiguration;
use mesh_xds::proto::envoy::extensions::transport_sockets::tls::v3::Secret;

use crate::mesh::Mesh;
use view::View;

/// All resources of one node, each type sorted by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// Listener discovery.
    pub listeners: Vec<Listener>,
    /// Route discovery.
    pub routes: Vec<RouteConfiguration>,
    /// Cluster discovery.
    pub clusters: Vec<Cluster>,
    /// Endpoint discovery.
    pub endpoints: Vec<ClusterLoadAssignment>,
    /// Secret discovery: what listeners and clusters name, except the certificate and the roots of the node's identity, which
    /// a certificate authority makes.
    pub secrets: Vec<Secret>,
}

/// The resources of a node of the mesh.
pub fn translate(mesh: &Mesh, node: &Node) -> Resources {
    let node = with_labels(node.clone(), &mesh.registry);
    let view = View::new(mesh, &node);
    let listener::ListenerResources { mut listeners, mut routes, clusters: inbound } = listener::build(&view);
    let (mut clusters, mut endpoints) = cluster::outbound(&view);
    clusters.extend(inbound);
    clusters.extend(cluster::of_keys(&view));
    listeners.sort_by(|a, b| a.name.cmp(&b.name));
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    endpoints.sort_by(|a, b| a.cluster_name.cmp(&b.cluster_name));
    Resources { listeners, routes, clusters, endpoints, secrets: tls::secrets(&view) }
}

/// The identity of a node of the mesh: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`. The account is its own, else
/// that of its endpoints; `default` if they have none or several.
#[must_use]
pub fn identity(mesh: &Mesh, node: &Node) -> String {
    let node = with_labels(node.clone(), &mesh.registry);
    let view = View::new(mesh, &node);
    tls::spiffe_id(mesh.config.mesh_config.trust_domain(), &node.namespace, view.service_account())
}

#[cfg(test)]
mod tests;
