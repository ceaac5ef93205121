//! Envoy's statistics as text: `/stats` (`cluster.reviews.upstream_rq_total: 3`) and Prometheus
//! (`envoy_cluster_upstream_rq_total{envoy_cluster_name="reviews"} 3`).
//!
//! A statistic is visited as scope, name and value. Envoy extracts labels from a flat name by regular expressions; here
//! the scope is a value, so a cluster name may contain dots.

use std::fmt::{self, Write as _};

use mesh_core::route::{RequestPart, RequestScope};

use super::metric::{Histogram, HistogramSnapshot};

/// The object that a statistic belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The process.
    Process,
    /// The cluster with this `stat_name`.
    Cluster(&'a str),
    /// The connection managers with this `stat_prefix`.
    Http(&'a str),
    /// The TCP proxies with this `stat_prefix`.
    Tcp(&'a str),
    /// The listener with this `stat_prefix`.
    Listener(&'a str),
    /// One listener's connection manager.
    ListenerHttp {
        /// The listener's `stat_prefix`.
        listener: &'a str,
        /// The connection manager's `stat_prefix`.
        stat_prefix: &'a str,
    },
    /// Requests of a virtual cluster, or of routes with a `stat_prefix`.
    Requests(&'a RequestScope),
    /// The updates of a route configuration that connection managers use.
    RouteConfig {
        /// The connection manager's `stat_prefix`.
        stat_prefix: &'a str,
        /// Name of the route configuration.
        name: &'a str,
    },
}

/// A statistic's value.
#[derive(Clone, Copy, Debug)]
pub enum StatValue<'a> {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(u64),
    /// A distribution.
    Histogram(&'a Histogram),
    /// A text, which Prometheus does not have.
    Text(&'a str),
}

/// Takes scope, name within it, and value.
pub type StatVisitor<'v> = dyn FnMut(Scope<'_>, &str, StatValue<'_>) + 'v;

/// Something that has statistics.
pub trait StatSource: fmt::Debug + Send + Sync {
    /// Calls `visitor` with every statistic, in any order.
    fn visit(&self, visitor: &mut StatVisitor<'_>);

    /// Sets every counter to 0.
    fn reset_counters(&self);
}

/// One statistic, with its names in both formats.
#[derive(Clone, Debug)]
pub struct Stat {
    /// Such as `cluster.reviews.upstream_rq_200`.
    pub name: String,
    /// Such as `envoy_cluster_upstream_rq`.
    pub prometheus_name: String,
    /// Such as `envoy_response_code="200",envoy_cluster_name="reviews"`.
    pub prometheus_labels: String,
    /// Its value.
    pub value: StatSnapshot,
}

/// A statistic's value at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum StatSnapshot {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(u64),
    /// A distribution.
    Histogram(HistogramSnapshot),
    /// A text.
    Text(String),
}

impl Stat {
    /// Every statistic of `sources`, sorted by name.
    #[must_use]
    pub fn collect<'s>(sources: impl IntoIterator<Item = &'s dyn StatSource>) -> Vec<Self> {
        let mut stats = Vec::new();
        for source in sources {
            source.visit(&mut |scope, name, value| stats.push(Self::new(scope, name, value)));
        }
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        stats
    }

    fn new(scope: Scope<'_>, name: &str, value: StatValue<'_>) -> Self {
        let (prometheus_name, prometheus_labels) = scope.prometheus(name);
        let value = match value {
            StatValue::Counter(n) => StatSnapshot::Counter(n),
            StatValue::Gauge(n) => StatSnapshot::Gauge(n),
            StatValue::Histogram(histogram) => StatSnapshot::Histogram(histogram.snapshot()),
            StatValue::Text(text) => StatSnapshot::Text(text.to_owned()),
        };
        Self { name: format!("{scope}{name}"), prometheus_name, prometheus_labels, value }
    }

    /// Whether the statistic was ever changed. Envoy `?usedonly`.
    #[must_use]
    pub fn is_used(&self) -> bool {
        match &self.value {
            StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => *n != 0,
            StatSnapshot::Histogram(histogram) => histogram.count() != 0,
            StatSnapshot::Text(text) => !text.is_empty(),
        }
    }
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => Ok(()),
            Self::Cluster(name) => write!(f, "cluster.{name}."),
            Self::Http(stat_prefix) => write!(f, "http.{stat_prefix}."),
            Self::Tcp(stat_prefix) => write!(f, "tcp.{stat_prefix}."),
            Self::Listener(stat_prefix) => write!(f, "listener.{stat_prefix}."),
            Self::ListenerHttp { listener, stat_prefix } => write!(f, "listener.{listener}.http.{stat_prefix}."),
            Self::Requests(RequestScope { virtual_host, part }) => match part {
                RequestPart::VirtualCluster(name) => write!(f, "vhost.{virtual_host}.vcluster.{name}."),
                RequestPart::Route(stat_prefix) => write!(f, "vhost.{virtual_host}.route.{stat_prefix}."),
            },
            Self::RouteConfig { stat_prefix, name } => write!(f, "http.{stat_prefix}.rds.{name}."),
        }
    }
}

impl Scope<'_> {
    fn prometheus(&self, name: &str) -> (String, String) {
        let (stem, mut labels) = response_code(name);
        let prefix = match self {
            Self::Process => "",
            Self::Cluster(_) => "cluster_",
            Self::Http(_) => "http_",
            Self::Tcp(_) => "tcp_",
            Self::Listener(_) => "listener_",
            Self::ListenerHttp { .. } => "listener_http_",
            Self::Requests(RequestScope { part: RequestPart::VirtualCluster(_), .. }) => "vhost_vcluster_",
            Self::Requests(RequestScope { part: RequestPart::Route(_), .. }) => "vhost_route_",
            Self::RouteConfig { .. } => "http_rds_",
        };
        let mut label = |key: &str, value: &str| {
            let separator = if labels.is_empty() { "" } else { "," };
            let _ = write!(labels, "{separator}{key}=\"{}\"", Escaped(value));
        };
        match self {
            Self::Process => {}
            Self::Cluster(name) => label("envoy_cluster_name", name),
            Self::Http(stat_prefix) => label("envoy_http_conn_manager_prefix", stat_prefix),
            Self::Tcp(stat_prefix) => label("envoy_tcp_prefix", stat_prefix),
            Self::Listener(listener) => label("envoy_listener_address", listener),
            Self::ListenerHttp { listener, stat_prefix } => {
                label("envoy_http_conn_manager_prefix", stat_prefix);
                label("envoy_listener_address", listener);
            }
            Self::Requests(RequestScope { virtual_host, part }) => {
                match part {
                    RequestPart::VirtualCluster(name) => label("envoy_virtual_cluster", name),
                    RequestPart::Route(stat_prefix) => label("envoy_route", stat_prefix),
                }
                label("envoy_virtual_host", virtual_host);
            }
            Self::RouteConfig { stat_prefix, name } => {
                label("envoy_rds_route_config", name);
                label("envoy_http_conn_manager_prefix", stat_prefix);
            }
        }
        (format!("envoy_{prefix}{}", sanitized(stem)), labels)
    }
}

/// `upstream_rq_200` is `upstream_rq` with a label, `upstream_rq_2xx` is `upstream_rq_xx` with a label.
fn response_code(name: &str) -> (&str, String) {
    let Some((stem, code)) = name.rsplit_once("_rq_") else { return (name, String::new()) };
    let stem_end = stem.len() + "_rq".len();
    match code.as_bytes() {
        [class @ b'1'..=b'5', b'x', b'x'] => {
            let stem = if name.starts_with("upstream") { "upstream_rq_xx" } else { class_stem(name) };
            (stem, format!("envoy_response_code_class=\"{}\"", char::from(*class)))
        }
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => (&name[..stem_end], format!("envoy_response_code=\"{code}\"")),
        _ => (name, String::new()),
    }
}

/// The name with `xx` in place of the class. There are few such names, so no text has to be built.
fn class_stem(name: &str) -> &'static str {
    if name.starts_with("downstream") {
        "downstream_rq_xx"
    } else if name.starts_with("external") {
        "external_upstream_rq_xx"
    } else if name.starts_with("internal") {
        "internal_upstream_rq_xx"
    } else {
        "retry_upstream_rq_xx"
    }
}

