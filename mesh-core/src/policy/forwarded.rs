//! The client's address, and sanitizing of the headers that only trusted clients may send. Envoy "HTTP header
//! manipulation" and "HTTP header sanitizing".
//!
//! At the edge (`use_remote_address`) the client is the peer of the connection; elsewhere it is taken from
//! `x-forwarded-for`. A request is internal if exactly one address is known for its path through proxies, and that
//! address is configured as internal. Only internal requests may control retries and timeouts by `x-envoy-*` headers;
//! these headers are removed from external requests before anything reads them.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    model::ForwardedFor,
    request::{X_ENVOY_PREFIX, X_FORWARDED_PROTO},
};

/// `x-forwarded-for`: the addresses of the client and of the proxies that forwarded the request.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-envoy-internal`: `true` on internal requests.
pub const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// `x-envoy-external-address`: the client of an edge request.
pub const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Headers that only internal requests may have.
const CONTROL_HEADERS: [HeaderName; 14] = [
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
];

/// Headers that no request may have at the edge, because proxies set them.
const EDGE_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-path"),
];

/// The connection that a request was received on.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Remote address.
    pub address: IpAddr,
    /// An address of this machine, which is written to headers instead of a loopback address.
    pub local_address: Option<IpAddr>,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Whether the request is internal.
    pub internal: bool,
    /// Whether this is the edge proxy of an external request.
    pub edge: bool,
}

/// Determines the client of a request, sets the forwarding headers and removes headers that the client may not send.
pub fn sanitize(config: &ForwardedFor, peer: &Peer, headers: &mut HeaderMap) -> Client {
    // Most requests have none of Envoy's headers, and one scan is cheaper than a lookup for each.
    let has_envoy_headers = headers.keys().any(|name| name.as_str().starts_with(X_ENVOY_PREFIX));
    if has_envoy_headers {
        headers.remove(X_ENVOY_INTERNAL);
    }
    let (address, single) = if config.use_remote_address {
        let is_first_hop = !headers.contains_key(&X_FORWARDED_FOR);
        let trusted = config.xff_num_trusted_hops.checked_sub(1).and_then(|skip| forwarded_address(headers, skip));
        if !config.skip_xff_append {
            append(headers, written_address(peer));
        }
        (trusted.map(|(address, _)| address), is_first_hop)
    } else {
        let forwarded = forwarded_address(headers, config.xff_num_trusted_hops);
        (forwarded.map(|(address, _)| address), forwarded.is_some_and(|(_, single)| single))
    };
    let known = config.use_remote_address || address.is_some();
    let address = address.unwrap_or(peer.address);
    let internal = single && known && config.internal_addresses.iter().any(|network| network.contains(&address));
    let edge = !internal && config.use_remote_address;
    set_proto(config, peer, headers);
    if internal {
        headers.insert(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    } else if has_envoy_headers {
        remove_all(headers, &CONTROL_HEADERS);
    }
    if edge {
        if has_envoy_headers {
            remove_all(headers, &EDGE_HEADERS);
        }
        headers.insert(X_ENVOY_EXTERNAL_ADDRESS, address_value(address));
    }
    Client { address, internal, edge }
}

/// Sets `x-forwarded-proto` to the scheme of the connection, unless a trusted proxy has set it.
fn set_proto(config: &ForwardedFor, peer: &Peer, headers: &mut HeaderMap) {
    let untrusted = config.use_remote_address && config.xff_num_trusted_hops == 0;
    if untrusted || !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if peer.tls { "https" } else { "http" }));
    }
}

fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

/// The address at position `skip` from the right of `x-forwarded-for`, and whether it is the only one.
fn forwarded_address(headers: &HeaderMap, skip: u32) -> Option<(IpAddr, bool)> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut addresses = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    let skipped = usize::try_from(skip).ok()?;
    let address = addresses.nth(skipped)?.trim().parse().ok()?;
    Some((address, skip == 0 && addresses.next().is_none()))
}

fn written_address(peer: &Peer) -> IpAddr {
    // Other addresses of 127.0.0.0/8 are not replaced, as in Envoy.
    let is_loopback = match peer.address {
        IpAddr::V4(address) => address == std::net::Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address == std::net::Ipv6Addr::LOCALHOST,
    };
    peer.local_address.filter(|_| is_loopback).unwrap_or(peer.address)
}

