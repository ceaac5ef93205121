//! Ports: numbers, protocols and addresses to listen on.

use std::net::IpAddr;

use crate::document::{Context, FromNode, Located, Node, Object};

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 in cleartext, with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web over HTTP/1.1.
    GrpcWeb,
    /// HTTP in TLS between the client and the endpoint; the mesh does not end it.
    Https,
    /// TLS between the client and the endpoint; the mesh does not end it.
    Tls,
    /// Bytes.
    Tcp,
    /// MongoDB, which is passed on as bytes.
    Mongo,
}

impl Protocol {
    /// The name in resources.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-WEB",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Mongo => "MONGO",
        }
    }

    /// Whether requests can be routed: HTTP without TLS.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether connections begin with TLS, which the mesh passes on as it is.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether endpoints are called with HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
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

/// Istio `PortSelector`.
pub(super) fn read_port(node: &Node, cx: Context<'_>) -> Option<Located<u16>> {
    let object = Object::new(node, cx)?;
    let number = object.port("number");
    let mark = object.value_mark("number");
    if !object.has("number") {
        object.missing("number");
    }
    object.finish();
    Some(Located { value: number?, position: cx.position(mark) })
}

/// The protocol, in upper or lower case as in Istio; outer `None` if absent or empty, inner `None` if it was refused.
pub(super) fn read_protocol(object: &Object<'_>) -> Option<Option<Protocol>> {
    let cx = object.cx.field("protocol");
    let node = object.node("protocol")?;
    let Some(text) = String::from_node(node, cx) else { return Some(None) };
    if text.is_empty() {
        return None;
    }
    const ALL: [Protocol; 8] = [
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::GrpcWeb,
        Protocol::Https,
        Protocol::Tls,
        Protocol::Tcp,
        Protocol::Mongo,
    ];
    let found = ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(&text));
    if found.is_none() {
        let names: Vec<_> = ALL.iter().map(|protocol| protocol.as_str()).collect();
        cx.invalid(node.mark, format!("{text:?} is not a protocol"), format!("expected one of {}", names.join(", ")));
    }
    Some(found)
}
