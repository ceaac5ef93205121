//! Listeners. Envoy `listener.v3.Listener`.

use std::{net::SocketAddr, sync::Arc};

use super::HttpConnectionManager;

/// A place where requests come in. In this version every connection of a listener is served alike: filter chain
/// matching, TLS and TCP proxying are refused when a configuration is decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique name, such as `0.0.0.0_9080`.
    pub name: Arc<str>,
    /// Where requests come in.
    pub address: ListenerAddress,
    /// Which way traffic goes, for telemetry.
    pub traffic_direction: TrafficDirection,
    /// Prefix of statistics; defaults to the address. Envoy `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// How connections are served.
    pub http: Arc<HttpConnectionManager>,
}

/// Where requests come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerAddress {
    /// A TCP socket; port 0 = one chosen by the system.
    Socket(SocketAddr),
    /// In process: a library's channel to the target of this listener's name. Envoy `api_listener`.
    Api,
}

/// Which way traffic goes. Envoy `core.v3.TrafficDirection`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficDirection {
    /// Not said; a gateway.
    #[default]
    Unspecified,
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}
