//! The identity of this program.

use std::sync::Arc;

use mesh_core::node::Node;
use mesh_tower::{
    peer_metadata::LocalPeer,
    telemetry::{LocalInfo, Telemetry},
};

/// The node of a member, and the facts that the admin endpoint shows.
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

/// Telemetry with the workload and the service of `node`.
pub(crate) fn telemetry(node: &Node) -> Telemetry {
    let workload = node.workload();
    Telemetry {
        peer: LocalPeer::new(&node.id(), &workload).map(Arc::new),
        workload: Some(Arc::new(workload)),
        service: node.destination_service().map(Arc::new),
        local_info: LocalInfo { node_name: node.id().into(), cluster_name: node.cluster().into() },
        ..Telemetry::default()
    }
}
