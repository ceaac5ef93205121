//! RequestAuthentications, and rules about claims.

use super::{check, findings, load};
use crate::config::{Options, Strictness};
use crate::diagnostic::Source;
use crate::load::Loaded;
use std::sync::Arc;

const JWKS: &str = r#"'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'"#;

fn policy(spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: x}}\nspec: {spec}\n")
}

/// A policy with one rule, which has an issuer and these fields.
fn rule(fields: &str) -> String {
    policy(&format!("{{jwtRules: [{{issuer: i, {fields}}}]}}"))
}

#[test]
fn policies_that_istio_accepts_are_read() {
    for text in [
        policy("{}"),
        policy("{selector: {matchLabels: {app: a}}, jwtRules: []}"),
        rule(&format!("jwks: {JWKS}, audiences: [a], fromHeaders: [{{name: x-jwt, prefix: 'T '}}], fromParams: [q]")),
        rule("jwksUri: 'https://issuer.test/keys', fromCookies: [c], timeout: 3s, spaceDelimitedClaims: [a.b]"),
        rule(&format!(
            "jwks: {JWKS}, outputPayloadToHeader: x-payload, forwardOriginalToken: true, outputClaimToHeaders: \
             [{{header: x-a, claim: a}}, {{header: x_b, claim: b.c}}]"
        )),
    ] {
        assert_eq!(findings(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_rule_that_cannot_be_enforced_is_refused() {
    let rule_of = |fields: &str| rule(fields);
    for (text, expected) in [
        (policy("{jwtRules: [~]}"), "IST0106 4 `~` spec.jwtRules[0]: expected an object"),
        (
            policy(&format!("{{jwtRules: [{{jwks: {JWKS}}}]}}")),
            "IST0106 4 `{` spec.jwtRules[0].issuer: issuer is missing",
        ),
        (
            policy(&format!("{{jwtRules: [{{issuer: '', jwks: {JWKS}}}]}}")),
            "IST0106 4 `''` spec.jwtRules[0].issuer: issuer is empty",
        ),
        (rule_of(""), "MESH0003 4 `{` spec.jwtRules[0].jwksUri: neither jwks nor jwksUri is set"),
        (
            rule_of(&format!("jwks: {JWKS}, jwksUri: 'https://a.test'")),
            "IST0106 4 `jwks` spec.jwtRules[0].jwks: jwks and jwksUri are both set",
        ),
        (rule_of("jwks: '{}'"), "IST0106 4 `'{}'` spec.jwtRules[0].jwks: invalid jwks: the field keys is not a list"),
        (rule_of("jwksUri: /keys"), "IST0106 4 `/keys` spec.jwtRules[0].jwksUri: \"/keys\": the scheme is missing"),
        (
            rule_of("jwksUri: 'ftp://a.test/'"),
            "IST0106 4 `'ftp://a.test/'` spec.jwtRules[0].jwksUri: \"ftp://a.test/\": the scheme is neither",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, audiences: ['']")),
            "IST0106 4 `''` spec.jwtRules[0].audiences[0]: audiences has an empty item",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, fromParams: ['']")),
            "IST0106 4 `''` spec.jwtRules[0].fromParams[0]: fromParams has",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, fromCookies: ['']")),
            "IST0106 4 `''` spec.jwtRules[0].fromCookies[0]: fromCookies has",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, spaceDelimitedClaims: ['']")),
            "IST0106 4 `''` spec.jwtRules[0].spaceDelimitedClaims[0]",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, fromHeaders: [{{prefix: a}}]")),
            "IST0106 4 `{` spec.jwtRules[0].fromHeaders[0].name: name is missing",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, fromHeaders: [{{name: ''}}]")),
            "IST0106 4 `''` spec.jwtRules[0].fromHeaders[0].name: \"\" is not the name",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, outputClaimToHeaders: [{{header: ':authority', claim: a}}]")),
            "IST0106 4 `':authority'` spec.jwtRules[0].outputClaimToHeaders[0].header: \":authority\" is not",
        ),
        (
            rule_of(&format!("jwks: {JWKS}, outputClaimToHeaders: [{{header: h, claim: a}}, {{header: H, claim: b}}]")),
            "IST0106 4 `{` spec.jwtRules[0].outputClaimToHeaders[1]: header \"H\" has two claims",
        ),
        (rule_of(&format!("jwks: {JWKS}, timeout: apple")), "IST0106 4 `apple` spec.jwtRules[0].timeout:"),
        (
            rule_of(&format!("jwks: {JWKS}, jwtHeaders: [a]")),
            "IST0106 4 `jwtHeaders` spec.jwtRules[0].jwtHeaders: unknown field",
        ),
        (
            policy("{targetRefs: [{kind: Gateway, name: a}]}"),
            "MESH0003 4 `targetRefs` spec.targetRefs: targetRefs is not",
        ),
    ] {
        check(&text, expected);
    }
}

#[test]
fn keys_are_not_fetched_from_the_machine_itself_unless_that_is_allowed() {
    for uri in ["http://127.0.0.1:8080/jwks", "https://169.254.169.254/latest", "http://localhost/", "http://[::1]/"] {
        let text = rule(&format!("jwksUri: '{uri}'"));
        check(
            &text,
            &format!("IST0106 4 `'{uri}'` spec.jwtRules[0].jwksUri: \"{uri}\" is a loopback or link-local address"),
        );
        let source = Arc::new(Source::new("a.yaml", text));
        let options = Options::from(Strictness::Strict).with_allow_local_jwks_uri(true);
        assert!(Loaded::from_sources(vec![source], options).diagnostics.is_empty());
    }
}

#[test]
fn a_lenient_reader_does_not_leave_out_a_rule_without_keys() {
    let source = Arc::new(Source::new("a.yaml", rule("")));
    assert!(!Loaded::from_sources(vec![source], Strictness::Lenient).is_valid());
}

#[test]
fn claims_are_matched_where_tokens_are_verified() {
    let service = |key: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {{hosts: [books.example], \
             gateways: [edge], http: [{{match: [{{headers: {{'{key}': {{exact: a}}}}}}], route: [{{destination: {{host: \
             reviews}}}}]}}]}}\n"
        )
    };
    let found = findings(&service("@request.auth.claims.a"));
    assert!(found[0].starts_with("IST0149 4 `"), "{found:?}");
    assert!(found[0].contains("spec.http[0].match[0]: no RequestAuthentication verifies tokens"), "{found:?}");
    let of_gateway = rule(&format!("jwks: {JWKS}"));
    for key in ["@request.auth.claims.a.b", "@request.auth.claims[a][b.c]"] {
        assert!(
            load(&[("mesh.yaml", super::MESH), ("a.yaml", &service(key)), ("b.yaml", &of_gateway)]).is_valid(),
            "{key}"
        );
    }
    for key in ["@request.auth", "@request.auth.claims.", "@request.auth.claims[a", "@request.auth.claims[]", "@x"] {
        let found = findings(&service(key));
        assert!(found[0].contains("is not the key of a claim"), "{key}: {found:?}");
    }
}
