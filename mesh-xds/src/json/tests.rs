//! Reading and writing of protobuf-JSON by the public functions.

use prost::Name;
use serde_json::json;

use super::*;
use crate::proto::envoy::config::bootstrap::v3::Bootstrap;
use crate::proto::envoy::config::cluster::v3::Cluster;
use crate::proto::envoy::config::core::v3::Metadata;
use crate::proto::envoy::extensions::filters::http::router::v3::Router;

const CLUSTERS: &str = r#"
static_resources:
  clusters:
  - name: reviews
    connect_timeout: 0.25s
    type: STRICT_DNS
    lbPolicy: 1
    circuit_breakers: {thresholds: [{max_requests: 7, retry_budget: {min_retry_concurrency: "3"}}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        explicit_http_config: {http2_protocol_options: {}}
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    metadata: {filter_metadata: {istio: {services: [{name: reviews, ports: 2.5, none: null}]}}}
"#;

fn read(text: &str) -> Result<Bootstrap, String> {
    from_text(text, "envoy.yaml").map_err(|error| error.to_string())
}

fn check_error(text: &str, expected: &str) {
    assert_eq!(read(text).expect_err("the text is faulty"), expected, "reading {text}");
}

#[test]
fn writing_inverts_reading() {
    let bootstrap = read(CLUSTERS).unwrap();
    let expected = json!({"static_resources": {"clusters": [{
        "name": "reviews",
        "connect_timeout": "0.250s",
        "type": "STRICT_DNS",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{"max_requests": 7, "retry_budget": {"min_retry_concurrency": 3}}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "metadata": {"filter_metadata": {"istio": {"services": [{"name": "reviews", "ports": 2.5, "none": null}]}}},
    }]}});
    let written = serde_json::to_value(to_json(&bootstrap)).unwrap();
    assert_eq!(written, expected);
    assert_eq!(read(&to_json(&bootstrap).to_string()).unwrap(), bootstrap, "JSON is read like YAML");
}

#[test]
fn errors_name_place_path_and_value() {
    let unknown = "envoy.yaml:1:20: static_resources.cluster: unknown field of \
                   envoy.config.bootstrap.v3.Bootstrap.StaticResources (did you mean clusters?)";
    check_error("static_resources: {cluster: []}", unknown);
    let cluster = |field: &str| format!("static_resources:\n  clusters:\n  - name: a\n    {field}\n");
    let check_field = |field: &str, expected: &str| {
        check_error(&cluster(field), &format!("envoy.yaml:4:{expected}"));
    };
    check_field(
        "connect_timeout: 5",
        "22: static_resources.clusters[0].connect_timeout: expected a duration such as \"1.5s\", found 5",
    );
    check_field(
        "lb_policy: ROUND_ROBBIN",
        "16: static_resources.clusters[0].lb_policy: expected one of ROUND_ROBIN, LEAST_REQUEST, RING_HASH, RANDOM, \
         MAGLEV, CLUSTER_PROVIDED, LOAD_BALANCING_POLICY_CONFIG, found \"ROUND_ROBBIN\"",
    );
    check_field(
        "circuit_breakers: {thresholds: [{max_requests: -1}]}",
        "52: static_resources.clusters[0].circuit_breakers.thresholds[0].max_requests: expected an integer in \
         0..=4294967295, found -1",
    );
    check_field(
        "alt_stat_name: 12",
        "20: static_resources.clusters[0].alt_stat_name: expected a string (put quotes around it), found 12",
    );
    check_field(
        "typed_extension_protocol_options: {x: {\"@type\": type.googleapis.com/no.Such}}",
        "53: static_resources.clusters[0].typed_extension_protocol_options[\"x\"].@type: unknown message type \
         \"type.googleapis.com/no.Such\"",
    );
    check_field(
        "eds_cluster_config: {serviceName: a, service_name: b}",
        "42: static_resources.clusters[0].eds_cluster_config.service_name: field is given twice, once in snake_case \
         and once in lowerCamelCase",
    );
}

#[test]
fn text_that_is_not_yaml_is_refused_with_its_place() {
    for text in ["admin: {", "a: b: c", "admin:\n\t- x", "node: {id: a, id: b}", "- x", "\u{0}", ""] {
        let error = read(text).expect_err(text);
        assert!(error.starts_with("envoy.yaml:") && !error.contains('\n'), "{text:?} gave {error:?}");
    }
    assert!(read("node: {id: a,\n  id: b}").unwrap_err().starts_with("envoy.yaml:2:3: "));
}

#[test]
fn an_any_of_unknown_type_or_with_bad_bytes_prints_as_base64() {
    let check = |type_url: String, value: Vec<u8>, expected: serde_json::Value| {
        let any = Any { type_url, value };
        assert_eq!(serde_json::to_value(any_to_json(&any)).unwrap(), expected);
    };
    let router = Router::type_url();
    check(router.clone(), vec![], json!({"@type": router}));
    check(router.clone(), vec![0xff, 0xff], json!({"@type": router, "value": "//8="}));
    check("a.b/c.D".into(), vec![1, 2, 3], json!({"@type": "a.b/c.D", "value": "AQID"}));
}

#[test]
fn durations_round_trip_and_malformed_ones_are_refused() {
    for (text, printed) in
        [("0s", "0s"), ("1.5s", "1.500s"), ("-0.000001s", "-0.000001s"), ("3.000000007s", "3.000000007s")]
    {
        let cluster: Cluster = from_text(&format!("connect_timeout: {text}"), "x").unwrap();
        assert_eq!(serde_json::to_value(to_json(&cluster)).unwrap(), json!({"connect_timeout": printed}));
    }
    for text in ["1", "s", ".5s", "1.s", "1.0000000001s", "1m", "+1s", "1e3s", "999999999999s"] {
        assert!(from_text::<Cluster>(&format!("connect_timeout: \"{text}\""), "x").is_err(), "{text}");
    }
}

#[test]
fn maps_print_sorted_and_lists_of_any_expand() {
    let metadata: Metadata = from_text(
        r#"{filter_metadata: {b: {}, a: {k: [true]}}, typed_filter_metadata: {n: {}, t: {"@type": type.googleapis.com/google.protobuf.Duration, value: 2s}}}"#,
        "x",
    )
    .unwrap();
    let text = serde_json::to_string(&to_json(&metadata)).unwrap();
    assert_eq!(
        text,
        r#"{"filter_metadata":{"a":{"k":[true]},"b":{}},"typed_filter_metadata":{"n":{},"t":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"2s"}}}"#
    );
}
