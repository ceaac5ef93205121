//! Who this program is.

use std::sync::Arc;

use mesh_control::{
    config::Labels,
    translate::{Node, Role},
};
use mesh_tower::{peer_metadata::LocalPeer, telemetry::Telemetry};

use crate::error::{Error, Kind};

/// The node of `service`; a name without a namespace is one of `namespace`.
pub(crate) fn node(service: &str, namespace: Option<&str>, labels: Labels) -> Result<Node, Error> {
    let qualified = match namespace {
        Some(namespace) if !service.contains('.') => format!("{service}.{namespace}"),
        Some(_) | None => service.to_owned(),
    };
    let node = Node::of_service(Role::Library, &qualified, labels);
    Ok(node.map_err(|source| Kind::Service { service: service.to_owned(), source })?)
}

/// Counts what `node` does in its name.
pub(crate) fn telemetry(node: &Node) -> Telemetry {
    let workload = node.workload();
    Telemetry {
        peer: LocalPeer::new(&node.to_xds().id, &workload).map(Arc::new),
        workload: Some(Arc::new(workload)),
        service: node.destination_service().map(Arc::new),
        ..Telemetry::default()
    }
}
