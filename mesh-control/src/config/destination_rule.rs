//! `DestinationRule`: subsets of a service and how its endpoints are used.
//!
//! Source: `networking/v1alpha3/destination_rule.proto`. A subset's or a port's blocks replace those of the level above
//! whole; nothing is merged inside a block.

use std::time::Duration;

use super::Resource;
use super::client_tls::ClientTls;
use super::metadata::Metadata;
use super::port::read_port;
use super::scalar::{DurationOrZero, Labels, Visibility, labels};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Located, Node, Object};
use crate::host::Host;

/// Policies for traffic to a host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DestinationRule {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// The service, or a wildcard over several.
    pub host: Located<Host>,
    /// Policy for all subsets that do not replace it.
    pub traffic_policy: TrafficPolicy,
    /// Named parts of the service.
    pub subsets: Vec<Subset>,
    /// Namespaces that see it.
    pub export_to: Vec<Visibility>,
}

/// Endpoints with certain labels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subset {
    /// Name that routes refer to.
    pub name: Located<String>,
    /// Labels that an endpoint must have; empty selects all.
    pub labels: Labels,
    /// Replaces blocks of the rule's policy.
    pub traffic_policy: TrafficPolicy,
}

/// Istio `TrafficPolicy`; an absent block is inherited from the level above, or has Istio's defaults.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// When failing endpoints are avoided.
    pub outlier_detection: Option<OutlierDetection>,
    /// Whether connections use TLS; without it, mutual TLS with endpoints that are known to accept it.
    pub tls: Option<ClientTls>,
    /// Policies of single ports; they inherit nothing from this one.
    pub port_level_settings: Vec<PortPolicy>,
}

impl TrafficPolicy {
    /// Whether it sets nothing.
    pub fn is_empty(&self) -> bool {
        let Self { load_balancer, connection_pool, outlier_detection, tls, port_level_settings } = self;
        load_balancer.is_none()
            && connection_pool.is_none()
            && outlier_detection.is_none()
            && tls.is_none()
            && port_level_settings.is_empty()
    }
}

/// Policy of one port. Istio `PortTrafficPolicy`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PortPolicy {
    /// The service's port.
    pub port: Located<u16>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// When failing endpoints are avoided.
    pub outlier_detection: Option<OutlierDetection>,
    /// Whether connections use TLS.
    pub tls: Option<ClientTls>,
}

/// Istio `LoadBalancerSettings.SimpleLB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadBalancer {
    /// The one with fewer requests of two random endpoints; Istio's default.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// A random one.
    Random,
}

/// Istio `ConnectionPoolSettings`. `None` means Istio's default, which for counters is no limit.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectionPool {
    /// Connections to all endpoints, of HTTP/1.1 or TCP.
    pub max_connections: Option<u32>,
    /// Time to connect, default 10 s.
    pub connect_timeout: Option<Duration>,
    /// Keep-alive probes; absent means the operating system's defaults.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Age at which a connection is drained; none by default.
    pub max_connection_duration: Option<Duration>,
    /// Time without bytes after which a proxied TCP connection is closed, default 1 h; zero disables. It is also the default
    /// of `idle_timeout`. TCP proxies use the rule's own policy only, not that of a subset or a port, as in Istio.
    pub tcp_idle_timeout: Option<Duration>,
    /// Requests that wait for a connection.
    pub http1_max_pending_requests: Option<u32>,
    /// Active requests, of any HTTP version.
    pub http2_max_requests: Option<u32>,
    /// Requests for which a connection is used; none means any number.
    pub max_requests_per_connection: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// Time without requests after which an HTTP connection is closed, default 1 h; zero disables.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 ports are called with HTTP/2.
    pub h2_upgrade: bool,
    /// Streams of one HTTP/2 connection; none means 2^31-1.
    pub max_concurrent_streams: Option<u32>,
}

/// Istio `TcpKeepalive`; absent values are the operating system's.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TcpKeepalive {
    /// Unanswered probes after which the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe, whole seconds.
    pub time: Option<Duration>,
    /// Time between probes, whole seconds.
    pub interval: Option<Duration>,
}

