//! Each mistake with the diagnostic that the whole reader gives for it.

mod authorization;
mod connections;
mod kubernetes;
mod mesh_config;
mod others;
mod request_authentication;
mod tls;

use super::*;
use crate::config::Strictness;
use crate::config::{HttpAction, LoadBalancer};

/// A valid mesh: every test breaks one part of it, or adds one resource.
const MESH: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, labels: {version: v1}}
  - {address: 127.0.0.2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two-ports}
spec:
  hosts: [two.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: other, protocol: GRPC}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: [books.example]}]
---
";

fn load(files: &[(&str, &str)]) -> Loaded {
    let source = |(path, text): &(&str, &str)| Arc::new(Source::new(path, *text));
    Loaded::from_sources(files.iter().map(source).collect(), Strictness::Strict)
}

/// `CODE line `text` field: message` of everything found in a file beside [`MESH`], where `text` is what is underlined.
fn findings(text: &str) -> Vec<String> {
    let loaded = load(&[("mesh.yaml", MESH), ("x.yaml", text)]);
    loaded.diagnostics.iter().map(finding).collect()
}

fn finding(diagnostic: &Diagnostic) -> String {
    let Diagnostic { code, position, field, message, .. } = diagnostic;
    let line = position.source.text.lines().nth(position.line as usize - 1).unwrap_or_default();
    let underlined: String = line.chars().skip(position.column as usize - 1).take(position.length as usize).collect();
    format!("{} {} `{underlined}` {field}: {message}", code.as_str(), position.line)
}

/// The text gives exactly one diagnostic, which begins with what is expected.
#[track_caller]
fn check(text: &str, expected: &str) {
    let found = findings(text);
    assert_eq!(found.len(), 1, "expected one finding of {text:?}, found {found:#?}");
    assert!(found[0].starts_with(expected), "{text:?}\n gave      {}\n expected {expected}", found[0]);
}

fn resource(kind: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
}

#[test]
fn the_example_mesh_is_valid() {
    assert_eq!(findings(""), Vec::<String>::new());
}

#[test]
fn unknown_resources_are_refused_by_name() {
    for (text, expected) in [
        ("a: [", "MESH0002 1 `[` "),
        ("kind: Sidecar\n", "IST0106 1 `k` apiVersion: apiVersion is missing"),
        (
            "apiVersion: netwrking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}\nspec: {}\n",
            "IST0106 1 `netwrking.istio.io/v1` apiVersion: \"netwrking.istio.io/v1\" is not the API of Sidecar",
        ),
        (
            "apiVersion: v1\nkind: Sidecar\nmetadata: {name: a}\nspec: {}\n",
            "IST0106 1 `v1` apiVersion: \"v1\" is not the API of Sidecar",
        ),
        (
            "apiVersion: v1\nkind: Servcie\nmetadata: {name: a}\n",
            "MESH0003 2 `Servcie` kind: Servcie is not supported yet",
        ),
        (
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\n",
            "MESH0003 2 `WasmPlugin` kind: WasmPlugin is not supported yet",
        ),
        (
            "apiVersion: apps/v2\nkind: Deployment\nmetadata: {name: a}\n",
            "IST0106 1 `apps/v2` apiVersion: Deployment has no version \"v2\"",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: FuturePolicy\n",
            "MESH0003 2 `FuturePolicy` kind: FuturePolicy is not supported yet: refusing to load a configuration \
             whose security policy would not be enforced",
        ),
        (
            "apiVersion: networking.istio.io/v2\nkind: Gateway\nmetadata: {name: g}\nspec: {servers: [{port: {number: \
             1, name: h, protocol: HTTP}, hosts: ['*']}]}",
            "IST0106 1 `networking.istio.io/v2` apiVersion: Gateway has no version \"v2\"",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\n",
            "IST0106 1 `a` spec: spec is missing",
        ),
    ] {
        check(text, expected);
    }
}

#[test]
fn lists_comments_and_fields_of_an_api_server_are_accepted() {
    let text = "# nothing\n---\n---\napiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n\
                - apiVersion: networking.istio.io/v1beta1\n  kind: DestinationRule\n  metadata: {name: a, uid: x, \
                managedFields: [{manager: y}]}\n  spec: {host: two.example}\n  status: {observedGeneration: 1}\n";
    assert_eq!(findings(text), Vec::<String>::new());
}

