//! How a listener treats HTTP. Envoy `http_connection_manager.v3.HttpConnectionManager`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::HeaderValue;
use ipnet::IpNet;

use super::{AccessLog, PeerMetadata, RouteConfigName, RouteConfiguration, UpgradeConfig};
use crate::filter::HttpFilter;

/// How connections of a listener are served.
#[expect(clippy::struct_excessive_bools, reason = "one per boolean field of Envoy's message, under its name")]
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConnectionManager {
    /// Prefix of statistics: `http.<stat_prefix>.downstream_rq_total`.
    pub stat_prefix: Arc<str>,
    /// Protocol of the connections. Default [`Codec::Auto`].
    pub codec_type: Codec,
    /// The routes.
    pub routes: RouteSource,
    /// Filters in order, without the router that ends the chain.
    pub http_filters: Vec<HttpFilter>,
    /// What is told about workloads to clients and servers, and believed of them. Default nothing.
    pub peer_metadata: PeerMetadata,
    /// Access logs written at the end of each request.
    pub access_log: Vec<AccessLog>,
    /// Client address and trust.
    pub forwarded_for: ForwardedFor,
    /// Give requests without `x-request-id` one. Default true.
    pub generate_request_id: bool,
    /// Keep `x-request-id` of untrusted requests. Default false.
    pub preserve_external_request_id: bool,
    /// Send `x-request-id` in every response. Default false.
    pub always_set_request_id_in_response: bool,
    /// Value of `server`. Default `envoy`.
    pub server_name: HeaderValue,
    /// When to write `server`. Default [`ServerHeader::Overwrite`].
    pub server_header_transformation: ServerHeader,
    /// Value appended to `via`; `None` = none.
    pub via: Option<HeaderValue>,
    /// Send `x-envoy-*` response headers such as `x-envoy-upstream-service-time`. Router `suppress_envoy_headers`
    /// inverted. Default true.
    pub envoy_headers: bool,
    /// Normalization of the path at the edge.
    pub path_normalization: PathNormalization,
    /// Drop the port of the authority if it is the listener's. Default false.
    pub strip_matching_host_port: bool,
    /// Drop any port of the authority. Default false.
    pub strip_any_host_port: bool,
    /// Upgrades that pass, such as `websocket`; others are answered 403.
    pub upgrade_configs: Vec<UpgradeConfig>,
    /// Longest silence on a stream; `None` = unlimited. Default 5 min (Istio unlimited).
    pub stream_idle_timeout: Option<Duration>,
    /// Limit for receiving a whole request; `None` = unlimited, the default.
    pub request_timeout: Option<Duration>,
    /// Limit for receiving the request headers; `None` = unlimited, the default.
    pub request_headers_timeout: Option<Duration>,
    /// A connection without requests is closed after this; `None` = never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Limit for a stream's whole life; `None` = unlimited, the default.
    pub max_stream_duration: Option<Duration>,
    /// A connection is closed after this many requests; `None` = unlimited, the default.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// A connection is drained after this; `None` = never, the default.
    pub max_connection_duration: Option<Duration>,
    /// Bytes of request headers. Default 60 KiB; more is answered 431.
    pub max_request_headers_kb: u32,
    /// Count of request headers. Default 100; more is answered 431.
    pub max_headers_count: u32,
    /// Accept HTTP/1.0, with this host if it brings none (empty = refuse those). `None` = answer 426, the default.
    pub accept_http_10: Option<Box<str>>,
    /// HTTP/2 streams per connection. Default 1024.
    pub max_concurrent_streams: u32,
    /// HTTP/2 flow-control window per stream in bytes. Default 16 MiB.
    pub initial_stream_window_size: u32,
    /// HTTP/2 flow-control window per connection in bytes. Default 24 MiB.
    pub initial_connection_window_size: u32,
    /// Between "closing" and "closed" while draining. Default 5 s.
    pub drain_timeout: Duration,
}

impl HttpConnectionManager {
    /// A connection manager with Envoy's defaults.
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
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            server_name: HeaderValue::from_static("envoy"),
            server_header_transformation: ServerHeader::Overwrite,
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
            accept_http_10: None,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 * 1024 * 1024,
            initial_connection_window_size: 24 * 1024 * 1024,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Where a connection manager's routes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteSource {
    /// Part of the listener.
    Inline(Arc<RouteConfiguration>),
    /// From the control plane's route discovery.
    Rds(RouteConfigName),
}

/// Protocol of downstream connections. Envoy `CodecType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// HTTP/2 if the connection begins with its preface, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 (and 1.0, if accepted).
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Which address counts as the client's, and what is believed of forwarded headers (E100).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedFor {
    /// The peer is the client (edge) instead of what `x-forwarded-for` says. Default false.
    pub use_remote_address: bool,
    /// Addresses at the right of `x-forwarded-for` that belong to trusted proxies. Default 0.
    pub xff_num_trusted_hops: u32,
    /// Do not append the peer to `x-forwarded-for`. Default false.
    pub skip_xff_append: bool,
    /// Addresses whose requests are trusted as coming from within; default none. Envoy `internal_address_config`.
    pub internal_addresses: Vec<IpNet>,
}

/// When `server` is written to a response. Envoy `ServerHeaderTransformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// Always.
    #[default]
    Overwrite,
    /// If absent.
    AppendIfAbsent,
    /// Never.
    PassThrough,
}

/// Normalization of the path at the edge (E103).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathNormalization {
    /// Resolve dot segments, `\` to `/` (RFC 3986 section 6). Default false (Istio true).
    pub normalize_path: bool,
    /// `//` to `/`. Default false.
    pub merge_slashes: bool,
}
