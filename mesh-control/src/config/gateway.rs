//! `Gateway`: ports at the edge of the mesh.
//!
//! Source: `networking/v1alpha3/gateway.proto`. Servers that end TLS are not implemented and refused, because a port that
//! was meant to be encrypted must not be served in clear text.

use super::Resource;
use super::metadata::Metadata;
use super::namespaced_host::NamespacedHost;
use super::port::{Protocol, read_bind, read_protocol};
use super::scalar::{Labels, labels};
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, FromNode, Located, Node, Object};
use std::net::IpAddr;

/// Ports that the selected proxies serve.
#[derive(Clone, Debug)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Server {
    /// Its position.
    pub position: Position,
    /// Name; may be empty.
    pub name: String,
    /// Port that is listened on.
    pub port: u16,
    /// Name of the port, unique in the Gateway.
    pub port_name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address that is listened on, default all.
    pub bind: Option<IpAddr>,
    /// Hosts for which VirtualServices are accepted, at least one.
    pub hosts: Vec<Located<NamespacedHost>>,
    /// How connections are served.
    pub mode: ServerMode,
}

/// How a server serves connections, from its protocol and `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerMode {
    /// As HTTP in plain text, by the `http` rules of VirtualServices.
    Http {
        /// Whether every request is answered with 301 to `https`.
        https_redirect: bool,
    },
    /// As bytes, by the `tcp` rules of VirtualServices.
    Tcp,
    /// As TLS that is passed on as it is, by the `tls` rules of VirtualServices. Istio `PASSTHROUGH`.
    TlsPassthrough,
}

impl Resource for Gateway {
    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let gateway = Self {
            metadata,
            selector: labels(&object, "selector").unwrap_or_default(),
            servers: object.filled_list("servers"),
        };
        gateway.check_port_names(cx.field("servers"));
        object.finish();
        Some(gateway)
    }
}

impl Gateway {
    fn check_port_names(&self, cx: Context<'_>) {
        for (i, server) in self.servers.iter().enumerate() {
            if self.servers[..i].iter().any(|other| other.port_name == server.port_name) {
                let cx = cx.index(i);
                let cx = cx.field("port");
                let message = format!("port names in servers must be unique: duplicate name {:?}", server.port_name);
                cx.field("name").refuse(server.position.clone(), message, "expected unique port names");
            }
        }
    }
}

struct Port {
    number: u16,
    name: String,
    protocol: Protocol,
}

impl FromNode for Port {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        if !object.has("number") {
            object.missing("number");
        }
        let (number, name) = (object.port("number"), object.required("name"));
        if !object.has("protocol") {
            object.missing("protocol");
        }
        let protocol = read_protocol(&object).flatten();
        object.unsupported(&["targetPort"]);
        object.finish();
        Some(Self { number: number?, name: name?, protocol: protocol? })
    }
}

impl FromNode for Server {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let port: Option<Port> = object.required("port");
        let hosts: Vec<_> = object.filled_list("hosts");
        let (position, name) = (object.position(), object.optional("name").unwrap_or_default());
        let bind = read_bind(&object);
        let mode = port.as_ref().and_then(|port| ServerMode::read(&object, port.protocol));
        if port.is_none() {
            // Its fields cannot be checked without the protocol.
            object.ignored(&["tls"]);
        }
        for (i, host) in hosts.iter().enumerate() {
            let host: &Located<NamespacedHost> = host;
            if hosts[..i].iter().any(|other: &Located<NamespacedHost>| other.value == host.value) {
                let message = format!("host {} is listed twice", host.host);
                cx.field("hosts").index(i).report(Diagnostic::error(Code::Duplicate, host.position.clone(), message));
            }
        }
        object.unsupported(&["defaultEndpoint"]);
        object.finish();
        let Port { number: port, name: port_name, protocol } = port?;
        Some(Self { position, name, port, port_name, protocol, bind, hosts, mode: mode? })
    }
}

