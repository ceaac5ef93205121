//! Longest prefix match of IP addresses.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Values by network. A look-up costs one probe per distinct prefix length in use, whatever the number of networks.
#[derive(Clone, Debug)]
pub(super) struct Networks<T> {
    values: HashMap<IpNet, T>,
    /// Prefix lengths in use, the longest first.
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

/// The networks of all addresses.
pub(super) const EVERYWHERE: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0)),
];

impl<T: Default> Networks<T> {
    /// The value of exactly this network.
    pub(super) fn entry(&mut self, network: IpNet) -> &mut T {
        let network = network.trunc();
        let lengths = match network {
            IpNet::V4(_) => &mut self.v4_lengths,
            IpNet::V6(_) => &mut self.v6_lengths,
        };
        if !lengths.contains(&network.prefix_len()) {
            lengths.push(network.prefix_len());
            lengths.sort_unstable_by(|a, b| b.cmp(a));
        }
        self.values.entry(network).or_default()
    }
}

impl<T> Networks<T> {
    /// The value of the longest prefix of `address`. `None` matches only the networks of all addresses.
    pub(super) fn find(&self, address: Option<IpAddr>) -> Option<&T> {
        let Some(address) = address else { return self.values.get(&EVERYWHERE[0]) };
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths.iter().find_map(|length| self.values.get(&IpNet::new(address, *length).ok()?.trunc()))
    }
}

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), v4_lengths: Vec::new(), v6_lengths: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let mut networks = Networks::<&str>::default();
        for network in ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "fd00::/8"] {
            *networks.entry(network.parse().unwrap()) = network;
        }
        for (address, expected) in [
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.4", Some("10.1.0.0/16")),
            ("::ffff:10.2.0.1", Some("10.0.0.0/8")),
            ("11.0.0.1", Some("0.0.0.0/0")),
            ("fd00::1", Some("fd00::/8")),
            ("fe80::1", None),
        ] {
            assert_eq!(networks.find(Some(address.parse().unwrap())).copied(), expected, "{address}");
        }
        assert_eq!(networks.find(None).copied(), Some("0.0.0.0/0"));
    }
}
