//! The request as every decision sees it.
//!
//! A [`RequestHead`] is the canonical form: method, authority and path were validated and normalized at the edge, and
//! routing, faults, authorization and logs all read this value and never the wire. It borrows, so it costs nothing.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header::HOST, request::Parts};

use crate::value::HeaderKey;

/// Method, target and headers of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// `:method`.
    pub method: &'a Method,
    /// `:scheme` if the target says it; [`RequestHead::scheme`] also looks elsewhere.
    pub target_scheme: Option<&'a str>,
    /// `:authority`, with its port if it has one; empty if the request names none.
    pub authority: &'a str,
    /// `:path`, with the query; empty for a plain CONNECT.
    pub path_and_query: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestHead<'a> {
    /// The head of `parts`. An authority that the target does not say comes from `host`.
    #[must_use]
    pub fn from_parts(parts: &'a Parts) -> Self {
        let host = || parts.headers.get(&HOST)?.to_str().ok();
        Self {
            method: &parts.method,
            target_scheme: parts.uri.scheme_str(),
            authority: parts.uri.authority().map(|authority| authority.as_str()).or_else(host).unwrap_or(""),
            path_and_query: parts.uri.path_and_query().map_or("", |path| path.as_str()),
            headers: &parts.headers,
        }
    }

    /// `http` or `https`: what the target says, else `x-forwarded-proto`, else `http`.
    #[must_use]
    pub fn scheme(&self) -> &'a str {
        self.target_scheme.or_else(|| self.forwarded_proto()).unwrap_or("http")
    }

    /// The scheme the client used, as `x-forwarded-proto` tells it, else that of this request. They differ behind
    /// something that terminates TLS.
    #[must_use]
    pub fn forwarded_scheme(&self) -> &'a str {
        self.forwarded_proto().or(self.target_scheme).unwrap_or("http")
    }

    fn forwarded_proto(&self) -> Option<&'a str> {
        self.headers.get(&X_FORWARDED_PROTO)?.to_str().ok()
    }

    /// The path without its query.
    #[must_use]
    pub fn path(&self) -> &'a str {
        split_query(self.path_and_query).0
    }

    /// The query without its `?`; `None` if there is none.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        split_query(self.path_and_query).1
    }

    /// The values of a header or pseudo-header, line by line; nothing if it is absent.
    pub fn values(&self, key: &'a HeaderKey) -> impl Iterator<Item = &'a [u8]> {
        let (pseudo, field) = match key {
            HeaderKey::Method => (Some(self.method.as_str()), None),
            HeaderKey::Authority => (Some(self.authority), None),
            HeaderKey::Path => (Some(self.path_and_query), None),
            HeaderKey::Scheme => (Some(self.scheme()), None),
            HeaderKey::Field(name) => (None, Some(name)),
        };
        let headers = self.headers;
        let lines = field.into_iter().flat_map(move |name| headers.get_all(name)).map(HeaderValue::as_bytes);
        pseudo.filter(|value| !value.is_empty()).map(str::as_bytes).into_iter().chain(lines)
    }
}

/// `x-forwarded-proto`: the scheme the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Prefix of the headers by which Envoy and its callers steer each other.
pub(crate) const X_ENVOY_PREFIX: &str = "x-envoy-";

/// Splits `:path` at its first `?`.
#[must_use]
pub fn split_query(path_and_query: &str) -> (&str, Option<&str>) {
    match path_and_query.bytes().position(|byte| byte == b'?') {
        Some(end) => (&path_and_query[..end], Some(&path_and_query[end + 1..])),
        None => (path_and_query, None),
    }
}

/// The value of the first query parameter called `name`, not percent-decoded; a parameter without `=` has an empty one.
#[must_use]
pub fn query_parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find_map(|(n, v)| (n == name).then_some(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_form_request_takes_scheme_and_authority_from_its_headers() {
        let request =
            http::Request::builder().uri("/a?b=c?d").header("host", "shop:80").header("x-forwarded-proto", "https");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = RequestHead::from_parts(&parts);
        assert_eq!((head.scheme(), head.authority), ("https", "shop:80"));
        assert_eq!((head.path(), head.query()), ("/a", Some("b=c?d")));
    }

    #[test]
    fn a_target_with_an_authority_wins_over_the_host_header() {
        let request = http::Request::builder().uri("http://a.test/").header("host", "b.test");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = RequestHead::from_parts(&parts);
        assert_eq!((head.scheme(), head.authority, head.query()), ("http", "a.test", None));
    }
}
