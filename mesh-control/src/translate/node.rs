//! The nodes that resources are made for.

use std::net::IpAddr;

use crate::config::{DEFAULT_NAMESPACE, Labels};
use crate::host::{CLUSTER_DOMAIN, Host, HostError};
use crate::name::Name;
use crate::registry::{Endpoint, Registry};

/// Labels of a gateway proxy that has none of its own.
const DEFAULT_GATEWAY_LABELS: [(&str, &str); 1] = [("istio", "ingressgateway")];

/// What a node does with its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A proxy beside one workload.
    Sidecar(Interception),
    /// A proxy at the edge. Istio's node type `router`.
    Gateway,
    /// A program that is itself part of the mesh.
    Library,
}

/// How connections reach a sidecar. Istio's node metadata `INTERCEPTION_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// It listens on the ports that `Sidecar` resources name. The only mode that is served.
    None,
    /// The kernel redirects connections to it: only translated, to compare with istiod.
    Redirect,
}

/// A program or proxy of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it does.
    pub role: Role,
    /// Its namespace, in which short names are looked up.
    pub namespace: String,
    /// Labels of its workload, by which Sidecars, Gateways and source conditions select it.
    pub labels: Labels,
    /// The service that it serves; a client serves none.
    pub service: Option<Host>,
}

/// Why a node is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The service is not a host.
    #[error("invalid service name {service:?}")]
    Service {
        /// As it was given.
        service: String,
        /// Why it is not a host.
        source: HostError,
    },
    /// The namespace, or the one in the name of the service, is invalid.
    #[error("invalid namespace {namespace:?}: expected {}", Name::Namespace.rule())]
    Namespace {
        /// As it was given.
        namespace: String,
    },
    /// The key of a label is invalid.
    #[error("invalid key {key:?} of a label: expected {}", Name::LabelKey.rule())]
    LabelKey {
        /// As it was given.
        key: String,
    },
    /// The value of a label is invalid.
    #[error("invalid value {value:?} of the label {key:?}: expected {}", Name::LabelValue.rule())]
    LabelValue {
        /// The label.
        key: String,
        /// As it was given.
        value: String,
    },
}

impl Node {
    /// A node of the service `NAME`, `NAME.NAMESPACE` or a fully qualified name; without one it only calls others. A name
    /// without a namespace is one of `namespace`, which is by default that of the service, else `default`. Without labels
    /// of its own the node has those that all endpoints of its service share; a gateway without any has
    /// `istio=ingressgateway`.
    ///
    /// # Errors
    ///
    /// If the service cannot be a host, or the namespace or a label is none that Kubernetes takes.
    pub fn new(role: Role, service: Option<&str>, namespace: Option<&str>, labels: Labels) -> Result<Self, NodeError> {
        let check = |namespace: &str| {
            let is_valid = Name::Namespace.admits(namespace);
            if is_valid { Ok(()) } else { Err(NodeError::Namespace { namespace: namespace.to_owned() }) }
        };
        let mut node = Self { labels, ..Self::client(role, namespace.unwrap_or(DEFAULT_NAMESPACE)) };
        check(&node.namespace)?;
        if let Some(service) = service {
            let invalid = |source| NodeError::Service { service: service.to_owned(), source };
            let (host, of_service) = resolve(service, &node.namespace).map_err(invalid)?;
            check(&of_service)?;
            node.service = Some(host);
            if namespace.is_none() {
                node.namespace = of_service;
            }
        }
        check_labels(&node.labels)?;
        Ok(node)
    }

    /// A node that serves no service.
    pub fn client(role: Role, namespace: impl Into<String>) -> Self {
        Self { role, namespace: namespace.into(), labels: Labels::new(), service: None }
    }

    /// The node with the labels that it has if it names none.
    #[must_use]
    pub fn with_labels(mut self, registry: &Registry) -> Self {
        if self.labels.is_empty() {
            self.labels = match self.role {
                Role::Gateway => DEFAULT_GATEWAY_LABELS.map(|(key, value)| (key.into(), value.into())).into(),
                Role::Sidecar(_) | Role::Library => self.shared_labels(registry),
            };
        }
        self
    }

    fn shared_labels(&self, registry: &Registry) -> Labels {
        let mut endpoints = self.all_endpoints(registry);
        let Some(first) = endpoints.next() else { return Labels::new() };
        let mut shared = first.labels.clone();
        for endpoint in endpoints {
            shared.retain(|key, value| endpoint.labels.get(key) == Some(value));
        }
        shared
    }

    fn all_endpoints<'a>(&'a self, registry: &'a Registry) -> impl Iterator<Item = &'a Endpoint> {
        let service = self.service.as_ref().and_then(|host| registry.find(host, &self.namespace));
        service.into_iter().flat_map(|service| &service.endpoints)
    }

