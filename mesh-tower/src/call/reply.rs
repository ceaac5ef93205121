//! Local replies, and how a caller in the same process distinguishes them from responses of endpoints.
//!
//! A local reply has its [`ResponseFlags`] and [`ResponseDetails`] in its extensions. The response of an endpoint has
//! [`ResponseFlags`] if any are set, for example because no retries were left.

use std::{borrow::Cow, error::Error, sync::Arc};

use bytes::Bytes;
use http::Response;
use mesh_core::{local_reply::LocalReply, telemetry::ResponseFlags};

/// The reason for a local reply, such as `no_healthy_upstream`, in the extensions of the response. Envoy
/// `%RESPONSE_CODE_DETAILS%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseDetails(pub Cow<'static, str>);

/// The error that caused a local reply, such as a failed connection. It is in the extensions of the response. Its sources are
/// the errors of the underlying library, such as an [`io::Error`](std::io::Error).
#[derive(Clone, Debug)]
pub struct ResponseCause(Arc<dyn Error + Send + Sync>);

impl ResponseCause {
    pub(crate) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The error.
    #[must_use]
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// Converts this into the error.
    #[must_use]
    pub fn into_error(self) -> Arc<dyn Error + Send + Sync> {
        self.0
    }
}

/// The response of a local reply. `is_grpc` is whether the request is gRPC.
pub(crate) fn local_reply<R: From<Bytes>>(reply: LocalReply, is_grpc: bool) -> Response<R> {
    let (flags, details) = (reply.flags, ResponseDetails(reply.details.clone()));
    let mut response = reply.into_response(is_grpc).map(R::from);
    response.extensions_mut().insert(flags);
    response.extensions_mut().insert(details);
    response
}

/// The response flags of a response.
pub(crate) fn flags_of<R>(response: &Response<R>) -> ResponseFlags {
    response.extensions().get().copied().unwrap_or_default()
}

/// Adds flags to a response.
pub(crate) fn add_flags<R>(response: &mut Response<R>, flags: ResponseFlags) {
    if !flags.is_empty() {
        let all = flags_of(response).union(flags);
        response.extensions_mut().insert(all);
    }
}
