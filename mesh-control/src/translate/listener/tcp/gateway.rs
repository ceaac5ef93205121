//! Chains of a gateway's port, from the rules of the VirtualServices that are bound to the Gateway.

use super::proxy::by_rule;
use super::{Chain, Chains};
use crate::translate::gateway_server::GatewayServer;
use crate::translate::view::View;

/// The chain for every connection to the server: that of the first rule that matches. Empty if there is none.
pub(in crate::translate::listener) fn tcp_chains(view: &View<'_>, server: &GatewayServer<'_>) -> Chains {
    let (entry, mut chains) = (server.entry(view), Chains::default());
    for service in server.virtual_services(view) {
        let here = service
            .tcp
            .iter()
            .find(|rule| rule.matches.is_empty() || rule.matches.iter().any(|matcher| entry.admits(&matcher.listener)));
        if let Some(rule) = here {
            chains.add(Chain::new(by_rule(&entry, service, &rule.route, server.server.protocol)));
            break;
        }
    }
    chains
}

/// A chain for each match of a `tls` rule, with those of its server names that the server serves.
pub(in crate::translate::listener) fn passthrough_chains(view: &View<'_>, servers: &[GatewayServer<'_>]) -> Chains {
    let mut chains = Chains::default();
    for server in servers {
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
    chains
}
