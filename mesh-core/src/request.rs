//! The head of a request.
//!
//! A [`RequestHead`] holds a request in canonical form: method, authority and path have been validated and normalized
//! before. Routing, filters and logs all read this value. It borrows, so it is free to make.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header::HOST, request::Parts};

use crate::value::HeaderKey;

/// Method, target and headers of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// `:method`.
    pub method: &'a Method,
    /// `:scheme`, if the request target has one. See also [`RequestHead::scheme`].
    pub target_scheme: Option<&'a str>,
    /// `:authority`, including the port; empty if the request has none.
    pub authority: &'a str,
    /// `:path`, including the query; empty for CONNECT.
    pub path_and_query: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestHead<'a> {
    /// The head of `parts`. If the request target has no authority, `host` is used.
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

    /// `http` or `https`: the scheme of the request target, or else `x-forwarded-proto`, or else `http`.
    #[must_use]
    pub fn scheme(&self) -> &'a str {
        self.target_scheme.or_else(|| self.forwarded_proto()).unwrap_or("http")
    }

    /// The scheme that the client used: `x-forwarded-proto`, or else the scheme of the request target. They differ behind
    /// a proxy that terminates TLS.
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

    /// The values of a header or pseudo-header, one for each line.
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

/// `x-forwarded-proto`: the scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Prefix of Envoy's own headers.
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
    fn scheme_and_authority_of_an_origin_form_request_come_from_its_headers() {
        let request =
            http::Request::builder().uri("/a?b=c?d").header("host", "shop:80").header("x-forwarded-proto", "https");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = RequestHead::from_parts(&parts);
        assert_eq!((head.scheme(), head.authority), ("https", "shop:80"));
        assert_eq!((head.path(), head.query()), ("/a", Some("b=c?d")));
    }

    #[test]
    fn the_authority_of_the_target_takes_precedence_over_the_host_header() {
        let request = http::Request::builder().uri("http://a.test/").header("host", "b.test");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = RequestHead::from_parts(&parts);
        assert_eq!((head.scheme(), head.authority, head.query()), ("http", "a.test", None));
    }
}
