//! The action CUSTOM, compared with what istiod makes of it.

use mesh_xds::json::to_json;

use super::*;
use crate::config::Protocol as PortProtocol;
use crate::translate::proto::ext_authz as proto;
use crate::translate::{Interception, Resources, translate};

const HTTP: &str = "{name: http, envoyExtAuthzHttp: {service: auth/authz.auth.svc.cluster.local, port: 8000}}";
const GRPC: &str = "{name: grpc, envoyExtAuthzGrpc: {service: authz.auth.svc.cluster.local, port: 9000}}";

/// The MeshConfig with these providers, and the service that they name, which is visible in its namespace only.
fn mesh(providers: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n    \
         extensionProviders: [{providers}]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: \
         authz, namespace: auth}}\nspec:\n  hosts: [authz.auth.svc.cluster.local]\n  exportTo: ['.']\n  resolution: STATIC\n  \
         ports: [{{number: 8000, name: http, protocol: HTTP}}, {{number: 9000, name: grpc, protocol: GRPC}}]\n  endpoints: \
         [{{address: 10.0.0.9}}]\n"
    )
}

fn custom(name: &str, provider: &str, rule: &str) -> String {
    let spec = format!("{{action: CUSTOM, provider: {{name: {provider}}}, rules: [{rule}]}}");
    policy(&format!("name: {name}, namespace: foo"), &spec)
}

const BELOW: &str = "{to: [{operation: {paths: [/checked*]}}]}";

/// Mistakes are warnings.
fn load_custom(text: &str) -> Loaded {
    let loaded = Loaded::from_sources(vec![Arc::new(Source::new("a.yaml", text))], Strictness::Strict);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    loaded
}

/// The filters of requests to a node: names, and whether a client may ignore them.
fn http_filters(text: &str, role: Role, side: Side) -> Vec<http::HttpFilter> {
    let loaded = load_custom(text);
    let node = node(role);
    let view = View::new(&loaded.mesh, &node);
    let mut filters = crate::translate::filter::http_filters(&view, side);
    filters.retain(|filter| filter.name.contains("rbac") || filter.name.contains("_auth"));
    filters
}

fn config<M: prost::Message + prost::Name + Default>(filter: &http::HttpFilter) -> M {
    let Some(http::http_filter::ConfigType::TypedConfig(config)) = &filter.config_type else { panic!("no config") };
    config.to_msg().unwrap()
}

#[track_caller]
fn check_ext_authz(provider: &str, name: &str, expected: &str) {
    let text = mesh(provider) + &custom("p", name, BELOW);
    let filters = http_filters(&text, Role::Gateway, Side::Edge);
    let found: proto::ExtAuthz = config(&filters[1]);
    let expected: proto::ExtAuthz = from_text(
        &format!(
            "{{transport_api_version: V3, filter_enabled_metadata: {{filter: envoy.filters.http.rbac, path: [{{key: \
             istio_ext_authz_shadow_effective_policy_id}}], value: {{string_match: {{prefix: istio-ext-authz}}}}}}, {expected}}}"
        ),
        "expected",
    )
    .unwrap();
    assert_eq!(to_json(&found).to_string(), to_json(&expected).to_string());
}

#[test]
fn providers_become_filters_with_all_their_fields() {
    let host = "authz.auth.svc.cluster.local";
    check_ext_authz(
        HTTP,
        "http",
        &format!(
            "http_service: {{server_uri: {{uri: 'http://{host}', cluster: 'outbound|8000||{host}', timeout: 600s}}}}"
        ),
    );
    let target = format!("envoy_grpc: {{cluster_name: 'outbound|9000||{host}', authority: {host}}}");
    check_ext_authz(GRPC, "grpc", &format!("grpc_service: {{timeout: 600s, {target}}}"));
    let common = "timeout: 2s, failOpen: true, clearRouteCache: true, statusOnError: '503', includeRequestBodyInCheck: \
                  {maxRequestBytes: 9, allowPartialMessage: true, packAsBytes: true}";
    let expected = "failure_mode_allow: true, clear_route_cache: true, status_on_error: {code: ServiceUnavailable}, \
                    with_request_body: {max_request_bytes: 9, allow_partial_message: true, pack_as_bytes: true}";
    check_ext_authz(
        &GRPC.replace("port: 9000", &format!("port: 9000, {common}")),
        "grpc",
        &format!("grpc_service: {{timeout: 2s, {target}}}, {expected}"),
    );
    let lists = "pathPrefix: /check, includeRequestHeadersInCheck: [x-a, 'x-b*', '*-c', '*'], includeAdditionalHeadersInCheck: \
                 {x-d: e}, headersToUpstreamOnAllow: [x-u], headersToDownstreamOnDeny: [x-n], headersToDownstreamOnAllow: [x-y]";
    let exact = |name: &str| format!("{{patterns: [{{exact: {name}, ignore_case: true}}]}}");
    let (upstream, denied, allowed) = (exact("x-u"), exact("x-n"), exact("x-y"));
    check_ext_authz(
        &HTTP.replace("port: 8000", &format!("port: 8000, {common}, {lists}")),
        "http",
        &format!(
            "{expected}, allowed_headers: {{patterns: [{{exact: x-a, ignore_case: true}}, {{prefix: x-b, ignore_case: true}}, \
             {{suffix: -c, ignore_case: true}}, {{safe_regex: {{regex: .+}}}}]}}, http_service: {{server_uri: {{uri: \
             'http://{host}', cluster: 'outbound|8000||{host}', timeout: 2s}}, path_prefix: /check, authorization_request: \
             {{headers_to_add: [{{key: x-d, value: e}}]}}, authorization_response: {{allowed_upstream_headers: {upstream}, \
             allowed_client_headers: {denied}, allowed_client_headers_on_success: {allowed}}}}}"
        ),
    );
}

