//! `jwksUri`: where the keys of an issuer are.
//!
//! The author of a RequestAuthentication chooses where a proxy sends a request. Addresses that only the machine itself, or the
//! metadata service of a cloud, answers are therefore refused, unless [`Options`](crate::config::Options) allow them. Names
//! are not resolved: what they lead to may change at any time.

use std::net::{IpAddr, Ipv6Addr};

use http::Uri;
use http::uri::Scheme;

/// The place of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwksUri {
    /// As it is written.
    pub text: String,
    /// Whether it is `https`.
    pub is_tls: bool,
    /// The host in lower case; an IPv6 address has no brackets.
    pub host: String,
    /// The port, by default that of the scheme.
    pub port: u16,
}

impl JwksUri {
    /// Parses a URI.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "not a URI")?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) => return Err("the scheme is neither http nor https"),
            None => return Err("the scheme is missing: it must be http or https"),
        };
        let authority = uri.authority().ok_or("the host is missing")?;
        if authority.as_str().contains('@') {
            return Err("user information is not allowed");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err("the host is missing");
        }
        if host.parse::<IpAddr>().is_err() && looks_numeric(&host) {
            return Err("the host is neither a name nor an IP address");
        }
        let after_host = authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, rest)| rest);
        let port = match after_host.rsplit_once(':') {
            None => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            Some((_, port)) => port.parse().ok().filter(|port| *port > 0).ok_or("the port is not in 1..=65535")?,
        };
        Ok(Self { text: text.to_owned(), is_tls, host, port })
    }

    /// Why the host is one that only the machine itself or its network card answers; `None` if it is not.
    pub(crate) fn is_local(&self) -> bool {
        let name = self.host.trim_end_matches('.');
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
            Ok(IpAddr::V6(ip)) => is_local_v6(ip),
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

fn is_local_v6(ip: Ipv6Addr) -> bool {
    if let Some(v4) = ip.to_ipv4_mapped().or_else(|| ip.to_ipv4()) {
        return v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || ip.is_loopback();
    }
    // The metadata service of AWS is in a unique local network, with this address.
    let metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip == metadata
}

/// Whether resolvers read a host as a number, such as `2130706433` or `0x7f.1`: its last label is one.
fn looks_numeric(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    let is_hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_a_scheme_and_a_host() {
        let parsed = |text: &str| JwksUri::parse(text).map(|JwksUri { is_tls, host, port, .. }| (is_tls, host, port));
        let ok = |is_tls, host: &str, port| Ok((is_tls, host.to_owned(), port));
        assert_eq!(parsed("https://Issuer.test/keys"), ok(true, "issuer.test", 443));
        assert_eq!(
            parsed("http://keys.default.svc.cluster.local:8080/jwks?x=1"),
            ok(false, "keys.default.svc.cluster.local", 8080)
        );
        assert_eq!(parsed("http://[fd00::1]:81"), ok(false, "fd00::1", 81));
        for text in [
            "",
            "/keys",
            "issuer.test/keys",
            "ftp://issuer.test/keys",
            "https://",
            "https://u:p@issuer.test/",
            "https://a:0/",
            "https://a:65536/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "hTPp\\\u{8}lah",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_machine_itself_are_local() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]",
        ] {
            assert!(JwksUri::parse(&format!("http://{host}/")).unwrap().is_local(), "{host}");
        }
        for host in ["issuer.test", "10.0.0.1", "192.168.1.1", "[fd00::1]", "localhost.test", "8.8.8.8"] {
            assert!(!JwksUri::parse(&format!("http://{host}/")).unwrap().is_local(), "{host}");
        }
    }
}
