//! Cluster configuration. Envoy `cluster.v3.Cluster`.

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use super::{ClusterName, LoadAssignment, MetadataExchange, Percent, RetryBudget};

/// A group of equivalent endpoints and how to use them.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The name routes use.
    pub name: ClusterName,
    /// The name in statistics; defaults to `name`. Envoy `alt_stat_name`.
    pub stat_name: Arc<str>,
    /// Where the endpoints come from.
    pub discovery: Discovery,
    /// Limit for making a connection. Default 5 s (Istio 10 s).
    pub connect_timeout: Duration,
    /// How an endpoint is chosen. Default round robin (Istio: least request).
    pub lb_policy: LbPolicy,
    /// Share of healthy endpoints below which all are used; 0 = never. Default 50. Envoy
    /// `common_lb_config.healthy_panic_threshold`.
    pub healthy_panic_threshold: Percent,
    /// Below the threshold use no endpoint instead of all. Default false. Envoy
    /// `common_lb_config.zone_aware_lb_config.fail_traffic_on_panic`.
    pub fail_traffic_on_panic: bool,
    /// Choose a locality by weight first, then an endpoint in it; localities without a weight get nothing. Default false.
    /// Envoy `common_lb_config.locality_weighted_lb_config`.
    pub locality_weighted_lb: bool,
    /// Limits.
    pub circuit_breakers: CircuitBreakers,
    /// Passive health checking; `None` = off.
    pub outlier_detection: Option<OutlierDetection>,
    /// How to speak to the endpoints.
    pub http_protocol_options: HttpProtocolOptions,
    /// Keep-alive probes of upstream connections; `None` = the system's choice.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Bytes of a request body kept for a retry. Default 64 KiB; Envoy `per_connection_buffer_limit_bytes` sets it.
    pub retry_buffer_bytes: usize,
    /// The service that the cluster stands for, for telemetry.
    pub service: Option<Arc<DestinationService>>,
    /// Whether its endpoints are told who calls them, where the listener does so. Default yes.
    pub metadata_exchange: MetadataExchange,
}

impl Cluster {
    /// Default of [`Cluster::retry_buffer_bytes`].
    pub const DEFAULT_RETRY_BUFFER_BYTES: usize = 64 * 1024;

    /// A cluster with Envoy's defaults.
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
            circuit_breakers: CircuitBreakers::default(),
            outlier_detection: None,
            http_protocol_options: HttpProtocolOptions::default(),
            tcp_keepalive: None,
            retry_buffer_bytes: Self::DEFAULT_RETRY_BUFFER_BYTES,
            service: None,
            metadata_exchange: MetadataExchange::default(),
        }
    }
}

/// Where a cluster's endpoints come from. Envoy `Cluster.DiscoveryType`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Given in the configuration.
    Static(LoadAssignment),
    /// Every address of every name is an endpoint.
    StrictDns(LoadAssignment, DnsOptions),
    /// One endpoint: the first address of the latest answer; existing connections stay.
    LogicalDns(LoadAssignment, DnsOptions),
    /// From the control plane's endpoint discovery under this name.
    Eds {
        /// Name of the endpoint resource.
        service_name: Arc<str>,
    },
}

/// How names are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Time between queries. Default 5 s.
    pub dns_refresh_rate: Duration,
    /// Query again when the record's time to live ends instead. Default false (Istio true).
    pub respect_dns_ttl: bool,
    /// Prefer these addresses. Default IPv4 and IPv6 (Envoy `AUTO`: IPv6 if there is any, else IPv4; Istio `V4_ONLY`).
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
    /// IPv6 if there is any, else IPv4.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
    /// All.
    All,
}

/// How an endpoint is chosen. Envoy `Cluster.LbPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LbPolicy {
    /// In turn; unequal weights by earliest deadline first (E50).
    #[default]
    RoundRobin,
    /// The least busy of `choice_count` drawn at random; unequal weights by EDF over weight / (active + 1)^bias (E51).
    LeastRequest {
        /// Endpoints compared, at least 2, default 2.
        choice_count: NonZeroU32,
        /// Exponent of the load in thousandths, default 1000 (= 1.0); only with unequal weights.
        active_request_bias_milli: u32,
    },
    /// Uniformly at random.
    Random,
}

impl LbPolicy {
    /// Least request with Envoy's defaults: two choices, bias 1.0.
    #[must_use]
    pub const fn least_request() -> Self {
        Self::LeastRequest { choice_count: NonZeroU32::MIN.saturating_add(1), active_request_bias_milli: 1000 }
    }
}

/// Limits per routing priority. Envoy `cluster.v3.CircuitBreakers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// For routes of default priority.
    pub default: Thresholds,
    /// For routes of high priority.
    pub high: Thresholds,
}