#[test]
fn names_that_kubernetes_refuses_are_refused() {
    let kinds = [
        ("VirtualService", "{hosts: [a.b], http: [{route: [{destination: {host: reviews}}]}]}"),
        ("DestinationRule", "{host: reviews}"),
        ("ServiceEntry", "{hosts: [a.b], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}"),
        ("WorkloadEntry", "{address: 127.0.0.1}"),
        ("Gateway", "{servers: [{port: {number: 1, name: http, protocol: HTTP}, hosts: ['*']}]}"),
        ("Sidecar", "{egress: [{hosts: ['*/*']}]}"),
    ];
    for (kind, spec) in kinds {
        check(&resource(kind, spec).replace("name: x", "name: \"\""), "IST0106 3 `\"\"` metadata.name: name is empty");
    }
    let (kind, spec) = kinds[1];
    let too_long = format!("{{name: {}}}", "a".repeat(254));
    for (metadata, expected) in [
        ("{name: a b}", "IST0106 3 `a b` metadata.name: \"a b\" cannot be the name of a resource"),
        ("{name: -a}", "IST0106 3 `-a` metadata.name: \"-a\" cannot"),
        ("{name: a_b}", "IST0106 3 `a_b` metadata.name: \"a_b\" cannot"),
        ("{name: reviewsV2}", "IST0106 3 `reviewsV2` metadata.name: \"reviewsV2\" has upper-case letters"),
        (too_long.as_str(), "IST0106 3 `aaa"),
        ("{name: a, namespace: A}", "IST0106 3 `A` metadata.namespace: \"A\" is not a namespace"),
        ("{name: a, namespace: a.b}", "IST0106 3 `a.b` metadata.namespace: \"a.b\" is not a namespace"),
        ("{name: a, namespace: 1}", "IST0106 3 `1` metadata.namespace: expected a string"),
        ("{name: a, labels: {a b: c}}", "IST0106 3 `a b` metadata.labels.a b: \"a b\" cannot be the key of a label"),
        ("{name: a, labels: {a: b c}}", "IST0106 3 `b c` metadata.labels.a: \"b c\" cannot be the value of a label"),
    ] {
        check(&resource(kind, spec).replace("{name: x}", metadata), expected);
    }
    for metadata in ["{name: a.b}", "{name: a, namespace: ''}", "{name: a, namespace: }"] {
        let text = resource(kind, spec).replace("{name: x}", metadata);
        assert_eq!(findings(&text), Vec::<String>::new(), "{metadata}");
    }
}

fn rule_of_a_service(rule: &str) -> String {
    let route = "route: [{destination: {host: reviews}}]";
    resource("VirtualService", &format!("{{hosts: [two.example], http: [{{{rule}, {route}}}]}}"))
}

#[test]
fn matches_of_a_virtual_service_are_checked() {
    for (rule, expected) in [
        ("match: [{urii: {exact: /}}]", "IST0106 4 `urii` spec.http[0].match[0].urii: unknown field \"urii\""),
        (
            "match: [{uri: {exact: 1}}]",
            "IST0106 4 `1` spec.http[0].match[0].uri.exact: expected a string, found the number 1",
        ),
        (
            "match: [{uri: {regex: '('}}]",
            "IST0106 4 `'('` spec.http[0].match[0].uri.regex: \"(\" is not a regular expression: unclosed group",
        ),
        ("match: [{uri: {}}]", "IST0106 4 `{` spec.http[0].match[0].uri: the match is empty"),
        (
            "match: [{uri: {regex: '*'}}]",
            "IST0106 4 `'*'` spec.http[0].match[0].uri.regex: \"*\" is not a regular expression",
        ),
        ("match: [{uri: {regex: ''}}]", "IST0106 4 `''` spec.http[0].match[0].uri.regex: the expression is empty"),
        ("match: [{method: {prefix: ''}}]", "IST0106 4 `{` spec.http[0].match[0].method.prefix: the prefix is empty"),
        (
            "match: [{uri: {exact: a, prefix: b}}]",
            "IST0106 4 `prefix` spec.http[0].match[0].uri.prefix: prefix cannot be set together with exact",
        ),
        (
            "match: [{port: 70000}]",
            "IST0106 4 `70000` spec.http[0].match[0].port: 70000 is out of range: must be between 1 and 65535",
        ),
        (
            "match: [{headers: {'a b': {exact: x}}}]",
            "IST0106 4 `'a b'` spec.http[0].match[0].headers.a b: \"a b\" is not a header name",
        ),
    ] {
        check(&rule_of_a_service(rule), expected);
    }
}

