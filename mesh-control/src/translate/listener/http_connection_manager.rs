//! The HTTP connection manager, and listeners that consist of one.

use mesh_core::node::Role;

use crate::config::PathNormalization;
use crate::translate::filter::{Side, http_filters, network_filter};
use crate::translate::names;
use crate::translate::proto::{ads, any, core, http, listener as envoy, route, socket_address};
use crate::translate::view::View;
use core::TrafficDirection;
use http::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails, UpgradeConfig,
};

/// Name of the network filter.
const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// The header `server` of responses on the inbound side and at the edge.
const SERVER_NAME: &str = "istio-envoy";

/// Routes by name, over ADS.
pub(super) fn rds(route_config_name: String) -> RouteSpecifier {
    RouteSpecifier::Rds(http::Rds { config_source: Some(ads()), route_config_name })
}

/// Routes in the listener itself.
pub(super) fn inline(routes: route::RouteConfiguration) -> RouteSpecifier {
    RouteSpecifier::RouteConfig(routes)
}

/// A manager with Istio's settings. `stat_prefix` is `inbound_ADDRESS_PORT` and so on.
pub(super) fn manager(
    view: &View<'_>,
    side: Side,
    stat_prefix: String,
    routes: RouteSpecifier,
) -> http::HttpConnectionManager {
    let normalization = view.mesh.config.mesh_config.path_normalization;
    let merges = matches!(normalization, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes);
    let escaped = match normalization {
        PathNormalization::DecodeAndMergeSlashes => PathWithEscapedSlashesAction::UnescapeAndForward,
        _ => PathWithEscapedSlashesAction::default(),
    };
    let (forwarded, details) = client_certificate(view, side);
    http::HttpConnectionManager {
        stat_prefix,
        http_filters: http_filters(view, side),
        server_name: if side == Side::Outbound { String::new() } else { SERVER_NAME.to_owned() },
        forward_client_cert_details: forwarded.into(),
        set_current_client_cert_details: details,
        // Only at the edge is the connection's address the client's.
        use_remote_address: Some(side == Side::Edge),
        normalize_path: Some(normalization != PathNormalization::None),
        merge_slashes: merges,
        path_with_escaped_slashes_action: escaped.into(),
        stream_idle_timeout: Some(prost_types::Duration::default()),
        proxy_100_continue: true,
        upgrade_configs: vec![websocket()],
        route_specifier: Some(routes),
        ..http::HttpConnectionManager::default()
    }
}

/// What the program or the next proxy is told about the client's certificate. A program that uses the library reads the
/// client's `PeerIdentity` instead, so the header is removed from its requests.
fn client_certificate(view: &View<'_>, side: Side) -> (ForwardClientCertDetails, Option<SetCurrentClientCertDetails>) {
    let details = |cert| SetCurrentClientCertDetails {
        subject: Some(true),
        cert,
        dns: true,
        uri: true,
        ..SetCurrentClientCertDetails::default()
    };
    match side {
        Side::Outbound => (ForwardClientCertDetails::Sanitize, None),
        Side::Inbound if view.node.role == Role::Library => (ForwardClientCertDetails::Sanitize, None),
        Side::Inbound => (ForwardClientCertDetails::AppendForward, Some(details(false))),
        Side::Edge => (ForwardClientCertDetails::SanitizeSet, Some(details(true))),
    }
}

/// Allows websockets, as Istio does everywhere.
pub(super) fn websocket() -> UpgradeConfig {
    UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() }
}

/// A chain with the manager as its only filter.
pub(super) fn filter_chain(manager: &http::HttpConnectionManager) -> envoy::FilterChain {
    envoy::FilterChain { filters: filters(manager), ..envoy::FilterChain::default() }
}

/// The manager as the only filter of a chain.
pub(super) fn filters(manager: &http::HttpConnectionManager) -> Vec<envoy::Filter> {
    vec![network_filter(HTTP_CONNECTION_MANAGER, any(manager))]
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
        name: names::listener(address, port),
        address: Some(socket_address(address, port)),
        filter_chains,
        traffic_direction: direction.into(),
        ..envoy::Listener::default()
    }
}
