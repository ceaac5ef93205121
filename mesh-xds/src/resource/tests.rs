//! Decoding of whole resources, written in YAML.

use std::time::Duration;

use mesh_core::filter::{FilterOverride, PerRouteConfig};
use mesh_core::model::{
    Action, ClusterName, ClusterSpecifier, Discovery, EndpointAddress, FractionalPercent, HeaderKeyFormat, HeaderMatch,
    Http1Options, Http2Keepalive, HttpProtocol, LbPolicy, MaxStreamDuration, PathMatcher, PathRewrite, RetryOn,
    RouteSource,
};

use super::*;
use crate::json;

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str =
    "{name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
const FAULT: &str =
    "{name: fault, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}}";

fn decode_text<M: Message + Name + Default>(
    yaml: &str,
    decode: fn(&M) -> Result<Decoded, Box<ResourceError>>,
) -> Result<Decoded, String> {
    let message: M = json::from_text(yaml, "test").unwrap_or_else(|error| panic!("{yaml}: {error}"));
    decode(&message).map_err(|error| error.to_string())
}

fn cluster(yaml: &str) -> Result<Arc<model::Cluster>, String> {
    match decode_text(yaml, decode_cluster)?.resource {
        Resource::Cluster(cluster) => Ok(cluster),
        other => panic!("{other:?}"),
    }
}

fn assignment(yaml: &str) -> Result<Arc<model::LoadAssignment>, String> {
    match decode_text(yaml, decode_endpoints)?.resource {
        Resource::ClusterLoadAssignment { assignment, .. } => Ok(assignment),
        other => panic!("{other:?}"),
    }
}

/// One route of a virtual host for every domain.
fn route(yaml: &str) -> Result<model::Route, String> {
    let text = format!("{{name: rc, virtual_hosts: [{{name: all, domains: ['*'], routes: [{yaml}]}}]}}");
    match decode_text(&text, decode_routes)?.resource {
        Resource::RouteConfiguration(config) => Ok(config.virtual_hosts[0].routes[0].clone()),
        other => panic!("{other:?}"),
    }
}

fn route_action(yaml: &str) -> Result<model::RouteAction, String> {
    match route(&format!("{{match: {{prefix: /}}, route: {yaml}}}"))?.action {
        Action::Route(action) => Ok(*action),
        other => panic!("{other:?}"),
    }
}

/// A listener in process whose connection manager has these fields and a fault filter.
fn hcm(fields: &str) -> Result<Arc<model::HttpConnectionManager>, String> {
    let text = format!(
        "{{name: l, api_listener: {{api_listener: {{'@type': {HCM}, stat_prefix: s, rds: {{route_config_name: r, config_source: \
         {{ads: {{}}}}}}, http_filters: [{FAULT}, {ROUTER}]{fields}}}}}}}"
    );
    match decode_text(&text, decode_listener)?.resource {
        Resource::Listener(listener) => Ok(Arc::clone(listener.http_connection_manager().unwrap())),
        other => panic!("{other:?}"),
    }
}

fn check<T: fmt::Debug>(decoded: Result<T, String>, expected_error: &str) {
    match decoded {
        Err(error) => assert_eq!(error, expected_error),
        Ok(decoded) => panic!("expected {expected_error:?}, decoded {decoded:?}"),
    }
}

#[test]
fn a_listener_of_grpc_needs_no_stat_prefix() {
    let api = format!(
        "api_listener: {{api_listener: {{'@type': {HCM}, stat_prefix: '', rds: {{route_config_name: r, config_source: {{ads: {{}}}}}}, http_filters: [{ROUTER}]}}}}"
    );
    let decode = |fields: &str| decode_text(&format!("{{{fields}}}"), decode_listener).map(drop);
    assert_eq!(decode(&format!("name: a:80, {api}")), Ok(()));
    let hcm = format!(
        "{{'@type': {HCM}, rds: {{route_config_name: r, config_source: {{ads: {{}}}}}}, http_filters: [{ROUTER}]}}"
    );
    let socket = format!(
        "address: {{socket_address: {{address: '::', port_value: 80}}}}, filter_chains: [{{filters: [{{name: h, typed_config: {hcm}}}]}}]"
    );
    assert_eq!(decode(&format!("name: 'xds.istio.io/grpc/lds/inbound/[::]:80', {socket}")), Ok(()));
    let error = "listener l: filter_chains[0].filters[0].typed_config.stat_prefix: must have at least 1 character";
    assert_eq!(decode(&format!("name: l, {socket}")), Err(error.to_owned()));
}

#[test]
fn streams_of_an_api_listener_may_be_idle_unless_it_has_a_limit() {
    assert_eq!(hcm("").unwrap().stream_idle_timeout, None);
    assert_eq!(hcm(", stream_idle_timeout: 5s").unwrap().stream_idle_timeout, Some(Duration::from_secs(5)));
}

#[test]
fn unset_fields_of_a_cluster_have_envoys_defaults() {
    let decoded = cluster("{name: a}").unwrap();
    let mut expected = model::Cluster::new("a", Discovery::Static(model::LoadAssignment::default()));
    assert_eq!(*decoded, expected);
    expected.stat_name = "b".into();
    assert_eq!(*cluster("{name: a, alt_stat_name: b, load_assignment: {cluster_name: a}}").unwrap(), expected);
}

