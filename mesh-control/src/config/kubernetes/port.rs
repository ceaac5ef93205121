//! The ports of a Service, and what is spoken on them.

use crate::config::Protocol;
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Node, Object, Value};

/// Ports on which Istio assumes plain TCP if nothing says what is spoken: SMTP, DNS, MySQL, MongoDB.
const WELL_KNOWN_TCP_PORTS: [u16; 4] = [25, 53, 3306, 27017];

/// A port of a Service. Kubernetes `ServicePort`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KubernetesPort {
    /// Its position.
    pub position: Position,
    /// Port that clients call, 1-65535.
    pub number: u16,
    /// Name; empty if the service has only one port and does not name it.
    pub name: String,
    /// What is spoken on it: TCP if nothing says so.
    pub protocol: Protocol,
    /// Whether the name, `appProtocol` or the number says what is spoken. Istio would detect it otherwise.
    pub is_protocol_declared: bool,
    /// Port of the workloads.
    pub target: TargetPort,
}

/// The port of a workload. Kubernetes `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name that the workload's container gives it.
    Name(String),
}

impl FromNode for TargetPort {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::String(name) if !name.is_empty() && name.bytes().any(|byte| byte.is_ascii_alphabetic()) => {
                Some(Self::Name(name.clone()))
            }
            Value::String(name) => {
                let message = format!("{name:?} is not the name of a port");
                cx.invalid(node.mark, message, "expected a name, or a number without quotes");
                None
            }
            _ => number(node, cx).map(Self::Number),
        }
    }
}

/// A port number; unlike in protobuf-JSON, a string is none.
pub(super) fn number(node: &Node, cx: Context<'_>) -> Option<u16> {
    cx.plain_integer(node, 1, u16::MAX.into()).and_then(|number| u16::try_from(number).ok())
}

/// A port number in a field.
pub(super) fn number_field(object: &Object<'_>, name: &'static str) -> Option<u16> {
    number(object.node(name)?, object.cx.field(name))
}

/// Whether a port is for TCP. A mesh has nothing to do with the others.
pub(super) fn is_tcp(object: &Object<'_>) -> Option<bool> {
    let Some(node) = object.node("protocol") else { return Some(true) };
    let cx = object.cx.field("protocol");
    match String::from_node(node, cx)?.as_str() {
        "TCP" => Some(true),
        "UDP" | "SCTP" => Some(false),
        other => {
            let message = format!("{other:?} is not a protocol of Kubernetes");
            cx.invalid(node.mark, message, "expected TCP, UDP or SCTP; appProtocol says what is spoken on it");
            None
        }
    }
}

/// Ports other than TCP are left out.
impl FromNode for KubernetesPort {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        if !object.has("port") {
            object.missing("port");
        }
        let number = number_field(&object, "port");
        let name: String = object.optional("name").unwrap_or_default();
        let app_protocol: Option<String> = object.optional("appProtocol");
        let target = object.optional("targetPort");
        let is_tcp = is_tcp(&object)?;
        let (number, position) = (number?, cx.position(object.value_mark("port")));
        let protocol = protocol(number, &name, app_protocol.as_deref());
        is_tcp.then(|| Self {
            position,
            number,
            name,
            protocol: protocol.unwrap_or(Protocol::Tcp),
            is_protocol_declared: protocol.is_some(),
            target: target.unwrap_or(TargetPort::Number(number)),
        })
    }
}

/// What is spoken on a port: `appProtocol`, or else the name up to `-`. `None` if neither says so. Istio
/// `ConvertProtocol`.
fn protocol(number: u16, name: &str, app_protocol: Option<&str>) -> Option<Protocol> {
    let text = app_protocol.unwrap_or(name);
    match app_protocol {
        Some("kubernetes.io/h2c") => return Some(Protocol::Http2),
        Some("kubernetes.io/ws") => return Some(Protocol::Http),
        Some("kubernetes.io/wss") => return Some(Protocol::Https),
        _ => {}
    }
    let text = text.to_ascii_lowercase();
    if text.starts_with("grpc-web") {
        return Some(Protocol::GrpcWeb);
    }
    let prefix = text.split('-').next().unwrap_or_default();
    match prefix {
        "http" | "http_proxy" => Some(Protocol::Http),
        "http2" => Some(Protocol::Http2),
        "grpc" => Some(Protocol::Grpc),
        "https" => Some(Protocol::Https),
        "tls" => Some(Protocol::Tls),
        // What istiod has filters for, which are off by default.
        "tcp" | "redis" | "mysql" => Some(Protocol::Tcp),
        "mongo" => Some(Protocol::Mongo),
        _ => WELL_KNOWN_TCP_PORTS.contains(&number).then_some(Protocol::Tcp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_that_of_istio() {
        for (number, name, app_protocol, expected) in [
            (80, "http", None, Some(Protocol::Http)),
            (80, "HTTP-web", None, Some(Protocol::Http)),
            (80, "http2-web", None, Some(Protocol::Http2)),
            (80, "grpc-web", None, Some(Protocol::GrpcWeb)),
            (80, "grpc-web-1", None, Some(Protocol::GrpcWeb)),
            (80, "grpc-api", None, Some(Protocol::Grpc)),
            (443, "https-a", None, Some(Protocol::Https)),
            (443, "tls", None, Some(Protocol::Tls)),
            (1, "redis-a", None, Some(Protocol::Tcp)),
            (1, "mongo", None, Some(Protocol::Mongo)),
            (3306, "db", None, Some(Protocol::Tcp)),
            (3306, "http", None, Some(Protocol::Http)),
            (80, "httpx", None, None),
            (80, "web", None, None),
            (80, "", None, None),
            (53, "", None, Some(Protocol::Tcp)),
            // `appProtocol` wins, also if Istio does not know it.
            (80, "tcp", Some("http"), Some(Protocol::Http)),
            (80, "http", Some("tcp"), Some(Protocol::Tcp)),
            (80, "http", Some("kubernetes.io/h2c"), Some(Protocol::Http2)),
            (80, "", Some("kubernetes.io/ws"), Some(Protocol::Http)),
            (80, "", Some("kubernetes.io/wss"), Some(Protocol::Https)),
            (80, "", Some("GRPC"), Some(Protocol::Grpc)),
            (80, "", Some("http-alt"), Some(Protocol::Http)),
            (80, "http", Some("acme.example/own"), None),
            (80, "http", Some(""), None),
            (80, "kubernetes.io/h2c", None, None),
        ] {
            assert_eq!(protocol(number, name, app_protocol), expected, "{number} {name:?} {app_protocol:?}");
        }
    }
}
