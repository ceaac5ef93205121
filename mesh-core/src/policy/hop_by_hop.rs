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

/// Removes the hop-by-hop headers of a request or response, including the ones named by `connection`. Of `te` only
/// `trailers` is kept. `trailer` is kept, because trailers are forwarded.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, upgrade: Upgrade) {
    // Most messages have none of them, and one scan is cheaper than a lookup for each.
    if headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        remove_present(headers, upgrade);
    }
}

#[inline(never)]
fn remove_present(headers: &mut HeaderMap, upgrade: Upgrade) {
    if upgrade == Upgrade::Remove {
        remove_named_by_connection(headers);
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    if headers.contains_key(TE) {
        let trailers = headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

pub(super) fn is_hop_by_hop(name: &str) -> bool {
    matches!(name, "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade")
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
        remove_hop_by_hop(&mut headers, upgrade);
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
