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

/// The node with a service: its own, if the mesh declares it, else the first one with an endpoint at one of these addresses whose
/// labels do not contradict the node's. So a workload that names itself otherwise than its service is still found, as in Istio.
#[must_use]
pub fn with_service(mut node: Node, addresses: &[IpAddr], registry: &Registry) -> Node {
    let is_declared = node.service.as_ref().is_some_and(|host| registry.find(host, &node.namespace).is_some());
    if is_declared || addresses.is_empty() {
        return node;
    }
    let is_node = |endpoint: &Endpoint| {
        let mut labels = endpoint.labels.iter();
        let agrees = labels.all(|(key, value)| node.labels.get(key).is_none_or(|own| own == value));
        endpoint.namespace == node.namespace
            && agrees
            && endpoint.address.parse().is_ok_and(|it| addresses.contains(&it))
    };
    let found = {
        let mut services = registry.visible_to(&node.namespace);
        services.find(|service| service.endpoints.iter().any(is_node)).map(|service| service.host.clone())
    };
    if found.is_some() {
        node.service = found;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Options;
    use crate::diagnostic::Source;
    use crate::load::Loaded;

    #[test]
    fn a_node_without_a_declared_service_is_found_by_its_address() {
        let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: \
             [a.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: \
             [{address: 10.0.0.1, labels: {app: a}}]}\n";
        let loaded = Loaded::from_sources(vec![Arc::new(Source::new("a.yaml", text))], Options::default());
        let found = |service: Option<&str>, namespace: &str, address: &str, label: &str| {
            let labels = Labels::from([("app".to_owned(), label.to_owned())]);
            let node = Node::new(Role::Library, service, Some(namespace), labels).unwrap();
            let node = with_service(node, &[address.parse().unwrap()], &loaded.mesh.registry);
            node.service.map(|host| host.to_string())
        };
        let own = Some("a.default.svc.cluster.local".to_owned());
        assert_eq!(found(None, "default", "10.0.0.1", "a"), own);
        assert_eq!(found(Some("misnamed"), "default", "10.0.0.1", "a"), own);
        assert_eq!(found(None, "default", "10.0.0.2", "a"), None);
        assert_eq!(found(None, "default", "10.0.0.1", "b"), None, "another workload");
        assert_eq!(found(None, "other", "10.0.0.1", "a"), None, "another namespace");
    }
}
