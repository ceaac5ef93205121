//! RequestAuthentications, as istiod translates them.

use mesh_xds::proto::envoy::config::cluster::v3::Cluster;
use mesh_xds::proto::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use mesh_xds::proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter::ConfigType,
};
use prost::Message as _;

use super::*;

const JWKS: &str = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {spec}\n"
    )
}

fn rule(issuer: &str, more: &str) -> String {
    format!("{{issuer: {issuer}, jwks: '{JWKS}'{more}}}")
}

fn sidecar() -> Node {
    let labels = Labels::from([("app".to_owned(), "a".to_owned())]);
    Node::new(Role::Sidecar(Interception::Redirect), Some("a"), None, labels).unwrap()
}

/// The filters of the connection managers, by the names of the listeners: the names of those in front of `jwt_authn`, and its
/// configuration.
fn filters(resources: &Resources) -> Vec<(String, Vec<String>, JwtAuthentication)> {
    let mut found = Vec::new();
    for listener in &resources.listeners {
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        let mut managers: Vec<HttpConnectionManager> = Vec::new();
        for filter in chains.flat_map(|chain| &chain.filters) {
            use mesh_xds::proto::envoy::config::listener::v3::filter::ConfigType;
            if let Some(ConfigType::TypedConfig(any)) = &filter.config_type
                && any.type_url.ends_with("HttpConnectionManager")
            {
                managers.push(HttpConnectionManager::decode(&*any.value).unwrap());
            }
        }
        if let Some(any) = listener.api_listener.as_ref().and_then(|api| api.api_listener.as_ref()) {
            managers.push(HttpConnectionManager::decode(&*any.value).unwrap());
        }
        for manager in managers {
            let names: Vec<_> = manager.http_filters.iter().map(|filter| filter.name.clone()).collect();
            let Some(position) = names.iter().position(|name| name == "envoy.filters.http.jwt_authn") else { continue };
            let filter = &manager.http_filters[position];
            assert!(!filter.is_optional);
            let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("{filter:?}") };
            let config = JwtAuthentication::decode(&*any.value).unwrap();
            found.push((listener.name.clone(), names[..position].to_vec(), config));
        }
    }
    found
}

#[track_caller]
fn check_filter(found: &JwtAuthentication, expected: &str) {
    let expected: JwtAuthentication = from_text(expected, "expected").unwrap();
    assert_eq!(to_json(found).to_string(), to_json(&expected).to_string());
}

#[test]
fn one_rule_is_optional_and_the_filter_is_in_front_of_faults() {
    let rule = rule(
        "issuer",
        ", audiences: [aud], forwardOriginalToken: true, outputPayloadToHeader: x-p, outputClaimToHeaders: [{header: x-sub, \
         claim: sub}], fromHeaders: [{name: x-jwt, prefix: 'T '}], fromParams: [q], fromCookies: [c], spaceDelimitedClaims: [my]",
    );
    let spec = format!("{{selector: {{matchLabels: {{app: a}}}}, jwtRules: [{rule}]}}");
    let found = filters(&resources(&policy("p", "default", &spec), &sidecar()));
    let (names, before): (Vec<_>, Vec<_>) = found.iter().map(|(name, before, _)| (name.as_str(), before)).unzip();
    assert_eq!(names, ["virtualInbound"; 1].repeat(found.len()), "not for calls of the workload");
    assert!(
        !found.is_empty()
            && before.iter().all(|before| before
                .iter()
                .all(|name| name.contains("metadata_exchange") || name.contains("peer_metadata"))),
        "{before:?}"
    );
    check_filter(
        &found[0].2,
        &format!(
            "{{providers: {{origins-0: {{issuer: issuer, audiences: [aud], forward: true, forward_payload_header: x-p, \
             payload_in_metadata: payload, normalize_payload_in_metadata: {{space_delimited_claims: [my, permission, scope]}}, \
             claim_to_headers: [{{header_name: x-sub, claim_name: sub}}], from_headers: [{{name: x-jwt, value_prefix: 'T '}}], \
             from_params: [q], from_cookies: [c], local_jwks: {{inline_string: '{JWKS}'}}}}}}, bypass_cors_preflight: true, \
             rules: [{{match: {{prefix: /}}, requires: {{requires_any: {{requirements: [{{provider_name: origins-0}}, \
             {{allow_missing: {{}}}}]}}}}}}]}}"
        ),
    );
}

#[test]
fn rules_of_all_policies_are_sorted_by_issuer_and_one_token_suffices() {
    let text = [
        policy("z", "default", &format!("{{jwtRules: [{}]}}", rule("b", ""))),
        policy("mesh", "istio-system", &format!("{{jwtRules: [{}]}}", rule("a", ""))),
        policy("other", "other", &format!("{{jwtRules: [{}]}}", rule("c", ""))),
        policy(
            "labels",
            "default",
            &format!("{{selector: {{matchLabels: {{app: x}}}}, jwtRules: [{}]}}", rule("d", "")),
        ),
    ];
    let found = filters(&resources(&text.concat(), &sidecar()));
    let config = &found[0].2;
    let issuers: Vec<_> =
        config.providers.iter().map(|(name, provider)| (name.as_str(), provider.issuer.as_str())).collect();
    assert_eq!(issuers, [("origins-0", "a"), ("origins-1", "b")]);
    let optional = |name: &str| {
        format!("{{requires_any: {{requirements: [{{provider_name: {name}}}, {{allow_missing: {{}}}}]}}}}")
    };
    let mut expected = config.clone();
    expected.rules = from_text::<JwtAuthentication>(
        &format!(
            "{{rules: [{{match: {{prefix: /}}, requires: {{requires_any: {{requirements: [{{provider_name: origins-0}}, \
             {{provider_name: origins-1}}, {{requires_all: {{requirements: [{}, {}]}}}}]}}}}}}]}}",
            optional("origins-0"),
            optional("origins-1")
        ),
        "expected",
    )
    .unwrap()
    .rules;
    assert_eq!(config.rules, expected.rules);
}