/// The name with `_` in place of characters that Prometheus does not allow.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// A label value with `\`, `"` and line ends escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// `stats`, sorted by name, in Prometheus' text format.
#[must_use]
pub fn prometheus_text(stats: &[Stat]) -> String {
    let is_number = |stat: &&Stat| !matches!(stat.value, StatSnapshot::Text(_));
    let mut by_name: Vec<&Stat> = stats.iter().filter(is_number).collect();
    by_name.sort_by(|a, b| a.prometheus_name.cmp(&b.prometheus_name));
    let mut text = String::new();
    let mut current = "";
    for stat in by_name {
        if stat.prometheus_name != current {
            current = &stat.prometheus_name;
            let kind = match stat.value {
                StatSnapshot::Counter(_) => "counter",
                StatSnapshot::Gauge(_) => "gauge",
                StatSnapshot::Histogram(_) | StatSnapshot::Text(_) => "histogram",
            };
            let _ = writeln!(text, "# TYPE {current} {kind}");
        }
        match &stat.value {
            StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => {
                let _ = writeln!(text, "{current}{{{}}} {n}", stat.prometheus_labels);
            }
            StatSnapshot::Histogram(histogram) => {
                write_histogram(&mut text, current, &stat.prometheus_labels, histogram);
            }
            StatSnapshot::Text(_) => {}
        }
    }
    text
}

