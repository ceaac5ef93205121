//! The translation of rules, compared with protobuf-JSON.

mod connections;
mod kubernetes;
mod mesh_config;

mod request_authentication;
mod tls;

use std::sync::Arc;

use mesh_xds::json::{from_text, to_json};
use mesh_xds::proto::envoy::config::route::v3::{Route, VirtualHost};

use super::*;
use crate::config::{Labels, Strictness};
use crate::diagnostic::Source;
use crate::load::Loaded;

const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.default.svc.cluster.local]
  addresses: [240.0.0.1, '2001:2::1']
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, labels: {app: a, version: v1}, locality: r1/z1}
  - {address: 127.0.0.2, labels: {app: a, version: v2}, locality: r1/z2, weight: 3}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, namespace: other}
spec:
  hosts: [b.other.svc.cluster.local]
  ports: [{number: 81, name: http, protocol: HTTP}]
  resolution: DNS
  endpoints: [{address: localhost}]
";

fn resources(text: &str, node: &Node) -> Resources {
    let source = |text: &str| Arc::new(Source::new("a.yaml", text));
    let loaded = Loaded::from_sources(vec![source(SERVICES), source(text)], Strictness::Strict);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    translate(&loaded.mesh, node)
}

fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn client() -> Node {
    Node::client(Role::Library, "default")
}

/// Routes of `a` for a client, under these rules.
fn routes(rules: &str, node: &Node) -> Vec<Route> {
    let text = resource("VirtualService", "a", &format!("{{hosts: [a], http: [{rules}]}}"));
    let resources = resources(&text, node);
    let name = "outbound|80||a.default.svc.cluster.local";
    let config = resources.routes.into_iter().find(|config| config.name == name).unwrap();
    config.virtual_hosts.into_iter().flat_map(|host| host.routes).collect()
}

/// Checks the first route of the rules, without the metadata that all routes have.
#[track_caller]
fn check(rules: &str, expected: &str) {
    let mut found = routes(rules, &client()).swap_remove(0);
    found.metadata = None;
    let expected: Route = from_text(expected, "expected").unwrap();
    assert_eq!(to_json(&found).to_string(), to_json(&expected).to_string(), "{rules}");
}

const TO_A: &str = "route: [{destination: {host: a}}]";
const CLUSTER: &str = "cluster: outbound|80||a.default.svc.cluster.local";
const NO_LIMIT: &str = "timeout: 0s, max_grpc_timeout: 0s";

#[test]
fn matches() {
    for (matcher, expected) in [
        ("{uri: {exact: /x}}", "{path: /x, case_sensitive: true}"),
        ("{uri: {prefix: /x}, ignoreUriCase: true}", "{prefix: /x, case_sensitive: false}"),
        ("{uri: {regex: '/x[0-9]+'}}", "{safe_regex: {regex: '/x[0-9]+'}, case_sensitive: true}"),
        (
            "{method: {exact: GET}, authority: {prefix: a}, scheme: {exact: http}}",
            "{prefix: /, case_sensitive: true, headers: [
                {name: ':method', string_match: {exact: GET}},
                {name: ':authority', string_match: {prefix: a}},
                {name: ':scheme', string_match: {exact: http}}]}",
        ),
        (
            "{headers: {X-A: {exact: a}, x-b: {}, x-c: {regex: '*'}}, withoutHeaders: {x-d: {prefix: d}, x-e: {}}}",
            "{prefix: /, case_sensitive: true, headers: [
                {name: x-a, string_match: {exact: a}},
                {name: x-b, present_match: true},
                {name: x-c, present_match: true},
                {name: x-d, string_match: {prefix: d}, invert_match: true, treat_missing_header_as_empty: true},
                {name: x-e, present_match: true, invert_match: true}]}",
        ),
        (
            "{queryParams: {a: {exact: '1'}, b: {}}}",
            "{prefix: /, case_sensitive: true, query_parameters: [
                {name: a, string_match: {exact: '1'}}, {name: b, present_match: true}]}",
        ),
    ] {
        check(
            &format!("{{match: [{matcher}], {TO_A}, retries: {{attempts: 0}}}}"),
            &format!("{{match: {expected}, route: {{{CLUSTER}, {NO_LIMIT}}}}}"),
        );
    }
}