#[test]
fn actions_of_a_virtual_service_are_checked() {
    for (rule, expected) in [
        ("timeout: 5", "IST0106 4 `5` spec.http[0].timeout: the number 5 is not a duration: its unit is missing"),
        ("timeout: 100us", "IST0106 4 `100us` spec.http[0].timeout: \"100us\" is not a whole number of milliseconds"),
        ("timeout: 5.0", "IST0106 4 `5.0` spec.http[0].timeout: the number 5.0 is not a duration: its unit is missing"),
        ("timeout: [5s]", "IST0106 4 `[` spec.http[0].timeout: expected a duration, found a list"),
        (
            "timeout: 876601h",
            "IST0106 4 `876601h` spec.http[0].timeout: \"876601h\" is too long: must be at most 876600h",
        ),
        (
            "retries: {attempts: '2x', retryOn: 5xx}",
            "IST0106 4 `'2x'` spec.http[0].retries.attempts: expected an integer, found the string \"2x\"",
        ),
        (
            "retries: {attempts: 2.5, retryOn: 5xx}",
            "IST0106 4 `2.5` spec.http[0].retries.attempts: expected an integer, found the number 2.5",
        ),
        (
            "retries: {attempts: '3e9', retryOn: 5xx}",
            "IST0106 4 `'3e9'` spec.http[0].retries.attempts: \"3e9\" is out of range: must be between 0 and 2147483647",
        ),
        ("retries: {attempts: 0.0, retryOn: 5xx}", "IST0106 4 `attempts` spec.http[0].retries.attempts: attempts is 0"),
        ("timeout: 0s", "IST0106 4 `0s` spec.http[0].timeout: \"0s\" is too short: must be at least 1ms"),
        ("retries: {attempts: -1}", "IST0106 4 `-1` spec.http[0].retries.attempts: -1 is out of range"),
        (
            "retries: {attempts: 1, retryOn: '5xx,nonsense'}",
            "IST0106 4 `'5xx,nonsense'` spec.http[0].retries.retryOn: \"nonsense\" is not a condition to retry on",
        ),
        ("retries: {attempts: 0, retryOn: 5xx}", "IST0106 4 `attempts` spec.http[0].retries.attempts: attempts is 0"),
        (
            "retries: {retryRemoteLocalities: true}",
            "MESH0003 4 `retryRemoteLocalities` spec.http[0].retries.retryRemoteLocalities: retryRemoteLocalities is not supported yet",
        ),
        ("mirror: {host: reviews}", "MESH0003 4 `mirror` spec.http[0].mirror: mirror is not supported yet"),
        (
            "fault: {abort: {httpStatus: 700}}",
            "IST0106 4 `700` spec.http[0].fault.abort.httpStatus: 700 is out of range",
        ),
        (
            "fault: {abort: {grpcStatus: AWAY}}",
            "IST0106 4 `AWAY` spec.http[0].fault.abort.grpcStatus: the string \"AWAY\" is not a value of this field",
        ),
        (
            "fault: {delay: {percentage: {value: 101}, fixedDelay: 1s}}",
            "IST0106 4 `101` spec.http[0].fault.delay.percentage.value: 101 is out of range",
        ),
        (
            "redirect: {uri: /}",
            "IST0106 4 `redirect` spec.http[0].redirect: redirect cannot be set together with route",
        ),
        (
            "headers: {response: {remove: [':status']}}",
            "IST0106 4 `remove` spec.http[0].headers.response.remove: \":status\" cannot be removed",
        ),
        (
            "rewrite: {authority: a}, headers: {request: {set: {host: b}}}",
            "IST0106 4 `headers` spec.http[0]: the authority is rewritten several times",
        ),
    ] {
        check(&rule_of_a_service(rule), expected);
    }
}

#[test]
fn cors_policies_are_checked() {
    for (rule, expected) in [
        (
            "corsPolicy: {allowOrigins: [{exact: a}, {prefix: ''}]}",
            "IST0106 4 `{` spec.http[0].corsPolicy.allowOrigins[1].prefix: the prefix is empty",
        ),
        (
            "corsPolicy: {allowOrigins: [{exact: ''}]}",
            "IST0106 4 `{` spec.http[0].corsPolicy.allowOrigins[0]: the match is empty",
        ),
        (
            "corsPolicy: {allowOrigins: [{regex: '*'}]}",
            "IST0106 4 `'*'` spec.http[0].corsPolicy.allowOrigins[0].regex: \"*\" is not a regular expression",
        ),
        (
            "corsPolicy: {allowOrigin: [a.example]}",
            "IST0106 4 `allowOrigin` spec.http[0].corsPolicy.allowOrigin: allowOrigin is deprecated",
        ),
        (
            "corsPolicy: {allowMethods: [GET, FETCH]}",
            "IST0106 4 `FETCH` spec.http[0].corsPolicy.allowMethods[1]: \"FETCH\" is not an HTTP method",
        ),
        (
            "corsPolicy: {exposeHeaders: ['a b']}",
            "IST0106 4 `'a b'` spec.http[0].corsPolicy.exposeHeaders[0]: \"a b\" is not a header name",
        ),
        (
            "corsPolicy: {maxAge: 1500ms}",
            "IST0106 4 `1500ms` spec.http[0].corsPolicy.maxAge: maxAge is not a whole number of seconds",
        ),
        (
            "corsPolicy: {unmatchedPreflights: DROP}",
            "IST0106 4 `DROP` spec.http[0].corsPolicy.unmatchedPreflights: the string \"DROP\" is not a value of this field",
        ),
    ] {
        check(&rule_of_a_service(rule), expected);
    }
}