/// The lines of one histogram.
pub(crate) fn write_histogram(text: &mut String, name: &str, labels: &str, histogram: &HistogramSnapshot) {
    let separator = if labels.is_empty() { "" } else { "," };
    for (bound, count) in &histogram.cumulative {
        let _ = if bound.is_finite() {
            writeln!(text, "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {count}")
        } else {
            writeln!(text, "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {count}")
        };
    }
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", histogram.sum);
    let _ = writeln!(text, "{name}_count{{{labels}}} {}", histogram.count());
}

/// `stats` as lines of `name: value`, Envoy's `/stats`.
#[must_use]
pub fn plain_text(stats: &[Stat]) -> String {
    let mut text = String::new();
    // Envoy lists texts before numbers, and histograms after them.
    for stat in stats {
        if let StatSnapshot::Text(value) = &stat.value {
            let _ = writeln!(text, "{}: \"{value}\"", stat.name);
        }
    }
    for stat in stats {
        if let StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) = stat.value {
            let _ = writeln!(text, "{}: {n}", stat.name);
        }
    }
    for stat in stats {
        if let StatSnapshot::Histogram(histogram) = &stat.value {
            let _ = writeln!(text, "{}: {}", stat.name, HistogramLine(histogram));
        }
    }
    text
}

struct HistogramLine<'a>(&'a HistogramSnapshot);