#[test]
fn a_rule_without_policy_has_istios_defaults() {
    check(
        &format!("{{name: all, {TO_A}}}"),
        &format!(
            "{{name: all, match: {{prefix: /}}, route: {{{CLUSTER}, {NO_LIMIT}, retry_policy: {{
                retry_on: 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes',
                num_retries: 2, host_selection_retry_max_attempts: 5, retry_host_predicate: [{{
                    name: envoy.retry_host_predicates.previous_hosts, typed_config: {{
                        '@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
                    }}}}]}}}}}}"
        ),
    );
}

#[test]
fn actions() {
    let no_retries = "retries: {attempts: 0}";
    for (rule, expected) in [
        (
            format!("{TO_A}, timeout: 3s, retries: {{attempts: 4, perTryTimeout: 500ms, backoff: 20ms, \
                     retryOn: 'reset,429', retryIgnorePreviousHosts: false}}"),
            format!("route: {{{CLUSTER}, timeout: 3s, max_grpc_timeout: 3s, retry_policy: {{retry_on: \
                     'reset,retriable-status-codes', retriable_status_codes: [429], num_retries: 4, \
                     per_try_timeout: 0.5s, retry_back_off: {{base_interval: 0.02s}}, \
                     host_selection_retry_max_attempts: 5}}}}"),
        ),
        (
            format!("{TO_A}, {no_retries}, rewrite: {{uri: /y, authority: c.example}}"),
            format!("route: {{{CLUSTER}, {NO_LIMIT}, prefix_rewrite: /y, host_rewrite_literal: c.example}}"),
        ),
        (
            format!("{TO_A}, {no_retries}, rewrite: {{uriRegexRewrite: {{match: '^/(.*)$', rewrite: '/v1/\\1'}}}}"),
            format!("route: {{{CLUSTER}, {NO_LIMIT}, regex_rewrite: {{pattern: {{regex: '^/(.*)$'}}, \
                     substitution: '/v1/\\1'}}}}"),
        ),
        (
            format!("{no_retries}, headers: {{request: {{set: {{Host: c.example, x-a: a}}, add: {{x-b: b}}, remove: \
                     [x-c]}}, response: {{remove: [server]}}}}, {TO_A}"),
            format!("request_headers_to_add: [{{header: {{key: x-a, value: a}}, append_action: \
                     OVERWRITE_IF_EXISTS_OR_ADD}}, {{header: {{key: x-b, value: b}}}}], request_headers_to_remove: \
                     [x-c], response_headers_to_remove: [server], \
                     route: {{{CLUSTER}, {NO_LIMIT}, host_rewrite_literal: c.example}}"),
        ),
        (
            "redirect: {uri: /y, authority: c.example, scheme: https, derivePort: FROM_REQUEST_PORT, redirectCode: 308}"
                .to_owned(),
            "redirect: {path_redirect: /y, host_redirect: c.example, scheme_redirect: https, port_redirect: 80, \
             response_code: PERMANENT_REDIRECT}"
                .to_owned(),
        ),
        ("redirect: {port: 8443}".to_owned(), "redirect: {port_redirect: 8443}".to_owned()),
        (
            "directResponse: {status: 503, body: {string: later}}".to_owned(),
            "direct_response: {status: 503, body: {inline_string: later}}".to_owned(),
        ),
        (
            format!("{TO_A}, {no_retries}, fault: {{delay: {{percentage: {{value: 0.5}}, fixedDelay: 1s}}, \
                     abort: {{percent: 10, grpcStatus: UNAVAILABLE}}}}"),
            format!("route: {{{CLUSTER}, {NO_LIMIT}}}, typed_per_filter_config: {{envoy.filters.http.fault: {{\
                     '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, \
                     delay: {{fixed_delay: 1s, percentage: {{numerator: 5000, denominator: MILLION}}}}, \
                     abort: {{grpc_status: 14, percentage: {{numerator: 100000, denominator: MILLION}}}}}}}}"),
        ),
        (
            format!("{TO_A}, {no_retries}, corsPolicy: {{allowOrigins: [{{exact: a}}, {{prefix: b}}, {{regex: 'c.*'}}], \
                     allowMethods: [GET, PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c], maxAge: 24h, \
                     allowCredentials: false, unmatchedPreflights: IGNORE}}"),
            format!("route: {{{CLUSTER}, {NO_LIMIT}}}, typed_per_filter_config: {{envoy.filters.http.cors: {{\
                     '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy, \
                     allow_origin_string_match: [{{exact: a}}, {{prefix: b}}, {{safe_regex: {{regex: 'c.*'}}}}], \
                     allow_methods: 'GET,PUT', allow_headers: 'x-a,x-b', expose_headers: x-c, max_age: '86400', \
                     allow_credentials: false, filter_enabled: {{default_value: {{numerator: 100}}}}, \
                     forward_not_matching_preflights: false}}}}"),
        ),
    ] {
        check(&format!("{{{rule}}}"), &format!("{{match: {{prefix: /}}, {expected}}}"));
    }
}

