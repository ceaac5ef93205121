//! A control plane in the same process: two ends of a bounded channel instead of a connection.

use std::future::Future;

use tokio::sync::mpsc;

use super::{Disconnected, Stream, Transport};
use crate::client::request::Request;
use crate::client::response::Response;

/// Messages that may wait in either direction before the sender has to.
const CAPACITY: usize = 16;

/// A client end and a server end that reach each other.
#[must_use]
pub fn pair() -> (InProcess, Acceptor) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (InProcess { streams: sender }, Acceptor { streams: receiver })
}

/// The client end: a [`Transport`].
#[derive(Clone, Debug)]
pub struct InProcess {
    streams: mpsc::Sender<ServerStream>,
}

/// The server end: yields the streams that clients open.
#[derive(Debug)]
pub struct Acceptor {
    streams: mpsc::Receiver<ServerStream>,
}

/// The control plane's half of a [`Stream`].
#[derive(Debug)]
pub struct ServerStream {
    /// Yields requests; `None` when the client has dropped its half.
    pub requests: mpsc::Receiver<Request>,
    /// Takes responses.
    pub responses: mpsc::Sender<Result<Response, Disconnected>>,
}

impl Transport for InProcess {
    fn connect(&self) -> impl Future<Output = Result<Stream, Disconnected>> + Send + 'static {
        let streams = self.streams.clone();
        async move {
            let (requests, server_requests) = mpsc::channel(CAPACITY);
            let (server_responses, responses) = mpsc::channel(CAPACITY);
            let server = ServerStream { requests: server_requests, responses: server_responses };
            match streams.send(server).await {
                Ok(()) => Ok(Stream { requests, responses }),
                Err(_) => Err(Disconnected { reason: "it was shut down".to_owned() }),
            }
        }
    }
}

impl Acceptor {
    /// The next stream; `None` when all client ends are dropped.
    ///
    /// # Cancel safety
    /// No stream is lost if the future is dropped.
    pub async fn accept(&mut self) -> Option<ServerStream> {
        self.streams.recv().await
    }
}
