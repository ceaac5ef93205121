//! Chains for the connections to a service: from the rules of its VirtualServices, or else for the service itself.

use super::proxy::{by_rule, to_service};
use super::{Chain, Chains};
use crate::config::Protocol;
use crate::registry::Service;
use crate::translate::entry::Entry;

/// Adds the chains of a service on a port of the protocol. `name` is the server name of its connections, if the address of
/// the listener does not identify the service.
pub(in crate::translate::listener) fn add_service(
    entry: &Entry<'_>,
    service: &Service,
    protocol: Protocol,
    name: Option<&str>,
    chains: &mut Chains,
) {
    let is_routed = if protocol.is_tls() {
        add_tls_rules(entry, service, protocol, chains)
    } else {
        add_tcp_rules(entry, service, protocol, chains)
    };
    if !is_routed {
        let server_names = name.into_iter().map(str::to_owned).collect();
        chains.add(Chain { server_names, ..Chain::new(to_service(entry, service, protocol)) });
    }
}

/// Returns whether there is a rule; then connections that none matches are not for the service either.
fn add_tls_rules(entry: &Entry<'_>, service: &Service, protocol: Protocol, chains: &mut Chains) -> bool {
    let mut is_routed = false;
    for rules in entry.view.routes.of_connections(&service.host) {
        for rule in &rules.tls {
            for matcher in rule.matches.iter().filter(|matcher| entry.admits(&matcher.connection.listener)) {
                chains.add(Chain {
                    server_names: matcher.sni_hosts.iter().map(|host| host.name.clone()).collect(),
                    prefix_ranges: matcher.connection.destination_subnets.clone(),
                    ..Chain::new(by_rule(entry, rules, &rule.route, protocol))
                });
                is_routed = true;
            }
        }
    }
    is_routed
}

/// Returns whether a rule matches every connection.
fn add_tcp_rules(entry: &Entry<'_>, service: &Service, protocol: Protocol, chains: &mut Chains) -> bool {
    for rules in entry.view.routes.of_connections(&service.host) {
        for rule in &rules.tcp {
            let matches: Vec<_> = rule.matches.iter().filter(|matcher| entry.admits(&matcher.listener)).collect();
            if matches.is_empty() && !rule.matches.is_empty() {
                continue;
            }
            let chain = Chain::new(by_rule(entry, rules, &rule.route, protocol));
            if matches.is_empty() || matches.iter().any(|matcher| matcher.destination_subnets.is_empty()) {
                chains.add(chain);
                return true;
            }
            let subnets = matches.iter().flat_map(|matcher| matcher.destination_subnets.iter().copied());
            chains.add(Chain { prefix_ranges: subnets.collect(), ..chain });
        }
    }
    false
}
