//! Responses that the mesh gives itself, and how a caller in the same process tells them from those of an endpoint.
//!
//! A local reply carries its [`ResponseFlags`] and its [`ResponseDetails`] in its extensions. So does the response of an
//! endpoint that something is to be said about, such as that all retries were used up.

use std::borrow::Cow;

use bytes::Bytes;
use http::Response;
use mesh_core::{local_reply::LocalReply, telemetry::ResponseFlags};

/// Why the mesh gave a response itself, such as `no_healthy_upstream`; in the extensions of the response. Envoy
/// `%RESPONSE_CODE_DETAILS%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseDetails(pub Cow<'static, str>);

/// The response to a request that `is_grpc` or not.
pub(crate) fn local_reply<R: From<Bytes>>(reply: LocalReply, is_grpc: bool) -> Response<R> {
    let (flags, details) = (reply.flags, ResponseDetails(reply.details.clone()));
    let mut response = reply.into_response(is_grpc).map(R::from);
    response.extensions_mut().insert(flags);
    response.extensions_mut().insert(details);
    response
}

/// The flags of a response; none if an endpoint gave it and nothing is to be said about it.
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
