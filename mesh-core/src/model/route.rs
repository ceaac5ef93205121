//! Route configuration. Envoy `route.v3.RouteConfiguration`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{
    ClusterName, DirectResponse, FractionalPercent, HeaderKey, HeaderMatcher, HeaderMutations, Metadata,
    MetadataMatcher, PathMatcher, QueryParameterMatcher, Redirect, RetryPolicy, RouteConfigName, SafeRegex,
};
use crate::filter::FilterOverrides;

/// A route configuration: virtual hosts, each with domains and routes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RouteConfiguration {
    /// The name that listeners refer to.
    pub name: RouteConfigName,
    /// The virtual hosts. No domain occurs twice.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Header changes of every request.
    pub request_headers: HeaderMutations,
    /// Header changes of every response.
    pub response_headers: HeaderMutations,
    /// Ignore the port of the authority when domains are matched. Default false.
    pub ignore_port_in_host_matching: bool,
    /// Apply the header changes of the route last, so that they take precedence. Default false.
    pub most_specific_header_mutations_wins: bool,
    /// Overrides of the listener's HTTP filters for all routes. Default none.
    pub typed_per_filter_config: FilterOverrides,
}

impl RouteConfiguration {
    /// Creates a route configuration with Envoy's defaults.
    #[must_use]
    pub fn new(name: impl Into<RouteConfigName>, virtual_hosts: Vec<VirtualHost>) -> Self {
        Self {
            name: name.into(),
            virtual_hosts,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            ignore_port_in_host_matching: false,
            most_specific_header_mutations_wins: false,
            typed_per_filter_config: FilterOverrides::new(),
        }
    }
}

/// The routes of a set of domains. Envoy `route.v3.VirtualHost`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VirtualHost {
    /// Name for logs and statistics.
    pub name: Arc<str>,
    /// Domains: exact, `*.suffix`, `prefix.*` or `*`, case-insensitive. An exact domain takes precedence over wildcards,
    /// a longer wildcard over a shorter one.
    pub domains: Vec<Box<str>>,
    /// The routes. The first one that matches a request is used.
    pub routes: Vec<Route>,
    /// Header changes of every request.
    pub request_headers: HeaderMutations,
    /// Header changes of every response.
    pub response_headers: HeaderMutations,
    /// Retry policy of the routes that have none.
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// Send `x-envoy-attempt-count` upstream. Default false (Istio true).
    pub include_request_attempt_count: bool,
    /// Send `x-envoy-attempt-count` downstream. Default false.
    pub include_attempt_count_in_response: bool,
    /// Redirect requests without TLS to https. Default false. Envoy `require_tls`. Listeners have no TLS yet, so `ALL` and
    /// `EXTERNAL_ONLY` redirect every request that no proxy in front received by https.
    pub require_tls: bool,
    /// Overrides of the listener's HTTP filters for these routes. Default none.
    pub typed_per_filter_config: FilterOverrides,
    /// Groups of requests with statistics of their own. A request belongs to the first one that matches, or to one called
    /// `other`. Default none.
    pub virtual_clusters: Vec<VirtualCluster>,
}

/// A group of requests to a virtual host, for statistics. Envoy `route.v3.VirtualCluster`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VirtualCluster {
    /// Name in statistics.
    pub name: Arc<str>,
    /// Conditions, all of which must match.
    pub headers: Vec<HeaderMatcher>,
}

impl VirtualCluster {
    /// Creates a group of the requests whose headers match.
    #[must_use]
    pub fn new(name: &str, headers: Vec<HeaderMatcher>) -> Self {
        Self { name: name.into(), headers }
    }
}

impl VirtualHost {
    /// Creates a virtual host for every authority, with Envoy's defaults.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, routes: Vec<Route>) -> Self {
        Self {
            name: name.into(),
            domains: vec!["*".into()],
            routes,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            retry_policy: None,
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            require_tls: false,
            typed_per_filter_config: FilterOverrides::new(),
            virtual_clusters: Vec::new(),
        }
    }
}

/// A route. Envoy `route.v3.Route`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Name for logs; empty if unnamed.
    pub name: Arc<str>,
    /// The requests that the route matches.
    pub matches: RouteMatch,
    /// What is done with them.
    pub action: Action,
    /// Header changes of the request.
    pub request_headers: HeaderMutations,
    /// Header changes of the response.
    pub response_headers: HeaderMutations,
    /// Overrides of the listener's HTTP filters. Default none.
    pub typed_per_filter_config: FilterOverrides,
    /// Name of the operation for tracing; empty if none. Envoy `decorator.operation`.
    pub operation: Arc<str>,
    /// The resource that the route comes from, such as `virtual-service/reviews.default`; empty if unknown.
    pub origin: Arc<str>,
    /// Name of the route's own statistics; empty = none. Envoy `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Metadata for `%METADATA(ROUTE:…)%` in access logs and headers.
    pub metadata: Option<Arc<Metadata>>,
}

