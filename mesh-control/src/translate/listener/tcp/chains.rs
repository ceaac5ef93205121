//! Collects the filter chains of a listener from rules and services.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use ipnet::IpNet;

use crate::host::Host;
use crate::translate::filter::Side;
use crate::translate::listener::http_connection_manager::listener;
use crate::translate::proto::{any, core, duration, listener as envoy, tls_inspector};
use envoy::listener_filter::ConfigType;

/// Bytes that are read at first of a TLS client hello. istiod's value.
const INITIAL_READ_BUFFER_SIZE: u32 = 512;

/// Time for a TLS handshake at the edge. istiod's value.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// A filter chain and its match.
#[derive(Debug)]
pub(in crate::translate::listener) struct Chain {
    /// Server names of TLS connections; none means any connection, TLS or not.
    pub(super) server_names: Vec<String>,
    /// Networks of the destination address; none means any address.
    pub(super) prefix_ranges: Vec<IpNet>,
    /// Protocols of which a client of TLS must offer one; none means any.
    pub(super) application_protocols: Vec<String>,
    /// TLS that ends here, if it does.
    pub(super) transport_socket: Option<core::TransportSocket>,
    pub(super) filters: Vec<envoy::Filter>,
}

impl Chain {
    /// A chain for every connection.
    pub(in crate::translate::listener) fn new(filters: Vec<envoy::Filter>) -> Self {
        let (server_names, prefix_ranges, application_protocols) = Default::default();
        Self { server_names, prefix_ranges, application_protocols, transport_socket: None, filters }
    }

    /// A chain for TLS connections that end here, to one of the hosts.
    pub(in crate::translate::listener) fn terminating<'a>(
        hosts: impl Iterator<Item = &'a Host>,
        transport_socket: core::TransportSocket,
        filters: Vec<envoy::Filter>,
    ) -> Self {
        let server_names = hosts.map(|host| host.as_str().to_owned()).collect();
        Self { server_names, transport_socket: Some(transport_socket), ..Self::new(filters) }
    }

    fn is_match_all(&self) -> bool {
        self.server_names.is_empty() && self.prefix_ranges.is_empty() && self.application_protocols.is_empty()
    }

    fn build(self) -> envoy::FilterChain {
        let is_match_all = self.is_match_all();
        let filter_chain_match = envoy::FilterChainMatch {
            server_names: self.server_names,
            prefix_ranges: self.prefix_ranges.iter().map(cidr_range).collect(),
            application_protocols: self.application_protocols,
            ..envoy::FilterChainMatch::default()
        };
        envoy::FilterChain {
            filter_chain_match: (!is_match_all).then_some(filter_chain_match),
            filters: self.filters,
            transport_socket_connect_timeout: self.transport_socket.as_ref().map(|_| duration(HANDSHAKE_TIMEOUT)),
            transport_socket: self.transport_socket,
            ..envoy::FilterChain::default()
        }
    }
}

fn cidr_range(network: &IpNet) -> core::CidrRange {
    core::CidrRange { address_prefix: network.addr().to_string(), prefix_len: Some(network.prefix_len().into()) }
}

/// The filter chains of one listener. If two match the same connections, the first gets them, because Envoy refuses a
/// listener with two chains of the same match.
#[derive(Debug, Default)]
pub(in crate::translate::listener) struct Chains {
    chains: Vec<Chain>,
    /// Networks and server names that a chain matches; `None` means any.
    taken: HashSet<(Option<IpNet>, Option<String>)>,
}

impl Chains {
    pub(in crate::translate::listener) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Adds a chain for those of its connections that no earlier chain matches.
    pub(in crate::translate::listener) fn add(&mut self, mut chain: Chain) {
        if chain.server_names.iter().any(|name| name == "*") {
            chain.server_names.clear();
        }
        chain.prefix_ranges.retain(|network| network.prefix_len() > 0);
        let networks = or_any(&chain.prefix_ranges);
        let free_names: Vec<_> = or_any(&chain.server_names)
            .into_iter()
            .filter(|name| networks.iter().any(|network| !self.taken.contains(&(*network, name.clone()))))
            .collect();
        let is_free =
            |network: &Option<IpNet>| free_names.iter().all(|name| !self.taken.contains(&(*network, name.clone())));
        let free_networks: Vec<_> = networks.into_iter().filter(is_free).collect();
        if free_names.is_empty() || free_networks.is_empty() {
            return;
        }
        for network in &free_networks {
            self.taken.extend(free_names.iter().map(|name| (*network, name.clone())));
        }
        chain.server_names = free_names.into_iter().flatten().collect();
        chain.prefix_ranges = free_networks.into_iter().flatten().collect();
        self.chains.push(chain);
    }

    /// The listener. Connections that no other chain matches go to the chain that matches every connection, or else to
    /// `otherwise`, or else they are closed.
    pub(in crate::translate::listener) fn build(
        self,
        side: Side,
        address: &str,
        port: u16,
        otherwise: Option<envoy::FilterChain>,
    ) -> envoy::Listener {
        let needs_server_name = self.chains.iter().any(|chain| !chain.server_names.is_empty());
        let (mut match_all, others): (Vec<_>, Vec<_>) = self.chains.into_iter().partition(Chain::is_match_all);
        let mut filter_chains: Vec<_> = others.into_iter().map(Chain::build).collect();
        let mut default_filter_chain = match_all.pop().map(Chain::build);
        if filter_chains.is_empty() {
            filter_chains.extend(default_filter_chain.take());
        } else {
            default_filter_chain = default_filter_chain.or(otherwise);
        }
        let mut listener = listener(side, address, port, filter_chains);
        listener.default_filter_chain = default_filter_chain;
        if needs_server_name {
            listener.listener_filters.push(tls_inspector());
        }
        listener
    }
}

/// The items, or `None` for any if there are none; sorted and without duplicates.
fn or_any<T: Clone + Ord>(items: &[T]) -> Vec<Option<T>> {
    if items.is_empty() {
        return vec![None];
    }
    let sorted: BTreeSet<_> = items.iter().cloned().collect();
    sorted.into_iter().map(Some).collect()
}

/// The listener filter that finds the server name of TLS connections.
pub(in crate::translate::listener) fn tls_inspector() -> envoy::ListenerFilter {
    let config = tls_inspector::TlsInspector {
        initial_read_buffer_size: Some(INITIAL_READ_BUFFER_SIZE),
        ..tls_inspector::TlsInspector::default()
    };
    envoy::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&config))),
        ..envoy::ListenerFilter::default()
    }
}
