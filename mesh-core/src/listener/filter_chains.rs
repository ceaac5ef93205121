//! The filter chains of a listener, indexed by what they match.
//!
//! The index has one level per criterion, in Envoy's order; each level chooses the most specific value that matches.
//! There is no backtracking: if a later criterion does not match, the default chain takes the connection. Envoy
//! `config.listener.v3.FilterChainMatch`, gRFC A36.

use std::{net::SocketAddr, sync::Arc};

use hashbrown::HashMap;
use thiserror::Error;

use super::{
    ConnectionFacts,
    networks::{EVERYWHERE, Networks},
};
use crate::model::{FilterChainMatch, Listener, SourceType, TransportProtocol};

/// Finds the filter chain of a connection.
#[derive(Clone, Debug)]
pub struct FilterChainIndex {
    levels: Levels,
    /// Position of the default chain.
    default: Option<usize>,
}

/// The order of specificity.
type Levels = DestinationPort<
    DestinationNetwork<
        ServerName<
            TransportProtocols<
                ApplicationProtocol<DirectSourceNetwork<SourceTypes<SourceNetwork<SourcePort<FilterChainId>>>>>,
            >,
        >,
    >,
>;

/// Two filter chains of a listener match the same connections.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("filter_chains[{later}] matches connections that filter_chains[{earlier}] matches too")]
pub struct OverlappingFilterChains {
    /// Position of the first chain.
    pub earlier: usize,
    /// Position of the second chain.
    pub later: usize,
}

impl FilterChainIndex {
    /// Indexes the filter chains of `listener`.
    ///
    /// # Errors
    /// If two chains match the same connections equally well.
    pub fn new(listener: &Listener) -> Result<Self, OverlappingFilterChains> {
        let mut levels = Levels::default();
        for (later, chain) in listener.filter_chains.iter().enumerate() {
            let inserted = levels.insert(&chain.filter_chain_match, later);
            inserted.map_err(|earlier| OverlappingFilterChains { earlier, later })?;
        }
        let default = listener.default_filter_chain.as_ref().map(|_| listener.filter_chains.len());
        Ok(Self { levels, default })
    }

    /// The position of the connection's filter chain in [`Listener::all_filter_chains`]; `None` = no chain takes it.
    #[must_use]
    pub fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        self.levels.find(connection).or(self.default)
    }
}

/// One criterion, and those that follow.
trait Level: Default {
    /// Inserts a chain under each of its values; fails with the chain that is already there.
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize>;

    /// The chain of the most specific value.
    fn find(&self, connection: &ConnectionFacts) -> Option<usize>;
}

/// The end of the levels.
#[derive(Clone, Debug, Default)]
struct FilterChainId(Option<usize>);

impl Level for FilterChainId {
    fn insert(&mut self, _: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        match self.0.replace(chain) {
            // A chain may list the same value twice.
            Some(other) if other != chain => Err(other),
            _ => Ok(()),
        }
    }

    fn find(&self, _: &ConnectionFacts) -> Option<usize> {
        self.0
    }
}

/// Chains by port; those without one under `None`.
#[derive(Clone, Debug, Default)]
struct DestinationPort<N>(HashMap<Option<u16>, N>);

impl<N: Level> Level for DestinationPort<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        self.0.entry(rule.destination_port).or_default().insert(rule, chain)
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        let of_port = connection.destination.and_then(|address| self.0.get(&Some(address.port())));
        of_port.or_else(|| self.0.get(&None))?.find(connection)
    }
}

#[derive(Clone, Debug, Default)]
struct DestinationNetwork<N>(Networks<N>);

impl<N: Level> Level for DestinationNetwork<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        insert_networks(&mut self.0, &rule.prefix_ranges, rule, chain)
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        self.0.find(ip(connection.destination))?.find(connection)
    }
}

/// Chains by server name, by suffix with its leading dot, and those for every name under the empty string.
#[derive(Clone, Debug, Default)]
struct ServerName<N>(HashMap<Arc<str>, N>);

