//! Brings requests into a canonical form, so that the rest of the pipeline reads each fact in one place.
//!
//! In the canonical form, the authority of an HTTP/2 request is in the target, and that of an HTTP/1 request in `host`,
//! never in both; an HTTP/1 target is a path; the path is normalized; there is one `cookie` header. Requests without a canonical form are refused with
//! Envoy's status and details.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version,
    header::{COOKIE, HOST},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use mesh_core::{
    grpc, http1,
    local_reply::LocalReply,
    model::HttpConnectionManager,
    policy::{
        hop_by_hop::{self, HopByHop},
        path_normalize::{self, Normalized, NormalizedAction, PathNormalizationFailed},
    },
    telemetry::details,
};

use crate::upgrade;

/// Why a request is refused before it is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// HTTP/1.0 where it is not accepted: 426.
    LowVersion,
    /// No host: 400.
    MissingHost,
    /// HTTP/1: a target that the method or the protocol does not have, or one with an invalid authority: 400.
    InvalidUrl,
    /// HTTP/1: a target with a scheme that is not HTTP: 400.
    InvalidScheme,
    /// HTTP/1: more than one host, or one with invalid characters: 400.
    InvalidHost,
    /// HTTP/1: a target that is neither a path nor a URL, or has bytes that are not allowed in one: 400.
    InvalidTarget,
    /// HTTP/1: `connection` nominates headers that a client may not remove: 400.
    ConnectionRejected,
    /// HTTP/2: an authority or a host that is not one: 400.
    InvalidHeaderField,
    /// HTTP/2: a path that is not one: 400.
    InvalidMessage,
    /// A target that is not a path, such as that of `OPTIONS *`: 404.
    AbsolutePathRejected,
    /// A path that cannot be normalized: 400.
    PathNormalizationFailed,
    /// A path with escaped slashes: a redirect to the normal path, which the request has got.
    PathNormalizationRedirected,
    /// More headers than allowed: 431.
    TooManyHeaders,
    /// HTTP/2: the name of a header has an underscore. The stream is reset.
    UnexpectedUnderscore,
}

impl Refusal {
    /// The response to the request.
    pub(super) fn reply(self) -> LocalReply {
        match self {
            Self::LowVersion => LocalReply::UPGRADE_REQUIRED,
            Self::MissingHost => LocalReply::MISSING_HOST,
            Self::InvalidUrl => LocalReply::bad_request(details::HTTP1_INVALID_URL),
            Self::InvalidScheme => LocalReply::bad_request(details::HTTP1_INVALID_SCHEME),
            Self::InvalidHost => LocalReply::bad_request(details::HTTP_INVALID_AUTHORITY),
            Self::InvalidTarget => LocalReply::BAD_REQUEST,
            Self::ConnectionRejected => LocalReply::bad_request(details::HTTP1_CONNECTION_HEADER_REJECTED),
            Self::InvalidHeaderField => LocalReply::bad_request(details::HTTP2_INVALID_HEADER_FIELD),
            Self::InvalidMessage => LocalReply::bad_request(details::HTTP2_VIOLATION_OF_MESSAGING_RULE),
            Self::AbsolutePathRejected => LocalReply::ABSOLUTE_PATH_REJECTED,
            Self::PathNormalizationFailed => LocalReply::PATH_NORMALIZATION_FAILED,
            Self::PathNormalizationRedirected => {
                LocalReply { status: StatusCode::TEMPORARY_REDIRECT, ..LocalReply::PATH_NORMALIZATION_FAILED }
            }
            Self::TooManyHeaders => LocalReply::TOO_MANY_HEADERS,
            Self::UnexpectedUnderscore => LocalReply::bad_request(details::HTTP2_UNEXPECTED_UNDERSCORE),
        }
    }
}

