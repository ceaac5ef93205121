//! The form of a request in each protocol: where the target and the authority are.

use h2::ext::Protocol;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use mesh_core::retry::ResetReason;

use crate::{Body, TransportError};

/// HTTP/1.1, for hyper: a path, and the authority in `host`. The target of CONNECT is its authority.
pub(super) fn http1(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_none() || request.method() == Method::CONNECT {
        return;
    }
    let target = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = target.authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = target.path_and_query.map_or_else(Uri::default, Uri::from);
}

/// HTTP/2: scheme, authority and path in the target; no `host`.
pub(super) fn http2(request: &mut Request<Body>) -> Result<(), TransportError> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    if request.uri().scheme().is_some() && request.uri().authority().is_some() {
        return Ok(());
    }
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    if target.authority.is_none() {
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        target.authority = Some(authority.ok_or_else(|| TransportError::new(ResetReason::LocalReset))?);
    }
    if request.method() != Method::CONNECT {
        target.scheme.get_or_insert(Scheme::HTTP);
        target.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| TransportError::new(ResetReason::LocalReset))?;
    Ok(())
}

/// Turns a request for another protocol by `upgrade` into an extended CONNECT (RFC 8441). Returns the protocol; `None` if the request
/// is a plain CONNECT.
pub(super) fn extended_connect(request: &mut Request<Body>) -> Option<HeaderValue> {
    let upgrade = request.headers_mut().remove(UPGRADE)?;
    request.headers_mut().remove(CONNECTION);
    if request.headers().get(CONTENT_LENGTH).is_some_and(|length| length == "0") {
        request.headers_mut().remove(CONTENT_LENGTH);
    }
    request.extensions_mut().insert(Protocol::from(upgrade.to_str().ok()?));
    *request.method_mut() = Method::CONNECT;
    Some(upgrade)
}

/// Turns the response that accepts an extended CONNECT into that of HTTP/1.
pub(super) fn switching_protocols(response: &mut Response<Body>, protocol: HeaderValue) {
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, protocol);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: fn(&mut Request<Body>), uri: &str, host: Option<&'static str>, expected: (&str, &str)) {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let mut request = request.body(Body::empty()).unwrap();
        form(&mut request);
        let host = request.headers().get(HOST).map_or("-", |host| host.to_str().unwrap());
        assert_eq!((request.uri().to_string().as_str(), host), expected, "{uri}");
    }

    #[test]
    fn each_protocol_has_the_authority_in_its_place() {
        check(http1, "/a?b", Some("x.test"), ("/a?b", "x.test"));
        check(http1, "http://y.test/a", None, ("/a", "y.test"));
        check(http1, "http://y.test", Some("x.test"), ("/", "y.test"));
        let http2 = |request: &mut Request<Body>| http2(request).unwrap();
        check(http2, "/a?b", Some("x.test:80"), ("http://x.test:80/a?b", "-"));
        check(http2, "https://y.test/a", Some("x.test"), ("https://y.test/a", "-"));
        assert!(super::http2(&mut Request::new(Body::empty())).is_err(), "no authority at all");
    }
}