#[test]
fn weights_are_shared_by_destinations_that_have_one() {
    let rules = resource("DestinationRule", "a", "{host: a, subsets: [{name: v1, labels: {version: v1}}]}");
    let service = resource(
        "VirtualService",
        "a",
        "{hosts: [a], http: [{retries: {attempts: 0}, route: [{destination: {host: a, subset: v1}, weight: 3},
         {destination: {host: a}}, {destination: {host: b.other.svc.cluster.local}, weight: 1,
          headers: {request: {set: {x: y}}}}]}]}",
    );
    let resources = resources(&format!("{rules}{service}"), &client());
    let found = &resources.routes[0].virtual_hosts[0].routes[0];
    let expected: Route = from_text(
        &format!(
            "{{match: {{prefix: /}}, route: {{{NO_LIMIT}, weighted_clusters: {{clusters: [
              {{name: outbound|80|v1|a.default.svc.cluster.local, weight: 3}},
              {{name: outbound|81||b.other.svc.cluster.local, weight: 1, request_headers_to_add: [
                {{header: {{key: x, value: 'y'}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}]}}]}}}}}}"
        ),
        "expected",
    )
    .unwrap();
    assert_eq!((&found.r#match, &found.action), (&expected.r#match, &expected.action));
}

/// Names of the routes that a node gets from rules.
fn names(rules: &str, node: &Node) -> Vec<String> {
    routes(rules, node).into_iter().map(|route| route.name).collect()
}

#[test]
fn conditions_on_the_client_are_decided_at_once() {
    let rules = format!(
        "{{name: labels, match: [{{sourceLabels: {{app: c}}, uri: {{exact: /}}}}], {TO_A}}},
         {{name: namespace, match: [{{sourceNamespace: other, uri: {{exact: /}}}}], {TO_A}}},
         {{name: port, match: [{{port: 81, uri: {{exact: /}}}}, {{name: own, port: 80, uri: {{exact: /}}}}], {TO_A}}},
         {{name: gateway, match: [{{gateways: [edge], uri: {{exact: /}}}}], {TO_A}}},
         {{name: all, {TO_A}}}, {{name: never, {TO_A}}}"
    );
    assert_eq!(names(&rules, &client()), ["port.own", "all"]);
    let labels = Labels::from([("app".to_owned(), "c".to_owned())]);
    let node = Node { labels, ..Node::client(Role::Library, "other") };
    assert_eq!(names(&rules, &node), ["labels", "namespace", "port.own", "all"]);
}

#[test]
fn a_service_has_the_names_by_which_its_namespace_calls_it() {
    let domains = |namespace| {
        let resources = resources("", &Node::client(Role::Sidecar(Interception::Redirect), namespace));
        resources.routes.iter().find(|config| config.name == "80").unwrap().virtual_hosts[0].domains.join(" ")
    };
    let common = "a.default.svc a.default 240.0.0.1 [2001:2::1]";
    assert_eq!(domains("default"), format!("a.default.svc.cluster.local a.default.svc.cluster.local. a {common}"));
    assert_eq!(domains("other"), format!("a.default.svc.cluster.local a.default.svc.cluster.local. {common}"));
}

#[test]
fn a_sidecar_limits_what_its_workload_may_call() {
    let sidecar = |spec: &str| {
        let text = resource("Sidecar", "s", &format!("{{workloadSelector: {{labels: {{app: a}}}}, {spec}}}"));
        resources(&text, &Node::new(Role::Sidecar(Interception::None), Some("a"), None, Labels::new()).unwrap())
    };
    let listener = "port: {number: 81, protocol: HTTP, name: out}";
    let found = sidecar(&format!("egress: [{{{listener}, hosts: ['other/*']}}]"));
    let names: Vec<_> = found.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["outbound|81||b.other.svc.cluster.local"]);
    let hosts: Vec<_> = found.routes[0].virtual_hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(hosts, ["b.other.svc.cluster.local:81", "block_all"]);
    let blocked = |found: &Resources| to_json(&found.routes[0].virtual_hosts[1].routes[0]).to_string();
    let reason = "ALLOW_ANY cannot pass the request on: it came to a port of its own";
    assert!(blocked(&found).contains(reason), "{}", blocked(&found));
    let strict = sidecar(&format!(
        "outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}, egress: [{{{listener}, hosts: ['other/*']}}]"
    ));
    assert!(!blocked(&strict).contains("body"), "{}", blocked(&strict));
    let found = sidecar("ingress: [{port: {number: 8080, protocol: HTTP, name: in}}]");
    assert_eq!(found.listeners[0].name, "127.0.0.1_8080");
    assert_eq!(found.clusters.len(), 3, "without egress everything may be called");
}

