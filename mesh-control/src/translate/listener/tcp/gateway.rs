//! Chains of a gateway's port, from the rules of the VirtualServices that are bound to the Gateway.

use super::proxy::{by_rule, to_cluster};
use super::{Chain, Chains};
use crate::translate::gateway_server::GatewayServer;
use crate::translate::names;
use crate::translate::proto::listener;
use crate::translate::view::View;

/// The chain for every connection to the server: that of the first rule that matches. Empty if there is none.
pub(in crate::translate::listener) fn tcp_chains(view: &View<'_>, server: &GatewayServer<'_>) -> Chains {
    let mut chains = Chains::default();
    if let Some(filters) = tcp_filters(view, server) {
        chains.add(Chain::new(filters));
    }
    chains
}

/// Filters for the bytes of connections to the server: those of the first rule that matches.
pub(in crate::translate::listener) fn tcp_filters(
    view: &View<'_>,
    server: &GatewayServer<'_>,
) -> Option<Vec<listener::Filter>> {
    let entry = server.entry(view);
    for service in server.virtual_services(view) {
        let here = service
            .tcp
            .iter()
            .find(|rule| rule.matches.is_empty() || rule.matches.iter().any(|matcher| entry.admits(&matcher.listener)));
        if let Some(rule) = here {
            return Some(by_rule(&entry, service, &rule.route, server.server.protocol));
        }
    }
    None
}

/// Adds a chain for each match of a `tls` rule, with those of its server names that the server serves.
pub(in crate::translate::listener) fn add_passthrough(
    view: &View<'_>,
    server: &GatewayServer<'_>,
    chains: &mut Chains,
) {
    let entry = server.entry(view);
    for service in server.virtual_services(view) {
        for rule in &service.tls {
            for matcher in rule.matches.iter().filter(|matcher| entry.admits(&matcher.connection.listener)) {
                let served = matcher.sni_hosts.iter().filter(|name| server.serves(service, &name.host));
                let server_names: Vec<_> = served.map(|name| name.name.clone()).collect();
                if !server_names.is_empty() {
                    let filters = by_rule(&entry, service, &rule.route, server.server.protocol);
                    chains.add(Chain { server_names, ..Chain::new(filters) });
                }
            }
        }
    }
}

/// Adds a chain for each port and subset of the services that the server serves, for mutual TLS between workloads that
/// passes the gateway.
pub(in crate::translate::listener) fn add_auto_passthrough(
    view: &View<'_>,
    server: &GatewayServer<'_>,
    chains: &mut Chains,
) {
    for &service in &view.services {
        for (port, subset) in server.passed_on(view, service) {
            let name = names::sni(port, subset, &service.host);
            let filters = to_cluster(view, name.clone(), service);
            let application_protocols = super::super::inbound::of_mesh();
            chains.add(Chain { server_names: vec![name], application_protocols, ..Chain::new(filters) });
        }
    }
}
