//! Filter chains of a listener. Envoy `listener.v3.FilterChain`.

use std::sync::Arc;

use ipnet::IpNet;

use super::{HttpConnectionManager, TcpProxy};

/// How the connections that it matches are secured and served.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FilterChain {
    /// Name in logs and messages; may be empty.
    pub name: Arc<str>,
    /// Which connections.
    pub filter_chain_match: FilterChainMatch,
    /// How they are secured.
    pub transport_socket: DownstreamTransportSocket,
    /// What serves them, in order; the last is the one that [ends the chain](NetworkFilter::is_terminal).
    pub filters: Vec<NetworkFilter>,
}

/// Which connections a filter chain takes. An empty list or `None` matches every connection.
///
/// The criteria are looked at in the order of the fields, and each by the most specific value first: a connection goes
/// to the chains with its destination port, or else to those without one; among these to those with the longest prefix
/// of its destination address; and so on. There is no way back: a chain that was left behind by an earlier criterion is
/// not taken because no other matches a later one. Envoy `listener.v3.FilterChainMatch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterChainMatch {
    /// Port that the connection was made to.
    pub destination_port: Option<u16>,
    /// Networks of the address that the connection was made to; the longest wins.
    pub prefix_ranges: Vec<IpNet>,
    /// Server names that the client requests, in lower case: the whole name, or a suffix such as `*.example.com`; the
    /// whole name wins, then the longest suffix.
    pub server_names: Vec<Arc<str>>,
    /// What the connection's first bytes are.
    pub transport_protocol: Option<TransportProtocol>,
    /// Application protocols, such as `h2`, of which the connection offers one.
    pub application_protocols: Vec<Arc<str>>,
    /// Networks of the address of the peer of the connection, even if a proxy passes on another client address.
    pub direct_source_prefix_ranges: Vec<IpNet>,
    /// Whether the connection comes from this machine.
    pub source_type: SourceType,
    /// Networks of the client's address; the longest wins.
    pub source_prefix_ranges: Vec<IpNet>,
    /// Ports of the client.
    pub source_ports: Vec<u16>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// Not TLS, or no listener filter has looked. Envoy `raw_buffer`.
    #[default]
    RawBuffer,
    /// A TLS client hello. Envoy `tls`.
    Tls,
}

/// Where a connection comes from. Envoy `FilterChainMatch.ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Anywhere.
    #[default]
    Any,
    /// This machine: from a loopback address, or from the address that it goes to.
    SameIpOrLoopback,
    /// Another machine.
    External,
}

/// How the connections of a filter chain are secured. Envoy `FilterChain.transport_socket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DownstreamTransportSocket {
    /// They are not: bytes are taken as they come. Envoy `raw_buffer`.
    #[default]
    PlainText,
}

/// What a connection passes. Envoy `listener.v3.Filter`.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// Serves HTTP.
    HttpConnectionManager(Arc<HttpConnectionManager>),
    /// Passes bytes to a cluster.
    TcpProxy(Arc<TcpProxy>),
}

impl NetworkFilter {
    /// Whether it serves connections to their end, so that no filter follows.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::HttpConnectionManager(_) | Self::TcpProxy(_) => true,
        }
    }
}

impl FilterChain {
    /// A chain for every connection, in plain text, with these filters.
    #[must_use]
    pub fn new(filters: Vec<NetworkFilter>) -> Self {
        Self {
            name: "".into(),
            filter_chain_match: FilterChainMatch::default(),
            transport_socket: DownstreamTransportSocket::PlainText,
            filters,
        }
    }

    /// A chain for every connection, in plain text, that serves HTTP.
    #[must_use]
    pub fn http(http: impl Into<Arc<HttpConnectionManager>>) -> Self {
        Self::new(vec![NetworkFilter::HttpConnectionManager(http.into())])
    }

    /// A chain for every connection, in plain text, that passes bytes to a cluster.
    #[must_use]
    pub fn tcp_proxy(proxy: impl Into<Arc<TcpProxy>>) -> Self {
        Self::new(vec![NetworkFilter::TcpProxy(proxy.into())])
    }

    /// The same for other connections.
    #[must_use]
    pub fn matching(mut self, filter_chain_match: FilterChainMatch) -> Self {
        self.filter_chain_match = filter_chain_match;
        self
    }

    /// The same with this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// The HTTP connection manager that serves the connections, if it is one.
    #[must_use]
    pub fn http_connection_manager(&self) -> Option<&Arc<HttpConnectionManager>> {
        match self.filters.last()? {
            NetworkFilter::HttpConnectionManager(http) => Some(http),
            NetworkFilter::TcpProxy(_) => None,
        }
    }
}
