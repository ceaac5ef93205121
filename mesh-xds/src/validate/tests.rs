//! Violations of Envoy's rules, compared with what Envoy 1.40 says about the same.

use prost::{Message, Name};

use super::violations;
use crate::json::from_text;
use crate::proto::envoy::config::bootstrap::v3::Bootstrap;
use crate::proto::envoy::config::cluster::v3::Cluster;
use crate::proto::envoy::config::listener::v3::Listener;
use crate::proto::envoy::config::route::v3::RouteConfiguration;

fn found<M: Message + Name + Default>(text: &str) -> Vec<String> {
    let message: M = from_text(text, "test").unwrap_or_else(|error| panic!("{text}: {error}"));
    violations(&message, None).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check<M: Message + Name + Default>(text: &str, expected: &[&str]) {
    assert_eq!(found::<M>(text), expected, "{text}");
}

#[test]
fn clusters() {
    check::<Cluster>("{name: a}", &[]);
    check::<Cluster>("{}", &["name: must have at least 1 character"]);
    let cluster = |fields: &str, expected: &[&str]| check::<Cluster>(&format!("{{name: a, {fields}}}"), expected);
    cluster("connect_timeout: 0s", &["connect_timeout: 0s is not greater than 0s"]);
    cluster("cleanup_interval: -5s", &["cleanup_interval: -5s is not greater than 0s"]);
    cluster("lb_policy: 99", &["lb_policy: unknown value 99"]);
    cluster(
        "outlier_detection: {max_ejection_percent: 120, interval: 0s}",
        &[
            "outlier_detection.interval: 0s is not greater than 0s",
            "outlier_detection.max_ejection_percent: 120 is not in 0..=100",
        ],
    );
    cluster(
        "circuit_breakers: {thresholds: [{}, {retry_budget: {budget_percent: {value: 101}}}]}",
        &["circuit_breakers.thresholds[1].retry_budget.budget_percent.value: 101 is not in 0..=100"],
    );
    cluster("load_assignment: {}", &["load_assignment.cluster_name: must have at least 1 character"]);
    cluster(
        "load_assignment: {cluster_name: a, endpoints: [{priority: 129}]}",
        &["load_assignment.endpoints[0].priority: 129 is not in 0..=128"],
    );
    cluster(
        "load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {}}}]}]}",
        &[
            "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address: none of socket_address, pipe and envoy_internal_address is given",
        ],
    );
    cluster("transport_socket: {}", &["transport_socket.name: must have at least 1 character"]);
    cluster(
        "http2_protocol_options: {initial_stream_window_size: 1}",
        &["http2_protocol_options.initial_stream_window_size: 1 is not in 65535..=2147483647"],
    );
    cluster(
        "least_request_lb_config: {choice_count: 1}",
        &["least_request_lb_config.choice_count: 1 is not at least 2"],
    );
    cluster("track_timeout_budgets: true, filters: [{}]", &["filters[0].name: must have at least 1 character"]);
}

#[test]
fn messages_in_an_any_are_checked_with_it() {
    let text = "
filter_chains:
- filters:
  - name: hcm
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      max_request_headers_kb: 9000
      http_filters: [{}]
      upgrade_configs: [{}]
      access_log: [{typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog}}]
";
    let hcm = "filter_chains[0].filters[0].typed_config";
    let expected = [
        ": none of rds, route_config and scoped_routes is given",
        ".stat_prefix: must have at least 1 character",
        ".max_request_headers_kb: 9000 is not in 1..=8192",
        ".http_filters[0].name: must have at least 1 character",
        ".access_log[0].typed_config.path: must have at least 1 character",
    ];
    let found = found::<Listener>(text);
    for expected in expected {
        let expected = format!("{hcm}{expected}");
        assert!(found.iter().any(|found| found.starts_with(&expected)), "{expected} is not in {found:#?}");
    }
    assert!(!found.iter().any(|found| found.contains("upgrade_configs")), "{found:#?}");
}

#[test]
fn routes() {
    check::<RouteConfiguration>(
        "{virtual_hosts: [{}]}",
        &[
            "virtual_hosts[0].name: must have at least 1 character",
            "virtual_hosts[0].domains: must have at least 1 item",
        ],
    );
    let route = |route: &str, expected: &[&str]| {
        let text = format!("{{virtual_hosts: [{{name: a, domains: ['*'], routes: [{route}]}}]}}");
        let expected: Vec<String> = expected.iter().map(|error| format!("virtual_hosts[0].routes[0]{error}")).collect();
        assert_eq!(found::<RouteConfiguration>(&text), expected, "{route}");
    };
    route("{match: {prefix: /}, route: {cluster: a}}", &[]);
    route(
        "{match: {path_separated_prefix: '/a/'}, route: {cluster: a}}",
        &[".match.path_separated_prefix: \"/a/\" does not match ^[^?#]+[^?#/]$"],
    );
    route(
        "{match: {safe_regex: {}}, route: {cluster: ''}}",
        &[".match.safe_regex.regex: must have at least 1 character", ".route.cluster: must have at least 1 character"],
    );
    route("{match: {prefix: /}, direct_response: {status: 99}}", &[".direct_response.status: 99 is not in 200..=599"]);
    route(
        "{match: {prefix: /}, redirect: {host_redirect: \"a\\n\"}}",
        &[".redirect.host_redirect: \"a\\n\" has a line break or a NUL character"],
    );
    route(
        "{match: {prefix: /, headers: [{}]}, route: {cluster: a, weighted_clusters: null}, request_headers_to_add: [{}]}",
        &[".match.headers[0].name: must have at least 1 character", ".request_headers_to_add[0].header: is missing"],
    );
}

#[test]
fn a_bootstrap() {
    check::<Bootstrap>("{}", &[]);
    check::<Bootstrap>(
        "{layered_runtime: {layers: [{}]}}",
        &[
            "layered_runtime.layers[0]: none of static_layer, disk_layer, admin_layer and rtds_layer is given",
            "layered_runtime.layers[0].name: must have at least 1 character",
        ],
    );
    check::<Bootstrap>(
        "{stats_flush_interval: 0s}",
        &["stats_flush_interval: 0s is not at least 0.001s and less than 300s"],
    );
    check::<Bootstrap>(
        "{admin: {address: {socket_address: {port_value: 70000}}}}",
        &[
            "admin.address.socket_address.address: must have at least 1 character",
            "admin.address.socket_address.port_value: 70000 is not in 0..=65535",
        ],
    );
    let message: Bootstrap = from_text("{static_resources: {clusters: [{}]}}", "test").unwrap();
    assert_eq!(violations(&message, Some("static_resources")), []);
    assert_eq!(
        violations(&message, None)[0].to_string(),
        "static_resources.clusters[0].name: must have at least 1 character"
    );
}
