//! Addresses of a service, as EndpointSlices and Endpoints have them.

use std::net::IpAddr;

use super::port::{is_tcp, number_field};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Located, Node, Object};

/// Addresses that serve the same ports.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Addresses {
    /// Ports of the workloads, for TCP; others are left out.
    pub ports: Vec<EndpointPort>,
    /// The workloads.
    pub endpoints: Vec<EndpointAddress>,
}

/// A port of workloads. Kubernetes `discovery/v1` `EndpointPort`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointPort {
    /// Its position.
    pub position: Position,
    /// Name of the service's port; empty if the service does not name its port.
    pub name: String,
    /// Port of the workloads, 1-65535; `None` = all ports.
    pub number: Option<u16>,
}

/// An address of a workload. Kubernetes `discovery/v1` `Endpoint`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointAddress {
    /// The address.
    pub address: Located<IpAddr>,
    /// Whether it gets requests.
    pub is_ready: bool,
    /// Namespace and name of its Pod, if it is one; an empty namespace is that of the service.
    pub pod: Option<(String, String)>,
    /// The machine on which it runs; may be empty.
    pub node: String,
    /// The zone in which it runs; may be empty.
    pub zone: String,
}

/// Ports other than TCP are left out.
impl FromNode for EndpointPort {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let name = object.optional("name").unwrap_or_default();
        let number = number_field(&object, "port");
        let is_whole = number.is_some() || !object.has("port");
        (is_tcp(&object)? && is_whole).then(|| Self { position: object.position(), name, number })
    }
}

/// The Pod that a `targetRef` names; `None` if it names something else.
pub(super) fn pod(object: &Object<'_>) -> Option<(String, String)> {
    let reference = Object::new(object.node("targetRef")?, object.cx.field("targetRef"))?;
    let kind: Option<String> = reference.optional("kind");
    let (namespace, name) = (reference.optional("namespace").unwrap_or_default(), reference.optional("name")?);
    (kind.as_deref() == Some("Pod")).then_some((namespace, name))
}