/// Brings `parts` into the canonical form. `present` is the set of its hop-by-hop headers, and `listener_port` the port that
/// the client connected to. Of several reasons to refuse a request, Envoy's is returned.
pub(super) fn canonicalize(
    parts: &mut Parts,
    present: HopByHop,
    config: &HttpConnectionManager,
    listener_port: u16,
) -> Result<(), Refusal> {
    if parts.version == Version::HTTP_2 {
        unite_cookies(&mut parts.headers);
    }
    if parts.headers.len() > config.max_headers_count as usize {
        return Err(Refusal::TooManyHeaders);
    }
    if parts.version == Version::HTTP_2 {
        check_http2(parts)?;
    } else {
        if present.has(HopByHop::CONNECTION) {
            remove_nominated(&mut parts.headers, present)?;
        }
        take_http1_authority(parts)?;
        accept_version(parts, config)?;
        check_host(&parts.headers).map_err(|_| Refusal::InvalidHost)?;
    }
    if parts.uri.authority().is_none() && !parts.headers.contains_key(HOST) {
        return Err(Refusal::MissingHost);
    }
    match parts.extensions.remove() {
        None => {}
        Some(http1::Error::FragmentInTarget) => return Err(Refusal::PathNormalizationFailed),
        Some(_) => return Err(Refusal::AbsolutePathRejected),
    }
    // As in Envoy, the port is a part of what CONNECT asks for.
    if (config.strip_any_host_port || config.strip_matching_host_port) && parts.method != Method::CONNECT {
        let only = (!config.strip_any_host_port).then_some(listener_port);
        strip_port(parts, only)?;
    }
    normalize_path(parts, config)
}

/// Joins the parts of `cookie`, which HTTP/2 may split (RFC 9113 section 8.2.3).
fn unite_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(Bytes::from(joined));
    headers.insert(COOKIE, joined.expect("header values joined by a semicolon are a header value"));
}

/// Removes the headers that `connection` nominates, unless the request upgrades its connection.
fn remove_nominated(headers: &mut HeaderMap, present: HopByHop) -> Result<(), Refusal> {
    let is_h2c = |protocol: &&HeaderValue| protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    if present.has(HopByHop::UPGRADE) && upgrade::requested_upgrade(headers).is_some_and(|protocol| !is_h2c(&protocol))
    {
        return Ok(());
    }
    hop_by_hop::remove_nominated(headers).map_err(|_| Refusal::ConnectionRejected)
}

/// Checks the authority of an HTTP/2 request, and removes `host` if there is another authority.
fn check_http2(parts: &mut Parts) -> Result<(), Refusal> {
    check_host(&parts.headers).map_err(|_| Refusal::InvalidHeaderField)?;
    let host = parts.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if authority.or(host).is_some_and(|authority| !is_authority(authority)) {
        return Err(Refusal::InvalidHeaderField);
    }
    if parts.uri.authority().is_some() {
        parts.headers.remove(HOST);
    }
    Ok(())
}

/// Moves the authority of an absolute target to `host`, whose value is ignored (RFC 9112 section 3.2.2).
fn take_http1_authority(parts: &mut Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        let is_valid = parts.uri.scheme().is_none()
            && parts.uri.path_and_query().is_none()
            && parts.uri.authority().is_some_and(|authority| has_port(authority.as_str()));
        return if is_valid { Ok(()) } else { Err(Refusal::InvalidUrl) };
    }
    let Some(scheme) = parts.uri.scheme() else { return check_http1_path(parts) };
    if ![Scheme::HTTP, Scheme::HTTPS].contains(scheme) {
        return Err(Refusal::InvalidScheme);
    }
    let target = std::mem::take(&mut parts.uri).into_parts();
    let authority = target.authority.as_ref().map_or("", Authority::as_str);
    if !is_url_host(authority) {
        return Err(Refusal::InvalidUrl);
    }
    parts.headers.insert(HOST, value_of(authority)?);
    // An empty path is written as nothing, although it reads as `/`.
    let path = target.path_and_query.filter(|path| path != "/");
    parts.uri = path.map_or_else(Uri::default, Uri::from);
    Ok(())
}

/// Checks that an HTTP/1 target that is not absolute is a path, or the asterisk of OPTIONS.
fn check_http1_path(parts: &Parts) -> Result<(), Refusal> {
    if parts.uri.authority().is_some() {
        return Err(Refusal::InvalidTarget);
    }
    let is_path = parts.uri.path().starts_with('/') || parts.method == Method::OPTIONS;
    if is_path { Ok(()) } else { Err(Refusal::InvalidUrl) }
}

