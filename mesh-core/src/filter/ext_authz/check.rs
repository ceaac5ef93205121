//! What the service is asked about: a request and its connection. Envoy `CheckRequestUtils`.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderName, Version};

use super::{CheckSettings, ExtAuthz};
use crate::{
    request::RequestHead,
    tls::{CertificateInfo, TlsInfo},
    value::Metadata,
};

/// Whether the check has the beginning of the body only. It is removed from requests of clients.
pub(super) const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// What the service is asked about. Envoy `service.auth.v3.CheckRequest`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CheckRequest {
    /// The client.
    pub source: Peer,
    /// This side of the connection.
    pub destination: Peer,
    /// When the request began.
    pub time: SystemTime,
    /// Identifies the request.
    pub id: Box<str>,
    /// The method.
    pub method: Box<str>,
    /// The path with its query.
    pub path: Box<str>,
    /// The authority.
    pub host: Box<str>,
    /// `http` or `https`.
    pub scheme: Box<str>,
    /// Such as `HTTP/1.1`; empty = the request began in this process.
    pub protocol: &'static str,
    /// Body bytes that have been received.
    pub size: u64,
    /// The headers that the service gets, in lower case, and pseudo-headers such as `:path`.
    pub headers: Vec<(Box<str>, Bytes)>,
    /// The body, or its beginning; `None` = the service does not get it.
    pub body: Option<Bytes>,
    /// Values from the configuration of the route.
    pub context_extensions: BTreeMap<Box<str>, Box<str>>,
    /// Dynamic metadata.
    pub metadata_context: Metadata,
    /// Metadata of the route.
    pub route_metadata_context: Metadata,
    /// The server name that the client requested, empty without TLS; `None` = the service does not get it.
    pub sni: Option<Arc<str>>,
}

/// One side of a connection. Envoy `AttributeContext.Peer`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its address; `None` = the request began in this process.
    pub address: Option<SocketAddr>,
    /// The URI or DNS name of its certificate, or else the subject; empty = none.
    pub principal: Arc<str>,
    /// Its certificate in PEM, percent-encoded; empty = none, or not sent.
    pub certificate: Box<str>,
    /// Its service: `x-envoy-downstream-service-cluster`.
    pub service: Box<str>,
}

/// The body of a request, as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckBody {
    /// What was read.
    pub data: Bytes,
    /// Whether it is all of it.
    pub is_whole: bool,
}

impl CheckBody {
    /// A body of which `data` was read.
    #[must_use]
    pub fn new(data: Bytes, is_whole: bool) -> Self {
        Self { data, is_whole }
    }
}

/// The facts about a request that its head does not have.
#[derive(Clone, Debug)]
pub struct RequestFacts<'a> {
    /// Remote address of the connection.
    pub remote_address: Option<SocketAddr>,
    /// Local address of the connection.
    pub local_address: Option<SocketAddr>,
    /// TLS of the connection.
    pub tls: Option<&'a TlsInfo>,
    /// The server name that the client requested.
    pub requested_server_name: Option<&'a Arc<str>>,
    /// Protocol of the connection.
    pub protocol: Option<Version>,
    /// When the request began.
    pub start_time: SystemTime,
    /// Identifies the request.
    pub stream_id: u64,
    /// Body bytes that have been received.
    pub bytes_received: u64,
    /// Dynamic metadata.
    pub dynamic_metadata: Option<&'a Metadata>,
    /// Metadata of the route.
    pub route_metadata: Option<&'a Metadata>,
}

const DOWNSTREAM_SERVICE_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-downstream-service-cluster");

