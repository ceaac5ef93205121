//! Immutable configuration values, validated once when they are built (by the xDS decoder or from code).
//!
//! There is one file for each xDS concept, and field names are Envoy's. A value of these types is always well-formed:
//! numbers are in range, regular expressions are compiled, header names are valid, defaults are filled in. Runtime state
//! such as counters, ejections and connections is kept elsewhere.

mod access_log;
mod cluster;
mod endpoint;
mod filter_chain;
mod http1_options;
mod http2_keepalive;
mod http_connection_manager;
mod istio;
mod lb_policy;
mod listener;
mod listener_filter;
mod original_dst;
mod outlier_detection;
mod peer_metadata;
mod retry;
mod route;
mod route_answer;
mod secret;
mod tcp_proxy;
mod tls;
mod trust_bundle;

pub(crate) use crate::value::json_string;
pub use crate::value::{
    AppendAction, ClusterName, FractionalPercent, HeaderKey, HeaderMatch, HeaderMatcher, HeaderMutation,
    HeaderMutations, InvalidRegex, Metadata, MetadataMatcher, MetadataValue, PathMatcher, Percent, PercentOutOfRange,
    QueryParameterMatch, QueryParameterMatcher, RouteConfigName, SafeRegex, StringMatcher, StringPattern, ValueMatcher,
    format,
};
pub use access_log::{AccessLog, AccessLogFormat, AccessLogSink, JsonField};
pub use cluster::{
    CircuitBreakers, Cluster, DestinationService, Discovery, DnsLookupFamily, DnsOptions, HttpProtocol,
    HttpProtocolOptions, TcpKeepalive, Thresholds, TransportSocketMatch, UpstreamTransportSocket,
};
pub use endpoint::{
    DropOverload, Endpoint, EndpointAddress, HealthStatus, LoadAssignment, Locality, LocalityEndpoints, NetworkAddress,
    Workload,
};
pub use filter_chain::{
    DownstreamTransportSocket, FilterChain, FilterChainMatch, NetworkFilter, SourceType, TransportProtocol,
};
pub use http_connection_manager::{
    ClientCertDetails, Codec, ForwardClientCert, ForwardClientCertDetails, ForwardedFor, HeadersWithUnderscoresAction,
    HttpConnectionManager, PathNormalization, PathWithEscapedSlashesAction, RouteSource, ServerHeader,
};
pub use http1_options::{HeaderKeyFormat, Http1Options};
pub use http2_keepalive::Http2Keepalive;
pub use lb_policy::LbPolicy;
pub use listener::{Listener, ListenerAddress, TrafficDirection};
pub use listener_filter::{ListenerFilter, ListenerFilterConfig, ListenerFilterMatch, TlsInspector};
pub use original_dst::OriginalDstOptions;
pub use outlier_detection::{FailurePercentage, OutlierDetection, SuccessRate};
pub use peer_metadata::{MetadataExchange, PeerMetadata, UpstreamPropagation};
pub use retry::{BackOff, RetryBudget, RetryOn, RetryPolicy, UnknownRetryCondition};
pub use route::{
    Action, ClusterSpecifier, ConnectConfig, HostRewrite, MaxStreamDuration, PathRewrite, Route, RouteAction,
    RouteConfiguration, RouteMatch, RoutingPriority, UpgradeConfig, VirtualCluster, VirtualHost, WeightedCluster,
    WeightedClusters,
};
pub use route_answer::{DirectResponse, PathRedirect, Redirect};
pub use secret::{CertificateValidationContext, PrivateKey, SanKind, SanMatcher, Secret, SecretValue, TlsCertificate};
pub use tcp_proxy::{TcpProxy, WeightedTcpCluster};
pub use tls::{
    CertificateSource, CipherSuite, CommonTlsContext, DownstreamTlsContext, KeyExchangeGroup, UpstreamTlsContext,
    ValidationSource,
};
pub use trust_bundle::{TrustBundle, TrustBundleError};
