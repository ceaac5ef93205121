//! `Gateway`: ports at the edge of the mesh.
//!
//! Source: `networking/v1alpha3/gateway.proto`. Only servers of plain HTTP are implemented; any `tls` other than
//! `httpsRedirect` is refused, because a port that was meant to be encrypted must not be served in clear text.

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

impl Resource for Gateway {
    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
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