#[test]
fn the_discovery_type_of_a_cluster_is_decoded() {
    let eds = cluster("{name: a, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}").unwrap();
    assert_eq!(eds.discovery, Discovery::Eds { service_name: "a".into() });
    let endpoint = "{cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {hostname: h, address: {socket_address: {address: \
                    db.test, port_value: 5}}}}]}]}";
    let dns = cluster(&format!("{{name: a, type: LOGICAL_DNS, respect_dns_ttl: true, load_assignment: {endpoint}}}"));
    let Discovery::LogicalDns(assignment, options) = &dns.unwrap().discovery else { panic!() };
    let address = &assignment.localities[0].endpoints[0].address;
    assert_eq!(*address, EndpointAddress::Name { host: "db.test".into(), port: 5 });
    assert!(options.respect_dns_ttl);
    let at_pipe = |path: &str| {
        let address = format!("{{endpoint: {{address: {{pipe: {{path: {path}, mode: 432}}}}}}}}");
        cluster(&format!(
            "{{name: a, type: STATIC, load_assignment: {{cluster_name: a, endpoints: [{{lb_endpoints: [{address}]}}]}}}}"
        ))
    };
    let Discovery::Static(assignment) = &at_pipe("/run/sds.sock").unwrap().discovery else { panic!() };
    assert_eq!(assignment.localities[0].endpoints[0].address, EndpointAddress::Pipe("/run/sds.sock".into()));
    check(
        at_pipe(&"x".repeat(108)),
        "cluster a: load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path: 108 bytes are more than 107",
    );

    check(
        cluster("{name: a, type: EDS, eds_cluster_config: {eds_config: {path: /tmp/x}}}"),
        "cluster a: eds_cluster_config.eds_config: a file: only resources of a bootstrap may name files",
    );
    check(
        cluster("{name: a, type: LOGICAL_DNS}"),
        "cluster a: load_assignment: LOGICAL_DNS takes exactly one endpoint, not 0",
    );
    let Discovery::OriginalDst(options) = cluster(
        "{name: a, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, cleanup_interval: 7s, original_dst_lb_config: \
         {use_http_header: true, upstream_port_override: 81}, upstream_bind_config: {source_address: {address: 127.0.0.6, \
         port_value: 0}}}",
    )
    .map(|cluster| {
        assert_eq!(cluster.source_address, Some("127.0.0.6:0".parse().unwrap()));
        cluster.discovery.clone()
    })
    .unwrap() else {
        panic!()
    };
    assert_eq!(options.http_header_name.unwrap(), "x-envoy-original-dst-host");
    assert_eq!(options.upstream_port_override.unwrap().get(), 81);
    assert_eq!(options.cleanup_interval, Duration::from_secs(7));
    check(
        cluster("{name: a, type: ORIGINAL_DST}"),
        "cluster a: lb_policy: ROUND_ROBIN: ORIGINAL_DST takes CLUSTER_PROVIDED only",
    );
    check(
        cluster("{name: a, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, load_assignment: {cluster_name: a}}"),
        "cluster a: load_assignment: cannot be given in a cluster of type ORIGINAL_DST",
    );
    check(
        cluster("{name: a, type: STATIC, lb_policy: CLUSTER_PROVIDED}"),
        "cluster a: lb_policy: CLUSTER_PROVIDED: not supported",
    );
    check(cluster("{}"), "cluster (unnamed): name: must have at least 1 character");
}

#[test]
fn the_lb_policy_comes_from_the_old_field_or_the_first_known_new_one() {
    let least = cluster(
        "{name: a, lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 3, active_request_bias: \
         {default_value: 0.5, runtime_key: x}}}",
    );
    let expected = LbPolicy::LeastRequest { choice_count: 3.try_into().unwrap(), active_request_bias_milli: 500 };
    assert_eq!(least.unwrap().lb_policy, expected);
    let policy = |name: &str, kind: &str, rest: &str| {
        let url = format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{name}.v3.{kind}");
        format!("{{typed_extension_config: {{name: {name}, typed_config: {{'@type': {url}{rest}}}}}}}")
    };
    let wrr = policy(
        "wrr_locality",
        "WrrLocality",
        &format!(", endpoint_picking_policy: {{policies: [{}]}}", policy("random", "Random", "")),
    );
    let maglev = policy("maglev", "Maglev", "");
    let decoded = cluster(&format!("{{name: a, load_balancing_policy: {{policies: [{maglev}, {wrr}]}}}}")).unwrap();
    assert_eq!((decoded.lb_policy, decoded.locality_weighted_lb), (LbPolicy::Random, true));
    check(
        cluster(&format!("{{name: a, load_balancing_policy: {{policies: [{maglev}]}}}}")),
        "cluster a: load_balancing_policy.policies: none of [maglev (envoy.load_balancing_policies.maglev)] is supported",
    );
    check(cluster("{name: a, lb_policy: RING_HASH}"), "cluster a: lb_policy: RING_HASH: not supported");
    check(
        cluster("{name: a, lb_policy: LOAD_BALANCING_POLICY_CONFIG}"),
        "cluster a: load_balancing_policy: is missing",
    );
}

#[test]
fn panic_may_fail_traffic() {
    let fails =
        |config: &str| cluster(&format!("{{name: a, common_lb_config: {config}}}")).unwrap().fail_traffic_on_panic;
    assert!(fails("{zone_aware_lb_config: {fail_traffic_on_panic: true}}"));
    assert!(!fails("{zone_aware_lb_config: {min_cluster_size: 6}}") && !fails("{locality_weighted_lb_config: {}}"));
}

#[test]
fn thresholds_and_outlier_detection_are_decoded_or_refused_with_their_bounds() {
    let decoded = cluster(
        "{name: a, circuit_breakers: {thresholds: [{max_requests: 1, retry_budget: {}}, {priority: HIGH, \
         max_retries: 9}, {max_requests: 2}]}, outlier_detection: {consecutive_5xx: 7, enforcing_success_rate: 0, \
         base_ejection_time: 400s}}",
    )
    .unwrap();
    let breakers = decoded.circuit_breakers;
    assert_eq!((breakers.default.max_requests, breakers.default.max_connections), (1, 1024));
    assert_eq!(breakers.default.retry_budget.unwrap().budget_percent.parts_per_million(), 200_000);
    assert_eq!((breakers.high.max_retries, breakers.high.max_requests), (9, 1024));
    let budget = |budget: &str| {
        let thresholds = format!("{{thresholds: [{{retry_budget: {budget}}}]}}");
        let decoded = cluster(&format!("{{name: a, circuit_breakers: {thresholds}}}"));
        decoded.map(|cluster| cluster.circuit_breakers.default.retry_budget.unwrap())
    };
    let small = budget("{budget_percent: {value: 12.5}, min_retry_concurrency: 0}").unwrap();
    assert_eq!((small.budget_percent.parts_per_million(), small.min_retry_concurrency), (125_000, 0));
    assert!(budget("{budget_percent: {value: 100.5}}").is_err());
    let outlier = decoded.outlier_detection.unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.max_ejection_time), (7, Duration::from_secs(400)));

    let outlier = |field: &str| cluster(&format!("{{name: a, outlier_detection: {{{field}}}}}"));
    check(
        outlier("max_ejection_percent: 120"),
        "cluster a: outlier_detection.max_ejection_percent: 120 is not in 0..=100",
    );
    check(
        outlier("max_ejection_time: 1s"),
        "cluster a: outlier_detection.max_ejection_time: 1s is below base_ejection_time, 30s",
    );
    check(
        outlier("enforcing_failure_percentage_local_origin: 100"),
        "cluster a: outlier_detection.enforcing_failure_percentage_local_origin: 100: not supported, only 0 is",
    );
    let compared =
        outlier("success_rate_stdev_factor: 1000, enforcing_failure_percentage: 7, failure_percentage_threshold: 9");
    let compared = compared.unwrap().outlier_detection.unwrap();
    assert_eq!((compared.success_rate.enforcing.get(), compared.success_rate.stdev_factor), (100, 1000), "as in Envoy");
    assert_eq!((compared.failure_percentage.enforcing.get(), compared.failure_percentage.threshold.get()), (7, 9));
    assert!(!outlier("enforcing_success_rate: 0").unwrap().outlier_detection.unwrap().compares());
    check(outlier("interval: 0s"), "cluster a: outlier_detection.interval: 0s is not greater than 0s");
}

