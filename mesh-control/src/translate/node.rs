//! Who asks for resources.

use std::net::IpAddr;

use crate::config::{DEFAULT_NAMESPACE, Labels};
use crate::host::{CLUSTER_DOMAIN, Host, HostError};
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

/// How requests come to a sidecar. Istio's node metadata `INTERCEPTION_MODE`.
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
    /// Labels of its workload, by which Sidecars, Gateways and source matches select it.
    pub labels: Labels,
    /// The service that it serves; a client serves none.
    pub service: Option<Host>,
}

impl Node {
    /// A node of the service `NAME`, `NAME.NAMESPACE` or a fully qualified name. Without labels of its own it has those
    /// that all endpoints of its service share; a gateway without any has `istio=ingressgateway`.
    ///
    /// # Errors
    ///
    /// If the name cannot be a host.
    pub fn of_service(role: Role, service: &str, labels: Labels) -> Result<Self, HostError> {
        let (host, namespace) = resolve(service)?;
        Ok(Self { role, namespace, labels, service: Some(host) })
    }

    /// A node that serves nothing.
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

    /// The endpoints of its service that can be this node: no label says otherwise.
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

    /// IP address of the workload that serves a port.
    pub(super) fn address(&self, registry: &Registry, target_port: u16) -> Option<IpAddr> {
        let mut endpoints = self.endpoints(registry);
        endpoints.find(|endpoint| endpoint.ports.values().any(|&port| port == target_port))?.address.parse().ok()
    }
}

/// Host and namespace of a service's name as users write it.
pub(super) fn resolve(service: &str) -> Result<(Host, String), HostError> {
    let (name, namespace) = match service.split_once('.') {
        None => (service, DEFAULT_NAMESPACE),
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
            let (resolved, found) = resolve(text).unwrap();
            assert_eq!((resolved.as_str(), found.as_str()), (host, namespace));
        }
    }
}
