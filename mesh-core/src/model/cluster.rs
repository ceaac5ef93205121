//! Cluster configuration. Envoy `cluster.v3.Cluster`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use super::{
    ClusterName, Http1Options, Http2Keepalive, LbPolicy, LoadAssignment, MetadataExchange, OriginalDstOptions,
    OutlierDetection, Percent, RetryBudget, UpstreamTlsContext,
};

/// A group of equivalent endpoints and how to use them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "one per boolean field of Envoy's message")]
pub struct Cluster {
    /// The name that routes refer to.
    pub name: ClusterName,
    /// The name in statistics; defaults to `name`. Envoy `alt_stat_name`.
    pub stat_name: Arc<str>,
    /// Where the endpoints come from.
    pub discovery: Discovery,
    /// Timeout for establishing a connection. Default 5 s (Istio 10 s).
    pub connect_timeout: Duration,
    /// How an endpoint is selected. Default round robin (Istio: least request).
    pub lb_policy: LbPolicy,
    /// Percentage of healthy endpoints below which health is disregarded; 0 = never. Default 50. Envoy
    /// `common_lb_config.healthy_panic_threshold`.
    pub healthy_panic_threshold: Percent,
    /// Below the panic threshold, fail requests instead of using all endpoints. Default false. Envoy
    /// `common_lb_config.zone_aware_lb_config.fail_traffic_on_panic`.
    pub fail_traffic_on_panic: bool,
    /// Select a locality by weight, then an endpoint in it; localities without a weight get no traffic. Default false.
    /// Envoy `common_lb_config.locality_weighted_lb_config`.
    pub locality_weighted_lb: bool,
    /// Report the load of this cluster to the control plane, if it asks. Only gRPC's clients have a choice; proxies report all
    /// clusters. Default false. Envoy `lrs_server`.
    pub load_reporting: bool,
    /// Use the cluster as gRPC's clients do, where they differ from Envoy. Default false.
    ///
    /// - An endpoint to which a connection has failed gets no requests for the pause of gRPC's connection back-off. A request
    ///   that could not be sent because of that goes to another endpoint, without a retry policy.
    /// - A priority takes all load while one of its endpoints is healthy (gRFC A56), and there is no panic: without a healthy endpoint,
    ///   requests fail.
    /// - Localities with weights are selected by weight, as with `locality_weighted_lb`, whatever the cluster says (gRFC A27).
    pub proxyless: bool,
    /// Limits on concurrent connections and requests.
    pub circuit_breakers: CircuitBreakers,
    /// Passive health checking; `None` = disabled.
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections to its endpoints are secured, unless a `transport_socket_matches` is for the endpoint. Default: not at all.
    pub transport_socket: UpstreamTransportSocket,
    /// How connections to some of its endpoints are secured; the first that matches is used.
    pub transport_socket_matches: Vec<TransportSocketMatch>,
    /// HTTP options of upstream connections.
    pub http_protocol_options: HttpProtocolOptions,
    /// TCP keep-alive of upstream connections; `None` = not enabled.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The local address of upstream connections; port 0 = one chosen by the system. `None` = chosen by the system. Envoy
    /// `upstream_bind_config.source_address`.
    pub source_address: Option<SocketAddr>,
    /// Bytes of a request body that are buffered for a retry. Default 64 KiB. Envoy `per_connection_buffer_limit_bytes`.
    pub retry_buffer_bytes: usize,
    /// The service that the cluster belongs to, for telemetry.
    pub service: Option<Arc<DestinationService>>,
    /// Whether peer metadata is sent to its endpoints, if the listener sends any. Default enabled.
    pub metadata_exchange: MetadataExchange,
}

impl Cluster {
    /// Default of [`Cluster::retry_buffer_bytes`].
    pub const DEFAULT_RETRY_BUFFER_BYTES: usize = 64 * 1024;

    /// Creates a cluster with Envoy's defaults.
    #[must_use]
    pub fn new(name: impl Into<ClusterName>, discovery: Discovery) -> Self {
        let name = name.into();
        Self {
            stat_name: name.as_str().into(),
            name,
            discovery,
            connect_timeout: Duration::from_secs(5),
            lb_policy: LbPolicy::default(),
            healthy_panic_threshold: Percent::new(50).unwrap_or(Percent::HUNDRED),
            fail_traffic_on_panic: false,
            locality_weighted_lb: false,
            load_reporting: false,
            proxyless: false,
            circuit_breakers: CircuitBreakers::default(),
            outlier_detection: None,
            transport_socket: UpstreamTransportSocket::default(),
            transport_socket_matches: Vec::new(),
            http_protocol_options: HttpProtocolOptions::default(),
            tcp_keepalive: None,
            source_address: None,
            retry_buffer_bytes: Self::DEFAULT_RETRY_BUFFER_BYTES,
            service: None,
            metadata_exchange: MetadataExchange::default(),
        }
    }

