//! `/listeners`.

use mesh_core::model::NetworkAddress;
use mesh_tower::server::ListenerStatus;
use serde_json::json;

use crate::{Answer, Process, Query};

pub(crate) fn listeners(process: &impl Process, query: &Query<'_>) -> Answer {
    let listeners = process.listeners();
    if query.is("format", "json") {
        let statuses: Vec<_> = listeners.iter().map(status_json).collect();
        return Answer::json(&json!({ "listener_statuses": statuses }));
    }
    Answer::text(
        listeners.iter().map(|status| format!("{}::{}\n", status.config.name, status.address)).collect::<String>(),
    )
}

fn status_json(status: &ListenerStatus) -> serde_json::Value {
    json!({ "name": &*status.config.name, "local_address": address(&status.address.into()) })
}

/// Envoy `core.v3.Address`.
pub(crate) fn address(address: &NetworkAddress) -> serde_json::Value {
    let address = match address {
        NetworkAddress::Socket(address) => address,
        NetworkAddress::Pipe(path) => return json!({ "pipe": { "path": &**path } }),
    };
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
