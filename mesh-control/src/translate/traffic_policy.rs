//! Load balancing, limits and outlier detection: a DestinationRule's policy becomes fields of a cluster.

use std::time::Duration;

use super::proto::{any, cluster as envoy, core, duration, percent, upstream_http};
use crate::config::{
    ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, TcpKeepalive,
    TrafficPolicy,
};

/// Time to connect unless a rule says otherwise. Istio `MeshConfig.connectTimeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Key of HTTP options in a cluster.
const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The blocks that apply to one port of one subset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy<'a> {
    pub(super) load_balancer: LoadBalancer,
    pub(super) connection_pool: Option<&'a ConnectionPool>,
    pub(super) outlier_detection: Option<&'a OutlierDetection>,
    pub(super) tls: Option<&'a ClientTls>,
}

impl<'a> Policy<'a> {
    /// The rule's policy for a port, with the blocks of the subset in place of the rule's.
    pub(super) fn of(rule: Option<&'a DestinationRule>, subset: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let mut policy = Self::default();
        if let Some(rule) = rule {
            policy.apply(&rule.traffic_policy, port);
        }
        if let Some(subset) = subset {
            policy.apply(subset, port);
        }
        policy
    }

    fn apply(&mut self, level: &'a TrafficPolicy, port: u16) {
        // A port's settings replace those of its level as a whole: what they omit has Istio's default.
        if let Some(settings) = level.port_level_settings.iter().find(|settings| settings.port.value == port) {
            *self = Self {
                load_balancer: settings.load_balancer.unwrap_or_default(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier_detection: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
            };
            return;
        }
        self.load_balancer = level.load_balancer.unwrap_or(self.load_balancer);
        self.connection_pool = level.connection_pool.as_ref().or(self.connection_pool);
        self.outlier_detection = level.outlier_detection.as_ref().or(self.outlier_detection);
        self.tls = level.tls.as_ref().or(self.tls);
    }

    /// Writes the policy into a cluster whose endpoints speak HTTP/2 or HTTP/1.1.
    pub(super) fn write(&self, cluster: &mut envoy::Cluster, is_http2: bool) {
        cluster.set_lb_policy(match self.load_balancer {
            LoadBalancer::LeastRequest => envoy::cluster::LbPolicy::LeastRequest,
            LoadBalancer::RoundRobin => envoy::cluster::LbPolicy::RoundRobin,
            LoadBalancer::Random => envoy::cluster::LbPolicy::Random,
        });
        self.write_limits(cluster);
        self.write_protocol(cluster, is_http2);
        let mut common = envoy::cluster::CommonLbConfig::default();
        if let Some(detection) = self.outlier_detection {
            cluster.outlier_detection = Some(outlier_detection(detection));
            // Istio has no panic mode unless `minHealthPercent` is set; Envoy's default is 50 %.
            common.healthy_panic_threshold = Some(percent::Percent { value: detection.min_health_percent.into() });
        }
        cluster.common_lb_config = Some(common);
    }

    /// Writes the limits of connections and requests.
    pub(super) fn write_limits(&self, cluster: &mut envoy::Cluster) {
        let unlimited = ConnectionPool::default();
        let pool = self.connection_pool.unwrap_or(&unlimited);
        cluster.connect_timeout = Some(duration(pool.connect_timeout.unwrap_or(CONNECT_TIMEOUT)));
        cluster.circuit_breakers = Some(circuit_breakers(pool));
    }

    fn write_protocol(&self, cluster: &mut envoy::Cluster, is_http2: bool) {
        let default = ConnectionPool::default();
        let pool = self.connection_pool.unwrap_or(&default);
        cluster.upstream_connection_options = pool.tcp_keepalive.map(|keepalive| envoy::UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp_keepalive(keepalive)),
            ..envoy::UpstreamConnectionOptions::default()
        });
        let options = http_options(pool, self.is_http2(is_http2), self.names_from_requests());
        if let Some(options) = options {
            cluster.typed_extension_protocol_options.insert(HTTP_PROTOCOL_OPTIONS.to_owned(), any(&options));
        }
    }

    /// Whether endpoints are called with HTTP/2: their protocol is HTTP/2, or they are upgraded.
    pub(super) fn is_http2(&self, is_http2: bool) -> bool {
        is_http2 || self.connection_pool.is_some_and(|pool| pool.h2_upgrade)
    }

    /// What TLS takes from requests because the rule does not say it: the server name, and the name in the certificate.
    fn names_from_requests(&self) -> Option<core::UpstreamHttpProtocolOptions> {
        let is_theirs = |tls: &&ClientTls| matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        let tls = self.tls.filter(is_theirs).filter(|tls| tls.sni.is_empty())?;
        Some(core::UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: tls.subject_alt_names.is_empty() && !tls.insecure_skip_verify,
            ..core::UpstreamHttpProtocolOptions::default()
        })
    }

    /// Writes the part that also holds on the inbound side: limits of connections, but not their protocol.
    pub(super) fn write_inbound(&self, cluster: &mut envoy::Cluster, is_http2: bool) {
        let pool = self.connection_pool.map(|pool| ConnectionPool { h2_upgrade: false, ..pool.clone() });
        let own = Policy { connection_pool: pool.as_ref(), ..Policy::default() };
        own.write_limits(cluster);
        own.write_protocol(cluster, is_http2);
        cluster.common_lb_config = Some(envoy::cluster::CommonLbConfig::default());
    }
}

