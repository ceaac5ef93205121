//! What carries discovery messages.

pub mod in_process;

use std::future::Future;

use thiserror::Error;
use tokio::sync::mpsc;

use super::request::Request;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;

/// A way to a control plane.
pub trait Transport: Send + 'static {
    /// Opens a stream.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt.
    fn connect(&mut self) -> impl Future<Output = Result<Stream, Disconnected>> + Send;
}

/// An open stream. It ends when either side drops its half.
#[derive(Debug)]
pub struct Stream {
    /// Takes requests; bounded, so a control plane that reads nothing makes the client wait.
    pub requests: mpsc::Sender<Request>,
    /// Yields responses; the channel closes when the stream ends.
    pub responses: mpsc::Receiver<Result<DiscoveryResponse, Disconnected>>,
}

/// A stream ended or could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("control plane: {reason}")]
pub struct Disconnected {
    /// Why, as the transport tells it.
    pub reason: String,
}