/// Istio `OutlierDetection`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutlierDetection {
    /// 5xx responses and connection failures in a row that eject, default 5; 0 disables.
    pub consecutive_5xx_errors: Option<u32>,
    /// 502, 503, 504 and connection failures in a row that eject; 0 or absent disables.
    pub consecutive_gateway_errors: Option<u32>,
    /// Whether failures to connect are counted apart from responses; default false.
    pub split_external_local_origin_errors: bool,
    /// Failures to connect in a row that eject, if counted apart; default 5.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Time between sweeps, default 10 s.
    pub interval: Option<Duration>,
    /// Shortest ejection, default 30 s.
    pub base_ejection_time: Option<Duration>,
    /// Share of endpoints that may be ejected, 0-100, default 10.
    pub max_ejection_percent: Option<u32>,
    /// Share of healthy endpoints under which all are used, 0-100, default 0: never.
    pub min_health_percent: u32,
}

impl DestinationRule {
    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| *subset.name == *name)
    }
}

impl Resource for DestinationRule {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec.trafficPolicy"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let host = object.required("host");
        let traffic_policy = object.optional("trafficPolicy").unwrap_or_default();
        let subsets: Vec<Subset> = object.list("subsets");
        let export_to = object.list("exportTo");
        object.unsupported(&["workloadSelector"]);
        object.finish();
        for (i, subset) in subsets.iter().enumerate() {
            if subsets[..i].iter().any(|other| other.name.value == subset.name.value) {
                let message = format!("subset {:?} is defined twice", subset.name.value);
                cx.field("subsets").index(i).report(
                    Diagnostic::error(Code::Duplicate, subset.name.position.clone(), message)
                        .label("second definition"),
                );
            }
        }
        Some(Self { metadata, host: host?, traffic_policy, subsets, export_to })
    }
}

impl FromNode for Subset {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let name: Option<Located<String>> = object.required("name");
        let labels = labels(&object, "labels").unwrap_or_default();
        let traffic_policy = object.optional("trafficPolicy").unwrap_or_default();
        if let Some(name) = name.as_ref().filter(|name| !is_subset_name(name)) {
            let message = format!("{:?} is not a subset name", name.value);
            cx.field("name").invalid(object.key_mark("name"), message, "expected letters, digits, '-', '_' and '.'");
        }
        object.finish();
        Some(Self { name: name?, labels, traffic_policy })
    }
}

/// The name becomes part of cluster names, whose separator is `|`.
fn is_subset_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The blocks that a port shares with its service.
struct Blocks {
    load_balancer: Option<LoadBalancer>,
    connection_pool: Option<ConnectionPool>,
    outlier_detection: Option<OutlierDetection>,
    tls: Option<ClientTls>,
}

impl Blocks {
    fn read(object: &Object<'_>) -> Self {
        Self {
            load_balancer: object.optional("loadBalancer"),
            connection_pool: object.optional("connectionPool"),
            outlier_detection: object.optional("outlierDetection"),
            tls: object.optional("tls"),
        }
    }
}

impl FromNode for TrafficPolicy {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let Blocks { load_balancer, connection_pool, outlier_detection, tls } = Blocks::read(&object);
        let port_level_settings = object.list("portLevelSettings");
        object.unsupported(&["tunnel", "proxyProtocol", "retryBudget"]);
        object.finish();
        Some(Self { load_balancer, connection_pool, outlier_detection, tls, port_level_settings })
    }
}

impl FromNode for PortPolicy {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        if !object.has("port") {
            object.missing("port");
        }
        let port = object.node("port").and_then(|node| read_port(node, cx.field("port")));
        let Blocks { load_balancer, connection_pool, outlier_detection, tls } = Blocks::read(&object);
        object.finish();
        Some(Self { port: port?, load_balancer, connection_pool, outlier_detection, tls })
    }
}

impl FromNode for LoadBalancer {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        object.at_most_one_of(&["simple", "consistentHash"]);
        let table = [
            ("UNSPECIFIED", 0, Some(Self::LeastRequest)),
            ("LEAST_CONN", 1, Some(Self::LeastRequest)),
            ("RANDOM", 2, Some(Self::Random)),
            ("PASSTHROUGH", 3, None),
            ("ROUND_ROBIN", 4, Some(Self::RoundRobin)),
            ("LEAST_REQUEST", 5, Some(Self::LeastRequest)),
        ];
        let simple = object.node("simple").and_then(|node| cx.field("simple").enumeration(node, &table));
        object.unsupported(&[
            "consistentHash",
            "localityLbSetting",
            "zoneAwareLbSetting",
            "warmup",
            "warmupDurationSecs",
        ]);
        object.finish();
        Some(simple.unwrap_or_default())
    }
}

