//! `Service` of Kubernetes.
//!
//! Source: `core/v1`, `ServiceSpec`; the meaning is that of istiod (`pilot/pkg/serviceregistry/kube/conversion.go`).

use std::net::IpAddr;

use super::object;
use super::port::KubernetesPort;
use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::config::{Labels, Visibility};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Located, Node, Object, Value};
use crate::host::{CLUSTER_DOMAIN, Host};
use crate::name::Name;

/// The annotation with the namespaces that see a Service.
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// The cluster IP of a headless Service.
const NO_CLUSTER_IP: &str = "None";

/// A service of Kubernetes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Service {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// `NAME.NAMESPACE.svc.cluster.local`.
    pub host: Host,
    /// Ports for TCP; others are left out.
    pub ports: Vec<KubernetesPort>,
    /// Labels of its Pods; none if its addresses are given by EndpointSlices only.
    pub selector: Labels,
    /// Its cluster IPs; none if it is headless, or if the file does not have them.
    pub addresses: Vec<IpAddr>,
    /// The host that it stands for, if its type is `ExternalName`.
    pub external_name: Option<Located<Host>>,
    /// Whether Pods that are not ready get requests, too.
    pub publish_not_ready_addresses: bool,
    /// Namespaces that see it; all if empty.
    pub export_to: Vec<Visibility>,
}

impl Resource for Service {
    fn read(metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<Self> {
        let whole = Object::new(node, cx)?;
        let export_to = read_export_to(&whole);
        let host = read_host(&metadata, cx);
        if !whole.has("spec") {
            whole.missing("spec");
        }
        let spec = object(&whole, "spec", cx.field("spec"))?;
        let ports: Vec<KubernetesPort> = spec.list("ports");
        check_ports(&ports, spec.cx.field("ports"));
        let external_name = read_external_name(&spec);
        Some(Self {
            host: host?,
            ports,
            selector: crate::config::scalar::labels(&spec, "selector").unwrap_or_default(),
            addresses: read_addresses(&spec),
            external_name: external_name?,
            publish_not_ready_addresses: spec.flag("publishNotReadyAddresses"),
            export_to: export_to?,
            metadata,
        })
    }
}

fn read_host(metadata: &Metadata, cx: Context<'_>) -> Option<Host> {
    let Metadata { name, namespace, position, .. } = metadata;
    let cx = cx.field("metadata");
    let cx = cx.field("name");
    if !Name::Namespace.admits(name) {
        let message = format!("{name:?} cannot be the name of a Service");
        cx.refuse(position.clone(), message, format!("expected {}", Name::Namespace.rule()));
        return None;
    }
    Host::parse(&format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"), namespace).ok()
}

/// Outer `None` after a mistake.
fn read_external_name(spec: &Object<'_>) -> Option<Option<Located<Host>>> {
    let kind: Option<String> = spec.optional("type");
    let name: Option<Located<String>> = spec.optional("externalName");
    if kind.as_deref() != Some("ExternalName") {
        return Some(None);
    }
    if name.as_ref().is_none_or(|name| name.is_empty()) {
        spec.missing("externalName");
        return None;
    }
    spec.optional("externalName").map(Some)
}

fn read_addresses(spec: &Object<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let first: Option<ClusterIp> = spec.optional("clusterIP");
    let all: Vec<ClusterIp> = spec.list("clusterIPs");
    for ClusterIp(address) in first.into_iter().chain(all) {
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    addresses
}

/// An IP address, `None` or nothing.
struct ClusterIp(Option<IpAddr>);

impl FromNode for ClusterIp {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::String(text) if text.is_empty() || text == NO_CLUSTER_IP => Some(Self(None)),
            _ => super::Ip::from_node(node, cx).map(|ip| Self(Some(ip.0))),
        }
    }
}

/// As the API server checks them.
fn check_ports(ports: &[KubernetesPort], cx: Context<'_>) {
    for (i, port) in ports.iter().enumerate() {
        let cx = cx.index(i);
        if port.name.is_empty() && ports.len() > 1 {
            cx.field("name").refuse(port.position.clone(), "the port has no name", "several ports need names");
        }
        if ports[..i].iter().any(|other| other.number == port.number) {
            let message = format!("port {} is listed twice", port.number);
            cx.field("port").refuse(port.position.clone(), message, "expected unique numbers");
        }
        if !port.name.is_empty() && ports[..i].iter().any(|other| other.name == port.name) {
            let message = format!("port name {:?} is listed twice", port.name);
            cx.field("name").refuse(port.position.clone(), message, "expected unique names");
        }
    }
}

/// The namespaces in the annotation, separated by commas; `None` after a mistake.
fn read_export_to(whole: &Object<'_>) -> Option<Vec<Visibility>> {
    let cx = whole.cx.field("metadata");
    let cx = cx.field("annotations");
    let annotations = whole.node("metadata").and_then(|metadata| metadata.get("annotations"));
    let Some(annotation) = annotations.and_then(|annotations| annotations.get(EXPORT_TO)) else {
        return Some(Vec::new());
    };
    let cx = cx.field(EXPORT_TO);
    let text = String::from_node(annotation, cx)?;
    let read = |name: &str| {
        let name = Node { value: Value::String(name.trim().to_owned()), mark: annotation.mark };
        Visibility::from_node(&name, cx)
    };
    if text.is_empty() { Some(Vec::new()) } else { text.split(',').map(read).collect() }
}

impl Service {
    /// Position of its name.
    pub fn position(&self) -> &Position {
        &self.metadata.position
    }

    /// The port with this name.
    pub fn port(&self, name: &str) -> Option<&KubernetesPort> {
        self.ports.iter().find(|port| port.name == name)
    }
}
