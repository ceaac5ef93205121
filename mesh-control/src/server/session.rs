//! Moves the messages of one stream.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_xds::client::Request;
use mesh_xds::proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::certificate::{Certificate, due};
use super::connections::Place;
use super::{Caller, ControlPlane, Form, Refusal, Response, StreamState};

/// A request of either form.
#[derive(Debug)]
pub enum Incoming {
    /// Of the state of the world.
    StateOfTheWorld(Request),
    /// Of the incremental form.
    Incremental(Box<DeltaDiscoveryRequest>),
}

/// The connection of one stream.
pub trait Wire: Send {
    /// The form of its requests and responses.
    const FORM: Form;

    /// The next request; `None` when the client has ended the stream.
    ///
    /// # Cancel safety
    /// No request is lost if the future is dropped.
    fn receive(&mut self) -> impl Future<Output = Option<Incoming>> + Send;

    /// Sends a response, and waits if the client reads slower than it is sent to. False if the client has gone.
    fn send(&mut self, response: Response) -> impl Future<Output = bool> + Send;

    /// Ends the stream with the reason why it cannot be served.
    fn refuse(&mut self, refusal: Refusal) -> impl Future<Output = ()> + Send;
}

impl ControlPlane {
    /// Serves a stream until it ends. Changes that follow each other while the client is slow to read become one.
    ///
    /// # Cancel safety
    /// Dropping the future ends the stream.
    pub async fn run<W: Wire>(mut self, mut wire: W, caller: Caller) {
        let since = SystemTime::now();
        let mesh = Arc::clone(&self.meshes.borrow_and_update());
        let mut state = StreamState::new(Arc::clone(&self.worlds), &mesh, Arc::clone(&self.status), W::FORM, caller);
        let mut certificate = self.options.identities.take().map(Certificate::new);
        let mut is_followed = true;
        let place = Place::new(&self.connections);
        loop {
            tokio::select! {
                request = wire.receive() => {
                    let handled = match request {
                        None => return,
                        Some(Incoming::StateOfTheWorld(request)) => state.handle_request(request),
                        Some(Incoming::Incremental(request)) => state.handle_delta_request(&request),
                    };
                    if let Err(refusal) = handled {
                        return wire.refuse(refusal).await;
                    }
                }
                changed = self.meshes.changed(), if is_followed => match changed {
                    Ok(()) => {
                        let mesh = Arc::clone(&self.meshes.borrow_and_update());
                        state.handle_mesh(&mesh);
                    }
                    // The source has ended; the last configuration stays in force.
                    Err(_) => is_followed = false,
                },
                () = due(certificate.as_ref()) => {}
            }
            if let Some(certificate) = &mut certificate {
                certificate.renew(&mut state, SystemTime::now());
            }
            while let Some(response) = state.poll_response() {
                place.count(response.resource_type());
                if !wire.send(response).await {
                    return;
                }
            }
            if let Some(status) = state.connection(since) {
                place.put(status);
            }
        }
    }
}