#[test]
fn a_cors_policy_of_a_redirect_has_no_effect() {
    let rule = "redirect: {uri: /}, corsPolicy: {allowOrigins: [{exact: a}]}";
    check(
        &resource("VirtualService", &format!("{{hosts: [two.example], http: [{{{rule}}}]}}")),
        "IST0106 4 `corsPolicy` spec.http[0].corsPolicy: corsPolicy has no effect",
    );
}

#[test]
fn integers_are_read_in_all_forms_of_protobuf_json() {
    for number in ["60", "60.0", "6e1", "'60'", "'6e1'"] {
        let spec = format!(
            "{{hosts: [two.example], http: [{{route: [{{destination: {{host: reviews}}, weight: {number}}}]}}]}}"
        );
        let loaded = load(&[("mesh.yaml", MESH), ("x.yaml", &resource("VirtualService", &spec))]);
        assert!(loaded.diagnostics.is_empty(), "{number}: {:?}", loaded.diagnostics);
        let HttpAction::Route(destinations) = &loaded.mesh.config.virtual_services[0].http[0].action else { panic!() };
        assert_eq!(destinations[0].weight, 60, "{number}");
    }
}

#[test]
fn a_virtual_service_without_a_route_is_refused() {
    for spec in ["{hosts: [two.example]}", "{hosts: [two.example], http: []}", "{hosts: [two.example], http: }"] {
        check(&resource("VirtualService", spec), "IST0106 4 `{` spec: the resource has no route");
    }
}

#[test]
fn routes_must_have_a_destination_that_exists() {
    let route = |destinations: &str| {
        resource("VirtualService", &format!("\n  hosts: [two.example]\n  http:\n  - route: [{destinations}]"))
    };
    for (destinations, expected) in [
        (
            "{destination: {host: revews}}",
            "IST0101 7 `revews` spec.http[0].route[0].destination.host: no service has the host revews.default.svc.cluster.local",
        ),
        (
            "{destination: {host: reviews, subset: v9}}",
            "IST0101 7 `v9` spec.http[0].route[0].destination.subset: reviews.default.svc.cluster.local has no subset \"v9\"",
        ),
        (
            "{destination: {host: reviews, port: {number: 1}}}",
            "IST0101 7 `1` spec.http[0].route[0].destination.port.number: reviews.default.svc.cluster.local has no port 1",
        ),
        (
            "{destination: {host: two.example}}",
            "IST0112 7 `{` spec.http[0].route[0].destination.port: two.example has several ports",
        ),
        (
            "{destination: {host: reviews}, weight: 2147483648}",
            "IST0106 7 `2147483648` spec.http[0].route[0].weight: 2147483648 is out of range: must be between 0 and 2147483647",
        ),
        (
            "{destination: {host: reviews}, weight: -5}",
            "IST0106 7 `-5` spec.http[0].route[0].weight: -5 is out of range",
        ),
        (
            "{destination: {host: reviews}}, {destination: {host: reviews, subset: v1}}",
            "IST0106 7 `route` spec.http[0].route: total weight is 0",
        ),
        ("", "IST0106 7 `route` spec.http[0].route: route has no destination"),
    ] {
        check(&route(destinations), expected);
    }
}