/// Refuses HTTP/1.0 unless it is accepted, and adds the default host of such requests.
fn accept_version(parts: &mut Parts, config: &HttpConnectionManager) -> Result<(), Refusal> {
    if parts.version > Version::HTTP_10 {
        return Ok(());
    }
    let default_host = config.accept_http_10.as_deref().ok_or(Refusal::LowVersion)?;
    if !default_host.is_empty() && !parts.headers.contains_key(HOST) && parts.uri.authority().is_none() {
        parts.headers.insert(HOST, value_of(default_host)?);
    }
    Ok(())
}

struct InvalidHost;

/// Checks that there is at most one `host`, and that it is an authority.
fn check_host(headers: &HeaderMap) -> Result<(), InvalidHost> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host.as_bytes()) => Ok(()),
        (None, _) => Ok(()),
        _ => Err(InvalidHost),
    }
}

/// Whether all characters are allowed in a host and a port by RFC 3986 section 3.2, or are `_`, which browsers send and Envoy
/// accepts, and the port is valid. User information is not allowed: it hides which host is meant (RFC 9110 section 4.2.4).
fn is_authority(authority: &[u8]) -> bool {
    let is_valid = |byte: &u8| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
    };
    authority.iter().all(is_valid) && port_of(authority).is_none_or(|port| port.is_empty() || is_port(port))
}

/// What follows the last colon, unless that is a part of an IPv6 address.
fn port_of(authority: &[u8]) -> Option<&[u8]> {
    let colon = authority.iter().rposition(|byte| *byte == b':')?;
    let port = &authority[colon + 1..];
    let is_in_address = port.contains(&b']') || (authority[0] != b'[' && authority[..colon].contains(&b':'));
    (!is_in_address).then_some(port)
}

/// Whether `port` is a decimal number in `0..=65535`.
fn is_port(port: &[u8]) -> bool {
    port.iter().all(u8::is_ascii_digit) && std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok())
}

/// Whether an authority is a host and a port.
fn has_port(authority: &str) -> bool {
    is_url_host(authority) && authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'))
}

/// Whether an authority is a domain name, an IPv4 address or an IPv6 address in brackets, and a port in `0..=65535` if there
/// is a colon. Envoy requires this of targets, and not of `host`.
fn is_url_host(authority: &str) -> bool {
    let (is_host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
            (!name.is_empty() && name.bytes().all(is_name_byte), port)
        }
    };
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(|port| is_port(port.as_bytes())))
}

/// Removes the port from the authority if it is `only`, or any port if that is `None`.
fn strip_port(parts: &mut Parts, only: Option<u16>) -> Result<(), Refusal> {
    let stripped = {
        let authority = match parts.uri.authority() {
            Some(authority) => authority.as_str(),
            None => parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
        };
        let Some((host, port)) = authority.rsplit_once(':') else { return Ok(()) };
        // A colon within brackets belongs to an IPv6 address.
        let Ok(port) = port.parse::<u16>() else { return Ok(()) };
        if only.is_some_and(|only| only != port) {
            return Ok(());
        }
        host.to_owned()
    };
    if parts.uri.authority().is_none() {
        parts.headers.insert(HOST, value_of(&stripped)?);
        return Ok(());
    }
    let mut target = std::mem::take(&mut parts.uri).into_parts();
    target.authority = Some(Authority::try_from(stripped).map_err(|_| Refusal::InvalidHost)?);
    parts.uri = Uri::from_parts(target).map_err(|_| Refusal::InvalidHost)?;
    Ok(())
}

