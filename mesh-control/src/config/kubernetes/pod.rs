//! `Pod`: a workload of Kubernetes.
//!
//! Source: `core/v1`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::port::{is_tcp, number_field};
use super::{Ip, object};
use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::document::{Context, FromNode, Node, Object};

/// A workload.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pod {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Its addresses; none before it runs, and in files that people write.
    pub addresses: Vec<IpAddr>,
    /// Whether it gets requests: it neither ends nor has ended, and its condition `Ready` is true. Without this condition it
    /// counts as ready, unless its phase is `Pending`.
    pub is_ready: bool,
    /// The machine on which it runs; may be empty.
    pub node: String,
    /// Ports of its containers by their names.
    pub ports: BTreeMap<String, u16>,
    /// Service account; may be empty.
    pub service_account: String,
}

impl Resource for Pod {
    fn read(metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<Self> {
        let whole = Object::new(node, cx)?;
        let is_ending = node.get("metadata").is_some_and(|metadata| metadata.get("deletionTimestamp").is_some());
        let spec = object(&whole, "spec", cx.field("spec"));
        let status = object(&whole, "status", cx.field("status"));
        let text = |name| spec.as_ref().and_then(|spec| spec.optional::<String>(name)).unwrap_or_default();
        let (node, service_account) = (text("nodeName"), text("serviceAccountName"));
        Some(Self {
            addresses: status.as_ref().map(read_addresses).unwrap_or_default(),
            is_ready: !is_ending && status.as_ref().is_some_and(is_ready),
            ports: spec.as_ref().map(read_ports).unwrap_or_default(),
            node,
            service_account,
            metadata,
        })
    }
}

fn read_addresses(status: &Object<'_>) -> Vec<IpAddr> {
    let first: Option<PodIp> = status.node("podIP").and_then(|node| PodIp::from_text(node, status.cx.field("podIP")));
    let all: Vec<PodIp> = status.list("podIPs");
    let mut addresses = Vec::new();
    for PodIp(address) in first.into_iter().chain(all) {
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    addresses
}

/// An item of `podIPs`, whose address may be empty.
struct PodIp(Option<IpAddr>);

impl PodIp {
    fn from_text(node: &Node, cx: Context<'_>) -> Option<Self> {
        if node.text() == Some("") { Some(Self(None)) } else { Ip::from_node(node, cx).map(|ip| Self(Some(ip.0))) }
    }
}

impl FromNode for PodIp {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        Self::from_text(object.node("ip")?, cx.field("ip"))
    }
}

fn is_ready(status: &Object<'_>) -> bool {
    let phase: String = status.optional("phase").unwrap_or_default();
    let conditions: Vec<Condition> = status.list("conditions");
    let ready = conditions.iter().find(|condition| condition.kind == "Ready").map(|ready| ready.status == "True");
    !matches!(phase.as_str(), "Succeeded" | "Failed") && ready.unwrap_or(phase != "Pending")
}

struct Condition {
    kind: String,
    status: String,
}

impl FromNode for Condition {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (kind, status) = (object.required("type"), object.required("status"));
        Some(Self { kind: kind?, status: status? })
    }
}

/// The first container that gives a port a name counts, as in Kubernetes. Of the containers that run before the others,
/// those count that go on running.
fn read_ports(spec: &Object<'_>) -> BTreeMap<String, u16> {
    let (containers, init): (Vec<Container>, Vec<Container>) = (spec.list("containers"), spec.list("initContainers"));
    let running = containers.into_iter().chain(init.into_iter().filter(|container| container.is_sidecar));
    let mut ports = BTreeMap::new();
    for (name, number) in running.flat_map(|container| container.ports) {
        ports.entry(name).or_insert(number);
    }
    ports
}

struct Container {
    ports: Vec<(String, u16)>,
    is_sidecar: bool,
}

impl FromNode for Container {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let ports: Vec<ContainerPort> = object.list("ports");
        let policy: Option<String> = object.optional("restartPolicy");
        let ports = ports.into_iter().filter_map(|port| port.0).collect();
        Some(Self { ports, is_sidecar: policy.as_deref() == Some("Always") })
    }
}

/// Name and number; `None` if it has no name, or is not for TCP.
struct ContainerPort(Option<(String, u16)>);

impl FromNode for ContainerPort {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let name: Option<String> = object.optional("name");
        let number = number_field(&object, "containerPort")?;
        let is_tcp = is_tcp(&object)?;
        Some(Self(name.filter(|name| is_tcp && !name.is_empty()).map(|name| (name, number))))
    }
}