#[test]
fn hosts_gateways_and_reachability_are_checked_across_resources() {
    let service = |text: &str| resource("VirtualService", text);
    let to = "route: [{destination: {host: reviews}}]";
    for (text, expected) in [
        (service(&format!("{{hosts: ['*'], http: [{{{to}}}]}}")), "IST0106 4 `'*'` spec.hosts[0]: wildcard host"),
        (service(&format!("{{hosts: [a.b, a.b], gateways: [edge], http: [{{{to}}}]}}")), "MESH0004"),
        (
            service(&format!("{{hosts: [books.example], gateways: [edgy], http: [{{{to}}}]}}")),
            "IST0101 4 `edgy` spec.gateways[0]: there is no Gateway default/edgy",
        ),
        (
            service(&format!("{{hosts: [cooks.example], gateways: [edge], http: [{{{to}}}]}}")),
            "IST0132 4 `cooks.example` spec.hosts[0]: Gateway default/edge does not serve the host cooks.example",
        ),
        (service(&format!("{{hosts: [a.b], http: [{{{to}}}, {{match: [{{uri: {{exact: /}}}}], {to}}}]}}")), "IST0130"),
        (
            service(&format!(
                "{{hosts: [a.b], http: [{{match: [{{uri: {{exact: /}}}}], {to}}}, {{match: [{{uri: {{exact: /}}}}, {{uri: {{exact: /b}}}}], {to}}}]}}"
            )),
            "IST0131",
        ),
        (
            format!(
                "{0}---\n{1}",
                service(&format!("{{hosts: [a.b], http: [{{{to}}}]}}")),
                service(&format!("{{hosts: [a.b], http: [{{{to}}}]}}")).replace("{name: x}", "{name: y}")
            ),
            "IST0109 9 `a.b` spec.hosts[0]: host a.b is claimed by VirtualService default/x too",
        ),
        (
            format!("{0}---\n{0}", service(&format!("{{hosts: [a.b], http: [{{{to}}}]}}"))),
            "MESH0004 8 `x` metadata.name: VirtualService default/x is declared twice",
        ),
    ] {
        let found = findings(&text);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{text}\n gave {found:#?}\n expected {expected}");
    }
    let other =
        "{selector: {istio: other}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.b]}]}";
    for (hosts, expected) in [("books.example, a.b", 0), ("books.example", 1), ("books.example, a.b, c.d", 2)] {
        let text = service(&format!("{{hosts: [{hosts}], gateways: [edge, y], http: [{{{to}}}]}}"));
        let text = format!("{text}---\n{}", resource("Gateway", other).replace("name: x", "name: y"));
        assert_eq!(findings(&text).len(), expected, "{hosts}");
    }
}

#[test]
fn destination_rules_are_checked() {
    for (spec, expected) in [
        (
            "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}",
            "MESH0004 4 `v1` spec.subsets[0]: subset \"v1\" of reviews.default.svc.cluster.local is defined twice",
        ),
        (
            "{host: two.example, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n---\napiVersion: \
             networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: y}\nspec: {host: two.example, \
             trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}",
            "MESH0004 9 `two.example` spec.trafficPolicy: DestinationRule default/x gives two.example its policy already",
        ),
        ("{host: reviewz}", "IST0174 4 `reviewz` spec.host: no service has the host"),
        (
            "{host: two.example, subsets: [{name: a, labels: {version: v9}}]}",
            "IST0173 4 `a` spec.subsets[0].labels: subset \"a\" selects no endpoint",
        ),
        (
            "{host: two.example, subsets: [{name: a}, {name: a}]}",
            "MESH0004 4 `a` spec.subsets[1]: subset \"a\" is defined twice",
        ),
        (
            "{host: two.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
            "MESH0003 4 `{` spec.trafficPolicy.tls: mode ISTIO_MUTUAL needs certificates of the workloads, and there is no",
        ),
        (
            "{host: two.example, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}",
            "MESH0003 4 `consistentHash` spec.trafficPolicy.loadBalancer.consistentHash: consistentHash is not supported yet",
        ),
        (
            "{host: two.example, trafficPolicy: {loadBalancer: {simple: LEST_REQUEST}}}",
            "IST0106 4 `LEST_REQUEST` spec.trafficPolicy.loadBalancer.simple: the string \"LEST_REQUEST\" is not a value of this field",
        ),
        (
            "{host: two.example, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1.5}}}}",
            "IST0106 4 `1.5` spec.trafficPolicy.connectionPool.tcp.maxConnections: expected an integer, found the number 1.5",
        ),
        (
            "{host: two.example, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}",
            "IST0106 4 `101` spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 is out of range",
        ),
        (
            "{host: two.example, trafficPolicy: {portLevelSettings: [{port: {number: 82}}]}}",
            "IST0101 4 `82` spec.trafficPolicy.portLevelSettings[0].port.number: two.example has no port 82",
        ),
    ] {
        check(&resource("DestinationRule", spec), expected);
    }
}

#[test]
fn services_and_workloads_are_checked() {
    let port = "ports: [{number: 80, name: http, protocol: HTTP}]";
    for (spec, expected) in [
        (format!("{{{port}, resolution: STATIC}}"), "IST0106 4 `{` spec.hosts: hosts is missing"),
        (format!("{{host: [a.b], {port}, resolution: STATIC}}"), "IST0106 4 `host` spec.host: unknown field \"host\""),
        (format!("{{hosts: [a.b], {port}, resolutions: STATIC, endpoints: [{{address: 127.0.0.1}}]}}"), "IST0106 4 `resolutions` spec.resolutions: unknown field"),
        (format!("{{hosts: [a.b], {port}}}"), "MESH0003 4 `{` spec.resolution: resolution NONE, the default, is not supported yet"),
        (format!("{{hosts: ['*'], {port}, resolution: STATIC}}"), "IST0106 4 `'*'` spec.hosts[0]: hostname cannot be wildcard"),
        (format!("{{hosts: [a.b], {port}, resolution: STATIC, endpoints: [{{address: b.c}}]}}"), "IST0106 4 `b.c` spec.endpoints[0]: \"b.c\" is not an IP address"),
        (format!("{{hosts: [a.b], {port}, resolution: STATIC, endpoints: [{{address: 127.0.0.1, ports: {{htp: 1}}}}]}}"), "IST0106 4 `{` spec.endpoints[0]: the service has no port named \"htp\""),
        (format!("{{hosts: [a.b], {port}, resolution: DNS, workloadSelector: {{}}, endpoints: []}}"), "IST0106 4 `endpoints` spec.endpoints: endpoints cannot be set together with workloadSelector"),
        ("{hosts: [a.b], ports: [{number: 80, name: a, protocol: HTTP}, {number: 80, name: b, protocol: HTTP}], resolution: DNS}".to_owned(), "IST0106 4 `80` spec.ports[1]: port number cannot be duplicated"),
        ("{hosts: [a.b], ports: [{number: 80, name: a, protocol: HTPP}], resolution: DNS}".to_owned(), "IST0106 4 `HTPP` spec.ports[0].protocol: \"HTPP\" is not a protocol"),
        ("{hosts: [a.b], ports: [{number: 80, name: a, protocol: TCP}], resolution: DNS}".to_owned(), "IST0134 4 `80` spec.addresses: port 80 speaks TCP"),
        ("{hosts: [two.example], ports: [{number: 80, name: a, protocol: HTTP2}], resolution: DNS}".to_owned(), "IST0177 4 `80` spec.ports: port 80 of two.example speaks HTTP2 here and HTTP in ServiceEntry default/two-ports"),
        ("{hosts: [two.example], ports: [{number: 80, name: a, protocol: HTTP}], resolution: DNS}".to_owned(), "MESH0004 4 `two.example` spec.hosts: port 80 of two.example is also declared by ServiceEntry default/two-ports"),
    ] {
        check(&resource("ServiceEntry", &spec), expected);
    }
    for (spec, expected) in [
        ("{}", "IST0106 4 `{` spec.address: Address is required"),
        ("{address: 127}", "IST0106 4 `127` spec.address: expected a string, found the number 127"),
        ("{address: unix:///tmp/x}", "MESH0003 4 `unix:///tmp/x` spec.address: Unix sockets are not supported yet"),
        (
            "{address: 127.0.0.1, ports: {http: 0}}",
            "IST0106 4 `0` spec.ports.http: 0 is out of range: must be between 1 and 65535",
        ),
        ("{address: 127.0.0.1, ports: {http: -1}}", "IST0106 4 `-1` spec.ports.http: -1 is out of range"),
        (
            "{address: 127.0.0.1, labels: {app: '*'}}",
            "IST0106 4 `'*'` spec.labels.app: \"*\" cannot be the value of a label",
        ),
    ] {
        check(&resource("WorkloadEntry", spec), expected);
    }
}

#[test]
fn an_ipv6_address_needs_no_quotes() {
    let spec = "{hosts: [a.b], addresses: [2001:db8::, '::1'], resolution: DNS}";
    let loaded = load(&[("x.yaml", &resource("ServiceEntry", spec))]);
    let addresses: Vec<_> = loaded.mesh.config.service_entries[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["2001:db8::", "::1"]);
}

#[test]
fn gateways_and_sidecars_are_checked() {
    let server = |more: &str| {
        format!("{{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*'], {more}}}]}}")
    };
    for (spec, expected) in [
        (server("bind: nowhere"), "IST0106 4 `nowhere` spec.servers[0].bind: \"nowhere\" is not an IP address"),
        ("{servers: []}".to_owned(), "IST0106 4 `servers` spec.servers: servers is empty"),
        (
            "{servers: [{port: {number: 8080, name: a, protocol: HTTP}, hosts: ['books']}]}".to_owned(),
            "IST0106 4 `'books'` spec.servers[0].hosts[0]: short names (non FQDN) are not allowed",
        ),
    ] {
        check(&resource("Gateway", &spec), expected);
    }
    let selected = "workloadSelector: {labels: {app: a}}";
    let port = "port: {number: 80, protocol: HTTP, name: http}";
    for (spec, expected) in [
        (format!("{{ingress: [{{{port}}}]}}"), "IST0106 4 `{` spec.ingress: ingress needs a workloadSelector"),
        (
            format!("{{{selected}, ingress: [{{{port}, defaultEndpoint: '10.0.0.1:80'}}]}}"),
            "IST0106 4 `'10.0.0.1:80'` spec.ingress[0].defaultEndpoint: \"10.0.0.1:80\" is not the workload itself",
        ),
        (
            format!("{{{selected}, ingress: [{{{port}, defaultEndpoint: '127.0.0.1:80800'}}]}}"),
            "IST0106 4 `'127.0.0.1:80800'` spec.ingress[0].defaultEndpoint: \"127.0.0.1:80800\" is not an address with a port",
        ),
        (
            "{egress: [{hosts: ['*/two.example', '*/*.nothing', './tow.example']}]}".to_owned(),
            "IST0101 4 `{` spec.egress[0].hosts[2]: no service of the namespace default has the host tow.example",
        ),
        (format!("{{{selected}, ingress: [{{{port}, defaultEndpoint: 'unix:///x'}}]}}"), "MESH0003"),
        (
            "{egress: [{hosts: [reviews]}]}".to_owned(),
            "IST0106 4 `reviews` spec.egress[0].hosts[0]: \"reviews\" is not a host with its namespace",
        ),
        ("{egress: [{hosts: ['./*']}, {hosts: ['*/*']}]}".to_owned(), "IST0106"),
    ] {
        let found = findings(&resource("Sidecar", &spec));
        assert!(found.iter().any(|line| line.starts_with(expected)), "{spec}\n gave {found:#?}\n expected {expected}");
    }
    for (number, hosts, expected) in [(80, "./two.example", 0), (9080, "./*", 0), (15001, "./*", 1), (15001, "~/*", 0)]
    {
        let port = format!("port: {{number: {number}, protocol: HTTP, name: http}}");
        let found = findings(&resource("Sidecar", &format!("{{egress: [{{{port}, hosts: ['{hosts}']}}]}}")));
        assert_eq!(found.len(), expected, "{found:?}");
        assert!(found.iter().all(|line| line.contains("none of the services has port 15001")), "{found:?}");
    }
    let allow_any = "{outboundTrafficPolicy: {mode: ALLOW_ANY}, \
                     egress: [{port: {number: 9080, protocol: HTTP, name: http}, hosts: ['*/*']}]}";
    assert_eq!(
        findings(&resource("Sidecar", allow_any)),
        [
            "MESH0006 4 `{` spec.egress[0].port: outboundTrafficPolicy ALLOW_ANY does not hold for a listener with a port \
             of its own: the original destination of its requests is unknown"
        ]
    );
    let two = format!("{}---\n{}", resource("Sidecar", "{}"), resource("Sidecar", "{}").replace("name: x", "name: y"));
    assert_eq!(findings(&two).iter().filter(|line| line.starts_with("IST0111")).count(), 2);
    let sidecar = |name: &str, labels: &str| {
        resource("Sidecar", &format!("{{workloadSelector: {{labels: {labels}}}}}")).replace("name: x", name)
    };
    let overlapping = [sidecar("name: x", "{version: v1}"), sidecar("name: y", "{}"), sidecar("name: z", "{a: b}")];
    let found = findings(&overlapping.join("---\n"));
    assert_eq!(found.iter().filter(|line| line.starts_with("IST0110")).count(), 2, "{found:?}");
}

#[test]
fn all_mistakes_of_all_files_are_reported_at_once() {
    let spec = "{host: a.b, nope: 1, subsets: [{nope: 2}], trafficPolicy: {loadBalancer: {simple: 99}}}";
    let text = resource("DestinationRule", spec);
    let loaded = load(&[("b.yaml", &text), ("a.yaml", "kind: x\n"), ("c.yaml", "[")]);
    let places: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| diagnostic.position.to_string()).collect();
    assert_eq!(places, ["a.yaml:1:1", "b.yaml:4:19", "b.yaml:4:38", "b.yaml:4:39", "b.yaml:4:89", "c.yaml:1:1"]);
}