impl fmt::Display for HistogramLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.count() == 0 {
            return f.write_str("No recorded values");
        }
        for (bound, count) in &self.0.cumulative {
            write!(f, "B{bound}({count}) ")?;
        }
        write!(f, "sum({})", self.0.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_envoys_in_both_formats() {
        let requests = |part| RequestScope { virtual_host: "all".into(), part };
        let of_cluster = requests(RequestPart::VirtualCluster("special".into()));
        let of_route = requests(RequestPart::Route("rt".into()));
        let cases = [
            (
                Scope::Requests(&of_cluster),
                "upstream_rq_total",
                "vhost.all.vcluster.special.upstream_rq_total",
                r#"envoy_vhost_vcluster_upstream_rq_total{envoy_virtual_cluster="special",envoy_virtual_host="all"}"#,
            ),
            (
                Scope::Requests(&of_route),
                "upstream_rq_200",
                "vhost.all.route.rt.upstream_rq_200",
                r#"envoy_vhost_route_upstream_rq{envoy_response_code="200",envoy_route="rt",envoy_virtual_host="all"}"#,
            ),
            (
                Scope::Http("ingress"),
                "downstream_rq_2xx",
                "http.ingress.downstream_rq_2xx",
                r#"envoy_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="ingress"}"#,
            ),
            (
                Scope::Cluster("outbound|80||a.b"),
                "upstream_rq_503",
                "cluster.outbound|80||a.b.upstream_rq_503",
                r#"envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="outbound|80||a.b"}"#,
            ),
            (
                Scope::Cluster("x"),
                "external.upstream_rq_5xx",
                "cluster.x.external.upstream_rq_5xx",
                r#"envoy_cluster_external_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="x"}"#,
            ),
            (
                Scope::Cluster("x"),
                "circuit_breakers.default.cx_open",
                "cluster.x.circuit_breakers.default.cx_open",
                r#"envoy_cluster_circuit_breakers_default_cx_open{envoy_cluster_name="x"}"#,
            ),
            (
                Scope::ListenerHttp { listener: "0.0.0.0_80", stat_prefix: "in" },
                "downstream_rq_completed",
                "listener.0.0.0.0_80.http.in.downstream_rq_completed",
                r#"envoy_listener_http_downstream_rq_completed{envoy_http_conn_manager_prefix="in",envoy_listener_address="0.0.0.0_80"}"#,
            ),
            (
                Scope::RouteConfig { stat_prefix: "in", name: "a.b:80" },
                "update_rejected",
                "http.in.rds.a.b:80.update_rejected",
                r#"envoy_http_rds_update_rejected{envoy_rds_route_config="a.b:80",envoy_http_conn_manager_prefix="in"}"#,
            ),
            (Scope::Process, "server.live", "server.live", "envoy_server_live{}"),
        ];
        for (scope, name, plain, prometheus) in cases {
            let stat = Stat::new(scope, name, StatValue::Counter(7));
            assert_eq!(stat.name, plain);
            assert_eq!(prometheus_text(&[stat]).lines().nth(1).unwrap(), format!("{prometheus} 7"));
        }
    }

    #[test]
    fn each_name_has_one_type_line_and_label_values_are_escaped() {
        let stats =
            ["b\"\\\n", "a"].map(|name| Stat::new(Scope::Cluster(name), "upstream_cx_active", StatValue::Gauge(1)));
        let text = prometheus_text(&stats);
        assert_eq!(text.matches("# TYPE envoy_cluster_upstream_cx_active gauge").count(), 1);
        assert!(text.contains(r#"envoy_cluster_name="b\"\\\n""#), "{text}");
    }

    #[test]
    fn a_histogram_has_buckets_sum_and_count() {
        let histogram = Histogram::default();
        histogram.observe(3);
        let stat = Stat::new(Scope::Http("in"), "downstream_rq_time", StatValue::Histogram(&histogram));
        assert!(stat.is_used());
        let text = prometheus_text(std::slice::from_ref(&stat));
        for line in [
            "# TYPE envoy_http_downstream_rq_time histogram",
            r#"envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="0.5"} 0"#,
            r#"envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="5"} 1"#,
            r#"envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="+Inf"} 1"#,
            r#"envoy_http_downstream_rq_time_sum{envoy_http_conn_manager_prefix="in"} 3"#,
            r#"envoy_http_downstream_rq_time_count{envoy_http_conn_manager_prefix="in"} 1"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert_eq!(plain_text(&[Stat::new(Scope::Process, "x", StatValue::Counter(1))]), "x: 1\n");
    }
}
