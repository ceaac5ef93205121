//! A resolver that calls the system's resolver, `getaddrinfo`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mesh_core::model::DnsLookupFamily;

use super::{Answer, Resolve, ResolveError, Resolving};

/// Calls the system's resolver, `getaddrinfo`, on a thread for blocking operations. Envoy
/// `envoy.network.dns_resolver.getaddrinfo`.
///
/// It supports all sources of names that the system is configured with. `getaddrinfo` does not return the TTL of a response,
/// and a name without addresses cannot be distinguished from a failure.
#[derive(Debug, Default)]
pub struct GetAddrInfoResolver(());

impl GetAddrInfoResolver {
    /// TTL of all responses, as in Envoy.
    const TIME_TO_LIVE: Duration = Duration::from_secs(60);

    /// Creates a resolver.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Resolve for GetAddrInfoResolver {
    fn resolve<'a>(&'a self, host: &'a str, family: DnsLookupFamily) -> Resolving<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await;
            let found = found.map_err(|error| ResolveError { host: host.to_owned(), reason: error.to_string() })?;
            let addresses = of_family(found.map(|address: SocketAddr| address.ip()), family);
            Ok(Answer { addresses, time_to_live: Self::TIME_TO_LIVE })
        })
    }
}

/// The addresses that `family` selects, without duplicates.
fn of_family(found: impl Iterator<Item = IpAddr>, family: DnsLookupFamily) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let wants_v4 = match family {
        DnsLookupFamily::All => return addresses,
        DnsLookupFamily::V4Only => true,
        DnsLookupFamily::V6Only => false,
        DnsLookupFamily::V4Preferred => addresses.iter().any(IpAddr::is_ipv4),
        DnsLookupFamily::Auto => !addresses.iter().any(IpAddr::is_ipv6),
    };
    addresses.retain(|address| address.is_ipv4() == wants_v4);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_localhost_are_resolved() {
        let resolver = GetAddrInfoResolver::new();
        for (host, family, expected) in [
            ("192.0.2.7", DnsLookupFamily::V4Only, "192.0.2.7"),
            ("2001:db8::7", DnsLookupFamily::Auto, "2001:db8::7"),
            ("localhost", DnsLookupFamily::V4Only, "127.0.0.1"),
        ] {
            let answer = resolver.resolve(host, family).await.unwrap();
            assert_eq!(answer.addresses, [expected.parse::<IpAddr>().unwrap()], "{host}");
        }
        assert!(resolver.resolve("no such name", DnsLookupFamily::All).await.is_err());
    }

    #[test]
    fn the_family_decides_which_addresses_are_used() {
        let (four, six) = ("192.0.2.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse::<IpAddr>().unwrap());
        let of = |found: &[IpAddr], family| of_family(found.iter().copied(), family);
        assert_eq!(of(&[six, four, four], DnsLookupFamily::All), [six, four]);
        assert_eq!(of(&[six, four], DnsLookupFamily::V4Only), [four]);
        assert_eq!(of(&[six, four], DnsLookupFamily::V6Only), [six]);
        assert_eq!(of(&[six, four], DnsLookupFamily::V4Preferred), [four]);
        assert_eq!(of(&[six], DnsLookupFamily::V4Preferred), [six]);
        assert_eq!(of(&[six, four], DnsLookupFamily::Auto), [six]);
        assert_eq!(of(&[four], DnsLookupFamily::Auto), [four]);
        assert!(of(&[four], DnsLookupFamily::V6Only).is_empty());
    }
}
