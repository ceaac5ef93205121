//! Evaluation of formats.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Version};

use crate::{
    grpc,
    model::{
        HeaderKey, MetadataValue, NetworkAddress,
        format::{
            Attribute, CertificateField, FieldSource, Format, GrpcStatusStyle, HeaderSource, MetadataSource, Operator,
            Part, PathSource, TimeFormat, TlsConnection, TlsField, TlsSource, X_ENVOY_ORIGINAL_PATH,
            number::{self, decimal},
        },
    },
    request::{query_parameter, split_query},
    telemetry::{Attributes, ResponseFlags},
    tls::{CertificateInfo, url_encoded_pem},
};

/// What is written for a missing value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `-`, as in log lines.
    Dash,
    /// Nothing, as in header values.
    Empty,
}

/// The value of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// There is none.
    Missing,
    /// A string.
    Text(&'a str),
    /// A header value, which may not be UTF-8.
    Bytes(&'a [u8]),
    /// A count, a status code or milliseconds.
    Number(u64),
    /// An address with a port.
    Address(SocketAddr),
    /// An address without a port.
    Ip(IpAddr),
    /// Response flags, written by their short names.
    Flags(ResponseFlags),
    /// Response flags, written by their long names.
    FlagsLong(ResponseFlags),
    /// Metadata.
    Metadata(&'a MetadataValue),
    /// Names, which are joined by commas.
    Names(&'a [Arc<str>]),
    /// A certificate in DER, which is written in URL-encoded PEM.
    Certificate(&'a [u8]),
    /// A time and its format.
    Time(SystemTime, &'a TimeFormat),
}

impl Format {
    /// Evaluates the format for `attributes` and appends the text to `out`.
    pub fn write(&self, attributes: &Attributes<'_>, missing: Missing, out: &mut Vec<u8>) {
        for part in self.parts() {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Command(command) => {
                    let start = out.len();
                    command.operator.value(attributes).write(missing, out);
                    if let Some(max_length) = command.max_length {
                        out.truncate(start.saturating_add(max_length));
                    }
                }
            }
        }
    }

    /// The typed value of a format that is a single command; `None` for any other format.
    #[must_use]
    pub fn typed_value<'a>(&'a self, attributes: &Attributes<'a>) -> Option<Value<'a>> {
        match self.parts() {
            [Part::Command(command)] if command.max_length.is_none() => Some(command.operator.value(attributes)),
            _ => None,
        }
    }
}

impl Value<'_> {
    /// Appends the value to `out` as text.
    pub fn write(self, missing: Missing, out: &mut Vec<u8>) {
        match self {
            Self::Missing if missing == Missing::Dash => out.push(b'-'),
            Self::Missing => {}
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Number(number) => decimal(number, 1, out),
            Self::Address(address) => number::socket(address, out),
            Self::Ip(ip) => number::ip(ip, out),
            Self::Flags(flags) => short_names(flags, out),
            Self::FlagsLong(flags) => long_names(flags, out),
            Self::Metadata(MetadataValue::String(text)) => out.extend_from_slice(text.as_bytes()),
            Self::Metadata(value) => value.write_json(out),
            Self::Names(names) => join(names.iter().map(|name| &**name), out),
            Self::Certificate(der) => out.extend_from_slice(url_encoded_pem(der).as_bytes()),
            Self::Time(time, format) => format.write(time, out),
        }
    }
}

fn short_names(flags: ResponseFlags, out: &mut Vec<u8>) {
    match flags.as_static_str() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => join(flags.iter().map(|(_, short, _)| short), out),
    }
}

fn long_names(flags: ResponseFlags, out: &mut Vec<u8>) {
    if flags.is_empty() {
        out.push(b'-');
    }
    join(flags.iter().map(|(_, _, long)| long), out);
}

fn join<'a>(names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    for (position, name) in names.enumerate() {
        out.extend_from_slice(if position == 0 { b"" } else { b"," });
        out.extend_from_slice(name.as_bytes());
    }
}

