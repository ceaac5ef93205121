//! The ADS server.
//!
//! The first request of a stream identifies the node. The stream then gets the resources of that node, and after each
//! change of the [`Mesh`] what has changed for the node. [`StreamState`] is the protocol without I/O, in both of its forms;
//! [`ControlPlane::run`] moves its messages over a [`Wire`]. [`serve`] is for clients in the same process; with the feature
//! `serve`, the crate's module `serve` is the same over gRPC.
//!
//! The resources of a node are made once for each version of the mesh, for all clients that are equal nodes.

mod caller;
mod certificate;
mod connections;
mod session;
mod snapshot;
mod state;

pub use caller::Caller;
pub use connections::{Connection, Connections, TypeStatus};
pub use session::{Incoming, Wire};
pub use state::{Form, Refusal, Response, StreamState};

use std::sync::Arc;

use mesh_xds::client::Disconnected;
use mesh_xds::client::transport::in_process::{Acceptor, ServerStream};
use mesh_xds::proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use mesh_xds::proto::envoy::service::discovery::v3::DiscoveryResponse;
use mesh_xds::resource::{ResourceType, pack};
use mesh_xds::status::SourceStatus;
use prost::Message as _;
use prost_types::Any;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::identities::Identities;
use crate::mesh::Mesh;
use crate::translate::redacted;
use snapshot::Worlds;

/// What the server needs beside the mesh.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Where the certificates of clients come from; without, clients get none. The mesh must have been read with
    /// [`certificates`](crate::config::Options::certificates).
    pub identities: Option<Arc<dyn Identities>>,
}

impl Options {
    /// The same options, with certificates.
    #[must_use]
    pub fn with_identities(self, identities: Option<Arc<dyn Identities>>) -> Self {
        Self { identities, ..self }
    }
}

/// What the streams of a control plane have in common.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    meshes: watch::Receiver<Arc<Mesh>>,
    worlds: Arc<Worlds>,
    status: Arc<SourceStatus>,
    options: Options,
    connections: Arc<Connections>,
}

impl ControlPlane {
    /// A control plane of the meshes that follow each other. Responses that clients refuse are counted in `status`.
    #[must_use]
    pub fn new(meshes: watch::Receiver<Arc<Mesh>>, status: Arc<SourceStatus>, options: Options) -> Self {
        let worlds = Arc::new(Worlds::new(Arc::clone(&meshes.borrow())));
        Self { meshes, worlds, status, options, connections: Arc::default() }
    }

    /// The mesh in force.
    #[must_use]
    pub fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.meshes.borrow())
    }

    /// The streams that are open.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The resources of a type of a client, in the mesh in force, without private keys and without the secrets of its identity.
    #[must_use]
    pub fn shown_resources(&self, connection: &Connection, kind: ResourceType) -> Vec<Any> {
        let world = self.worlds.at(&self.mesh());
        let slot = world.slot(&connection.view);
        let resources = world.snapshot(&connection.view, &slot).of_type(kind).values();
        let shown = |any: &Any| match kind {
            ResourceType::Secret => Some(pack(&redacted(&Secret::decode(any.value.as_slice()).ok()?))),
            ResourceType::Cluster
            | ResourceType::ClusterLoadAssignment
            | ResourceType::Listener
            | ResourceType::RouteConfiguration => Some(any.clone()),
        };
        resources.filter_map(|resource| shown(&resource.any)).collect()
    }

    /// What became of configurations.
    #[must_use]
    pub fn status(&self) -> &Arc<SourceStatus> {
        &self.status
    }
}

/// Serves every stream that clients open, until all clients have closed theirs. Responses that they refuse are counted in
/// `status`. Every client is of this process, and is believed to be who it says: it gets the certificate of its identity.
///
/// # Cancel safety
///
/// Dropping the future ends all streams; clients keep what they have.
pub async fn serve(
    mut acceptor: Acceptor,
    meshes: watch::Receiver<Arc<Mesh>>,
    status: Arc<SourceStatus>,
    options: Options,
) {
    let control_plane = ControlPlane::new(meshes, status, options);
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = acceptor.accept() => match accepted {
                Some(stream) => {
                    let control_plane = control_plane.clone();
                    drop(streams.spawn(async move { control_plane.run(stream, Caller::Local).await }));
                }
                None => break,
            },
            Some(_) = streams.join_next() => {}
        }
    }
    while streams.join_next().await.is_some() {}
}

impl Wire for ServerStream {
    const FORM: Form = Form::StateOfTheWorld;

    async fn receive(&mut self) -> Option<Incoming> {
        Some(Incoming::StateOfTheWorld(self.requests.recv().await?))
    }

    async fn send(&mut self, response: Response) -> bool {
        self.responses.send(Ok(DiscoveryResponse::from(response).into())).await.is_ok()
    }

    async fn refuse(&mut self, refusal: Refusal) {
        let _ = self.responses.send(Err(Disconnected { reason: refusal.to_string() })).await;
    }
}