#[test]
fn what_is_checked_is_found_out_first_and_tokens_and_other_policies_come_after() {
    let jwt = "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: j, namespace: foo}\nspec: \
               {jwtRules: [{issuer: i, jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}'}]}\n";
    let deny = policy("name: deny, namespace: foo", "{action: DENY, rules: [{}]}");
    let text = [mesh(HTTP), custom("p", "http", BELOW), jwt.to_owned(), deny].concat();
    let names = |filters: &[http::HttpFilter]| -> Vec<String> {
        filters.iter().map(|filter| filter.name.trim_start_matches("envoy.filters.http.").to_owned()).collect()
    };
    let gateway = http_filters(&text, Role::Gateway, Side::Edge);
    assert_eq!(names(&gateway), ["rbac", "ext_authz", "jwt_authn", "rbac"]);
    let rbac: http_rbac::Rbac = config(&gateway[0]);
    assert!(rbac.rules.is_none(), "it only finds out");
    assert_eq!(rbac.shadow_rules_stat_prefix, "istio_ext_authz_");
    let shadow = rbac.shadow_rules.unwrap();
    assert_eq!(shadow.action(), Action::Deny);
    assert_eq!(shadow.policies.keys().collect::<Vec<_>>(), ["istio-ext-authz-ns[foo]-policy[p]-rule[0]"]);

    let library = http_filters(&text, Role::Library, Side::Inbound);
    assert_eq!(names(&library), ["rbac.CUSTOM", "ext_authz", "jwt_authn", "rbac.DENY"]);
    assert!(library.iter().all(|filter| !filter.is_optional), "a server must not ignore one of them");
    assert_eq!(http_filters(&text, Role::Library, Side::Outbound), vec![], "calls are the other side's to check");
}

#[test]
fn what_cannot_be_checked_is_denied() {
    let two = [custom("p", "http", BELOW), custom("q", "grpc", "{}")].concat();
    let telemetry = "{name: http, zipkin: {service: z.example, port: 1}}";
    let of_p = custom("p", "http", BELOW);
    for (text, rules) in [
        (mesh(GRPC) + &of_p, 1),
        (of_p.clone(), 1),
        (mesh(telemetry) + &of_p, 1),
        (mesh(&HTTP.replace("8000", "8001")) + &of_p, 1),
        (mesh(&HTTP.replace("authz.auth", "other.auth")) + &of_p, 1),
        (mesh(&HTTP.replace("auth/", "foo/")) + &of_p, 1),
        (mesh(&format!("{HTTP}, {GRPC}")) + &two, 2),
    ] {
        let filters = http_filters(&text, Role::Gateway, Side::Edge);
        assert_eq!(filters.len(), 1, "{text}");
        let rbac: http_rbac::Rbac = config(&filters[0]);
        let denied = rbac.rules.unwrap();
        assert_eq!((denied.action(), denied.policies.len()), (Action::Deny, rules), "{text}");
        assert!(rbac.shadow_rules.is_none());
        let name = "istio-ext-authz-ns[foo]-policy[p]-rule[0]-deny-due-to-bad-CUSTOM-action";
        assert!(denied.policies.contains_key(name), "{:?}", denied.policies);
    }
}

