//! Hop-by-hop headers, which are not forwarded (RFC 9110 section 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use thiserror::Error;

use super::forwarded::X_FORWARDED_FOR;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(crate) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Options in the `connection` headers of a request. At this number, it is refused. Envoy's limit.
const MAX_NOMINATED_HEADERS: usize = 10;
/// Size of a `te` header that `connection` nominates, in bytes. At this size, the request is refused. Envoy's limit.
const MAX_NOMINATED_TE: usize = 256;

/// Whether the `connection` and `upgrade` headers of a message are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// They are forwarded, because the message upgrades its connection.
    Pass,
    /// They are removed.
    Remove,
}

/// A set of hop-by-hop headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopByHop(u8);

impl HopByHop {
    /// `connection`.
    pub const CONNECTION: Self = Self(1);
    /// `upgrade`.
    pub const UPGRADE: Self = Self(1 << 1);
    /// `keep-alive`.
    pub const KEEP_ALIVE: Self = Self(1 << 2);
    /// `proxy-connection`.
    pub const PROXY_CONNECTION: Self = Self(1 << 3);
    /// `transfer-encoding`.
    pub const TRANSFER_ENCODING: Self = Self(1 << 4);
    /// `te`.
    pub const TE: Self = Self(1 << 5);

    /// The hop-by-hop headers among `headers`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            present.insert(name.as_str());
        }
        present
    }

    /// Adds the header `name`, if it is a hop-by-hop header.
    pub(super) fn insert(&mut self, name: &str) {
        let added = match name {
            "connection" => Self::CONNECTION,
            "upgrade" => Self::UPGRADE,
            "keep-alive" => Self::KEEP_ALIVE,
            "proxy-connection" => Self::PROXY_CONNECTION,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "te" => Self::TE,
            _ => return,
        };
        self.0 |= added.0;
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the set contains any of `others`.
    #[must_use]
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

/// Removes the hop-by-hop headers of a request or response, including the ones named by `connection`. Of `te` only
/// `trailers` is kept. `trailer` is kept, because trailers are forwarded. `present` is the set of hop-by-hop headers in the
/// message.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, present: HopByHop, upgrade: Upgrade) {
    // Most messages have none of them, or only the `te: trailers` of gRPC.
    if !present.is_empty() {
        remove_present(headers, present, upgrade);
    }
}

#[inline(never)]
fn remove_present(headers: &mut HeaderMap, present: HopByHop, upgrade: Upgrade) {
    if upgrade == Upgrade::Remove && present.has(HopByHop::CONNECTION) {
        remove_named_by_connection(headers);
    }
    let mut remove = |header: HopByHop, name: HeaderName| {
        if present.has(header) {
            headers.remove(name);
        }
    };
    if upgrade == Upgrade::Remove {
        remove(HopByHop::CONNECTION, CONNECTION);
        remove(HopByHop::UPGRADE, UPGRADE);
    }
    remove(HopByHop::KEEP_ALIVE, KEEP_ALIVE);
    remove(HopByHop::PROXY_CONNECTION, PROXY_CONNECTION);
    remove(HopByHop::TRANSFER_ENCODING, TRANSFER_ENCODING);
    if present.has(HopByHop::TE) {
        keep_trailers_of_te(headers);
    }
}

/// Reduces `te` to `trailers`, or removes it.
fn keep_trailers_of_te(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TE).iter();
    if values.next().is_some_and(|value| value == "trailers") && values.next().is_none() {
        return;
    }
    let trailers = headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a comma-separated header value contains `token`, ignoring case.
#[must_use]
pub fn has_token(value: &HeaderValue, token: &str) -> bool {
    tokens(value).any(|candidate| candidate.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a comma-separated header value.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// The options of `connection`, in all its lines.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(CONNECTION).iter().flat_map(tokens)
}

/// Whether an option of `connection` is about the connection itself and nominates no header.
fn is_own_option(option: &[u8]) -> bool {
    ["close", "keep-alive", "upgrade"].iter().any(|own| option.eq_ignore_ascii_case(own.as_bytes()))
}

/// The `connection` header of a request nominates headers that no client may remove, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the connection header nominates x-forwarded-*, a pseudo-header, a te header of 256 bytes or more, or 10 headers or more"
)]
pub struct InvalidNomination;

/// Removes the headers of a request that its `connection` header nominates, and their names from `connection`. It is for the
/// edge: every later stage sees the headers that are forwarded. Envoy `Utility::sanitizeConnectionHeader`.
///
/// # Errors
/// If the header nominates `x-forwarded-for`, `x-forwarded-host` or `x-forwarded-proto`, by which a client would disguise the
/// origin of the request; a pseudo-header; a `te` header of at least 256 bytes; or at least 10 headers.
pub fn remove_nominated(headers: &mut HeaderMap) -> Result<(), InvalidNomination> {
    let mut is_plain = true;
    for (index, option) in connection_options(headers).enumerate() {
        if index + 1 == MAX_NOMINATED_HEADERS || option.starts_with(b":") {
            return Err(InvalidNomination);
        }
        is_plain &= is_own_option(option);
    }
    if is_plain {
        return Ok(());
    }
    let names = connection_options(headers).filter(|option| !is_own_option(option));
    let nominated: Vec<_> = names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    if nominated.iter().any(is_forwarded) {
        return Err(InvalidNomination);
    }
    let own: Vec<_> = connection_options(headers).filter(|option| is_own_option(option)).collect();
    let own = HeaderValue::from_bytes(&own.join(&b", "[..]));
    for name in nominated {
        if name == TE {
            if headers.get(TE).is_some_and(|te| te.len() >= MAX_NOMINATED_TE) {
                return Err(InvalidNomination);
            }
            keep_trailers_of_te(headers);
        } else {
            headers.remove(name);
        }
    }
    match own {
        Ok(own) if !own.is_empty() => headers.insert(CONNECTION, own),
        _ => headers.remove(CONNECTION),
    };
    Ok(())
}

