//! Hop-by-hop headers, which are not forwarded (RFC 9110 section 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

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
    tokens(value).any(|candidate| candidate.eq_ignore_ascii_case(token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Removes the headers that `connection` names, except those that other hops rely on, such as `x-forwarded-for`.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    let is_plain = |token: &&str| token.eq_ignore_ascii_case("close") || token.eq_ignore_ascii_case("keep-alive");
    if headers.get_all(CONNECTION).iter().flat_map(tokens).all(|token| is_plain(&token)) {
        return;
    }
    let named: Vec<HeaderName> = (headers.get_all(CONNECTION).iter())
        .flat_map(tokens)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| ![TE, TRAILER, http::header::HOST].contains(name) && !name.as_str().starts_with("x-"))
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
    fn an_upgrade_keeps_its_own_headers() {
        let before = [("connection", "upgrade"), ("upgrade", "websocket"), ("keep-alive", "1")];
        assert_eq!(after(&before, Upgrade::Pass), ["connection=upgrade", "upgrade=websocket"]);
    }
}