impl ExtAuthz {
    /// What the service is asked about a request.
    #[must_use]
    pub fn check_request(
        &self,
        head: &RequestHead<'_>,
        facts: &RequestFacts<'_>,
        body: Option<CheckBody>,
        settings: CheckSettings,
    ) -> CheckRequest {
        let limit = settings.with_request_body.map_or(0, |body| body.max_request_bytes);
        let mut headers = self.headers(head);
        let body = body.map(|body| {
            let data = body.data.slice(..body.data.len().min(limit));
            let is_partial = !body.is_whole || data.len() < body.data.len();
            let value = if is_partial { &b"true"[..] } else { b"false" };
            headers.push((PARTIAL_BODY.into(), Bytes::from_static(value)));
            data
        });
        let service = head.headers.get(DOWNSTREAM_SERVICE_CLUSTER).and_then(|value| value.to_str().ok());
        let sni = facts.requested_server_name.filter(|_| facts.tls.is_some()).cloned();
        CheckRequest {
            source: source(facts, service.unwrap_or_default(), self.include_peer_certificate),
            destination: destination(facts),
            time: facts.start_time,
            id: facts.stream_id.to_string().into(),
            method: head.method.as_str().into(),
            path: head.path_and_query.into(),
            host: head.authority.into(),
            scheme: head.scheme().into(),
            protocol: facts.protocol.map_or("", protocol_name),
            size: facts.bytes_received,
            headers,
            body,
            context_extensions: settings.context_extensions,
            metadata_context: namespaces(facts.dynamic_metadata, &self.metadata_context_namespaces),
            route_metadata_context: namespaces(facts.route_metadata, &self.route_metadata_context_namespaces),
            sni: self.include_tls_session.then(|| sni.unwrap_or_default()),
        }
    }

    /// The headers that the service gets. `host` is the pseudo-header `:authority`.
    fn headers(&self, head: &RequestHead<'_>) -> Vec<(Box<str>, Bytes)> {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let pseudo = [
            (":authority", head.authority),
            (":path", head.path_and_query),
            (":method", head.method.as_str()),
            (":scheme", head.scheme()),
        ];
        let pseudo = pseudo.into_iter().filter(|(name, value)| !value.is_empty() && self.sends_header(name));
        let mut headers: Vec<(Box<str>, Bytes)> = pseudo.map(|(name, value)| (name.into(), text(value))).collect();
        let fields = head.headers.iter().filter(|(name, _)| {
            **name != http::header::HOST && *name != PARTIAL_BODY && self.sends_header(name.as_str())
        });
        headers.extend(fields.map(|(name, value)| (name.as_str().into(), Bytes::copy_from_slice(value.as_bytes()))));
        headers
    }
}

/// The client.
pub(super) fn source(facts: &RequestFacts<'_>, service: &str, include_certificate: bool) -> Peer {
    let peer = facts.tls.and_then(|tls| tls.peer.as_ref()).filter(|peer| peer.is_verified);
    let certificate = peer.filter(|_| include_certificate).and_then(|peer| peer.chain.first());
    Peer {
        address: facts.remote_address,
        principal: principal(peer.map(|peer| &*peer.certificate)),
        certificate: certificate.map(|der| encoded_pem(der).into()).unwrap_or_default(),
        service: service.into(),
    }
}

/// This side of the connection.
pub(super) fn destination(facts: &RequestFacts<'_>) -> Peer {
    let principal = principal(facts.tls.and_then(|tls| tls.local.as_deref()));
    Peer { address: facts.local_address, principal, ..Peer::default() }
}

/// The URI, else the DNS name, else the subject of a certificate.
fn principal(certificate: Option<&CertificateInfo>) -> Arc<str> {
    let Some(certificate) = certificate else { return "".into() };
    let name = certificate.uri_sans.first().or_else(|| certificate.dns_sans.first());
    Arc::clone(name.unwrap_or(&certificate.subject))
}

pub(super) fn namespaces(metadata: Option<&Metadata>, names: &[Box<str>]) -> Metadata {
    let mut selected = Metadata::default();
    for name in names {
        if let Some(value) = metadata.and_then(|metadata| metadata.filter_metadata.get(name)) {
            selected.filter_metadata.insert(name.clone(), value.clone());
        }
    }
    selected
}

fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// A certificate in PEM (RFC 7468), percent-encoded as Envoy does it.
fn encoded_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const LINE: usize = 64;
    let mut encoded = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    let mut column = 0;
    let mut push = |c: char| {
        match c {
            '+' => encoded.push_str("%2B"),
            '/' => encoded.push_str("%2F"),
            '=' => encoded.push_str("%3D"),
            c => encoded.push(c),
        }
        column += 1;
        if column == LINE {
            encoded.push_str("%0A");
            column = 0;
        }
    };
    for chunk in der.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) & 63;
            push(if place <= chunk.len() { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    if column > 0 {
        encoded.push_str("%0A");
    }
    encoded + "-----END%20CERTIFICATE-----%0A"
}