impl Operator {
    /// The value for `attributes`.
    #[must_use]
    pub fn value<'a>(&'a self, attributes: &Attributes<'a>) -> Value<'a> {
        match self {
            Self::Request(source) => source.value(attributes),
            Self::Response(source) => source.value(attributes.response_headers),
            Self::Trailer(source) => source.value(attributes.response_trailers),
            Self::StartTime(format) => attributes.start_time.map_or(Value::Missing, |time| Value::Time(time, format)),
            Self::EmitTime(format) => attributes.emit_time.map_or(Value::Missing, |time| Value::Time(time, format)),
            Self::Path { with_query, source } => path(*with_query, *source, attributes),
            Self::QueryParam(name) => {
                let query = attributes.path.and_then(|path| split_query(path).1);
                query.and_then(|query| query_parameter(query, name)).map_or(Value::Missing, Value::Text)
            }
            Self::Metadata { source, namespace, path } => {
                let metadata = match source {
                    MetadataSource::Route => attributes.route_metadata,
                    MetadataSource::Filters => attributes.dynamic_metadata,
                };
                let value = metadata.and_then(|metadata| metadata.get(namespace, path));
                value.map_or(Value::Missing, Value::Metadata)
            }
            Self::GrpcStatus(style) => grpc_status(*style, attributes),
            Self::Tls(source) => source.value(attributes),
            Self::Attribute(attribute) => attribute.value(attributes),
        }
    }
}

impl TlsSource {
    fn value<'a>(&'a self, attributes: &Attributes<'a>) -> Value<'a> {
        let tls = match self.connection {
            TlsConnection::Downstream => attributes.downstream_tls,
            TlsConnection::Upstream => attributes.upstream_tls,
        };
        let Some(tls) = tls else { return Value::Missing };
        let peer = tls.peer.as_ref();
        match &self.field {
            TlsField::Version => Value::Text(tls.version.as_str()),
            TlsField::Cipher => text(Some(&tls.cipher_suite)),
            TlsField::Peer(CertificateField::Certificate) => {
                peer.and_then(|peer| peer.chain.first()).map_or(Value::Missing, |der| Value::Certificate(der))
            }
            TlsField::Peer(field) => peer.map_or(Value::Missing, |peer| field.value(&peer.certificate)),
            TlsField::Local(field) => tls.local.as_ref().map_or(Value::Missing, |local| field.value(local)),
        }
    }
}

impl CertificateField {
    fn value<'a>(&'a self, of: &'a CertificateInfo) -> Value<'a> {
        let names = |names: &'a [Arc<str>]| if names.is_empty() { Value::Missing } else { Value::Names(names) };
        match self {
            Self::UriSan => names(&of.uri_sans),
            Self::DnsSan => names(&of.dns_sans),
            Self::IpSan => names(&of.ip_sans),
            Self::EmailSan => names(&of.email_sans),
            Self::Subject => text(Some(&of.subject)),
            Self::Issuer => text(Some(&of.issuer)),
            Self::Serial => text(Some(&of.serial)),
            Self::Fingerprint256 => text(Some(&of.sha256_fingerprint)),
            Self::Fingerprint1 => text(Some(&of.sha1_fingerprint)),
            // The certificate of this side is not kept.
            Self::Certificate => Value::Missing,
            Self::ValidFrom(format) => of.not_before.map_or(Value::Missing, |time| Value::Time(time, format)),
            Self::ValidUntil(format) => of.not_after.map_or(Value::Missing, |time| Value::Time(time, format)),
        }
    }
}

impl HeaderSource {
    fn value<'a>(&self, attributes: &Attributes<'a>) -> Value<'a> {
        match (request_header(&self.main, attributes), &self.alternative) {
            (Value::Missing, Some(alternative)) => request_header(alternative, attributes),
            (value, _) => value,
        }
    }
}