#[test]
fn servers_of_programs_and_gateways_have_the_filter_too() {
    let text = [
        policy("p", "default", &format!("{{jwtRules: [{}]}}", rule("a", ""))),
        resource(
            "Gateway",
            "g",
            "{selector: {}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}",
        ),
        resource("VirtualService", "v", "{hosts: ['*'], gateways: [g], http: [{route: [{destination: {host: a}}]}]}"),
    ]
    .concat();
    let gateway = Node::new(Role::Gateway, None, None, Labels::new()).unwrap();
    let of_gateway = filters(&resources(&text, &gateway));
    assert!(of_gateway[0].2.providers["origins-0"].clear_route_cache, "for rules about claims");
    let library = Node::new(Role::Library, Some("a"), None, Labels::new()).unwrap();
    let of_library = filters(&resources(&text, &library));
    assert!(!of_library.is_empty());
    assert!(of_library.iter().all(|(name, ..)| name.contains("/inbound/")), "not for its calls");
    assert!(!of_library[0].2.providers["origins-0"].clear_route_cache);
}

#[test]
fn keys_are_fetched_from_a_service_or_a_cluster_of_their_own() {
    let remote = |uri: &str, more: &str| {
        let spec = format!("{{jwtRules: [{{issuer: i, jwksUri: '{uri}'{more}}}]}}");
        let resources = resources(&policy("p", "default", &spec), &sidecar());
        let config = filters(&resources).swap_remove(0).2;
        let json = to_json(&config.providers["origins-0"]).to_string().replace([' ', '\n'], "");
        let own: Vec<Cluster> = resources.clusters.into_iter().filter(|it| it.name.starts_with("jwks|")).collect();
        (json, own)
    };
    let (of_service, own) = remote("http://a.default.svc.cluster.local:80/keys", ", timeout: 2s");
    assert!(of_service.contains(r#""cluster":"outbound|80||a.default.svc.cluster.local""#), "{of_service}");
    assert!(
        of_service.contains(r#""timeout":"2s""#) && of_service.contains(r#""cache_duration":"300s""#),
        "{of_service}"
    );
    assert!(own.is_empty());

    let (plain, own) = remote("http://issuer.test/keys", "");
    assert!(
        plain.contains(r#""cluster":"jwks|http|80|issuer.test""#) && plain.contains(r#""timeout":"5s""#),
        "{plain}"
    );
    let cluster = to_json(&own[0]).to_string().replace([' ', '\n'], "");
    assert!(cluster.contains("STRICT_DNS") && cluster.contains("issuer.test") && !cluster.contains("transport_socket"));

    let (tls, own) = remote("https://a.default.svc.cluster.local/keys", "");
    assert!(tls.contains(r#""cluster":"jwks|https|443|a.default.svc.cluster.local""#), "{tls}");
    let cluster = to_json(&own[0]).to_string().replace([' ', '\n'], "");
    for part in [r#""sni":"a.default.svc.cluster.local""#, "trusted_ca", r#""exact":"a.default.svc.cluster.local""#] {
        assert!(cluster.contains(part), "{part} {cluster}");
    }
}

#[test]
fn a_rule_about_claims_matches_metadata() {
    let claims =
        "{headers: {'@request.auth.claims.a.b': {exact: x}}, withoutHeaders: {'@request.auth.claims[c.d]': {}}}";
    let text = [
        policy("p", "default", &format!("{{jwtRules: [{}]}}", rule("a", ""))),
        resource(
            "Gateway",
            "g",
            "{selector: {}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}",
        ),
        resource(
            "VirtualService",
            "v",
            &format!(
                "{{hosts: ['*'], gateways: [g], http: [{{match: [{claims}], route: [{{destination: {{host: a}}}}]}}]}}"
            ),
        ),
    ]
    .concat();
    let gateway = Node::new(Role::Gateway, None, None, Labels::new()).unwrap();
    let routes = resources(&text, &gateway).routes.swap_remove(0).virtual_hosts.swap_remove(0).routes;
    let expected: Route = from_text(
        "{match: {dynamic_metadata: [{filter: envoy.filters.http.jwt_authn, path: [{key: payload}, {key: a}, {key: b}], \
         value: {or_match: {value_matchers: [{string_match: {exact: x}}, {list_match: {one_of: {string_match: {exact: x}}}}]}}}, \
         {filter: envoy.filters.http.jwt_authn, path: [{key: payload}, {key: c.d}], value: {present_match: true}, invert: \
         true}]}}",
        "expected",
    )
    .unwrap();
    assert_eq!(routes[0].r#match.as_ref().unwrap().dynamic_metadata, expected.r#match.unwrap().dynamic_metadata);
}