impl<N: Level> Level for ServerName<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        let every = [Arc::from("")];
        let names = if rule.server_names.is_empty() { &every[..] } else { &rule.server_names };
        names.iter().try_for_each(|name| {
            let key = name.strip_prefix('*').map_or_else(|| Arc::clone(name), Arc::from);
            self.0.entry(key).or_default().insert(rule, chain)
        })
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        let name = connection.server_name.as_deref().unwrap_or_default();
        let suffixes = name.char_indices().skip(1).filter(|(_, letter)| *letter == '.').map(|(at, _)| &name[at..]);
        std::iter::once(name).chain(suffixes).chain([""]).find_map(|name| self.0.get(name))?.find(connection)
    }
}

/// Chains by transport protocol; those for all of them under `None`.
#[derive(Clone, Debug, Default)]
struct TransportProtocols<N>(HashMap<Option<TransportProtocol>, N>);

impl<N: Level> Level for TransportProtocols<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        self.0.entry(rule.transport_protocol).or_default().insert(rule, chain)
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        let of_protocol = self.0.get(&Some(connection.transport_protocol));
        of_protocol.or_else(|| self.0.get(&None))?.find(connection)
    }
}

/// Chains by application protocol; those for all of them under the empty string.
#[derive(Clone, Debug, Default)]
struct ApplicationProtocol<N>(HashMap<Arc<str>, N>);

impl<N: Level> Level for ApplicationProtocol<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        let every = [Arc::from("")];
        let protocols = if rule.application_protocols.is_empty() { &every[..] } else { &rule.application_protocols };
        let mut protocols = protocols.iter();
        protocols.try_for_each(|protocol| self.0.entry(Arc::clone(protocol)).or_default().insert(rule, chain))
    }

    /// Prefers the protocol that the client lists first.
    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        let mut offered = connection.application_protocols.iter();
        offered.find_map(|protocol| self.0.get(protocol)).or_else(|| self.0.get(""))?.find(connection)
    }
}

#[derive(Clone, Debug, Default)]
struct DirectSourceNetwork<N>(Networks<N>);

impl<N: Level> Level for DirectSourceNetwork<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        insert_networks(&mut self.0, &rule.direct_source_prefix_ranges, rule, chain)
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        self.0.find(ip(connection.direct_source))?.find(connection)
    }
}

#[derive(Clone, Debug, Default)]
struct SourceTypes<N>(HashMap<SourceType, N>);

impl<N: Level> Level for SourceTypes<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        self.0.entry(rule.source_type).or_default().insert(rule, chain)
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        let is_local = connection.is_same_ip_or_loopback();
        let source_type = if is_local { SourceType::SameIpOrLoopback } else { SourceType::External };
        self.0.get(&source_type).or_else(|| self.0.get(&SourceType::Any))?.find(connection)
    }
}

#[derive(Clone, Debug, Default)]
struct SourceNetwork<N>(Networks<N>);

impl<N: Level> Level for SourceNetwork<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        insert_networks(&mut self.0, &rule.source_prefix_ranges, rule, chain)
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        self.0.find(ip(connection.source))?.find(connection)
    }
}

/// Chains by port; those for every port under `None`.
#[derive(Clone, Debug, Default)]
struct SourcePort<N>(HashMap<Option<u16>, N>);

impl<N: Level> Level for SourcePort<N> {
    fn insert(&mut self, rule: &FilterChainMatch, chain: usize) -> Result<(), usize> {
        if rule.source_ports.is_empty() {
            return self.0.entry(None).or_default().insert(rule, chain);
        }
        rule.source_ports.iter().try_for_each(|port| self.0.entry(Some(*port)).or_default().insert(rule, chain))
    }

    fn find(&self, connection: &ConnectionFacts) -> Option<usize> {
        let of_port = connection.source.and_then(|address| self.0.get(&Some(address.port())));
        of_port.or_else(|| self.0.get(&None))?.find(connection)
    }
}

fn insert_networks<N: Level>(
    level: &mut Networks<N>,
    networks: &[ipnet::IpNet],
    rule: &FilterChainMatch,
    chain: usize,
) -> Result<(), usize> {
    let networks = if networks.is_empty() { &EVERYWHERE } else { networks };
    networks.iter().try_for_each(|network| level.entry(*network).insert(rule, chain))
}

fn ip(address: Option<SocketAddr>) -> Option<std::net::IpAddr> {
    address.map(|address| address.ip())
}
