//! The members of a mesh: their identity for control planes and in telemetry.

mod telemetry;

use std::collections::BTreeMap;

use crate::{
    host::{CLUSTER_DOMAIN, Host, HostError},
    name::Name,
};

/// The default namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Name of the cluster of workloads in telemetry, as istiod calls its only one.
pub const CLUSTER_ID: &str = "Kubernetes";

/// Labels of a workload, or a selector of labels.
pub type Labels = BTreeMap<String, String>;

/// The role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A proxy beside one workload.
    Sidecar(Interception),
    /// A proxy at the edge. Istio's node type `router`.
    Gateway,
    /// A program that is itself part of the mesh.
    Library,
}

/// How connections reach a sidecar. Istio's node metadata `INTERCEPTION_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interception {
    /// It listens on the ports that `Sidecar` resources name. The only mode that is served.
    None,
    /// The kernel redirects connections to it: only translated, to compare with istiod.
    Redirect,
}

/// A program or proxy of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its role.
    pub role: Role,
    /// Its namespace, in which short names are looked up.
    pub namespace: String,
    /// Labels of its workload, by which Sidecars, Gateways and source conditions select it.
    pub labels: Labels,
    /// The service that it serves; a client serves none.
    pub service: Option<Host>,
    /// The service account of its workload, for its certificate; `None` = that of its endpoints, else `default`. Istio's node
    /// metadata `SERVICE_ACCOUNT`.
    pub service_account: Option<String>,
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
    /// The service account is invalid.
    #[error("invalid service account {service_account:?}: expected {}", Name::Resource.rule())]
    ServiceAccount {
        /// As it was given.
        service_account: String,
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
    /// without a namespace is one of `namespace`, which is by default that of the service, else `default`.
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

    /// The same node with a service account; `None` changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be the name of one in Kubernetes.
    pub fn with_service_account(self, service_account: Option<&str>) -> Result<Self, NodeError> {
        let Some(service_account) = service_account.map(str::to_owned) else { return Ok(self) };
        if !Name::Resource.admits(&service_account) {
            return Err(NodeError::ServiceAccount { service_account });
        }
        Ok(Self { service_account: Some(service_account), ..self })
    }

    /// A node that serves no service.
    #[must_use]
    pub fn client(role: Role, namespace: impl Into<String>) -> Self {
        Self { role, namespace: namespace.into(), labels: Labels::new(), service: None, service_account: None }
    }

    /// Its id towards a control plane and peers, as Istio's agent writes it: `TYPE~IP~NAME.NAMESPACE~DOMAIN`.
    #[must_use]
    pub fn id(&self) -> String {
        let kind = match self.role {
            Role::Sidecar(_) | Role::Library => "sidecar",
            Role::Gateway => "router",
        };
        // Peers identify the workload by this id, so workloads of one service must differ in it.
        let workload = self.workload().name;
        let name = if workload.is_empty() { "client" } else { &*workload };
        let namespace = &self.namespace;
        // The address is not used: endpoints are found by service and labels.
        format!("{kind}~127.0.0.1~{name}.{namespace}~{namespace}.svc.{CLUSTER_DOMAIN}")
    }

    /// Its service, in the form in which Istio's agent names the cluster of a node; empty if it serves none.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.service.as_ref().map_or_else(String::new, |host| match host.kubernetes_service() {
            Some((name, namespace)) => format!("{name}.{namespace}"),
            None => host.to_string(),
        })
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
///
/// # Errors
///
/// If the name is none of a host.
pub fn resolve(service: &str, namespace: &str) -> Result<(Host, String), HostError> {
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
    fn a_service_account_has_a_name_of_kubernetes() {
        let node = Node::client(Role::Library, "books");
        let with = |account| node.clone().with_service_account(account);
        assert_eq!(with(Some("book.reader")).unwrap().service_account.as_deref(), Some("book.reader"));
        assert_eq!(with(None).unwrap(), node);
        let error = with(Some("a/b")).unwrap_err().to_string();
        assert!(error.starts_with("invalid service account \"a/b\": expected at most 253 lower-case"), "{error}");
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
