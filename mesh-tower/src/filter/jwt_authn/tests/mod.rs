use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt as _;
use mesh_core::{
    filter::{
        HttpFilter as Chained,
        jwt_authn::{
            Allow, Audiences, ClaimToHeader, Jwks, JwksSource, JwtAuthn, JwtCacheConfig, Provider, Requirement, Rule,
            RuleMatch,
        },
    },
    model::PathMatcher,
};
use tower::ServiceExt as _;
use tower_layer::Layer as _;

use crate::{
    Body, BoxError,
    filter::{FilterFactory, FilterLayer},
    telemetry::HttpStats,
};

mod remote;

const SECRET: &[u8] = b"a secret of thirty-two bytes ...";

/// A key set with one shared secret.
fn jwks(kid: &str) -> String {
    format!(r#"{{"keys":[{{"kty":"oct","kid":"{kid}","k":"{}"}}]}}"#, URL_SAFE_NO_PAD.encode(SECRET))
}

fn token_of(kid: &str, claims: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn token(claims: &str) -> String {
    token_of("k", claims)
}

fn provider(issuer: &str) -> Provider {
    let mut provider = Provider::new(issuer, JwksSource::Local(Jwks::parse(jwks("k").as_bytes()).unwrap()));
    provider.name = issuer.into();
    provider
}

fn of(provider: usize) -> Requirement {
    Requirement::Provider { provider, audiences: None }
}

/// A filter with one requirement for all requests.
fn filter(providers: Vec<Provider>, requirement: Requirement) -> JwtAuthn {
    let mut filter = JwtAuthn::new(providers);
    let matches = RuleMatch::path(PathMatcher::Prefix("/".into()));
    filter.rules = vec![Rule { matches, requirement }];
    filter
}

struct Fixture {
    layer: FilterLayer,
    stats: HttpStats,
}

impl Fixture {
    fn new(filter: JwtAuthn) -> Self {
        let stats = HttpStats::default();
        let layer = FilterLayer::with_factory(
            Chained::new(filter),
            &FilterFactory { stats: &stats, logs: &Arc::default(), clients: None, authorizer: None },
        );
        Self { layer, stats }
    }

    /// The response to a request; the body of an accepted one has the target and the headers that the service sees.
    async fn send(&self, target: &str, headers: &[(&str, &str)]) -> Response<String> {
        let service = tower::service_fn(async |request: Request<Body>| {
            let headers = request.headers().iter();
            let headers = headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
            let lines: Vec<_> = [request.uri().to_string()].into_iter().chain(headers).collect();
            Ok::<_, BoxError>(Response::new(Body::from(lines.join(" | "))))
        });
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (head, body) = self.layer.layer(service).oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The status and the body of the response to a request with this token.
    async fn bearer(&self, token: &str) -> (u16, String) {
        let response = self.send("/", &[("authorization", &format!("Bearer {token}"))]).await;
        (response.status().as_u16(), response.into_body())
    }

    fn count(&self, name: &'static str) -> u64 {
        self.stats.counter(name).get()
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_with_the_reason() {
    let mut one = provider("issuer");
    one.audiences = Audiences::new(["svc"]);
    let fixture = Fixture::new(filter(vec![one], of(0)));
    let forged = format!("{}A", token(r#"{"iss":"issuer","aud":"svc"}"#));
    for (token, expected) in [
        (token(r#"{"iss":"issuer","aud":"svc","exp":1}"#), (401, "Jwt is expired")),
        (token(r#"{"iss":"issuer","aud":"svc","nbf":99999999999}"#), (401, "Jwt not yet valid")),
        (token(r#"{"iss":"other","aud":"svc"}"#), (401, "Jwt issuer is not configured")),
        (token(r#"{"iss":"issuer","aud":"other"}"#), (403, "Audiences in Jwt are not allowed")),
        (token_of("x", r#"{"iss":"issuer","aud":"svc"}"#), (401, "Jwks doesn't have key to match kid or alg from Jwt")),
        (forged, (401, "Jwt verification fails")),
        ("a.b".to_owned(), (401, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")),
    ] {
        assert_eq!(fixture.bearer(&token).await, (expected.0, expected.1.to_owned()));
    }
    let other = token(r#"{"iss":"issuer","aud":"svc","sub":"other"}"#);
    let swapped = token(r#"{"iss":"issuer","aud":"svc"}"#);
    let swapped = format!("{}.{}", swapped.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
    assert_eq!(fixture.bearer(&swapped).await, (401, "Jwt verification fails".to_owned()));
    assert_eq!(fixture.bearer(&other).await.0, 200);
    assert_eq!((fixture.count("jwt_authn.denied"), fixture.count("jwt_authn.allowed")), (8, 1));
}

#[tokio::test]
async fn a_refusal_says_how_to_authenticate() {
    let fixture = Fixture::new(filter(vec![provider("issuer")], of(0)));
    let challenge = |response: &Response<String>| {
        response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned())
    };
    let missing = fixture.send("http://shop.test/a", &[]).await;
    assert_eq!(challenge(&missing).unwrap(), r#"Bearer realm="http://shop.test/a""#);
    let headers = [("host", "h"), ("x-forwarded-proto", "https"), ("authorization", "Bearer x")];
    let invalid = fixture.send("/a", &headers).await;
    assert_eq!(challenge(&invalid).unwrap(), r#"Bearer realm="https://h/a", error="invalid_token""#);
    let mut stripped = filter(vec![provider("issuer")], of(0));
    stripped.strip_failure_response = true;
    let response = Fixture::new(stripped).send("/a", &[]).await;
    assert_eq!((response.status().as_u16(), &**response.body(), challenge(&response)), (401, "", None));
}

#[tokio::test]
async fn a_request_has_one_token_for_a_provider() {
    let fixture = Fixture::new(filter(vec![provider("issuer")], of(0)));
    let token = token(r#"{"iss":"issuer"}"#);
    let bearer = format!("Bearer {token}");
    let two = fixture.send("/", &[("authorization", &bearer), ("authorization", &bearer)]).await;
    assert_eq!((two.status().as_u16(), &**two.body()), (401, "Found multiple Jwt tokens"));
    let elsewhere = fixture.send(&format!("/?access_token={token}"), &[("authorization", &bearer)]).await;
    assert_eq!(elsewhere.status().as_u16(), 401);
    assert_eq!(fixture.send(&format!("/?access_token={token}"), &[]).await.status().as_u16(), 200);
    assert_eq!(fixture.send("/", &[("authorization", &format!("bearer  {token}"))]).await.status().as_u16(), 200);
}

#[tokio::test]
async fn an_optional_token_is_valid_or_absent() {
    let optional = Requirement::any(vec![of(0), Requirement::Optional(Allow::Missing)]);
    let fixture = Fixture::new(filter(vec![provider("issuer")], optional));
    assert_eq!(fixture.send("/", &[]).await.status().as_u16(), 200);
    assert_eq!(fixture.bearer("x").await.0, 401);
    assert_eq!(fixture.bearer(&token(r#"{"iss":"other"}"#)).await.0, 401);
    let any = Fixture::new(filter(vec![provider("a"), provider("b")], Requirement::Optional(Allow::Missing)));
    assert_eq!(any.send("/", &[]).await.status().as_u16(), 200);
    assert_eq!(any.bearer(&token(r#"{"iss":"b"}"#)).await.0, 200);
    assert_eq!(any.bearer(&token(r#"{"iss":"c"}"#)).await.0, 401);
    let failed = Fixture::new(filter(vec![provider("a")], Requirement::Optional(Allow::MissingOrFailed)));
    assert_eq!(failed.bearer("x").await.0, 200);
}

#[tokio::test]
async fn claims_are_passed_on_and_the_clients_own_headers_are_not() {
    let mut one = provider("issuer");
    one.forward_payload_header = Some(HeaderName::from_static("x-payload"));
    let claim = |name, key: &str| ClaimToHeader { header_name: HeaderName::from_static(name), path: vec![key.into()] };
    one.claim_to_headers = vec![claim("x-sub", "sub"), claim("x-role", "role")];
    let optional = Requirement::any(vec![of(0), Requirement::Optional(Allow::Missing)]);
    let fixture = Fixture::new(filter(vec![one], optional));
    let forged = [("x-sub", "admin"), ("x-role", "admin"), ("x-payload", "e30"), ("x-other", "o")];
    assert_eq!(fixture.send("/", &forged).await.into_body(), "/ | x-other: o");

    let claims = r#"{"iss":"issuer","sub":"alice"}"#;
    let bearer = format!("Bearer {}", token(claims));
    let mut headers = forged.to_vec();
    headers.push(("authorization", &bearer));
    let payload = URL_SAFE_NO_PAD.encode(claims);
    let expected = format!("/ | x-other: o | x-payload: {payload} | x-sub: alice");
    assert_eq!(fixture.send("/", &headers).await.into_body(), expected);
    let split = token(r#"{"iss":"issuer","sub":"alice\r\nx-admin: true"}"#);
    assert_eq!(fixture.bearer(&split).await, (401, "Jwt verification fails".to_owned()));
}

#[tokio::test]
async fn a_token_is_removed_unless_it_is_forwarded() {
    let mut kept = provider("issuer");
    kept.forward = true;
    let token = token(r#"{"iss":"issuer"}"#);
    let (target, bearer) = (format!("/p?a=1&access_token={token}"), format!("Bearer {token}"));
    let removes = Fixture::new(filter(vec![provider("issuer")], of(0)));
    assert_eq!(removes.send("/p", &[("authorization", &bearer)]).await.into_body(), "/p");
    assert_eq!(removes.send(&target, &[]).await.into_body(), "/p?a=1");
    let keeps = Fixture::new(filter(vec![kept], of(0)));
    assert_eq!(
        keeps.send("/p", &[("authorization", &bearer)]).await.into_body(),
        format!("/p | authorization: {bearer}")
    );
    assert_eq!(keeps.send(&target, &[]).await.into_body(), target);
}

#[tokio::test]
async fn preflight_requests_are_passed_on_if_that_is_configured() {
    let mut bypass = filter(vec![provider("issuer")], of(0));
    bypass.bypass_cors_preflight = true;
    for (filter, expected) in [(bypass, 200), (filter(vec![provider("issuer")], of(0)), 401)] {
        let fixture = Fixture::new(filter);
        let service = tower::service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        let request = Request::options("/")
            .header("origin", "http://a")
            .header("access-control-request-method", "GET")
            .body(Body::empty())
            .unwrap();
        let response = fixture.layer.layer(service).oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), expected);
        assert_eq!(fixture.count("jwt_authn.cors_preflight_bypassed"), u64::from(expected == 200));
    }
}

#[tokio::test]
async fn remembered_tokens_are_still_checked() {
    let mut one = provider("issuer");
    one.jwt_cache = Some(JwtCacheConfig { jwt_cache_size: JwtCacheConfig::SIZE, jwt_max_token_size: 4096 });
    one.audiences = Audiences::new(["svc"]);
    let mut config = JwtAuthn::new(vec![one]);
    let rule = |prefix: &str, audiences: Option<Audiences>| Rule {
        matches: RuleMatch::path(PathMatcher::Prefix(prefix.into())),
        requirement: Requirement::Provider { provider: 0, audiences },
    };
    config.rules = vec![rule("/other", Some(Audiences::new(["other"]))), rule("/", None)];
    config.stat_prefix = "p".into();
    let fixture = Fixture::new(config);
    let bearer = format!("Bearer {}", token(r#"{"iss":"issuer","aud":"svc"}"#));
    let headers = [("authorization", &*bearer)];
    for _ in 0..3 {
        assert_eq!(fixture.send("/", &headers).await.status().as_u16(), 200);
    }
    assert_eq!((fixture.count("jwt_authn.p.jwt_cache_miss"), fixture.count("jwt_authn.p.jwt_cache_hit")), (1, 2));
    assert_eq!(fixture.send("/other", &headers).await.status().as_u16(), 403, "the audience is checked again");
    let forged = format!("{bearer}A");
    assert_eq!(fixture.send("/", &[("authorization", &forged)]).await.status().as_u16(), 401);
    assert_eq!(fixture.count("jwt_authn.p.jwt_cache_hit"), 3);
}

#[tokio::test]
async fn without_keys_no_token_is_valid() {
    let empty = Provider::new("issuer", JwksSource::Local(Jwks::default()));
    let fixture = Fixture::new(filter(vec![empty], of(0)));
    let refused = (401, "Jwks doesn't have any valid public key".to_owned());
    assert_eq!(fixture.bearer(&token(r#"{"iss":"issuer"}"#)).await, refused);
}
