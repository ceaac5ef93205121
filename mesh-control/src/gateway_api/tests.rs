//! Gateway API, as the proxies and clients of a mesh get it, and the conditions of its resources.

use std::sync::Arc;

use mesh_core::node::{Labels, Node, Role};
use mesh_xds::json::to_json;
use mesh_xds::proto::envoy::config::route::v3::Route;

use super::*;
use crate::config::Strictness;
use crate::diagnostic::Source;
use crate::load::Loaded;
use crate::translate::translate;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {ports: [{port: 80, name: http}, {port: 81, name: grpc}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {ports: [{port: 80, name: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: istio
  listeners:
  - {name: web, port: 80, protocol: HTTP, hostname: '*.example.com'}
---
";

fn load(text: &str) -> Loaded {
    let source = |path: &str, text: &str| Arc::new(Source::new(path, text));
    Loaded::from_sources(vec![source("mesh.yaml", MESH), source("x.yaml", text)], Strictness::Strict)
}

fn valid(text: &str) -> Loaded {
    let loaded = load(text);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    loaded
}

fn route(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

fn http(rules: &str) -> String {
    route("HTTPRoute", "r", &format!("{{parentRefs: [{{name: edge}}], hostnames: [a.example.com], rules: [{rules}]}}"))
}

/// A route as JSON in one line.
fn compact(route: &Route) -> String {
    let json = to_json(route).to_string();
    json.lines().map(|line| line.trim_start().replacen("\": ", "\":", 1)).collect()
}

/// Routes of the gateway, one line for each: host, match, then what happens.
fn routes(loaded: &Loaded, node: &Node) -> Vec<String> {
    let mut lines = Vec::new();
    for host in translate(&loaded.mesh, node).routes.iter().flat_map(|config| &config.virtual_hosts) {
        for route in &host.routes {
            lines.push(format!("{} {}", host.domains[0], compact(route)));
        }
    }
    lines
}

fn edge() -> Node {
    let labels = Labels::from([(GATEWAY_NAME_LABEL.to_owned(), "edge".to_owned())]);
    Node::new(Role::Gateway, None, Some("shop"), labels).unwrap()
}

const TO_A: &str = "backendRefs: [{name: a, port: 80}]";

/// Checks that the only rule is translated to a route that has these parts.
#[track_caller]
fn check(rule: &str, parts: &[&str]) {
    let found = routes(&valid(&http(rule)), &edge());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("a.example.com "), "{found:?}");
    for part in parts {
        assert!(found[0].contains(part), "{rule}\n has no {part}\n{}", found[0]);
    }
}

#[test]
fn rules_are_translated() {
    const CLUSTER: &str = r#""cluster":"outbound|80||a.shop.svc.cluster.local""#;
    for (rule, parts) in [
        (format!("{{{TO_A}}}"), &[CLUSTER, r#""match":{"prefix":"/","case_sensitive":true}"#][..]),
        (format!("{{matches: [{{path: {{value: /x/}}}}], {TO_A}}}"), &[r#""path_separated_prefix":"/x""#]),
        (format!("{{matches: [{{path: {{type: Exact, value: /x}}, method: GET}}], {TO_A}}}"), &[
            r#""path":"/x""#,
            r#"{"name":":method","string_match":{"exact":"GET"}}"#,
        ]),
        (
            format!(
                "{{matches: [{{path: {{type: RegularExpression, value: '/[a-z]+'}}, headers: [{{name: X-A, value: '1'}}, \
                 {{name: x-a, value: '2'}}], queryParams: [{{name: q, type: RegularExpression, value: '.+'}}]}}], {TO_A}}}"
            ),
            &[
                r#""safe_regex":{"regex":"/[a-z]+"}"#,
                r#""headers":[{"name":"x-a","string_match":{"exact":"1"}}]"#,
                r#""query_parameters":[{"name":"q","string_match":{"safe_regex":{"regex":".+"}}}]"#,
            ],
        ),
        ("{backendRefs: [{name: a, port: 80, weight: 9}, {name: b, port: 80}, {name: a, port: 81, weight: 0}]}".into(), &[
            r#"{"name":"outbound|80||a.shop.svc.cluster.local","weight":9}"#,
            r#"{"name":"outbound|80||b.shop.svc.cluster.local","weight":1}]"#,
        ]),
        (
            format!(
                "{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-s, value: s}}], remove: \
                 [x-r]}}}}, {{type: ResponseHeaderModifier, responseHeaderModifier: {{add: [{{name: x-t, value: t}}]}}}}], {TO_A}}}"
            ),
            &[
                r#"{"header":{"key":"x-s","value":"s"},"append_action":"OVERWRITE_IF_EXISTS_OR_ADD"}"#,
                r#""request_headers_to_remove":["x-r"]"#,
                r#""response_headers_to_add":[{"header":{"key":"x-t","value":"t"}}]"#,
            ],
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: b.example.com, path: {type: \
             ReplaceFullPath, replaceFullPath: /new}}}]}"
                .into(),
            &[
                r#""scheme_redirect":"https""#,
                r#""host_redirect":"b.example.com""#,
                r#""path_redirect":"/new""#,
                r#""response_code":"FOUND""#,
            ],
        ),
        (
            format!(
                "{{matches: [{{path: {{value: /x}}}}], filters: [{{type: URLRewrite, urlRewrite: {{hostname: b.example.com, path: \
                 {{type: ReplacePrefixMatch, replacePrefixMatch: /y/}}}}}}], {TO_A}}}"
            ),
            &[r#""prefix_rewrite":"/y""#, r#""host_rewrite_literal":"b.example.com""#],
        ),
        (
            format!(
                "{{matches: [{{path: {{value: /x}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: \
                 ReplacePrefixMatch, replacePrefixMatch: /}}}}}}], {TO_A}}}"
            ),
            &[r#""regex_rewrite":{"pattern":{"regex":"^/x/*"},"substitution":"/"}"#],
        ),
        (format!("{{timeouts: {{request: 3s, backendRequest: 1s}}, {TO_A}}}"), &[r#""timeout":"3s""#]),
        (format!("{{timeouts: {{request: 0s}}, {TO_A}}}"), &[r#""timeout":"0s""#]),
        ("{backendRefs: [{name: a, port: 80}, {name: nobody, port: 80}]}".into(), &[r#""direct_response":{"status":500}"#]),
        ("{backendRefs: []}".into(), &[r#""direct_response":{"status":500}"#]),
    ] {
        check(&rule, parts);
    }
}

#[test]
fn rules_are_tried_in_the_order_of_gateway_api() {
    let matches = [
        "{path: {value: /}}",
        "{path: {value: /long}}",
        "{path: {type: Exact, value: /e}}",
        "{path: {value: /long}, headers: [{name: h, value: h}]}",
        "{path: {value: /long}, method: GET}",
        "{path: {value: /long}, queryParams: [{name: q, value: q}]}",
    ];
    let rules: Vec<_> =
        matches.iter().enumerate().map(|(i, it)| format!("{{name: r{i}, matches: [{it}], {TO_A}}}")).collect();
    let found = routes(&valid(&http(&rules.join(", "))), &edge());
    let order: Vec<_> = found.iter().filter_map(|line| line.split(r#""name":"r"#).nth(1)?.get(..1)).collect();
    assert_eq!(order, ["2", "4", "3", "5", "1", "0"]);
}

#[test]
fn a_grpc_route_matches_methods() {
    let rules = "{matches: [{method: {service: s.S, method: M}}], backendRefs: [{name: a, port: 81}]}, {matches: [{method: \
                 {service: s.S}}], backendRefs: [{name: a, port: 81}]}, {matches: [{method: {method: M}}], backendRefs: [{name: a, \
                 port: 81}]}";
    let spec = format!("{{parentRefs: [{{name: edge, sectionName: web}}], rules: [{rules}]}}");
    let found = routes(&valid(&route("GRPCRoute", "g", &spec)), &edge());
    assert_eq!(found.len(), 3, "{found:?}");
    for (line, part) in found.iter().zip([r#""path":"/s.S/M""#, r#""prefix":"/s.S/""#, r#""regex":"/[^/]+/M""#]) {
        assert!(line.starts_with("*.example.com ") && line.contains(part), "{line}");
    }
}

/// Reasons of the conditions `Accepted` and `ResolvedRefs` of the first parent.
fn reasons(loaded: &Loaded) -> Vec<&'static str> {
    let status = &loaded.mesh.gateway_api.statuses.routes[0];
    status.conditions.iter().map(|condition| condition.reason).collect()
}

#[test]
fn a_route_says_why_it_is_not_followed() {
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: \
                 {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service}]}\n";
    let far = "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: far, namespace: other, port: 80}]}]}";
    for (spec, others, expected) in [
        (format!("{{parentRefs: [{{name: edge}}], rules: [{{{TO_A}}}]}}"), "", ["Accepted", "ResolvedRefs"]),
        (
            format!("{{parentRefs: [{{name: edge, sectionName: no}}], rules: [{{{TO_A}}}]}}"),
            "",
            ["NoMatchingParent", "ResolvedRefs"],
        ),
        (
            format!("{{parentRefs: [{{name: edge}}], hostnames: [a.example.org], rules: [{{{TO_A}}}]}}"),
            "",
            ["NoMatchingListenerHostname", "ResolvedRefs"],
        ),
        (
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: no, port: 80}]}]}".into(),
            "",
            ["Accepted", "BackendNotFound"],
        ),
        (
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: a, port: 9}]}]}".into(),
            "",
            ["Accepted", "BackendNotFound"],
        ),
        (
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{kind: Bucket, name: a, port: 80}]}]}".into(),
            "",
            ["Accepted", "InvalidKind"],
        ),
        (far.into(), "", ["Accepted", "RefNotPermitted"]),
        (far.into(), grant, ["Accepted", "ResolvedRefs"]),
    ] {
        assert_eq!(reasons(&valid(&(route("HTTPRoute", "r", &spec) + others))), expected, "{spec}");
    }
    let elsewhere = format!("{{parentRefs: [{{name: edge, namespace: shop}}], rules: [{{{TO_A}}}]}}");
    let text = route("HTTPRoute", "r", &elsewhere).replace("namespace: shop}\nspec", "namespace: other}\nspec");
    assert_eq!(reasons(&valid(&text))[0], "NotAllowedByListeners");
}

#[test]
fn gateways_of_other_classes_are_left_to_their_controllers() {
    let class = |controller: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: istio}}\nspec: \
             {{controllerName: {controller}}}\n"
        )
    };
    let ours = valid(&(http(&format!("{{{TO_A}}}")) + &class(CONTROLLER)));
    assert_eq!((ours.mesh.gateway_api.gateways.len(), routes(&ours, &edge()).len()), (1, 1));
    assert_eq!(ours.mesh.gateway_api.statuses.classes, ["istio"]);
    let other = valid(&(http(&format!("{{{TO_A}}}")) + &class("example.com/other")));
    assert!(other.mesh.gateway_api.gateways.is_empty());
    assert_eq!(other.mesh.gateway_api.statuses, Statuses::default());
    let unlabelled = Node::new(Role::Gateway, None, Some("shop"), Labels::new()).unwrap();
    assert!(routes(&ours, &unlabelled).is_empty());
}