fn normalize_path(parts: &mut Parts, config: &HttpConnectionManager) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Ok(());
    }
    let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if parts.version < Version::HTTP_2 && !path.is_ascii() {
        return Err(Refusal::InvalidTarget);
    }
    if !path.starts_with('/') {
        let is_message = parts.version < Version::HTTP_2 || (parts.method == Method::OPTIONS && path == "*");
        return Err(if is_message { Refusal::AbsolutePathRejected } else { Refusal::InvalidMessage });
    }
    let Normalized { path, action } = path_normalize::apply(config.path_normalization, path)
        .map_err(|PathNormalizationFailed| Refusal::PathNormalizationFailed)?;
    if let Some(normal) = path {
        let mut target = std::mem::take(&mut parts.uri).into_parts();
        target.path_and_query = Some(PathAndQuery::try_from(normal).map_err(|_| Refusal::PathNormalizationFailed)?);
        parts.uri = Uri::from_parts(target).map_err(|_| Refusal::PathNormalizationFailed)?;
    }
    match action {
        NormalizedAction::Continue => Ok(()),
        NormalizedAction::Redirect if !grpc::is_grpc_request(&parts.headers) => {
            Err(Refusal::PathNormalizationRedirected)
        }
        NormalizedAction::Redirect | NormalizedAction::Reject => Err(Refusal::PathNormalizationFailed),
    }
}

