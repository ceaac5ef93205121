//! Who the client is, and what is believed of its headers (E100).
//!
//! At the edge (`use_remote_address`) the peer is the client; behind it `x-forwarded-for` tells. A request is internal
//! if exactly one address is known of its way and that is configured as internal. Only internal requests may steer
//! retries and timeouts by `x-envoy-*` headers; the others lose them here, before anything reads them.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    model::ForwardedFor,
    request::{X_ENVOY_PREFIX, X_FORWARDED_PROTO},
};

/// `x-forwarded-for`: the addresses a request came by.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-envoy-internal`: `true` on internal requests.
pub const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// `x-envoy-external-address`: the client of an edge request.
pub const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Headers that only internal requests may bring.
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

/// Headers that no client may bring to the edge, because they are the mesh's own.
const EDGE_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-path"),
];

/// The connection a request came by.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The far end.
    pub address: IpAddr,
    /// An address of this machine, written instead of loopback, which would mean nothing elsewhere.
    pub local_address: Option<IpAddr>,
    /// Whether it is encrypted.
    pub tls: bool,
}

/// What is known of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Whether it is within the trusted network.
    pub internal: bool,
    /// Whether this is the first trusted hop of an external request.
    pub edge: bool,
}

/// Determines the client and makes the forwarding headers of its request true.
pub fn sanitize(config: &ForwardedFor, peer: &Peer, headers: &mut HeaderMap) -> Client {
    // Most requests bring none of Envoy's headers; one look at the names is cheaper than a search for each.
    let brings_envoy_headers = headers.keys().any(|name| name.as_str().starts_with(X_ENVOY_PREFIX));
    if brings_envoy_headers {
        headers.remove(X_ENVOY_INTERNAL);
    }
    let told = !headers.contains_key(&X_FORWARDED_FOR);
    let (address, single) = if config.use_remote_address {
        let trusted = config.xff_num_trusted_hops.checked_sub(1).and_then(|skip| told_address(headers, skip));
        if !config.skip_xff_append {
            append(headers, written_address(peer));
        }
        (trusted.map(|(address, _)| address), told)
    } else {
        let told = told_address(headers, config.xff_num_trusted_hops);
        (told.map(|(address, _)| address), told.is_some_and(|(_, single)| single))
    };
    let known = config.use_remote_address || address.is_some();
    let address = address.unwrap_or(peer.address);
    let internal = single && known && config.internal_addresses.iter().any(|network| network.contains(&address));
    let edge = !internal && config.use_remote_address;
    set_proto(config, peer, headers);
    if internal {
        headers.insert(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    } else if brings_envoy_headers {
        remove_all(headers, &CONTROL_HEADERS);
    }
    if edge {
        if brings_envoy_headers {
            remove_all(headers, &EDGE_HEADERS);
        }
        headers.insert(X_ENVOY_EXTERNAL_ADDRESS, address_value(address));
    }
    Client { address, internal, edge }
}

/// The scheme of the connection, unless a trusted hop has told that of its own.
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

/// The address at `skip` places from the right of `x-forwarded-for`, and whether it is the only one.
fn told_address(headers: &HeaderMap, skip: u32) -> Option<(IpAddr, bool)> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut addresses = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    let skipped = usize::try_from(skip).ok()?;
    let address = addresses.nth(skipped)?.trim().parse().ok()?;
    Some((address, skip == 0 && addresses.next().is_none()))
}

fn written_address(peer: &Peer) -> IpAddr {
    // Exactly these two, as in Envoy: other addresses of 127.0.0.0/8 are told as they are.
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
    // Header values joined with an address stay header values.
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
    fn e100_edge_requests() {
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
    fn e100_requests_behind_the_edge() {
        let config = ForwardedFor::default();
        let http = ("x-forwarded-proto", "http");
        check(&config, "127.0.0.1", &[], ("127.0.0.1", &[http]));
        for (told, client) in
            [("10.1.1.1", "10.1.1.1"), ("1.2.3.4, 10.1.1.1", "10.1.1.1"), ("not-an-address", "127.0.0.1")]
        {
            let told = ("x-forwarded-for", told);
            check(&config, "127.0.0.1", &[told], (client, &[told, http]));
        }
        let https = ("x-forwarded-proto", "https");
        check(&config, "127.0.0.1", &[https], ("127.0.0.1", &[https]));
    }

    #[test]
    fn e100_trusted_hops_are_counted_from_the_right() {
        let hops = |use_remote_address, xff_num_trusted_hops| ForwardedFor {
            use_remote_address,
            xff_num_trusted_hops,
            skip_xff_append: true,
            ..ForwardedFor::default()
        };
        let told = ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3");
        let proto = ("x-forwarded-proto", "https");
        check(&hops(false, 1), "9.9.9.9", &[told, proto], ("2.2.2.2", &[told, proto]));
        check(&hops(false, 3), "9.9.9.9", &[told, proto], ("9.9.9.9", &[told, proto]));
        let external = ("x-envoy-external-address", "3.3.3.3");
        check(&hops(true, 1), "9.9.9.9", &[told, proto], ("3.3.3.3", &[external, told, proto]));
    }

    #[test]
    fn e5_external_requests_lose_control_headers() {
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
