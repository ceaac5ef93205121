//! HTTP connection manager. Envoy `http_connection_manager.v3.HttpConnectionManager`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::HeaderValue;
use ipnet::IpNet;

use super::{
    AccessLog, Http1Options, Http2Keepalive, PeerMetadata, RouteConfigName, RouteConfiguration, UpgradeConfig,
};
use crate::filter::HttpFilter;

/// How HTTP connections of a listener are served.
#[expect(clippy::struct_excessive_bools, reason = "one per boolean field of Envoy's message, under its name")]
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HttpConnectionManager {
    /// Prefix of statistics: `http.<stat_prefix>.downstream_rq_total`.
    pub stat_prefix: Arc<str>,
    /// Protocol of the connections. Default [`Codec::Auto`].
    pub codec_type: Codec,
    /// The routes.
    pub routes: RouteSource,
    /// Filters in order, without the router that ends the chain.
    pub http_filters: Vec<HttpFilter>,
    /// Exchange of workload metadata with clients and servers. Default none.
    pub peer_metadata: PeerMetadata,
    /// Access logs, written when a request has ended.
    pub access_log: Vec<AccessLog>,
    /// How the client address is determined, and which requests are internal.
    pub forwarded_for: ForwardedFor,
    /// What endpoints are told about the client's certificate.
    pub forward_client_cert: ForwardClientCert,
    /// Generate `x-request-id` for requests that have none. Default true.
    pub generate_request_id: bool,
    /// Keep `x-request-id` of external requests. Default false.
    pub preserve_external_request_id: bool,
    /// Send `x-request-id` in every response. Default false.
    pub always_set_request_id_in_response: bool,
    /// Value of the `server` response header. Default `envoy`.
    pub server_name: HeaderValue,
    /// When `server` is written. Default [`ServerHeader::Overwrite`].
    pub server_header_transformation: ServerHeader,
    /// Name this proxy in requests: `x-envoy-downstream-service-cluster`, `x-envoy-downstream-service-node`, and `user-agent` if
    /// the client sends none. Default false.
    pub add_user_agent: bool,
    /// Value appended to `via` in requests and responses; `None` = `via` is left alone.
    pub via: Option<HeaderValue>,
    /// Send `x-envoy-*` response headers such as `x-envoy-upstream-service-time`. Router `suppress_envoy_headers`
    /// inverted. Default true.
    pub envoy_headers: bool,
    /// Normalization of request paths.
    pub path_normalization: PathNormalization,
    /// Remove the port of the authority if it is the listener's. Default false.
    pub strip_matching_host_port: bool,
    /// Remove any port of the authority. Default false.
    pub strip_any_host_port: bool,
    /// Upgrades that are allowed, such as `websocket`; others are answered with 403.
    pub upgrade_configs: Vec<UpgradeConfig>,
    /// Idle timeout of a stream; `None` = unlimited. Default 5 min (Istio unlimited).
    pub stream_idle_timeout: Option<Duration>,
    /// Timeout for receiving a whole request; `None` = unlimited, the default.
    pub request_timeout: Option<Duration>,
    /// Timeout for receiving the request headers; `None` = unlimited, the default.
    pub request_headers_timeout: Option<Duration>,
    /// A connection without active requests is closed after this time; `None` = never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Maximum duration of a stream; `None` = unlimited, the default.
    pub max_stream_duration: Option<Duration>,
    /// A connection is closed after this many requests; `None` = unlimited, the default.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// A connection is drained after this time; `None` = never, the default.
    pub max_connection_duration: Option<Duration>,
    /// Maximum size of the request headers in KiB; larger ones are answered with 431. Default 60.
    pub max_request_headers_kb: u32,
    /// Maximum number of request headers; more are answered with 431. Default 100.
    pub max_headers_count: u32,
    /// What happens to request headers whose names have an underscore. Default [`HeadersWithUnderscoresAction::Allow`].
    pub headers_with_underscores_action: HeadersWithUnderscoresAction,
    /// Accept HTTP/1.0, and use this host for requests without one (empty: refuse them). `None` = answer HTTP/1.0 with
    /// 426, the default.
    pub accept_http_10: Option<Box<str>>,
    /// Options of HTTP/1 connections.
    pub http1: Http1Options,
    /// Pass `expect: 100-continue` on, and the endpoint's `100 Continue` back. Otherwise the connection manager answers the
    /// expectation itself. Default false.
    pub proxy_100_continue: bool,
    /// Accept extended CONNECT over HTTP/2 (RFC 8441), by which clients ask for an upgrade. Default false.
    pub allow_connect: bool,
    /// Concurrent streams per HTTP/2 connection. Default 1024.
    pub max_concurrent_streams: u32,
    /// HTTP/2 flow-control window of a stream in bytes. Default 16 MiB.
    pub initial_stream_window_size: u32,
    /// HTTP/2 flow-control window of a connection in bytes. Default 24 MiB.
    pub initial_connection_window_size: u32,
    /// PINGs on HTTP/2 connections; `None` = none, the default.
    pub connection_keepalive: Option<Http2Keepalive>,
}

