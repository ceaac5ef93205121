//! Route configuration. Envoy `route.v3.RouteConfiguration`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    ClusterName, FractionalPercent, HeaderKey, HeaderMatcher, HeaderMutations, Metadata, PathMatcher,
    QueryParameterMatcher, RetryPolicy, RouteConfigName, SafeRegex,
};
use crate::filter::FilterOverrides;

/// Virtual hosts by domain, each with its routes.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfiguration {
    /// The name listeners use.
    pub name: RouteConfigName,
    /// Domains are unique over all of them.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Changes of every request.
    pub request_headers: HeaderMutations,
    /// Changes of every response.
    pub response_headers: HeaderMutations,
    /// Ignore the port of the authority when domains are matched. Default false.
    pub ignore_port_in_host_matching: bool,
    /// Apply the most specific header changes last, so that they win. Default false.
    pub most_specific_header_mutations_wins: bool,
    /// About the listener's HTTP filters, for all routes. Default nothing.
    pub typed_per_filter_config: FilterOverrides,
}

impl RouteConfiguration {
    /// A configuration with Envoy's defaults.
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

/// The routes of some domains. Envoy `route.v3.VirtualHost`.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// For statistics and explanations.
    pub name: Arc<str>,
    /// Exact, `*.suffix`, `prefix.*` or `*`; case-insensitive. The longest match wins, exact before wildcards (E1).
    pub domains: Vec<Box<str>>,
    /// The first that matches decides.
    pub routes: Vec<Route>,
    /// Changes of every request.
    pub request_headers: HeaderMutations,
    /// Changes of every response.
    pub response_headers: HeaderMutations,
    /// For routes without a retry policy of their own.
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// Send `x-envoy-attempt-count` upstream. Default false (Istio true).
    pub include_request_attempt_count: bool,
    /// Send `x-envoy-attempt-count` downstream. Default false.
    pub include_attempt_count_in_response: bool,
    /// Redirect plain requests to https. Default none. Envoy `require_tls`; with no TLS on listeners yet `ALL` and
    /// `EXTERNAL_ONLY` always redirect.
    pub require_tls: bool,
    /// About the listener's HTTP filters, for these routes. Default nothing.
    pub typed_per_filter_config: FilterOverrides,
    /// Parts of the requests that are counted by themselves; a request belongs to the first that takes it, else to one
    /// called `other`. Default none.
    pub virtual_clusters: Vec<VirtualCluster>,
}

/// A part of the requests of a virtual host, for statistics. Envoy `route.v3.VirtualCluster`.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualCluster {
    /// Name in statistics.
    pub name: Arc<str>,
    /// Which requests: all of these hold.
    pub headers: Vec<HeaderMatcher>,
}

impl VirtualHost {
    /// A virtual host with Envoy's defaults for every authority.
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

/// One rule. Envoy `route.v3.Route`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// For logs and explanations; empty if unnamed.
    pub name: Arc<str>,
    /// Which requests.
    pub matches: RouteMatch,
    /// What to do with them.
    pub action: Action,
    /// Changes of the request.
    pub request_headers: HeaderMutations,
    /// Changes of the response.
    pub response_headers: HeaderMutations,
    /// About the listener's HTTP filters, over the virtual host. Default nothing.
    pub typed_per_filter_config: FilterOverrides,
    /// Name of the operation for tracing; empty if none. Envoy `decorator.operation`.
    pub operation: Arc<str>,
    /// Where the rule was written, such as `virtual-service/reviews.default`; empty if unknown.
    pub origin: Arc<str>,
    /// Name under which the route's requests are counted by themselves; empty = they are not. Envoy `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Facts for logs and headers, `%METADATA(ROUTE:…)%`; `None` if there are none.
    pub metadata: Option<Arc<Metadata>>,
}

impl Route {
    /// A rule with Envoy's defaults.
    #[must_use]
    pub fn new(matches: RouteMatch, action: Action) -> Self {
        Self {
            name: "".into(),
            matches,
            action,
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

/// Which requests a route takes: everything must hold. Envoy `route.v3.RouteMatch`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// The path without its query.
    pub path: PathMatcher,
    /// Whether letters of the path compare in their case; no effect on regular expressions. Default true.
    pub case_sensitive: bool,
    /// All must match.
    pub headers: Vec<HeaderMatcher>,
    /// All must match.
    pub query_parameters: Vec<QueryParameterMatcher>,
    /// Only gRPC requests. Default false.
    pub grpc: bool,
    /// Only this share of requests; `None` = all.
    pub runtime_fraction: Option<FractionalPercent>,
}

impl RouteMatch {
    /// Every request with this path.
    #[must_use]
    pub fn path(path: PathMatcher) -> Self {
        Self {
            path,
            case_sensitive: true,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            grpc: false,
            runtime_fraction: None,
        }
    }
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send it to a cluster.
    Route(Box<RouteAction>),
    /// Answer with another location.
    Redirect(Box<Redirect>),
    /// Answer with a fixed response.
    DirectResponse(DirectResponse),
    /// Hand it to the service behind the listener (library servers). Envoy `non_forwarding_action`.
    NonForwarding,
}

/// How to send a request to a cluster. Envoy `route.v3.RouteAction`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteAction {
    /// Which cluster.
    pub cluster: ClusterSpecifier,
    /// Status when the cluster does not exist. Default 503.
    pub cluster_not_found_response_code: StatusCode,
    /// Change of the path; the query stays.
    pub path_rewrite: PathRewrite,
    /// Change of the authority.
    pub host_rewrite: HostRewrite,
    /// Append the original authority to `x-forwarded-host` when it is rewritten. Default false.
    pub append_x_forwarded_host: bool,
    /// From the end of the request to the end of the response, retries included; zero = unlimited. Default 15 s
    /// (Istio 0).
    pub timeout: Duration,
    /// Longest silence on the stream; `None` = the connection manager's, zero = unlimited.
    pub idle_timeout: Option<Duration>,
    /// `None` = the virtual host's, else no retries.
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// Limit for the whole stream and use of `grpc-timeout`.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// Which thresholds of the circuit breaker apply. Default [`RoutingPriority::Default`].
    pub priority: RoutingPriority,
    /// Upgrades allowed or refused for this route, over the connection manager's.
    pub upgrade_configs: Vec<UpgradeConfig>,
}

impl RouteAction {
    /// Envoy's default of [`RouteAction::timeout`].
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