fn value_of(authority: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(authority).map_err(|_| Refusal::InvalidHost)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use mesh_core::model::RouteSource;

    use super::*;

    fn config() -> HttpConnectionManager {
        HttpConnectionManager::new("test", RouteSource::Rds("r".into()))
    }

    /// Target and `host` of the canonical request.
    fn canonical(
        config: &HttpConnectionManager,
        version: Version,
        target: &str,
        hosts: &[&str],
    ) -> Result<(String, String), Refusal> {
        let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        of(config, (Method::GET, target, version), &headers)
    }

    fn of(
        config: &HttpConnectionManager,
        (method, target, version): (Method, &str, Version),
        headers: &[(&str, &str)],
    ) -> Result<(String, String), Refusal> {
        let mut request = Request::builder().method(method).version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let present = HopByHop::of(&parts.headers);
        canonicalize(&mut parts, present, config, 8080)?;
        let host = parts.headers.get(HOST).map_or("-", |host| host.to_str().unwrap());
        Ok((parts.uri.to_string(), host.to_owned()))
    }

    fn ok(target: &str, host: &str) -> Result<(String, String), Refusal> {
        Ok((target.to_owned(), host.to_owned()))
    }

    #[test]
    fn the_authority_is_in_one_place() {
        let (config, h1, h2) = (config(), Version::HTTP_11, Version::HTTP_2);
        assert_eq!(canonical(&config, h1, "/a?b", &["x.test"]), ok("/a?b", "x.test"));
        assert_eq!(canonical(&config, h1, "http://y.test/a", &["x.test"]), ok("/a", "y.test"));
        assert_eq!(canonical(&config, h1, "http://y.test", &[]), ok("/", "y.test"));
        assert_eq!(canonical(&config, h1, "http://y.test#f", &[]), ok("/", "y.test"));
        assert_eq!(canonical(&config, h1, "https://y.test/a", &["a b", "c"]), ok("/a", "y.test"));
        assert_eq!(canonical(&config, h1, "https://u:p@y.test/a", &["c"]), Err(Refusal::InvalidUrl));
        assert_eq!(canonical(&config, h2, "http://y.test/a", &["x.test"]), ok("http://y.test/a", "-"));
        assert_eq!(canonical(&config, h2, "/a", &["x.test"]), ok("/a", "x.test"));
        for version in [h1, h2] {
            assert_eq!(canonical(&config, version, "/", &[]), Err(Refusal::MissingHost));
        }
    }

    #[test]
    fn hosts_have_only_the_characters_of_authorities() {
        let config = config();
        let refused = |version, host| canonical(&config, version, "/", &[host]).err();
        for host in [
            "",
            "a,b",
            "a%b",
            "a_b",
            "a!$&'()*+;=~b",
            "h:",
            "h:65535",
            "::1",
            "::a",
            "[::1]",
            "[::1]:80",
            "[zz]",
            "[",
            "*",
        ] {
            assert_eq!((refused(Version::HTTP_11, host), refused(Version::HTTP_2, host)), (None, None), "{host}");
        }
        for host in [
            "a b", "a/b", "a?b", "a#b", "a\\b", "a\"b", "a<b", "a>b", "a^b", "a`b", "a{b", "a|b", "http://h", "u@h",
            "u:p@h", "@h", "h@", "h:abc", "h:65536", "[::1]:x",
        ] {
            assert_eq!(refused(Version::HTTP_11, host), Some(Refusal::InvalidHost), "{host}");
            assert_eq!(refused(Version::HTTP_2, host), Some(Refusal::InvalidHeaderField), "{host}");
        }
        let refused = |version, target| canonical(&config, version, target, &["a", "b"]).err();
        assert_eq!(refused(Version::HTTP_11, "/"), Some(Refusal::InvalidHost));
        assert_eq!(refused(Version::HTTP_2, "http://a/"), Some(Refusal::InvalidHeaderField));
        assert_eq!(canonical(&config, Version::HTTP_2, "http://u@a/", &[]), Err(Refusal::InvalidHeaderField));
    }

    #[test]
    fn absolute_targets_are_urls() {
        let config = config();
        let of = |target: &str| canonical(&config, Version::HTTP_11, target, &["x"]);
        for host in ["h.x", "H:0", "h:00080", "h:65535", "256.1.1.1", "[::1]", "[::1]:80"] {
            assert_eq!(of(&format!("http://{host}/p")), ok("/p", host));
        }
        for host in ["h:", "h:65536", "h:abc", "h:8a", ":80", "[zz]", "[]", "[::1]x", "h_x", "h!~", "u@h:"] {
            assert_eq!(of(&format!("http://{host}/p")), Err(Refusal::InvalidUrl), "{host}");
        }
        assert_eq!(of("ftp://h/p"), Err(Refusal::InvalidScheme));
        assert_eq!(of("http://h?q"), Err(Refusal::AbsolutePathRejected));
    }

    #[test]
    fn each_method_has_its_form_of_target() {
        let config = config();
        let refused = |method, target, version| of(&config, (method, target, version), &[("host", "h")]).err();
        for (method, target, expected) in [
            (Method::OPTIONS, "*", Some(Refusal::AbsolutePathRejected)),
            (Method::GET, "*", Some(Refusal::InvalidUrl)),
            (Method::GET, "h:80", Some(Refusal::InvalidTarget)),
            (Method::GET, "h", Some(Refusal::InvalidTarget)),
            (Method::CONNECT, "h:80", None),
            (Method::CONNECT, "[::1]:80", None),
            (Method::CONNECT, "h", Some(Refusal::InvalidUrl)),
            (Method::CONNECT, "[::1]", Some(Refusal::InvalidUrl)),
            (Method::CONNECT, "u@h:80", Some(Refusal::InvalidUrl)),
            (Method::CONNECT, "http://h:80", Some(Refusal::InvalidUrl)),
            (Method::CONNECT, "/", Some(Refusal::InvalidUrl)),
        ] {
            assert_eq!(refused(method.clone(), target, Version::HTTP_11), expected, "{method} {target}");
        }
        let http2 = [(Method::OPTIONS, Refusal::AbsolutePathRejected), (Method::GET, Refusal::InvalidMessage)];
        for (method, expected) in http2 {
            assert_eq!(refused(method, "*", Version::HTTP_2), Some(expected));
        }
        assert_eq!(refused(Method::GET, "/caf\u{e9}", Version::HTTP_11), Some(Refusal::InvalidTarget));
        assert_eq!(refused(Method::GET, "/caf\u{e9}", Version::HTTP_2), None);
    }

    #[test]
    fn connection_may_not_nominate_headers_that_others_rely_on() {
        let config = config();
        let of = |target, headers: &[_]| of(&config, (Method::GET, target, Version::HTTP_11), headers);
        let (host, nominates) = (("host", "h"), ("connection", "x-forwarded-for"));
        assert_eq!(of("http://h:abc/", &[("host", "a b"), nominates]), Err(Refusal::ConnectionRejected));
        assert_eq!(of("/", &[host, ("connection", "host")]), Err(Refusal::MissingHost));
        let upgrade = |protocol| of("/", &[host, ("upgrade", protocol), ("connection", "upgrade"), nominates]);
        assert_eq!((upgrade("websocket"), upgrade("H2C")), (ok("/", "h"), Err(Refusal::ConnectionRejected)));
    }

    #[test]
    fn the_reason_is_envoys_if_there_are_several() {
        let mut config = config();
        let (h10, h11) = (Version::HTTP_10, Version::HTTP_11);
        assert_eq!(canonical(&config, h10, "http://h:abc/", &[]), Err(Refusal::InvalidUrl));
        assert_eq!(canonical(&config, h10, "/", &["a b"]), Err(Refusal::LowVersion));
        let options = |hosts: &[_]| of(&config, (Method::OPTIONS, "*", h11), hosts);
        assert_eq!(options(&[("host", "a b")]), Err(Refusal::InvalidHost));
        assert_eq!(options(&[]), Err(Refusal::MissingHost));
        config.max_headers_count = 0;
        assert_eq!(canonical(&config, h10, "*", &["a b"]), Err(Refusal::TooManyHeaders));
    }

    #[test]
    fn the_cookies_of_a_request_are_in_one_header() {
        let cookies = |version, sent: &[&'static str]| {
            let mut request = Request::builder().version(version).uri("http://a.test/");
            for cookie in sent {
                request = request.header(COOKIE, *cookie);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            canonicalize(&mut parts, HopByHop::default(), &config(), 8080).unwrap();
            let joined: Vec<_> = parts.headers.get_all(COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
            joined.join(" | ")
        };
        assert_eq!(cookies(Version::HTTP_2, &["a=1", "b=2", "c=3; d=4"]), "a=1; b=2; c=3; d=4");
        assert_eq!(cookies(Version::HTTP_2, &["a=1"]), "a=1");
        assert_eq!(cookies(Version::HTTP_2, &[]), "");
        assert_eq!(cookies(Version::HTTP_11, &["a=1", "b=2"]), "a=1 | b=2", "HTTP/1 does not split them");
    }

    #[test]
    fn http_1_0_must_be_allowed_and_may_have_a_default_host() {
        let mut config = config();
        assert_eq!(canonical(&config, Version::HTTP_10, "/", &["a"]), Err(Refusal::LowVersion));
        config.accept_http_10 = Some("".into());
        assert_eq!(canonical(&config, Version::HTTP_10, "/", &[]), Err(Refusal::MissingHost));
        config.accept_http_10 = Some("default.test".into());
        assert_eq!(canonical(&config, Version::HTTP_10, "/", &[]), ok("/", "default.test"));
        assert_eq!(canonical(&config, Version::HTTP_10, "/", &["own.test"]), ok("/", "own.test"));
    }

    #[test]
    fn ports_are_stripped_as_configured() {
        let mut config = config();
        config.strip_matching_host_port = true;
        assert_eq!(canonical(&config, Version::HTTP_11, "/", &["a.test:8080"]), ok("/", "a.test"));
        assert_eq!(canonical(&config, Version::HTTP_11, "/", &["a.test:9999"]), ok("/", "a.test:9999"));
        config.strip_any_host_port = true;
        assert_eq!(canonical(&config, Version::HTTP_11, "/", &["[::1]:9999"]), ok("/", "[::1]"));
        assert_eq!(canonical(&config, Version::HTTP_11, "/", &["[::1]"]), ok("/", "[::1]"));
        assert_eq!(canonical(&config, Version::HTTP_2, "http://a.test:1/p", &[]), ok("http://a.test/p", "-"));
    }

    #[test]
    fn the_path_is_normalized_and_headers_are_counted() {
        let mut config = config();
        config.path_normalization.normalize_path = true;
        config.path_normalization.merge_slashes = true;
        assert_eq!(canonical(&config, Version::HTTP_11, "/a/..//b/%2e/c?x=/../y", &["h"]), ok("/b/c?x=/../y", "h"));
        assert_eq!(canonical(&config, Version::HTTP_2, "http://h/a/./b", &[]), ok("http://h/a/b", "-"));
        config.max_headers_count = 0;
        assert_eq!(canonical(&config, Version::HTTP_11, "/", &["h"]), Err(Refusal::TooManyHeaders));
    }
}
