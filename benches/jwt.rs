//! What does it cost to verify the token of a request, and what does the cache of tokens save?
//!
//! A request passes the filter `jwt_authn` as a layer, with a token of each common algorithm and without one. The claims are set in
//! metadata, as Istio configures it.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

mod support;

use http::{Request, Response, StatusCode};
use mesh_core::{
    filter::jwt_authn::{Allow, Jwks, JwksSource, JwtAuthn, JwtCacheConfig, Provider, Requirement, Rule, RuleMatch},
    model::PathMatcher,
};
use mesh_tower::{Body, BoxError, filter::FilterLayer};
use tower::{Layer as _, ServiceExt as _, service_fn};

use self::support::measure;

const CALLS: u32 = 2_000;

/// Algorithm, key set and token, whose private keys are forgotten.
const TOKENS: [(&str, &str, &str); 4] = [
    (
        "RS256",
        r#"{"keys":[{"kty":"RSA","kid":"k","n":"uvYCGtdw1LS8v7SAnPlNkTotwl2N4MG7XNCf-n4oMD_2AAdMToXlz2ERaqRJKD_sIMAmzxQ1pNo00p-vZ8ozS4gqIzHN8pxRE6KkOeO4AJV0w7yuzTeGMFbp1ma8GS08aWRWUZsmB3JgcbUiD-g2MlwD21rYURMXI0-WerN9RGtxeWsqpIY-mEZODMXUcNa4SuLhGeJjWoP4BTrntcUX9n9Haj13oWFOTRVVYShaQHTOXr_WHe6S-6tp8NltNwO_SdXcD27ZqIl_FbDkefszgiGXLZ3YUa3kroMqtlGvyt5Ma8MEMVI6r6hBvYYmLjDAqbPWqF19S5o1HmszeFRNMQ","e":"AQAB"}]}"#,
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCJdLCJleHAiOjMyNTAzNjgwMDAwLCJpYXQiOjE3MDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsImdyb3VwcyI6WyJ1c2VycyIsInRlc3RlcnMiXSwiZW1haWwiOiJhbGljZUBleGFtcGxlLmNvbSJ9.EJkKGA-u1B_5rkBSmjRmmeVWRdSaCblCGuzl-TRrA2jrGpg456_-yfHzzIl-Uk6_KxD2IpJPQFu3IaoyH4TVFN_Jtbv5lcQ4pFRWh-_0yAydVZSTaEMWr48oIrs2xipupWwosX2mjqHERrUGpE6MqtD6qGv0wR4_KrCklmh752ucPYACDQ1fp2qQ7_6cwkuZlXFKwwc6yh14AJz9Dnj9x1H_zWooH8rY-bX1n3LYfHNE56Hd-pUvulQnjGnw30mcaWOwxT2yDtUPO_8QYdV1hwKFkQ9Wfp0o898Ta3G1hBfMI2d3uMlAUpFLPDvUBebMMMz-5g_ZRjtEVtpRhg8IBA",
    ),
    (
        "ES256",
        r#"{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"hSlOWE58N5tgHMKJbJzAC6vEzgY9ENynVGbzyMw_LPE","y":"WWi9IVDpt3G5GyvmF6cf1tlL8Lq3vLG6x2uE0Ge8Hpk"}]}"#,
        "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCJdLCJleHAiOjMyNTAzNjgwMDAwLCJpYXQiOjE3MDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsImdyb3VwcyI6WyJ1c2VycyIsInRlc3RlcnMiXSwiZW1haWwiOiJhbGljZUBleGFtcGxlLmNvbSJ9.muj_9PuFdltFBTvdNx0avtVjiOkU9xdgR1EA-MUUHImF8LtutlZ7aN05LZ8TQfiZ2QcI6c4BR-1HZ60eAIMkoQ",
    ),
    (
        "EdDSA",
        r#"{"keys":[{"kty":"OKP","kid":"k","crv":"Ed25519","x":"OiZYnlqbm1vdmKG6eC-d6gu_sB_5OprniqrdvptsM-I"}]}"#,
        "eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCJdLCJleHAiOjMyNTAzNjgwMDAwLCJpYXQiOjE3MDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsImdyb3VwcyI6WyJ1c2VycyIsInRlc3RlcnMiXSwiZW1haWwiOiJhbGljZUBleGFtcGxlLmNvbSJ9.yLwGyvnQmPvzqsSw6SM7qNvsfKyBsVbgnflDzTuXxojPmta3g9x1-2Px3S0RxKa3SxTjUdlZLGH_XS22ak2JCA",
    ),
    (
        "HS256",
        r#"{"keys":[{"kty":"oct","kid":"k","k":"YW4gZXhhbXBsZSBzZWNyZXQsIGZvciB0ZXN0cyBvbmx5"}]}"#,
        "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCJdLCJleHAiOjMyNTAzNjgwMDAwLCJpYXQiOjE3MDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsImdyb3VwcyI6WyJ1c2VycyIsInRlc3RlcnMiXSwiZW1haWwiOiJhbGljZUBleGFtcGxlLmNvbSJ9.qrRs2i-nXgD-FJzUqHvx9cQO_lc6X1LjhIc_3srVHSs",
    ),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (algorithm, jwks, token) in TOKENS {
        for (name, cache) in [("verified", None), ("from the cache", Some(cache()))] {
            let layer = layer(jwks, cache);
            let cost = measure(CALLS, || assert_eq!(runtime.block_on(call(&layer, Some(token))), StatusCode::OK));
            println!("{algorithm} {name}: {cost}");
        }
    }
    let layer = layer(TOKENS[0].1, None);
    let cost = measure(CALLS, || assert_eq!(runtime.block_on(call(&layer, None)), StatusCode::OK));
    println!("without a token: {cost}");
}

fn cache() -> JwtCacheConfig {
    JwtCacheConfig { jwt_cache_size: JwtCacheConfig::SIZE, jwt_max_token_size: JwtCacheConfig::MAX_TOKEN_SIZE }
}

/// Istio's configuration for one issuer.
fn layer(jwks: &str, cache: Option<JwtCacheConfig>) -> FilterLayer {
    let jwks = Jwks::parse(jwks.as_bytes()).expect("a key set");
    let mut provider = Provider::new("https://issuer.example", JwksSource::Local(jwks));
    provider.payload_in_metadata = Some("payload".into());
    provider.space_delimited_claims = vec!["scope".into()];
    provider.jwt_cache = cache;
    let of_provider = Requirement::Provider { provider: 0, audiences: None };
    let requirement = Requirement::any(vec![of_provider, Requirement::Optional(Allow::Missing)]);
    let mut filter = JwtAuthn::new(vec![provider]);
    filter.rules = vec![Rule { matches: RuleMatch::path(PathMatcher::Prefix("/".into())), requirement }];
    FilterLayer::new(filter)
}

async fn call(layer: &FilterLayer, token: Option<&str>) -> StatusCode {
    let service = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let mut request = Request::get("/cart").header("host", "shop.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::empty()).expect("a request");
    layer.layer(service).oneshot(request).await.expect("no error").status()
}
