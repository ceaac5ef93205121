//! Listeners of a gateway: the ports of the `Gateway` resources that select it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ListenerResources;
use super::http_connection_manager::{filter_chain, filters, listener, manager, rds};
use super::tcp::{self, Chain, Chains};
use crate::config::ServerMode;
use crate::translate::filter::Side;
use crate::translate::gateway_server::{GatewayServer, servers};
use crate::translate::names;
use crate::translate::proto::listener as envoy;
use crate::translate::route;
use crate::translate::tls::{self, Terminates};
use crate::translate::view::View;

/// Address that is listened on if a server binds to none.
const ANY_ADDRESS: &str = "0.0.0.0";

pub(super) fn build(view: &View<'_>) -> ListenerResources {
    let mut ports: BTreeMap<(u16, Option<IpAddr>), Vec<GatewayServer<'_>>> = BTreeMap::new();
    for server in servers(view) {
        ports.entry((server.server.port, server.server.bind)).or_default().push(server);
    }
    let mut resources = ListenerResources::default();
    for ((port, bind), mut servers) in ports {
        let address = bind.map_or_else(|| ANY_ADDRESS.to_owned(), |bind| bind.to_string());
        // Validation refuses servers that cannot share a port, if it can determine that one proxy has both Gateways.
        let first = &servers[0];
        match first.server.mode {
            ServerMode::Http { .. } => {
                servers.retain(|server| matches!(server.server.mode, ServerMode::Http { .. }));
                let routes = route::gateway_routes(view, names::gateway_routes(port, bind), &servers);
                resources.listeners.push(http(view, &address, port, routes.name.clone()));
                resources.routes.push(routes);
            }
            ServerMode::Tcp => {
                let chains = tcp::tcp_chains(view, first);
                resources.listeners.extend(passing_on(chains, &address, port));
            }
            ServerMode::TlsPassthrough | ServerMode::AutoPassthrough | ServerMode::Https | ServerMode::Tls => {
                let chains = tls_chains(view, &address, &servers, &mut resources);
                resources.listeners.extend(passing_on(chains, &address, port));
            }
        }
    }
    resources
}

/// The chains of a port that is served with TLS. Each server has its own, distinguished by server names.
fn tls_chains(
    view: &View<'_>,
    address: &str,
    servers: &[GatewayServer<'_>],
    resources: &mut ListenerResources,
) -> Chains {
    let mut chains = Chains::default();
    for server in servers {
        let hosts = server.server.hosts.iter().map(|host| &host.host);
        match (server.server.mode, &server.server.tls) {
            (ServerMode::Https, Some(tls)) => {
                let routes = route::gateway_routes(view, server.route_name(), std::slice::from_ref(server));
                let stat_prefix = format!("outbound_{address}_{}", server.server.port);
                let manager = manager(view, Side::Edge, stat_prefix, rds(routes.name.clone()));
                resources.routes.push(routes);
                chains.add(Chain::terminating(hosts, tls::gateway(tls, Terminates::Http), filters(&manager)));
            }
            (ServerMode::Tls, Some(tls)) => {
                if let Some(filters) = tcp::tcp_filters(view, server) {
                    chains.add(Chain::terminating(hosts, tls::gateway(tls, Terminates::Tcp), filters));
                }
            }
            (ServerMode::TlsPassthrough, _) => tcp::add_passthrough(view, server, &mut chains),
            (ServerMode::AutoPassthrough, _) => tcp::add_auto_passthrough(view, server, &mut chains),
            // Another protocol cannot share the port.
            (ServerMode::Http { .. } | ServerMode::Tcp | ServerMode::Https | ServerMode::Tls, _) => {}
        }
    }
    chains
}

fn http(view: &View<'_>, address: &str, port: u16, routes: String) -> envoy::Listener {
    let manager = manager(view, Side::Edge, format!("outbound_{address}_{port}"), rds(routes));
    listener(Side::Edge, address, port, vec![filter_chain(&manager)])
}

/// `None` if the port has no rule: its connections could not be forwarded.
fn passing_on(chains: Chains, address: &str, port: u16) -> Option<envoy::Listener> {
    (!chains.is_empty()).then(|| chains.build(Side::Edge, address, port, None))
}
