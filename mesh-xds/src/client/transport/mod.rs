//! Transports of discovery messages.
//!
//! A transport connects and carries messages; the [`Machine`](super::Machine) decides when to connect and what to send.
//!
//! - [`in_process`]: to a control plane in the same process;
//! - `file`: of a file (feature `json`);
//! - `grpc`: over gRPC (feature `grpc`).

#[cfg(feature = "json")]
pub mod file;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod in_process;

use std::future::Future;

use thiserror::Error;
use tokio::sync::mpsc;

use super::request::Request;
use super::response::Response;

/// A transport to a control plane.
pub trait Transport: Send + 'static {
    /// Opens a stream.
    ///
    /// The future owns its data: the client does other work while it connects, and abandons the attempt after a
    /// timeout.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt.
    fn connect(&self) -> impl Future<Output = Result<Stream, Disconnected>> + Send + 'static;
}

/// An open stream. It ends when either side drops its half.
#[derive(Debug)]
pub struct Stream {
    /// Sends requests; bounded, so the client waits for a control plane that reads nothing.
    pub requests: mpsc::Sender<Request>,
    /// Yields responses; the channel closes when the stream ends.
    pub responses: mpsc::Receiver<Result<Response, Disconnected>>,
}

/// A stream ended or could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("control plane: {reason}")]
pub struct Disconnected {
    /// The reason from the transport.
    pub reason: String,
}