impl FieldSource {
    fn value<'a>(&self, headers: Option<&'a HeaderMap>) -> Value<'a> {
        let Some(headers) = headers else { return Value::Missing };
        let value = headers.get(&self.main);
        let value = value.or_else(|| self.alternative.as_ref().and_then(|name| headers.get(name)));
        value.map(HeaderValue::as_bytes).map_or(Value::Missing, Value::Bytes)
    }
}

/// The first line of a request header, as in Envoy.
fn request_header<'a>(key: &HeaderKey, attributes: &Attributes<'a>) -> Value<'a> {
    let text = match key {
        HeaderKey::Method => attributes.method.map(http::Method::as_str),
        HeaderKey::Authority => attributes.authority,
        HeaderKey::Path => attributes.path,
        HeaderKey::Scheme => attributes.scheme,
        HeaderKey::Field(name) => {
            return match attributes.request_headers.and_then(|headers| headers.get(name)) {
                Some(value) => Value::Bytes(value.as_bytes()),
                None if *name == X_ENVOY_ORIGINAL_PATH => text(attributes.original_path),
                None => Value::Missing,
            };
        }
    };
    self::text(text)
}

/// An empty pseudo-header or name is missing.
fn text(text: Option<&str>) -> Value<'_> {
    text.filter(|text| !text.is_empty()).map_or(Value::Missing, Value::Text)
}

fn path<'a>(with_query: bool, source: PathSource, attributes: &Attributes<'a>) -> Value<'a> {
    let header = attributes.request_headers.and_then(|headers| headers.get(X_ENVOY_ORIGINAL_PATH));
    let original = header.and_then(|value| value.to_str().ok()).or(attributes.original_path);
    let path = match source {
        PathSource::Original => original,
        PathSource::Path => attributes.path,
        PathSource::OriginalOrPath => original.or(attributes.path),
    };
    text(path.map(|path| if with_query { path } else { split_query(path).0 }))
}

fn grpc_status<'a>(style: GrpcStatusStyle, attributes: &Attributes<'a>) -> Value<'a> {
    if !attributes.request_headers.is_some_and(grpc::is_grpc_request) {
        return Value::Missing;
    }
    let sources = [attributes.response_trailers, attributes.response_headers].into_iter().flatten();
    let status = sources
        .filter_map(|headers| headers.get(grpc::GRPC_STATUS))
        .find_map(|value| value.to_str().ok()?.parse().ok())
        .or_else(|| attributes.response_code.map(grpc::status_of_http));
    match (status, style) {
        (None, _) => Value::Missing,
        (Some(status), GrpcStatusStyle::Number) => Value::Number(u64::from(status)),
        (Some(status), style) => match grpc::status_names(status) {
            Some((camel, _)) if style == GrpcStatusStyle::CamelString => Value::Text(camel),
            Some((_, snake)) => Value::Text(snake),
            None => Value::Number(u64::from(status)),
        },
    }
}

