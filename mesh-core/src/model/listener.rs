//! Listeners. Envoy `listener.v3.Listener`.
//!
//! A listener accepts connections, its listener filters inspect their first bytes, and one of its filter chains is
//! chosen by what is then known about the connection. The chain has a transport socket and the filters that serve it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    AccessLog, FilterChain, HttpConnectionManager, ListenerFilter, ListenerFilterConfig, NetworkFilter, TcpProxy,
};

/// Accepts connections or requests, and serves them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Listener {
    /// Unique name, such as `0.0.0.0_9080`.
    pub name: Arc<str>,
    /// The address on which it accepts connections or requests.
    pub address: ListenerAddress,
    /// Whether it has sockets. Without, it serves connections that another listener with `use_original_dst` hands to it, because they
    /// were made to its address. Default true.
    pub bind_to_port: bool,
    /// Connections that were redirected to this listener are handed to the listener of the address that they were made to, or
    /// to the one of that port on all addresses. If there is none, this one serves them. Default false.
    pub use_original_dst: bool,
    /// The direction of its traffic, for telemetry. Default unspecified.
    pub traffic_direction: TrafficDirection,
    /// Prefix of statistics; defaults to the address. Envoy `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Filters that inspect the first bytes of each connection, in order. Default none.
    pub listener_filters: Vec<ListenerFilter>,
    /// Timeout of the listener filters of a connection; `None` = unlimited. Default 15 s.
    pub listener_filters_timeout: Option<Duration>,
    /// Serve a connection whose listener filters have timed out, with their results so far. Default false: it is
    /// closed.
    pub continue_on_listener_filters_timeout: bool,
    /// The filter chains, of which the one with the most specific match serves a connection.
    pub filter_chains: Vec<FilterChain>,
    /// The filter chain of connections that no other chain matches; its own match is ignored. `None` = they are closed.
    pub default_filter_chain: Option<FilterChain>,
    /// Access logs written at the end of each connection. Default none.
    pub access_log: Vec<AccessLog>,
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerAddress {
    /// A TCP socket; port 0 = one chosen by the system.
    Socket(SocketAddr),
    /// In process: a library's channel to the target of this listener's name. Envoy `api_listener`.
    Api,
}

/// The direction of traffic. Envoy `core.v3.TrafficDirection`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficDirection {
    /// Not specified, as on gateways.
    #[default]
    Unspecified,
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

impl Listener {
    /// A listener without filter chains, with Envoy's defaults.
    #[must_use]
    pub fn new(name: &str, address: ListenerAddress) -> Self {
        let stat_prefix = match &address {
            ListenerAddress::Socket(socket) => socket.to_string().into(),
            ListenerAddress::Api => name.into(),
        };
        Self {
            name: name.into(),
            address,
            bind_to_port: true,
            use_original_dst: false,
            traffic_direction: TrafficDirection::Unspecified,
            stat_prefix,
            listener_filters: Vec::new(),
            listener_filters_timeout: Some(Duration::from_secs(15)),
            continue_on_listener_filters_timeout: false,
            filter_chains: Vec::new(),
            default_filter_chain: None,
            access_log: Vec::new(),
        }
    }

    /// A listener on a TCP socket all of whose connections are HTTP.
    #[must_use]
    pub fn http(name: &str, address: SocketAddr, http: impl Into<Arc<HttpConnectionManager>>) -> Self {
        Self::new(name, ListenerAddress::Socket(address)).with_filter_chain(FilterChain::http(http))
    }

    /// A listener without a socket, for a library's channel to the target of this name.
    #[must_use]
    pub fn api(name: &str, http: impl Into<Arc<HttpConnectionManager>>) -> Self {
        Self::new(name, ListenerAddress::Api)
            .with_traffic_direction(TrafficDirection::Outbound)
            .with_filter_chain(FilterChain::http(http))
    }

    /// Whether the address is found out that connections were made to before they were redirected to this process.
    #[must_use]
    pub fn restores_destination(&self) -> bool {
        let is_original_dst = |filter: &ListenerFilter| filter.config == ListenerFilterConfig::OriginalDst;
        self.use_original_dst || self.listener_filters.iter().any(is_original_dst)
    }

    /// Sets the direction of its traffic.
    #[must_use]
    pub fn with_traffic_direction(mut self, direction: TrafficDirection) -> Self {
        self.traffic_direction = direction;
        self
    }

    /// Sets the prefix of statistics.
    #[must_use]
    pub fn with_stat_prefix(mut self, stat_prefix: &str) -> Self {
        self.stat_prefix = stat_prefix.into();
        self
    }

    /// Adds a filter chain.
    #[must_use]
    pub fn with_filter_chain(mut self, chain: FilterChain) -> Self {
        self.filter_chains.push(chain);
        self
    }

    /// Replaces every HTTP connection manager by the result of `f`.
    #[must_use]
    pub fn map_http(mut self, mut f: impl FnMut(&HttpConnectionManager) -> HttpConnectionManager) -> Self {
        for chain in self.filter_chains.iter_mut().chain(&mut self.default_filter_chain) {
            for filter in &mut chain.filters {
                if let NetworkFilter::HttpConnectionManager(http) = filter {
                    *http = Arc::new(f(http));
                }
            }
        }
        self
    }

    /// All filter chains, the default one last.
    pub fn all_filter_chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.filter_chains.iter().chain(&self.default_filter_chain)
    }

    /// The names of the secrets that its transport sockets refer to.
    pub fn secret_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all_filter_chains().filter_map(FilterChain::tls).flat_map(|tls| tls.common.secret_names())
    }

    /// The HTTP connection managers of all filter chains.
    pub fn http_connection_managers(&self) -> impl Iterator<Item = &Arc<HttpConnectionManager>> {
        self.all_filter_chains().filter_map(FilterChain::http_connection_manager)
    }

    /// The TCP proxies of all filter chains.
    pub fn tcp_proxies(&self) -> impl Iterator<Item = &Arc<TcpProxy>> {
        self.all_filter_chains().flat_map(|chain| &chain.filters).filter_map(|filter| match filter {
            NetworkFilter::TcpProxy(proxy) => Some(proxy),
            NetworkFilter::HttpConnectionManager(_)
            | NetworkFilter::Rbac(_)
            | NetworkFilter::ExtAuthz(_)
            | NetworkFilter::DirectResponse(_)
            | NetworkFilter::Echo => None,
        })
    }

    /// The HTTP connection manager of an API listener, or of a listener that has only one filter chain.
    #[must_use]
    pub fn http_connection_manager(&self) -> Option<&Arc<HttpConnectionManager>> {
        let mut chains = self.all_filter_chains();
        match (chains.next(), chains.next()) {
            (Some(chain), None) => chain.http_connection_manager(),
            _ => None,
        }
    }
}
