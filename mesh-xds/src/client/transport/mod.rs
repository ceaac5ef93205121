//! What carries discovery messages.
//!
//! A transport connects and moves messages; when to connect, what to send and what to make of the answers is decided by the
//! [`Machine`](super::Machine). Today there is one, [`in_process`].

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
    /// The future owns what it needs: the client does other things while it connects, and gives the attempt up when it takes
    /// too long.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt.
    fn connect(&self) -> impl Future<Output = Result<Stream, Disconnected>> + Send + 'static;
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
    /// The reason that the transport gives.
    pub reason: String,
}
