//! The listener that a rule is translated for, on which its matches and destinations depend.

use super::names;
use super::view::View;
use crate::config::{Destination, GatewayName, ListenerMatch, VirtualService, selects};
use crate::registry::Service;
use mesh_core::node::Role;

/// A listener of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) view: &'a View<'a>,
    /// Port that clients call.
    pub(super) port: u16,
    /// The Gateway that it belongs to, or the mesh.
    pub(super) gateway: &'a GatewayName,
}

impl Entry<'_> {
    /// Whether a match is for this listener and node.
    pub(super) fn admits(&self, matcher: &ListenerMatch) -> bool {
        let node = self.view.node;
        let is_gateway = node.role == Role::Gateway;
        matcher.port.is_none_or(|port| port == self.port)
            && (matcher.gateways.is_empty() || matcher.gateways.contains(self.gateway))
            && (is_gateway || selects(&matcher.source_labels, &node.labels))
            && matcher.source_namespace.as_ref().is_none_or(|namespace| *namespace == node.namespace)
    }

    /// Cluster of a destination. Without a port it is the service's only port, or else that of the listener. An alias has the
    /// clusters of its service.
    pub(super) fn cluster(&self, service: &VirtualService, destination: &Destination) -> String {
        let host = &destination.host.value;
        let found = self.view.mesh.registry.find(host, &service.metadata.namespace);
        let is_alias = |found: &&Service| found.aliases.iter().any(|alias| alias.host == *host);
        let host = found.filter(is_alias).map_or(host, |found| &found.host);
        let only = found.and_then(|found| match found.ports.as_slice() {
            [port] => Some(port.number),
            _ => None,
        });
        let port = destination.port.as_ref().map(|port| port.value).or(only).unwrap_or(self.port);
        let subset = destination.subset.as_ref().map_or("", |subset| subset.as_str());
        names::outbound_cluster(port, subset, host)
    }
}