    /// The endpoints of its service that can be this node: their labels do not contradict the node's.
    pub(super) fn endpoints<'a>(&'a self, registry: &'a Registry) -> impl Iterator<Item = &'a Endpoint> {
        let agrees = |(key, value): (&String, &String)| self.labels.get(key).is_none_or(|own| own == value);
        self.all_endpoints(registry).filter(move |endpoint| endpoint.labels.iter().all(agrees))
    }

    /// `region/zone/subzone` of the workload, if it can be known from its endpoints.
    pub(super) fn locality<'a>(&'a self, registry: &'a Registry) -> &'a str {
        let mut localities = self.endpoints(registry).map(|endpoint| endpoint.locality.as_str());
        let first = localities.next().unwrap_or_default();
        if localities.all(|locality| locality == first) { first } else { "" }
    }

    /// Port of the service by which a port of the workload is called; the same if it is none's.
    pub(super) fn service_port(&self, registry: &Registry, target_port: u16) -> u16 {
        let mut ports = self.endpoints(registry).flat_map(|endpoint| &endpoint.ports);
        ports.find(|(_, target)| **target == target_port).map_or(target_port, |(port, _)| *port)
    }

    /// IP address of the endpoint with this port.
    pub(super) fn address(&self, registry: &Registry, target_port: u16) -> Option<IpAddr> {
        let mut endpoints = self.endpoints(registry);
        endpoints.find(|endpoint| endpoint.ports.values().any(|&port| port == target_port))?.address.parse().ok()
    }
}

fn check_labels(labels: &Labels) -> Result<(), NodeError> {
    for (key, value) in labels {
        if !Name::LabelKey.admits(key) {
            return Err(NodeError::LabelKey { key: key.clone() });
        }
        if !Name::LabelValue.admits(value) {
            return Err(NodeError::LabelValue { key: key.clone(), value: value.clone() });
        }
    }
    Ok(())
}

/// Host and namespace of a service's name as users write it; a name without a namespace is one of `namespace`.
pub(super) fn resolve(service: &str, namespace: &str) -> Result<(Host, String), HostError> {
    let (name, namespace) = match service.split_once('.') {
        None if service.is_empty() => return Err(HostError::Empty),
        None => (service, namespace),
        Some((name, namespace)) if !namespace.contains('.') => (name, namespace),
        Some(_) => {
            let host = Host::parse(service, DEFAULT_NAMESPACE)?;
            let namespace = host.kubernetes_service().map_or(DEFAULT_NAMESPACE, |(_, namespace)| namespace).to_owned();
            return Ok((host, namespace));
        }
    };
    Ok((Host::parse(&format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"), namespace)?, namespace.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_resolved_as_users_write_them() {
        for (text, host, namespace) in [
            ("reviews", "reviews.default.svc.cluster.local", "default"),
            ("reviews.books", "reviews.books.svc.cluster.local", "books"),
            ("reviews.books.svc.cluster.local", "reviews.books.svc.cluster.local", "books"),
            ("api.books.example", "api.books.example", "default"),
        ] {
            let (resolved, found) = resolve(text, DEFAULT_NAMESPACE).unwrap();
            assert_eq!((resolved.as_str(), found.as_str()), (host, namespace));
        }
    }

    #[test]
    fn a_name_without_a_namespace_is_one_of_the_nodes() {
        for (service, namespace, host, expected) in [
            (Some("reviews"), Some("books"), "reviews.books.svc.cluster.local", "books"),
            (Some("reviews.books"), None, "reviews.books.svc.cluster.local", "books"),
            (Some("reviews.books"), Some("other"), "reviews.books.svc.cluster.local", "other"),
            (None, Some("books"), "", "books"),
            (None, None, "", "default"),
        ] {
            let node = Node::new(Role::Library, service, namespace, Labels::new()).unwrap();
            assert_eq!(node.service.as_ref().map_or("", Host::as_str), host);
            assert_eq!(node.namespace, expected);
        }
    }

    #[test]
    fn invalid_nodes_are_refused_by_name() {
        for (service, namespace, label, expected) in [
            (Some("shop"), Some("Bad Name"), None, "invalid namespace \"Bad Name\": expected at most 63 lower-case"),
            (None, Some(""), None, "invalid namespace \"\": expected"),
            (Some("shop.Books"), None, None, "invalid namespace \"Books\""),
            (Some(""), Some("books"), None, "invalid service name \"\""),
            (Some("a b"), Some("books"), None, "invalid service name \"a b\""),
            (Some("shop"), None, Some(("a b", "v1")), "invalid key \"a b\" of a label: expected at most 63 letters"),
            (None, None, Some(("", "")), "invalid key \"\" of a label"),
            (
                None,
                None,
                Some(("version", "v 1")),
                "invalid value \"v 1\" of the label \"version\": expected nothing, or",
            ),
        ] {
            let labels = label.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let error = Node::new(Role::Library, service, namespace, labels).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error:?} does not begin with {expected:?}");
        }
    }
}
