//! A request that a connection failed to serve.

use http::Request;
use hyper::client::conn::TrySendError;

use crate::{Body, TransportError};

/// A request that a connection failed to serve.
#[derive(Debug)]
pub(super) struct SendError {
    /// The reason.
    pub(super) error: TransportError,
    /// The request, if no byte of it was sent. Then it can be sent again, even if it is not idempotent.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

impl From<TransportError> for SendError {
    fn from(error: TransportError) -> Self {
        Self { error, unsent: None }
    }
}

impl From<TrySendError<Request<Body>>> for SendError {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        let unsent = error.take_message().map(Box::new);
        Self { error: TransportError::from_hyper(&error.into_error()), unsent }
    }
}