fn append(headers: &mut HeaderMap, address: IpAddr) {
    let mut value = Vec::new();
    for line in headers.get_all(X_FORWARDED_FOR) {
        value.extend_from_slice(line.as_bytes());
        value.push(b',');
    }
    value.extend_from_slice(address.to_string().as_bytes());
    // This cannot fail: header values joined with an address are a header value.
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).expect("an address is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST_IP: &str = "192.0.2.7";

    fn edge(internal: &[&str]) -> ForwardedFor {
        let internal_addresses = internal.iter().map(|network| network.parse().unwrap()).collect();
        ForwardedFor { use_remote_address: true, internal_addresses, ..ForwardedFor::default() }
    }

    fn check(config: &ForwardedFor, peer: &str, before: &[(&'static str, &str)], expected: (&str, &[(&str, &str)])) {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, value.parse().unwrap());
        }
        let peer = Peer { address: peer.parse().unwrap(), local_address: Some(HOST_IP.parse().unwrap()), tls: false };
        let client = sanitize(config, &peer, &mut headers);
        let mut after: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        after.sort_unstable();
        assert_eq!((client.address.to_string().as_str(), &*after), expected, "{config:?} {before:?}");
    }

    /// The `xff` comparison with Envoy.
    #[test]
    fn edge_requests() {
        let config = edge(&["127.0.0.0/8", "10.0.0.0/8"]);
        let http = ("x-forwarded-proto", "http");
        let internal = ("x-envoy-internal", "true");
        let external = ("x-envoy-external-address", "127.0.0.1");
        check(&config, "127.0.0.1", &[], ("127.0.0.1", &[internal, ("x-forwarded-for", HOST_IP), http]));
        let appended = ("x-forwarded-for", "1.2.3.4,192.0.2.7");
        check(&config, "127.0.0.1", &[("x-forwarded-for", "1.2.3.4")], ("127.0.0.1", &[external, appended, http]));
        let appended = ("x-forwarded-for", "1.2.3.4, 10.0.0.1,192.0.2.7");
        check(
            &config,
            "127.0.0.1",
            &[("x-forwarded-for", "1.2.3.4, 10.0.0.1")],
            ("127.0.0.1", &[external, appended, http]),
        );
        check(&config, "127.0.0.9", &[], ("127.0.0.9", &[internal, ("x-forwarded-for", "127.0.0.9"), http]));
        let kept = ("x-envoy-external-address", "9.9.9.9");
        check(
            &config,
            "127.0.0.1",
            &[internal, kept],
            ("127.0.0.1", &[kept, internal, ("x-forwarded-for", HOST_IP), http]),
        );
    }

    #[test]
    fn requests_behind_the_edge() {
        let config = ForwardedFor::default();
        let http = ("x-forwarded-proto", "http");
        check(&config, "127.0.0.1", &[], ("127.0.0.1", &[http]));
        for (value, client) in
            [("10.1.1.1", "10.1.1.1"), ("1.2.3.4, 10.1.1.1", "10.1.1.1"), ("not-an-address", "127.0.0.1")]
        {
            let forwarded = ("x-forwarded-for", value);
            check(&config, "127.0.0.1", &[forwarded], (client, &[forwarded, http]));
        }
        let https = ("x-forwarded-proto", "https");
        check(&config, "127.0.0.1", &[https], ("127.0.0.1", &[https]));
    }

    #[test]
    fn trusted_hops_are_counted_from_the_right() {
        let hops = |use_remote_address, xff_num_trusted_hops| ForwardedFor {
            use_remote_address,
            xff_num_trusted_hops,
            skip_xff_append: true,
            ..ForwardedFor::default()
        };
        let forwarded = ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3");
        let proto = ("x-forwarded-proto", "https");
        check(&hops(false, 1), "9.9.9.9", &[forwarded, proto], ("2.2.2.2", &[forwarded, proto]));
        check(&hops(false, 3), "9.9.9.9", &[forwarded, proto], ("9.9.9.9", &[forwarded, proto]));
        let external = ("x-envoy-external-address", "3.3.3.3");
        check(&hops(true, 1), "9.9.9.9", &[forwarded, proto], ("3.3.3.3", &[external, forwarded, proto]));
    }

    #[test]
    fn control_headers_are_removed_from_external_requests() {
        let before = [("x-envoy-max-retries", "9"), ("x-envoy-retry-on", "5xx"), ("x-other", "1")];
        check(
            &ForwardedFor::default(),
            "9.9.9.9",
            &before,
            ("9.9.9.9", &[("x-forwarded-proto", "http"), ("x-other", "1")]),
        );
        let mut headers: HeaderMap =
            [(CONTROL_HEADERS[4].clone(), HeaderValue::from_static("9"))].into_iter().collect();
        let peer = Peer { address: "10.0.0.1".parse().unwrap(), local_address: None, tls: true };
        let client = sanitize(&edge(&["10.0.0.0/8"]), &peer, &mut headers);
        assert!(client.internal && headers.contains_key("x-envoy-max-retries"));
    }
}
