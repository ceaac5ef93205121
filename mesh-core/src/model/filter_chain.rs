//! Filter chains of a listener. Envoy `listener.v3.FilterChain`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ipnet::IpNet;

use super::{DownstreamTlsContext, HttpConnectionManager, TcpProxy};
use crate::filter::{ext_authz::NetworkExtAuthz, rbac::NetworkRbac};

/// The transport socket and the filters of the connections that it matches.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FilterChain {
    /// Name in logs and messages; may be empty.
    pub name: Arc<str>,
    /// The connections that it matches.
    pub filter_chain_match: FilterChainMatch,
    /// The security of the connections.
    pub transport_socket: DownstreamTransportSocket,
    /// How long its handshake may take; `None` = as long as the listener filters. Envoy `transport_socket_connect_timeout`.
    pub transport_socket_connect_timeout: Option<Duration>,
    /// The filters, in order; the last is the one that [ends the chain](NetworkFilter::is_terminal).
    pub filters: Vec<NetworkFilter>,
}

/// The criteria of a filter chain. An empty list or `None` matches every connection.
///
/// The criteria are applied in the order of the fields, each with the most specific value first: a connection is
/// matched with the chains of its destination port, or else with those without one; among these with those of the
/// longest prefix of its destination address; and so on. There is no backtracking: a chain that an earlier criterion
/// has excluded is not used even if no other chain matches a later one. Envoy `listener.v3.FilterChainMatch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterChainMatch {
    /// Destination port of the connection.
    pub destination_port: Option<u16>,
    /// Networks of the destination address; the longest prefix wins.
    pub prefix_ranges: Vec<IpNet>,
    /// Server names that the client requests, in lower case: the whole name, or a suffix such as `*.example.com`; the
    /// whole name wins, then the longest suffix.
    pub server_names: Vec<Arc<str>>,
    /// The protocol of the connection's first bytes.
    pub transport_protocol: Option<TransportProtocol>,
    /// Application protocols, such as `h2`, of which the connection offers one.
    pub application_protocols: Vec<Arc<str>>,
    /// Networks of the peer's address, even if the peer is a proxy that passes on another client address.
    pub direct_source_prefix_ranges: Vec<IpNet>,
    /// Whether the client is on this machine.
    pub source_type: SourceType,
    /// Networks of the client's address; the longest prefix wins.
    pub source_prefix_ranges: Vec<IpNet>,
    /// Ports of the client.
    pub source_ports: Vec<u16>,
}

/// The protocol of the first bytes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// Not TLS, or not inspected by a listener filter. Envoy `raw_buffer`.
    #[default]
    RawBuffer,
    /// A TLS client hello. Envoy `tls`.
    Tls,
}

/// The source of a connection. Envoy `FilterChainMatch.ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Anywhere.
    #[default]
    Any,
    /// This machine: a loopback address, or the destination address.
    SameIpOrLoopback,
    /// Another machine.
    External,
}

/// The security of the connections of a filter chain. Envoy `FilterChain.transport_socket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DownstreamTransportSocket {
    /// No security. Envoy `raw_buffer`.
    #[default]
    PlainText,
    /// TLS. Envoy `tls`.
    Tls(Arc<DownstreamTlsContext>),
}

/// A filter of a filter chain. Envoy `listener.v3.Filter`.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// Serves HTTP.
    HttpConnectionManager(Arc<HttpConnectionManager>),
    /// Passes bytes to a cluster.
    TcpProxy(Arc<TcpProxy>),
    /// Allows or denies connections, before another filter serves them.
    Rbac(Arc<NetworkRbac>),
    /// Asks a service whether connections are allowed, before another filter serves them.
    ExtAuthz(Arc<NetworkExtAuthz>),
    /// Sends these bytes to the client and closes the connection. Envoy `filters.network.direct_response.v3.Config`.
    DirectResponse(Bytes),
    /// Sends back what the client sends. Envoy `filters.network.echo.v3.Echo`.
    Echo,
}

impl NetworkFilter {
    /// Whether it serves connections to their end, so that no filter follows.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::HttpConnectionManager(_) | Self::TcpProxy(_) | Self::DirectResponse(_) | Self::Echo => true,
            Self::Rbac(_) | Self::ExtAuthz(_) => false,
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
            transport_socket_connect_timeout: None,
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

    /// Sets the connections that it matches.
    #[must_use]
    pub fn matching(mut self, filter_chain_match: FilterChainMatch) -> Self {
        self.filter_chain_match = filter_chain_match;
        self
    }

    /// Sets the name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// The TLS of its connections, if they have any.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<DownstreamTlsContext>> {
        match &self.transport_socket {
            DownstreamTransportSocket::PlainText => None,
            DownstreamTransportSocket::Tls(context) => Some(context),
        }
    }

    /// The HTTP connection manager that serves the connections, if it is one.
    #[must_use]
    pub fn http_connection_manager(&self) -> Option<&Arc<HttpConnectionManager>> {
        match self.filters.last()? {
            NetworkFilter::HttpConnectionManager(http) => Some(http),
            NetworkFilter::TcpProxy(_)
            | NetworkFilter::Rbac(_)
            | NetworkFilter::ExtAuthz(_)
            | NetworkFilter::DirectResponse(_)
            | NetworkFilter::Echo => None,
        }
    }
}