#[test]
fn a_listener_without_its_certificate_is_not_served() {
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: tls, namespace: shop}\nspec: \
                   {gatewayClassName: istio, listeners: [{name: a, port: 443, protocol: HTTPS, hostname: a.example.com, tls: \
                   {certificateRefs: [{name: cert}]}}, {name: b, port: 443, protocol: HTTPS, hostname: a.example.com, tls: \
                   {certificateRefs: [{name: cert}]}}]}\n";
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: shop}\nstringData: {tls.crt: \
                  '-----BEGIN CERTIFICATE-----', tls.key: '-----BEGIN PRIVATE KEY-----'}\n";
    let listeners = |text: &str| -> Vec<(String, Vec<&'static str>)> {
        let loaded = valid(text);
        let gateways = loaded.mesh.gateway_api.statuses.gateways;
        let tls = gateways.into_iter().find(|gateway| gateway.name == "tls").unwrap();
        tls.listeners.into_iter().map(|it| (it.name, it.conditions.iter().map(|it| it.reason).collect())).collect()
    };
    let conflict = vec!["HostnameConflict", "HostnameConflict", "ResolvedRefs", "Invalid"];
    assert_eq!(
        listeners(gateway),
        [
            ("a".to_owned(), vec!["Accepted", "NoConflicts", "InvalidCertificateRef", "Invalid"]),
            ("b".to_owned(), conflict.clone()),
        ]
    );
    assert_eq!(
        listeners(&(gateway.to_owned() + secret)),
        [("a".to_owned(), vec!["Accepted", "NoConflicts", "ResolvedRefs", "Programmed"]), ("b".to_owned(), conflict),]
    );
}