#[test]
fn protocol_options_choose_the_http_version() {
    let options = |fields: &str| {
        let url = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster(&format!("{{name: a, typed_extension_protocol_options: {{{key}: {{'@type': {url}, {fields}}}}}}}"))
    };
    let http2 = options(
        "explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 7}}, common_http_protocol_options: \
         {idle_timeout: 0s, max_requests_per_connection: 3}",
    );
    let http2 = http2.unwrap().http_protocol_options;
    assert_eq!((http2.protocol, http2.max_concurrent_streams, http2.idle_timeout), (HttpProtocol::Http2, 7, None));
    assert_eq!(http2.max_requests_per_connection, 3.try_into().ok());
    let downstream = options("use_downstream_protocol_config: {}").unwrap();
    assert_eq!(downstream.http_protocol_options.protocol, HttpProtocol::UseDownstream);
    let old = cluster("{name: a, http2_protocol_options: {}}").unwrap();
    assert_eq!(old.http_protocol_options.protocol, HttpProtocol::Http2);
    assert!(options("auto_config: {}").unwrap_err().contains("auto_config: not supported"));
}

#[test]
fn response_headers_are_limited() {
    let limits = |fields: &str| {
        cluster(&format!("{{name: a, {fields}}}")).map(|cluster| {
            let options = cluster.http_protocol_options;
            (options.max_response_headers_kb, options.max_headers_count)
        })
    };
    assert_eq!(limits("http2_protocol_options: {}"), Ok((None, 100)));
    let of = |common: &str| {
        limits(&format!("http2_protocol_options: {{}}, common_http_protocol_options: {{{common}}}"))
            .map_err(|error| error.replace("cluster a: common_http_protocol_options.", ""))
    };
    assert_eq!(of("max_response_headers_kb: 8192, max_headers_count: 1"), Ok((Some(8192), 1)));
    check(of("max_response_headers_kb: 0"), "max_response_headers_kb: 0 is not in 1..=8192");
    check(of("max_response_headers_kb: 8193"), "max_response_headers_kb: 8193 is not in 1..=8192");
    check(of("max_headers_count: 0"), "max_headers_count: 0 is not at least 1");
}

/// The options of a cluster, whichever field they are in.
fn upstream_http1(fields: &str) -> Result<Http1Options, String> {
    let http1 = format!("http_protocol_options: {{{fields}}}");
    let options = |fields: &str| {
        let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        format!("typed_extension_protocol_options: {{{name}: {{'@type': type.googleapis.com/{name}, {fields}}}}}")
    };
    let [old, explicit, downstream] = [
        http1.clone(),
        options(&format!("explicit_http_config: {{{http1}}}")),
        options(&format!("use_downstream_protocol_config: {{{http1}}}")),
    ]
    .map(|fields| {
        let decoded = cluster(&format!("{{name: a, {fields}}}"));
        let error = |error: String| error.rsplit_once("http_protocol_options.").expect("its path").1.to_owned();
        decoded.map(|cluster| cluster.http_protocol_options.http1).map_err(error)
    });
    assert_eq!((&explicit, &downstream), (&old, &old));
    old
}

fn stateful_formatter(fields: &str) -> String {
    format!(
        "header_key_format: {{stateful_formatter: {{name: preserve_case, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig, \
         {fields}}}}}}}"
    )
}

#[test]
fn clusters_have_http1_options() {
    let decode = upstream_http1;
    assert_eq!(decode(""), Ok(Http1Options::default()));
    let with = |set: fn(&mut Http1Options)| {
        let mut options = Http1Options::default();
        set(&mut options);
        Ok(options)
    };
    assert_eq!(decode("enable_trailers: true"), with(|options| options.enable_trailers = true));
    assert_eq!(decode("allow_chunked_length: true"), with(|options| options.allow_chunked_length = true));
    let format = decode("header_key_format: {proper_case_words: {}}");
    assert_eq!(format, with(|options| options.header_key_format = HeaderKeyFormat::ProperCaseWords));
    let format = decode(&stateful_formatter(""));
    assert_eq!(format, with(|options| options.header_key_format = HeaderKeyFormat::PreserveCase));
    // These concern requests of clients.
    let ignored = "allow_absolute_url: false, allow_custom_methods: true, default_host_for_http_10: h";
    assert_eq!(decode(ignored), Ok(Http1Options::default()));
    check(decode("accept_http_10: true"), "accept_http_10: has no effect in a cluster");
}

#[test]
fn http1_options_that_cannot_be_obeyed_are_refused() {
    let format_at = "header_key_format.stateful_formatter.typed_config";
    for (fields, refused) in [
        ("send_fully_qualified_url: true", "send_fully_qualified_url: not supported".to_owned()),
        ("ignore_http_11_upgrade: [{exact: a}]", "ignore_http_11_upgrade: not supported".to_owned()),
        (
            "header_key_format: {}",
            "header_key_format: none of proper_case_words and stateful_formatter is given".to_owned(),
        ),
        ("header_key_format: {stateful_formatter: {name: a}}", format!("{format_at}: is missing")),
        (
            &stateful_formatter("forward_reason_phrase: true"),
            format!("{format_at}.forward_reason_phrase: not supported"),
        ),
        (
            &stateful_formatter("formatter_type_on_envoy_headers: PROPER_CASE"),
            format!("{format_at}.formatter_type_on_envoy_headers: not supported"),
        ),
    ] {
        check(upstream_http1(fields), &refused);
        let at = "listener l: api_listener.api_listener.http_protocol_options";
        check(hcm(&format!(", http_protocol_options: {{{fields}}}")), &format!("{at}.{refused}"));
    }
}

