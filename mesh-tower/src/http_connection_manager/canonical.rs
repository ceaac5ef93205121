//! Brings requests into a canonical form, so that the rest of the pipeline reads each fact in one place.
//!
//! In the canonical form, the authority of an HTTP/2 request is in the target, and that of an HTTP/1 request in `host`,
//! never in both; an HTTP/1 target is a path; the path is normalized. Requests without a canonical form are refused with
//! Envoy's status and details.

use http::{
    HeaderValue, Method, Uri, Version,
    header::HOST,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use mesh_core::{
    model::HttpConnectionManager,
    policy::path_normalize::{self, PathNormalizationFailed},
};

/// Why a request is refused before it is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// HTTP/1.0 where it is not accepted: 426.
    LowVersion,
    /// No host: 400.
    MissingHost,
    /// More than one host, or one with invalid characters: 400.
    InvalidHost,
    /// A target with bytes that HTTP/1 does not allow in one: 400.
    InvalidTarget,
    /// A target that is not a path, such as that of `OPTIONS *`: 404.
    AbsolutePathRejected,
    /// A path that cannot be normalized: 400.
    PathNormalizationFailed,
    /// More headers than allowed: 431.
    TooManyHeaders,
}

/// Brings `parts` into the canonical form. `listener_port` is the port that the client connected to.
pub(super) fn canonicalize(
    parts: &mut Parts,
    config: &HttpConnectionManager,
    listener_port: u16,
) -> Result<(), Refusal> {
    if parts.version <= Version::HTTP_10 {
        let default_host = config.accept_http_10.as_deref().ok_or(Refusal::LowVersion)?;
        if !default_host.is_empty() && !parts.headers.contains_key(HOST) && parts.uri.authority().is_none() {
            parts.headers.insert(HOST, HeaderValue::from_str(default_host).map_err(|_| Refusal::InvalidHost)?);
        }
    }
    if parts.headers.len() > config.max_headers_count as usize {
        return Err(Refusal::TooManyHeaders);
    }
    unite_authority(parts)?;
    if config.strip_any_host_port || config.strip_matching_host_port {
        let only = (!config.strip_any_host_port).then_some(listener_port);
        strip_port(parts, only)?;
    }
    normalize_path(parts, config)
}

/// Moves the authority to its place in the canonical form.
fn unite_authority(parts: &mut Parts) -> Result<(), Refusal> {
    if parts.version == Version::HTTP_2 {
        if parts.uri.authority().is_some() {
            parts.headers.remove(HOST);
            return Ok(());
        }
    } else if parts.uri.scheme().is_some() {
        // In the absolute form, `host` is ignored (RFC 9112 section 3.2.2).
        let target = std::mem::take(&mut parts.uri).into_parts();
        let authority = target.authority.as_ref().ok_or(Refusal::MissingHost)?;
        parts.headers.insert(HOST, value_of(authority.as_str())?);
        parts.uri = target.path_and_query.map_or_else(Uri::default, Uri::from);
        return Ok(());
    } else if parts.method == Method::CONNECT {
        return Ok(());
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().ok_or(Refusal::MissingHost)?;
    if hosts.next().is_some() || !is_authority(host.as_bytes()) {
        return Err(Refusal::InvalidHost);
    }
    Ok(())
}

/// Whether all characters are allowed in an authority by RFC 3986 section 3.2, or are `_`, which browsers send and Envoy
/// accepts.
fn is_authority(host: &[u8]) -> bool {
    host.iter().all(|byte| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b'@')
    })
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
        return Err(Refusal::AbsolutePathRejected);
    }
    match path_normalize::normalize(config.path_normalization, path) {
        Ok(None) => Ok(()),
        Ok(Some(normal)) => {
            let mut target = std::mem::take(&mut parts.uri).into_parts();
            target.path_and_query = Some(PathAndQuery::try_from(normal).map_err(|_| Refusal::PathNormalizationFailed)?);
            parts.uri = Uri::from_parts(target).map_err(|_| Refusal::PathNormalizationFailed)?;
            Ok(())
        }
        Err(PathNormalizationFailed) => Err(Refusal::PathNormalizationFailed),
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
        hosts: &[&'static str],
    ) -> Result<(String, String), Refusal> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        canonicalize(&mut parts, config, 8080)?;
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
        assert_eq!(canonical(&config, h2, "http://y.test/a", &["x.test"]), ok("http://y.test/a", "-"));
        assert_eq!(canonical(&config, h1, "/", &[]), Err(Refusal::MissingHost));
        assert_eq!(canonical(&config, h1, "/", &["a", "b"]), Err(Refusal::InvalidHost));
        assert_eq!(canonical(&config, h1, "/", &["a/b"]), Err(Refusal::InvalidHost));
        assert_eq!(canonical(&config, h1, "*", &["a"]), Err(Refusal::AbsolutePathRejected));
        assert_eq!(canonical(&config, h1, "/caf\u{e9}", &["a"]), Err(Refusal::InvalidTarget));
        assert_eq!(canonical(&config, h2, "http://a/caf\u{e9}", &[]), ok("http://a/caf\u{e9}", "-"));
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