/// No limit where the rule sets none: Envoy's own defaults do not apply.
fn circuit_breakers(pool: &ConnectionPool) -> envoy::CircuitBreakers {
    let limit = |value: Option<u32>| Some(value.unwrap_or(u32::MAX));
    let thresholds = envoy::circuit_breakers::Thresholds {
        max_connections: limit(pool.max_connections),
        max_pending_requests: limit(pool.http1_max_pending_requests),
        max_requests: limit(pool.http2_max_requests),
        max_retries: limit(pool.max_retries),
        ..envoy::circuit_breakers::Thresholds::default()
    };
    envoy::CircuitBreakers { thresholds: vec![thresholds], ..envoy::CircuitBreakers::default() }
}

fn tcp_keepalive(keepalive: TcpKeepalive) -> core::TcpKeepalive {
    let seconds = |value: Duration| u32::try_from(value.as_secs()).unwrap_or(u32::MAX);
    core::TcpKeepalive {
        keepalive_probes: keepalive.probes,
        keepalive_time: keepalive.time.map(seconds),
        keepalive_interval: keepalive.interval.map(seconds),
    }
}

/// `None` where Envoy's defaults are meant: HTTP/1.1 without limits.
fn http_options(
    pool: &ConnectionPool,
    is_http2: bool,
    names: Option<core::UpstreamHttpProtocolOptions>,
) -> Option<upstream_http::HttpProtocolOptions> {
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream_http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};

    let idle_timeout = pool.idle_timeout.or(pool.tcp_idle_timeout);
    let has_common =
        idle_timeout.is_some() || pool.max_requests_per_connection.is_some() || pool.max_connection_duration.is_some();
    if !is_http2 && !has_common && names.is_none() {
        return None;
    }
    let protocol = if is_http2 {
        ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions {
            max_concurrent_streams: pool.max_concurrent_streams,
            ..core::Http2ProtocolOptions::default()
        })
    } else {
        ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default())
    };
    Some(upstream_http::HttpProtocolOptions {
        upstream_http_protocol_options: names,
        common_http_protocol_options: has_common.then(|| core::HttpProtocolOptions {
            idle_timeout: idle_timeout.map(duration),
            max_requests_per_connection: pool.max_requests_per_connection,
            max_connection_duration: pool.max_connection_duration.map(duration),
            ..core::HttpProtocolOptions::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })),
        ..upstream_http::HttpProtocolOptions::default()
    })
}

fn outlier_detection(detection: &OutlierDetection) -> envoy::OutlierDetection {
    // A detector is off at 0, and success rates are never looked at.
    let enforcing = |count: Option<u32>| count.map(|count| if count == 0 { 0 } else { 100 });
    let counted = |count: Option<u32>| count.filter(|&count| count > 0);
    let local_origin = detection.consecutive_local_origin_failures;
    envoy::OutlierDetection {
        consecutive_5xx: counted(detection.consecutive_5xx_errors),
        enforcing_consecutive_5xx: enforcing(detection.consecutive_5xx_errors),
        consecutive_gateway_failure: counted(detection.consecutive_gateway_errors),
        enforcing_consecutive_gateway_failure: enforcing(detection.consecutive_gateway_errors),
        split_external_local_origin_errors: detection.split_external_local_origin_errors,
        consecutive_local_origin_failure: counted(local_origin),
        enforcing_consecutive_local_origin_failure: enforcing(local_origin),
        enforcing_local_origin_success_rate: detection.split_external_local_origin_errors.then_some(0),
        enforcing_success_rate: Some(0),
        interval: detection.interval.map(duration),
        base_ejection_time: detection.base_ejection_time.map(duration),
        max_ejection_percent: detection.max_ejection_percent,
        ..envoy::OutlierDetection::default()
    }
}