#[test]
fn listeners_have_http1_options() {
    let options = |fields: &str| {
        let decoded = hcm(&format!(", http_protocol_options: {{{fields}}}")).unwrap();
        (decoded.http1, decoded.accept_http_10.clone())
    };
    assert_eq!(options(""), (Http1Options::default(), None));
    let (decoded, accept_http_10) = options(
        "allow_absolute_url: false, allow_chunked_length: true, enable_trailers: true, allow_custom_methods: true, \
         override_stream_error_on_invalid_http_message: true, header_key_format: {proper_case_words: {}}, \
         accept_http_10: true, default_host_for_http_10: h",
    );
    let mut expected = Http1Options::default();
    expected.allow_absolute_url = false;
    expected.allow_chunked_length = true;
    expected.enable_trailers = true;
    expected.allow_custom_methods = true;
    expected.override_stream_error_on_invalid_http_message = true;
    expected.header_key_format = HeaderKeyFormat::ProperCaseWords;
    assert_eq!((decoded, accept_http_10.as_deref()), (expected, Some("h")));
    assert_eq!(options(&stateful_formatter("")).0.header_key_format, HeaderKeyFormat::PreserveCase);

    assert!(!hcm("").unwrap().proxy_100_continue);
    assert!(hcm(", proxy_100_continue: true").unwrap().proxy_100_continue);
}

#[test]
fn the_error_handling_of_http1_overrides_that_of_the_listener() {
    let keeps_connections = |fields: &str| hcm(fields).unwrap().http1.override_stream_error_on_invalid_http_message;
    let listener = ", stream_error_on_invalid_http_message: true";
    let http1 = |value| format!(", http_protocol_options: {{override_stream_error_on_invalid_http_message: {value}}}");
    assert!(keeps_connections(listener));
    assert!(keeps_connections(&format!("{listener}, http_protocol_options: {{}}")));
    assert!(!keeps_connections(&format!("{listener}{}", http1(false))));
    assert!(keeps_connections(&http1(true)));
    assert!(!keeps_connections(""));
}

#[test]
fn listeners_may_refuse_or_drop_headers_with_underscores() {
    use model::HeadersWithUnderscoresAction::{Allow, DropHeader, RejectRequest};
    let of = |options: &str| {
        hcm(&format!(", common_http_protocol_options: {{{options}}}")).map(|hcm| hcm.headers_with_underscores_action)
    };
    assert_eq!(of(""), Ok(Allow));
    assert_eq!(of("headers_with_underscores_action: REJECT_REQUEST"), Ok(RejectRequest));
    assert_eq!(of("headers_with_underscores_action: DROP_HEADER"), Ok(DropHeader));
    let refused = of("headers_with_underscores_action: 7");
    check(
        refused,
        "listener l: api_listener.api_listener.common_http_protocol_options.headers_with_underscores_action: unknown value 7",
    );
}

#[test]
fn paths_with_escaped_slashes_are_decoded() {
    use model::PathWithEscapedSlashesAction::{KeepUnchanged, RejectRequest, UnescapeAndForward, UnescapeAndRedirect};
    for (name, expected) in [
        ("IMPLEMENTATION_SPECIFIC_DEFAULT", KeepUnchanged),
        ("KEEP_UNCHANGED", KeepUnchanged),
        ("REJECT_REQUEST", RejectRequest),
        ("UNESCAPE_AND_REDIRECT", UnescapeAndRedirect),
        ("UNESCAPE_AND_FORWARD", UnescapeAndForward),
    ] {
        let hcm = hcm(&format!(", path_with_escaped_slashes_action: {name}")).unwrap();
        assert_eq!(hcm.path_normalization.path_with_escaped_slashes_action, expected);
    }
}

#[test]
fn upgrades_are_allowed_once_by_type_and_connect_may_go_to_tcp() {
    let of = |configs: &str| route_action(&format!("{{cluster: c, upgrade_configs: [{configs}]}}"));
    let action =
        of("{upgrade_type: websocket, enabled: false}, {upgrade_type: connect, connect_config: {allow_post: true}}");
    let action = action.unwrap();
    assert!(!action.upgrade_configs[0].enabled && action.upgrade_configs[1].enabled);
    assert!(action.connect_config.unwrap().allow_post);
    assert!(action.sends_data_only(&http::Method::POST) && !action.sends_data_only(&http::Method::GET));
    assert_eq!(of("{upgrade_type: CONNECT}").unwrap().connect_config, None);
    let refused = |configs: &str, reason: &str| {
        let error = of(configs).unwrap_err();
        assert!(error.ends_with(reason), "{error}");
    };
    refused("{upgrade_type: a}, {upgrade_type: A}", "upgrade_configs[1]: \"A\" occurs twice");
    refused("{upgrade_type: a, connect_config: {}}", "upgrade_configs[0].connect_config: \"a\" is not CONNECT");
    let proxy = "{upgrade_type: CONNECT, connect_config: {proxy_protocol_config: {}}}";
    refused(proxy, "connect_config.proxy_protocol_config: not supported");
    let error = hcm(", upgrade_configs: [{upgrade_type: a}, {upgrade_type: A}]").unwrap_err();
    assert!(error.ends_with("upgrade_configs[1]: \"A\" occurs twice"), "{error}");
}

