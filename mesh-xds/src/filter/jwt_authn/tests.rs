use std::time::Duration;

use mesh_core::filter::jwt_authn::{
    Allow, AsyncFetch, Audiences, ClaimToHeader, JwksSource, JwtCacheConfig, Provider, RemoteJwks,
};
use mesh_core::model::PathMatcher;

use super::*;
use crate::decode::field::Notes;
use crate::json;

const JWKS: &str = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;

fn decoded(text: &str) -> (std::result::Result<JwtAuthn, String>, Vec<String>) {
    let message: proto::JwtAuthentication =
        json::from_text(text, "test").unwrap_or_else(|error| panic!("{text}: {error}"));
    let notes = Notes::default();
    let result = JwtAuthn::decode(&At::root(&notes), &message);
    match notes.finish(result) {
        Ok((value, ignored)) => (Ok(value), ignored.iter().map(ToString::to_string).collect()),
        Err(errors) => (Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")), Vec::new()),
    }
}

/// The only provider of a filter; `fields` are those of its message besides the keys.
fn provider(fields: &str) -> std::result::Result<Provider, String> {
    let text = format!("{{providers: {{p: {{local_jwks: {{inline_string: '{JWKS}'}}, {fields}}}}}}}");
    decoded(&text).0.map(|filter| filter.providers()[0].clone())
}

fn remote(fields: &str) -> std::result::Result<RemoteJwks, String> {
    let uri = "http_uri: {uri: 'https://issuer.test:8443/keys?v=1', cluster: c, timeout: 5s}";
    let text = format!("{{providers: {{p: {{remote_jwks: {{{uri}{fields}}}}}}}}}");
    decoded(&text).0.map(|filter| match &filter.providers()[0].jwks {
        JwksSource::Remote(remote) => RemoteJwks::clone(remote),
        JwksSource::Local(_) => panic!("local keys"),
    })
}

#[test]
fn a_provider_has_envoys_defaults() {
    let local = JwksSource::Local(mesh_core::filter::jwt_authn::Jwks::parse(JWKS.as_bytes()).unwrap());
    let mut expected = Provider::new("", local);
    expected.name = "p".into();
    assert_eq!(provider(""), Ok(expected));
    assert_eq!(provider("").unwrap().clock_skew, Duration::from_secs(60));
}

#[test]
fn every_field_of_a_provider_is_decoded() {
    let mut expected = provider("").unwrap();
    expected.issuer = "i".into();
    expected.audiences = Audiences::new(["a", "b"]);
    expected.subjects = Some(mesh_core::model::StringMatcher::exact("s"));
    expected.require_expiration = true;
    expected.max_lifetime = Some(Duration::from_secs(9));
    expected.clock_skew = Duration::from_secs(7);
    expected.forward = true;
    expected.locations.headers = vec![(http::HeaderName::from_static("x-jwt"), "T ".into())];
    expected.locations.params = vec!["q".into()];
    expected.locations.cookies = vec!["c".into()];
    expected.forward_payload_header = Some(http::HeaderName::from_static("x-payload"));
    expected.pad_forward_payload_header = true;
    let claim = |name, path: &[&str]| ClaimToHeader {
        header_name: http::HeaderName::from_static(name),
        path: path.iter().map(|key| Box::from(*key)).collect(),
    };
    expected.claim_to_headers = vec![claim("x-a", &["a", "b"]), claim("x-u", &["https://c.test/d"])];
    expected.payload_in_metadata = Some("payload".into());
    expected.space_delimited_claims = vec!["scope".into()];
    expected.header_in_metadata = Some("header".into());
    expected.failed_status_in_metadata = Some("status".into());
    expected.clear_route_cache = true;
    let jwt_cache_size = std::num::NonZeroU32::new(5).unwrap();
    expected.jwt_cache = Some(JwtCacheConfig { jwt_cache_size, jwt_max_token_size: 4096 });
    assert_eq!(
        provider(
            "issuer: i, audiences: [a, b], subjects: {exact: s}, require_expiration: true, max_lifetime: 9s, \
             clock_skew_seconds: 7, forward: true, from_headers: [{name: X-Jwt, value_prefix: 'T '}], \
             from_params: [q], from_cookies: [c], forward_payload_header: x-payload, \
             pad_forward_payload_header: true, claim_to_headers: [{header_name: x-a, claim_name: a.b}, \
             {header_name: x-u, claim_path: [{key: 'https://c.test/d'}]}], payload_in_metadata: payload, \
             normalize_payload_in_metadata: {space_delimited_claims: [scope]}, header_in_metadata: header, \
             failed_status_in_metadata: status, clear_route_cache: true, jwt_cache_config: {jwt_cache_size: 5}"
        ),
        Ok(expected)
    );
}

#[test]
fn keys_are_fetched_as_configured() {
    let mut expected = RemoteJwks::new("issuer.test:8443", "/keys?v=1", "c", Duration::from_secs(5));
    assert_eq!(remote(""), Ok(expected.clone()));
    assert_eq!(expected.cache_duration, Duration::from_secs(600));
    expected.cache_duration = Duration::from_secs(60);
    expected.async_fetch = Some(AsyncFetch { failed_refetch_duration: Duration::from_secs(1) });
    expected.num_retries = 3;
    expected.retry_back_off = [Duration::from_secs(2), Duration::from_secs(20)];
    assert_eq!(
        remote(
            ", cache_duration: 60s, async_fetch: {fast_listener: true}, retry_policy: {num_retries: 3, \
             retry_back_off: {base_interval: 2s}}"
        ),
        Ok(expected)
    );
    let at = "providers[\"p\"].remote_jwks";
    for (fields, expected) in [
        (
            ", retry_policy: {retry_back_off: {base_interval: 2s, max_interval: 1s}}",
            format!("{at}.retry_policy.retry_back_off.max_interval: is less than base_interval"),
        ),
        (
            ", retry_policy: {host_selection_retry_max_attempts: 1}",
            format!("{at}.retry_policy.host_selection_retry_max_attempts: not supported"),
        ),
    ] {
        assert_eq!(remote(fields).unwrap_err(), expected);
    }
    let (filter, _) =
        decoded("{providers: {p: {remote_jwks: {http_uri: {uri: 'http://i', cluster: c, timeout: 1s}}}}}");
    let filter = filter.unwrap();
    let clusters = filter.clusters();
    assert_eq!((&*clusters[0].path, clusters[0].name.as_str()), ("providers[\"p\"].remote_jwks.http_uri.cluster", "c"));
}

#[test]
fn rules_and_requirements_refer_to_providers_by_name() {
    let providers = format!(
        "providers: {{a: {{local_jwks: {{inline_string: '{JWKS}'}}}}, b: {{local_jwks: {{inline_string: '{JWKS}'}}}}}}"
    );
    let of = |provider| Requirement::Provider { provider, audiences: None };
    let requirement = |text: &str| {
        let text = format!("{{{providers}, rules: [{{match: {{prefix: /}}, requires: {{{text}}}}}]}}");
        decoded(&text).0.map(|filter| filter.rules[0].requirement.clone())
    };
    assert_eq!(requirement("provider_name: b"), Ok(of(1)));
    let audiences = Some(Audiences::new(["x"]));
    assert_eq!(
        requirement("provider_and_audiences: {provider_name: a, audiences: [x]}"),
        Ok(Requirement::Provider { provider: 0, audiences })
    );
    assert_eq!(requirement("provider_and_audiences: {provider_name: a}"), Ok(of(0)));
    assert_eq!(
        requirement("requires_any: {requirements: [{provider_name: a}, {allow_missing: {}}]}"),
        Ok(Requirement::Any { of: vec![of(0)], allow: Allow::Missing })
    );
    assert_eq!(
        requirement("requires_all: {requirements: [{provider_name: a}, {provider_name: b}]}"),
        Ok(Requirement::All(vec![of(0), of(1)]))
    );
    assert_eq!(requirement("allow_missing_or_failed: {}"), Ok(Requirement::Optional(Allow::MissingOrFailed)));
    let at = "rules[0].requires";
    assert_eq!(
        requirement("provider_name: c").unwrap_err(),
        format!("{at}.provider_name: provider \"c\" is not configured")
    );
    assert_eq!(
        requirement("extract_only_without_validation: {}").unwrap_err(),
        format!("{at}.extract_only_without_validation: not supported: claims of tokens are not verified")
    );
    let named = format!(
        "{{{providers}, requirement_map: {{r: {{provider_name: b}}}}, bypass_cors_preflight: true, \
         strip_failure_response: true, stat_prefix: s, rules: [{{match: {{path: /a, case_sensitive: false}}, \
         requirement_name: r}}, {{match: {{prefix: /}}}}]}}"
    );
    let filter = decoded(&named).0.unwrap();
    assert_eq!(filter.rules[0].requirement, of(1));
    let mut matches = RuleMatch::path(PathMatcher::Exact("/a".into()));
    matches.case_sensitive = false;
    assert_eq!(filter.rules[0].matches, matches);
    assert_eq!(filter.rules[1].requirement, Requirement::Nothing);
    assert!(filter.bypass_cors_preflight && filter.strip_failure_response && &*filter.stat_prefix == "s");
    assert_eq!(filter.requirement_map["r"], of(1));
}

#[test]
fn invalid_keys_refuse_every_token() {
    let (filter, ignored) = decoded("{providers: {p: {local_jwks: {inline_string: x}}}}");
    assert_eq!(filter.unwrap().providers()[0].jwks, JwksSource::Local(mesh_core::filter::jwt_authn::Jwks::default()));
    assert_eq!(
        ignored,
        ["providers[\"p\"].local_jwks: not a JSON object, or one that has a key twice or is nested too deeply; every \
          token of the provider will be refused"]
    );
}

#[test]
fn what_is_not_supported_is_refused_with_its_path() {
    for (text, expected) in [
        ("filter_state_rules: {name: s}", "filter_state_rules: not supported"),
        ("rules: [{match: {prefix: /, grpc: {}}}]", "rules[0].match.grpc: not supported"),
        (
            "rules: [{match: {prefix: /}, requirement_name: r}]",
            "rules[0].requirement_name: \"r\" is not in requirement_map",
        ),
        (
            "providers: {p: {remote_jwks: {http_uri: {uri: /keys, cluster: c, timeout: 1s}}}}",
            "providers[\"p\"].remote_jwks.http_uri.uri: \"/keys\" is not a URI of the form https://HOST/PATH",
        ),
        (
            "providers: {p: {remote_jwks: {http_uri: {uri: 'http://u@h/', cluster: c, timeout: 1s}}}}",
            "providers[\"p\"].remote_jwks.http_uri.uri: \"http://u@h/\" is not a URI of the form https://HOST/PATH",
        ),
        (
            "providers: {p: {remote_jwks: {http_uri: {uri: 'http://h/', cluster: c}}}}",
            "providers[\"p\"].remote_jwks.http_uri.timeout: is missing",
        ),
        ("providers: {p: {}}", "providers[\"p\"]: neither local_jwks nor remote_jwks is given"),
    ] {
        assert_eq!(decoded(&format!("{{{text}}}")).0.unwrap_err(), expected);
    }
    for (fields, expected) in [
        ("from_headers: [{name: ':path'}]", "from_headers[0].name: \":path\" is not the name of a header field"),
        ("claim_to_headers: [{header_name: x}]", "claim_to_headers[0]: neither claim_name nor claim_path is given"),
        (
            "claim_to_headers: [{header_name: x, claim_name: a, claim_path: [{key: a}]}]",
            "claim_to_headers[0]: claim_name and claim_path are both given",
        ),
    ] {
        assert_eq!(provider(fields).unwrap_err(), format!("providers[\"p\"].{expected}"));
    }
}

#[test]
fn a_route_disables_the_filter_or_names_a_requirement() {
    let per_route = |text: &str| {
        let message: proto::PerRouteConfig = json::from_text(text, "test").unwrap_or_else(|error| panic!("{error}"));
        let notes = Notes::default();
        JwtAuthn::decode_per_route(&At::root(&notes), &message).map_err(|error| error.to_string())
    };
    assert_eq!(per_route("{disabled: true}"), Ok(PerRoute::Disabled));
    assert_eq!(per_route("{requirement_name: r}"), Ok(PerRoute::RequirementName("r".into())));
    assert_eq!(per_route("{disabled: false}").unwrap_err(), "disabled: false is not allowed");
    assert_eq!(per_route("{}").unwrap_err(), "neither disabled nor requirement_name is given");
}
