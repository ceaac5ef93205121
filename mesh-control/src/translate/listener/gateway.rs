//! A gateway listens on the ports of the `Gateway` resources that select it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Front;
use super::http_connection_manager::{filter_chain, listener, manager, rds};
use crate::config::{Gateway, Server, selects};
use crate::translate::filter::Side;
use crate::translate::names;
use crate::translate::route;
use crate::translate::view::View;

/// Address that is listened on if a server binds to none.
const ANY_ADDRESS: &str = "0.0.0.0";

/// A server and the gateway it belongs to.
type OwnedServer<'a> = (&'a Gateway, &'a Server);

pub(super) fn build(view: &View<'_>) -> Front {
    let mut ports: BTreeMap<(u16, Option<IpAddr>), Vec<OwnedServer<'_>>> = BTreeMap::new();
    for gateway in &view.mesh.config.gateways {
        if selects(&gateway.selector, &view.node.labels) {
            for server in &gateway.servers {
                ports.entry((server.port, server.bind)).or_default().push((gateway, server));
            }
        }
    }
    let mut front = Front::default();
    for ((port, bind), servers) in ports {
        let address = bind.map_or_else(|| ANY_ADDRESS.to_owned(), |bind| bind.to_string());
        let routes = rds(names::gateway_routes(port, bind));
        let manager = manager(view, Side::Edge, format!("outbound_{address}_{port}"), routes);
        front.listeners.push(listener(Side::Edge, &address, port, vec![filter_chain(&manager)]));
        front.routes.push(route::gateway_routes(view, port, bind, &servers));
    }
    front
}