impl Route {
    /// Creates a route with Envoy's defaults.
    #[must_use]
    pub fn new(matches: RouteMatch, action: impl Into<Action>) -> Self {
        Self {
            name: "".into(),
            matches,
            action: action.into(),
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            typed_per_filter_config: FilterOverrides::new(),
            operation: "".into(),
            origin: "".into(),
            stat_prefix: "".into(),
            metadata: None,
        }
    }
}

/// The requests that a route matches: all conditions must hold. Envoy `route.v3.RouteMatch`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RouteMatch {
    /// The path without its query.
    pub path: PathMatcher,
    /// Whether the path is compared case-sensitively; no effect on regular expressions. Default true.
    pub case_sensitive: bool,
    /// Conditions on headers.
    pub headers: Vec<HeaderMatcher>,
    /// Conditions on query parameters.
    pub query_parameters: Vec<QueryParameterMatcher>,
    /// Only gRPC requests. Default false.
    pub grpc: bool,
    /// Only this fraction of requests; `None` = all.
    pub runtime_fraction: Option<FractionalPercent>,
    /// Conditions on the metadata that filters have set. They do not hold before a filter has set any and has the request
    /// routed again, unless they are inverted.
    pub dynamic_metadata: Vec<MetadataMatcher>,
}

impl RouteMatch {
    /// Matches every request with this path.
    #[must_use]
    pub fn path(path: PathMatcher) -> Self {
        Self {
            path,
            case_sensitive: true,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            grpc: false,
            runtime_fraction: None,
            dynamic_metadata: Vec::new(),
        }
    }
}

/// What a route does with a request. Envoy `route.v3.Route.action`.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Forward it to a cluster.
    Route(Box<RouteAction>),
    /// Respond with a redirect.
    Redirect(Box<Redirect>),
    /// Respond with a fixed response.
    DirectResponse(DirectResponse),
    /// Pass it to the service behind the listener of a library server. Envoy `non_forwarding_action`.
    NonForwarding,
}

/// How a request is forwarded to a cluster. Envoy `route.v3.RouteAction`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RouteAction {
    /// The cluster.
    pub cluster: ClusterSpecifier,
    /// Status of the response if the cluster does not exist. Default 503.
    pub cluster_not_found_response_code: StatusCode,
    /// Rewrite of the path; the query is kept.
    pub path_rewrite: PathRewrite,
    /// Rewrite of the authority.
    pub host_rewrite: HostRewrite,
    /// Append the original authority to `x-forwarded-host` when it is rewritten. Default false.
    pub append_x_forwarded_host: bool,
    /// Time from the end of the request to the end of the response, retries included; zero = unlimited. Default 15 s
    /// (Istio 0).
    pub timeout: Duration,
    /// Idle timeout of the stream; `None` = the connection manager's, zero = unlimited.
    pub idle_timeout: Option<Duration>,
    /// Retry policy; `None` = the virtual host's.
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// Maximum duration of the stream, and use of `grpc-timeout`; `None` = the connection manager's.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// Priority, which selects the circuit breaker thresholds. Default [`RoutingPriority::Default`].
    pub priority: RoutingPriority,
    /// Upgrades that are allowed or refused on this route. They take precedence over the connection manager's.
    pub upgrade_configs: Vec<UpgradeConfig>,
    /// Pass the data of CONNECT requests on over TCP, without HTTP; `None` = they are forwarded as CONNECT requests. Envoy
    /// `UpgradeConfig.connect_config`.
    pub connect_config: Option<ConnectConfig>,
}

impl RouteAction {
    /// Default of [`RouteAction::timeout`].
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

    /// Creates an action for one cluster, with Envoy's defaults.
    #[must_use]
    pub fn to_cluster(cluster: impl Into<ClusterName>) -> Self {
        Self::new(ClusterSpecifier::Cluster(cluster.into()))
    }

    /// Creates an action with Envoy's defaults.
    #[must_use]
    pub fn new(cluster: ClusterSpecifier) -> Self {
        Self {
            cluster,
            cluster_not_found_response_code: StatusCode::SERVICE_UNAVAILABLE,
            path_rewrite: PathRewrite::None,
            host_rewrite: HostRewrite::None,
            append_x_forwarded_host: false,
            timeout: Self::DEFAULT_TIMEOUT,
            idle_timeout: None,
            retry_policy: None,
            max_stream_duration: None,
            priority: RoutingPriority::Default,
            upgrade_configs: Vec::new(),
            connect_config: None,
        }
    }

    /// Whether the data of a request with `method` is passed on over TCP.
    #[must_use]
    pub fn sends_data_only(&self, method: &Method) -> bool {
        self.connect_config
            .is_some_and(|config| *method == Method::CONNECT || (config.allow_post && *method == Method::POST))
    }

    /// The same with another timeout.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same with a retry policy.
    #[must_use]
    pub fn with_retry_policy(mut self, retry_policy: impl Into<Arc<RetryPolicy>>) -> Self {
        self.retry_policy = Some(retry_policy.into());
        self
    }
}

