//! The headers that a connection manager sets in every response.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, response};
use http_body::Body as _;
use mesh_core::{
    model::{HttpConnectionManager, ServerHeader},
    policy::{
        hop_by_hop::{HopByHop, Upgrade, remove_hop_by_hop},
        request_id::X_REQUEST_ID,
    },
};

use crate::Body;

/// Whether the connection stays open after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    Keep,
    Close,
    /// The response switches the protocol of the connection.
    Switch,
}

/// The facts of the request that its response depends on.
pub(super) struct RequestFacts {
    pub(super) version: Version,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) persistence: Persistence,
}

/// Removes the body of a response to HEAD, and sets `content-length` to its length.
pub(super) fn without_body_for_head(mut response: Response<Body>, method: &Method) -> Response<Body> {
    if *method != Method::HEAD || response.body().is_end_stream() {
        return response;
    }
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    response.map(|_| Body::empty())
}

/// Sets the headers that every response of the listener has.
pub(super) fn finish(
    response: &mut response::Parts,
    config: &HttpConnectionManager,
    request: RequestFacts,
    is_local: bool,
) {
    // The version is that of the downstream connection. For HTTP/1.0 clients the codec turns 1.1 into 1.0.
    response.version = request.version.max(Version::HTTP_11);
    let headers = &mut response.headers;
    let is_upgrade = request.persistence == Persistence::Switch && response.status == StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = if is_upgrade { Upgrade::Pass } else { Upgrade::Remove };
    if !is_local {
        remove_hop_by_hop(headers, HopByHop::of(headers), upgrade);
    }
    match config.server_header_transformation {
        ServerHeader::Overwrite => {
            headers.insert(header::SERVER, config.server_name.clone());
        }
        ServerHeader::AppendIfAbsent => {
            headers.entry(header::SERVER).or_insert_with(|| config.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if let Some(via) = &config.via {
        append_via(headers, via);
    }
    if let Some(request_id) = request.request_id {
        headers.insert(X_REQUEST_ID, request_id);
    }
    if request.persistence == Persistence::Close && request.version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Appends this hop to the value of `via`.
pub(super) fn append_via(headers: &mut HeaderMap, via: &HeaderValue) {
    let value = match headers.get(header::VIA) {
        Some(before) => [before.as_bytes(), b", ", via.as_bytes()].concat(),
        None => via.as_bytes().to_vec(),
    };
    // Two header values joined by a comma are a header value.
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(header::VIA, value);
    }
}
