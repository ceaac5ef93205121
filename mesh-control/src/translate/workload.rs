//! What the registry says about the workload of a node.

use std::net::IpAddr;

use mesh_core::node::{Labels, Node, Role};

use super::view::View;
use crate::registry::{Endpoint, Registry};

/// Labels of a gateway proxy that has none of its own.
const DEFAULT_GATEWAY_LABELS: [(&str, &str); 1] = [("istio", "ingressgateway")];

/// The node with labels: its own, else those that all endpoints of its service share; a gateway has
/// `istio=ingressgateway`.
#[must_use]
pub fn with_labels(mut node: Node, registry: &Registry) -> Node {
    if node.labels.is_empty() {
        node.labels = match node.role {
            Role::Gateway => DEFAULT_GATEWAY_LABELS.map(|(key, value)| (key.into(), value.into())).into(),
            Role::Sidecar(_) | Role::Library => shared_labels(&node, registry),
        };
    }
    node
}

fn shared_labels(node: &Node, registry: &Registry) -> Labels {
    let mut endpoints = all_endpoints(node, registry);
    let Some(first) = endpoints.next() else { return Labels::new() };
    let mut shared = first.labels.clone();
    for endpoint in endpoints {
        shared.retain(|key, value| endpoint.labels.get(key) == Some(value));
    }
    shared
}

fn all_endpoints<'a>(node: &Node, registry: &'a Registry) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
    let service = node.service.as_ref().and_then(|host| registry.find(host, &node.namespace));
    service.into_iter().flat_map(|service| &service.endpoints)
}

impl<'a> View<'a> {
    /// The endpoints of the node's service that can be the node: their labels do not contradict the node's.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let node = self.node;
        let agrees = |(key, value): (&String, &String)| node.labels.get(key).is_none_or(|own| own == value);
        all_endpoints(node, &self.mesh.registry).filter(move |endpoint| endpoint.labels.iter().all(agrees))
    }

    /// `region/zone/subzone` of the workload, if it can be known from its endpoints.
    pub(super) fn locality(&self) -> &'a str {
        let mut localities = self.endpoints().map(|endpoint| endpoint.locality.as_str());
        let first = localities.next().unwrap_or_default();
        if localities.all(|locality| locality == first) { first } else { "" }
    }

    /// Port of the service by which a port of the workload is called; the same if it is none's.
    pub(super) fn service_port(&self, target_port: u16) -> u16 {
        let mut ports = self.endpoints().flat_map(|endpoint| &endpoint.ports);
        ports.find(|(_, target)| **target == target_port).map_or(target_port, |(port, _)| *port)
    }

    /// IP address of the endpoint with this port.
    pub(super) fn address(&self, target_port: u16) -> Option<IpAddr> {
        let mut endpoints = self.endpoints();
        endpoints.find(|endpoint| endpoint.ports.values().any(|&port| port == target_port))?.address.parse().ok()
    }
}
