//! `Gateway`: ports at the edge of the mesh.
//!
//! Source: `networking/v1alpha3/gateway.proto`. Only servers of plain HTTP are implemented; any `tls` other than
//! `httpsRedirect` is refused, because a port that was meant to be encrypted must not be served in clear text.

use super::metadata::Metadata;
use super::reader::{Context, FromNode, Located, Object};
use super::scalar::{Labels, labels};
use super::service_entry::{Protocol, read_protocol};
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::host::Host;
use crate::name::Name;
use std::net::IpAddr;

/// Ports that the selected proxies serve.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Labels that the proxies have, in any namespace; empty selects all gateway proxies.
    pub selector: Labels,
    /// Ports and the hosts that are served on them.
    pub servers: Vec<Server>,
}

/// A port and the hosts that are served on it. Istio `Server`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it stands.
    pub position: Position,
    /// Name; may be empty.
    pub name: String,
    /// Port that is listened on.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Address that is listened on, default all.
    pub bind: Option<IpAddr>,
    /// Hosts for which VirtualServices are accepted, at least one.
    pub hosts: Vec<Located<NamespacedHost>>,
    /// Whether every request is answered with 301 to `https`.
    pub https_redirect: bool,
}

/// `NAMESPACE/HOST`: hosts, limited to what a namespace declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacedHost {
    /// Which namespaces' resources count.
    pub namespace: NamespaceScope,
    /// The host, `*` for all.
    pub host: Host,
}

/// The namespace part of a [`NamespacedHost`], with `.` resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceScope {
    /// Any: `*`, the default of gateways.
    Any,
    /// This one.
    Namespace(String),
    /// None: `~`, for sidecars that call nothing.
    None,
}

impl NamespacedHost {
    /// Whether what `namespace` declares for `host` is meant.
    pub fn admits(&self, namespace: &str, host: &Host) -> bool {
        self.namespace.includes(namespace) && self.host.intersects(host)
    }
}

impl NamespaceScope {
    /// Whether the namespace is in it.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Namespace(name) => name == namespace,
            Self::None => false,
        }
    }
}

impl NamespacedHost {
    /// Reads `NAMESPACE/HOST`; `default_scope` is what a host without namespace means, `None` if it is not allowed.
    fn read(node: &Node, cx: Context<'_>, default_scope: Option<NamespaceScope>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let expected = "expected NAMESPACE/HOST, where both can be *";
        let (namespace, name) = match (text.split_once('/'), default_scope) {
            (Some(("*", name)), _) => (NamespaceScope::Any, name),
            (Some((".", name)), _) => (NamespaceScope::Namespace(cx.namespace().to_owned()), name),
            (Some(("~", name)), _) => (NamespaceScope::None, name),
            (Some((namespace, name)), _) if Name::Namespace.admits(namespace) => {
                (NamespaceScope::Namespace(namespace.to_owned()), name)
            }
            (None, Some(scope)) => (scope, text.as_str()),
            _ => {
                cx.invalid(node.mark, format!("{text:?} is not a host with its namespace"), expected);
                return None;
            }
        };
        // A short name here is a DNS name of one label, not a service.
        let host = match Host::parse(name, cx.namespace()) {
            Ok(host) if name.contains(['.', '*']) || host.is_ip() => host,
            Ok(_) => {
                cx.invalid(node.mark, format!("short names (non FQDN) are not allowed: {name:?}"), expected);
                return None;
            }
            Err(error) => {
                cx.invalid(node.mark, format!("{text:?} is not a host: {error}"), expected);
                return None;
            }
        };
        Some(Self { namespace, host })
    }
}

impl FromNode for NamespacedHost {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        Self::read(node, cx, Some(NamespaceScope::Any))
    }
}

/// As [`NamespacedHost`], where the namespace is required: hosts of a Sidecar.
#[derive(Clone, Debug)]
pub(super) struct EgressHost(pub(super) NamespacedHost);

impl FromNode for EgressHost {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        NamespacedHost::read(node, cx, None).map(Self)
    }
}

impl Gateway {
    pub(super) fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let gateway = Self {
            metadata,
            selector: labels(&object, "selector").unwrap_or_default(),
            servers: object.filled_list("servers"),
        };
        object.finish();
        Some(gateway)
    }
}

struct Port {
    number: u16,
    protocol: Protocol,
}

impl FromNode for Port {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        if !object.has("number") {
            object.missing("number");
        }
        let number = object.port("number");
        object.required::<String>("name");
        if !object.has("protocol") {
            object.missing("protocol");
        }
        let protocol = read_protocol(&object).flatten();
        let mark = object.value_mark("protocol");
        let accepted = protocol.filter(|protocol| protocol.is_http());
        if let (Some(protocol), None) = (protocol, accepted) {
            let message = format!("servers of protocol {} are not supported yet", protocol.as_str());
            cx.field("protocol").unsupported(mark, message);
        }
        object.unsupported(&["targetPort"]);
        object.finish();
        Some(Self { number: number?, protocol: accepted? })
    }
}

impl FromNode for Server {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let port: Option<Port> = object.required("port");
        let hosts: Vec<_> = object.filled_list("hosts");
        let (position, name) = (object.position(), object.optional("name").unwrap_or_default());
        let (bind, https_redirect) = (read_bind(&object), read_tls(&object));
        for (i, host) in hosts.iter().enumerate() {
            let host: &Located<NamespacedHost> = host;
            if hosts[..i].iter().any(|other: &Located<NamespacedHost>| other.value == host.value) {
                let message = format!("host {} is listed twice", host.host);
                cx.field("hosts").index(i).report(Diagnostic::error(Code::Duplicate, host.position.clone(), message));
            }
        }
        object.unsupported(&["defaultEndpoint"]);
        object.finish();
        let port = port?;
        Some(Self { position, name, port: port.number, protocol: port.protocol, bind, hosts, https_redirect })
    }
}

/// Reads an address to listen on.
pub(super) fn read_bind(object: &Object<'_>) -> Option<IpAddr> {
    let cx = object.cx.field("bind");
    let text: Located<String> = object.optional("bind").filter(|bind: &Located<String>| !bind.is_empty())?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) if text.starts_with("unix:") => {
            cx.unsupported(object.key_mark("bind"), "listening on Unix sockets is not supported yet");
            None
        }
        Err(_) => {
            cx.refuse(
                text.position.clone(),
                format!("{:?} is not an IP address", text.value),
                "expected an IP address",
            );
            None
        }
    }
}

/// Whether `tls.httpsRedirect` is set.
fn read_tls(object: &Object<'_>) -> bool {
    let cx = object.cx.field("tls");
    let Some(node) = object.node("tls") else { return false };
    let Some(tls) = Object::new(node, cx) else { return false };
    let https_redirect = tls.flag("httpsRedirect");
    tls.unsupported(&[
        "mode",
        "serverCertificate",
        "privateKey",
        "caCertificates",
        "caCrl",
        "credentialName",
        "credentialNames",
        "caCertCredentialName",
        "tlsCertificates",
        "subjectAltNames",
        "verifyCertificateSpki",
        "verifyCertificateHash",
        "minProtocolVersion",
        "maxProtocolVersion",
        "cipherSuites",
    ]);
    tls.finish();
    https_redirect
}
