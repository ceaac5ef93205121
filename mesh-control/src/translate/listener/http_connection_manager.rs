//! The HTTP connection manager, and listeners that consist of one.

use crate::translate::proto::{
    TypedStruct, ads, any, core, fault, http, list, listener as envoy, object, route, router, socket_address, structure,
};
use core::TrafficDirection;
use http::http_connection_manager::{RouteSpecifier, UpgradeConfig};
use prost_types::Struct;

/// Name of the network filter.
const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// Istio's filter is no part of Envoy's API, so its configuration goes as JSON.
const PEER_METADATA_TYPE_URL: &str = "type.googleapis.com/io.istio.http.peer_metadata.Config";
/// `server` of everything that a proxy answers for its workload or at the edge.
const SERVER_NAME: &str = "istio-envoy";

/// Which way requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
    /// From outside into the mesh.
    Edge,
}

/// Routes by name, over ADS.
pub(super) fn rds(route_config_name: String) -> RouteSpecifier {
    RouteSpecifier::Rds(http::Rds { config_source: Some(ads()), route_config_name })
}

/// Routes in the listener itself.
pub(super) fn inline(routes: route::RouteConfiguration) -> RouteSpecifier {
    RouteSpecifier::RouteConfig(routes)
}

/// A manager with Istio's settings. `stat_prefix` is `inbound_ADDRESS_PORT` and so on.
pub(super) fn manager(side: Side, stat_prefix: String, routes: RouteSpecifier) -> http::HttpConnectionManager {
    http::HttpConnectionManager {
        stat_prefix,
        http_filters: http_filters(side),
        server_name: if side == Side::Outbound { String::new() } else { SERVER_NAME.to_owned() },
        // Only at the edge is the connection's address the client's.
        use_remote_address: Some(side == Side::Edge),
        normalize_path: Some(true),
        stream_idle_timeout: Some(prost_types::Duration::default()),
        proxy_100_continue: true,
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() }],
        route_specifier: Some(routes),
        ..http::HttpConnectionManager::default()
    }
}

/// Istio's exchange of peer metadata, then faults, then the router, which must be last.
pub(super) fn http_filters(side: Side) -> Vec<http::HttpFilter> {
    vec![
        peer_metadata(side),
        filter("envoy.filters.http.fault", any(&fault::HttpFault::default())),
        filter("envoy.filters.http.router", any(&router::Router::default())),
    ]
}

fn filter(name: &str, config: prost_types::Any) -> http::HttpFilter {
    http::HttpFilter {
        name: name.to_owned(),
        config_type: Some(http::http_filter::ConfigType::TypedConfig(config)),
        ..http::HttpFilter::default()
    }
}

/// A workload reads who calls it and answers; whoever sends requests, the edge included, says who it is and reads who
/// answers. Workloads that do not say it are looked up by address, in a mesh that can.
fn peer_metadata(side: Side) -> http::HttpFilter {
    let method = |name: &str| object([(name, structure(Struct::default()))]);
    let (discovery, propagation) = match side {
        Side::Inbound => ("downstream_discovery", "downstream_propagation"),
        Side::Outbound | Side::Edge => ("upstream_discovery", "upstream_propagation"),
    };
    let value = object([
        (discovery, list(vec![method("istio_headers"), method("workload_discovery")])),
        (propagation, list(vec![method("istio_headers")])),
    ]);
    let config = TypedStruct { type_url: PEER_METADATA_TYPE_URL.to_owned(), value: Some(value) };
    filter("istio.metadata_exchange", any(&config))
}

/// A chain with the manager as its only filter.
pub(super) fn filter_chain(manager: &http::HttpConnectionManager) -> envoy::FilterChain {
    let filter = envoy::Filter {
        name: HTTP_CONNECTION_MANAGER.to_owned(),
        config_type: Some(envoy::filter::ConfigType::TypedConfig(any(manager))),
    };
    envoy::FilterChain { filters: vec![filter], ..envoy::FilterChain::default() }
}

/// A listener on an address and port.
pub(super) fn listener(
    side: Side,
    address: &str,
    port: u16,
    filter_chains: Vec<envoy::FilterChain>,
) -> envoy::Listener {
    let direction = if side == Side::Inbound { TrafficDirection::Inbound } else { TrafficDirection::Outbound };
    envoy::Listener {
        name: crate::translate::names::listener(address, port),
        address: Some(socket_address(address, port)),
        filter_chains,
        traffic_direction: direction.into(),
        ..envoy::Listener::default()
    }
}
