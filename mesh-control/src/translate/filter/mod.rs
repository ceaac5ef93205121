//! The filters of a node's listeners.
//!
//! Every listener of a node takes its filters from here. A filter has a file, which adds it to a chain and says what
//! the rules of VirtualServices configure for it. It gets the [`View`] of the node, so a kind of resource that selects
//! workloads adds its filters like any other: for the resources of `view.mesh.config` that select the node. The order
//! of the tables below is that of Istio's proxies.

pub(super) mod authorization;
mod cors;
pub(super) mod fault;
mod mongo;
pub(super) mod peer_metadata;
pub(super) mod request_authentication;
mod router;

use std::collections::BTreeMap;

use prost_types::Any;

use super::proto::{http, listener};
use super::view::View;
use crate::config::{HttpRoute, Protocol};
use mesh_core::node::Role;

/// The direction of requests and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
    /// From outside into the mesh.
    Edge,
}

/// Adds the filters of one concern to the chain of a connection manager.
type AddHttpFilters = fn(&View<'_>, Side, &mut Vec<http::HttpFilter>);

/// HTTP filters, in the order in which requests pass them.
const HTTP_FILTERS: &[AddHttpFilters] = &[
    peer_metadata::add_http,
    authorization::add_custom_http,
    request_authentication::add_http,
    authorization::add_http,
    fault::add_http,
    cors::add_http,
    router::add_http,
];

/// A chain that ends in a TCP proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpChain<'a> {
    /// Protocol of the port.
    pub(super) protocol: Protocol,
    /// Prefix of the statistics of the TCP proxy.
    pub(super) stat_prefix: &'a str,
}

/// Adds the filters of one concern to a chain, in front of the TCP proxy.
type AddNetworkFilters = fn(&View<'_>, Side, &TcpChain<'_>, &mut Vec<listener::Filter>);

/// Network filters, in the order in which connections pass them.
const NETWORK_FILTERS: &[AddNetworkFilters] =
    &[authorization::add_custom_network, authorization::add_network, mongo::add_network];

/// The name of a filter and its configuration for the routes of a rule; `None` if the rule does not configure it.
type ConfigureRoute = fn(&HttpRoute) -> Option<(&'static str, Any)>;

/// Filters that the rules of VirtualServices configure.
const ROUTE_CONFIGS: &[ConfigureRoute] = &[fault::configure_route, cors::configure_route];

/// Filters that every gRPC client supports, or every gRPC server. gRFC A33, gRFC A39, gRFC A41.
const KNOWN_TO_GRPC: [&str; 3] = [authorization::HTTP_NAME, fault::NAME, router::NAME];

/// Filters that refuse requests, and that not every gRPC server supports.
const SECURITY: [&str; 2] = [authorization::EXT_AUTHZ_NAME, request_authentication::NAME];

/// The HTTP filters of the node's connection managers on a side.
pub(super) fn http_filters(view: &View<'_>, side: Side) -> Vec<http::HttpFilter> {
    let mut filters = Vec::new();
    for add in HTTP_FILTERS {
        add(view, side, &mut filters);
    }
    if view.node.role == Role::Library {
        // A gRPC client refuses a listener with an unknown filter, unless the filter is optional. One that refuses requests
        // never is.
        for filter in &mut filters {
            let name = filter.name.as_str();
            let is_known = KNOWN_TO_GRPC.iter().any(|known| name.starts_with(known));
            filter.is_optional = !is_known && !SECURITY.contains(&name);
        }
    }
    filters
}

/// The filters of one of the node's chains on a side, in front of the TCP proxy.
pub(super) fn network_filters(view: &View<'_>, side: Side, chain: &TcpChain<'_>) -> Vec<listener::Filter> {
    let mut filters = Vec::new();
    for add in NETWORK_FILTERS {
        add(view, side, chain, &mut filters);
    }
    filters
}

/// What a rule configures for its routes, by the names of the filters.
pub(super) fn route_configs(rule: &HttpRoute) -> BTreeMap<String, Any> {
    let configs = ROUTE_CONFIGS.iter().filter_map(|configure| configure(rule));
    configs.map(|(name, config)| (name.to_owned(), config)).collect()
}

fn http_filter(name: &str, config: Any) -> http::HttpFilter {
    http::HttpFilter {
        name: name.to_owned(),
        config_type: Some(http::http_filter::ConfigType::TypedConfig(config)),
        ..http::HttpFilter::default()
    }
}

/// A network filter with its configuration.
pub(super) fn network_filter(name: &str, config: Any) -> listener::Filter {
    listener::Filter { name: name.to_owned(), config_type: Some(listener::filter::ConfigType::TypedConfig(config)) }
}