#[test]
fn http2_connections_have_a_keepalive() {
    let decode = |fields: &str| {
        cluster(&format!("{{name: a, http2_protocol_options: {{connection_keepalive: {{{fields}}}}}}}"))
            .map(|cluster| cluster.http_protocol_options.connection_keepalive.unwrap())
    };
    let second = Duration::from_secs(1);
    assert_eq!(decode("interval: 60s, timeout: 1s").unwrap(), Http2Keepalive::new(60 * second, second));
    let all = "interval: 60s, timeout: 1s, interval_jitter: {value: 50}, connection_idle_interval: 5s";
    let mut expected = Http2Keepalive::new(60 * second, second);
    expected.interval_jitter = FractionalPercent::from_parts_per_million(500_000);
    expected.connection_idle_interval = Some(5 * second);
    assert_eq!(decode(all).unwrap(), expected);
    let at = "http2_protocol_options.connection_keepalive.";
    for (fields, refused) in [
        ("interval: 60s", "timeout: is missing"),
        ("timeout: 0s", "timeout: 0s is not at least 0.001s"),
        ("timeout: 1s, interval: 0.0005s", "interval: 0.0005s is not at least 0.001s"),
        ("timeout: 1s, interval_jitter: {value: 101}", "interval_jitter.value: 101 is not in 0..=100"),
    ] {
        let error = decode(fields).unwrap_err();
        assert!(error.contains(&format!("{at}{refused}")), "{fields}: {error}");
    }
}

#[test]
fn endpoints_have_weights_health_and_istios_workload() {
    let decoded = assignment(
        "{cluster_name: a, policy: {overprovisioning_factor: 200, drop_overloads: [{category: load, \
         drop_percentage: {numerator: 5}}, {category: shed}]}, endpoints: [{locality: {region: r}, \
         load_balancing_weight: 3, lb_endpoints: [{health_status: DRAINING, load_balancing_weight: 5, endpoint: \
         {address: {socket_address: {address: '::1', port_value: 80}}}, metadata: {filter_metadata: {istio: \
         {workload: 'reviews-v1;books;reviews;v1;Kubernetes'}}}}]}]}",
    )
    .unwrap();
    assert_eq!(decoded.overprovisioning_factor, 200);
    let drops = decoded.drop_overloads.iter().map(|drop| (&*drop.category, drop.drop_percentage.parts_per_million()));
    assert_eq!(drops.collect::<Vec<_>>(), [("load", 50_000), ("shed", 0)]);
    let group = &decoded.localities[0];
    assert_eq!((&*group.locality.region, group.load_balancing_weight), ("r", 3.try_into().ok()));
    let endpoint = &group.endpoints[0];
    assert_eq!((endpoint.load_balancing_weight.get(), endpoint.health_status), (5, model::HealthStatus::Draining));
    let workload = endpoint.workload.as_ref().unwrap();
    let parts = [&workload.name, &workload.namespace, &workload.canonical_service, &workload.canonical_revision];
    assert_eq!(parts.map(|part| &**part), ["reviews-v1", "books", "reviews", "v1"]);

    check(
        assignment("{cluster_name: a, endpoints: [{priority: 1}]}"),
        "endpoints a: endpoints: there is a priority 1, but no priority 0; priorities have no gaps",
    );
    check(
        assignment("{cluster_name: a, policy: {drop_overloads: [{category: x}, {drop_percentage: {numerator: 1}}]}}"),
        "endpoints a: policy.drop_overloads[1].category: must have at least 1 character",
    );
    check(
        assignment(
            "{cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 1.2.3.4, \
             port_value: 70000}}}}]}]}",
        ),
        "endpoints a: endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 70000 is not in \
         0..=65535",
    );
}

#[test]
fn routes_match_on_paths_headers_and_parameters() {
    let decoded = route(
        "{name: rt, match: {path_separated_prefix: /a, case_sensitive: false, grpc: {}, headers: [{name: ':method', \
         string_match: {exact: GET}}, {name: x-n, range_match: {start: 1, end: 5}, invert_match: true}], \
         query_parameters: [{name: q}], runtime_fraction: {default_value: {numerator: 5, denominator: TEN_THOUSAND}}}, \
         non_forwarding_action: {}, decorator: {operation: op}, metadata: {filter_metadata: {istio: {config: \
         /apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews}}}}",
    )
    .unwrap();
    let matches = &decoded.matches;
    assert_eq!(matches.path, PathMatcher::PathSeparatedPrefix("/a".into()));
    assert!(!matches.case_sensitive && matches.grpc);
    assert_eq!(matches.headers[1].matches, HeaderMatch::Range { start: 1, end: 5 });
    assert!(matches.headers[1].invert_match);
    assert_eq!(matches.runtime_fraction.unwrap().parts_per_million(), 500);
    assert_eq!((decoded.action, &*decoded.operation), (Action::NonForwarding, "op"));
    assert_eq!(&*decoded.origin, "virtual-service/reviews.default");

    let bad = |matching: &str, reason: &str| {
        let text = format!("{{match: {{{matching}}}, non_forwarding_action: {{}}}}");
        check(route(&text), &format!("route configuration rc: virtual_hosts[0].routes[0].match{reason}"));
    };
    bad("safe_regex: {regex: 'a('}", ".safe_regex.regex: invalid regular expression \"a(\": unclosed group");
    bad(
        "",
        ": none of prefix, path, safe_regex, connect_matcher, path_separated_prefix and path_match_policy is given",
    );
    bad("prefix: /, headers: [{name: 'a b'}]", ".headers[0].name: \"a b\" is not the name of a header");
    bad("prefix: /, headers: [{name: a, range_match: {}}]", ".headers[0].range_match: 0..0 is empty");
    bad("prefix: /, filter_state: [{key: x}]", ".filter_state: not supported");
}