/// What may be in flight to one cluster at once. Envoy `CircuitBreakers.Thresholds` (E30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Connections of all workers to all endpoints. Default 1024. Each connection pool may make its first one beyond it.
    pub max_connections: u32,
    /// Requests waiting for a connection. Default 1024.
    pub max_pending_requests: u32,
    /// Requests. Default 1024.
    pub max_requests: u32,
    /// Retries. Default 3.
    pub max_retries: u32,
    /// Replaces `max_retries`; `None` = not used.
    pub retry_budget: Option<RetryBudget>,
    /// Publish the remaining room as gauges. Default false.
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

/// Passive health checking by consecutive failures. Envoy `cluster.v3.OutlierDetection` (E31 to E36); 0 turns a
/// detector off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// 5xx answers in a row (connect failures count) that eject. Default 5.
    pub consecutive_5xx: u32,
    /// Chance that `consecutive_5xx` ejects. Default 100.
    pub enforcing_consecutive_5xx: Percent,
    /// 502, 503, 504 in a row that eject. Default 5.
    pub consecutive_gateway_failure: u32,
    /// Chance that `consecutive_gateway_failure` ejects. Default 0.
    pub enforcing_consecutive_gateway_failure: Percent,
    /// Count local failures (connect, timeout, reset) apart from answers. Default false.
    pub split_external_local_origin_errors: bool,
    /// Local failures in a row that eject, if split. Default 5.
    pub consecutive_local_origin_failure: u32,
    /// Chance that `consecutive_local_origin_failure` ejects. Default 100.
    pub enforcing_consecutive_local_origin_failure: Percent,
    /// Time between sweeps, which un-eject. Default 10 s.
    pub interval: Duration,
    /// Ejection time is this times the number of ejections. Default 30 s.
    pub base_ejection_time: Duration,
    /// Longest ejection; never below `base_ejection_time`. Default 300 s.
    pub max_ejection_time: Duration,
    /// Random addition to the ejection time, up to this. Default 0.
    pub max_ejection_time_jitter: Duration,
    /// Share of endpoints that may be ejected at once. Default 10: with fewer than 10 endpoints none is (E34).
    pub max_ejection_percent: Percent,
    /// Let one endpoint be ejected whatever the share. Default false.
    pub always_eject_one_host: bool,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            enforcing_consecutive_5xx: Percent::HUNDRED,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: Percent::ZERO,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: 5,
            enforcing_consecutive_local_origin_failure: Percent::HUNDRED,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: Percent::new(10).unwrap_or(Percent::ZERO),
            always_eject_one_host: false,
        }
    }
}

/// How to speak to the endpoints. Envoy `upstreams.http.v3.HttpProtocolOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpProtocolOptions {
    /// Default HTTP/1.1.
    pub protocol: HttpProtocol,
    /// An unused connection is closed after this; `None` = never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// A connection is retired after this; `None` = never, the default.
    pub max_connection_duration: Option<Duration>,
    /// A connection is retired after this many requests; `None` = never, the default.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// Streams per HTTP/2 connection. Default 1024, and never more than the peer allows.
    pub max_concurrent_streams: u32,
    /// HTTP/2 flow-control window per stream in bytes. Default 16 MiB.
    pub initial_stream_window_size: u32,
    /// HTTP/2 flow-control window per connection in bytes. Default 24 MiB.
    pub initial_connection_window_size: u32,
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
        }
    }
}

/// The protocol spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (h2c).
    Http2,
    /// Whatever the downstream request came with.
    UseDownstream,
}

/// Keep-alive probes of a TCP connection; `None` = the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Unanswered probes before the connection is dropped.
    pub keepalive_probes: Option<NonZeroU16>,
    /// Silence before the first probe.
    pub keepalive_time: Option<Duration>,
    /// Time between probes.
    pub keepalive_interval: Option<Duration>,
}

/// The service that a cluster stands for: Istio's `destination_service*` labels (`features.md` M12). A field that is not
/// known is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationService {
    /// FQDN, such as `reviews.default.svc.cluster.local`.
    pub host: Arc<str>,
    /// Name as the control plane gives it: `reviews` for a service of Kubernetes, the host for one of a ServiceEntry.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
}

impl DestinationService {
    /// Where Istio's sidecars send requests for no service that they know, by the names of their clusters.
    const UNREGISTERED: [&str; 5] = [
        Self::BLACK_HOLE_CLUSTER,
        "PassthroughCluster",
        "InboundPassthroughCluster",
        "InboundPassthroughClusterIpv4",
        "InboundPassthroughClusterIpv6",
    ];

    /// Where requests go that are not to go anywhere.
    pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";

    /// What requests to `cluster` count as if it is one of Istio's clusters without a service: a name, and no host.
    #[must_use]
    pub fn unregistered(cluster: &str) -> Option<Self> {
        let name = Self::UNREGISTERED.into_iter().find(|name| *name == cluster)?;
        Some(Self { host: Arc::default(), name: name.into(), namespace: Arc::default() })
    }

    /// What requests for `authority` count as where nothing better is known.
    #[must_use]
    pub fn by_authority(authority: &str) -> Self {
        let host: Arc<str> = authority.into();
        Self { name: Arc::clone(&host), host, namespace: Arc::default() }
    }
}