fn is_forwarded(name: &HeaderName) -> bool {
    [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].contains(name)
}

/// Removes the headers that `connection` names, except those that other hops rely on, such as `x-forwarded-for`.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    if connection_options(headers).all(is_own_option) {
        return;
    }
    let named: Vec<HeaderName> = connection_options(headers)
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| ![TE, HOST].contains(name) && !is_forwarded(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: &[(&'static str, &'static str)], upgrade: Upgrade) -> Vec<String> {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let present = HopByHop::of(&headers);
        remove_hop_by_hop(&mut headers, present, upgrade);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        left.sort();
        left
    }

    #[test]
    fn hop_by_hop_headers_and_those_named_by_connection_are_removed() {
        let before = [
            ("connection", "close, X-Forwarded-For, named"),
            ("named", "1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers, deflate"),
            ("accept", "*/*"),
        ];
        assert_eq!(after(&before, Upgrade::Remove), ["accept=*/*", "te=trailers", "x-forwarded-for=1.2.3.4"]);
        assert_eq!(after(&[("te", "gzip")], Upgrade::Remove), [""; 0]);
    }

    #[test]
    fn all_headers_that_connection_names_are_removed_but_host_te_and_those_about_the_client() {
        let before = [
            ("connection", "x-a, host, te"),
            ("connection", "trailer, X-Forwarded-Proto"),
            ("x-a", "1"),
            ("host", "h"),
            ("te", "trailers"),
            ("trailer", "t"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(after(&before, Upgrade::Remove), ["host=h", "te=trailers", "x-forwarded-proto=https"]);
        let not_ascii = HeaderValue::from_bytes(b"x-a, \xe9").unwrap();
        let mut headers =
            HeaderMap::from_iter([(CONNECTION, not_ascii), ("x-a".parse().unwrap(), "1".parse().unwrap())]);
        remove_hop_by_hop(&mut headers, HopByHop::CONNECTION, Upgrade::Remove);
        assert!(headers.is_empty(), "{headers:?}");
    }

    /// What is left of the request, in the form `name=value`.
    fn nominated(before: &[(&'static str, &str)]) -> Result<Vec<String>, InvalidNomination> {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, value.parse().unwrap());
        }
        remove_nominated(&mut headers)?;
        Ok(headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect())
    }

    #[test]
    fn a_request_loses_the_headers_that_connection_nominates() {
        let check = |before: &[(&'static str, &str)], expected: &[&str]| {
            assert_eq!(nominated(before).unwrap(), expected, "{before:?}");
        };
        check(&[("connection", "X-A ,\tb"), ("x-a", "1"), ("b", "2"), ("c", "3")], &["c=3"]);
        check(&[("connection", "x-a"), ("x-a", "1"), ("connection", "x-b"), ("x-b", "2")], &[]);
        check(&[("connection", "Close, x-a, keep-alive"), ("x-a", "1")], &["connection=Close, keep-alive"]);
        check(&[("connection", "upgrade, x-a")], &["connection=upgrade"]);
        check(&[("connection", "close")], &["connection=close"]);
        check(&[("connection", "host, trailer"), ("host", "h"), ("trailer", "t")], &[]);
        check(&[("connection", "te"), ("te", "gzip, Trailers")], &["te=trailers"]);
        check(&[("connection", "te"), ("te", "gzip")], &[]);
        check(&[("connection", "a b"), ("a", "1")], &["a=1"]);
        check(&[("connection", ",,,,,,,,,,,,a"), ("a", "1")], &[]);
    }

    #[test]
    fn a_request_may_not_nominate_what_others_rely_on_or_too_much() {
        for name in ["x-forwarded-for", "X-Forwarded-Host", "x-forwarded-proto", ":path"] {
            assert_eq!(nominated(&[("connection", name)]), Err(InvalidNomination), "{name}");
        }
        assert!(nominated(&[("connection", "x-forwarded-port")]).is_ok());
        assert!(nominated(&[("connection", &"close,".repeat(9))]).is_ok());
        assert_eq!(nominated(&[("connection", &"close,".repeat(10))]), Err(InvalidNomination));
        let te = |length| nominated(&[("connection", "te"), ("te", &"a".repeat(length))]);
        assert_eq!((te(255), te(256)), (Ok(Vec::new()), Err(InvalidNomination)));
    }

    #[test]
    fn an_upgrade_keeps_its_own_headers() {
        let before = [("connection", "upgrade"), ("upgrade", "websocket"), ("keep-alive", "1")];
        assert_eq!(after(&before, Upgrade::Pass), ["connection=upgrade", "upgrade=websocket"]);
    }
}