#[test]
fn a_route_action_has_istios_timeouts_retries_and_splits() {
    let decoded = route_action(
        "{weighted_clusters: {clusters: [{name: v1, weight: 75}, {name: v2, weight: 25, request_headers_to_add: \
         [{header: {key: x-canary, value: '1'}}]}]}, timeout: 0s, max_grpc_timeout: 3s, max_stream_duration: \
         {max_stream_duration: 4s}, prefix_rewrite: /new, retry_policy: {retry_on: 'connect-failure,unavailable', \
         num_retries: 2, host_selection_retry_max_attempts: 5, retry_host_predicate: [{name: \
         envoy.retry_host_predicates.previous_hosts}], retry_back_off: {base_interval: 0.05s}}}",
    )
    .unwrap();
    let ClusterSpecifier::Weighted(split) = &decoded.cluster else { panic!("{decoded:?}") };
    assert_eq!(split.total_weight().unwrap().get(), 100);
    assert_eq!(split.clusters[1].request_headers.add[0].name, "x-canary");
    assert_eq!((decoded.timeout, &decoded.path_rewrite), (Duration::ZERO, &PathRewrite::Prefix("/new".into())));
    let expected = MaxStreamDuration {
        max_stream_duration: Some(Duration::from_secs(4)),
        grpc_timeout_header_max: Some(Duration::from_secs(3)),
        grpc_timeout_header_offset: Duration::ZERO,
    };
    assert_eq!(decoded.max_stream_duration, Some(expected));
    let retry = decoded.retry_policy.unwrap();
    assert_eq!(retry.retry_on, RetryOn::CONNECT_FAILURE.union(RetryOn::UNAVAILABLE));
    assert_eq!((retry.num_retries, retry.previous_hosts, retry.host_selection_retry_max_attempts), (2, true, 5));
    assert_eq!(retry.back_off.max_interval, Duration::from_millis(500));

    let bad = |action: &str, reason: &str| {
        let path = "route configuration rc: virtual_hosts[0].routes[0].route";
        check(route_action(action), &format!("{path}{reason}"));
    };
    bad(
        "{}",
        ": none of cluster, cluster_header, weighted_clusters, cluster_specifier_plugin and \
         inline_cluster_specifier_plugin is given",
    );
    bad(
        "{weighted_clusters: {clusters: [{name: a}]}}",
        ".weighted_clusters.clusters: the sum of weights is not in 1..=4294967295",
    );
    bad(
        "{cluster: a, retry_policy: {retry_on: sometimes}}",
        ".retry_policy.retry_on: unknown retry condition \"sometimes\"",
    );
    bad("{cluster: a, request_mirror_policies: [{cluster: b}]}", ".request_mirror_policies: not supported");
    bad("{cluster: a, timeout: -1s}", ".timeout: -1 s and 0 ns is not a duration of at least 0");
}

#[test]
fn the_body_of_a_direct_response_may_be_in_a_file_and_is_limited() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let body = |source: &str| {
        route(&format!("{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{{source}}}}}}}")).map(|route| {
            match route.action {
                Action::DirectResponse(response) => response.body,
                other => panic!("{other:?}"),
            }
        })
    };
    assert_eq!(body("inline_bytes: aGk=").unwrap(), "hi");
    assert_eq!(body(&format!("filename: {file}")).unwrap(), std::fs::read(file).unwrap());
    let at = "route configuration rc: virtual_hosts[0].routes[0].direct_response.body";
    let missing = body("filename: /no/such/file").unwrap_err();
    assert!(missing.starts_with(&format!("{at}.filename: /no/such/file: ")), "{missing}");
    let long = "x".repeat(4097);
    check(body(&format!("inline_string: {long}")), &format!("{at}.inline_string: more than 4096 bytes"));
    check(body("filename: /dev/zero"), &format!("{at}.filename: /dev/zero: not a regular file"));
}

#[test]
fn virtual_clusters_are_decoded_or_refused() {
    let host = |virtual_cluster: &str| {
        let routes = "[{match: {prefix: /}, stat_prefix: rt, non_forwarding_action: {}}]";
        let text = format!(
            "{{name: rc, virtual_hosts: [{{name: a, domains: ['*'], virtual_clusters: [{virtual_cluster}], routes: {routes}}}]}}"
        );
        decode_text(&text, decode_routes).map(|decoded| match decoded.resource {
            Resource::RouteConfiguration(config) => config.virtual_hosts[0].clone(),
            other => panic!("{other:?}"),
        })
    };
    let decoded = host("{name: vc, headers: [{name: ':path', string_match: {prefix: /vc}}]}").unwrap();
    assert_eq!(&*decoded.routes[0].stat_prefix, "rt");
    let [cluster] = &decoded.virtual_clusters[..] else { panic!("{decoded:?}") };
    assert_eq!((&*cluster.name, cluster.headers.len()), ("vc", 1));
    let at = "route configuration rc: virtual_hosts[0].virtual_clusters[0]";
    check(host("{headers: [{name: x, present_match: true}]}"), &format!("{at}.name: must have at least 1 character"));
    let no_headers = "headers: is empty: a virtual cluster needs conditions on headers";
    check(host("{name: vc}"), &format!("{at}.{no_headers}"));
}

#[test]
fn a_domain_belongs_to_one_virtual_host() {
    let hosts = |domains: [&str; 2]| {
        let [a, b] = domains;
        decode_text(
            &format!("{{name: rc, virtual_hosts: [{{name: a, domains: ['{a}']}}, {{name: b, domains: ['{b}']}}]}}"),
            decode_routes,
        )
    };
    hosts(["a.test", "*.test"]).unwrap();
    check(
        hosts(["A.test", "a.test"]),
        "route configuration rc: virtual_hosts[1].domains: domain \"a.test\" is also in virtual host \"a\"",
    );
    check(
        hosts(["a.test", "b*.test"]),
        "route configuration rc: virtual_hosts[1].domains[0]: \"b*.test\" is not a domain: exact, *suffix, prefix* or *",
    );
}

#[test]
fn a_connection_manager_has_routes_and_filters() {
    let decoded = hcm("").unwrap();
    assert_eq!(decoded.routes, RouteSource::Rds("r".into()));
    assert_eq!(decoded.http_filters.iter().map(|filter| &*filter.name).collect::<Vec<_>>(), ["fault"]);
    check(
        hcm(", append_x_forwarded_port: true"),
        "listener l: api_listener.api_listener.append_x_forwarded_port: not supported",
    );
}

#[test]
fn each_part_of_a_route_configuration_may_override_filters() {
    let text = |number: u32| {
        let fault = "'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
        format!("typed_per_filter_config: {{f: {{{fault}, max_active_faults: {number}}}}}")
    };
    let text = format!(
        "{{name: rc, {}, virtual_hosts: [{{name: all, domains: ['*'], {}, routes: [{{match: {{prefix: /}}, {}, route: \
         {{weighted_clusters: {{clusters: [{{name: a, weight: 1, {}}}]}}}}}}]}}]}}",
        text(1),
        text(2),
        text(3),
        text(4)
    );
    let Resource::RouteConfiguration(config) = decode_text(&text, decode_routes).unwrap().resource else { panic!() };
    let host = &config.virtual_hosts[0];
    let Action::Route(action) = &host.routes[0].action else { panic!() };
    let ClusterSpecifier::Weighted(split) = &action.cluster else { panic!() };
    let levels = [
        &config.typed_per_filter_config,
        &host.typed_per_filter_config,
        &host.routes[0].typed_per_filter_config,
        &split.clusters[0].typed_per_filter_config,
    ];
    let numbers = levels.map(|level| match level.get("f").unwrap() {
        FilterOverride::Config(PerRouteConfig::Fault(fault)) => fault.max_active_faults.unwrap().get(),
        other => panic!("{other:?}"),
    });
    assert_eq!(numbers, [1, 2, 3, 4]);
}