    /// The clusters that take its requests, if it is an aggregate.
    #[must_use]
    pub fn aggregated(&self) -> &[ClusterName] {
        match &self.discovery {
            Discovery::Aggregate(clusters) => clusters,
            _ => &[],
        }
    }

    /// The names of the secrets that its transport sockets refer to.
    pub fn secret_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.transport_sockets().filter_map(UpstreamTransportSocket::tls).flat_map(|tls| tls.common.secret_names())
    }

    /// All transport sockets, that of the cluster last.
    pub fn transport_sockets(&self) -> impl Iterator<Item = &UpstreamTransportSocket> {
        let matches = self.transport_socket_matches.iter().map(|socket_match| &socket_match.transport_socket);
        matches.chain([&self.transport_socket])
    }
}

/// Where a cluster's endpoints come from. Envoy `Cluster.DiscoveryType`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// From the cluster's configuration.
    Static(LoadAssignment),
    /// From DNS: every address of every name is an endpoint.
    StrictDns(LoadAssignment, DnsOptions),
    /// From DNS: the only endpoint is the first address of the latest answer. Existing connections stay open.
    LogicalDns(LoadAssignment, DnsOptions),
    /// From the endpoint discovery service.
    Eds {
        /// Name of the load assignment to subscribe to.
        service_name: Arc<str>,
    },
    /// It has none: other clusters take its requests, in order of preference. One takes load as far as its endpoints are healthy, the next
    /// ones take the rest. Requests use the options of the cluster that takes them. Envoy `clusters.aggregate.v3.ClusterConfig`.
    Aggregate(Arc<[ClusterName]>),
    /// The endpoint is where the client's connection was made to before it was redirected to this process. It is chosen without
    /// `lb_policy`. Envoy `ORIGINAL_DST` with `CLUSTER_PROVIDED`.
    OriginalDst(OriginalDstOptions),
}

impl Discovery {
    /// Whether the endpoints are host names that have to be resolved.
    #[must_use]
    pub fn is_dns(&self) -> bool {
        match self {
            Self::StrictDns(..) | Self::LogicalDns(..) => true,
            Self::Static(_) | Self::Eds { .. } | Self::OriginalDst(_) | Self::Aggregate(_) => false,
        }
    }
}

/// How host names are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsOptions {
    /// Time between queries. Default 5 s.
    pub dns_refresh_rate: Duration,
    /// Query again after the record's TTL instead. Default false (Istio true).
    pub respect_dns_ttl: bool,
    /// Which addresses are used. Default [`DnsLookupFamily::Auto`] (Istio `V4_ONLY`).
    pub dns_lookup_family: DnsLookupFamily,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            dns_refresh_rate: Duration::from_secs(5),
            respect_dns_ttl: false,
            dns_lookup_family: DnsLookupFamily::default(),
        }
    }
}

/// Which addresses of a name are used. Envoy `Cluster.DnsLookupFamily`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsLookupFamily {
    /// IPv6 addresses, or IPv4 addresses if there are none.
    #[default]
    Auto,
    /// IPv4 addresses.
    V4Only,
    /// IPv6 addresses.
    V6Only,
    /// IPv4 addresses, or IPv6 addresses if there are none.
    V4Preferred,
    /// Both.
    All,
}

/// How connections to an endpoint are secured. Envoy `Cluster.transport_socket`.
///
/// Connections that differ in any part of it are never used for each other's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamTransportSocket {
    /// They are not: bytes are sent as they are. Envoy `raw_buffer`.
    #[default]
    PlainText,
    /// By TLS. Envoy `tls`.
    Tls(Arc<UpstreamTlsContext>),
}

impl UpstreamTransportSocket {
    /// Its TLS, if it is TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<UpstreamTlsContext>> {
        match self {
            Self::PlainText => None,
            Self::Tls(context) => Some(context),
        }
    }
}

/// A transport socket for some endpoints. Envoy `Cluster.TransportSocketMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportSocketMatch {
    /// Unique name, for statistics and messages.
    pub name: Arc<str>,
    /// What the endpoint's [`transport_socket_match`](super::Endpoint::transport_socket_match) must have; empty = every
    /// endpoint matches.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// The transport socket.
    pub transport_socket: UpstreamTransportSocket,
}

impl TransportSocketMatch {
    /// A transport socket for endpoints with these labels.
    #[must_use]
    pub fn new(name: &str, labels: BTreeMap<Box<str>, Box<str>>, transport_socket: UpstreamTransportSocket) -> Self {
        Self { name: name.into(), labels, transport_socket }
    }

    /// Whether it is for an endpoint with these labels.
    #[must_use]
    pub fn matches(&self, labels: Option<&BTreeMap<Box<str>, Box<str>>>) -> bool {
        self.labels.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
    }
}

/// Limits for each routing priority. Envoy `cluster.v3.CircuitBreakers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitBreakers {
    /// Thresholds of routes with default priority.
    pub default: Thresholds,
    /// Thresholds of routes with high priority.
    pub high: Thresholds,
}

