//! Who this program is.

use std::sync::Arc;

use mesh_core::node::Node;
use mesh_tower::{peer_metadata::LocalPeer, telemetry::Telemetry};

/// Counts what `node` does in its name.
pub(crate) fn telemetry(node: &Node) -> Telemetry {
    let workload = node.workload();
    Telemetry {
        peer: LocalPeer::new(&node.id(), &workload).map(Arc::new),
        workload: Some(Arc::new(workload)),
        service: node.destination_service().map(Arc::new),
        ..Telemetry::default()
    }
}
