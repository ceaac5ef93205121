//! The encoded resources of one node.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_xds::proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use mesh_xds::resource::{ResourceType, pack};
use prost::{Message, Name};
use prost_types::Any;

use crate::mesh::Mesh;
use crate::translate::{Node, translate};

/// Encoded resources of each type, by name.
#[derive(Default)]
pub(super) struct Snapshot {
    types: [BTreeMap<Arc<str>, Any>; ResourceType::ALL.len()],
    /// Those that listeners and clusters name, without the identity's.
    secrets: Vec<Secret>,
}

/// Without contents, which may be private keys.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The resources of the node, with the secrets of its identity.
    pub(super) fn of(mesh: &Mesh, node: &Node, identity: &[Secret]) -> Self {
        let resources = translate(mesh, node);
        let mut snapshot = Self::default();
        snapshot.put(ResourceType::Secret, &resources.secrets, |resource| &resource.name);
        snapshot.put(ResourceType::Cluster, &resources.clusters, |resource| &resource.name);
        snapshot.put(ResourceType::ClusterLoadAssignment, &resources.endpoints, |resource| &resource.cluster_name);
        snapshot.put(ResourceType::Listener, &resources.listeners, |resource| &resource.name);
        snapshot.put(ResourceType::RouteConfiguration, &resources.routes, |resource| &resource.name);
        snapshot.secrets = resources.secrets;
        snapshot.put_identity(identity);
        snapshot
    }

    /// Replaces the secrets of the identity.
    pub(super) fn put_identity(&mut self, identity: &[Secret]) {
        let secrets: Vec<_> = self.secrets.iter().chain(identity).cloned().collect();
        // A client can subscribe to secrets if it has a type for them.
        if let Some(kind) = ResourceType::from_type_url(&Secret::type_url()) {
            self.put(kind, &secrets, |resource| &resource.name);
        }
    }

    /// All resources of a type.
    pub(super) fn of_type(&self, kind: ResourceType) -> &BTreeMap<Arc<str>, Any> {
        &self.types[kind as usize]
    }

    fn put<M: Message + Name>(&mut self, kind: ResourceType, resources: &[M], name: impl Fn(&M) -> &String) {
        let encode = |resource: &M| (Arc::from(name(resource).as_str()), pack(resource));
        self.types[kind as usize] = resources.iter().map(encode).collect();
    }
}
