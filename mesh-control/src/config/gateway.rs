//! `Gateway`: ports at the edge of the mesh.
//!
//! Source: `networking/v1alpha3/gateway.proto`.

use super::Resource;
use super::metadata::Metadata;
use super::namespaced_host::NamespacedHost;
use super::port::{Protocol, read_bind, read_protocol};
use super::scalar::{Labels, labels};
use super::server_tls::{ServerTls, ServerTlsMode, TERMINATION};
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
    /// How TLS is ended, if it is.
    pub tls: Option<ServerTls>,
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
    /// As TLS that is passed on as it is, to the service that the server name `outbound_.PORT_.SUBSET_.HOST` names. Istio
    /// `AUTO_PASSTHROUGH`.
    AutoPassthrough,
    /// As HTTP in TLS that ends here, by the `http` rules of VirtualServices.
    Https,
    /// As bytes in TLS that ends here, by the `tcp` rules of VirtualServices.
    Tls,
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
        let served = port.as_ref().and_then(|port| Served::read(&object, port.protocol));
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
        let Served { mode, tls } = served?;
        Some(Self { position, name, port, port_name, protocol, bind, hosts, mode, tls })
    }
}

/// Istio `ServerTLSSettings.TLSmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TlsMode {
    Passthrough,
    AutoPassthrough,
    Terminate(ServerTlsMode),
}

const TLS_MODES: [(&str, i128, Option<TlsMode>); 6] = [
    ("PASSTHROUGH", 0, Some(TlsMode::Passthrough)),
    ("SIMPLE", 1, Some(TlsMode::Terminate(ServerTlsMode::Simple))),
    ("MUTUAL", 2, Some(TlsMode::Terminate(ServerTlsMode::Mutual))),
    ("AUTO_PASSTHROUGH", 3, Some(TlsMode::AutoPassthrough)),
    ("ISTIO_MUTUAL", 4, Some(TlsMode::Terminate(ServerTlsMode::IstioMutual))),
    ("OPTIONAL_MUTUAL", 5, Some(TlsMode::Terminate(ServerTlsMode::OptionalMutual))),
];

/// The mode of `tls`; absent means `PASSTHROUGH`, the enum's zero value. `None` after a mistake.
fn read_mode(tls: &Object<'_>) -> Option<TlsMode> {
    match tls.node("mode") {
        None => Some(TlsMode::Passthrough),
        Some(node) => tls.cx.field("mode").enumeration(node, &TLS_MODES),
    }
}

/// How a server serves connections.
struct Served {
    mode: ServerMode,
    tls: Option<ServerTls>,
}

impl From<ServerMode> for Served {
    fn from(mode: ServerMode) -> Self {
        Self { mode, tls: None }
    }
}

impl Served {
    fn read(server: &Object<'_>, protocol: Protocol) -> Option<Self> {
        let Some(node) = server.node("tls") else {
            return match protocol {
                Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => {
                    Some(ServerMode::Http { https_redirect: false }.into())
                }
                Protocol::Tcp | Protocol::Mongo => Some(ServerMode::Tcp.into()),
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
        let served = match protocol {
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => {
                read_plain(&tls).map(|()| ServerMode::Http { https_redirect }.into())
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
                read_tls(&tls, protocol)
            }
        };
        tls.finish();
        served
    }
}

/// `None` if the `tls` of a plain HTTP server has more than a redirect.
fn read_plain(tls: &Object<'_>) -> Option<()> {
    // Without TLS there is nothing to pass on.
    let is_plain = matches!(read_mode(tls), None | Some(TlsMode::Passthrough | TlsMode::AutoPassthrough));
    let certificate = TERMINATION.iter().copied().find(|name| tls.has(name));
    let offending = if is_plain { certificate } else { Some("mode") };
    tls.ignored(TERMINATION);
    let Some(offending) = offending else { return Some(()) };
    let message = "a server cannot have TLS settings for plain text HTTP ports";
    tls.cx.field(offending).invalid(tls.key_mark(offending), message, "expected httpsRedirect only");
    None
}

/// `None` after a mistake in the mode.
fn read_tls(tls: &Object<'_>, protocol: Protocol) -> Option<Served> {
    let passthrough = match read_mode(tls) {
        None => {
            tls.ignored(TERMINATION);
            return None;
        }
        Some(TlsMode::Terminate(mode)) => {
            let served = if protocol == Protocol::Https { ServerMode::Https } else { ServerMode::Tls };
            return Some(Served { mode: served, tls: Some(ServerTls::read(tls, mode)) });
        }
        Some(TlsMode::Passthrough) => ServerMode::TlsPassthrough,
        Some(TlsMode::AutoPassthrough) => ServerMode::AutoPassthrough,
    };
    for name in TERMINATION.iter().filter(|name| tls.has(name)) {
        warn_without_effect(tls, name, "TLS is passed on as it is");
    }
    tls.ignored(TERMINATION);
    Some(passthrough.into())
}

fn warn_without_effect(tls: &Object<'_>, field: &str, reason: &str) {
    super::client_tls::warn_of_any(tls, &[field], reason);
}