impl HttpConnectionManager {
    /// Creates a connection manager with Envoy's defaults.
    #[must_use]
    pub fn new(stat_prefix: &str, routes: RouteSource) -> Self {
        Self {
            stat_prefix: stat_prefix.into(),
            codec_type: Codec::Auto,
            routes,
            http_filters: Vec::new(),
            peer_metadata: PeerMetadata::default(),
            access_log: Vec::new(),
            forwarded_for: ForwardedFor::default(),
            forward_client_cert: ForwardClientCert::default(),
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            server_name: HeaderValue::from_static("envoy"),
            server_header_transformation: ServerHeader::Overwrite,
            add_user_agent: false,
            via: None,
            envoy_headers: true,
            path_normalization: PathNormalization::default(),
            strip_matching_host_port: false,
            strip_any_host_port: false,
            upgrade_configs: Vec::new(),
            stream_idle_timeout: Some(Duration::from_secs(300)),
            request_timeout: None,
            request_headers_timeout: None,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_stream_duration: None,
            max_requests_per_connection: None,
            max_connection_duration: None,
            max_request_headers_kb: 60,
            max_headers_count: 100,
            headers_with_underscores_action: HeadersWithUnderscoresAction::Allow,
            accept_http_10: None,
            http1: Http1Options::default(),
            proxy_100_continue: false,
            allow_connect: false,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 * 1024 * 1024,
            initial_connection_window_size: 24 * 1024 * 1024,
            connection_keepalive: None,
        }
    }
}

/// What happens to request headers whose names have an underscore. Some programs treat `_` and `-` alike, so a client could send
/// them a header that a proxy has checked under its other name. Envoy `HttpProtocolOptions.HeadersWithUnderscoresAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadersWithUnderscoresAction {
    /// They are passed on.
    #[default]
    Allow,
    /// The request is refused: with 400 over HTTP/1, by a reset of its stream over HTTP/2.
    RejectRequest,
    /// They are removed before anything reads them, and do not count for `max_headers_count`.
    DropHeader,
}

/// What is done with `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardClientCert {
    /// Whether it is removed, passed on or set.
    pub forward_client_cert_details: ForwardClientCertDetails,
    /// What it says about the client's certificate, in addition to the URI of this side and the hash of the certificate.
    pub set_current_client_cert_details: ClientCertDetails,
}

/// Whether `x-forwarded-client-cert` is removed, passed on or set. Envoy `ForwardClientCertDetails`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCertDetails {
    /// It is removed.
    #[default]
    Sanitize,
    /// It is passed on if the client has a certificate, and removed otherwise.
    ForwardOnly,
    /// The client's certificate is appended to it; it is removed if the client has none.
    AppendForward,
    /// It is replaced by the client's certificate; it is removed if the client has none.
    SanitizeSet,
    /// It is passed on unchanged. Every client can then claim any identity.
    AlwaysForwardOnly,
}

/// What `x-forwarded-client-cert` says about the client's certificate. Envoy `SetCurrentClientCertDetails`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per field of Envoy's message")]
pub struct ClientCertDetails {
    /// The certificate, in URL-encoded PEM.
    pub cert: bool,
    /// All certificates that the client has presented, in URL-encoded PEM.
    pub chain: bool,
    /// The subject.
    pub subject: bool,
    /// The subject alternative names of type URI.
    pub uri: bool,
    /// The subject alternative names of type DNS.
    pub dns: bool,
}

/// Where a connection manager's routes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteSource {
    /// From the listener's configuration.
    Inline(Arc<RouteConfiguration>),
    /// From the route discovery service.
    Rds(RouteConfigName),
}

/// Protocol of downstream connections. Envoy `CodecType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// HTTP/2 if the connection begins with its preface, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1, and HTTP/1.0 if accepted.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// How the client's address is determined, and which requests are internal. Envoy "HTTP header manipulation",
/// `x-forwarded-for`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardedFor {
    /// Use the address of the connection's peer as the client's, not `x-forwarded-for`. For edge proxies. Default false.
    pub use_remote_address: bool,
    /// Number of trusted proxies at the right of `x-forwarded-for`. Default 0.
    pub xff_num_trusted_hops: u32,
    /// Do not append the peer's address to `x-forwarded-for`. Default false.
    pub skip_xff_append: bool,
    /// Networks whose requests are internal. Default none. Envoy `internal_address_config`.
    pub internal_addresses: Vec<IpNet>,
}

/// When the response header `server` is written. Envoy `ServerHeaderTransformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// Always.
    #[default]
    Overwrite,
    /// If it is absent.
    AppendIfAbsent,
    /// Never.
    PassThrough,
}

/// Normalization of request paths before routes are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathNormalization {
    /// Normalize by RFC 3986 section 6, and replace `\` by `/`. Default false (Istio true).
    pub normalize_path: bool,
    /// Replace `//` by `/`. Default false.
    pub merge_slashes: bool,
    /// What happens to paths with escaped slashes. Default [`PathWithEscapedSlashesAction::KeepUnchanged`].
    pub path_with_escaped_slashes_action: PathWithEscapedSlashesAction,
}

/// What happens to requests whose path has `%2F` or `%5C`, in upper or lower case, before the path is normalized. Some servers take
/// them for slashes, so a client could reach a path that a proxy has not checked. Envoy `PathWithEscapedSlashesAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathWithEscapedSlashesAction {
    /// They are passed on.
    #[default]
    KeepUnchanged,
    /// They are answered with 400.
    RejectRequest,
    /// They are answered with a redirect (307) to the path with slashes in their place, normalized as configured; gRPC requests
    /// are answered with 400.
    UnescapeAndRedirect,
    /// The path gets slashes in their place.
    UnescapeAndForward,
}