impl CircuitBreakers {
    /// Creates circuit breakers with these thresholds of the two priorities.
    #[must_use]
    pub const fn new(default: Thresholds, high: Thresholds) -> Self {
        Self { default, high }
    }
}

/// Limits on what is in flight to a cluster. Envoy `CircuitBreakers.Thresholds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thresholds {
    /// Connections of all workers to all endpoints. Default 1024. Each connection pool may make its first one beyond it.
    pub max_connections: u32,
    /// Requests that wait for a connection. Default 1024.
    pub max_pending_requests: u32,
    /// Active requests. Default 1024.
    pub max_requests: u32,
    /// Active retries. Default 3.
    pub max_retries: u32,
    /// Limit on active retries relative to active requests, instead of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
    /// Publish `remaining_*` gauges. Default false.
    pub track_remaining: bool,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
            track_remaining: false,
        }
    }
}

/// HTTP options of upstream connections. Envoy `upstreams.http.v3.HttpProtocolOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpProtocolOptions {
    /// Protocol of upstream connections. Default HTTP/1.1.
    pub protocol: HttpProtocol,
    /// An idle connection is closed after this time; `None` = never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// A connection takes no more requests after this time; `None` = unlimited, the default.
    pub max_connection_duration: Option<Duration>,
    /// A connection takes at most this many requests; `None` = unlimited, the default.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// Concurrent streams per HTTP/2 connection, if the peer does not allow fewer. Default 1024.
    pub max_concurrent_streams: u32,
    /// HTTP/2 flow-control window of a stream in bytes. Default 16 MiB.
    pub initial_stream_window_size: u32,
    /// HTTP/2 flow-control window of a connection in bytes. Default 24 MiB.
    pub initial_connection_window_size: u32,
    /// PINGs on HTTP/2 connections; `None` = none, the default.
    pub connection_keepalive: Option<Http2Keepalive>,
    /// Request the host of each request as the server name (SNI), instead of that of the transport socket. Default false.
    pub auto_sni: bool,
    /// The endpoint's certificate must be for the host of the request. Default false.
    pub auto_san_validation: bool,
    /// Options of HTTP/1 connections.
    pub http1: Http1Options,
    /// Maximum size of the response headers in KiB. Larger ones fail the request. `None` = Envoy's default, the default: 80 for
    /// HTTP/1, 60 for HTTP/2.
    pub max_response_headers_kb: Option<u32>,
    /// Maximum number of response headers. More fail the request. Default 100.
    pub max_headers_count: u32,
}

impl Default for HttpProtocolOptions {
    fn default() -> Self {
        Self {
            protocol: HttpProtocol::default(),
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_requests_per_connection: None,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 * 1024 * 1024,
            initial_connection_window_size: 24 * 1024 * 1024,
            connection_keepalive: None,
            auto_sni: false,
            auto_san_validation: false,
            http1: Http1Options::default(),
            max_response_headers_kb: None,
            max_headers_count: 100,
        }
    }
}

/// Protocol of upstream connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (h2c).
    Http2,
    /// The protocol of the downstream request.
    UseDownstream,
}

/// TCP keep-alive of a connection; `None` = the system's value. Envoy `core.v3.TcpKeepalive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Unanswered probes before the connection is closed.
    pub keepalive_probes: Option<NonZeroU16>,
    /// Idle time before the first probe.
    pub keepalive_time: Option<Duration>,
    /// Time between probes.
    pub keepalive_interval: Option<Duration>,
}

/// The service that a cluster belongs to: Istio's `destination_service*` labels. Unknown fields are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationService {
    /// Fully qualified name, such as `reviews.default.svc.cluster.local`.
    pub host: Arc<str>,
    /// Name from the control plane: `reviews` for a Kubernetes service, the host for a ServiceEntry.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
}

impl DestinationService {
    /// Names of the clusters to which Istio's sidecars send requests for unknown services.
    const UNREGISTERED: [&str; 5] = [
        Self::BLACK_HOLE_CLUSTER,
        "PassthroughCluster",
        "InboundPassthroughCluster",
        "InboundPassthroughClusterIpv4",
        "InboundPassthroughClusterIpv6",
    ];

    /// Name of the cluster without endpoints, to which blocked requests are sent.
    pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";

    /// The service that requests to `cluster` are attributed to if it is one of Istio's clusters for unknown services. It
    /// has a name and no host.
    #[must_use]
    pub fn unregistered(cluster: &str) -> Option<Self> {
        let name = Self::UNREGISTERED.into_iter().find(|name| *name == cluster)?;
        Some(Self { host: Arc::default(), name: name.into(), namespace: Arc::default() })
    }

    /// The service that requests for `authority` are attributed to if the cluster names none.
    #[must_use]
    pub fn by_authority(authority: &str) -> Self {
        let host: Arc<str> = authority.into();
        Self { name: Arc::clone(&host), host, namespace: Arc::default() }
    }
}