#[test]
fn lenient_mode_leaves_out_what_is_not_supported_and_says_so() {
    let text = resource(
        "DestinationRule",
        "{host: reviews, trafficPolicy: {tunnel: {targetHost: a}, loadBalancer: {simple: RANDOM}}}",
    );
    let source = Arc::new(Source::new("x.yaml", text));
    let loaded = Loaded::from_sources(vec![source], Strictness::Lenient);
    assert!(loaded.is_valid());
    assert_eq!(loaded.mesh.config.destination_rules[0].traffic_policy.load_balancer, Some(LoadBalancer::Random));
    assert!(loaded.diagnostics.iter().any(|diagnostic| diagnostic.message == "tunnel is not supported yet"));
}

#[test]
fn only_yaml_and_json_files_of_visible_folders_count() {
    let directory = std::env::temp_dir().join(format!("mesh-control-load-{}", std::process::id()));
    let empty = "apiVersion: v1\nkind: List\nitems: []\n";
    for path in ["b.yml", "a/c.yaml", "a/d.json", "e.txt", ".hidden/f.yaml", "a/.g.yaml", "h.yaml~"] {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, if empty.is_empty() { "" } else { empty }).unwrap();
    }
    let loaded = Loaded::from_directory(&directory, Strictness::Strict).unwrap();
    let names: Vec<_> = loaded
        .sources
        .iter()
        .map(|source| source.path.strip_prefix(&directory).unwrap().display().to_string())
        .collect();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(names, ["a/c.yaml", "a/d.json", "b.yml"]);
    assert!(Loaded::from_directory(&directory, Strictness::Strict).is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_mistake() {
    let directory = std::env::temp_dir().join(format!("mesh-control-unreadable-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let route = "{hosts: [a.b], http: [{route: [{destination: {host: a.b}}]}]}";
    std::fs::write(directory.join("a.yaml"), resource("VirtualService", route)).unwrap();
    let file = directory.join("z.yaml");
    let findings = || {
        let diagnostics = Loaded::from_directory(&directory, Strictness::Strict).unwrap().diagnostics;
        diagnostics.iter().map(|found| found.to_string().replace(file.to_str().unwrap(), "z")).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for bytes in [&b"a: \xc3\xa4\nb: [\xc3\xa4, \xe4]"[..], b"\xff\xfea\0"] {
        std::fs::write(&file, bytes).unwrap();
        found.extend(findings());
    }
    std::fs::remove_file(&file).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/null", &file).unwrap();
        found.extend(findings());
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let mut expected = vec![
        "z:2:8: cannot read the file: byte 0xe4 is not UTF-8",
        "z:1:1: cannot read the file: byte 0xff is not UTF-8",
    ];
    if cfg!(unix) {
        expected.push("z: cannot read the file: it is not a regular file");
    }
    assert_eq!(found, expected);
}

#[test]
fn a_mistake_causes_no_reports_elsewhere() {
    let misspelt = "apiVersion: networking.istio.io/v1\nkind: DestinationRulez\nmetadata: {name: two}\n\
                    spec: {host: two.example, subsets: [{name: v1, labels: {version: v1}}]}\n---\n\
                    apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: two}\n\
                    spec: {hosts: [two.example], http: [{route: [{destination: {host: two.example, port: {number: 80}, \
                    subset: v1}}]}]}\n";
    let header = misspelt.replacen("DestinationRulez", "DestinationRule", 1).replacen("apiVersion", "apiVerson", 1);
    let found = findings(&header);
    assert!(found.len() == 1 && found[0].contains("unknown field \"apiVerson\""), "{found:?}");
    assert_eq!(findings(misspelt), ["MESH0003 2 `DestinationRulez` kind: DestinationRulez is not supported yet"]);
    let help = load(&[("x.yaml", misspelt)]).diagnostics.remove(0).help;
    assert_eq!(help, ["did you mean `DestinationRule`?"]);
    let regex = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
                 spec: {hosts: [reviews], http: [{match: [{headers: {user: {regex: \"a(\"}}}], \
                 route: [{destination: {host: reviews}}]}, {route: [{destination: {host: reviews}}]}]}\n";
    let found = findings(regex);
    assert!(found.len() == 1 && found[0].contains("is not a regular expression"), "{found:?}");
}

/// The findings about a route to a subset, in whose configuration `right` is replaced by `broken`.
fn route_to_a_subset((right, broken): (&str, &str)) -> Vec<String> {
    let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s}\n\
                spec: {hosts: [s.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, \
                endpoints: [{address: 127.0.0.1, labels: {version: v1}, ports: {http: 1}}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: s}\n\
                spec: {host: s.example, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {}}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\n\
                spec: {selector: {a: b}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: s}\n\
                spec: {hosts: [s.example], gateways: [g, mesh], http: [{timeout: 3s, route: [\
                {destination: {host: s.example, subset: v1}, weight: 1}, \
                {destination: {host: s.example, subset: v2}, weight: 1}]}]}\n";
    assert!(text.contains(right), "{right}");
    let loaded = load(&[("x.yaml", &text.replacen(right, broken, 1))]);
    loaded.diagnostics.iter().map(|found| found.message.clone()).collect()
}

#[test]
fn a_mistake_is_reported_once_and_hides_no_other() {
    assert_eq!(route_to_a_subset(("", "")), Vec::<String>::new());
    for (right, broken, expected) in [
        ("subsets:", "subsetz:", "unknown field"),
        ("{name: v1, labels", "{name: 1, labels", "expected a string"),
        ("{host: s.example, subsets", "{hosst: s.example, subsets", "unknown field"),
        ("{host: s.example, subsets", "{target: s.example, subsets", "host is missing, unknown field"),
        ("number: 80, name", "number: 65536, name", "65536 is out of range"),
        ("hosts: [s.example], ports", "hosts: ['s example'], ports", "\"s example\" is not a host"),
        ("resolution: STATIC", "resolution: STATICK", "\"STATICK\" is not a value"),
        ("metadata: {name: g}", "metadata: {nam: g}", "unknown field"),
        ("metadata: {name: s}", "metadata: {name: s, namespace: A B}", "\"A B\" is not a namespace"),
        ("hosts: ['*']", "hosts: [*]", "not valid YAML"),
        // A mistake in a field that no other resource refers to does not prevent the checks.
        (
            "timeout: 3s, route: [{destination: {host: s.example, subset: v1}",
            "timeout: 3, route: [{destination: {host: s.example, subset: v9}",
            "the number 3 is not a duration, has no subset \"v9\"",
        ),
        (
            "address: 127.0.0.1, labels: {version: v1}, ports: {http: 1}}]}",
            "address: 127.0.0.300}]}",
            "\"127.0.0.300\" is not an IP address",
        ),
    ] {
        let found = route_to_a_subset((right, broken));
        let expected: Vec<_> = expected.split(", ").collect();
        let is_each_expected = found.iter().zip(&expected).all(|(found, expected)| found.contains(expected));
        assert!(found.len() == expected.len() && is_each_expected, "{broken:?} gave {found:?}, expected {expected:?}");
    }
}
