//! Who this program is.

use std::sync::Arc;

use mesh_core::node::Node;
use mesh_tower::{peer_metadata::LocalPeer, telemetry::Telemetry};

/// The configuration of a member, and what the admin endpoint shows of it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) node: Node,
    #[cfg(feature = "admin")]
    pub(crate) facts: crate::admin::Facts,
}

impl Identity {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node,
            #[cfg(feature = "admin")]
            facts: crate::admin::Facts::new(),
        }
    }
}

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
