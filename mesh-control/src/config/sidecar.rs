//! `Sidecar`: the ports on which a workload's proxy listens, and the services that the workload may call.
//!
//! Source: `networking/v1alpha3/sidecar.proto`. Without interception of traffic the proxy listens on the ports that
//! Sidecars name: `ingress` for connections to the workload, and `egress` with a port for its calls to services.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Resource;
use super::metadata::Metadata;
use super::namespaced_host::{EgressHost, NamespacedHost};
use super::port::{Protocol, read_bind, read_protocol};
use super::scalar::{Labels, labels};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Located, Node, Object};

/// Scope and listeners of some workloads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sidecar {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Labels of the workloads; none means all of the namespace.
    pub workload_selector: Option<Labels>,
    /// Listeners for calls to the workload.
    pub ingress: Vec<IngressListener>,
    /// The services that the workload may call, and listeners for them.
    pub egress: Vec<EgressListener>,
    /// What happens to calls to unknown hosts; none means the mesh's default, `ALLOW_ANY`.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// A listener for calls to the workload. Istio `IstioIngressListener`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IngressListener {
    /// Its position.
    pub position: Position,
    /// The port.
    pub port: ListenerPort,
    /// Address that is listened on, default the workload's.
    pub bind: Option<IpAddr>,
    /// Where calls go to, default the same port on 127.0.0.1.
    pub default_endpoint: Option<SocketAddr>,
}

/// Some of the services that the workload may call. Istio `IstioEgressListener`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EgressListener {
    /// Its position.
    pub position: Position,
    /// The port; none means the ports of the services.
    pub port: Option<ListenerPort>,
    /// Address that is listened on, default 127.0.0.1.
    pub bind: Option<IpAddr>,
    /// The services, at least one.
    pub hosts: Vec<Located<NamespacedHost>>,
}

/// A port to listen on. Istio `SidecarPort`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerPort {
    /// 1-65535.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Name; may be empty.
    pub name: String,
}

/// Istio `OutboundTrafficPolicy.Mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutboundTrafficPolicy {
    /// Calls to unknown hosts are answered with 502.
    RegistryOnly,
    /// Calls to unknown hosts are passed on.
    AllowAny,
}

impl Resource for Sidecar {
    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let workload_selector = object.node("workloadSelector").and_then(|node| {
            let selected = Object::new(node, cx.field("workloadSelector"))?;
            let labels = labels(&selected, "labels");
            selected.finish();
            Some(labels.unwrap_or_default())
        });
        let outbound_traffic_policy =
            object.node("outboundTrafficPolicy").and_then(|node| read_policy(node, cx.field("outboundTrafficPolicy")));
        let sidecar = Self {
            metadata,
            workload_selector,
            ingress: object.list("ingress"),
            egress: object.list("egress"),
            outbound_traffic_policy,
        };
        object.unsupported(&["inboundConnectionPool"]);
        sidecar.check(cx);
        object.finish();
        Some(sidecar)
    }
}

impl Sidecar {
    fn check(&self, cx: Context<'_>) {
        if self.workload_selector.is_none()
            && let Some(listener) = self.ingress.first()
        {
            let message = "ingress needs a workloadSelector: it is about one workload";
            cx.field("ingress").refuse(listener.position.clone(), message, "needs a workloadSelector");
        }
        for (i, listener) in self.ingress.iter().enumerate() {
            if self.ingress[..i].iter().any(|other| other.port.number == listener.port.number) {
                let message = format!("port {} is listened on twice", listener.port.number);
                cx.field("ingress").index(i).refuse(listener.position.clone(), message, "expected unique ports");
            }
        }
        for (i, listener) in self.egress.iter().enumerate() {
            let cx = cx.field("egress");
            let cx = cx.index(i);
            let same = |other: &EgressListener| {
                let key = |listener: &EgressListener| (listener.port.as_ref().map(|port| port.number), listener.bind);
                key(other) == key(listener)
            };
            if self.egress[..i].iter().any(same) {
                cx.refuse(
                    listener.position.clone(),
                    "two listeners have this port and bind",
                    "expected unique listeners",
                );
            }
            if listener.port.is_none() && i + 1 < self.egress.len() {
                let message = "a listener without port must be the last one";
                cx.refuse(listener.position.clone(), message, "move it to the end");
            }
        }
    }
}

