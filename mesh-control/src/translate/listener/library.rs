//! Listeners of a library: one without a socket for each port of each service, named `HOST:PORT`, and one for each address of
//! its own service.
//!
//! Names and shapes are those of istiod's `grpc` generator, so a stock gRPC client can use them too.

use std::collections::BTreeSet;

use super::ListenerResources;
use super::http_connection_manager::{filters, inline, listener, rds, websocket};
use super::inbound;
use crate::host::Host;
use crate::registry::Service;
use crate::translate::filter::{Side, http_filters};
use crate::translate::names::{LIBRARY_INBOUND_PREFIX, outbound_cluster};
use crate::translate::proto::{any, http, listener as envoy, route as envoy_route, socket_address};
use crate::translate::route;
use crate::translate::tls::Terminates;
use crate::translate::view::View;

/// The address of a listener on all addresses.
const ANY_ADDRESS: &str = "0.0.0.0";

pub(super) fn build(view: &View<'_>) -> ListenerResources {
    let mut resources = ListenerResources { listeners: served(view), ..ListenerResources::default() };
    for &service in &view.services {
        for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
            let hosts = service.hosts(&view.node.namespace);
            resources.listeners.extend(hosts.map(|host| outbound(view, service, host, port.number)));
            resources.routes.push(route::library(view, service, port.number));
        }
    }
    resources
}

/// The listener of a host of the service: its own or an alias.
fn outbound(view: &View<'_>, service: &Service, host: &Host, port: u16) -> envoy::Listener {
    let manager = http::HttpConnectionManager {
        http_filters: http_filters(view, Side::Outbound),
        upgrade_configs: vec![websocket()],
        route_specifier: Some(rds(outbound_cluster(port, "", &service.host))),
        ..http::HttpConnectionManager::default()
    };
    let address = service.addresses.first().map_or_else(|| ANY_ADDRESS.to_owned(), ToString::to_string);
    envoy::Listener {
        name: format!("{host}:{port}"),
        address: Some(socket_address(&address, port)),
        api_listener: Some(envoy::ApiListener { api_listener: Some(any(&manager)) }),
        ..envoy::Listener::default()
    }
}

/// The node's endpoints, and every address with one of their ports.
fn served(view: &View<'_>) -> Vec<envoy::Listener> {
    let mut addresses = BTreeSet::new();
    for endpoint in view.endpoints() {
        for &port in endpoint.ports.values() {
            addresses.insert((endpoint.address.clone(), port));
            addresses.insert((ANY_ADDRESS.to_owned(), port));
        }
    }
    let build = |(address, port): (String, u16)| {
        let manager = http::HttpConnectionManager {
            http_filters: http_filters(view, Side::Inbound),
            // As in Istio's sidecars: streams have no idle timeout.
            stream_idle_timeout: Some(prost_types::Duration::default()),
            route_specifier: Some(inline(served_here())),
            ..http::HttpConnectionManager::default()
        };
        let mut listener = listener(Side::Inbound, &address, port, inbound_chains(view, port, &filters(&manager)));
        inbound::inspect(&mut listener, &[]);
        listener.name = format!("{LIBRARY_INBOUND_PREFIX}{address}:{port}");
        listener
    };
    addresses.into_iter().map(build).collect()
}

/// A chain for each way in which connections come in, named as istiod's.
fn inbound_chains(view: &View<'_>, port: u16, filters: &[envoy::Filter]) -> Vec<envoy::FilterChain> {
    let mut admissions = inbound::admissions(view.inbound_mode(port), Terminates::Http);
    if let [only] = admissions.as_mut_slice() {
        only.take_any_plain_text();
    }
    let build = |admission: inbound::Admission| {
        let mut chain = admission.chain(view, None, Terminates::Http, filters.to_vec());
        if view.mesh.has_certificates || admission.is_mutual_tls {
            let name = if admission.is_mutual_tls { "inbound-mtls" } else { "inbound-plaintext" };
            name.clone_into(&mut chain.name);
        }
        chain
    };
    admissions.into_iter().map(build).collect()
}

/// Requests end in the program itself.
fn served_here() -> envoy_route::RouteConfiguration {
    let matcher = envoy_route::RouteMatch {
        path_specifier: Some(envoy_route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..envoy_route::RouteMatch::default()
    };
    let route = envoy_route::Route {
        r#match: Some(matcher),
        action: Some(envoy_route::route::Action::NonForwardingAction(envoy_route::NonForwardingAction {})),
        ..envoy_route::Route::default()
    };
    let virtual_host = envoy_route::VirtualHost {
        name: "inbound".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..envoy_route::VirtualHost::default()
    };
    envoy_route::RouteConfiguration {
        name: "inbound".to_owned(),
        virtual_hosts: vec![virtual_host],
        ..envoy_route::RouteConfiguration::default()
    }
}