impl From<RouteAction> for Action {
    fn from(action: RouteAction) -> Self {
        Self::Route(Box::new(action))
    }
}

/// The cluster of a route. Envoy `RouteAction.cluster_specifier`.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterSpecifier {
    /// One cluster.
    Cluster(ClusterName),
    /// One of several clusters, by weight.
    Weighted(WeightedClusters),
    /// The cluster named by a request header or pseudo-header.
    ClusterHeader(HeaderKey),
}

/// A split of traffic over clusters. Envoy `route.v3.WeightedCluster`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WeightedClusters {
    /// At least one cluster. The sum of the weights is positive and fits into `u32`.
    pub clusters: Vec<WeightedCluster>,
    /// Header whose numeric value selects the cluster; `None` = at random.
    pub header_name: Option<HeaderName>,
}

/// A cluster of a split. Envoy `WeightedCluster.ClusterWeight`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WeightedCluster {
    /// The cluster.
    pub name: ClusterName,
    /// Weight; the cluster receives this part of the sum of the weights.
    pub weight: u32,
    /// Header changes of requests to this cluster.
    pub request_headers: HeaderMutations,
    /// Header changes of responses from this cluster.
    pub response_headers: HeaderMutations,
    /// Authority of requests to this cluster.
    pub host_rewrite_literal: Option<HeaderValue>,
    /// Overrides of the listener's HTTP filters. Default none.
    pub typed_per_filter_config: FilterOverrides,
}

/// Rewrite of the path before it is sent upstream. The original is sent in `x-envoy-original-path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRewrite {
    /// No rewrite.
    #[default]
    None,
    /// Replace the matched prefix, or the whole path if the route matches it exactly or by a regular expression.
    Prefix(Box<str>),
    /// Replace every match of a regular expression.
    Regex {
        /// The regular expression.
        pattern: SafeRegex,
        /// The replacement; `\1` refers to a group.
        substitution: Box<str>,
    },
}

/// Rewrite of the authority before it is sent upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// No rewrite.
    #[default]
    None,
    /// A fixed value.
    Literal(HeaderValue),
    /// The host name of the selected endpoint, if it has one.
    Auto,
    /// The value of a request header, if it is present.
    Header(HeaderName),
    /// The path without its query, with every match of a regular expression replaced. Envoy `host_rewrite_path_regex`.
    PathRegex {
        /// The regular expression.
        pattern: SafeRegex,
        /// The replacement; `\1` refers to a group.
        substitution: Box<str>,
    },
}

/// Maximum duration of a stream. Envoy `RouteAction.MaxStreamDuration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxStreamDuration {
    /// Maximum duration if `grpc-timeout` is absent or not used; `None` = the connection manager's, zero = unlimited.
    pub max_stream_duration: Option<Duration>,
    /// Upper bound of `grpc-timeout`; zero = no bound, `None` = `grpc-timeout` is not used.
    pub grpc_timeout_header_max: Option<Duration>,
    /// Subtracted from `grpc-timeout`. Default 0.
    pub grpc_timeout_header_offset: Duration,
}

/// Priority of a route, which selects circuit breaker thresholds. Envoy `core.v3.RoutingPriority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoutingPriority {
    /// Default priority.
    #[default]
    Default,
    /// High priority.
    High,
}

/// Whether a protocol upgrade is allowed. Envoy `RouteAction.UpgradeConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeConfig {
    /// Value of the `upgrade` header, such as `websocket`; case-insensitive.
    pub upgrade_type: Box<str>,
    /// Whether it is allowed. Default true.
    pub enabled: bool,
}

/// How the data of CONNECT requests is passed on. Envoy `RouteAction.UpgradeConfig.ConnectConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectConfig {
    /// Also pass the bodies of POST requests on in this way. Default false.
    pub allow_post: bool,
}

impl UpgradeConfig {
    /// Allows an upgrade.
    #[must_use]
    pub fn new(upgrade_type: &str) -> Self {
        Self { upgrade_type: upgrade_type.into(), enabled: true }
    }
}

impl WeightedClusters {
    /// Splits requests at random.
    #[must_use]
    pub fn new(clusters: Vec<WeightedCluster>) -> Self {
        Self { clusters, header_name: None }
    }

    /// Sum of the weights; `None` if it is zero or does not fit into `u32`.
    #[must_use]
    pub fn total_weight(&self) -> Option<NonZeroU32> {
        self.clusters.iter().try_fold(0u32, |sum, cluster| sum.checked_add(cluster.weight)).and_then(NonZeroU32::new)
    }
}

impl WeightedCluster {
    /// Creates a weighted cluster without changes of its own.
    #[must_use]
    pub fn new(name: impl Into<ClusterName>, weight: u32) -> Self {
        Self {
            name: name.into(),
            weight,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            host_rewrite_literal: None,
            typed_per_filter_config: FilterOverrides::new(),
        }
    }
}
