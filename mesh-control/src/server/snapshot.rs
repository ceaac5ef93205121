//! The encoded resources of the nodes of one version of the mesh.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use mesh_core::node::Node;
use mesh_xds::proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use mesh_xds::resource::{ResourceType, pack};
use prost::{Message, Name};
use prost_types::Any;

use crate::mesh::Mesh;
use crate::translate::{for_grpc, for_stock_envoy, translate};

/// The version of a resource, or of several: a hash of the contents, so that it is the same in every process and after a
/// restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u64);

impl Version {
    fn of(bytes: &[u8]) -> Self {
        // It has no random key, other than the one of a `HashMap`.
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self(hasher.finish())
    }

    /// The version of all resources of a type that a client has.
    pub(super) fn of_all<'a>(resources: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Encoded>)>) -> Self {
        let mut hasher = DefaultHasher::new();
        for (name, resource) in resources {
            hasher.write(name.as_bytes());
            hasher.write_u64(resource.version.0);
        }
        Self(hasher.finish())
    }

    /// Reads what [`fmt::Display`] writes; `None` if another control plane has written it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A resource as it is sent.
pub(super) struct Encoded {
    pub(super) any: Any,
    pub(super) version: Version,
}

/// Without contents, which may be private keys.
impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Resources of a type by name.
pub(super) type Named = BTreeMap<Arc<str>, Arc<Encoded>>;

/// Encodes resources of a type.
pub(super) fn encode<M: Message + Name>(resources: &[M], name: impl Fn(&M) -> &str) -> Named {
    let encode = |resource: &M| {
        let any = pack(resource);
        let version = Version::of(&any.value);
        (Arc::from(name(resource)), Arc::new(Encoded { any, version }))
    };
    resources.iter().map(encode).collect()
}

/// Encodes secrets.
pub(super) fn encode_secrets(secrets: &[Secret]) -> Named {
    encode(secrets, |secret| &secret.name)
}

/// What a client is. Clients for which it is equal have the same resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientView {
    pub(super) node: Node,
    pub(super) program: Program,
}

/// What obeys the resources. Programs differ in what they support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Program {
    /// A library or proxy of this project.
    OfThisProject,
    /// Istio's build of Envoy.
    IstioProxy,
    /// Any other Envoy.
    Envoy,
    /// A gRPC library.
    Grpc,
}

/// The resources of a node, without the secrets of its identity.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    types: [Named; ResourceType::ALL.len()],
}

impl Snapshot {
    fn of(mesh: &Mesh, view: &ClientView) -> Self {
        let resources = translate(mesh, &view.node);
        let resources = match view.program {
            Program::OfThisProject | Program::IstioProxy => resources,
            Program::Grpc => for_grpc(resources),
            Program::Envoy => for_stock_envoy(resources),
        };
        let mut snapshot = Self::default();
        let mut put = |kind: ResourceType, named| snapshot.types[kind as usize] = named;
        put(ResourceType::Secret, encode_secrets(&resources.secrets));
        put(ResourceType::Cluster, encode(&resources.clusters, |resource| &resource.name));
        put(ResourceType::ClusterLoadAssignment, encode(&resources.endpoints, |resource| &resource.cluster_name));
        put(ResourceType::Listener, encode(&resources.listeners, |resource| &resource.name));
        put(ResourceType::RouteConfiguration, encode(&resources.routes, |resource| &resource.name));
        snapshot
    }

    /// All resources of a type.
    pub(super) fn of_type(&self, kind: ResourceType) -> &Named {
        &self.types[kind as usize]
    }
}

/// The resources of a node, which are made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Slot(OnceLock<Snapshot>);

/// One version of the mesh, with the resources of the nodes that are connected. Nodes that are equal share theirs.
#[derive(Debug)]
pub(super) struct World {
    pub(super) mesh: Arc<Mesh>,
    /// Those of nodes that have left are dropped with the next new one.
    slots: Mutex<HashMap<ClientView, Weak<Slot>>>,
}

impl World {
    fn new(mesh: Arc<Mesh>) -> Self {
        Self { mesh, slots: Mutex::default() }
    }

    /// The place of the resources of a node, as long as it is held.
    pub(super) fn slot(&self, view: &ClientView) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(view).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::default();
        slots.insert(view.clone(), Arc::downgrade(&slot));
        slot
    }

    /// The resources of a node, made at its place if no equal node has them yet.
    pub(super) fn snapshot<'a>(&self, view: &ClientView, slot: &'a Slot) -> &'a Snapshot {
        slot.0.get_or_init(|| Snapshot::of(&self.mesh, view))
    }
}

/// The version of the mesh that streams are at.
#[derive(Debug)]
pub(super) struct Worlds(Mutex<Arc<World>>);

impl Worlds {
    pub(super) fn new(mesh: Arc<Mesh>) -> Self {
        Self(Mutex::new(Arc::new(World::new(mesh))))
    }

    /// This version of the mesh, or a later one if another stream has it already.
    pub(super) fn at(&self, mesh: &Arc<Mesh>) -> Arc<World> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.mesh.version < mesh.version {
            *current = Arc::new(World::new(Arc::clone(mesh)));
        }
        Arc::clone(&current)
    }
}
