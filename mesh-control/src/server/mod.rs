//! The ADS server for clients in the same process.
//!
//! The first request of a stream identifies the node. The stream then gets the resources of that node, and after each
//! change of the [`Mesh`] the types that have changed: all resources of clusters and listeners, because a response for these
//! is the state of the world, and of routes and endpoints those that have changed. [`StreamState`] is the protocol without
//! I/O; [`serve`] moves its messages.

mod snapshot;
mod state;

pub use state::{Refusal, StreamState};

use std::sync::Arc;

use mesh_xds::client::Disconnected;
use mesh_xds::client::transport::in_process::{Acceptor, ServerStream};
use mesh_xds::status::SourceStatus;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::mesh::Mesh;

/// Serves every stream that clients open, until all clients have closed theirs. Responses that they refuse are counted in
/// `status`.
///
/// # Cancel safety
///
/// Dropping the future ends all streams; clients keep what they have.
pub async fn serve(mut acceptor: Acceptor, meshes: watch::Receiver<Arc<Mesh>>, status: Arc<SourceStatus>) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = acceptor.accept() => match accepted {
                Some(stream) => drop(streams.spawn(serve_stream(stream, meshes.clone(), Arc::clone(&status)))),
                None => break,
            },
            Some(_) = streams.join_next() => {}
        }
    }
    while streams.join_next().await.is_some() {}
}

async fn serve_stream(mut stream: ServerStream, mut meshes: watch::Receiver<Arc<Mesh>>, status: Arc<SourceStatus>) {
    let mut state = StreamState::new(Arc::clone(&meshes.borrow_and_update()), status);
    let mut is_followed = true;
    loop {
        tokio::select! {
            request = stream.requests.recv() => {
                let Some(request) = request else { return };
                if let Err(refusal) = state.handle_request(request) {
                    let _ = stream.responses.send(Err(Disconnected { reason: refusal.to_string() })).await;
                    return;
                }
            }
            changed = meshes.changed(), if is_followed => match changed {
                Ok(()) => state.handle_mesh(Arc::clone(&meshes.borrow_and_update())),
                // The source has ended; the last configuration stays in force.
                Err(_) => is_followed = false,
            },
        }
        while let Some(response) = state.poll_response() {
            if stream.responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}