impl FromNode for ConnectionPool {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let mut pool = Self::default();
        if let Some(node) = object.node("tcp") {
            pool.read_tcp(node, cx.field("tcp"));
        }
        if let Some(node) = object.node("http") {
            pool.read_http(node, cx.field("http"));
        }
        object.finish();
        Some(pool)
    }
}

impl ConnectionPool {
    fn read_tcp(&mut self, node: &Node, cx: Context<'_>) {
        let Some(object) = Object::new(node, cx) else { return };
        self.max_connections = counter(&object, "maxConnections");
        self.connect_timeout = object.optional("connectTimeout");
        self.tcp_keepalive = object.optional("tcpKeepalive");
        self.max_connection_duration = object.optional("maxConnectionDuration");
        self.tcp_idle_timeout = object.optional("idleTimeout").map(|DurationOrZero(value)| value);
        object.finish();
    }

    fn read_http(&mut self, node: &Node, cx: Context<'_>) {
        let Some(object) = Object::new(node, cx) else { return };
        self.http1_max_pending_requests = counter(&object, "http1MaxPendingRequests");
        self.http2_max_requests = counter(&object, "http2MaxRequests");
        self.max_requests_per_connection = counter(&object, "maxRequestsPerConnection");
        self.max_retries = counter(&object, "maxRetries");
        self.idle_timeout = object.optional("idleTimeout").map(|DurationOrZero(value)| value);
        self.max_concurrent_streams = counter(&object, "maxConcurrentStreams");
        let table = [("DEFAULT", 0, Some(false)), ("DO_NOT_UPGRADE", 1, Some(false)), ("UPGRADE", 2, Some(true))];
        let policy = object.node("h2UpgradePolicy");
        self.h2_upgrade =
            policy.and_then(|node| cx.field("h2UpgradePolicy").enumeration(node, &table)).unwrap_or(false);
        object.unsupported(&["useClientProtocol", "http2KeepAlive"]);
        object.finish();
    }
}

/// A limit; zero means that it is not set.
fn counter(object: &Object<'_>, name: &'static str) -> Option<u32> {
    object.integer(name, 0, i32::MAX.into()).filter(|&value: &u32| value != 0)
}

impl FromNode for TcpKeepalive {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let keepalive = Self {
            probes: object.optional("probes"),
            time: object.optional("time"),
            interval: object.optional("interval"),
        };
        for (name, value) in [("time", keepalive.time), ("interval", keepalive.interval)] {
            if value.is_some_and(|value| value.subsec_nanos() != 0) {
                let message = format!("{name} is not a whole number of seconds");
                cx.field(name).invalid(object.key_mark(name), message, "expected whole seconds");
            }
        }
        object.finish();
        Some(keepalive)
    }
}

impl FromNode for OutlierDetection {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let detection = Self {
            consecutive_5xx_errors: object.optional("consecutive5xxErrors"),
            consecutive_gateway_errors: object.optional("consecutiveGatewayErrors"),
            split_external_local_origin_errors: object.flag("splitExternalLocalOriginErrors"),
            consecutive_local_origin_failures: object.optional("consecutiveLocalOriginFailures"),
            interval: object.optional("interval"),
            base_ejection_time: object.optional("baseEjectionTime"),
            max_ejection_percent: object.integer("maxEjectionPercent", 0, 100),
            min_health_percent: object.integer("minHealthPercent", 0, 100).unwrap_or(0),
        };
        if object.has("consecutiveLocalOriginFailures") && !detection.split_external_local_origin_errors {
            let message = "consecutiveLocalOriginFailures has no effect without splitExternalLocalOriginErrors";
            cx.field("consecutiveLocalOriginFailures").invalid(
                object.key_mark("consecutiveLocalOriginFailures"),
                message,
                "needs splitExternalLocalOriginErrors: true",
            );
        }
        object.unsupported(&["consecutiveErrors", "outlierDetectionHttpErrorCodes"]);
        object.finish();
        Some(detection)
    }
}
