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
        "metadata": {"filter_metadata": {"istio": {"services": [{"name": "reviews", "ports": "2.5", "none": null}]}}},
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
    for text in ["admin: {", "a: b: c", "admin:\n\t- x", "node: {id: a, id: 1}", "- x", "\u{0}", ""] {
        let error = read(text).expect_err(text);
        assert!(error.starts_with("envoy.yaml:") && !error.contains('\n'), "{text:?} gave {error:?}");
    }
    assert!(read("node: {id: a,\n  id: 1}").unwrap_err().starts_with("envoy.yaml:2:7: "));
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

/// Every case is what Envoy 1.40 takes or refuses for the same file.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn values_are_taken_as_envoy_takes_them() {
    fn outcome(field: &str) -> Option<String> {
        let cluster: Cluster = from_text(&format!("{{name: a, {field}}}"), "envoy.yaml").ok()?;
        let name = field.split(':').next().unwrap();
        let json = serde_json::to_value(to_json(&cluster)).unwrap();
        Some(json.get(name).map_or_else(|| "unset".to_owned(), ToString::to_string))
    }
    fn check(field: &str, taken: &[(&str, &str)], refused: &[&str]) {
        for (text, expected) in taken {
            assert_eq!(outcome(&format!("{field}: {text}")).as_deref(), Some(*expected), "{field}: {text}");
        }
        for text in refused {
            assert_eq!(outcome(&format!("{field}: {text}")), None, "{field}: {text}");
        }
    }
    let of = |texts: &[&'static str], value: &'static str| texts.iter().map(|text| (*text, value)).collect::<Vec<_>>();

    let least = r#""LEAST_REQUEST""#;
    let taken = ["least_request", "Least_Request", "LEAST_REQUEST", "1", "\"1\"", "\" 1\"", "\"+1\"", "\"01\"", "0x1"];
    let refused = ["least-request", "\" LEAST_REQUEST\"", "\"\"", "1.0", "\"1.0\"", "\"0x1\"", "true", "[1]", "{}"];
    check("lb_policy", &of(&taken, least), &refused);
    check("lb_policy", &of(&["null", "~", "", "0", "\"-0\""], "unset"), &[]);

    let taken = [
        "true", "True", "TRUE", "yes", "Yes", "on", "y", "Y", "\"true\"", "\"True\"", "tRue", "\"yes\"", "\"1\"", "t",
        "\"T\"", "'y'",
    ];
    let refused =
        ["1", "0", "\"on\"", "\"off\"", "\"2\"", "\"\"", "\" true\"", "oN", "1.0", "[]", "{}", "{value: true}"];
    check("respect_dns_ttl", &of(&taken, "true"), &refused);
    check("respect_dns_ttl", &of(&["false", "no", "Off", "n", "\"0\"", "\"f\"", "null"], "unset"), &[]);

    let number = "per_connection_buffer_limit_bytes";
    let taken = [
        "16",
        "\"16\"",
        "16.0",
        "\"16.0\"",
        "1.6e1",
        "\"1.6e1\"",
        "\"160e-1\"",
        "0x10",
        "0X10",
        "\"0x10\"",
        "020",
        "+16",
        "\"+16\"",
        "\"016\"",
        "16.",
        "\"16.\"",
        "{value: 16}",
        "{value: \"16\"}",
    ];
    let refused = [
        "-1",
        "4294967296",
        "1.5",
        "\" 16\"",
        "\"16 \"",
        "\"\"",
        "1_6",
        "0o20",
        "0b1",
        "true",
        "abc",
        ".inf",
        "\"NaN\"",
        "[16]",
        "{val: 16}",
        "--16",
    ];
    check(number, &of(&taken, "16"), &refused);
    check(number, &[("3000000000", "3000000000"), ("08", "8"), ("{}", "0"), ("null", "unset")], &[]);

    let text = "alt_stat_name";
    let taken = [
        ("\"12\"", r#""12""#),
        ("'12'", r#""12""#),
        ("! 12", r#""12""#),
        ("1.5", r#""1.5""#),
        ("1e3", r#""1e3""#),
        ("08", r#""08""#),
        ("3000000000", r#""3000000000""#),
        (".inf", r#"".inf""#),
        ("12:30", r#""12:30""#),
        ("!!bool x", r#""x""#),
        ("nuLL", r#""nuLL""#),
        ("NULL", "unset"),
        ("~", "unset"),
        ("''", "unset"),
        ("2001-01-01", r#""2001-01-01""#),
    ];
    check(
        text,
        &taken,
        &["12", "-5", "0x10", "true", "yes", "No", "n", "on", "!!str 12", "!!int '12'", "[a]", "{}", "-"],
    );

    let taken = [
        ("5s", r#""5s""#),
        ("0005s", r#""5s""#),
        ("1.5s", r#""1.500s""#),
        ("\"5s\"", r#""5s""#),
        ("{seconds: 5}", r#""5s""#),
        ("{seconds: \"5\", nanos: 500000000}", r#""5.500s""#),
        ("{}", r#""0s""#),
        ("null", "unset"),
    ];
    check(
        "cleanup_interval",
        &taken,
        &["5", "\"5\"", "5.s", ".5s", "5ms", "1m", "\"5s \"", "5S", "+5s", "[5s]", "{sec: 5}", "\"\""],
    );

    let breakers = |thresholds: &str| outcome(&format!("circuit_breakers: {{thresholds: {thresholds}}}"));
    let one = breakers("[{max_requests: 5}]").unwrap();
    for same in ["{max_requests: 5}", "[[{max_requests: 5}]]", "[{maxRequests: \"5\"}]"] {
        assert_eq!(breakers(same).as_ref(), Some(&one), "{same}");
    }
    assert_eq!(breakers("[null, {}]").as_deref(), Some(r#"{"thresholds":[{},{}]}"#));
    assert_eq!(breakers("null"), breakers("[]"));
    for refused in ["\"\"", "5", "[5]"] {
        assert_eq!(breakers(refused), None, "{refused}");
    }
    let percent = |value: &str| outcome(&format!("common_lb_config: {{healthy_panic_threshold: {{value: {value}}}}}"));
    for same in ["50", "50.0", "\"50\"", "\" 50 \"", "5e1", "\"+50\"", "\"0x32\"", "\"50.\""] {
        assert_eq!(percent(same), percent("50"), "{same}");
    }
    for refused in ["50%", "\"\"", "true", "inf", "nan", "[50]"] {
        assert_eq!(percent(refused), None, "{refused}");
    }
    for (metadata, expected) in [
        ("{a: null}", r#"{"filter_metadata":{"a":{}}}"#),
        ("{1: {2: 3}, true: {}}", r#"{"filter_metadata":{"1":{"2":3.0},"true":{}}}"#),
        (
            "{a: {b: 2.5, c: yes, d: 3000000000, e: null}}",
            r#"{"filter_metadata":{"a":{"b":"2.5","c":true,"d":"3000000000","e":null}}}"#,
        ),
    ] {
        assert_eq!(
            outcome(&format!("metadata: {{filter_metadata: {metadata}}}")).as_deref(),
            Some(expected),
            "{metadata}"
        );
    }
}

#[test]
fn the_last_value_of_a_key_counts_and_the_first_document() {
    let document = Document::parse("node: {id: 1, id: b}\n---\n{[", "envoy.yaml").unwrap();
    let bootstrap: Bootstrap = document.read().unwrap();
    assert_eq!(bootstrap.node.unwrap().id, "b");
    let notes: Vec<_> =
        document.overridden().iter().map(|note| (note.mark.line, note.mark.column, &*note.key)).collect();
    assert_eq!(notes, [(1, 8, "id"), (2, 1, "---")]);
    let read = |text: &str| read(text).map(|bootstrap| bootstrap.static_resources.unwrap_or_default().clusters.len());
    assert_eq!(read("static_resources: {clusters: [{name: a}]}\nstatic_resources: {}"), Ok(0));
    assert_eq!(read("!ignore x: &x {name: a}\nstatic_resources: {clusters: [*x, *x]}"), Ok(2));
    assert_eq!(read("---\nstatic_resources: {clusters: [{name: a}]}\n...\n"), Ok(1));
    assert_eq!(read("\u{feff}{}"), Ok(0));
    assert!(read("static_resources: {clusters: [&x {name: a}, {<<: *x}]}").unwrap_err().contains("<<: unknown field"));
    assert!(read("x: &x [*x]").unwrap_err().contains("inside of its own anchor"));
    for empty in ["", "# nothing\n", "null", "---\n", "---\n---\nnode: {}\n"] {
        assert!(read(empty).unwrap_err().ends_with("the text is empty: a Bootstrap is missing"), "{empty:?}");
    }
}

#[test]
fn a_json_file_is_json() {
    let read = |text: &str| from_text::<Bootstrap>(text, "envoy.json").map_err(|error| error.to_string());
    let node = |text: &str| read(text).map(|bootstrap| bootstrap.node.unwrap_or_default().id);
    for text in ["{\"node\": {\"id\": \"a\"}}", "{\t\"node\":\n{\"id\": \"a\",},}", "{node: {id: 'a'}}"] {
        assert_eq!(node(text).as_deref(), Ok("a"), "{text}");
    }
    assert_eq!(node("{\"node\": {\"id\": \"\\ud83d\\ude00\\/\"}}").as_deref(), Ok("\u{1f600}/"));
    for text in ["{\"node\": {\"id\": 1.5}}", "{\"node\": {\"id\": 3000000000}}", "node: {id: a}", ""] {
        assert!(read(text).is_err(), "{text}");
    }
    let metadata = "{\"node\": {\"metadata\": {\"a\": 2.5}}}";
    let written = serde_json::to_value(to_json(&read(metadata).unwrap())).unwrap();
    assert_eq!(written, json!({"node": {"metadata": {"a": 2.5}}}));
}

#[test]
fn all_errors_of_a_text_are_found() {
    let text = "{nod: {}, static_resources: {clusters: [{name: 1}, {connect_timeout: 5, typ: a}]}}";
    let errors = Document::parse(text, "envoy.yaml").unwrap().read::<Bootstrap>().unwrap_err();
    let paths: Vec<&str> = errors.iter().map(TextError::path).collect();
    let clusters = "static_resources.clusters";
    let expected = [
        "nod".to_owned(),
        format!("{clusters}[0].name"),
        format!("{clusters}[1].connect_timeout"),
        format!("{clusters}[1].typ"),
    ];
    assert_eq!(paths, expected);
}

#[test]
fn an_any_has_a_type_url_and_may_be_wrapped_or_unknown_to_us() {
    const RAW: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let socket = |config: &str| {
        let cluster: Cluster = from_text(&format!("{{transport_socket: {{typed_config: {config}}}}}"), "x").ok()?;
        let crate::proto::envoy::config::core::v3::transport_socket::ConfigType::TypedConfig(any) =
            cluster.transport_socket?.config_type?;
        Some((any.type_url, any.value.len()))
    };
    for (prefix, is_valid) in [("type.googleapis.com/", true), ("a/b/", true), ("/", false), ("", false)] {
        let url = format!("{prefix}{RAW}");
        assert_eq!(socket(&format!("{{'@type': {url}}}")), is_valid.then_some((url, 0)));
    }
    let any = |message: &str, fields: &str| format!("{{'@type': type.googleapis.com/{message}{fields}}}");
    for wrapper in ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"] {
        let inner = format!("type.googleapis.com/{RAW}");
        for value in ["", ", value: {}"] {
            assert_eq!(
                socket(&any(wrapper, &format!(", type_url: {inner}{value}"))),
                Some((inner.clone(), 0)),
                "{wrapper}"
            );
        }
        assert_eq!(socket(&any(wrapper, &format!(", type_url: {inner}, value: {{no: 1}}"))), None);
        let other = any(wrapper, ", type_url: a/b.C, value: {x: 1}");
        assert_eq!(socket(&other).unwrap().0, format!("type.googleapis.com/{wrapper}"));
    }
    // A message of Envoy that is not generated is left to the decoder, whatever its fields are.
    let lua = "envoy.extensions.filters.http.lua.v3.Lua";
    assert_eq!(socket(&any(lua, ", inline_code: x")), Some((format!("type.googleapis.com/{lua}"), 0)));
    assert_eq!(socket(&any("envoy.extensions.filters.http.lua.v3.Luaa", "")), None);
    assert_eq!(socket("{type_url: x}"), None);
    assert_eq!(socket("{}"), Some((String::new(), 0)));
}

#[test]
fn bytes_are_base64_in_either_alphabet() {
    use crate::proto::envoy::config::core::v3::{DataSource, data_source::Specifier};
    for text in ["-_8=", "+/8=", "-_8", "+/8"] {
        let source: DataSource = from_text(&format!("inline_bytes: \"{text}\""), "x").unwrap();
        assert_eq!(source.specifier, Some(Specifier::InlineBytes(vec![0xfb, 0xff].into())), "{text}");
    }
    assert!(from_text::<DataSource>("inline_bytes: \"!\"", "x").is_err());
}