#[test]
fn connections_that_would_be_checked_are_denied() {
    let port = "{to: [{operation: {ports: ['9']}}]}";
    let text = [mesh(HTTP), custom("p", "http", &format!("{BELOW}, {port}"))].concat();
    let loaded = load_custom(&text);
    let gateway = node(Role::Gateway);
    let view = View::new(&loaded.mesh, &gateway);
    let chain = TcpChain { protocol: PortProtocol::Tcp, stat_prefix: "a" };
    let found = |side| crate::translate::filter::network_filters(&view, side, &chain);
    let [filter] = &found(Side::Edge)[..] else { panic!("one filter") };
    let Some(listener::filter::ConfigType::TypedConfig(config)) = &filter.config_type else { panic!("no config") };
    let rules = config.to_msg::<network_rbac::Rbac>().unwrap().rules.unwrap();
    assert_eq!(rules.action(), Action::Deny);
    let permissions: Vec<_> = rules.policies.values().map(|policy| policy.permissions.clone()).collect();
    let expected = |text: &str| vec![from_text::<rbac::Permission>(text, "expected").unwrap()];
    let of_port = "{and_rules: {rules: [{or_rules: {rules: [{destination_port: 9}]}}]}}";
    assert_eq!(permissions, [expected(ANYTHING), expected(of_port)], "a path is no attribute of connections");
    assert_eq!(found(Side::Outbound), vec![]);
}

#[test]
fn a_provider_with_grpc_is_asked_about_connections() {
    let text = mesh(GRPC) + &custom("p", "grpc", BELOW);
    let loaded = load_custom(&text);
    let gateway = node(Role::Gateway);
    let view = View::new(&loaded.mesh, &gateway);
    let chain = TcpChain { protocol: PortProtocol::Tcp, stat_prefix: "a" };
    let found = crate::translate::filter::network_filters(&view, Side::Edge, &chain);
    let names: Vec<_> = found.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(names, ["envoy.filters.network.rbac", "envoy.filters.network.ext_authz"]);
    fn config<M: prost::Message + prost::Name + Default>(filter: &listener::Filter) -> M {
        let Some(listener::filter::ConfigType::TypedConfig(config)) = &filter.config_type else { panic!("no config") };
        config.to_msg().unwrap()
    }
    let rbac: network_rbac::Rbac = config(&found[0]);
    assert!(rbac.rules.is_none(), "the service decides");
    let shadow = rbac.shadow_rules.unwrap();
    let policy = &shadow.policies["istio-ext-authz-ns[foo]-policy[p]-rule[0]"];
    assert_eq!(policy.permissions, [from_text::<rbac::Permission>(ANYTHING, "expected").unwrap()]);
    let asked: crate::translate::proto::network_ext_authz::ExtAuthz = config(&found[1]);
    assert_eq!((&*asked.stat_prefix, asked.failure_mode_allow), ("tcp.", false));
    let expected = from_text(
        "{filter: envoy.filters.network.rbac, path: [{key: istio_ext_authz_shadow_effective_policy_id}], value: \
         {string_match: {prefix: istio-ext-authz}}}",
        "expected",
    );
    assert_eq!(asked.filter_enabled_metadata, Some(expected.unwrap()));
    assert!(asked.grpc_service.is_some());
}

#[test]
fn the_service_has_a_cluster_where_it_is_asked_and_no_routes() {
    let sidecar = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: foo}\nspec: {egress: \
                   [{hosts: [./*]}]}\n";
    let text = |provider: &str| [mesh(HTTP), custom("p", provider, BELOW), sidecar.to_owned()].concat();
    let resources = |provider: &str| -> Resources {
        let node = node(Role::Sidecar(Interception::Redirect));
        translate(&load_custom(&text(provider)).mesh, &node)
    };
    let asked = |resources: &Resources| -> Vec<String> {
        let names = resources.clusters.iter().map(|cluster| cluster.name.clone());
        names.filter(|name| name.contains("authz")).collect()
    };
    let host = "authz.auth.svc.cluster.local";
    let found = resources("http");
    assert_eq!(asked(&found), [format!("outbound|8000||{host}"), format!("outbound|9000||{host}")]);
    assert!(found.endpoints.iter().any(|assignment| assignment.cluster_name == format!("outbound|8000||{host}")));
    let routes = found.routes.iter().map(|routes| to_json(routes).to_string()).collect::<String>();
    assert!(!routes.contains("authz"), "{routes}");
    assert_eq!(asked(&resources("unknown")), Vec::<String>::new());
}
