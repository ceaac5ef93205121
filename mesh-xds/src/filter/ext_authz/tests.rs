//! Decoding of the filter's messages, and the messages of the service.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use mesh_core::filter::FilterConfig;
use mesh_core::filter::ext_authz::{
    Authorization, BufferSettings, ChangeAction, CheckBody, CheckCodec as _, CheckFormat, CheckSettings, HeaderChange,
    RequestFacts, Service,
};
use mesh_core::model::{AppendAction, HeaderKey, Metadata, MetadataMatcher, MetadataValue, ValueMatcher};
use mesh_core::request::RequestHead;
use prost::Message as _;

use super::codec::CheckMessages;
use super::*;
use crate::decode::field::Notes;
use crate::filter::decode_chain;
use crate::json;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use crate::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse};

const HTTP: &str = "http_service: {server_uri: {uri: 'http://a', cluster: authz, timeout: 1s}}";
const GRPC: &str = "transport_api_version: V3, grpc_service: {envoy_grpc: {cluster_name: authz}}";

fn decoded(fields: &str) -> std::result::Result<(ExtAuthz, Vec<String>), String> {
    const PACKAGE: &str = "type.googleapis.com/envoy.extensions.filters.http";
    let text = format!(
        "{{http_filters: [{{name: a, typed_config: {{'@type': {PACKAGE}.ext_authz.v3.ExtAuthz, {fields}}}}}, \
         {{name: r, typed_config: {{'@type': {PACKAGE}.router.v3.Router}}}}]}}"
    );
    let manager: HttpConnectionManager = json::from_text(&text, "test").unwrap_or_else(|error| panic!("{error}"));
    let notes = Notes::default();
    let result = decode_chain(&At::root(&notes), &manager.http_filters);
    match notes.finish(result) {
        Ok((chain, ignored)) => {
            let FilterConfig::ExtAuthz(config) = &chain.filters[0].config else { panic!("{:?}", chain.filters) };
            Ok((ExtAuthz::clone(config), ignored.iter().map(ToString::to_string).collect()))
        }
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

#[test]
fn a_filter_has_envoys_defaults() {
    let (http, ignored) = decoded(HTTP).unwrap();
    assert_eq!(http, ExtAuthz::new(Service::Http(HttpService::new("authz", Duration::from_secs(1)))));
    assert!(ignored.is_empty(), "{ignored:?}");
    let (grpc, _) = decoded(GRPC).unwrap();
    let Service::Grpc(service) = &grpc.service else { panic!("{grpc:?}") };
    assert_eq!((service.cluster.as_str(), service.timeout.as_millis()), ("authz", 200));
    let named = grpc.clusters();
    assert_eq!((&*named[0].path, named[0].name.as_str()), ("grpc_service.envoy_grpc.cluster_name", "authz"));
    assert_eq!(http.clusters()[0].path, "http_service.server_uri.cluster");
}

#[test]
fn all_supported_fields_are_decoded() {
    let all = "failure_mode_allow: true, failure_mode_allow_header_add: true, clear_route_cache: true, \
               with_request_body: {max_request_bytes: 9, allow_partial_message: true, pack_as_bytes: true}, \
               status_on_error: {code: ServiceUnavailable}, metadata_context_namespaces: [a], \
               route_metadata_context_namespaces: [b], filter_enabled: {default_value: {numerator: 50}}, \
               filter_enabled_metadata: {filter: f, path: [{key: k}], value: {present_match: true}}, \
               deny_at_disable: {default_value: true}, include_peer_certificate: true, include_tls_session: true, \
               stat_prefix: p, allowed_headers: {patterns: [{exact: a}]}, disallowed_headers: {patterns: [{exact: b}]}, \
               encode_raw_headers: true, charge_cluster_response_stats: false, \
               enable_dynamic_metadata_ingestion: false, validate_mutations: true, \
               decoder_header_mutation_rules: {allow_envoy: true, disallow_is_error: true, disallow_expression: {regex: a}}";
    let (filter, ignored) = decoded(&format!("{GRPC}, {all}")).unwrap();
    assert!(filter.failure_mode_allow && filter.failure_mode_allow_header_add && filter.clear_route_cache);
    let mut buffer = BufferSettings::new(9);
    (buffer.allow_partial_message, buffer.pack_as_bytes) = (true, true);
    assert_eq!((filter.with_request_body, filter.status_on_error), (Some(buffer), StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(filter.metadata_context_namespaces, ["a".into()]);
    assert_eq!(filter.route_metadata_context_namespaces, ["b".into()]);
    assert_eq!(filter.filter_enabled.parts_per_million(), 500_000);
    let selected = MetadataMatcher::new("f", vec!["k".into()], ValueMatcher::Present(true));
    assert_eq!(filter.filter_enabled_metadata, Some(selected));
    assert!(filter.deny_at_disable && filter.include_peer_certificate && filter.include_tls_session);
    assert_eq!(&*filter.stat_prefix, "p");
    assert_eq!(filter.allowed_headers.unwrap(), [StringMatcher::exact("a")]);
    assert_eq!(filter.disallowed_headers, [StringMatcher::exact("b")]);
    assert!(filter.encode_raw_headers && !filter.charge_cluster_response_stats);
    assert!(!filter.enable_dynamic_metadata_ingestion);
    let rules = filter.decoder_header_mutation_rules.unwrap();
    assert!(rules.allow_envoy && rules.disallow_is_error && !rules.allow_all_routing && !rules.disallow_all);
    assert_eq!((rules.allow_expression, rules.disallow_expression.unwrap().as_str()), (None, "a"));
    assert_eq!(ignored, ["http_filters[0].typed_config.validate_mutations: what is not valid is refused in any case"]);

    let http = "http_service: {server_uri: {uri: u, cluster: c, timeout: 2s}, path_prefix: /p, \
                authorization_request: {allowed_headers: {patterns: [{exact: t}]}, headers_to_add: [{key: a, value: b}]}, \
                authorization_response: {allowed_upstream_headers: {patterns: [{exact: u}]}, \
                allowed_upstream_headers_to_append: {patterns: [{exact: v}]}, \
                allowed_client_headers: {patterns: [{exact: w}]}, \
                allowed_client_headers_on_success: {patterns: [{exact: x}]}, \
                dynamic_metadata_from_headers: {patterns: [{exact: z}]}}}";
    let (filter, _) = decoded(http).unwrap();
    let Service::Http(service) = filter.service else { panic!("{filter:?}") };
    assert_eq!((service.cluster.as_str(), service.timeout.as_secs(), &*service.path_prefix), ("c", 2, "/p"));
    assert_eq!(filter.allowed_headers.unwrap(), [StringMatcher::exact("t")]);
    assert_eq!(service.headers_to_add[0].1, "b");
    for (list, name) in [
        (&service.allowed_upstream_headers, "u"),
        (&service.allowed_upstream_headers_to_append, "v"),
        (&service.allowed_client_headers, "w"),
        (&service.allowed_client_headers_on_success, "x"),
        (&service.dynamic_metadata_from_headers, "z"),
    ] {
        assert_eq!(list[..], [StringMatcher::exact(name)]);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_its_path() {
    let grpc = GRPC.replace("transport_api_version: V3, ", "");
    for (fields, expected) in [
        (String::new(), ": neither grpc_service nor http_service is given"),
        (grpc, ".transport_api_version: expected V3"),
        (
            GRPC.replace("envoy_grpc: {cluster_name: authz}", "google_grpc: {target_uri: a, stat_prefix: b}"),
            ".grpc_service.google_grpc: not supported",
        ),
        (
            GRPC.replace("authz}", "authz, skip_envoy_headers: true}"),
            ".grpc_service.envoy_grpc.skip_envoy_headers: not supported",
        ),
        (HTTP.replace(", timeout: 1s", ""), ".http_service.server_uri.timeout: is missing"),
        (
            HTTP.replace("server_uri", "path_prefix: a, server_uri"),
            ".http_service.path_prefix: \"a\" does not begin with \"/\"",
        ),
        (HTTP.replace("server_uri", "path_override: /a, server_uri"), ".http_service.path_override: not supported"),
        (
            HTTP.replace(
                "server_uri",
                "authorization_request: {headers_to_add: [{key: a, value: '%REQ(b)%'}]}, server_uri",
            ),
            ".http_service.authorization_request.headers_to_add[0].value: commands such as %REQ(…)% are not supported here",
        ),
        (
            format!(
                "allowed_headers: {{}}, {}",
                HTTP.replace("server_uri", "authorization_request: {allowed_headers: {}}, server_uri")
            ),
            ".http_service.authorization_request.allowed_headers: cannot be set together with allowed_headers of the filter",
        ),
        (
            format!("{HTTP}, typed_metadata_context_namespaces: [a]"),
            ".typed_metadata_context_namespaces: not supported",
        ),
        (format!("{HTTP}, shadow_mode: true"), ".shadow_mode: not supported"),
        (
            format!("{HTTP}, decoder_header_mutation_rules: {{allow_expression: {{regex: '('}}}}"),
            ".decoder_header_mutation_rules.allow_expression.regex: invalid regular expression \"(\": unclosed group",
        ),
        (
            format!("{HTTP}, with_request_body: {{}}"),
            ".with_request_body.max_request_bytes: 0 is not in 1..=4294967295",
        ),
    ] {
        let found = decoded(&fields).unwrap_err();
        assert_eq!(found, format!("http_filters[0].typed_config{expected}"), "{fields}");
    }
}

#[test]
fn routes_turn_it_off_or_give_context() {
    let decode = |text: &str| {
        let message: proto::ExtAuthzPerRoute = json::from_text(text, "test").unwrap_or_else(|error| panic!("{error}"));
        let notes = Notes::default();
        let result = ExtAuthz::decode_per_route(&At::root(&notes), &message);
        notes.finish(result).map(|(route, _)| route).map_err(|errors| errors[0].to_string())
    };
    assert!(decode("{disabled: true}").unwrap().disabled);
    let settings = "{check_settings: {context_extensions: {a: b}, disable_request_body_buffering: true}}";
    let route = decode(settings).unwrap();
    assert_eq!(route.context_extensions, [("a".into(), "b".into())].into());
    assert!(route.disable_request_body_buffering && !route.disabled);
    let body = decode("{check_settings: {with_request_body: {max_request_bytes: 3}}}").unwrap();
    assert_eq!(body.with_request_body, Some(BufferSettings::new(3)));
    for (text, expected) in [
        ("{}", "neither disabled nor check_settings is given"),
        ("{check_settings: {http_service: {}}}", "check_settings.service_override: not supported"),
        (
            "{check_settings: {with_request_body: {max_request_bytes: 3}, disable_request_body_buffering: true}}",
            "check_settings.with_request_body: cannot be set together with disable_request_body_buffering",
        ),
    ] {
        assert_eq!(decode(text).unwrap_err(), expected, "{text}");
    }
}

fn compact<M: prost::Message + prost::Name>(message: &M) -> String {
    json::to_json(message).to_string().split_whitespace().collect()
}

#[test]
fn a_check_request_has_everything_that_is_known() {
    let (mut filter, _) = decoded(GRPC).unwrap();
    filter.metadata_context_namespaces = vec!["n".into()];
    filter.include_tls_session = true;
    let request = http::Request::post("/a?b").header("host", "shop.test").header("x", "1").header("x", "2");
    let (mut parts, ()) = request.header("x-envoy-downstream-service-cluster", "web").body(()).unwrap().into_parts();
    parts.headers.insert("y", HeaderValue::from_bytes(b"a\xff\xfeb").unwrap());
    let inner = MetadataValue::List(vec![MetadataValue::Bool(true), MetadataValue::Number(1.5), MetadataValue::Null]);
    let value = MetadataValue::Object([("k".into(), inner)].into());
    let metadata = Metadata { filter_metadata: [("n".into(), value)].into() };
    let facts = RequestFacts {
        remote_address: Some(([10, 0, 0, 1], 1).into()),
        local_address: None,
        tls: None,
        requested_server_name: None,
        protocol: Some(http::Version::HTTP_2),
        start_time: SystemTime::UNIX_EPOCH + Duration::new(5, 6),
        stream_id: 7,
        bytes_received: 4,
        dynamic_metadata: Some(&metadata),
        route_metadata: None,
    };
    let encode = |format: CheckFormat| {
        let body = CheckBody::new(Bytes::from_static(b"c\xffd"), true);
        let buffer = Some(BufferSettings::new(9));
        let mut settings = CheckSettings::default();
        settings.with_request_body = buffer;
        settings.context_extensions = [("e".into(), "f".into())].into();
        let check = filter.check_request(&RequestHead::from_parts(&parts), &facts, Some(body), settings);
        CheckRequest::decode(CheckMessages.encode(&check, format)).unwrap().attributes.unwrap()
    };
    let attributes = encode(CheckFormat::default());
    let source = attributes.source.unwrap();
    assert_eq!(source.service, "web");
    assert_eq!(compact(&source.address.unwrap()), r#"{"socket_address":{"address":"10.0.0.1","port_value":1}}"#);
    let destination = attributes.destination.unwrap();
    assert!(destination.address.is_none() && destination.principal.is_empty());
    let request = attributes.request.unwrap();
    let time = request.time.unwrap();
    assert_eq!((time.seconds, time.nanos), (5, 6));
    let http = request.http.unwrap();
    assert_eq!((&*http.id, &*http.method, &*http.path, &*http.host), ("7", "POST", "/a?b", "shop.test"));
    assert_eq!((&*http.scheme, &*http.protocol, http.size), ("http", "HTTP/2", 4));
    for (name, value) in [
        (":authority", "shop.test"),
        (":method", "POST"),
        (":path", "/a?b"),
        (":scheme", "http"),
        ("x", "1,2"),
        ("y", "a!!b"),
        ("x-envoy-auth-partial-body", "false"),
    ] {
        assert_eq!(http.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!http.headers.contains_key("host"));
    assert_eq!((&*http.body, &*http.raw_body), ("c!d", &b""[..]));
    assert_eq!(attributes.context_extensions["e"], "f");
    let metadata = compact(&attributes.metadata_context.unwrap());
    assert_eq!(metadata, r#"{"filter_metadata":{"n":{"k":[true,1.5,null]}}}"#);
    assert_eq!(attributes.tls_session.unwrap().sni, "");

    let raw = encode(CheckFormat { pack_as_bytes: true, encode_raw_headers: true });
    let http = raw.request.unwrap().http.unwrap();
    assert!(http.headers.is_empty() && http.body.is_empty());
    assert_eq!(&*http.raw_body, b"c\xffd");
    let headers = http.header_map.unwrap().headers;
    let values: Vec<_> = headers.iter().filter(|header| header.key == "x").map(|header| &*header.raw_value).collect();
    assert_eq!(values, [b"1", b"2"]);
    assert!(headers.iter().any(|header| header.key == "y" && &*header.raw_value == b"a\xff\xfeb"));
}

fn decide(text: &str) -> Authorization {
    let message: CheckResponse = json::from_text(text, "test").unwrap_or_else(|error| panic!("{error}"));
    CheckMessages.decode(&message.encode_to_vec()).unwrap()
}

fn change(name: &str, value: &'static str, action: ChangeAction) -> HeaderChange {
    HeaderChange::new(HeaderKey::parse(name).unwrap(), HeaderValue::from_static(value), action)
}

#[test]
fn an_ok_response_allows_with_changes() {
    assert!(CheckMessages.decode(b"\xff").is_none());
    assert!(matches!(decide("{}"), Authorization::Allowed(_)), "as in Envoy, no status is the status 0");
    let text = "{status: {code: 0}, dynamic_metadata: {a: b}, ok_response: {headers: [{header: {key: X-Set, value: a}}, \
                {header: {key: x-join, value: b}, append: true}, \
                {header: {key: x-add, value: c}, append_action: ADD_IF_ABSENT}, {header: {key: host, value: h}}], \
                headers_to_remove: [x-gone], query_parameters_to_set: [{key: q, value: v}], \
                query_parameters_to_remove: [w], response_headers_to_add: [{header: {key: r, value: s}}, \
                {header: {key: t, value: u}, append_action: OVERWRITE_IF_EXISTS}, \
                {header: {key: t, value: u}, append: false}]}}";
    let Authorization::Allowed(allowed) = decide(text) else { panic!("it is allowed") };
    let append = ChangeAction::Append;
    assert_eq!(
        allowed.headers,
        [
            change("x-set", "a", append(AppendAction::OverwriteIfExistsOrAdd)),
            change("x-join", "b", ChangeAction::Join),
            change("x-add", "c", append(AppendAction::OverwriteIfExistsOrAdd)),
            change(":authority", "h", append(AppendAction::OverwriteIfExistsOrAdd)),
        ]
    );
    assert_eq!(allowed.headers_to_remove, [HeaderKey::parse("x-gone").unwrap()]);
    assert_eq!(allowed.query_parameters_to_set, [("q".into(), "v".into())]);
    assert_eq!(allowed.query_parameters_to_remove, ["w".into()]);
    assert_eq!(
        allowed.response_headers,
        [
            change("r", "s", append(AppendAction::AppendIfExistsOrAdd)),
            change("t", "u", append(AppendAction::OverwriteIfExists)),
            change("t", "u", append(AppendAction::OverwriteIfExistsOrAdd)),
        ]
    );
    let metadata = |key: &str| MetadataValue::Object([(key.into(), MetadataValue::String("b".into()))].into());
    assert_eq!(allowed.dynamic_metadata, metadata("a"));
    let Authorization::Allowed(allowed) = decide("{dynamic_metadata: {a: b}, ok_response: {dynamic_metadata: {c: b}}}")
    else {
        panic!("it is allowed")
    };
    assert_eq!(allowed.dynamic_metadata, metadata("c"), "the deprecated field takes precedence");
}

#[test]
fn other_statuses_deny_and_an_error_response_is_a_failure() {
    let Authorization::Denied(denied) = decide("{status: {code: 7}}") else { panic!("it is denied") };
    assert_eq!((denied.status, denied.headers.len(), denied.body.len()), (None, 0, 0));
    let text = "{status: {code: 7}, denied_response: {status: {code: 401}, body: 'no', \
                headers: [{header: {key: set-cookie, value: a}}, {header: {key: set-cookie, value: b}}]}}";
    let Authorization::Denied(denied) = decide(text) else { panic!("it is denied") };
    assert_eq!((denied.status, &*denied.body), (Some(StatusCode::UNAUTHORIZED), &b"no"[..]));
    assert_eq!(denied.headers.len(), 2);
    let Authorization::Failed(Some(failed)) = decide("{status: {code: 13}, error_response: {status: {code: 503}}}")
    else {
        panic!("it is a failure")
    };
    assert_eq!(failed.status, Some(StatusCode::SERVICE_UNAVAILABLE));
    assert!(matches!(decide("{status: {code: 7}, ok_response: {}}"), Authorization::Denied(_)));
    assert!(matches!(decide("{denied_response: {}}"), Authorization::Allowed(_)), "the status decides, as in Envoy");
}

#[test]
fn what_makes_no_valid_header_or_status_is_invalid() {
    for text in [
        "{ok_response: {headers: [{header: {key: 'a b', value: c}}]}}",
        "{ok_response: {headers: [{header: {key: a, value: \"b\\nc\"}}]}}",
        "{ok_response: {headers: [{}]}}",
        "{ok_response: {headers_to_remove: ['']}}",
        "{ok_response: {response_headers_to_add: [{header: {key: '', value: c}}]}}",
        "{status: {code: 7}, denied_response: {status: {code: 99}}}",
        "{status: {code: 7}, denied_response: {status: {code: 100}}}",
        "{status: {code: 7}, denied_response: {headers: [{header: {key: a, value: \"\\0\"}}]}}",
    ] {
        assert_eq!(decide(text), Authorization::Invalid, "{text}");
    }
}

#[test]
fn a_service_may_be_asked_about_connections() {
    use crate::proto::envoy::extensions::filters::network::ext_authz::v3 as network;
    let decode = |yaml: &str| {
        let message: network::ExtAuthz = json::from_text(yaml, "test").unwrap();
        let notes = Notes::default();
        let decoded = super::network::decode(&At::root(&notes), &message);
        let result = notes.finish(decoded).map(|(model, _)| model);
        result.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    let service = "grpc_service: {envoy_grpc: {cluster_name: authz}}, transport_api_version: V3";
    let model = decode(&format!(
        "{{stat_prefix: tcp, {service}, failure_mode_allow: true, include_peer_certificate: true, include_tls_session: true, \
         metadata_context_namespaces: [a], filter_enabled_metadata: {{filter: f, path: [{{key: k}}], value: {{present_match: true}}}}}}"
    ))
    .unwrap();
    assert_eq!((&*model.stat_prefix, model.service.cluster.as_str()), ("tcp", "authz"));
    assert!(model.failure_mode_allow && model.include_peer_certificate && model.include_tls_session);
    assert_eq!(model.metadata_context_namespaces, ["a".into()]);
    assert!(!model.applies(None), "other connections are not checked");
    assert!(decode(&format!("{{stat_prefix: a, {service}}}")).unwrap().applies(None));
    for (field, reason) in [
        ("send_tls_alert_on_denial: true", "send_tls_alert_on_denial: not supported"),
        ("shadow_mode: true", "shadow_mode: not supported"),
        ("bootstrap_metadata_labels_key: a", "bootstrap_metadata_labels_key: not supported"),
        ("transport_api_version: V2", "transport_api_version: expected V3"),
    ] {
        let service = service.replace("transport_api_version: V3", "");
        let version = if field.starts_with("transport") { "" } else { ", transport_api_version: V3" };
        let error = decode(&format!("{{stat_prefix: a, {service}{field}{version}}}")).unwrap_err();
        assert!(error.contains(reason), "{field}: {error}");
    }
    let error = decode("{stat_prefix: a, transport_api_version: V3}").unwrap_err();
    assert!(error.contains("grpc_service: is missing"), "{error}");
}