#[test]
fn destinations_come_with_the_service_whose_rules_name_them() {
    let sidecar = "{workloadSelector: {labels: {app: a}}, egress: [{hosts: [./*]}]}";
    let rule = "{hosts: [a], http: [{route: [{destination: {host: b.other.svc.cluster.local}}]}]}";
    let text = resource("Sidecar", "s", sidecar) + &resource("VirtualService", "a", rule);
    let node = Node::new(Role::Sidecar(Interception::None), Some("a"), None, Labels::new()).unwrap();
    let names: Vec<_> = resources(&text, &node).clusters.into_iter().map(|cluster| cluster.name).collect();
    assert_eq!(names, ["outbound|80||a.default.svc.cluster.local", "outbound|81||b.other.svc.cluster.local"]);
}

/// Virtual hosts of the gateway's port 8080.
fn gateway_hosts(text: &str) -> Vec<VirtualHost> {
    let resources = resources(text, &Node::client(Role::Gateway, "istio-system"));
    let config = resources.routes.into_iter().find(|config| config.name == "http.8080").unwrap();
    config.virtual_hosts
}

#[test]
fn virtual_services_of_a_gateway_share_hosts_and_catch_alls_go_last() {
    let gateway = |more: &str| {
        let port = "port: {number: 8080, name: http, protocol: HTTP}";
        resource("Gateway", "edge", &format!("{{selector: {{istio: ingressgateway}}, servers: [{{{port}, {more}}}]}}"))
    };
    let service = |name: &str, host: &str, rule: &str| {
        let spec = format!("{{hosts: ['{host}'], gateways: [edge], http: [{{name: {name}, {rule}{TO_A}}}]}}");
        resource("VirtualService", name, &spec)
    };
    let services = [
        service("a", "x.example", ""),
        service("b", "x.example", "match: [{uri: {exact: /b}}], "),
        service("c", "*", ""),
        service("d", "y.test", ""),
    ]
    .concat();
    let hosts = gateway_hosts(&(gateway("hosts: ['*.example']") + &services));
    let summary: Vec<_> = hosts
        .iter()
        .map(|host| {
            let routes: Vec<_> = host.routes.iter().map(|route| route.name.as_str()).collect();
            format!("{} {:?} {}", host.name, host.domains, routes.join(" "))
        })
        .collect();
    assert_eq!(summary, ["*.example:8080 [\"*.example\"] c", "x.example:8080 [\"x.example\"] b a"]);
    let hosts = gateway_hosts(&gateway("hosts: ['*'], tls: {httpsRedirect: true}"));
    assert_eq!(hosts[0].require_tls().as_str_name(), "ALL");
}

#[test]
fn blocks_of_a_policy_replace_those_of_the_level_above() {
    let rule = resource(
        "DestinationRule",
        "a",
        "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 1}},
          portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}]},
          subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {connectionPool: {http: {maxRetries: 2}}}}]}",
    );
    let resources = resources(&rule, &client());
    let summary: Vec<_> = resources
        .clusters
        .iter()
        .map(|cluster| {
            let limits = &cluster.circuit_breakers.as_ref().unwrap().thresholds[0];
            let limit = |value: Option<u32>| value.filter(|value| *value != u32::MAX);
            (
                cluster.name.as_str(),
                cluster.lb_policy().as_str_name(),
                limit(limits.max_connections),
                limit(limits.max_retries),
            )
        })
        .collect();
    assert_eq!(
        summary,
        [
            ("outbound|80|v1|a.default.svc.cluster.local", "RANDOM", None, Some(2)),
            ("outbound|80||a.default.svc.cluster.local", "RANDOM", Some(1), None),
            ("outbound|81||b.other.svc.cluster.local", "LEAST_REQUEST", None, None),
        ]
    );
    let [v1, all] = resources.endpoints.as_slice() else { panic!("a service resolved by DNS has no endpoints here") };
    assert_eq!(v1.endpoints.len(), 1);
    let weights: Vec<_> = all.endpoints.iter().map(|locality| locality.load_balancing_weight).collect();
    assert_eq!(weights, [Some(1), Some(3)]);
}