fn cluster(route: &str) -> String {
    let rest = route.split_once("\"cluster\":\"").map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or_default().to_owned()
}

#[test]
fn clients_in_the_mesh_follow_routes_of_a_service() {
    let of_port = "{parentRefs: [{group: '', kind: Service, name: a, port: 80}], rules: [{matches: [{path: {value: /x}}], \
                   backendRefs: [{name: b, port: 80}]}]}";
    let own = route("HTTPRoute", "own", of_port);
    let loaded = valid(&own);
    let of_host = |loaded: &Loaded, namespace: &str, port: u16| {
        let node = Node::client(Role::Library, namespace);
        let name = format!("outbound|{port}||a.shop.svc.cluster.local");
        let config = translate(&loaded.mesh, &node).routes.into_iter().find(|config| config.name == name).unwrap();
        let routes = config.virtual_hosts.into_iter().flat_map(|host| host.routes);
        routes.map(|route| cluster(&compact(&route))).collect::<Vec<_>>()
    };
    let (to_a, to_b) =
        (|port| format!("outbound|{port}||a.shop.svc.cluster.local"), "outbound|80||b.shop.svc.cluster.local");
    assert_eq!(of_host(&loaded, "other", 80), [to_b], "every client follows the route of the service's namespace");
    assert_eq!(of_host(&loaded, "other", 81), [to_a(81)], "other ports have no route");
    let consumer = own
        .replace("namespace: shop}\nspec", "namespace: other}\nspec")
        .replace("name: a, port", "name: a, namespace: shop, port");
    let consumer = valid(&consumer.replace("{name: b, port: 80}", "{name: far, port: 80}"));
    assert_eq!(of_host(&consumer, "other", 80), ["outbound|80||far.other.svc.cluster.local".to_owned(), to_a(80)]);
    assert_eq!(of_host(&consumer, "shop", 80), [to_a(80)], "only the route's namespace follows it");
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    for (text, expected) in [
        (
            http(&format!(
                "{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}}}}}], {TO_A}}}"
            )),
            "RequestMirror is not supported yet",
        ),
        (http(&format!("{{sessionPersistence: {{}}, {TO_A}}}")), "sessionPersistence is not supported yet"),
        (http(&format!("{{matches: [{{paths: {{value: /}}}}], {TO_A}}}")), "unknown field \"paths\""),
        (
            http(&format!(
                "{{matches: [{{path: {{type: Exact, value: /}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}}}], {TO_A}}}"
            )),
            "needs a match of a prefix",
        ),
        (
            http(
                "{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}",
            ),
            "cannot replace the prefix",
        ),
        (
            route("Gateway", "g", "{gatewayClassName: istio, listeners: [{name: a, port: 1, protocol: UDP}]}"),
            "UDP is not supported yet",
        ),
        (route("TLSRoute", "t", "{}"), "TLSRoute of gateway.networking.k8s.io is not supported yet"),
    ] {
        let found = load(&text).diagnostics;
        assert!(found.iter().any(|it| it.message.contains(expected)), "{text}\n gave {found:?}\n expected {expected}");
    }
}