const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const TLS_INSPECTOR: &str = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";

/// A listener on a socket with these fields.
fn listener(fields: &str) -> Result<Arc<model::Listener>, String> {
    let address = "address: {socket_address: {address: 127.0.0.1, port_value: 80}}";
    match decode_text(&format!("{{name: l, {address}, {fields}}}"), decode_listener)?.resource {
        Resource::Listener(listener) => Ok(listener),
        other => panic!("{other:?}"),
    }
}

/// A TCP proxy with these fields, in the only filter chain of a listener.
fn tcp_proxy(fields: &str) -> Result<Arc<model::TcpProxy>, String> {
    let listener = listener(&format!("filter_chains: [{{filters: [{}]}}]", proxy_filter(fields)))?;
    Ok(Arc::clone(listener.tcp_proxies().next().unwrap()))
}

fn proxy_filter(fields: &str) -> String {
    format!("{{name: tcp, typed_config: {{'@type': {TCP_PROXY}, stat_prefix: t, {fields}}}}}")
}

#[test]
fn a_tcp_proxy_has_one_cluster_or_several_by_weight() {
    let one = tcp_proxy("cluster: a").unwrap();
    assert_eq!(*one, model::TcpProxy::new("t", "a"));
    let weighted = "weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 3}]}";
    let proxy = tcp_proxy(&format!(
        "{weighted}, idle_timeout: 0s, max_connect_attempts: 3, max_downstream_connection_duration: 60s"
    ))
    .unwrap();
    let shares: Vec<_> = proxy.clusters.iter().map(|cluster| (cluster.name.as_str(), cluster.weight.get())).collect();
    assert_eq!(shares, [("a", 1), ("b", 3)]);
    assert_eq!((proxy.idle_timeout, proxy.max_connect_attempts.get()), (None, 3));
    assert_eq!(proxy.max_downstream_connection_duration, Some(Duration::from_secs(60)));
    for (fields, error) in [
        ("idle_timeout: 1s", "none of cluster and weighted_clusters is given"),
        ("cluster: a, max_connect_attempts: 0", ".max_connect_attempts: 0 is not at least 1"),
        ("weighted_clusters: {clusters: []}", ".weighted_clusters.clusters: must have at least 1 item"),
        ("weighted_clusters: {clusters: [{name: a}]}", ".weighted_clusters.clusters[0].weight: 0 is not at least 1"),
        ("cluster: a, tunneling_config: {hostname: b}", ".tunneling_config: not supported"),
        ("cluster: a, metadata_match: {filter_metadata: {a: {}}}", ".metadata_match: not supported"),
        ("cluster: a, backoff_options: {base_interval: 1s}", ".backoff_options: not supported"),
    ] {
        let separator = if error.starts_with('.') { "" } else { ": " };
        let place = "listener l: filter_chains[0].filters[0].typed_config";
        check(tcp_proxy(fields), &format!("{place}{separator}{error}"));
    }
}

#[test]
fn filter_chain_matches_are_decoded() {
    let filter = proxy_filter("cluster: a");
    let matches = "{destination_port: 443, prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}], server_names: \
                   [A.test, '*.B.test'], transport_protocol: tls, application_protocols: [h2], \
                   direct_source_prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}], source_type: EXTERNAL, \
                   source_prefix_ranges: [{address_prefix: 'fd00::', prefix_len: 8}], source_ports: [7]}";
    let decoded = listener(&format!(
        "listener_filters: [{{name: tls, typed_config: {{'@type': {TLS_INSPECTOR}}}, filter_disabled: \
         {{destination_port_range: {{start: 80, end: 90}}}}}}], listener_filters_timeout: 0s, \
         filter_chains: [{{name: first, filter_chain_match: {matches}, filters: [{filter}]}}], \
         default_filter_chain: {{filters: [{filter}]}}"
    ))
    .unwrap();
    let network = |text: &str| text.parse().unwrap();
    let mut expected = model::FilterChainMatch::default();
    expected.destination_port = Some(443);
    expected.prefix_ranges = vec![network("10.0.0.0/8")];
    expected.server_names = vec!["a.test".into(), "*.b.test".into()];
    expected.transport_protocol = Some(model::TransportProtocol::Tls);
    expected.application_protocols = vec!["h2".into()];
    expected.direct_source_prefix_ranges = vec![network("10.1.0.0/16")];
    expected.source_type = model::SourceType::External;
    expected.source_prefix_ranges = vec![network("fd00::/8")];
    expected.source_ports = vec![7];
    assert_eq!(decoded.filter_chains[0].filter_chain_match, expected);
    assert_eq!(&*decoded.filter_chains[0].name, "first");
    assert!(decoded.default_filter_chain.is_some() && decoded.listener_filters_timeout.is_none());
    let disabled = model::ListenerFilterMatch::DestinationPorts(80..90);
    let config = model::ListenerFilterConfig::TlsInspector(model::TlsInspector::default());
    assert_eq!(decoded.listener_filters, [model::ListenerFilter { config, disabled: Some(disabled) }]);
}