    /// A route to one cluster with Envoy's defaults.
    #[must_use]
    pub fn to_cluster(cluster: impl Into<ClusterName>) -> Self {
        Self::new(ClusterSpecifier::Cluster(cluster.into()))
    }

    /// A route with Envoy's defaults.
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
        }
    }
}

/// How a route names its cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterSpecifier {
    /// This one.
    Cluster(ClusterName),
    /// One of several, by weight.
    Weighted(WeightedClusters),
    /// The one named by a request header or pseudo-header.
    ClusterHeader(HeaderKey),
}

/// A split over clusters. Envoy `route.v3.WeightedCluster` (E3).
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedClusters {
    /// At least one; the sum of weights is positive and fits `u32`.
    pub clusters: Vec<WeightedCluster>,
    /// Header whose number selects instead of chance; `None` = chance.
    pub header_name: Option<HeaderName>,
}

/// A share of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedCluster {
    /// The cluster.
    pub name: ClusterName,
    /// Its share of the sum of weights; 0 = none.
    pub weight: u32,
    /// Changes of requests that go there.
    pub request_headers: HeaderMutations,
    /// Changes of responses that come from there.
    pub response_headers: HeaderMutations,
    /// Literal authority for requests that go there.
    pub host_rewrite_literal: Option<HeaderValue>,
    /// About the listener's HTTP filters, over the route. Default nothing.
    pub typed_per_filter_config: FilterOverrides,
}

/// Change of the path before it is sent upstream; the original goes into `x-envoy-original-path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRewrite {
    /// Leave it.
    #[default]
    None,
    /// Replace the matched prefix, or the whole path if it was matched exactly or by a regular expression.
    Prefix(Box<str>),
    /// Replace every match.
    Regex {
        /// What is replaced.
        pattern: SafeRegex,
        /// By what; `\1` is a group.
        substitution: Box<str>,
    },
}

/// Change of the authority before it is sent upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// Leave it.
    #[default]
    None,
    /// This value.
    Literal(HeaderValue),
    /// The host name of the endpoint, for DNS clusters.
    Auto,
    /// The value of a request header, if it is there.
    Header(HeaderName),
    /// The path, without its query, with every match replaced. Envoy `host_rewrite_path_regex`.
    PathRegex {
        /// What is replaced.
        pattern: SafeRegex,
        /// By what; `\1` is a group.
        substitution: Box<str>,
    },
}

/// Limits of a stream's whole life. Envoy `RouteAction.MaxStreamDuration` (E6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxStreamDuration {
    /// Limit without regard to `grpc-timeout`; `None` = the connection manager's, zero = unlimited.
    pub max_stream_duration: Option<Duration>,
    /// Use `grpc-timeout`, up to this; zero = up to whatever it says, `None` = do not use it.
    pub grpc_timeout_header_max: Option<Duration>,
    /// Taken off `grpc-timeout`. Default 0.
    pub grpc_timeout_header_offset: Duration,
}

/// Which circuit breaker thresholds apply. Envoy `core.v3.RoutingPriority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoutingPriority {
    /// The usual.
    #[default]
    Default,
    /// For requests that matter more.
    High,
}

/// Whether a protocol upgrade passes. Envoy `UpgradeConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeConfig {
    /// Value of the `upgrade` header, such as `websocket`; compared without case.
    pub upgrade_type: Box<str>,
    /// Default true.
    pub enabled: bool,
}

/// An answer with another location. Envoy `route.v3.RedirectAction` (E7, VS14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// New scheme: `http` or `https`; `None` = the request's.
    pub scheme_redirect: Option<Box<str>>,
    /// New host without a port; `None` = the request's.
    pub host_redirect: Option<Box<str>>,
    /// New port; `None` = the request's, dropped if it is the default of the old scheme and the scheme changes.
    pub port_redirect: Option<u16>,
    /// New path.
    pub path: PathRedirect,
    /// 301, 302, 303, 307 or 308. Default 301.
    pub response_code: StatusCode,
    /// Leave the query out of the location. Default false.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRedirect {
    /// The request's.
    #[default]
    Keep,
    /// This path; if it has a query, that replaces the request's.
    Path(Box<str>),
    /// The request's with the matched prefix replaced.
    Prefix(Box<str>),
    /// The request's with every match replaced.
    Regex {
        /// What is replaced.
        pattern: SafeRegex,
        /// By what; `\1` is a group.
        substitution: Box<str>,
    },
}

/// A fixed answer. Envoy `route.v3.DirectResponseAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: StatusCode,
    /// At most 1 MiB; empty = no body.
    pub body: Bytes,
}

impl WeightedClusters {
    /// Sum of all weights; positive.
    #[must_use]
    pub fn total_weight(&self) -> Option<NonZeroU32> {
        self.clusters.iter().try_fold(0u32, |sum, cluster| sum.checked_add(cluster.weight)).and_then(NonZeroU32::new)
    }
}

impl WeightedCluster {
    /// A share without changes of its own.
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