pub(super) fn read_policy(node: &Node, cx: Context<'_>) -> Option<OutboundTrafficPolicy> {
    let object = Object::new(node, cx)?;
    let table = [
        ("REGISTRY_ONLY", 0, Some(OutboundTrafficPolicy::RegistryOnly)),
        ("ALLOW_ANY", 1, Some(OutboundTrafficPolicy::AllowAny)),
    ];
    // A block without mode means the enum's zero value, not the mesh's default.
    let mode = match object.node("mode") {
        None => Some(OutboundTrafficPolicy::RegistryOnly),
        Some(node) => cx.field("mode").enumeration(node, &table),
    };
    object.unsupported(&["egressProxy"]);
    object.finish();
    mode
}

impl FromNode for ListenerPort {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        if !object.has("number") {
            object.missing("number");
        }
        if !object.has("protocol") {
            object.missing("protocol");
        }
        let (number, protocol) = (object.port("number"), read_protocol(&object).flatten());
        let name = object.optional("name").unwrap_or_default();
        object.finish();
        Some(Self { number: number?, protocol: protocol?, name })
    }
}

impl FromNode for IngressListener {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let port = object.required("port");
        let (position, bind) = (object.position(), read_bind(&object));
        let default_endpoint = read_default_endpoint(&object);
        read_capture_mode(&object);
        object.unsupported(&["tls", "connectionPool"]);
        object.finish();
        Some(Self { position, port: port?, bind, default_endpoint })
    }
}

/// `127.0.0.1:PORT` or `0.0.0.0:PORT`; the latter means the workload's own address.
fn read_default_endpoint(object: &Object<'_>) -> Option<SocketAddr> {
    let cx = object.cx.field("defaultEndpoint");
    let text: Located<String> = object.optional("defaultEndpoint").filter(|text: &Located<String>| !text.is_empty())?;
    if text.starts_with("unix:") {
        cx.unsupported(object.key_mark("defaultEndpoint"), "Unix sockets are not supported yet");
        return None;
    }
    let endpoint = text.parse::<SocketAddr>().ok().filter(|endpoint| endpoint.port() != 0);
    let is_itself = endpoint.is_some_and(|endpoint| {
        let ip = endpoint.ip();
        ip.is_unspecified() || ip.is_loopback() && (ip.is_ipv6() || ip == Ipv4Addr::LOCALHOST)
    });
    if !is_itself {
        let what = if endpoint.is_some() { "the workload itself" } else { "an address with a port from 1 to 65535" };
        let message = format!("{:?} is not {what}", text.value);
        cx.refuse(text.position.clone(), message, "expected 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or [::]:PORT");
    }
    endpoint.filter(|_| is_itself)
}

/// Traffic is never intercepted, so only modes without interception are accepted.
fn read_capture_mode(object: &Object<'_>) {
    let cx = object.cx.field("captureMode");
    let table = [("DEFAULT", 0, Some(())), ("IPTABLES", 1, None), ("NONE", 2, Some(()))];
    if let Some(node) = object.node("captureMode") {
        cx.enumeration(node, &table);
    }
}

impl FromNode for EgressListener {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let port = object.optional("port");
        let (position, bind) = (object.position(), read_bind(&object));
        let hosts: Vec<Located<EgressHost>> = object.filled_list("hosts");
        read_capture_mode(&object);
        if bind.is_some() && !object.has("port") {
            cx.invalid(object.key_mark("bind"), "bind needs a port", "expected port");
        }
        let is_readable = port.is_some() || !object.has("port");
        object.finish();
        let hosts = hosts.into_iter().map(|host| Located { value: host.value.0, position: host.position }).collect();
        is_readable.then_some(Self { position, port, bind, hosts })
    }
}