#[test]
fn a_filter_chain_that_cannot_be_obeyed_is_refused() {
    let filter = proxy_filter("cluster: a");
    let chain = |matches: &str| format!("{{filter_chain_match: {{{matches}}}, filters: [{filter}]}}");
    let mongo = "{name: mongo, typed_config: {'@type': \
                 type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy, stat_prefix: m}}";
    let (first, names) = (chain("server_names: [a, b]"), |names| chain(&format!("server_names: {names}")));
    for (chains, error) in [
        (String::new(), "filter_chains: is empty".to_owned()),
        (
            format!("{first}, {}", names("[c, b]")),
            "filter_chains[1].filter_chain_match: matches connections that filter_chains[0] matches".to_owned(),
        ),
        (
            names("['*w.test']"),
            "filter_chains[0].filter_chain_match.server_names[0]: \"*w.test\" is not a name, nor \"*.\" and a suffix"
                .to_owned(),
        ),
        (
            chain("transport_protocol: quic"),
            "filter_chains[0].filter_chain_match.transport_protocol: \"quic\" is neither tls nor raw_buffer".to_owned(),
        ),
        (
            chain("source_ports: [0]"),
            "filter_chains[0].filter_chain_match.source_ports[0]: 0 is not in 1..=65535".to_owned(),
        ),
        (chain("suffix_len: 3"), "filter_chains[0].filter_chain_match.suffix_len: not supported".to_owned()),
        (format!("{{filters: [{mongo}]}}"), "filter_chains[0].filters: no filter serves the connections".to_owned()),
        (
            format!("{{filters: [{filter}, {filter}]}}"),
            "filter_chains[0].filters[0]: serves the connections, so that no filter may follow".to_owned(),
        ),
        (
            format!("{{filters: [{mongo}, {filter}], transport_socket: {{name: tls}}}}"),
            "filter_chains[0].transport_socket.typed_config: is missing in transport socket tls".to_owned(),
        ),
    ] {
        check(listener(&format!("filter_chains: [{chains}]")), &format!("listener l: {error}"));
    }
}

#[test]
fn malformed_resources_are_refused() {
    let any = |type_url: &str, value: &[u8]| Any { type_url: type_url.to_owned(), value: value.to_vec() };
    let decode = |any: &Any| decode(any).map(|decoded| decoded.resource.name().to_owned()).map_err(|e| e.to_string());
    let cluster = json::from_text::<Cluster>("{name: a}", "").unwrap();
    assert_eq!(decode(&pack(&cluster)), Ok("a".to_owned()));
    let wrapper = Wrapper { name: "a".to_owned(), resource: Some(pack(&cluster)), ..Wrapper::default() };
    assert_eq!(decode(&pack(&wrapper)), Ok("a".to_owned()));
    check(
        decode(&any("x/google.protobuf.Empty", &[])),
        "google.protobuf.Empty (unnamed): not a supported type of resource",
    );
    let error = decode(&any(&ResourceType::Listener.type_url(), &[0x0a, 9])).unwrap_err();
    assert!(error.starts_with("listener (unnamed): malformed message: "), "{error}");
}

#[test]
fn network_filters_are_decoded() {
    let filter = |message: &str, rest: &str| {
        format!(
            "{{name: f, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.{message}{rest}}}}}"
        )
    };
    let chain = |filters: &[String]| listener(&format!("filter_chains: [{{filters: [{}]}}]", filters.join(", ")));
    let rbac = |rest: &str| filter("rbac.v3.RBAC", &format!(", stat_prefix: tcp., {rest}"));
    let policies = |permission: &str| {
        format!("rules: {{policies: {{p: {{permissions: [{permission}], principals: [{{any: true}}]}}}}}}")
    };
    let echo = filter("echo.v3.Echo", "");
    let guard = rbac(&format!("{}, delay_deny: 2s, enforcement_type: CONTINUOUS", policies("{destination_port: 1}")));
    let decoded = chain(&[guard.clone(), echo.clone()]).unwrap();
    let [model::NetworkFilter::Rbac(decoded), model::NetworkFilter::Echo] = &decoded.filter_chains[0].filters[..]
    else {
        panic!("{decoded:?}")
    };
    assert_eq!((&*decoded.stat_prefix, decoded.delay_deny), ("tcp.", Duration::from_secs(2)));
    assert!(decoded.policies.rules.is_some() && decoded.policies.shadow_rules.is_none());
    let response = chain(&[filter("direct_response.v3.Config", ", response: {inline_string: bye}")]).unwrap();
    assert_eq!(response.filter_chains[0].filters, [model::NetworkFilter::DirectResponse("bye".into())]);

    check(chain(&[guard]), "listener l: filter_chains[0].filters: no filter serves the connections");
    for permission in ["{url_path: {path: {exact: /a}}}", "{not_rule: {header: {name: a, present_match: true}}}"] {
        let error = chain(&[rbac(&policies(permission)), echo.clone()]).unwrap_err();
        assert!(error.contains("a connection has no request, so the condition could never hold"), "{error}");
    }
}

#[test]
fn conditions_on_metadata_are_decoded() {
    let decoded = |matcher: &str| {
        let text = format!("{{match: {{prefix: /, dynamic_metadata: [{matcher}]}}, non_forwarding_action: {{}}}}");
        route(&text).map(|route| route.matches.dynamic_metadata)
    };
    let text = "{filter: f, path: [{key: a}, {key: b.c}], value: {or_match: {value_matchers: [{string_match: {exact: x}}, \
                {list_match: {one_of: {bool_match: true}}}]}}, invert: true}";
    let is = model::ValueMatcher::String(model::StringMatcher::exact("x"));
    let list = model::ValueMatcher::ListOneOf(Box::new(model::ValueMatcher::Bool(true)));
    let expected =
        model::MetadataMatcher::new("f", vec!["a".into(), "b.c".into()], model::ValueMatcher::Or(vec![is, list]))
            .inverted(true);
    assert_eq!(decoded(text), Ok(vec![expected]));
    assert!(decoded("{filter: f, path: [{key: a}], value: {}}").is_err());
}

#[test]
fn an_aggregate_names_its_clusters() {
    let aggregate = |fields: &str, clusters: &str| {
        let url = "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig";
        let kind =
            format!("{{name: envoy.clusters.aggregate, typed_config: {{'@type': {url}, clusters: {clusters}}}}}");
        cluster(&format!("{{name: all, cluster_type: {kind}{fields}}}"))
    };
    let decoded = aggregate(", lb_policy: CLUSTER_PROVIDED", "[a, b]").unwrap();
    assert_eq!(decoded.aggregated(), [ClusterName::from("a"), ClusterName::from("b")]);
    assert_eq!(aggregate("", "[a]").unwrap().aggregated().len(), 1, "as control planes of gRPC write it");
    check(aggregate("", "[a, all]"), "cluster all: cluster_type.typed_config.clusters[1]: is the aggregate itself");
    check(
        aggregate(", load_assignment: {cluster_name: x}", "[a]"),
        "cluster all: cluster_type: an aggregate has no endpoints of its own",
    );
    assert!(aggregate("", "[]").is_err(), "Envoy requires one");
    assert!(cluster("{name: a, lb_policy: CLUSTER_PROVIDED}").is_err());
}
