use http::{HeaderValue, Request, request::Parts};

use super::*;
use crate::value::PathMatcher;

fn provider(issuer: &str) -> Provider {
    Provider::new(issuer, JwksSource::Local(Jwks::default()))
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn of(provider: usize) -> Requirement {
    Requirement::Provider { provider, audiences: None }
}

#[test]
fn the_first_rule_that_matches_decides_unless_the_route_does() {
    let mut filter = JwtAuthn::new(vec![provider("a"), provider("b")]);
    let rule =
        |prefix: &str, requirement| Rule { matches: RuleMatch::path(PathMatcher::Prefix(prefix.into())), requirement };
    filter.rules = vec![rule("/a", of(0)), rule("/", of(1))];
    filter.requirement_map = [("one".into(), of(0)), ("two".into(), of(1))].into();
    let requirement = |target: &str, per_route: Option<&PerRoute>| {
        let parts = request("GET", target, &[]);
        filter.requirement(&RequestHead::from_parts(&parts), per_route).map(|found| found.cloned())
    };
    assert_eq!(requirement("/a", None), Ok(Some(of(0))));
    assert_eq!(requirement("/b", None), Ok(Some(of(1))));
    assert_eq!(requirement("/b", Some(&PerRoute::Disabled)), Ok(None));
    assert_eq!(requirement("/b", Some(&PerRoute::RequirementName("one".into()))), Ok(Some(of(0))));
    let unknown = requirement("/b", Some(&PerRoute::RequirementName("x".into()))).unwrap_err();
    assert_eq!(unknown.to_string(), "Wrong requirement_name: x. It should be one of [one,two]");
    filter.rules.pop();
    let parts = request("GET", "/b", &[]);
    assert_eq!(filter.requirement(&RequestHead::from_parts(&parts), None), Ok(None));
}

#[test]
fn headers_that_providers_set_are_removed() {
    let (mut one, mut two) = (provider("a"), provider("b"));
    one.forward_payload_header = Some(HeaderName::from_static("x-payload"));
    let claim = |name| ClaimToHeader { header_name: HeaderName::from_static(name), path: vec!["sub".into()] };
    two.claim_to_headers = vec![claim("x-sub"), claim("x-payload")];
    let filter = JwtAuthn::new(vec![one, two]);
    let mut headers = HeaderMap::new();
    for name in ["x-payload", "x-sub", "x-sub", "x-other"] {
        headers.append(name, HeaderValue::from_static("client"));
    }
    filter.remove_output_headers(&mut headers);
    assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-other"]);
}

#[test]
fn the_provider_of_an_issuer_is_its_own_or_one_for_all() {
    let filter = JwtAuthn::new(vec![provider("a"), provider(""), provider("a")]);
    assert_eq!((filter.provider_of("a"), filter.provider_of("x"), filter.provider_of("")), (Some(0), Some(1), Some(1)));
    assert_eq!(JwtAuthn::new(vec![provider("a")]).provider_of("x"), None);
}

#[test]
fn a_preflight_request_has_no_credentials() {
    let method = ("access-control-request-method", "GET");
    for (verb, headers, expected) in [
        ("OPTIONS", &[("origin", "http://a"), method][..], true),
        ("GET", &[("origin", "http://a"), method], false),
        ("OPTIONS", &[method], false),
        ("OPTIONS", &[("origin", ""), method], false),
        ("OPTIONS", &[("origin", "http://a")], false),
    ] {
        let parts = request(verb, "/", headers);
        assert_eq!(is_cors_preflight(&RequestHead::from_parts(&parts)), expected, "{verb} {headers:?}");
    }
}
