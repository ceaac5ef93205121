//! Listeners of a gateway: the ports of the `Gateway` resources that select it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ListenerResources;
use super::http_connection_manager::{filter_chain, listener, manager, rds};
use super::tcp;
use crate::config::{ServerMode, selects};
use crate::translate::filter::Side;
use crate::translate::gateway_server::GatewayServer;
use crate::translate::proto::listener as envoy;
use crate::translate::route;
use crate::translate::view::View;

/// Address that is listened on if a server binds to none.
const ANY_ADDRESS: &str = "0.0.0.0";

pub(super) fn build(view: &View<'_>) -> ListenerResources {
    let mut ports: BTreeMap<(u16, Option<IpAddr>), Vec<GatewayServer<'_>>> = BTreeMap::new();
    for gateway in &view.mesh.config.gateways {
        if selects(&gateway.selector, &view.node.labels) {
            for server in &gateway.servers {
                ports.entry((server.port, server.bind)).or_default().push(GatewayServer::new(gateway, server));
            }
        }
    }
    let mut resources = ListenerResources::default();
    for ((port, bind), mut servers) in ports {
        let address = bind.map_or_else(|| ANY_ADDRESS.to_owned(), |bind| bind.to_string());
        // Validation refuses servers that cannot share a port, if it can determine that one proxy has both Gateways.
        let first = &servers[0];
        match first.server.mode {
            ServerMode::Http { .. } => {
                servers.retain(|server| matches!(server.server.mode, ServerMode::Http { .. }));
                let routes = route::gateway_routes(view, port, bind, &servers);
                resources.listeners.push(http(view, &address, port, routes.name.clone()));
                resources.routes.push(routes);
            }
            ServerMode::Tcp => {
                let chains = tcp::tcp_chains(view, first);
                resources.listeners.extend(passing_on(chains, &address, port));
            }
            ServerMode::TlsPassthrough => {
                servers.retain(|server| server.server.mode == ServerMode::TlsPassthrough);
                let chains = tcp::passthrough_chains(view, &servers);
                resources.listeners.extend(passing_on(chains, &address, port));
            }
        }
    }
    resources
}

fn http(view: &View<'_>, address: &str, port: u16, routes: String) -> envoy::Listener {
    let manager = manager(view, Side::Edge, format!("outbound_{address}_{port}"), rds(routes));
    listener(Side::Edge, address, port, vec![filter_chain(&manager)])
}

/// `None` if the port has no rule: its connections could not be forwarded.
fn passing_on(chains: tcp::Chains, address: &str, port: u16) -> Option<envoy::Listener> {
    (!chains.is_empty()).then(|| chains.build(Side::Edge, address, port, None))
}