impl Attribute {
    fn value<'a>(self, of: &Attributes<'a>) -> Value<'a> {
        match self {
            Self::Protocol => text(of.protocol.and_then(protocol)),
            Self::UpstreamProtocol => text(of.upstream_protocol.and_then(protocol)),
            Self::ResponseCode => Value::Number(of.response_code.map_or(0, |code| u64::from(code.as_u16()))),
            Self::ResponseCodeDetails => text(of.response_code_details),
            Self::ConnectionTerminationDetails => text(of.connection_termination_details),
            Self::ResponseFlags => Value::Flags(of.response_flags),
            Self::ResponseFlagsLong => Value::FlagsLong(of.response_flags),
            Self::LocalReplyBody => text(of.local_reply_body),
            Self::BytesReceived => Value::Number(of.bytes_received),
            Self::BytesSent => Value::Number(of.bytes_sent),
            Self::RequestHeadersBytes => Value::Number(of.request_headers_bytes),
            Self::ResponseHeadersBytes => Value::Number(of.response_headers_bytes),
            Self::ResponseTrailersBytes => Value::Number(of.response_trailers_bytes),
            Self::Duration => milliseconds(of.duration),
            Self::RequestDuration => milliseconds(of.request_duration),
            Self::RequestTxDuration => milliseconds(of.request_tx_duration),
            Self::ResponseDuration => milliseconds(of.response_duration),
            Self::ResponseTxDuration => milliseconds(of.response_tx_duration),
            Self::DownstreamRemoteAddress => address(of.downstream_remote_address),
            Self::DownstreamRemoteAddressWithoutPort => ip(of.downstream_remote_address),
            Self::DownstreamRemotePort => port(of.downstream_remote_address),
            Self::DownstreamDirectRemoteAddress => address(of.downstream_direct_remote_address),
            Self::DownstreamDirectRemoteAddressWithoutPort => ip(of.downstream_direct_remote_address),
            Self::DownstreamDirectRemotePort => port(of.downstream_direct_remote_address),
            Self::DownstreamLocalAddress => address(of.downstream_local_address),
            Self::DownstreamLocalAddressWithoutPort => ip(of.downstream_local_address),
            Self::DownstreamLocalPort => port(of.downstream_local_address),
            Self::ConnectionId => of.connection_id.map_or(Value::Missing, Value::Number),
            Self::RequestedServerName => text(of.requested_server_name),
            Self::UpstreamHost => endpoint(of.upstream_host),
            Self::UpstreamHostName => match text(of.upstream_host_name) {
                Value::Missing => endpoint(of.upstream_host),
                name => name,
            },
            Self::UpstreamRemoteAddress => endpoint(of.upstream_remote_address),
            Self::UpstreamRemoteAddressWithoutPort => match of.upstream_remote_address.map(NetworkAddress::ip) {
                Some(Some(ip)) => Value::Ip(ip),
                _ => endpoint(of.upstream_remote_address),
            },
            Self::UpstreamRemotePort => port(of.upstream_remote_address.and_then(NetworkAddress::socket)),
            Self::UpstreamLocalAddress => address(of.upstream_local_address),
            Self::UpstreamLocalAddressWithoutPort => ip(of.upstream_local_address),
            Self::UpstreamLocalPort => port(of.upstream_local_address),
            Self::UpstreamCluster => text(of.upstream_cluster),
            Self::UpstreamClusterRaw => text(of.upstream_cluster_raw),
            Self::UpstreamRequestAttemptCount => Value::Number(of.upstream_request_attempt_count.into()),
            Self::UpstreamTransportFailureReason => text(of.upstream_transport_failure_reason),
            Self::RouteName => text(of.route_name),
            Self::VirtualHostName => text(of.virtual_host_name),
            Self::VirtualClusterName => Value::Missing,
            Self::Hostname => text(of.hostname),
            Self::TraceId => text(of.trace_id),
            Self::AccessLogType => text(of.access_log_type),
        }
    }
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2"),
        Version::HTTP_3 => Some("HTTP/3"),
        _ => None,
    }
}

fn milliseconds(duration: Option<Duration>) -> Value<'static> {
    let milliseconds = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    milliseconds.map_or(Value::Missing, Value::Number)
}

fn address(address: Option<SocketAddr>) -> Value<'static> {
    address.map_or(Value::Missing, Value::Address)
}

/// A unix socket is written as its path.
fn endpoint(address: Option<&NetworkAddress>) -> Value<'_> {
    match address {
        Some(NetworkAddress::Socket(address)) => Value::Address(*address),
        Some(NetworkAddress::Pipe(path)) => Value::Text(path),
        None => Value::Missing,
    }
}

fn ip(address: Option<SocketAddr>) -> Value<'static> {
    address.map_or(Value::Missing, |address| Value::Ip(address.ip()))
}

fn port(address: Option<SocketAddr>) -> Value<'static> {
    address.map_or(Value::Missing, |address| Value::Number(address.port().into()))
}
