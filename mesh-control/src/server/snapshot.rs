//! The encoded resources of one node.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_xds::resource::{ResourceType, pack};
use prost::{Message, Name};
use prost_types::Any;

use crate::mesh::Mesh;
use crate::translate::{Node, translate};

/// Encoded resources of each type, by name.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    types: [BTreeMap<Arc<str>, Any>; ResourceType::ALL.len()],
}

impl Snapshot {
    pub(super) fn of(mesh: &Mesh, node: &Node) -> Self {
        let resources = translate(mesh, node);
        let mut snapshot = Self::default();
        snapshot.put(ResourceType::Secret, &resources.secrets, |resource| &resource.name);
        snapshot.put(ResourceType::Cluster, &resources.clusters, |resource| &resource.name);
        snapshot.put(ResourceType::ClusterLoadAssignment, &resources.endpoints, |resource| &resource.cluster_name);
        snapshot.put(ResourceType::Listener, &resources.listeners, |resource| &resource.name);
        snapshot.put(ResourceType::RouteConfiguration, &resources.routes, |resource| &resource.name);
        snapshot
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