/// Istio `ServerTLSSettings.TLSmode`: the name, the number, and whether the server passes TLS on as it is.
const TLS_MODES: [(&str, i128, bool); 6] = [
    ("PASSTHROUGH", 0, true),
    ("SIMPLE", 1, false),
    ("MUTUAL", 2, false),
    ("AUTO_PASSTHROUGH", 3, false),
    ("ISTIO_MUTUAL", 4, false),
    ("OPTIONAL_MUTUAL", 5, false),
];

/// Fields of `tls` that are about ending TLS.
const TERMINATION: &[&str] = &[
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
];

impl ServerMode {
    fn read(server: &Object<'_>, protocol: Protocol) -> Option<Self> {
        let Some(node) = server.node("tls") else {
            return match protocol {
                Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => {
                    Some(Self::Http { https_redirect: false })
                }
                Protocol::Tcp | Protocol::Mongo => Some(Self::Tcp),
                Protocol::Https | Protocol::Tls => {
                    let message = format!("a server of protocol {} must have TLS settings", protocol.as_str());
                    server.cx.field("tls").invalid(server.mark(), message, "expected tls");
                    None
                }
            };
        };
        let cx = server.cx.field("tls");
        let tls = Object::new(node, cx)?;
        let https_redirect = tls.flag("httpsRedirect");
        let mode = match protocol {
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => {
                read_plain(&tls).map(|()| Self::Http { https_redirect })
            }
            Protocol::Tcp | Protocol::Mongo => {
                let message = format!("a server of protocol {} cannot have TLS settings", protocol.as_str());
                cx.invalid(server.key_mark("tls"), message, "use protocol TLS");
                return None;
            }
            Protocol::Https | Protocol::Tls => {
                if https_redirect {
                    warn_without_effect(&tls, "httpsRedirect", "redirects are for HTTP servers");
                }
                read_passthrough(&tls).map(|()| Self::TlsPassthrough)
            }
        };
        tls.finish();
        mode
    }
}

/// `None` if the `tls` of a plain HTTP server has more than a redirect.
fn read_plain(tls: &Object<'_>) -> Option<()> {
    let table = TLS_MODES.map(|(name, number, _)| (name, number, Some(name)));
    let mode = tls.node("mode").and_then(|node| tls.cx.field("mode").enumeration(node, &table));
    // Without TLS there is nothing to pass on.
    let is_plain = mode.is_none_or(|mode| matches!(mode, "PASSTHROUGH" | "AUTO_PASSTHROUGH"));
    let certificate = ["serverCertificate", "privateKey", "caCertificates"].into_iter().find(|name| tls.has(name));
    let offending = if is_plain { certificate } else { Some("mode") };
    let Some(offending) = offending else {
        tls.unsupported(TERMINATION);
        return Some(());
    };
    let message = "a server cannot have TLS settings for plain text HTTP ports";
    tls.cx.field(offending).invalid(tls.key_mark(offending), message, "expected httpsRedirect only");
    tls.ignored(TERMINATION);
    None
}

/// `None` if the mode is not that TLS is passed on as it is, for which no certificate is needed.
fn read_passthrough(tls: &Object<'_>) -> Option<()> {
    let table = TLS_MODES.map(|(name, number, is_passthrough)| (name, number, is_passthrough.then_some(())));
    let mode = match tls.node("mode") {
        // The enum's zero value.
        None => Some(()),
        Some(node) => tls.cx.field("mode").enumeration(node, &table),
    };
    if mode.is_none() {
        tls.unsupported(TERMINATION);
        return None;
    }
    for name in TERMINATION.iter().filter(|name| tls.has(name)) {
        warn_without_effect(tls, name, "TLS is passed on as it is");
    }
    tls.ignored(TERMINATION);
    Some(())
}

fn warn_without_effect(tls: &Object<'_>, field: &str, reason: &str) {
    let position = tls.cx.position(tls.key_mark(field));
    let warning = Diagnostic::warning(Code::SchemaValidation, position, format!("{field} has no effect: {reason}"));
    tls.cx.field(field).report(warning);
}
