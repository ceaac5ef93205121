use http::{Request, request::Parts};

use super::*;
use crate::filter::jwt_authn::{Jwks, JwksSource, Locations};

fn provider(issuer: &str, locations: Locations) -> Provider {
    let mut provider = Provider::new(issuer, JwksSource::Local(Jwks::default()));
    provider.locations = locations;
    provider
}

fn locations(headers: &[(&'static str, &str)], params: &[&str], cookies: &[&str]) -> Locations {
    let texts = |texts: &[&str]| texts.iter().map(|text| Box::from(*text)).collect();
    Locations {
        headers: headers.iter().map(|(name, prefix)| (HeaderName::from_static(name), Box::from(*prefix))).collect(),
        params: texts(params),
        cookies: texts(cookies),
    }
}

fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn tokens(providers: &[Provider], target: &str, headers: &[(&str, &str)]) -> Vec<String> {
    let parts = request(target, headers);
    let extractor = Extractor::of(providers);
    extractor.tokens(&RequestHead::from_parts(&parts)).into_iter().map(|found| found.token.into_owned()).collect()
}

#[test]
fn the_default_locations_are_bearer_credentials_and_access_token() {
    let default = [provider("a", Locations::default())];
    for (target, headers, expected) in [
        ("/", &[][..], &[][..]),
        ("/", &[("authorization", "Bearer t.o.k")], &["t.o.k"]),
        ("/", &[("authorization", "bearer t.o.k")], &["t.o.k"]),
        ("/", &[("authorization", "BEARER t.o.k")], &["t.o.k"]),
        ("/", &[("authorization", "Bearer  t.o.k")], &["t.o.k"]),
        ("/", &[("authorization", "Basic t.o.k")], &[]),
        ("/", &[("authorization", "Bearert.o.k")], &[]),
        ("/", &[("authorization", "Bearer t.o.k, Bearer x")], &["t.o.k, Bearer x"]),
        ("/", &[("authorization", "Bearer a"), ("authorization", "Bearer b")], &["a", "b"]),
        ("/?x=1&access_token=t.o.k", &[], &["t.o.k"]),
        ("/?access_token=t%2eo%2Ek", &[], &["t.o.k"]),
        ("/?access%5Ftoken=t", &[], &["t"]),
        ("/?access_token=a&access_token=b", &[], &["a", "b"]),
        ("/?access_token", &[], &[""]),
        ("/?my_access_token=a", &[], &[]),
        ("/?access_token=b", &[("authorization", "Bearer a")], &["a", "b"]),
        ("/", &[("cookie", "access_token=a")], &[]),
    ] {
        assert_eq!(tokens(&default, target, headers), expected, "{target} {headers:?}");
    }
}

#[test]
fn configured_locations_replace_the_default() {
    let places = [provider("a", locations(&[("x-jwt", ""), ("x-auth", "JWT=")], &["token"], &["session"]))];
    for (target, headers, expected) in [
        ("/?access_token=a", &[("authorization", "Bearer a")][..], &[][..]),
        ("/", &[("x-jwt", "Bearer t")], &["Bearer t"]),
        ("/", &[("x-auth", "JWT=t")], &["t"]),
        ("/", &[("x-auth", "jwt=t")], &[]),
        ("/?token=t", &[], &["t"]),
        ("/", &[("cookie", "a=b; session=t;c=d"), ("cookie", "session=\"u\"")], &["t", "u"]),
        ("/", &[("cookie", "xsession=t; session2=u")], &[]),
    ] {
        assert_eq!(tokens(&places, target, headers), expected, "{target} {headers:?}");
    }
}

#[test]
fn a_header_that_is_not_text_is_an_invalid_token() {
    let mut parts = request("/", &[]);
    parts.headers.insert("x-jwt", http::HeaderValue::from_bytes(b"\xff").unwrap());
    let extractor = Extractor::of(&[provider("a", locations(&[("x-jwt", "")], &[], &[]))]);
    assert_eq!(extractor.tokens(&RequestHead::from_parts(&parts))[0].token, "");
}

#[test]
fn a_location_that_providers_share_has_one_token_for_their_issuers() {
    let shared =
        [provider("a", Locations::default()), provider("b", locations(&[("authorization", "Bearer ")], &[], &[]))];
    let (parts, extractor) = (request("/", &[("authorization", "Bearer t")]), Extractor::of(&shared));
    let head = RequestHead::from_parts(&parts);
    let found = extractor.tokens(&head);
    assert_eq!(found.len(), 1);
    let location = found[0].location;
    assert!(location.allows("a") && location.allows("b") && !location.allows("c") && !location.allows(""));
    let any = Extractor::of(&[provider("", Locations::default()), provider("a", Locations::default())]);
    assert!(any.tokens(&head)[0].location.allows("c"));
}

#[test]
fn a_token_is_removed_from_its_place() {
    let places = [provider("a", locations(&[("x-jwt", "")], &["token"], &["session"]))];
    for (target, headers, expected) in [
        ("/p", &[("x-jwt", "t"), ("x-other", "o")][..], "/p x-other: o"),
        ("/p?token=t", &[], "/p "),
        ("/p?a=1&token=t&b=%2f", &[], "/p?a=1&b=%2f "),
        ("/p?a=1&tok%65n=t&token=u", &[], "/p?a=1 "),
        ("http://h.test/p?token=t", &[], "http://h.test/p "),
        ("/p", &[("cookie", "a=b; session=t;c=d")], "/p cookie: a=b; c=d"),
        ("/p", &[("cookie", "session=t")], "/p "),
    ] {
        let mut parts = request(target, headers);
        let (copy, extractor) = (parts.clone(), Extractor::of(&places));
        let found = extractor.tokens(&RequestHead::from_parts(&copy));
        found[0].location.remove_token(&mut parts.uri, &mut parts.headers);
        let headers = parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        assert_eq!(format!("{} {}", parts.uri, headers.collect::<Vec<_>>().join(" ")), expected, "{target}");
    }
}
